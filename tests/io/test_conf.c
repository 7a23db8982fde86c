/* What a good configuration gives: values, defaults, overrides, the file of the original project. */
#include "../../common/io/sockaddr.h"
#include "../unit/unit.h"
#include "conf_fixture.h"

static const char *text_of(const struct addr *addr)
{
	static char buf[SOCKADDR_TEXT_MAX];

	return sockaddr_text(buf, addr);
}

#define TX(keys) "tx_proxy = { rx_proxy_ip = \"192.0.2.2\"; " keys " };"

static void test_original(void)
{
	static const char text[] =
	        "# every number a string, groups closed without a semicolon\n"
	        "stream =\n{\n  dest_ip = \"192.0.2.12\";\n  dest_port = \"5050\";\n"
	        "  file_name = \"text.txt\";\n}\n"
	        "dest = { recv_port = \"5050\"; out = \"o.txt\"; log = \"o.log\"; }\n"
	        "tx_proxy : { local_port = \"5001\"; rx_proxy_ip = \"192.0.2.12\"; "
	        "rx_proxy_port = \"6001\"; }\n"
	        "rx_proxy = { dest_ip = \"192.0.2.202\"; recv_port = \"6001\"; dest_port = \"5050\"; };\n";

	UNIT_CASE("conf: the original's tx_proxy group") {
		if (!UNIT_EQ(load(CONF_TX_PROXY, text), 0))
			break;
		UNIT_EQ(conf->group, CONF_TX_PROXY);
		UNIT_STR(conf->file, fixture_conf);
		UNIT_EQ(conf->tx.local_port, 5001);
		UNIT_STR(text_of(&conf->tx.rx_proxy), "192.0.2.12:6001");
		UNIT_EQ(conf->tx.security, CONF_SECURITY_UNSET);
	}
	UNIT_CASE("conf: the original's rx_proxy group") {
		if (!UNIT_EQ(load(CONF_RX_PROXY, text), 0))
			break;
		UNIT_EQ(conf->rx.recv_port, 6001);
		UNIT_STR(text_of(&conf->rx.fixed_dest), "192.0.2.202:5050");
		UNIT_EQ(conf->rx.security, CONF_SECURITY_UNSET);
	}
	UNIT_CASE("conf: the original's stream group") {
		if (!UNIT_EQ(load(CONF_STREAM, text), 0))
			break;
		UNIT_STR(text_of(&conf->stream.dest), "192.0.2.12:5050");
		UNIT_STR(conf->stream.file_name, "text.txt");
	}
	UNIT_CASE("conf: the original's dest group") {
		if (!UNIT_EQ(load(CONF_DEST, text), 0))
			break;
		UNIT_EQ(conf->dest.recv_port, 5050);
		UNIT_STR(conf->dest.out, "o.txt");
		UNIT_STR(conf->dest.log, "o.log");
	}
}

static void test_defaults(void)
{
	UNIT_CASE("conf: defaults of tx_proxy") {
		const struct conf_tx *tx;

		if (!UNIT_EQ(load(CONF_TX_PROXY, TX("")), 0))
			break;
		tx = &conf->tx;
		UNIT_EQ(tx->local_port, 5000);
		UNIT_STR(text_of(&tx->rx_proxy), "192.0.2.2:6000");
		UNIT_EQ(tx->capture.method, CONF_CAPTURE_REDIRECT);
		UNIT_EQ(tx->capture.queue, 0);
		UNIT_EQ(tx->capture.mark, 1);
		UNIT_EQ(tx->capture.open, CONF_OPEN_CONFIRM);
		UNIT_EQ(tx->capture.interface_count + tx->capture.sources.count + tx->capture.bypass.count, 0);
		UNIT_EQ(tx->limits.flows, 4096);
		UNIT_EQ(tx->limits.flow_window_bytes, 16 << 20);
		UNIT_EQ(tx->limits.memory_bytes, 512 << 20);
		UNIT_EQ(tx->limits.session_timeout_ms, 60000);
	}
	UNIT_CASE("conf: without paths there is one with 8 stripes to rx_proxy") {
		const struct conf_path *path;

		if (!UNIT_EQ(load(CONF_TX_PROXY, TX("rx_proxy_port = 6789;")), 0) || !UNIT_EQ(conf->tx.path_count, 1))
			break;
		path = conf->tx.paths;
		UNIT_STR(path->name, "path0");
		UNIT_STR(text_of(&path->remote), "192.0.2.2:6789");
		UNIT_EQ(path->local.family, ADDR_NONE);
		UNIT_EQ(path->stripes, 8);
		UNIT_EQ(path->mark, 0);
		UNIT_STR(path->interface, "");
		UNIT_STR(path->congestion, "");
		UNIT_EQ(path->backup, false);
		UNIT_EQ(path->reinject_percent, 100);
	}
	UNIT_CASE("conf: defaults of rx_proxy") {
		const struct conf_rx *rx;

		if (!UNIT_EQ(load(CONF_RX_PROXY, "rx_proxy = { };"), 0))
			break;
		rx = &conf->rx;
		UNIT_EQ(rx->recv_port, 6000);
		UNIT_EQ(rx->fixed_dest.family, ADDR_NONE);
		UNIT_EQ(rx->fixed_dest.port, 0);
		UNIT_EQ(rx->allow.count + rx->deny.count + rx->accept_from.count + rx->key_count, 0);
		UNIT_EQ(rx->source, CONF_SOURCE_PROXY);
		UNIT_STR(rx->congestion, "");
		UNIT_EQ(rx->sessions, 16);
		UNIT_EQ(rx->limits.flows, 4096);
	}
	UNIT_CASE("conf: defaults of stream and dest") {
		if (!UNIT_EQ(load(CONF_STREAM, "stream = { dest_ip = \"::1\"; };"), 0))
			break;
		UNIT_STR(text_of(&conf->stream.dest), "[::1]:7000");
		UNIT_STR(conf->stream.file_name, "");
		UNIT_EQ(conf->stream.bytes, 64 << 20);
		UNIT_EQ(conf->stream.duration_s, 0);
		UNIT_EQ(conf->stream.flows, 1);
		UNIT_EQ(conf->stream.direction, CONF_SEND);
		UNIT_EQ(conf->stream.seed, 1);
		UNIT_EQ(conf->stream.verify, true);
		if (!UNIT_EQ(load(CONF_DEST, "dest = { };"), 0))
			break;
		UNIT_EQ(conf->dest.recv_port, 7000);
		UNIT_EQ(conf->dest.flows, 0);
	}
	UNIT_CASE("conf: a duration alone takes the limit of bytes away") {
		UNIT_EQ(load(CONF_STREAM, "stream = { dest_ip = \"::1\"; duration_s = 3; };"), 0);
		UNIT_TRUE(conf && conf->stream.bytes == UINT64_MAX);
		UNIT_EQ(load(CONF_STREAM, "stream = { dest_ip = \"::1\"; duration_s = 3; bytes = 0; };"), 0);
		UNIT_TRUE(conf && conf->stream.bytes == 0);
	}
	UNIT_CASE("conf: less memory makes the default window smaller") {
		UNIT_EQ(load(CONF_RX_PROXY, "rx_proxy = { limits = { memory_bytes = \"2M\"; }; };"), 0);
		UNIT_TRUE(conf && conf->rx.limits.flow_window_bytes == 512 << 10);
	}
}

static void test_values(void)
{
	UNIT_CASE("conf: every key of a path") {
		const struct conf_path *path;

		if (!UNIT_EQ(load(CONF_TX_PROXY,
		                  "tx_proxy = { paths = ( { name = \"a.b-c_1\"; remote_ip = \"2001:db8::2\"; "
		                  "remote_port = 1; local_ip = \"2001:db8::1\"; interface = \"eth0.7\"; "
		                  "mark = 0xffffffff; stripes = \"64\"; congestion = \"reno\"; backup = true; "
		                  "reinject_percent = \"0\"; }, { remote_ip = \"192.0.2.9\"; } ); };"),
		             0) ||
		    !UNIT_EQ(conf->tx.path_count, 2))
			break;
		path = conf->tx.paths;
		UNIT_STR(path[0].name, "a.b-c_1");
		UNIT_STR(text_of(&path[0].remote), "[2001:db8::2]:1");
		UNIT_STR(text_of(&path[0].local), "2001:db8::1");
		UNIT_STR(path[0].interface, "eth0.7");
		UNIT_EQ(path[0].mark, 0xffffffffu);
		UNIT_EQ(path[0].stripes, 64);
		UNIT_STR(path[0].congestion, "reno");
		UNIT_EQ(path[0].backup, true);
		UNIT_EQ(path[0].reinject_percent, 0);
		UNIT_EQ(path[1].reinject_percent, 100);
		UNIT_STR(path[1].name, "path1");
		UNIT_STR(text_of(&path[1].remote), "192.0.2.9:6000");
		UNIT_EQ(conf->tx.rx_proxy.family, ADDR_NONE);
		UNIT_EQ(conf->tx.rx_proxy.port, 0);
	}
	UNIT_CASE("conf: every key of capture") {
		const struct conf_capture *capture;

		if (!UNIT_EQ(load(CONF_TX_PROXY,
		                  TX("capture = { method = \"tproxy\"; queue = 65535; mark = 2147483646; "
		                     "interfaces = [ \"br0\", \"eth1\" ]; sources = ( \"192.0.2.0/25\", \"::/0\" ); "
		                     "open = \"early\"; bypass = ( \"198.51.100.7\" ); };")),
		             0))
			break;
		capture = &conf->tx.capture;
		UNIT_EQ(capture->method, CONF_CAPTURE_TPROXY);
		UNIT_EQ(capture->queue, 65535);
		UNIT_EQ(capture->mark, 0x7ffffffe);
		UNIT_EQ(capture->open, CONF_OPEN_EARLY);
		if (UNIT_EQ(capture->interface_count, 2))
			UNIT_STR(capture->interfaces[1], "eth1");
		if (UNIT_EQ(capture->sources.count, 2)) {
			UNIT_STR(text_of(&capture->sources.items[0].addr), "192.0.2.0");
			UNIT_EQ(capture->sources.items[0].prefix_len, 25);
			UNIT_EQ(capture->sources.items[1].addr.family, ADDR_IPV6);
			UNIT_EQ(capture->sources.items[1].prefix_len, 0);
		}
		if (UNIT_EQ(capture->bypass.count, 1))
			UNIT_EQ(capture->bypass.items[0].prefix_len, 32); /* a host */
	}
	UNIT_CASE("conf: sizes with a suffix, long integers, hexadecimal") {
		UNIT_EQ(load(CONF_RX_PROXY, "rx_proxy = { limits = { memory_bytes = \"3G\"; "
		                            "flow_window_bytes = \"100k\"; flows = 0x10; }; };"),
		        0);
		UNIT_TRUE(conf && conf->rx.limits.memory_bytes == 3ull << 30);
		UNIT_TRUE(conf && conf->rx.limits.flow_window_bytes == 102400);
		UNIT_TRUE(conf && conf->rx.limits.flows == 16);
		UNIT_EQ(load(CONF_RX_PROXY, "rx_proxy = { limits = { memory_bytes = 4294967296; }; };"), 0);
		UNIT_TRUE(conf && conf->rx.limits.memory_bytes == 1ull << 32);
		UNIT_EQ(load(CONF_RX_PROXY, "rx_proxy = { limits = { memory_bytes = 4294967297L; }; };"), 0);
		UNIT_TRUE(conf && conf->rx.limits.memory_bytes == (1ull << 32) + 1);
		UNIT_EQ(load(CONF_STREAM, "stream = { dest_ip = \"::1\"; seed = 18446744073709551615; };"), 0);
		UNIT_TRUE(conf && conf->stream.seed == UINT64_MAX);
	}
	UNIT_CASE("conf: long integers stay what they are in comments, strings and names") {
		UNIT_EQ(load(CONF_STREAM, "/* 12345678901 \" @include */ # 12345678901 \"\n// \"12345678901\n"
		                          "stream = { dest_ip = \"::1\"; file_name = \"a\\\"12345678901 @\"; };"),
		        0);
		UNIT_TRUE(conf && strcmp(conf->stream.file_name, "a\"12345678901 @") == 0);
	}
	UNIT_CASE("conf: an IPv4-mapped address is IPv4") {
		UNIT_EQ(load(CONF_STREAM, "stream = { dest_port = 9; dest_ip = \"::ffff:192.0.2.1\"; };"), 0);
		UNIT_STR(conf ? text_of(&conf->stream.dest) : NULL, "192.0.2.1:9");
	}
	UNIT_CASE("conf: the contents of other groups are not looked at") {
		UNIT_EQ(load(CONF_DEST, "tx_proxy = { nonsense = 1; }; rx_proxy = { recv_port = -1; }; dest = { };"),
		        0);
	}
}

static void test_security(void)
{
	char text[500];

	UNIT_CASE("conf: tx_proxy with a key") {
		snprintf(text, sizeof text,
		         TX("security = { mode = \"psk\"; identity = \"tx1\"; key_file = \"%s\"; };"), fixture_key);
		if (!UNIT_EQ(load(CONF_TX_PROXY, text), 0))
			break;
		UNIT_EQ(conf->tx.security, CONF_SECURITY_PSK);
		UNIT_STR(conf->tx.key.identity, "tx1");
		UNIT_STR(conf->tx.key.key_file, fixture_key);
	}
	UNIT_CASE("conf: rx_proxy with keys") {
		snprintf(text, sizeof text,
		         "rx_proxy = { security = { mode = \"psk\"; keys = ( { identity = \"a\"; key_file = \"%s\"; }, "
		         "{ identity = \"b\"; key_file = \"%s\"; } ); }; source = \"client\"; };",
		         fixture_key, fixture_key);
		if (!UNIT_EQ(load(CONF_RX_PROXY, text), 0))
			break;
		UNIT_EQ(conf->rx.security, CONF_SECURITY_PSK);
		UNIT_EQ(conf->rx.source, CONF_SOURCE_CLIENT);
		if (UNIT_EQ(conf->rx.key_count, 2))
			UNIT_STR(conf->rx.keys[1].identity, "b");
	}
	UNIT_CASE("conf: rx_proxy without keys") {
		UNIT_EQ(load(CONF_RX_PROXY,
		             "rx_proxy = { security = { mode = \"none\"; accept_from = ( \"192.0.2.1\" ); }; };"),
		        0);
		UNIT_TRUE(conf && conf->rx.security == CONF_SECURITY_NONE && conf->rx.accept_from.count == 1);
	}
}

static void test_overrides(void)
{
	UNIT_CASE("conf: an override wins over the file") {
		UNIT_EQ(load_with(CONF_TX_PROXY, TX("local_port = 1;"), "local_port", "65535"), 0);
		UNIT_TRUE(conf && conf->tx.local_port == 65535);
	}
	UNIT_CASE("conf: an override of a nested key") {
		UNIT_EQ(load_with(CONF_TX_PROXY, TX(""), "capture.queue", "3"), 0);
		UNIT_TRUE(conf && conf->tx.capture.queue == 3);
	}
	UNIT_CASE("conf: an override gives a required key") {
		UNIT_EQ(load_with(CONF_TX_PROXY, "tx_proxy = { };", "rx_proxy_ip", "192.0.2.77"), 0);
		UNIT_STR(conf ? text_of(&conf->tx.paths[0].remote) : NULL, "192.0.2.77:6000");
	}
	UNIT_CASE("conf: the last of two overrides counts") {
		const struct conf_override two[] = {{"verify", "no"}, {"verify", "yes"}};

		load(CONF_STREAM, "stream = { dest_ip = \"::1\"; verify = false; };");
		conf_free(conf);
		conf = NULL;
		UNIT_EQ(conf_load(&conf, CONF_STREAM, fixture_conf, two, 2, error), 0);
		UNIT_TRUE(conf && conf->stream.verify);
	}
}

static struct addr addr_of(const char *text)
{
	struct addr addr = {.family = ADDR_NONE};

	sockaddr_parse(&addr, text);
	addr.port = 99; /* ignored by prefixes */
	return addr;
}

static void test_nets(void)
{
	static const struct {
		const char *addr;
		int longest;
	} cases[] = {
	        {"10.0.0.0", 8},         {"10.255.255.255", 8},    {"11.0.0.0", 0}, {"10.1.2.3", 32},
	        {"10.1.2.2", 23},        {"10.1.3.255", 23},       {"10.1.4.0", 8}, {"2001:db8::", 33},
	        {"2001:db8:7fff::", 33}, {"2001:db8:8000::1", -1}, {"::", 128},     {"::1", -1},
	};

	UNIT_CASE("conf: the longest prefix that matches") {
		if (!UNIT_EQ(load(CONF_RX_PROXY,
		                  "rx_proxy = { allow = ( \"0.0.0.0/0\", \"10.1.2.0/23\", \"10.0.0.0/8\", "
		                  "\"10.1.2.3\", \"2001:db8::/33\", \"::/128\" ); };"),
		             0))
			break;
		for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
			struct addr addr = addr_of(cases[i].addr);
			int longest = conf_nets_longest_match(&conf->rx.allow, &addr);

			if (longest != cases[i].longest)
				UNIT_FAIL("%s: %d, not %d", cases[i].addr, longest, cases[i].longest);
			UNIT_EQ(conf_nets_contain(&conf->rx.allow, &addr), cases[i].longest >= 0);
		}
	}
	UNIT_CASE("conf: an empty list of networks holds nothing") {
		struct addr addr = addr_of("10.0.0.0");
		const struct conf_nets none = {NULL, 0};

		UNIT_EQ(conf_nets_longest_match(&none, &addr), -1);
		UNIT_EQ(conf_nets_contain(&none, &addr), false);
	}
}

static void test_sockaddr(void)
{
	UNIT_CASE("sockaddr: text, address and socket address agree") {
		static const char *const texts[] = {"192.0.2.1", "2001:db8::1", "::1", "255.255.255.255"};
		struct sockaddr_storage sa;

		for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
			struct addr addr = addr_of(texts[i]), back;

			UNIT_TRUE(sockaddr_from_addr(&sa, &addr) > 0);
			back = sockaddr_to_addr(&sa);
			UNIT_TRUE(addr_equal(&addr, &back));
			back.port = 0;
			UNIT_STR(text_of(&back), texts[i]);
		}
	}
	UNIT_CASE("sockaddr: what is no address") {
		static const char *const texts[] = {"",          "1.2.3",  "1.2.3.256", "1.2.3.4 ",
		                                    "localhost", "::1%lo", "1.2.3.4:80"};
		struct addr addr = {.family = ADDR_IPV4, .port = 7};

		for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
			if (sockaddr_parse(&addr, texts[i]) != -EINVAL)
				UNIT_FAIL("\"%s\" was taken", texts[i]);
		UNIT_EQ(addr.port, 7);
	}
	UNIT_CASE("sockaddr: none, and a family that is not IP") {
		struct sockaddr_storage sa = {.ss_family = AF_UNIX};
		struct addr addr = sockaddr_to_addr(&sa);

		UNIT_EQ(addr.family, ADDR_NONE);
		UNIT_STR(text_of(&addr), "none");
	}
}

int main(void)
{
	fixture_begin();
	test_original();
	test_defaults();
	test_values();
	test_security();
	test_overrides();
	test_nets();
	test_sockaddr();
	fixture_end();
	return unit_exit();
}
