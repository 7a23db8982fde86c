/* link_table: the interfaces and addresses of this machine, as rtnetlink(7) tells of them.
 *
 * Pure: messages in, answers out; link_watch has the socket. Messages are taken as they come, from a dump or as news,
 * in any order, repeated, and for what is not known; one that is cut short or makes no sense changes nothing. A dump
 * says what is there, and only its end says what is not: begin a look, take the dumps, end it.
 *
 * An interface is *up* when packets can pass: it is switched on and its lower layers are ready (IFF_UP, IFF_RUNNING;
 * RFC 2863). An address is *usable* when a socket may be bound to it: a tentative one of IPv6 is not yet (RFC 4862).
 */
#ifndef PAIR_IO_LINK_TABLE_H
#define PAIR_IO_LINK_TABLE_H

#include <linux/netlink.h>
#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../core/addr.h"

struct link_entry {
	unsigned index; /* the kernel's, ≥ 1; an interface that is made anew gets another */
	char name[IFNAMSIZ];
	bool up;
	uint64_t news;  /* the table's when it last came up, got its name, or got an address */
	uint32_t round; /* of the last look that saw it */
};

struct link_address {
	unsigned index;     /* of its interface */
	struct addr local;  /* port 0 */
	struct addr remote; /* of a point-to-point link; else as local. An interface may have the same local twice */
	uint8_t prefix_len;
	bool usable;
	uint32_t round;
};

struct link_table {
	struct link_entry *links;
	size_t link_count, link_room;
	struct link_address *addresses;
	size_t address_count, address_room;
	uint64_t news; /* counts what may make a path work that did not */
	uint32_t round;
};

/* A route, or a rule of policy routing, that was added. */
struct link_route {
	struct addr dst;    /* port 0; all of a rule's are 0: it may matter to any destination of the family */
	uint8_t prefix_len; /* 0..32 or 0..128 */
	unsigned index;     /* of the interface it goes out by; 0: several, or not said */
};

enum link_table_effect { LINK_TABLE_SAME, LINK_TABLE_CHANGED, LINK_TABLE_ROUTE };

/* An empty table is all zero. */
void link_table_free(struct link_table *table);

/* Takes one whole message (mnl_nlmsg_ok) of any type, at an address of NLMSG_ALIGNTO, with its padding. Returns an enum
 * link_table_effect, with *route set in case of LINK_TABLE_ROUTE; or -ENOMEM: the table is no longer complete, look
 * again. */
int link_table_take(struct link_table *table, const struct nlmsghdr *message, struct link_route *route);

/* A look: what neither the dump of links (addresses) nor later news has told of when it ends is gone. Whether that was
 * anything. */
void link_table_begin_look(struct link_table *table);
bool link_table_end_links(struct link_table *table);
bool link_table_end_addresses(struct link_table *table);

/* The index of the interface if there is one of this name and it is up, else 0. */
unsigned link_table_up(const struct link_table *table, const char *interface);
/* Whether the address (its port is ignored) is usable on an interface that is up. */
bool link_table_carries(const struct link_table *table, const struct addr *local);

/* What a path wants of this machine. */
struct link_want {
	const char *interface;     /* "": any */
	const struct addr *local;  /* ADDR_NONE: any */
	const struct addr *remote; /* the family of what is wanted, and whether a link-local address will do */
};

enum link_lack {
	LINK_LACKS_NOTHING,
	LINK_LACKS_INTERFACE, /* there is none of this name */
	LINK_LACKS_CARRIER,   /* the interface, or every one that has the address, is down */
	LINK_LACKS_ADDRESS    /* the address is not there or not usable, or the interface has none at all */
};

/* What is missing; who wants nothing in particular lacks nothing. */
enum link_lack link_table_lacks(const struct link_table *table, const struct link_want *want);
/* Grows when something comes that such a path may have waited for. */
uint64_t link_table_news(const struct link_table *table, const struct link_want *want);

/* Whether what was added may lead to `remote`. */
bool link_route_leads_to(const struct link_route *route, const struct addr *remote);

#endif
