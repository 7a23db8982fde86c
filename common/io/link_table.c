#include "link_table.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>

enum { ROOM_MIN = 16 };

/* --- Entries ------------------------------------------------------------------------------------------------------ */

/* Makes place for one more of `size` bytes each; the array, or NULL: no memory, and the old one is as it was. */
static void *grown(void *items, size_t count, size_t *room, size_t size)
{
	if (count < *room)
		return items;
	size_t more = *room ? *room * 2 : ROOM_MIN;
	void *bigger = reallocarray(items, more, size);
	if (bigger)
		*room = more;
	return bigger;
}

static struct link_entry *find_link(const struct link_table *table, unsigned index)
{
	for (size_t i = 0; i < table->link_count; i++)
		if (table->links[i].index == index)
			return &table->links[i];
	return NULL;
}

static struct link_entry *find_name(const struct link_table *table, const char *name)
{
	for (size_t i = 0; i < table->link_count; i++)
		if (strcmp(table->links[i].name, name) == 0)
			return &table->links[i];
	return NULL;
}

static struct link_address *find_address(const struct link_table *table, const struct link_address *like)
{
	for (size_t i = 0; i < table->address_count; i++) {
		struct link_address *address = &table->addresses[i];
		if (address->index == like->index && address->prefix_len == like->prefix_len &&
		    addr_equal(&address->local, &like->local) && addr_equal(&address->remote, &like->remote))
			return address;
	}
	return NULL;
}

/* The order does not matter: the last one takes the free place. */
static void remove_address(struct link_table *table, struct link_address *address)
{
	*address = table->addresses[--table->address_count];
}

static void remove_link(struct link_table *table, struct link_entry *link)
{
	for (size_t i = table->address_count; i-- > 0;)
		if (table->addresses[i].index == link->index)
			remove_address(table, &table->addresses[i]);
	*link = table->links[--table->link_count];
}

void link_table_free(struct link_table *table)
{
	free(table->links);
	free(table->addresses);
	*table = (struct link_table){0};
}

/* --- Messages ----------------------------------------------------------------------------------------------------- */

/* Attributes by type, as far as `max`; the others are passed over. */
struct attributes {
	const struct nlattr **items;
	uint16_t max;
};

static int keep_attribute(const struct nlattr *attr, void *data)
{
	const struct attributes *attributes = data;
	uint16_t type = mnl_attr_get_type(attr);

	if (type <= attributes->max)
		attributes->items[type] = attr;
	return MNL_CB_OK;
}

/* `items` has max + 1 places, all NULL. False: the message is shorter than its head of `head_bytes`. */
static bool read_attributes(const struct nlmsghdr *message, size_t head_bytes, const struct nlattr **items,
                            uint16_t max)
{
	struct attributes attributes = {items, max};

	if (message->nlmsg_len < NLMSG_HDRLEN + head_bytes)
		return false;
	mnl_attr_parse(message, (unsigned)head_bytes, keep_attribute, &attributes);
	return true;
}

/* False: not there, or not as long as an address of that family is. */
static bool read_addr(struct addr *addr, unsigned char family, const struct nlattr *attr)
{
	size_t len = family == AF_INET ? 4 : 16;

	if (!attr || mnl_attr_get_payload_len(attr) != len)
		return false;
	*addr = (struct addr){.family = family == AF_INET ? ADDR_IPV4 : ADDR_IPV6};
	memcpy(addr->ip, mnl_attr_get_payload(attr), len);
	return true;
}

static int put_link(struct link_table *table, unsigned index, bool up, const char name[IFNAMSIZ])
{
	struct link_entry *link = find_link(table, index);
	bool is_new = !link;

	if (is_new) {
		struct link_entry *links = grown(table->links, table->link_count, &table->link_room, sizeof *links);
		if (!links)
			return -ENOMEM;
		table->links = links;
		link = &links[table->link_count++];
		*link = (struct link_entry){.index = index};
	}
	link->round = table->round;
	bool renamed = strcmp(link->name, name) != 0;
	if (!is_new && !renamed && up == link->up)
		return LINK_TABLE_SAME;
	if (up && (renamed || !link->up))
		link->news = ++table->news;
	link->up = up;
	memcpy(link->name, name, IFNAMSIZ);
	return LINK_TABLE_CHANGED;
}

static bool read_name(char name[IFNAMSIZ], const struct nlattr *attr)
{
	size_t len = attr ? mnl_attr_get_payload_len(attr) : 0;

	if (!len)
		return false;
	const char *text = mnl_attr_get_payload(attr);
	len = strnlen(text, len);
	if (!len || len >= IFNAMSIZ)
		return false;
	memcpy(name, text, len);
	name[len] = '\0';
	return true;
}

static int take_link(struct link_table *table, const struct nlmsghdr *message)
{
	const struct nlattr *attr[IFLA_IFNAME + 1] = {NULL};
	const struct ifinfomsg *head = mnl_nlmsg_get_payload(message);
	char name[IFNAMSIZ] = "";

	/* A bridge tells of its ports with messages of the same types: one that leaves it is not gone. */
	if (!read_attributes(message, sizeof *head, attr, IFLA_IFNAME) || head->ifi_family != AF_UNSPEC ||
	    head->ifi_index <= 0)
		return LINK_TABLE_SAME;
	unsigned index = (unsigned)head->ifi_index;
	if (message->nlmsg_type == RTM_DELLINK) {
		struct link_entry *link = find_link(table, index);
		if (!link)
			return LINK_TABLE_SAME;
		remove_link(table, link);
		return LINK_TABLE_CHANGED;
	}
	if (!read_name(name, attr[IFLA_IFNAME]))
		return LINK_TABLE_SAME;
	return put_link(table, index, (head->ifi_flags & IFF_UP) && (head->ifi_flags & IFF_RUNNING), name);
}

static int put_address(struct link_table *table, const struct link_address *told)
{
	struct link_address *address = find_address(table, told);
	bool was_usable = address && address->usable;

	if (!address) {
		struct link_address *addresses =
		        grown(table->addresses, table->address_count, &table->address_room, sizeof *addresses);
		if (!addresses)
			return -ENOMEM;
		table->addresses = addresses;
		address = &addresses[table->address_count++];
	} else if (was_usable == told->usable) {
		address->round = table->round;
		return LINK_TABLE_SAME;
	}
	*address = *told;
	address->round = table->round;
	if (told->usable) {
		struct link_entry *link = find_link(table, told->index);
		table->news++;
		if (link)
			link->news = table->news;
	}
	return LINK_TABLE_CHANGED;
}

static int take_address(struct link_table *table, const struct nlmsghdr *message)
{
	const struct nlattr *attr[IFA_FLAGS + 1] = {NULL};
	const struct ifaddrmsg *head = mnl_nlmsg_get_payload(message);

	if (!read_attributes(message, sizeof *head, attr, IFA_FLAGS) || !head->ifa_index ||
	    (head->ifa_family != AF_INET && head->ifa_family != AF_INET6))
		return LINK_TABLE_SAME;
	struct link_address told = {.index = head->ifa_index, .prefix_len = head->ifa_prefixlen};
	/* IFA_ADDRESS is the other end's on a point-to-point link, IFA_LOCAL is there then. */
	if (!read_addr(&told.remote, head->ifa_family, attr[IFA_ADDRESS]) &&
	    !read_addr(&told.remote, head->ifa_family, attr[IFA_LOCAL]))
		return LINK_TABLE_SAME;
	if (!read_addr(&told.local, head->ifa_family, attr[IFA_LOCAL]))
		told.local = told.remote;
	if (message->nlmsg_type == RTM_DELADDR) {
		struct link_address *address = find_address(table, &told);
		if (!address)
			return LINK_TABLE_SAME;
		remove_address(table, address);
		return LINK_TABLE_CHANGED;
	}
	uint32_t flags = head->ifa_flags;
	if (attr[IFA_FLAGS] && mnl_attr_get_payload_len(attr[IFA_FLAGS]) == sizeof flags)
		flags = mnl_attr_get_u32(attr[IFA_FLAGS]);
	told.usable = !(flags & IFA_F_TENTATIVE) || (flags & IFA_F_OPTIMISTIC && !(flags & IFA_F_DADFAILED));
	return put_address(table, &told);
}

static int take_route(const struct nlmsghdr *message, struct link_route *route)
{
	const struct nlattr *attr[RTA_OIF + 1] = {NULL};
	const struct rtmsg *head = mnl_nlmsg_get_payload(message);

	if (!read_attributes(message, sizeof *head, attr, RTA_OIF) || head->rtm_type != RTN_UNICAST ||
	    head->rtm_flags & RTM_F_CLONED || (head->rtm_family != AF_INET && head->rtm_family != AF_INET6))
		return LINK_TABLE_SAME;
	*route = (struct link_route){.dst.family = head->rtm_family == AF_INET ? ADDR_IPV4 : ADDR_IPV6,
	                             .prefix_len = head->rtm_dst_len};
	/* A default route names no destination. */
	if (head->rtm_dst_len > (head->rtm_family == AF_INET ? 32 : 128) ||
	    (head->rtm_dst_len && !read_addr(&route->dst, head->rtm_family, attr[RTA_DST])))
		return LINK_TABLE_SAME;
	if (attr[RTA_OIF] && mnl_attr_get_payload_len(attr[RTA_OIF]) == sizeof(uint32_t))
		route->index = mnl_attr_get_u32(attr[RTA_OIF]);
	return LINK_TABLE_ROUTE;
}

static int take_rule(const struct nlmsghdr *message, struct link_route *route)
{
	/* struct fib_rule_hdr has the layout of struct rtmsg. */
	const struct rtmsg *head = mnl_nlmsg_get_payload(message);

	if (message->nlmsg_len < NLMSG_HDRLEN + sizeof *head ||
	    (head->rtm_family != AF_INET && head->rtm_family != AF_INET6))
		return LINK_TABLE_SAME;
	*route = (struct link_route){.dst.family = head->rtm_family == AF_INET ? ADDR_IPV4 : ADDR_IPV6};
	return LINK_TABLE_ROUTE;
}

int link_table_take(struct link_table *table, const struct nlmsghdr *message, struct link_route *route)
{
	switch (message->nlmsg_type) {
	case RTM_NEWLINK:
	case RTM_DELLINK:
		return take_link(table, message);
	case RTM_NEWADDR:
	case RTM_DELADDR:
		return take_address(table, message);
	case RTM_NEWROUTE:
		return take_route(message, route);
	case RTM_NEWRULE:
		return take_rule(message, route);
	default:
		return LINK_TABLE_SAME;
	}
}

/* --- A look ------------------------------------------------------------------------------------------------------- */

void link_table_begin_look(struct link_table *table)
{
	table->round++;
}

bool link_table_end_links(struct link_table *table)
{
	bool gone = false;

	for (size_t i = table->link_count; i-- > 0;)
		if (table->links[i].round != table->round) {
			remove_link(table, &table->links[i]);
			gone = true;
		}
	return gone;
}

bool link_table_end_addresses(struct link_table *table)
{
	bool gone = false;

	for (size_t i = table->address_count; i-- > 0;)
		if (table->addresses[i].round != table->round) {
			remove_address(table, &table->addresses[i]);
			gone = true;
		}
	return gone;
}

/* --- Answers ------------------------------------------------------------------------------------------------------ */

unsigned link_table_up(const struct link_table *table, const char *interface)
{
	const struct link_entry *link = find_name(table, interface);

	return link && link->up ? link->index : 0;
}

/* Where a usable address is searched for. */
enum where { NOWHERE, ON_DOWN, ON_UP };

static enum where where_is(const struct link_table *table, const struct addr *local)
{
	enum where where = NOWHERE;

	for (size_t i = 0; i < table->address_count && where != ON_UP; i++) {
		const struct link_address *address = &table->addresses[i];
		if (!address->usable || !addr_same_host(&address->local, local))
			continue;
		const struct link_entry *link = find_link(table, address->index);
		where = link && link->up ? ON_UP : ON_DOWN;
	}
	return where;
}

bool link_table_carries(const struct link_table *table, const struct addr *local)
{
	return where_is(table, local) == ON_UP;
}

static bool is_link_local(const struct addr *addr)
{
	return addr->family == ADDR_IPV6 && addr->ip[0] == 0xfe && (addr->ip[1] & 0xc0) == 0x80;
}

/* Whether the interface has an address from which `remote` could be spoken to. */
static bool has_address(const struct link_table *table, unsigned index, const struct addr *remote)
{
	for (size_t i = 0; i < table->address_count; i++) {
		const struct link_address *address = &table->addresses[i];
		if (address->index != index || !address->usable || address->local.family != remote->family)
			continue;
		/* Every interface of IPv6 has an address for its own link; one for the world may still be to come. */
		if (!is_link_local(&address->local) || is_link_local(remote))
			return true;
	}
	return false;
}

enum link_lack link_table_lacks(const struct link_table *table, const struct link_want *want)
{
	bool any_local = want->local->family == ADDR_NONE;

	if (*want->interface) {
		const struct link_entry *link = find_name(table, want->interface);
		if (!link)
			return LINK_LACKS_INTERFACE;
		if (!link->up)
			return LINK_LACKS_CARRIER;
		if (any_local)
			return has_address(table, link->index, want->remote) ? LINK_LACKS_NOTHING : LINK_LACKS_ADDRESS;
	}
	if (any_local)
		return LINK_LACKS_NOTHING;
	switch (where_is(table, want->local)) {
	case NOWHERE:
		return LINK_LACKS_ADDRESS;
	case ON_DOWN:
		/* With an interface of its own the path may use the address of another one that is down. */
		return *want->interface ? LINK_LACKS_NOTHING : LINK_LACKS_CARRIER;
	case ON_UP:
		break;
	}
	return LINK_LACKS_NOTHING;
}

uint64_t link_table_news(const struct link_table *table, const struct link_want *want)
{
	uint64_t news = 0;

	if (*want->interface) {
		const struct link_entry *link = find_name(table, want->interface);
		return link ? link->news : 0;
	}
	if (want->local->family == ADDR_NONE)
		return table->news;
	for (size_t i = 0; i < table->address_count; i++) {
		const struct link_entry *link = NULL;
		if (addr_same_host(&table->addresses[i].local, want->local))
			link = find_link(table, table->addresses[i].index);
		if (link && link->news > news)
			news = link->news;
	}
	return news;
}

bool link_route_leads_to(const struct link_route *route, const struct addr *remote)
{
	unsigned whole = route->prefix_len / 8, bits = route->prefix_len % 8;

	if (route->dst.family != remote->family || memcmp(route->dst.ip, remote->ip, whole) != 0)
		return false;
	return !bits || !((route->dst.ip[whole] ^ remote->ip[whole]) >> (8 - bits));
}
