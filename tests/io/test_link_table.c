/* What rtnetlink says, well-formed and not, and what becomes of it. */
#include "../../common/io/link_table.h"
#include "../../common/io/sockaddr.h"
#include "../unit/unit.h"
#include "../unit/unit_random.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { MESSAGE_MAX = 512, UP = IFF_UP | IFF_RUNNING, ETH0 = 2, ETH1 = 3 };

/* The one message that is being built. */
static char buffer[MESSAGE_MAX] __attribute__((aligned(NLMSG_ALIGNTO)));

static struct addr ip(const char *text)
{
	struct addr addr = {0};

	if (sockaddr_parse(&addr, text) < 0)
		abort();
	return addr;
}

static unsigned char family_of(const struct addr *addr)
{
	return addr->family == ADDR_IPV4 ? AF_INET : AF_INET6;
}

static struct nlmsghdr *begin(uint16_t type, size_t head_bytes)
{
	struct nlmsghdr *m = mnl_nlmsg_put_header(buffer);

	m->nlmsg_type = type;
	mnl_nlmsg_put_extra_header(m, head_bytes);
	return m;
}

static void put_addr(struct nlmsghdr *m, uint16_t type, const struct addr *addr)
{
	mnl_attr_put(m, type, addr->family == ADDR_IPV4 ? 4 : 16, addr->ip);
}

static struct nlmsghdr *link_message(uint16_t type, int index, const char *name, unsigned flags)
{
	struct nlmsghdr *m = begin(type, sizeof(struct ifinfomsg));
	struct ifinfomsg *head = mnl_nlmsg_get_payload(m);

	head->ifi_index = index;
	head->ifi_flags = flags;
	mnl_attr_put_u32(m, IFLA_MTU, 1500);
	if (name)
		mnl_attr_put_strz(m, IFLA_IFNAME, name);
	return m;
}

static struct nlmsghdr *address_message(uint16_t type, unsigned index, const char *local, uint32_t flags)
{
	struct addr addr = ip(local);
	struct nlmsghdr *m = begin(type, sizeof(struct ifaddrmsg));
	struct ifaddrmsg *head = mnl_nlmsg_get_payload(m);

	head->ifa_family = family_of(&addr);
	head->ifa_index = index;
	head->ifa_prefixlen = 24;
	head->ifa_flags = (uint8_t)flags;
	put_addr(m, IFA_ADDRESS, &addr);
	if (addr.family == ADDR_IPV4)
		put_addr(m, IFA_LOCAL, &addr);
	mnl_attr_put_u32(m, IFA_FLAGS, flags);
	return m;
}

static struct nlmsghdr *route_message(const char *dst, uint8_t prefix_len, uint32_t oif)
{
	struct addr addr = ip(dst);
	struct nlmsghdr *m = begin(RTM_NEWROUTE, sizeof(struct rtmsg));
	struct rtmsg *head = mnl_nlmsg_get_payload(m);

	head->rtm_family = family_of(&addr);
	head->rtm_dst_len = prefix_len;
	head->rtm_type = RTN_UNICAST;
	if (prefix_len)
		put_addr(m, RTA_DST, &addr);
	if (oif)
		mnl_attr_put_u32(m, RTA_OIF, oif);
	return m;
}

/* From a copy that ends where the message does, so that a memory checker sees a read behind it. */
static int take_bytes(struct link_table *table, const void *bytes, size_t len, struct link_route *route)
{
	char *copy = malloc(NLMSG_ALIGN(len));
	struct link_route ignored;

	if (!copy)
		abort();
	memset(copy, 0, NLMSG_ALIGN(len));
	memcpy(copy, bytes, len);
	int effect = mnl_nlmsg_ok((struct nlmsghdr *)copy, (int)len)
	                     ? link_table_take(table, (struct nlmsghdr *)copy, route ? route : &ignored)
	                     : -EINVAL;
	free(copy);
	return effect;
}

static int take(struct link_table *table, const struct nlmsghdr *m, struct link_route *route)
{
	return take_bytes(table, m, m->nlmsg_len, route);
}

static int take_link(struct link_table *table, uint16_t type, int index, const char *name, unsigned flags)
{
	return take(table, link_message(type, index, name, flags), NULL);
}

static int take_address(struct link_table *table, uint16_t type, unsigned index, const char *local, uint32_t flags)
{
	return take(table, address_message(type, index, local, flags), NULL);
}

/* `local` NULL: any. */
static enum link_lack lacks(const struct link_table *table, const char *interface, const char *local,
                            const char *remote)
{
	struct addr from = local ? ip(local) : (struct addr){0}, to = ip(remote);

	return link_table_lacks(table, &(struct link_want){interface, &from, &to});
}

static uint64_t news(const struct link_table *table, const char *interface, const char *local)
{
	struct addr from = local ? ip(local) : (struct addr){0}, to = ip("192.0.2.1");

	return link_table_news(table, &(struct link_want){interface, &from, &to});
}

static bool carries(const struct link_table *table, const char *local)
{
	struct addr addr = ip(local);

	return link_table_carries(table, &addr);
}

static void test_links(void)
{
	struct link_table t = {0};
	const char *remote = "192.0.2.1";

	UNIT_CASE("an interface comes, goes down, comes up, is renamed, goes") {
		UNIT_EQ(lacks(&t, "eth0", NULL, remote), LINK_LACKS_INTERFACE);
		UNIT_EQ(take_link(&t, RTM_NEWLINK, ETH0, "eth0", 0), LINK_TABLE_CHANGED);
		UNIT_EQ(lacks(&t, "eth0", NULL, remote), LINK_LACKS_CARRIER);
		UNIT_EQ(link_table_up(&t, "eth0"), 0);
		UNIT_EQ(take_link(&t, RTM_NEWLINK, ETH0, "eth0", IFF_UP), LINK_TABLE_SAME);
		UNIT_EQ(take_link(&t, RTM_NEWLINK, ETH0, "eth0", UP), LINK_TABLE_CHANGED);
		UNIT_EQ(take_link(&t, RTM_NEWLINK, ETH0, "eth0", UP), LINK_TABLE_SAME);
		UNIT_EQ(link_table_up(&t, "eth0"), ETH0);
		UNIT_EQ(lacks(&t, "eth0", NULL, remote), LINK_LACKS_ADDRESS);
		UNIT_EQ(take_link(&t, RTM_NEWLINK, ETH0, "wan0", UP), LINK_TABLE_CHANGED);
		UNIT_EQ(link_table_up(&t, "eth0"), 0);
		UNIT_EQ(link_table_up(&t, "wan0"), ETH0);
		UNIT_EQ(take_link(&t, RTM_DELLINK, ETH0, "wan0", 0), LINK_TABLE_CHANGED);
		UNIT_EQ(take_link(&t, RTM_DELLINK, ETH0, "wan0", 0), LINK_TABLE_SAME);
		UNIT_EQ(lacks(&t, "wan0", NULL, remote), LINK_LACKS_INTERFACE);
	}
	UNIT_CASE("a bridge that lets go of a port does not remove the interface") {
		take_link(&t, RTM_NEWLINK, ETH0, "eth0", UP);
		struct nlmsghdr *m = link_message(RTM_DELLINK, ETH0, "eth0", UP);
		((struct ifinfomsg *)mnl_nlmsg_get_payload(m))->ifi_family = AF_BRIDGE;
		UNIT_EQ(take(&t, m, NULL), LINK_TABLE_SAME);
		UNIT_EQ(link_table_up(&t, "eth0"), ETH0);
	}
	link_table_free(&t);
}

static void test_addresses(void)
{
	struct link_table t = {0};
	const char *remote = "192.0.2.1", *remote6 = "2001:db8::1";

	take_link(&t, RTM_NEWLINK, ETH0, "eth0", UP);
	UNIT_CASE("an address comes and goes") {
		UNIT_EQ(lacks(&t, "", "10.0.0.1", remote), LINK_LACKS_ADDRESS);
		UNIT_EQ(take_address(&t, RTM_NEWADDR, ETH0, "10.0.0.1", 0), LINK_TABLE_CHANGED);
		UNIT_EQ(take_address(&t, RTM_NEWADDR, ETH0, "10.0.0.1", IFA_F_PERMANENT), LINK_TABLE_SAME);
		UNIT_EQ(lacks(&t, "", "10.0.0.1", remote), LINK_LACKS_NOTHING);
		UNIT_EQ(lacks(&t, "eth0", NULL, remote), LINK_LACKS_NOTHING);
		UNIT_EQ(lacks(&t, "eth0", NULL, remote6), LINK_LACKS_ADDRESS);
		UNIT_EQ(lacks(&t, "eth0", "10.0.0.2", remote), LINK_LACKS_ADDRESS);
		UNIT_TRUE(carries(&t, "10.0.0.1"));
		UNIT_EQ(take_address(&t, RTM_DELADDR, ETH0, "10.0.0.1", 0), LINK_TABLE_CHANGED);
		UNIT_EQ(take_address(&t, RTM_DELADDR, ETH0, "10.0.0.1", 0), LINK_TABLE_SAME);
		UNIT_TRUE(!carries(&t, "10.0.0.1"));
	}
	UNIT_CASE("an address does not carry while its interface is down, and goes with it") {
		take_address(&t, RTM_NEWADDR, ETH0, "10.0.0.1", 0);
		take_link(&t, RTM_NEWLINK, ETH0, "eth0", IFF_UP);
		UNIT_TRUE(!carries(&t, "10.0.0.1"));
		UNIT_EQ(lacks(&t, "", "10.0.0.1", remote), LINK_LACKS_CARRIER);
		take_link(&t, RTM_NEWLINK, ETH1, "eth1", UP);
		UNIT_EQ(lacks(&t, "eth1", "10.0.0.1", remote), LINK_LACKS_NOTHING);
		take_address(&t, RTM_NEWADDR, ETH1, "10.0.0.1", 0);
		UNIT_TRUE(carries(&t, "10.0.0.1"));
		take_link(&t, RTM_DELLINK, ETH1, "eth1", 0);
		UNIT_TRUE(!carries(&t, "10.0.0.1"));
		UNIT_EQ(t.address_count, 1);
		take_link(&t, RTM_NEWLINK, ETH0, "eth0", UP);
		UNIT_TRUE(carries(&t, "10.0.0.1"));
		take_address(&t, RTM_DELADDR, ETH0, "10.0.0.1", 0);
	}
	UNIT_CASE("an address of IPv6 is not usable while it is tentative") {
		UNIT_EQ(take_address(&t, RTM_NEWADDR, ETH0, "2001:db8::2", IFA_F_TENTATIVE), LINK_TABLE_CHANGED);
		UNIT_EQ(lacks(&t, "", "2001:db8::2", remote6), LINK_LACKS_ADDRESS);
		UNIT_EQ(lacks(&t, "eth0", NULL, remote6), LINK_LACKS_ADDRESS);
		take_address(&t, RTM_NEWADDR, ETH0, "2001:db8::2", IFA_F_TENTATIVE | IFA_F_OPTIMISTIC);
		UNIT_EQ(lacks(&t, "", "2001:db8::2", remote6), LINK_LACKS_NOTHING);
		take_address(&t, RTM_NEWADDR, ETH0, "2001:db8::2", IFA_F_PERMANENT);
		UNIT_EQ(lacks(&t, "eth0", NULL, remote6), LINK_LACKS_NOTHING);
		take_address(&t, RTM_NEWADDR, ETH0, "2001:db8::2", IFA_F_TENTATIVE | IFA_F_DADFAILED);
		UNIT_EQ(lacks(&t, "", "2001:db8::2", remote6), LINK_LACKS_ADDRESS);
		take_address(&t, RTM_DELADDR, ETH0, "2001:db8::2", 0);
	}
	UNIT_CASE("a link-local address leads to nothing but its link") {
		take_address(&t, RTM_NEWADDR, ETH0, "fe80::2", 0);
		UNIT_EQ(lacks(&t, "eth0", NULL, remote6), LINK_LACKS_ADDRESS);
		UNIT_EQ(lacks(&t, "eth0", NULL, "fe80::1"), LINK_LACKS_NOTHING);
	}
	UNIT_CASE("of a point-to-point link the local address counts") {
		struct nlmsghdr *m = begin(RTM_NEWADDR, sizeof(struct ifaddrmsg));
		struct ifaddrmsg *head = mnl_nlmsg_get_payload(m);
		struct addr local = ip("10.9.0.1"), far = ip("10.9.0.2");
		head->ifa_family = AF_INET;
		head->ifa_index = ETH0;
		put_addr(m, IFA_ADDRESS, &far);
		put_addr(m, IFA_LOCAL, &local);
		UNIT_EQ(take(&t, m, NULL), LINK_TABLE_CHANGED);
		UNIT_TRUE(carries(&t, "10.9.0.1"));
		UNIT_TRUE(!carries(&t, "10.9.0.2"));
	}
	UNIT_CASE("who wants nothing in particular lacks nothing") {
		UNIT_EQ(lacks(&t, "", NULL, remote), LINK_LACKS_NOTHING);
	}
	link_table_free(&t);
}

static void test_news(void)
{
	struct link_table t = {0};
	uint64_t seen;

	UNIT_CASE("what comes is news for whom it may concern, what goes is not") {
		take_link(&t, RTM_NEWLINK, ETH0, "eth0", UP);
		take_link(&t, RTM_NEWLINK, ETH1, "eth1", UP);
		UNIT_EQ(news(&t, "eth0", NULL), 1);
		UNIT_EQ(news(&t, "eth1", NULL), 2);
		take_address(&t, RTM_NEWADDR, ETH0, "10.0.0.1", 0);
		UNIT_EQ(news(&t, "eth0", NULL), 3);
		UNIT_EQ(news(&t, "eth1", NULL), 2);
		UNIT_EQ(news(&t, "", "10.0.0.1"), 3);
		UNIT_EQ(news(&t, "", "10.0.0.9"), 0);
		UNIT_EQ(news(&t, "", NULL), 3);
		seen = t.news;
		take_address(&t, RTM_NEWADDR, ETH0, "10.0.0.1", 0);
		take_address(&t, RTM_NEWADDR, ETH0, "2001:db8::2", IFA_F_TENTATIVE);
		take_link(&t, RTM_NEWLINK, ETH1, "eth1", 0);
		take_address(&t, RTM_DELADDR, ETH0, "10.0.0.1", 0);
		UNIT_EQ(t.news, seen);
		take_link(&t, RTM_NEWLINK, ETH1, "eth1", UP);
		UNIT_EQ(news(&t, "eth1", NULL), seen + 1);
	}
	link_table_free(&t);
}

static void test_look(void)
{
	struct link_table t = {0};

	take_link(&t, RTM_NEWLINK, ETH0, "eth0", UP);
	take_link(&t, RTM_NEWLINK, ETH1, "eth1", UP);
	take_address(&t, RTM_NEWADDR, ETH0, "10.0.0.1", 0);
	take_address(&t, RTM_NEWADDR, ETH0, "10.0.0.2", 0);
	take_address(&t, RTM_NEWADDR, ETH1, "10.0.0.3", 0);
	UNIT_CASE("what a look does not find is gone, and nothing before its end") {
		uint64_t seen = t.news;
		link_table_begin_look(&t);
		UNIT_EQ(take_link(&t, RTM_NEWLINK, ETH0, "eth0", UP), LINK_TABLE_SAME);
		UNIT_EQ(link_table_up(&t, "eth1"), ETH1);
		UNIT_TRUE(link_table_end_links(&t));
		UNIT_EQ(link_table_up(&t, "eth1"), 0);
		UNIT_TRUE(!carries(&t, "10.0.0.3"));
		UNIT_EQ(take_address(&t, RTM_NEWADDR, ETH0, "10.0.0.2", 0), LINK_TABLE_SAME);
		UNIT_TRUE(carries(&t, "10.0.0.1"));
		UNIT_TRUE(link_table_end_addresses(&t));
		UNIT_TRUE(!carries(&t, "10.0.0.1"));
		UNIT_TRUE(carries(&t, "10.0.0.2"));
		UNIT_EQ(t.news, seen);
	}
	UNIT_CASE("a look that finds everything changes nothing") {
		link_table_begin_look(&t);
		take_link(&t, RTM_NEWLINK, ETH0, "eth0", UP);
		UNIT_TRUE(!link_table_end_links(&t));
		take_address(&t, RTM_NEWADDR, ETH0, "10.0.0.2", 0);
		UNIT_TRUE(!link_table_end_addresses(&t));
	}
	link_table_free(&t);
}

static bool leads(const char *dst, uint8_t prefix_len, const char *remote)
{
	struct link_table t = {0};
	struct link_route route;
	struct addr to = ip(remote);

	return take(&t, route_message(dst, prefix_len, 0), &route) == LINK_TABLE_ROUTE &&
	       link_route_leads_to(&route, &to);
}

static void test_routes(void)
{
	struct link_table t = {0};
	struct link_route route;

	UNIT_CASE("a route leads where its prefix says") {
		UNIT_TRUE(leads("0.0.0.0", 0, "192.0.2.1"));
		UNIT_TRUE(leads("192.0.2.1", 32, "192.0.2.1"));
		UNIT_TRUE(leads("192.0.2.0", 25, "192.0.2.127"));
		UNIT_TRUE(!leads("192.0.2.0", 25, "192.0.2.128"));
		UNIT_TRUE(!leads("192.0.2.2", 32, "192.0.2.1"));
		UNIT_TRUE(!leads("::", 0, "192.0.2.1"));
		UNIT_TRUE(leads("::", 0, "2001:db8::1"));
		UNIT_TRUE(leads("2001:db8::1", 128, "2001:db8::1"));
		UNIT_TRUE(!leads("2001:db8:1::", 48, "2001:db8::1"));
	}
	UNIT_CASE("it tells the interface; local, cached and impossible ones are passed over") {
		struct nlmsghdr *m = route_message("10.0.0.0", 8, ETH1);
		struct rtmsg *head = mnl_nlmsg_get_payload(m);
		UNIT_EQ(take(&t, m, &route), LINK_TABLE_ROUTE);
		UNIT_EQ(route.index, ETH1);
		head->rtm_type = RTN_LOCAL;
		UNIT_EQ(take(&t, m, &route), LINK_TABLE_SAME);
		head->rtm_type = RTN_UNICAST;
		head->rtm_flags = RTM_F_CLONED;
		UNIT_EQ(take(&t, m, &route), LINK_TABLE_SAME);
		head->rtm_flags = 0;
		head->rtm_dst_len = 33;
		UNIT_EQ(take(&t, m, &route), LINK_TABLE_SAME);
	}
	UNIT_CASE("a rule may matter to any destination of its family") {
		struct nlmsghdr *m = begin(RTM_NEWRULE, sizeof(struct rtmsg));
		struct rtmsg *head = mnl_nlmsg_get_payload(m);
		struct addr to = ip("192.0.2.1"), to6 = ip("2001:db8::1");
		head->rtm_family = AF_INET;
		UNIT_EQ(take(&t, m, &route), LINK_TABLE_ROUTE);
		UNIT_TRUE(link_route_leads_to(&route, &to));
		UNIT_TRUE(!link_route_leads_to(&route, &to6));
	}
}

/* --- Hostile ------------------------------------------------------------------------------------------------------ */

/* Whether the table is one that could be: names with an end, each index once. */
static bool is_sane(const struct link_table *table)
{
	for (size_t i = 0; i < table->link_count; i++) {
		const struct link_entry *link = &table->links[i];
		if (!link->index || !memchr(link->name, '\0', IFNAMSIZ) || !link->name[0])
			return false;
		for (size_t j = 0; j < i; j++)
			if (table->links[j].index == link->index)
				return false;
	}
	for (size_t i = 0; i < table->address_count; i++)
		if (!table->addresses[i].index || table->addresses[i].local.family == ADDR_NONE)
			return false;
	return true;
}

static struct nlmsghdr *make_any(unsigned which)
{
	switch (which % 5) {
	case 0:
		return link_message(RTM_NEWLINK, ETH0, "eth0", UP);
	case 1:
		return link_message(RTM_DELLINK, ETH0, "eth0", UP);
	case 2:
		return address_message(RTM_NEWADDR, ETH0, "10.0.0.1", 0);
	case 3:
		return address_message(RTM_NEWADDR, ETH0, "2001:db8::1", 0);
	default:
		return route_message("192.0.2.0", 24, ETH0);
	}
}

static void test_hostile(void)
{
	UNIT_CASE("cut short anywhere, a message is refused or changes nothing that it does not say") {
		for (unsigned which = 0; which < 5; which++) {
			struct nlmsghdr *m = make_any(which);
			size_t whole = m->nlmsg_len;
			for (size_t len = sizeof(struct nlmsghdr); len < whole; len++) {
				struct link_table t = {0};
				m->nlmsg_len = (uint32_t)len;
				take_bytes(&t, buffer, len, NULL);
				UNIT_TRUE(is_sane(&t));
				link_table_free(&t);
			}
		}
	}
	UNIT_CASE("attributes of a wrong length are not believed") {
		struct link_table t = {0};
		struct nlmsghdr *m = begin(RTM_NEWADDR, sizeof(struct ifaddrmsg));
		struct ifaddrmsg *head = mnl_nlmsg_get_payload(m);
		head->ifa_family = AF_INET6;
		head->ifa_index = ETH0;
		mnl_attr_put(m, IFA_ADDRESS, 4, "\x0a\0\0\1");
		UNIT_EQ(take(&t, m, NULL), LINK_TABLE_SAME);
		UNIT_EQ(take_link(&t, RTM_NEWLINK, ETH0, NULL, UP), LINK_TABLE_SAME);
		UNIT_EQ(take_link(&t, RTM_NEWLINK, ETH0, "", UP), LINK_TABLE_SAME);
		UNIT_EQ(take_link(&t, RTM_NEWLINK, ETH0, "a-name-of-sixteen", UP), LINK_TABLE_SAME);
		UNIT_EQ(take_link(&t, RTM_NEWLINK, 0, "eth0", UP), LINK_TABLE_SAME);
		UNIT_EQ(take_link(&t, RTM_NEWLINK, -1, "eth0", UP), LINK_TABLE_SAME);
		m = link_message(RTM_NEWLINK, ETH0, NULL, UP);
		mnl_attr_put(m, IFLA_IFNAME, 3, "abc"); /* without its end */
		UNIT_EQ(take(&t, m, NULL), LINK_TABLE_CHANGED);
		UNIT_EQ(link_table_up(&t, "abc"), ETH0);
		link_table_free(&t);
	}
	UNIT_CASE("random bytes change nothing but what they may") {
		uint64_t random = 7;
		struct link_table t = {0};
		for (unsigned i = 0; i < 20000; i++) {
			size_t len = make_any(i)->nlmsg_len;
			for (uint64_t n = unit_below(&random, 4); n-- > 0;)
				buffer[sizeof(struct nlmsghdr) + unit_below(&random, len - sizeof(struct nlmsghdr))] =
				        (char)unit_below(&random, 256);
			take_bytes(&t, buffer, len, NULL);
			if (t.link_count + t.address_count > 200)
				link_table_free(&t);
		}
		UNIT_TRUE(is_sane(&t));
		link_table_free(&t);
	}
}

int main(void)
{
	test_links();
	test_addresses();
	test_news();
	test_look();
	test_routes();
	test_hostile();
	return unit_exit();
}
