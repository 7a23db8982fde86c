#include "conf_table.h"

#include <inttypes.h>
#include <string.h>

/* Where a field is, and how large. */
#define FIELD(type, field) .offset = offsetof(struct type, field), .size = sizeof(((struct type *)0)->field)
#define LIST(type, field, count) .offset = offsetof(struct type, field), .count_offset = offsetof(struct type, count)

#define ONE_PORT .type = CONF_TYPE_PORT, .min = 1, .max = UINT16_MAX
#define TEBIBYTE ((uint64_t)1 << 40)

/* Two lines a key: what it is, what it means. */
/* clang-format off */
static const struct conf_choice capture_methods[] = {
	{"redirect", CONF_CAPTURE_REDIRECT}, {"tproxy", CONF_CAPTURE_TPROXY}, {"none", CONF_CAPTURE_NONE}, {NULL, 0}};
static const struct conf_choice opens[] = {{"confirm", CONF_OPEN_CONFIRM}, {"early", CONF_OPEN_EARLY}, {NULL, 0}};
static const struct conf_choice security_modes[] = {{"psk", CONF_SECURITY_PSK}, {"none", CONF_SECURITY_NONE}, {NULL, 0}};
static const struct conf_choice sources[] = {{"proxy", CONF_SOURCE_PROXY}, {"client", CONF_SOURCE_CLIENT}, {NULL, 0}};
static const struct conf_choice directions[] = {
	{"send", CONF_SEND}, {"receive", CONF_RECEIVE}, {"both", CONF_BOTH}, {NULL, 0}};

static const struct conf_row capture_rows[] = {
	{.name = "method", FIELD(conf_capture, method), .type = CONF_TYPE_CHOICE, .choices = capture_methods,
	 .preset = "redirect", .help = "how netfilter hands connections over; none: tx_proxy touches no netfilter"},
	{.name = "queue", FIELD(conf_capture, queue), .type = CONF_TYPE_NUMBER, .max = UINT16_MAX, .preset = "0",
	 .help = "NFQUEUE number"},
	{.name = "mark", FIELD(conf_capture, mark), .type = CONF_TYPE_NUMBER, .min = 1, .max = 0x7ffffffe,
	 .preset = "1", .help = "mark of a SYN that is captured; mark + 1 is that of a refused one"},
	{.name = "interfaces", LIST(conf_capture, interfaces, interface_count), .type = CONF_TYPE_INTERFACES, .max = 64,
	 .help = "where clients' SYNs come in; none named: every interface"},
	{.name = "sources", FIELD(conf_capture, sources), .type = CONF_TYPE_NETS, .max = 1024,
	 .help = "whose connections are captured; none named: everybody's"},
	{.name = "open", FIELD(conf_capture, open), .type = CONF_TYPE_CHOICE, .choices = opens, .preset = "confirm",
	 .help = "confirm: the client is connected when the destination is; early: at once"},
	{.name = "bypass", FIELD(conf_capture, bypass), .type = CONF_TYPE_NETS, .max = 1024,
	 .help = "destinations never captured"},
	{.name = NULL}};
static const struct conf_table capture_table = {capture_rows, sizeof(struct conf_capture)};

static const struct conf_row path_rows[] = {
	{.name = "name", FIELD(conf_path, name), .type = CONF_TYPE_NAME,
	 .help = "for logs and statistics, unique; path0, path1 … where none is given"},
	{.name = "remote_ip", FIELD(conf_path, remote), .type = CONF_TYPE_IP,
	 .help = "rx_proxy's address on this path; without it rx_proxy_ip"},
	{.name = "remote_port", FIELD(conf_path, remote.port), ONE_PORT, .help = "without it rx_proxy_port"},
	{.name = "local_ip", FIELD(conf_path, local), .type = CONF_TYPE_IP,
	 .help = "source address; without it the kernel chooses"},
	{.name = "interface", FIELD(conf_path, interface), .type = CONF_TYPE_INTERFACE, .help = "device to bind to"},
	{.name = "mark", FIELD(conf_path, mark), .type = CONF_TYPE_NUMBER, .max = UINT32_MAX, .preset = "0",
	 .help = "SO_MARK, for policy routing; 0: none"},
	{.name = "stripes", FIELD(conf_path, stripes), .type = CONF_TYPE_NUMBER, .min = 1, .max = CONF_STRIPES_MAX,
	 .preset = "8", .help = "connections to rx_proxy on this path"},
	{.name = "congestion", FIELD(conf_path, congestion), .type = CONF_TYPE_CONGESTION,
	 .help = "congestion control of tx_proxy's side; without it the kernel's default"},
	{.name = "backup", FIELD(conf_path, backup), .type = CONF_TYPE_BOOL, .preset = "false",
	 .help = "carries data only while no other path can"},
	{.name = "reinject_percent", FIELD(conf_path, reinject_percent), .type = CONF_TYPE_NUMBER, .max = 100,
	 .preset = "100", .help = "repeated bytes for a hundred new ones, at most; 0 for a metered path"},
	{.name = NULL}};
static const struct conf_table path_table = {path_rows, sizeof(struct conf_path)};

static const struct conf_row limit_rows[] = {
	{.name = "flows", FIELD(conf_limits, flows), .type = CONF_TYPE_NUMBER, .min = 1, .max = 1000000,
	 .preset = "4096", .help = "flows of one session"},
	{.name = "flow_window_bytes", FIELD(conf_limits, flow_window_bytes), .type = CONF_TYPE_SIZE,
	 .min = 65536, .max = TEBIBYTE, .preset = "16M",
	 .help = "most that one direction of a flow may have under way; at most memory_bytes / 4"},
	{.name = "memory_bytes", FIELD(conf_limits, memory_bytes), .type = CONF_TYPE_SIZE, .min = 1 << 20,
	 .max = TEBIBYTE, .preset = "512M", .help = "all buffers of one session"},
	{.name = "session_timeout_ms", FIELD(conf_limits, session_timeout_ms), .type = CONF_TYPE_NUMBER, .min = 100,
	 .max = 86400000, .preset = "60000", .help = "how long flows wait for a session without any stripe"},
	{.name = NULL}};
static const struct conf_table limits_table = {limit_rows, sizeof(struct conf_limits)};

/* Both security groups stand in their daemon's own struct: offset 0. */
static const struct conf_row tx_security_rows[] = {
	{.name = "mode", FIELD(conf_tx, security), .type = CONF_TYPE_CHOICE, .choices = security_modes,
	 .help = "psk: authenticated by a shared key; none: by address alone"},
	{.name = "identity", FIELD(conf_tx, key.identity), .type = CONF_TYPE_NAME,
	 .help = "this tx_proxy's name at rx_proxy"},
	{.name = "key_file", FIELD(conf_tx, key.key_file), .type = CONF_TYPE_FILE,
	 .help = "the shared key; readable by its owner alone"},
	{.name = NULL}};
static const struct conf_table tx_security_table = {tx_security_rows, sizeof(struct conf_tx)};

static const struct conf_row tx_rows[] = {
	{.name = "local_port", FIELD(conf_tx, local_port), ONE_PORT, .preset = "5000",
	 .help = "where captured connections are delivered"},
	{.name = "rx_proxy_ip", FIELD(conf_tx, rx_proxy), .type = CONF_TYPE_IP,
	 .help = "remote of every path that names none of its own"},
	{.name = "rx_proxy_port", FIELD(conf_tx, rx_proxy.port), ONE_PORT, .preset = "6000", .help = "its port"},
	{.name = "capture", FIELD(conf_tx, capture), .type = CONF_TYPE_GROUP, .table = &capture_table,
	 .help = "which connections are proxied"},
	{.name = "paths", LIST(conf_tx, paths, path_count), .type = CONF_TYPE_GROUPS, .table = &path_table, .min = 1,
	 .max = CONF_PATHS_MAX, .help = "ways to rx_proxy; without the list: one path with 8 stripes"},
	{.name = "security", .type = CONF_TYPE_GROUP, .table = &tx_security_table,
	 .help = "how rx_proxy knows this tx_proxy"},
	{.name = "limits", FIELD(conf_tx, limits), .type = CONF_TYPE_GROUP, .table = &limits_table,
	 .help = "bounds on memory and flows"},
	{.name = NULL}};

static const struct conf_row key_rows[] = {
	{.name = "identity", FIELD(conf_key, identity), .type = CONF_TYPE_NAME, .help = "a tx_proxy's name"},
	{.name = "key_file", FIELD(conf_key, key_file), .type = CONF_TYPE_FILE,
	 .help = "its key; readable by its owner alone"},
	{.name = NULL}};
static const struct conf_table key_table = {key_rows, sizeof(struct conf_key)};

static const struct conf_row rx_security_rows[] = {
	{.name = "mode", FIELD(conf_rx, security), .type = CONF_TYPE_CHOICE, .choices = security_modes,
	 .help = "psk: tx_proxies prove a shared key; none: their address is enough"},
	{.name = "keys", LIST(conf_rx, keys, key_count), .type = CONF_TYPE_GROUPS, .table = &key_table, .min = 1,
	 .max = 1024, .help = "for psk: who may connect"},
	{.name = "accept_from", FIELD(conf_rx, accept_from), .type = CONF_TYPE_NETS, .max = 1024,
	 .help = "for none: the tx_proxies that may connect"},
	{.name = NULL}};
static const struct conf_table rx_security_table = {rx_security_rows, sizeof(struct conf_rx)};

static const struct conf_row rx_rows[] = {
	{.name = "recv_port", FIELD(conf_rx, recv_port), ONE_PORT, .preset = "6000",
	 .help = "where tx_proxies connect"},
	{.name = "dest_ip", FIELD(conf_rx, fixed_dest), .type = CONF_TYPE_IP,
	 .help = "with dest_port: every flow goes there; without: to its original destination"},
	{.name = "dest_port", FIELD(conf_rx, fixed_dest.port), ONE_PORT, .help = "see dest_ip"},
	{.name = "allow", FIELD(conf_rx, allow), .type = CONF_TYPE_NETS, .max = 1024,
	 .help = "destinations; without it all that deny does not name; the longest prefix decides"},
	{.name = "deny", FIELD(conf_rx, deny), .type = CONF_TYPE_NETS, .max = 1024, .help = "destinations refused"},
	{.name = "source", FIELD(conf_rx, source), .type = CONF_TYPE_CHOICE, .choices = sources, .preset = "proxy",
	 .help = "address that the destination sees: rx_proxy's own or the client's"},
	{.name = "congestion", FIELD(conf_rx, congestion), .type = CONF_TYPE_CONGESTION,
	 .help = "congestion control of rx_proxy's side of the stripes; without it the kernel's default"},
	{.name = "security", .type = CONF_TYPE_GROUP, .table = &rx_security_table, .help = "who may connect"},
	{.name = "limits", FIELD(conf_rx, limits), .type = CONF_TYPE_GROUP, .table = &limits_table,
	 .help = "bounds for each session"},
	{.name = "sessions", FIELD(conf_rx, sessions), .type = CONF_TYPE_NUMBER, .min = 1, .max = 1024, .preset = "16",
	 .help = "most sessions at once; one is kept for each key, so at least as many"},
	{.name = NULL}};

static const struct conf_row stream_rows[] = {
	{.name = "dest_ip", FIELD(conf_stream, dest), .type = CONF_TYPE_IP, .help = "where to connect; required"},
	{.name = "dest_port", FIELD(conf_stream, dest.port), ONE_PORT, .preset = "7000", .help = "its port"},
	{.name = "file_name", FIELD(conf_stream, file_name), .type = CONF_TYPE_FILE,
	 .help = "file to send; without it a generated pattern"},
	{.name = "bytes", FIELD(conf_stream, bytes), .type = CONF_TYPE_SIZE, .max = (uint64_t)1 << 60, .preset = "64M",
	 .help = "of the pattern, per flow and direction; without limit where only duration_s is given"},
	{.name = "duration_s", FIELD(conf_stream, duration_s), .type = CONF_TYPE_NUMBER, .max = 1000000, .preset = "0",
	 .help = "seconds after which to stop; 0: when the bytes are sent"},
	{.name = "flows", FIELD(conf_stream, flows), .type = CONF_TYPE_NUMBER, .min = 1, .max = 10000, .preset = "1",
	 .help = "connections at the same time"},
	{.name = "direction", FIELD(conf_stream, direction), .type = CONF_TYPE_CHOICE, .choices = directions,
	 .preset = "send", .help = "who sends the pattern, seen from stream"},
	{.name = "seed", FIELD(conf_stream, seed), .type = CONF_TYPE_NUMBER, .max = UINT64_MAX, .preset = "1",
	 .help = "of the pattern"},
	{.name = "verify", FIELD(conf_stream, verify), .type = CONF_TYPE_BOOL, .preset = "true",
	 .help = "the receiver checks each byte of the pattern"},
	{.name = NULL}};

static const struct conf_row dest_rows[] = {
	{.name = "recv_port", FIELD(conf_dest, recv_port), ONE_PORT, .preset = "7000", .help = "where to listen"},
	{.name = "out", FIELD(conf_dest, out), .type = CONF_TYPE_FILE,
	 .help = "file for received bytes; without it they are dropped"},
	{.name = "log", FIELD(conf_dest, log), .type = CONF_TYPE_FILE,
	 .help = "file for one line per finished flow; without it standard error"},
	{.name = "flows", FIELD(conf_dest, flows), .type = CONF_TYPE_NUMBER, .max = UINT32_MAX, .preset = "0",
	 .help = "stop after so many flows; 0: never"},
	{.name = NULL}};
/* clang-format on */

static const struct {
	const char *name;
	struct conf_table table;
} groups[] = {
        [CONF_TX_PROXY] = {"tx_proxy", {tx_rows, sizeof(struct conf_tx)}},
        [CONF_RX_PROXY] = {"rx_proxy", {rx_rows, sizeof(struct conf_rx)}},
        [CONF_STREAM] = {"stream", {stream_rows, sizeof(struct conf_stream)}},
        [CONF_DEST] = {"dest", {dest_rows, sizeof(struct conf_dest)}},
};

const struct conf_table *conf_table_of(enum conf_group group)
{
	return &groups[group].table;
}

const char *conf_group_name(enum conf_group group)
{
	return groups[group].name;
}

const struct conf_row *conf_table_find(const struct conf_table *table, const char *name, size_t len)
{
	for (const struct conf_row *row = table->rows; row->name; row++)
		if (strlen(row->name) == len && memcmp(row->name, name, len) == 0)
			return row;
	return NULL;
}

static void describe_choices(const struct conf_choice *choice, char buf[CONF_EXPECTED_MAX])
{
	size_t used = 0;

	for (; choice->name && used < CONF_EXPECTED_MAX; choice++)
		used += (size_t)snprintf(buf + used, CONF_EXPECTED_MAX - used, "\"%s\"%s", choice->name,
		                         !choice[1].name  ? ""
		                         : choice[2].name ? ", "
		                                          : " or ");
}

const char *conf_row_expected(const struct conf_row *row, char buf[CONF_EXPECTED_MAX])
{
	static const char *const fixed[] = {
	        [CONF_TYPE_BOOL] = "true or false",
	        [CONF_TYPE_CONGESTION] = "the name of a congestion control",
	        [CONF_TYPE_IP] = "an IPv4 or IPv6 address",
	        [CONF_TYPE_GROUP] = "a group { key = value; … }",
	        [CONF_TYPE_NETS] = "a list ( \"10.0.0.0/8\", … ) of networks",
	        [CONF_TYPE_INTERFACES] = "a list ( \"eth0\", … ) of interfaces",
	};

	switch (row->type) {
	case CONF_TYPE_NUMBER:
		snprintf(buf, CONF_EXPECTED_MAX, "a number, %" PRIu64 "..%" PRIu64, row->min, row->max);
		break;
	case CONF_TYPE_PORT:
		snprintf(buf, CONF_EXPECTED_MAX, "a port, %" PRIu64 "..%" PRIu64, row->min, row->max);
		break;
	case CONF_TYPE_SIZE:
		snprintf(buf, CONF_EXPECTED_MAX,
		         "a size, %" PRIu64 "..%" PRIu64 " bytes, or with k, M or G as in \"16M\"", row->min, row->max);
		break;
	case CONF_TYPE_CHOICE:
		describe_choices(row->choices, buf);
		break;
	case CONF_TYPE_FILE:
		snprintf(buf, CONF_EXPECTED_MAX, "a file name of 1 to %zu bytes", row->size - 1);
		break;
	case CONF_TYPE_NAME:
		snprintf(buf, CONF_EXPECTED_MAX, "a name of 1 to %zu letters, digits, '.', '_', '-'", row->size - 1);
		break;
	case CONF_TYPE_INTERFACE:
		snprintf(buf, CONF_EXPECTED_MAX, "the name of an interface, at most %d bytes", IFNAMSIZ - 1);
		break;
	case CONF_TYPE_GROUPS:
		snprintf(buf, CONF_EXPECTED_MAX, "a list ( { … }, … ) of %" PRIu64 " to %" PRIu64 " groups", row->min,
		         row->max);
		break;
	default:
		snprintf(buf, CONF_EXPECTED_MAX, "%s", fixed[row->type]);
	}
	return buf;
}
