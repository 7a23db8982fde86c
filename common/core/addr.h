/* addr: an IPv4 or IPv6 address with a port, as the engine and the wire know it.
 *
 * The engine has no sockets, so it has no struct sockaddr either; common/io/sockaddr.h converts.
 * Plain values: copied freely, owned by nobody. All fields in host byte order except ip[], whose
 * bytes stand in the order in which the address is written.
 */
#ifndef PAIR_CORE_ADDR_H
#define PAIR_CORE_ADDR_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum addr_family {
	ADDR_NONE = 0, /* no address: every other field is 0 */
	ADDR_IPV4 = 4, /* ip[0..3], the rest 0 */
	ADDR_IPV6 = 6, /* ip[0..15] */
};

struct addr {
	uint8_t family; /* enum addr_family */
	uint8_t ip[16];
	uint16_t port; /* 0..65535; 0 means "no port" */
};

/* Same family, address and port. Unused ip[] bytes are 0 by contract, so all 16 are compared. */
static inline bool addr_equal(const struct addr *a, const struct addr *b)
{
	return a->family == b->family && a->port == b->port && memcmp(a->ip, b->ip, sizeof a->ip) == 0;
}

/* Same family and address, whatever the ports. */
static inline bool addr_same_host(const struct addr *a, const struct addr *b)
{
	return a->family == b->family && memcmp(a->ip, b->ip, sizeof a->ip) == 0;
}

#endif
