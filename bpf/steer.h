/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the program shares with src/io/xdp/steer.rs: keys, values and verdicts. */
#ifndef STEER_H
#define STEER_H

/* Exact endpoints: listeners and the odd connected port; a few thousand at most. */
#define STEER_ENDPOINTS_MAX 4096

/* Local addresses that have port ranges: the sources of a load generator. */
#define STEER_RANGE_ADDRESSES_MAX 1024

/* Ranges of one address. A fixed array keeps the search bounded for the verifier. */
#define STEER_RANGES_MAX 8

/* Sockets by rx queue; more queues than any current NIC has cores to serve. */
#define STEER_QUEUES_MAX 256

/* A local address; IPv4 ones are IPv4-mapped (RFC 4291, 2.5.5.2). */
struct steer_address {
	__u8 octets[16];
};

struct steer_endpoint {
	struct steer_address addr;
	__be16 port;
	__u16 pad; /* Zero: a hash key is compared whole. */
};

/* Ports lo to hi, both included, host order. */
struct steer_range {
	__u16 lo;
	__u16 hi;
};

struct steer_ranges {
	__u32 count;
	struct steer_range range[STEER_RANGES_MAX];
};

/* Why a frame went where it went. The order is that of VERDICTS in steer.rs. */
enum steer_verdict {
	/* Ours, and a socket is bound to the queue. */
	STEER_REDIRECT,
	/* Ours, an ICMP error about a segment that one of our endpoints sent. */
	STEER_REDIRECT_ICMP,
	/* Ours, but this queue has no socket. */
	STEER_DROP_NO_SOCKET,
	/* Ours, but the first of several fragments. */
	STEER_DROP_FRAGMENT,
	/* Neither IPv4 nor IPv6: ARP and the like, or more than two VLAN tags. */
	STEER_PASS_NOT_IP,
	/* Neither TCP nor an ICMP error. */
	STEER_PASS_NOT_TCP,
	/* A later fragment: it has no ports. */
	STEER_PASS_FRAGMENT,
	/* Ends before the ports do. */
	STEER_PASS_TRUNCATED,
	/* A header that cannot be, or a chain of extension headers too long to follow. */
	STEER_PASS_MALFORMED,
	/* TCP, or an error about TCP, for somebody else. */
	STEER_PASS_NOT_OURS,
	STEER_VERDICTS,
};

#endif
