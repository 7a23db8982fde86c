#include "access.h"

#include "../common/io/sock.h"

#define IPV4(a, b, len)                                                                                                \
	{                                                                                                              \
		.addr = {.family = ADDR_IPV4, .ip = {a, b}}, .prefix_len = len                                         \
	}
#define IPV6(a, b, len)                                                                                                \
	{                                                                                                              \
		.addr = {.family = ADDR_IPV6, .ip = {a, b}}, .prefix_len = len                                         \
	}

/* IANA's special-purpose registries (RFC 6890): what is no unicast destination, or one on this machine or its link. */
static struct conf_net special_items[] = {
        IPV4(0, 0, 8),   IPV4(127, 0, 8), IPV4(169, 254, 16),   IPV4(224, 0, 4),
        IPV4(240, 0, 4), IPV6(0, 0, 127), IPV6(0xfe, 0x80, 10), IPV6(0xff, 0, 8),
};
static const struct conf_nets special = {special_items, sizeof special_items / sizeof *special_items};

/* The prefix length that allow must have for an address that is denied by itself, or -1. */
static int special_match(const struct conf_rx *conf, const struct addr *dst)
{
	if (dst->port == conf->recv_port && sock_is_local(dst))
		return dst->family == ADDR_IPV4 ? 32 : 128;
	return conf_nets_longest_match(&special, dst);
}

bool access_allows(const struct conf_rx *conf, const struct addr *dst)
{
	int allow = conf_nets_longest_match(&conf->allow, dst);
	int deny = conf_nets_longest_match(&conf->deny, dst);
	int least = special_match(conf, dst);

	if (allow >= 0 || deny >= 0)
		return allow > deny && allow >= least;
	return !conf->allow.count && least < 0;
}
