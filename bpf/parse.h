/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Bounds-checked walks over Ethernet, IPv4 and IPv6 headers. */
#ifndef PARSE_H
#define PARSE_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

/* IEEE 802.1Q inside 802.1ad: nobody stacks a third tag. */
#define VLAN_TAGS_MAX 2

/* RFC 8200 4.1 lists six kinds; longer chains are hostile or broken. */
#define IPV6_EXTENSIONS_MAX 6

/* No frame that a socket can take has a header beyond this. */
#define IPV6_CHAIN_OFFSET_MAX 2000

#define IPV4_MORE_FRAGMENTS 0x2000
#define IPV4_FRAGMENT_OFFSET 0x1fff
#define IPV6_MORE_FRAGMENTS 0x0001
#define IPV6_FRAGMENT_OFFSET 0xfff8

struct vlan_tag {
	__be16 tci;
	__be16 protocol;
};

struct ipv6_extension {
	__u8 next;
	__u8 len;
	__u8 type;
	__u8 segments_left;
};

struct ipv6_fragment {
	__u8 next;
	__u8 reserved;
	__be16 offset;
	__be32 id;
};

/* Which part of a packet this is. Only the first part has ports. */
enum fragment {
	FRAGMENT_WHOLE,
	FRAGMENT_FIRST,
	FRAGMENT_LATER,
};

enum parse_result {
	PARSE_OK,
	PARSE_NOT_IP,
	PARSE_TRUNCATED,
	PARSE_MALFORMED,
};

/* Where the upper-layer header starts, and what is known up to there. */
struct packet {
	void *pos;
	void *end;
	/* Addresses of four octets where the version is 4, of sixteen where it is 6. */
	const void *source;
	const void *dest;
	__u32 version;
	enum fragment fragment;
	__u8 protocol;
};

/* Moves past the Ethernet header and its tags; the type of what follows, or 0 when truncated. */
static __always_inline __be16 parse_ethernet(struct packet *packet)
{
	struct ethhdr *eth = packet->pos;
	__be16 protocol;
	int i;

	if ((void *)(eth + 1) > packet->end)
		return 0;
	protocol = eth->h_proto;
	packet->pos = eth + 1;

#pragma unroll
	for (i = 0; i < VLAN_TAGS_MAX; i++) {
		struct vlan_tag *tag = packet->pos;

		if (protocol != bpf_htons(ETH_P_8021Q) && protocol != bpf_htons(ETH_P_8021AD))
			break;
		if ((void *)(tag + 1) > packet->end)
			return 0;
		protocol = tag->protocol;
		packet->pos = tag + 1;
	}
	return protocol;
}

static __always_inline enum parse_result parse_ipv4(struct packet *packet)
{
	struct iphdr *ip = packet->pos;
	__u16 fragment;

	if ((void *)(ip + 1) > packet->end)
		return PARSE_TRUNCATED;
	if (ip->version != 4 || ip->ihl < 5)
		return PARSE_MALFORMED;

	fragment = bpf_ntohs(ip->frag_off);
	if (fragment & IPV4_FRAGMENT_OFFSET)
		packet->fragment = FRAGMENT_LATER;
	else if (fragment & IPV4_MORE_FRAGMENTS)
		packet->fragment = FRAGMENT_FIRST;
	packet->version = 4;
	packet->source = &ip->saddr;
	packet->dest = &ip->daddr;
	packet->protocol = ip->protocol;
	packet->pos += ip->ihl * 4;
	return PARSE_OK;
}

/* What a chain of extension headers leads to, in one word: a global function returns a scalar. */
#define CHAIN(result, fragment, protocol, offset) \
	((__u32)(result) << 24 | (__u32)(fragment) << 20 | (__u32)(protocol) << 12 | (offset))
#define CHAIN_RESULT(chain) ((chain) >> 24)
#define CHAIN_FRAGMENT(chain) ((chain) >> 20 & 0xf)
#define CHAIN_PROTOCOL(chain) ((chain) >> 12 & 0xff)
#define CHAIN_OFFSET(chain) ((chain) & 0xfff)

/*
 * Follows extension headers from `offset` octets into the frame on. It is a global function, which
 * the verifier checks once for any arguments: inlined twice, for a packet and for one quoted
 * within, the paths through it multiply beyond what the verifier accepts.
 */
__noinline __u32 ipv6_chain(struct xdp_md *ctx, __u32 offset, __u32 protocol)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	enum fragment fragment = FRAGMENT_WHOLE;
	int i;

	for (i = 0; i <= IPV6_EXTENSIONS_MAX; i++) {
		struct ipv6_extension *header;
		struct ipv6_fragment *part;

		if (protocol != IPPROTO_FRAGMENT && protocol != IPPROTO_HOPOPTS &&
		    protocol != IPPROTO_ROUTING && protocol != IPPROTO_DSTOPTS &&
		    protocol != IPPROTO_AH)
			return CHAIN(PARSE_OK, fragment, protocol & 0xff, offset & 0xfff);
		if (offset > IPV6_CHAIN_OFFSET_MAX)
			return CHAIN(PARSE_MALFORMED, 0, 0, 0);
		header = data + offset;
		part = data + offset;
		/* Each kind has at least the eight octets of a fragment header. */
		if ((void *)(part + 1) > end)
			return CHAIN(PARSE_TRUNCATED, 0, 0, 0);
		/* The packet is still on its way to another address. */
		if (protocol == IPPROTO_ROUTING && header->segments_left)
			return CHAIN(PARSE_MALFORMED, 0, 0, 0);

		if (protocol == IPPROTO_FRAGMENT) {
			__u16 place = bpf_ntohs(part->offset);

			/* What follows the header of a later part is text, not a header. */
			if (place & IPV6_FRAGMENT_OFFSET)
				return CHAIN(PARSE_OK, FRAGMENT_LATER, part->next, offset);
			/* An atomic fragment (RFC 6946) is a whole packet. */
			if (place & IPV6_MORE_FRAGMENTS)
				fragment = FRAGMENT_FIRST;
			offset += sizeof(*part);
		} else if (protocol == IPPROTO_AH) {
			/* RFC 4302 2.2 counts words, less two. */
			offset += (header->len + 2) * 4;
		} else {
			/* RFC 8200 4 counts eight octets, less one. */
			offset += (header->len + 1) * 8;
		}
		protocol = header->next;
	}
	return CHAIN(PARSE_MALFORMED, 0, 0, 0);
}

static __always_inline enum parse_result parse_ipv6(struct xdp_md *ctx, struct packet *packet)
{
	struct ipv6hdr *ip = packet->pos;
	__u32 offset, chain;

	if ((void *)(ip + 1) > packet->end)
		return PARSE_TRUNCATED;
	if (ip->version != 6)
		return PARSE_MALFORMED;
	packet->version = 6;
	packet->source = &ip->saddr;
	packet->dest = &ip->daddr;
	packet->protocol = ip->nexthdr;
	packet->pos = ip + 1;
	/* Most packets have no extension header, and need no call. */
	if (packet->protocol == IPPROTO_TCP || packet->protocol == IPPROTO_ICMPV6)
		return PARSE_OK;

	offset = packet->pos - (void *)(long)ctx->data;
	chain = ipv6_chain(ctx, offset, packet->protocol);
	packet->fragment = CHAIN_FRAGMENT(chain);
	packet->protocol = CHAIN_PROTOCOL(chain);
	packet->pos = (void *)(long)ctx->data + CHAIN_OFFSET(chain);
	return CHAIN_RESULT(chain);
}

static __always_inline enum parse_result parse_ip(struct xdp_md *ctx, struct packet *packet,
						    __be16 protocol)
{
	if (protocol == bpf_htons(ETH_P_IP))
		return parse_ipv4(packet);
	if (protocol == bpf_htons(ETH_P_IPV6))
		return parse_ipv6(ctx, packet);
	return PARSE_NOT_IP;
}

#endif
