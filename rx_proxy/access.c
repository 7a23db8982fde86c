#include "access.h"

#include <string.h>

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

/* ::a.b.c.d and ::ffff:a.b.c.d: a socket would go to the IPv4 address, past what the lists say of it, and nobody else
 * has such a destination (RFC 4291, 2.5.5; RFC 6890). No prefix of allow is long enough. */
static bool embeds_ipv4(const struct addr *dst)
{
	static const uint8_t compatible[12], mapped[12] = {[10] = 0xff, [11] = 0xff};

	return dst->family == ADDR_IPV6 &&
	       (memcmp(dst->ip, compatible, sizeof compatible) == 0 || memcmp(dst->ip, mapped, sizeof mapped) == 0);
}

static bool is_unspecified_or_loopback(const struct addr *dst)
{
	return conf_nets_longest_match(&special, dst) == 127;
}

static int address_bits(const struct addr *dst)
{
	return dst->family == ADDR_IPV4 ? 32 : 128;
}

bool access_allows(const struct conf_rx *conf, const struct addr *dst)
{
	int allow = conf_nets_longest_match(&conf->allow, dst);
	int deny = conf_nets_longest_match(&conf->deny, dst);
	int least = conf_nets_longest_match(&special, dst);

	if (embeds_ipv4(dst) && !is_unspecified_or_loopback(dst))
		return false;
	if (allow >= 0 || deny >= 0) {
		if (allow <= deny || allow < least)
			return false;
	} else if (conf->allow.count || least >= 0) {
		return false;
	}
	/* Loopback that is allowed by its network is, but for the port where we listen. */
	if (allow == address_bits(dst) || (least >= 0 && dst->port != conf->recv_port))
		return true;
	return !sock_is_local(dst);
}
