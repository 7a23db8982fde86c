#include "rules.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../common/io/log.h"
#include "rules_system.h"

/* Set on a SYN on its way from the nft table to the iptables rule and back; never part of a configured mark. */
#define HANDOVER_BIT 0x80000000u

/* Takes the mark twice. */
#define TPROXY_ROUTES_FORMAT                                                                                           \
	"ip rule add fwmark %" PRIu32 " lookup 100; ip route add local default dev lo table 100; "                     \
	"ip -6 rule add fwmark %" PRIu32 " lookup 100; ip -6 route add local default dev lo table 100"

/* How a SYN gets into the queue. */
enum queue_by {
	QUEUE_BY_NFT,
	QUEUE_BY_IPTABLES /* the kernel has no nft_queue: see rules.h */
};

static const char nft_probe[] = "table inet pair_proxy_probe {\n"
                                "\tchain probe {\n"
                                "\t\ttype filter hook prerouting priority mangle\n"
                                "\t\tmeta l4proto tcp queue num 0 bypass\n"
                                "\t}\n"
                                "}\n";

static const char *addr_text(char text[INET6_ADDRSTRLEN], const struct addr *addr)
{
	return inet_ntop(addr->family == ADDR_IPV4 ? AF_INET : AF_INET6, addr->ip, text, INET6_ADDRSTRLEN);
}

/* The network with its host bits cleared: nft takes an address of the network too, but lists are read by people. */
static struct addr network_of(const struct conf_net *net)
{
	struct addr addr = net->addr;

	for (unsigned bit = net->prefix_len; bit < 8 * sizeof addr.ip; bit++)
		addr.ip[bit / 8] &= (uint8_t) ~(0x80u >> bit % 8);
	return addr;
}

static size_t count_family(const struct conf_nets *nets, enum addr_family family)
{
	size_t count = 0;

	for (size_t i = 0; i < nets->count; i++)
		count += nets->items[i].addr.family == family;
	return count;
}

/* Named sets: unlike anonymous ones they may overlap (auto-merge), and `nft list` shows them by name. */
static void write_net_set(FILE *out, const char *name, const struct conf_nets *nets, enum addr_family family)
{
	char text[INET6_ADDRSTRLEN];

	if (count_family(nets, family) == 0)
		return;
	fprintf(out, "\tset %s%d {\n\t\ttype %s\n\t\tflags interval\n\t\tauto-merge\n\t\telements = {\n", name, family,
	        family == ADDR_IPV4 ? "ipv4_addr" : "ipv6_addr");
	for (size_t i = 0; i < nets->count; i++) {
		struct addr addr = network_of(&nets->items[i]);

		if (addr.family == family)
			fprintf(out, "\t\t\t%s/%u,\n", addr_text(text, &addr), nets->items[i].prefix_len);
	}
	fputs("\t\t}\n\t}\n", out);
}

static size_t count_paths(const struct conf_tx *conf, enum addr_family family)
{
	size_t count = 0;

	for (size_t i = 0; i < conf->path_count; i++)
		count += conf->paths[i].remote.family == family;
	return count;
}

static void write_stripe_set(FILE *out, const struct conf_tx *conf, enum addr_family family)
{
	char text[INET6_ADDRSTRLEN];

	if (count_paths(conf, family) == 0)
		return;
	fprintf(out, "\tset stripes%d {\n\t\ttype %s . inet_service\n\t\telements = {\n", family,
	        family == ADDR_IPV4 ? "ipv4_addr" : "ipv6_addr");
	for (size_t i = 0; i < conf->path_count; i++) {
		const struct addr *remote = &conf->paths[i].remote;

		if (remote->family == family)
			fprintf(out, "\t\t\t%s . %u,\n", addr_text(text, remote), remote->port);
	}
	fputs("\t\t}\n\t}\n", out);
}

static void write_interfaces(FILE *out, const struct conf_capture *capture)
{
	if (capture->interface_count == 0)
		return;
	fputs("\t\tiifname != {", out);
	for (size_t i = 0; i < capture->interface_count; i++)
		fprintf(out, "%s \"%s\"", i ? "," : "", capture->interfaces[i]);
	fputs(" } return\n", out);
}

static void write_family_matches(FILE *out, const struct conf_tx *conf, enum addr_family family)
{
	const struct conf_capture *capture = &conf->capture;
	const char *ip = family == ADDR_IPV4 ? "ip" : "ip6";

	if (count_family(&capture->sources, family))
		fprintf(out, "\t\t%s saddr != @sources%d return\n", ip, family);
	else if (capture->sources.count)
		fprintf(out, "\t\tmeta nfproto ipv%d return\n", family);
	if (count_family(&capture->bypass, family))
		fprintf(out, "\t\t%s daddr @bypass%d return\n", ip, family);
	if (count_paths(conf, family))
		fprintf(out, "\t\t%s daddr . tcp dport @stripes%d return\n", ip, family);
}

/* Which SYNs are asked about. The order is: what costs nothing first, since every packet of the machine comes by. */
static void write_select_chain(FILE *out, const struct conf_tx *conf, enum queue_by by)
{
	fprintf(out,
	        "\tchain select_syn {\n"
	        "\t\ttype filter hook prerouting priority mangle%s; policy accept;\n"
	        "\t\tmeta l4proto != tcp return\n"
	        "\t\ttcp flags & (fin | syn | rst | ack) != syn return\n",
	        by == QUEUE_BY_NFT ? "" : " - 1");
	write_interfaces(out, &conf->capture);
	fputs("\t\tct state { invalid, established, untracked } return\n"
	      "\t\tct status confirmed return\n",
	      out);
	write_family_matches(out, conf, ADDR_IPV4);
	write_family_matches(out, conf, ADDR_IPV6);
	fputs("\t\tip daddr 169.254.0.0/16 return\n"
	      "\t\tip6 daddr fe80::/10 return\n"
	      "\t\tfib daddr type { local, broadcast, anycast, multicast } return\n"
	      "\t\tfib saddr oif missing return\n",
	      out);
	if (by == QUEUE_BY_NFT)
		fprintf(out, "\t\tqueue num %u bypass\n\t}\n", conf->capture.queue);
	else
		fprintf(out,
		        "\t\tmeta mark set meta mark | 0x%08x\n"
		        "\t}\n"
		        "\tchain selected_syn {\n"
		        "\t\ttype filter hook prerouting priority mangle + 1; policy accept;\n"
		        "\t\tmeta mark & 0x%08x != 0 meta mark set meta mark & 0x%08x\n"
		        "\t}\n",
		        HANDOVER_BIT, HANDOVER_BIT, ~HANDOVER_BIT);
}

static void write_deliver_chain(FILE *out, const struct conf_tx *conf)
{
	uint32_t mark = conf->capture.mark;

	if (conf->capture.method == CONF_CAPTURE_REDIRECT) {
		fprintf(out,
		        "\tchain deliver {\n"
		        "\t\ttype nat hook prerouting priority dstnat; policy accept;\n"
		        "\t\tmeta l4proto tcp meta mark 0x%08x redirect to :%u\n"
		        "\t}\n",
		        mark, conf->local_port);
		return;
	}
	/* The SYN finds the listening socket by tproxy; what follows finds the accepted one by its addresses, but must
	 * be routed to this machine as well, which the connection's mark tells. */
	fprintf(out,
	        "\tchain deliver {\n"
	        "\t\ttype filter hook prerouting priority mangle + 2; policy accept;\n"
	        "\t\tmeta l4proto tcp meta mark 0x%08x ct mark set 0x%08x tproxy to :%u accept\n"
	        "\t\tmeta l4proto tcp ct direction original ct mark 0x%08x meta mark set 0x%08x accept\n"
	        "\t}\n",
	        mark, mark, conf->local_port, mark, mark);
}

static void write_table(FILE *out, const struct conf_tx *conf, enum queue_by by)
{
	const struct conf_capture *capture = &conf->capture;

	fputs("table inet pair_proxy {\n", out);
	write_net_set(out, "sources", &capture->sources, ADDR_IPV4);
	write_net_set(out, "sources", &capture->sources, ADDR_IPV6);
	write_net_set(out, "bypass", &capture->bypass, ADDR_IPV4);
	write_net_set(out, "bypass", &capture->bypass, ADDR_IPV6);
	write_stripe_set(out, conf, ADDR_IPV4);
	write_stripe_set(out, conf, ADDR_IPV6);
	write_select_chain(out, conf, by);
	write_deliver_chain(out, conf);
	fprintf(out,
	        "\tchain refuse {\n"
	        "\t\ttype filter hook forward priority filter; policy accept;\n"
	        "\t\tmeta l4proto tcp meta mark 0x%08x reject with tcp reset\n"
	        "\t}\n"
	        "}\n",
	        capture->mark + 1);
}

/* The kernel takes nearly any byte in a device name; nft's grammar does not, and the names go into a script. */
static int check_interfaces(const struct conf_capture *capture)
{
	for (size_t i = 0; i < capture->interface_count; i++) {
		const char *name = capture->interfaces[i];

		for (const char *c = name; *c; c++) {
			if (*c <= ' ' || *c > '~' || strchr("\"\\*/", *c))
				return -EINVAL;
		}
		if (name[0] == '\0')
			return -EINVAL;
	}
	return 0;
}

static int write_script(FILE *out, const struct conf_tx *conf, bool up, enum queue_by by)
{
	const struct conf_capture *capture = &conf->capture;
	int err = check_interfaces(capture);

	if (err)
		return err;
	/* `delete` fails without a table and `add` does not mind one: together they remove it in every case. */
	fputs("add table inet pair_proxy\n"
	      "delete table inet pair_proxy\n",
	      out);
	if (up && capture->method != CONF_CAPTURE_NONE) {
		if (capture->method == CONF_CAPTURE_TPROXY)
			fprintf(out,
			        "# tproxy works on a router, not on a bridge, and needs these routes:\n"
			        "#   " TPROXY_ROUTES_FORMAT "\n",
			        capture->mark, capture->mark);
		write_table(out, conf, by);
	}
	return ferror(out) ? -EIO : 0;
}

int rules_print(FILE *out, const struct conf_tx *conf, bool up)
{
	return write_script(out, conf, up, QUEUE_BY_NFT);
}

static int run_nft(const char *option, const char *script, bool quiet)
{
	const char *const argv[] = {"nft", option, "-f", "-", NULL};
	const char *const argv_plain[] = {"nft", "-f", "-", NULL};

	return rules_run(option ? argv : argv_plain, script, quiet);
}

/* Removes, and with `up` adds again, the one rule of the fallback in the tables of `tool`. */
static int apply_iptables(const char *tool, const struct conf_capture *capture, bool up)
{
	enum { RULES_MAX = 8 }; /* a bound on copies of the jump that somebody may have made */
	const char *const jump_delete[] = {tool, "-w", "-t", "mangle", "-D", "PREROUTING", "-j", "pair_proxy", NULL};
	const char *const flush[] = {tool, "-w", "-t", "mangle", "-F", "pair_proxy", NULL};
	const char *const remove[] = {tool, "-w", "-t", "mangle", "-X", "pair_proxy", NULL};
	const char *const create[] = {tool, "-w", "-t", "mangle", "-N", "pair_proxy", NULL};
	const char *const jump[] = {tool, "-w", "-t", "mangle", "-A", "PREROUTING", "-j", "pair_proxy", NULL};
	char mark[32], queue[16];
	const char *const add[] = {
	        tool, "-w", "-t",      "mangle",      "-A",  "pair_proxy",     "-p", "tcp", "-m", "mark", "--mark",
	        mark, "-j", "NFQUEUE", "--queue-num", queue, "--queue-bypass", NULL};
	int err;

	for (int i = 0; i < RULES_MAX && rules_run(jump_delete, NULL, true) == 0; i++)
		;
	rules_run(flush, NULL, true);
	rules_run(remove, NULL, true);
	if (!up)
		return 0;
	snprintf(mark, sizeof mark, "0x%08x/0x%08x", HANDOVER_BIT, HANDOVER_BIT);
	snprintf(queue, sizeof queue, "%u", capture->queue);
	err = rules_run(create, NULL, false);
	if (!err)
		err = rules_run(add, NULL, false);
	if (!err)
		err = rules_run(jump, NULL, false);
	return err;
}

static int apply_fallback(const struct conf_capture *capture, bool up)
{
	int err = apply_iptables("iptables", capture, up);

	if (err == -ENOENT)
		log_event(LOG_LEVEL_ERROR, "rules_failed",
		          "why=\"this kernel has no nft_queue and iptables is not installed\"");
	if (err)
		return err;
	if (apply_iptables("ip6tables", capture, up))
		log_event(LOG_LEVEL_WARN, "rules_ipv6_missing", "why=\"ip6tables failed: IPv6 is not captured\"");
	return 0;
}

static int apply_script(const struct conf_tx *conf, bool up, enum queue_by by)
{
	char *script = NULL;
	size_t len_bytes;
	FILE *memory = open_memstream(&script, &len_bytes);
	int err;

	if (!memory)
		return -ENOMEM;
	err = write_script(memory, conf, up, by);
	if (fclose(memory) != 0 && !err)
		err = -ENOMEM;
	if (!err)
		err = run_nft(NULL, script, false);
	free(script);
	return err;
}

int rules_apply(const struct conf_tx *conf, bool up)
{
	const struct conf_capture *capture = &conf->capture;
	bool install = up && capture->method != CONF_CAPTURE_NONE;
	enum queue_by by;
	int err;

	err = run_nft("-c", nft_probe, true);
	if (err == -ENOENT) {
		log_event(LOG_LEVEL_ERROR, "rules_failed", "why=\"nft is missing: install nftables\"");
		return err;
	}
	by = err ? QUEUE_BY_IPTABLES : QUEUE_BY_NFT;
	err = apply_script(conf, up, by);
	if (err) {
		log_event(LOG_LEVEL_ERROR, "rules_failed", "why=\"%s\"",
		          err == -EINVAL ? "a capture interface has a name that nft cannot take"
		                         : "nft refused the rules");
		return err;
	}
	if (by == QUEUE_BY_IPTABLES) {
		err = apply_fallback(capture, install);
		if (err)
			return err;
	}
	log_event(LOG_LEVEL_INFO, install ? "rules_up" : "rules_down", "queue_by=%s",
	          by == QUEUE_BY_NFT ? "nft" : "iptables");
	if (install && capture->method == CONF_CAPTURE_TPROXY)
		log_event(LOG_LEVEL_INFO, "tproxy_routes", "needed=\"" TPROXY_ROUTES_FORMAT "\"", capture->mark,
		          capture->mark);
	if (install)
		rules_check_system(capture);
	return 0;
}
