/* Every mistake in a configuration has a message of its own that names place, mistake and expectation. */
#include "../unit/unit.h"
#include "conf_fixture.h"

/* libconfig's scanner forgets the string that it is in when it meets a syntax error. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:strbuf_append";
}

#define TX(keys) "tx_proxy = { rx_proxy_ip = \"192.0.2.2\";\n" keys "\n};"
#define RX(keys) "rx_proxy = {\n" keys "\n};"
#define STREAM(keys) "stream = { dest_ip = \"192.0.2.2\";\n" keys "\n};"
/* A name one byte longer than the longest. */
#define LONG_NAME "abcdefghijklmnopqrstuvwxyz012345"

/* clang-format off */
static const struct wrong {
	const char *name;
	enum conf_group group;
	const char *text; /* KEY stands for the good key file */
	const char *has[3]; /* in the message */
} wrongs[] = {
	/* the file as a whole */
	{"syntax error", CONF_DEST, "dest = {\n flows = 1;\n recv_port 1;\n};", {"n.conf:3: ", "syntax error"}},
	{"syntax error of another's group", CONF_DEST, "dest = { };\nstream = {\n =", {"n.conf:3: ", "syntax error"}},
	{"key given twice", CONF_DEST, "dest = {\n flows = 1;\n flows = 2;\n};", {"n.conf:3: ", "duplicate"}},
	{"unfinished string", CONF_DEST, "dest = { out = \"x; };", {"n.conf:1: ", "syntax error"}},
	{"include", CONF_DEST, "dest = { };\n@include \"x\"\n", {"n.conf:2: ", "@include"}},
	{"group is missing", CONF_DEST, "stream = { };", {"n.conf: ", "no group \"dest\""}},
	{"empty file", CONF_DEST, "", {"n.conf: ", "no group \"dest\""}},
	{"unknown group", CONF_DEST, "dest = { };\ntx_prxy = { };",
	 {"n.conf:2: tx_prxy", "unknown group", "tx_proxy, rx_proxy"}},
	{"scalar for a group", CONF_DEST, "dest = 5;", {"n.conf:1: dest", "is a number", "expected a group"}},
	/* keys */
	{"unknown key", CONF_TX_PROXY, TX("local_prot = 5;"),
	 {"n.conf:2: tx_proxy.local_prot", "unknown key", "local_port"}},
	{"unknown key of a nested group", CONF_TX_PROXY, TX("capture = {\n qeue = 1; };"),
	 {"n.conf:3: tx_proxy.capture.qeue", "unknown key \"qeue\"", "method, queue"}},
	{"unknown key of a path", CONF_TX_PROXY, TX("paths = ( { }, {\n stripe = 1; } );"),
	 {"n.conf:3: tx_proxy.paths[1].stripe", "unknown key", "stripes"}},
	{"missing required key", CONF_TX_PROXY, "tx_proxy = { };", {"n.conf:1: tx_proxy", "rx_proxy_ip is missing"}},

	 {"missing remote of one path", CONF_TX_PROXY, "tx_proxy = {\n paths = ( { remote_ip = \"::1\"; },\n { } );\n};",
	 {"tx_proxy.paths[1]", "rx_proxy_ip is missing", "remote_ip"}},
	{"missing destination", CONF_STREAM, "stream = { };", {"n.conf:1: stream", "dest_ip is missing"}},
	/* types */
	{"boolean for a number", CONF_TX_PROXY, TX("local_port = true;"),
	 {"n.conf:2: ", "is a boolean", "expected a port"}},
	{"fraction for a number", CONF_TX_PROXY, TX("local_port = 5.5;"),
	 {"n.conf:2: ", "is a fraction", "expected a port"}},
	{"list for a number", CONF_TX_PROXY, TX("local_port = ( 5 );"),
	 {"n.conf:2: ", "is a list", "expected a port"}},
	{"word for a number", CONF_TX_PROXY, TX("local_port = \"five\";"), {"n.conf:2: ", "\"five\" is not a number"}},
	{"empty string for a number", CONF_TX_PROXY, TX("local_port = \"\";"), {"n.conf:2: ", "\"\" is not a number"}},
	{"blank before a number", CONF_TX_PROXY, TX("local_port = \" 5\";"), {"n.conf:2: ", "\" 5\" is not a number"}},
	{"suffix on a number", CONF_TX_PROXY, TX("local_port = \"5k\";"), {"n.conf:2: ", "\"5k\" is not a number"}},
	{"unknown suffix of a size", CONF_RX_PROXY, RX("limits = { memory_bytes = \"5T\"; };"),
	 {"n.conf:2: rx_proxy.limits.memory_bytes", "\"5T\" is not a number", "k, M or G"}},
	{"number for a boolean", CONF_STREAM, STREAM("verify = 1;"), {"n.conf:2: ", "is a number", "true or false"}},
	{"number for an address", CONF_TX_PROXY, "tx_proxy = { rx_proxy_ip = 5; };",
	 {"n.conf:1: ", "is a number", "address"}},
	{"string for a list", CONF_TX_PROXY, TX("capture = { sources = \"::/0\"; };"),
	 {"n.conf:2: ", "is a string", "a list"}},
	{"group for a list", CONF_TX_PROXY, TX("paths = { };"), {"n.conf:2: ", "is a group", "a list"}},
	{"list for a group", CONF_TX_PROXY, TX("limits = ( );"), {"n.conf:2: ", "is a list", "a group"}},
	{"string for a path", CONF_TX_PROXY, TX("paths = ( \"x\" );"), {"paths[0]", "is a string", "a group"}},
	{"number for a network", CONF_RX_PROXY, RX("allow = ( 5 );"), {"allow[0]", "is a number", "ADDRESS/PREFIX"}},
	/* ranges */
	{"port 0", CONF_TX_PROXY, TX("local_port = 0;"), {"n.conf:2: ", "0 is out of range", "1..65535"}},
	{"port 65536", CONF_TX_PROXY, TX("local_port = 65536;"), {"n.conf:2: ", "65536 is out of range", "1..65535"}},
	{"negative port", CONF_TX_PROXY, TX("local_port = -1;"), {"n.conf:2: ", "-1 is out of range", "1..65535"}},
	{"port as a string", CONF_RX_PROXY, RX("recv_port = \"99999\";"),
	 {"n.conf:2: ", "99999 is out of range", "1..65535"}},
	{"port that 32 bits would cut to 5000", CONF_TX_PROXY, TX("local_port = 4294972296;"),
	 {"4294972296 is out of range"}},
	{"port beyond 64 bits", CONF_TX_PROXY, TX("local_port = 18446744073709556616;"), {"is out of range"}},
	{"size that overflows by its suffix", CONF_RX_PROXY, RX("limits = { memory_bytes = \"17179869185G\"; };"),
	 {"17179869185G is out of range"}},
	{"queue", CONF_TX_PROXY, TX("capture = { queue = 65536; };"), {"capture.queue", "0..65535"}},
	{"capture mark 0", CONF_TX_PROXY, TX("capture = { mark = 0; };"), {"capture.mark", "1..2147483646"}},
	{"capture mark without room", CONF_TX_PROXY, TX("capture = { mark = 0x7fffffff; };"),
	 {"capture.mark", "1..2147483646"}},
	{"path mark", CONF_TX_PROXY, TX("paths = ( { mark = 0x100000000; } );"), {"paths[0].mark", "0..4294967295"}},
	{"no stripes", CONF_TX_PROXY, TX("paths = ( { stripes = 0; } );"), {"paths[0].stripes", "1..64"}},
	{"too many stripes", CONF_TX_PROXY, TX("paths = ( { stripes = 65; } );"), {"paths[0].stripes", "1..64"}},
	{"more reinjection than there is", CONF_TX_PROXY, TX("paths = ( { },\n{ reinject_percent = 101; } );"),
	 {"n.conf:3: tx_proxy.paths[1].reinject_percent", "101", "0..100"}},
	{"less reinjection than none", CONF_TX_PROXY, TX("paths = (\n{ reinject_percent = -1; } );"),
	 {"n.conf:3: tx_proxy.paths[0].reinject_percent", "-1", "0..100"}},
	{"reinjection in words", CONF_TX_PROXY, TX("paths = ( { reinject_percent = true; } );"),
	 {"n.conf:2: tx_proxy.paths[0].reinject_percent", "number"}},
	{"too many stripes of all paths", CONF_TX_PROXY,
	 TX("paths = ( { stripes = 64; }, { stripes = 64; }, { stripes = 64; }, { stripes = 64; }, { stripes = 1; } );"),
	 {"n.conf:2: tx_proxy.paths", "257 stripes", "at most 256"}},
	{"no paths", CONF_TX_PROXY, TX("paths = ( );"), {"tx_proxy.paths", "has 0 items", "1 to 16"}},
	{"17 paths", CONF_TX_PROXY, TX("paths = ({},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{});"),
	 {"17 items", "1 to 16"}},
	{"little memory", CONF_RX_PROXY, RX("limits = { memory_bytes = \"1023k\"; };"),
	 {"1023k is out of range", "1048576"}},
	{"small window", CONF_RX_PROXY, RX("limits = { flow_window_bytes = 65535; };"),
	 {"65535 is out of range", "65536"}},
	{"window beyond a quarter of memory", CONF_RX_PROXY,
	 RX("limits = { memory_bytes = \"4M\";\n flow_window_bytes = 1048577; };"),
	 {"n.conf:3: rx_proxy.limits.flow_window_bytes", "a quarter of memory_bytes", "at most 1048576"}},
	{"short timeout", CONF_TX_PROXY, TX("limits = { session_timeout_ms = 99; };"),
	 {"session_timeout_ms", "100..86400000"}},
	{"no flows", CONF_STREAM, STREAM("flows = 0;"), {"stream.flows", "1..10000"}},
	{"no sessions", CONF_RX_PROXY, RX("sessions = 0;"), {"rx_proxy.sessions", "1..1024"}},
	/* words */
	{"capture method", CONF_TX_PROXY, TX("capture = { method = \"nat\"; };"),
	 {"\"nat\" is unknown", "\"tproxy\" or \"none\""}},
	{"open", CONF_TX_PROXY, TX("capture = { open = \"late\"; };"), {"\"late\"", "\"confirm\" or \"early\""}},
	{"source", CONF_RX_PROXY, RX("source = \"\";"), {"rx_proxy.source", "\"proxy\" or \"client\""}},
	{"direction", CONF_STREAM, STREAM("direction = \"up\";"), {"\"send\", \"receive\" or \"both\""}},
	{"unknown congestion control", CONF_TX_PROXY, TX("paths = ( {\n congestion = \"bbr9\"; } );"),
	 {"n.conf:3: tx_proxy.paths[0].congestion", "unknown congestion control \"bbr9\"", "offers: "}},
	{"part of a congestion control's name", CONF_RX_PROXY, RX("congestion = \"ren\";"),
	 {"unknown congestion control \"ren\""}},
	{"congestion control that is none", CONF_RX_PROXY, RX("congestion = \"a/b\";"), {"cannot be the name"}},
	{"long congestion control", CONF_RX_PROXY, RX("congestion = \"abcdefghijklmnop\";"), {"cannot be the name"}},
	{"path name", CONF_TX_PROXY, TX("paths = ( { name = \"a b\"; } );"), {"\"a b\" is no valid name", "letters"}},
	{"long path name", CONF_TX_PROXY, TX("paths = ( { name = \"" LONG_NAME "\"; } );"), {"too long", "1 to 31"}},
	{"duplicate path name", CONF_TX_PROXY, TX("paths = ( { name = \"a\"; },\n { name = \"a\"; } );"),
	 {"n.conf:3: tx_proxy.paths[1].name", "\"a\"", "unique"}},
	{"path name that another path gets by itself", CONF_TX_PROXY, TX("paths = ( { name = \"path1\"; }, { } );"),
	 {"unique"}},
	{"long interface", CONF_TX_PROXY, TX("paths = ( { interface = \"abcdefghijklmnop\"; } );"),
	 {"interface", "too long", "15"}},
	{"interface", CONF_TX_PROXY, TX("capture = { interfaces = ( \"br0\", \"a/b\" ); };"),
	 {"interfaces[1]", "no valid name"}},
	{"empty file name", CONF_DEST, "dest = { out = \"\"; };", {"dest.out", "is empty"}},
	/* addresses */
	{"remote that is nobody's", CONF_TX_PROXY, "tx_proxy = {\n rx_proxy_ip = \"0.0.0.0\"; };",
	 {"n.conf:2: tx_proxy.rx_proxy_ip", "nobody's address"}},
	{"remote of a path that is nobody's", CONF_TX_PROXY, TX("paths = ( { name = \"a\";\n remote_ip = \"ff02::1\"; } );"),
	 {"n.conf:3: tx_proxy.paths[0].remote_ip", "nobody's address"}},
	{"bad address", CONF_TX_PROXY, "tx_proxy = { rx_proxy_ip = \"192.0.2.256\"; };",
	 {"n.conf:1: ", "is not an address"}},
	{"host name", CONF_STREAM, "stream = { dest_ip = \"localhost\"; };", {"\"localhost\" is not an address"}},
	{"network without address", CONF_RX_PROXY, RX("allow = ( \"/8\" );"), {"allow[0]", "is not a network"}},
	{"network with a name", CONF_RX_PROXY, RX("deny = ( \"::/0\",\n\"lan/8\" );"),
	 {"n.conf:3: rx_proxy.deny[1]", "\"lan/8\""}},
	{"prefix of IPv4", CONF_RX_PROXY, RX("allow = ( \"0.0.0.0/33\" );"), {"prefix length", "0..32"}},
	{"prefix of IPv6", CONF_RX_PROXY, RX("allow = ( \"::/129\" );"), {"prefix length", "0..128"}},
	{"empty prefix", CONF_RX_PROXY, RX("allow = ( \"10.0.0.0/\" );"), {"prefix length", "0..32"}},
	{"prefix that is no number", CONF_RX_PROXY, RX("allow = ( \"10.0.0.0/8x\" );"), {"prefix length", "0..32"}},
	{"long prefix", CONF_RX_PROXY, RX("allow = ( \"10.0.0.0/00000000000000000008\" );"), {"prefix length"}},
	{"bits beyond the prefix", CONF_RX_PROXY, RX("allow = ( \"10.1.2.3/8\" );"), {"bits beyond", "10.0.0.0/8"}},
	{"families of one path", CONF_TX_PROXY, TX("paths = ( {\n local_ip = \"::1\"; } );"),
	 {"n.conf:3: tx_proxy.paths[0].local_ip", "is IPv6", "IPv4"}},
	{"dest_ip alone", CONF_RX_PROXY, RX("dest_ip = \"::1\";"),
	 {"n.conf:2: rx_proxy.dest_ip", "dest_port is missing"}},
	{"dest_port alone", CONF_RX_PROXY, RX("dest_port = 5;"),
	 {"n.conf:2: rx_proxy.dest_port", "dest_ip is missing"}},
	/* security */
	{"security without mode", CONF_TX_PROXY, TX("security = { };"),
	 {"tx_proxy.security", "mode is missing", "\"psk\""}},
	{"security of rx_proxy without mode", CONF_RX_PROXY, RX("security = { accept_from = ( ); };"),
	 {"mode is missing"}},
	{"psk without identity", CONF_TX_PROXY, TX("security = { mode = \"psk\"; key_file = \"KEY\"; };"),
	 {"identity is missing"}},
	{"psk without key_file", CONF_TX_PROXY, TX("security = { mode = \"psk\"; identity = \"a\"; };"),
	 {"key_file is missing"}},
	{"psk without keys", CONF_RX_PROXY, RX("security = { mode = \"psk\"; };"), {"keys is missing"}},
	{"psk with an empty list of keys", CONF_RX_PROXY, RX("security = { mode = \"psk\"; keys = ( ); };"),
	 {"1 to 1024"}},
	{"psk with accept_from", CONF_RX_PROXY,
	 RX("security = { mode = \"psk\"; accept_from = ( \"::1\" );\n"
	    "keys = ( { identity = \"a\"; key_file = \"KEY\"; } ); };"),
	 {"security.accept_from", "mode \"none\" alone"}},
	{"identity given twice", CONF_RX_PROXY,
	 RX("security = { mode = \"psk\"; keys = ( { identity = \"a\"; key_file = \"KEY\"; },\n"
	    "{ identity = \"a\"; key_file = \"KEY\"; } ); };"),
	 {"n.conf:3: rx_proxy.security.keys[1].identity", "\"a\"", "unique"}},
	{"more keys than sessions", CONF_RX_PROXY,
	 RX("sessions = 1; security = { mode = \"psk\"; keys = ( { identity = \"a\"; key_file = \"KEY\"; },\n"
	    "{ identity = \"b\"; key_file = \"KEY\"; } ); };"),
	 {"n.conf:2: rx_proxy.sessions", "1 sessions for 2 keys", "at least"}},
	{"key file that does not exist", CONF_RX_PROXY,
	 RX("security = { mode = \"psk\"; keys = ( {\n identity = \"a\";\n key_file = \"KEY.not\"; } ); };"),
	 {"n.conf:4: rx_proxy.security.keys[0].key_file", "cannot be read: No such file"}},
	{"key file that is a directory", CONF_TX_PROXY,
	 TX("security = { mode = \"psk\"; identity = \"a\"; key_file = \"/tmp\"; };"),
	 {"not a regular file"}},
};

/* A good file with a wrong override. */
static const struct wrong_override {
	const char *name;
	enum conf_group group;
	const char *key, *value;
	const char *has[3];
} wrong_overrides[] = {
	{"out of range", CONF_TX_PROXY, "local_port", "99999",
	 {"--local_port=99999: 99999 is out of range", "1..65535"}},
	{"of a wrong type", CONF_STREAM, "verify", "2", {"--verify=2: \"2\" is neither true nor false"}},
	{"empty", CONF_STREAM, "flows", "", {"--flows=: ", "is not a number"}},
	{"of an unknown key", CONF_STREAM, "flow", "1", {"--flow=1: ", "unknown key \"flow\"", "flows"}},
	{"of an unknown nested key", CONF_TX_PROXY, "limits.x", "1", {"--limits.x=1: ", "unknown key"}},
	{"of a group", CONF_TX_PROXY, "limits", "1", {"--limits=1: ", "is a group", "--limits.KEY=value"}},
	{"of a list", CONF_TX_PROXY, "paths", "1", {"--paths=1: ", "is a list", "file"}},
	{"beneath a list", CONF_TX_PROXY, "paths.0.mark", "1", {"--paths.0.mark=1: ", "is a list"}},
	{"beneath a scalar", CONF_TX_PROXY, "local_port.x", "1", {"--local_port.x=1: ", "no group"}},
	{"with an empty part", CONF_TX_PROXY, "limits.", "1", {"--limits.=1: ", "unknown key"}},
	{"without a name", CONF_TX_PROXY, "", "1", {"unknown key \"\""}},
	{"that contradicts", CONF_RX_PROXY, "limits.flow_window_bytes", "1G",
	 {"--limits.flow_window_bytes=1G: ", "a quarter"}},
	{"of half a destination", CONF_RX_PROXY, "dest_ip", "::1", {"--dest_ip=::1: ", "dest_port is missing"}},
	{"of the identity alone", CONF_TX_PROXY, "security.identity", "a", {"mode is missing"}},
};
/* clang-format on */

/* `text` with the name of the good key file for KEY. */
static const char *expand(const char *text)
{
	static char out[2000];
	size_t used = 0;

	while (*text && used < sizeof out - sizeof fixture_key) {
		if (strncmp(text, "KEY", 3) == 0) {
			used += (size_t)sprintf(out + used, "%s", fixture_key);
			text += 3;
		} else {
			out[used++] = *text++;
		}
	}
	out[used] = '\0';
	return out;
}

static void check_error(int err, const char *const has[3])
{
	UNIT_EQ(err, -EINVAL);
	for (size_t i = 0; i < 3 && has[i]; i++)
		UNIT_HAS(error, has[i]);
	UNIT_TRUE(!strchr(error, '\n'));
}

static void test_wrongs(void)
{
	for (size_t i = 0; i < sizeof wrongs / sizeof *wrongs; i++)
		UNIT_CASE("conf is refused: %s", wrongs[i].name)
			check_error(load(wrongs[i].group, expand(wrongs[i].text)), wrongs[i].has);
}

static void test_wrong_overrides(void)
{
	static const char *const good[] = {
	        [CONF_TX_PROXY] = TX(""), [CONF_RX_PROXY] = RX(""), [CONF_STREAM] = STREAM("")};

	for (size_t i = 0; i < sizeof wrong_overrides / sizeof *wrong_overrides; i++) {
		const struct wrong_override *wrong = &wrong_overrides[i];

		UNIT_CASE("conf is refused: override %s", wrong->name)
			check_error(load_with(wrong->group, good[wrong->group], wrong->key, wrong->value), wrong->has);
	}
}

static int load_file(enum conf_group group, const char *name)
{
	int err;

	conf_free(conf);
	conf = NULL;
	err = conf_load(&conf, group, name, NULL, 0, error);
	UNIT_TRUE(err == 0 || conf == NULL);
	return err;
}

/* Root may read every file: then, as another user. */
static int load_as_nobody(enum conf_group group, const char *name)
{
	bool root = geteuid() == 0;
	int err;

	if (root && (chmod(fixture_dir, 0711) < 0 || seteuid(65534) < 0))
		UNIT_FAIL("cannot become another user: %s", strerror(errno));
	err = load_file(group, name);
	if (root && seteuid(0) < 0)
		UNIT_FAIL("cannot become root again: %s", strerror(errno));
	return err;
}

static int load_key_mode(mode_t mode, const char *key_text)
{
	char text[300];

	write_file(fixture_key, key_text, strlen(key_text), mode);
	snprintf(text, sizeof text, TX("security = { mode = \"psk\"; identity = \"a\"; key_file = \"%s\"; };"),
	         fixture_key);
	return load(CONF_TX_PROXY, text);
}

static void test_key_files(void)
{
	static const mode_t open_modes[] = {0640, 0604, 0620, 0602, 0610, 0601, 0666};

	for (size_t i = 0; i < sizeof open_modes / sizeof *open_modes; i++)
		UNIT_CASE("conf is refused: key file of mode %03o", (unsigned)open_modes[i]) {
			UNIT_EQ(load_key_mode(open_modes[i], "x"), -EINVAL);
			UNIT_HAS(error, "open to others");
			UNIT_HAS(error, "tx_proxy.security.key_file");
		}
	UNIT_CASE("conf: key files of mode 600 and 400") {
		UNIT_EQ(load_key_mode(0600, KEY_TEXT), 0);
		chmod(fixture_key, 0600);
		unlink(fixture_key);
		UNIT_EQ(load_key_mode(0400, KEY_TEXT), 0);
		unlink(fixture_key);
	}
	UNIT_CASE("conf is refused: empty key file") {
		UNIT_EQ(load_key_mode(0600, ""), -EINVAL);
		UNIT_HAS(error, "is empty");
	}
	UNIT_CASE("conf is refused: unreadable key file") {
		char text[300];

		snprintf(text, sizeof text, TX("security = { mode = \"psk\"; identity = \"a\"; key_file = \"%s\"; };"),
		         fixture_key);
		write_file(fixture_key, "x", 1, 0000);
		write_file(fixture_conf, text, strlen(text), 0644);
		UNIT_EQ(load_as_nobody(CONF_TX_PROXY, fixture_conf), -EINVAL);
		UNIT_HAS(error, "cannot be read: Permission denied");
	}
}

static void test_files(void)
{
	UNIT_CASE("conf is refused: file that does not exist") {
		UNIT_EQ(load_file(CONF_DEST, "/nonexistent/n.conf"), -ENOENT);
		UNIT_HAS(error, "/nonexistent/n.conf: cannot be read: No such file");
	}
	UNIT_CASE("conf is refused: directory for a file") {
		UNIT_EQ(load_file(CONF_DEST, "/tmp"), -EINVAL);
		UNIT_HAS(error, "/tmp: cannot be read: Is a directory");
	}
	UNIT_CASE("conf is refused: file without permission") {
		write_file(fixture_conf, "dest = { };", 11, 0000);
		UNIT_EQ(load_as_nobody(CONF_DEST, fixture_conf), -EACCES);
		UNIT_HAS(error, "cannot be read: Permission denied");
		chmod(fixture_conf, 0600);
	}
	UNIT_CASE("conf is refused: zero byte") {
		write_file(fixture_conf, "dest = { };\0", 12, 0600);
		UNIT_EQ(load_file(CONF_DEST, fixture_conf), -EINVAL);
		UNIT_HAS(error, "zero byte");
	}
	UNIT_CASE("conf is refused: endless file") {
		UNIT_EQ(load_file(CONF_DEST, "/dev/zero"), -EINVAL);
		UNIT_HAS(error, "too large");
	}
	UNIT_CASE("conf is refused: no file in the default places") {
		if (access("/etc/pair_proxy/network.conf", F_OK) == 0) {
			unit_skip("/etc/pair_proxy/network.conf exists");
			break;
		}
		if (!UNIT_EQ(chdir(fixture_dir), 0))
			break;
		UNIT_EQ(load_file(CONF_DEST, NULL), -ENOENT);
		UNIT_HAS(error, "./network.conf");
		UNIT_HAS(error, "/etc/pair_proxy/network.conf");
		UNIT_HAS(error, "-c FILE");
	}
	UNIT_CASE("conf is refused: a long file name does not hide the message") {
		char name[2000];

		memset(name, 'a', sizeof name);
		name[sizeof name - 1] = '\0';
		UNIT_EQ(load_file(CONF_DEST, name), -EINVAL);
		UNIT_HAS(error, "aaa: cannot be read: File name too long");
	}
}

/* A file cut anywhere, or with a byte changed, is loaded or refused with a message. */
static void test_damage(void)
{
	static const char whole[] =
	        "tx_proxy = { rx_proxy_ip = \"192.0.2.2\"; capture = { mark = 0x1; sources = ( \"10.0.0.0/8\" ); };\n"
	        "/* c */ paths = ( { name = \"a\"; remote_port = \"6000\"; mark = 12345678901L; }, { stripes = 4; } "
	        ");\n"
	        "limits = { memory_bytes = \"64M\"; }; security = { mode = \"none\"; }; }; # end\n";
	char text[sizeof whole];
	unsigned silent = 0, loaded = 0;

	UNIT_CASE("conf: a file cut at any byte") {
		for (size_t len = 0; len < sizeof whole - 1; len++) {
			memcpy(text, whole, len);
			text[len] = '\0';
			silent += load(CONF_TX_PROXY, text) < 0 && !error[0];
			loaded += conf != NULL;
		}
		UNIT_EQ(silent, 0);
		UNIT_EQ(loaded, 0); /* path mark is out of range: never valid */
	}
	UNIT_CASE("conf: a file with any byte changed") {
		static const char bytes[] = "\"{}();=,/*@#9L-.a\n\\\x80";
		enum { TRIES = 4 }; /* for each position; together they go through all of bytes[] */

		for (size_t i = 0; i < (sizeof whole - 1) * TRIES; i++) {
			memcpy(text, whole, sizeof whole);
			text[i / TRIES] = bytes[i % (sizeof bytes - 1)];
			silent += load(CONF_TX_PROXY, text) < 0 && !error[0];
		}
		UNIT_EQ(silent, 0);
	}
}

int main(void)
{
	fixture_begin();
	test_wrongs();
	test_wrong_overrides();
	test_key_files();
	test_damage();
	test_files();
	fixture_end();
	return unit_exit();
}
