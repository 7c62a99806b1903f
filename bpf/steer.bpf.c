// SPDX-License-Identifier: MIT OR Apache-2.0
/* Segments for our endpoints go to the AF_XDP socket of their queue, all else to the kernel. */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "parse.h"
#include "steer.h"

/* ICMP types that report an error about a packet (RFC 792, RFC 4443). */
#define ICMP_UNREACHABLE 3
#define ICMP_QUENCH 4
#define ICMP_EXCEEDED 11
#define ICMP_PARAMETER 12
#define ICMPV6_INFORMATIONAL 128

/* The part of ICMP and ICMPv6 that comes before the packet quoted. */
struct icmp {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be32 rest;
};

/* All that is needed of TCP; an ICMP error need not quote more (RFC 792). */
struct ports {
	__be16 source;
	__be16 dest;
};

/* Exact endpoints. The value only says that the key is there. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, STEER_ENDPOINTS_MAX);
	__type(key, struct steer_endpoint);
	__type(value, __u32);
} endpoints SEC(".maps");

/* Whether any were ever added: where all are port ranges, no frame need be looked up among them. */
__u32 has_endpoints;

/* Port ranges by local address. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, STEER_RANGE_ADDRESSES_MAX);
	__type(key, struct steer_address);
	__type(value, struct steer_ranges);
} ranges SEC(".maps");

/* One socket per rx queue: a socket receives only from the queue it is bound to. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, STEER_QUEUES_MAX);
	__type(key, __u32);
	__type(value, __u32);
} xsks SEC(".maps");

/* Frames by verdict. Per CPU, so that counting is not an atomic operation. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, STEER_VERDICTS);
	__type(key, __u32);
	__type(value, __u64);
} verdicts SEC(".maps");

static __always_inline int is_endpoint(const struct steer_endpoint *endpoint)
{
	__u16 port = bpf_ntohs(endpoint->port);
	struct steer_ranges *found;
	__u32 i;

	if (has_endpoints && bpf_map_lookup_elem(&endpoints, endpoint))
		return 1;
	found = bpf_map_lookup_elem(&ranges, &endpoint->addr);
	if (!found)
		return 0;
	for (i = 0; i < STEER_RANGES_MAX && i < found->count; i++) {
		if (port >= found->range[i].lo && port <= found->range[i].hi)
			return 1;
	}
	return 0;
}

static __always_inline int is_ours(__u32 version, const void *addr, __be16 port)
{
	struct steer_endpoint endpoint = { .port = port };

	if (version == 4) {
		endpoint.addr.octets[10] = 0xff;
		endpoint.addr.octets[11] = 0xff;
		__builtin_memcpy(&endpoint.addr.octets[12], addr, 4);
	} else {
		__builtin_memcpy(endpoint.addr.octets, addr, 16);
	}
	return is_endpoint(&endpoint);
}

/* A segment is ours by its destination. */
static __always_inline enum steer_verdict classify_tcp(const struct packet *packet)
{
	struct ports *ports = packet->pos;

	if (packet->fragment == FRAGMENT_LATER)
		return STEER_PASS_FRAGMENT;
	if ((void *)(ports + 1) > packet->end)
		return STEER_PASS_TRUNCATED;
	if (!is_ours(packet->version, packet->dest, ports->dest))
		return STEER_PASS_NOT_OURS;
	/* Passed, the kernel would put the parts together and answer with RST. */
	return packet->fragment == FRAGMENT_FIRST ? STEER_DROP_FRAGMENT : STEER_REDIRECT;
}

/* An error is ours by the source of the segment that it quotes. */
static __always_inline enum steer_verdict classify_quoted(const struct packet *quoted)
{
	struct ports *ports = quoted->pos;

	if (quoted->protocol != IPPROTO_TCP)
		return STEER_PASS_NOT_TCP;
	if (quoted->fragment == FRAGMENT_LATER)
		return STEER_PASS_FRAGMENT;
	if ((void *)(ports + 1) > quoted->end)
		return STEER_PASS_TRUNCATED;
	if (!is_ours(quoted->version, quoted->source, ports->source))
		return STEER_PASS_NOT_OURS;
	return STEER_REDIRECT_ICMP;
}

static __always_inline int is_error_ipv4(__u8 type)
{
	return type == ICMP_UNREACHABLE || type == ICMP_QUENCH || type == ICMP_EXCEEDED ||
	       type == ICMP_PARAMETER;
}

static __always_inline enum steer_verdict verdict_of(enum parse_result result)
{
	switch (result) {
	case PARSE_TRUNCATED:
		return STEER_PASS_TRUNCATED;
	case PARSE_MALFORMED:
		return STEER_PASS_MALFORMED;
	default:
		return STEER_PASS_NOT_IP;
	}
}

/* The quoted packet is of the family of the packet that carries it. */
static __always_inline enum steer_verdict classify_icmp(struct xdp_md *ctx,
							   const struct packet *packet)
{
	struct packet quoted = { .end = packet->end };
	struct icmp *icmp = packet->pos;
	enum parse_result result;

	/* The kernel reassembles an error that came in parts, and ignores it. */
	if (packet->fragment != FRAGMENT_WHOLE)
		return STEER_PASS_FRAGMENT;
	if ((void *)(icmp + 1) > packet->end)
		return STEER_PASS_TRUNCATED;
	quoted.pos = icmp + 1;
	if (packet->version == 4) {
		if (!is_error_ipv4(icmp->type))
			return STEER_PASS_NOT_TCP;
		result = parse_ipv4(&quoted);
	} else {
		if (icmp->type >= ICMPV6_INFORMATIONAL)
			return STEER_PASS_NOT_TCP;
		result = parse_ipv6(ctx, &quoted);
	}
	return result == PARSE_OK ? classify_quoted(&quoted) : verdict_of(result);
}

static __always_inline enum steer_verdict classify(struct xdp_md *ctx)
{
	struct packet packet = {
		.pos = (void *)(long)ctx->data,
		.end = (void *)(long)ctx->data_end,
	};
	__be16 protocol = parse_ethernet(&packet);
	enum parse_result result;

	if (!protocol)
		return STEER_PASS_TRUNCATED;
	result = parse_ip(ctx, &packet, protocol);
	if (result != PARSE_OK)
		return verdict_of(result);

	if (packet.protocol == IPPROTO_TCP)
		return classify_tcp(&packet);
	if (packet.protocol == (packet.version == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6))
		return classify_icmp(ctx, &packet);
	return STEER_PASS_NOT_TCP;
}

SEC("xdp")
int steer(struct xdp_md *ctx)
{
	__u32 queue = ctx->rx_queue_index;
	__u32 verdict = classify(ctx);
	int is_redirect = verdict == STEER_REDIRECT || verdict == STEER_REDIRECT_ICMP;
	__u64 *count;

	/* Looked up only to be counted apart: the redirect below would drop it as well. */
	if (is_redirect && !bpf_map_lookup_elem(&xsks, &queue))
		verdict = STEER_DROP_NO_SOCKET;

	count = bpf_map_lookup_elem(&verdicts, &verdict);
	if (count)
		*count += 1;

	switch (verdict) {
	case STEER_REDIRECT:
	case STEER_REDIRECT_ICMP:
		return bpf_redirect_map(&xsks, queue, XDP_DROP);
	case STEER_DROP_NO_SOCKET:
	case STEER_DROP_FRAGMENT:
		return XDP_DROP;
	default:
		return XDP_PASS;
	}
}

char steer_license[] SEC("license") = "MIT OR Apache-2.0";
