/* Which destinations rx_proxy connects to. */
#define _GNU_SOURCE /* unshare */
#include "../../common/io/sockaddr.h"
#include "../../rx_proxy/access.h"
#include "../unit/unit.h"

#include <arpa/inet.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* "10.0.0.0/8 192.168.1.1/32" */
static struct conf_nets nets(const char *text)
{
	struct conf_nets list = {.items = calloc(8, sizeof(struct conf_net))};
	char word[64];
	int used;

	while (sscanf(text, "%63s%n", word, &used) == 1) {
		struct conf_net *net = &list.items[list.count++];
		char *slash = strchr(word, '/');
		*slash = '\0';
		sockaddr_parse(&net->addr, word);
		net->prefix_len = (uint8_t)atoi(slash + 1);
		text += used;
	}
	return list;
}

static const struct {
	const char *name, *allow, *deny, *dst;
	uint16_t port;
	bool allowed;
} cases[] = {
        {"no lists: anything", "", "", "198.51.100.1", 80, true},
        {"no lists: anything, IPv6", "", "", "2001:db8::1", 80, true},
        {"no lists: not loopback", "", "", "127.0.0.1", 80, false},
        {"no lists: not loopback's far end", "", "", "127.255.255.254", 80, false},
        {"no lists: not IPv6 loopback", "", "", "::1", 80, false},
        {"no lists: not the unspecified address", "", "", "0.0.0.0", 80, false},
        {"no lists: not the unspecified IPv6 address", "", "", "::", 80, false},
        {"no lists: not link-local", "", "", "169.254.169.254", 80, false},
        {"no lists: not IPv6 link-local", "", "", "fe80::1", 80, false},
        {"no lists: not multicast", "", "", "224.0.0.251", 80, false},
        {"no lists: not IPv6 multicast", "", "", "ff02::1", 80, false},
        {"no lists: not broadcast", "", "", "255.255.255.255", 80, false},
        {"no lists: private networks", "", "", "10.1.2.3", 80, true},
        {"no lists: next to loopback", "", "", "128.0.0.1", 80, true},
        {"allow: what it names", "10.0.0.0/8", "", "10.1.2.3", 80, true},
        {"allow: nothing else", "10.0.0.0/8", "", "198.51.100.1", 80, false},
        {"allow: nothing of the other family", "10.0.0.0/8", "", "2001:db8::1", 80, false},
        {"deny: what it names", "", "10.0.0.0/8", "10.1.2.3", 80, false},
        {"deny: all else stays allowed", "", "10.0.0.0/8", "198.51.100.1", 80, true},
        {"the longer prefix decides: allow", "10.1.0.0/16", "10.0.0.0/8", "10.1.2.3", 80, true},
        {"the longer prefix decides: deny", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", 80, false},
        {"a tie is denied", "10.0.0.0/8", "10.0.0.0/8", "10.1.2.3", 80, false},
        {"allowing everything does not allow loopback", "0.0.0.0/0 ::/0", "", "127.0.0.1", 80, false},
        {"allowing everything does not allow IPv6 loopback", "0.0.0.0/0 ::/0", "", "::1", 80, false},
        {"loopback allowed by name", "127.0.0.0/8", "", "127.0.0.1", 80, true},
        {"one loopback address allowed", "127.0.0.1/32", "", "127.0.0.1", 80, true},
        {"one loopback address allowed, not its neighbour", "127.0.0.1/32", "", "127.0.0.2", 80, false},
        {"link-local allowed by name", "fe80::/10", "", "fe80::1", 80, true},
        {"part of link-local allowed is not enough for the rest", "169.254.0.0/24", "", "169.254.1.1", 80, false},
        {"deny beats a loopback allowed by name", "127.0.0.0/8", "127.0.0.1/32", "127.0.0.1", 80, false},
        {"own port on this machine, its network allowed", "127.0.0.0/8", "", "127.0.0.1", 6000, false},
        {"own port on this machine, allowed by address", "127.0.0.1/32", "", "127.0.0.1", 6000, true},
        {"another port on this machine", "127.0.0.0/8", "", "127.0.0.1", 6001, true},
        {"own port elsewhere", "", "", "198.51.100.1", 6000, true},
        {"IPv4-mapped: not loopback", "", "", "::ffff:127.0.0.1", 80, false},
        {"IPv4-mapped: not with all of IPv6 allowed", "::/0", "", "::ffff:198.51.100.1", 80, false},
        {"IPv4-mapped: not what is denied as IPv4", "", "198.51.100.0/24", "::ffff:198.51.100.1", 80, false},
        {"IPv4-compatible: not loopback", "::/0", "", "::127.0.0.1", 80, false},
        {"IPv6 loopback allowed by name", "::1/128", "", "::1", 80, true},
        {"all of IPv6 denied", "", "::/0", "2001:db8::1", 80, false},
        {"class E", "0.0.0.0/0", "", "240.0.0.1", 80, false},
        {"subnet broadcast of all", "0.0.0.0/0", "", "255.255.255.255", 80, false},
};

/* As the wire spells it: not as sockaddr_parse does, which knows one spelling of an IPv4 address. */
static struct addr address(const char *text, uint16_t port)
{
	struct addr dst = {.family = strchr(text, ':') ? ADDR_IPV6 : ADDR_IPV4, .port = port};

	UNIT_EQ(inet_pton(dst.family == ADDR_IPV4 ? AF_INET : AF_INET6, text, dst.ip), 1);
	return dst;
}

static bool run(const char *command)
{
	return system(command) == 0; /* NOLINT(cert-env33-c): fixed texts */
}

static bool allows(const char *allow, const char *text, uint16_t port)
{
	struct conf_rx conf = {.recv_port = 6000, .allow = nets(allow)};
	struct addr dst = address(text, port);
	bool allowed = access_allows(&conf, &dst);

	free(conf.allow.items);
	return allowed;
}

/* In a network namespace of its own, where addresses come and go. */
static void test_own_addresses(void)
{
	bool apart = geteuid() == 0 && unshare(CLONE_NEWNET) == 0 &&
	             run("ip link set lo up && ip link add own type veth peer name other && ip link set own up && "
	                 "ip link set other up && ip route add 192.0.2.0/24 dev own && "
	                 "ip -6 route add 2001:db8::/64 dev own");

	if (!apart) {
		UNIT_CASE("access: this machine's addresses")
			unit_skip("needs root, network namespaces and iproute2");
		return;
	}
	UNIT_CASE("access: an address that is not ours yet") {
		UNIT_TRUE(allows("", "192.0.2.1", 22));
		UNIT_TRUE(allows("", "2001:db8::1", 22));
	}
	run("ip address add 192.0.2.1/32 dev own && ip address add 2001:db8::1/128 dev lo");
	UNIT_CASE("access: an address that has become ours, any port") {
		UNIT_TRUE(!allows("", "192.0.2.1", 22));
		UNIT_TRUE(!allows("", "192.0.2.1", 6000));
		UNIT_TRUE(!allows("", "2001:db8::1", 22));
		UNIT_TRUE(!allows("0.0.0.0/0 192.0.2.0/24", "192.0.2.1", 22));
	}
	run("ip address add 192.0.2.129/26 dev own && ip address add 192.0.2.130/26 dev own && "
	    "ip route add local 198.51.100.0/24 dev lo");
	UNIT_CASE("access: the second address of a network, its broadcast address, a network that is ours by a route") {
		UNIT_TRUE(!allows("", "192.0.2.130", 22));
		UNIT_TRUE(!allows("", "192.0.2.191", 22));
		UNIT_TRUE(!allows("", "198.51.100.7", 22));
	}
	UNIT_CASE("access: its neighbour")
		UNIT_TRUE(allows("", "192.0.2.2", 22));
	UNIT_CASE("access: ours, and named") {
		UNIT_TRUE(allows("192.0.2.1/32", "192.0.2.1", 22));
		UNIT_TRUE(allows("2001:db8::1/128", "2001:db8::1", 22));
	}
	UNIT_CASE("access: foreign addresses are not ours where the kernel would let us bind to them") {
		run("echo 1 >/proc/sys/net/ipv4/ip_nonlocal_bind");
		UNIT_TRUE(allows("", "192.0.2.2", 22));
		UNIT_TRUE(!allows("", "192.0.2.1", 22));
	}
	run("ip address del 192.0.2.1/32 dev own");
	UNIT_CASE("access: it is ours no more")
		UNIT_TRUE(allows("", "192.0.2.1", 22));
}

int main(void)
{
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		UNIT_CASE("access: %s", cases[i].name) {
			struct conf_rx conf = {
			        .recv_port = 6000, .allow = nets(cases[i].allow), .deny = nets(cases[i].deny)};
			struct addr dst = address(cases[i].dst, cases[i].port);
			UNIT_EQ(access_allows(&conf, &dst), cases[i].allowed);
			free(conf.allow.items);
			free(conf.deny.items);
		}
	test_own_addresses();
	return unit_exit();
}
