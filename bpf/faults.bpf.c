// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Faults for scripts/soak, where the kernel has no netem: attached with tc to the kernel's side of a link.
 * XDP takes ringroad's own frames before they come here, and its transmissions never do.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>

#define SEC(name) __attribute__((section(name), used))

static __u32 (*random_u32)(void) = (void *)BPF_FUNC_get_prandom_u32;
static long (*clone_redirect)(struct __sk_buff *skb, __u32 ifindex, __u64 flags) =
	(void *)BPF_FUNC_clone_redirect;

/* In 10,000 packets. */
#define LOST 100
#define TWICE 50
#define LATE 100

/* The class that scripts/soak makes slow: what goes there is overtaken. */
#define SLOW_CLASS 0x10020

static int is_ip(const struct __sk_buff *skb)
{
	return skb->protocol == __builtin_bswap16(ETH_P_IP) || skb->protocol == __builtin_bswap16(ETH_P_IPV6);
}

static int meets(__u32 in_ten_thousand)
{
	return random_u32() % 10000 < in_ten_thousand;
}

SEC("tc/leaving")
int leaving(struct __sk_buff *skb)
{
	if (!is_ip(skb))
		return TC_ACT_OK;
	if (meets(LOST))
		return TC_ACT_SHOT;
	/* The copy comes here again, and meets the same chances. */
	if (meets(TWICE))
		clone_redirect(skb, skb->ifindex, 0);
	if (meets(LATE))
		skb->priority = SLOW_CLASS;
	return TC_ACT_OK;
}

SEC("tc/arriving")
int arriving(struct __sk_buff *skb)
{
	if (!is_ip(skb))
		return TC_ACT_OK;
	if (meets(LOST))
		return TC_ACT_SHOT;
	if (meets(TWICE))
		clone_redirect(skb, skb->ifindex, BPF_F_INGRESS);
	return TC_ACT_OK;
}

char licence[] SEC("license") = "Dual MIT/GPL";
