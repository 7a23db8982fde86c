#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "conf_table.h"
#include "psk.h"

/* The place of a key with an index: place_at(reader, "paths.[%zu].name", i). */
__attribute__((format(printf, 2, 3))) static struct conf_place place_at(const struct conf_reader *reader,
                                                                        const char *format, ...)
{
	char key[64];
	va_list args;

	va_start(args, format);
	vsnprintf(key, sizeof key, format, args);
	va_end(args);
	return conf_place_of(reader, key);
}

static int check_key_file(struct conf_reader *reader, struct conf_place at, const char *name)
{
	char error[PSK_ERROR_MAX];
	struct psk psk;
	int err = psk_read(&psk, name, error);

	explicit_bzero(&psk, sizeof psk);
	return err ? conf_fail(reader, at, "%s", error) : 0;
}

static int check_limits(struct conf_reader *reader, struct conf_limits *limits)
{
	uint64_t quarter = limits->memory_bytes / 4;

	if (limits->flow_window_bytes <= quarter)
		return 0;
	if (conf_given(reader, "limits.flow_window_bytes"))
		return conf_fail(reader, conf_place_of(reader, "limits.flow_window_bytes"),
		                 "%llu is more than a quarter of memory_bytes (%llu); expected at most %llu",
		                 (unsigned long long)limits->flow_window_bytes,
		                 (unsigned long long)limits->memory_bytes, (unsigned long long)quarter);
	limits->flow_window_bytes = quarter;
	return 0;
}

/* A security group that names no mode would be half of a decision. */
static int check_security_mode(struct conf_reader *reader, enum conf_security_mode mode, bool anything_given)
{
	if (mode == CONF_SECURITY_UNSET && (anything_given || conf_given(reader, "security")))
		return conf_fail(reader, conf_place_of(reader, "security"),
		                 "mode is missing; expected \"psk\" or \"none\"");
	return 0;
}

static int check_key(struct conf_reader *reader, struct conf_place at, struct conf_place file_at,
                     const struct conf_key *key)
{
	if (!key->identity[0])
		return conf_fail(reader, at, "identity is missing; mode \"psk\" needs identity and key_file");
	if (!key->key_file[0])
		return conf_fail(reader, at, "key_file is missing; mode \"psk\" needs identity and key_file");
	return check_key_file(reader, file_at, key->key_file);
}

/* One can connect to it: neither "any" nor multicast nor broadcast. */
static bool is_a_host(const struct addr *addr)
{
	static const uint8_t none[sizeof addr->ip], all[4] = {255, 255, 255, 255};
	if (addr->family == ADDR_IPV4)
		return memcmp(addr->ip, none, 4) != 0 && memcmp(addr->ip, all, 4) != 0 && addr->ip[0] >> 4 != 14;
	return memcmp(addr->ip, none, sizeof none) != 0 && addr->ip[0] != 255;
}

/* Names and remotes that a path takes from its surroundings. */
static int complete_path(struct conf_reader *reader, struct conf_path *path, size_t i)
{
	const struct conf_tx *tx = &reader->conf->tx;
	struct conf_place at = place_at(reader, "paths.[%zu]", i);
	uint16_t port = path->remote.port;
	bool own = path->remote.family != ADDR_NONE;

	if (!own) {
		if (tx->rx_proxy.family == ADDR_NONE)
			return conf_fail(reader, at,
			                 "rx_proxy_ip is missing; every path without a remote_ip of its own needs it");
		path->remote = tx->rx_proxy;
	}
	if (!is_a_host(&path->remote))
		return conf_fail(reader,
		                 own ? place_at(reader, "paths.[%zu].remote_ip", i) : place_at(reader, "rx_proxy_ip"),
		                 "is nobody's address; expected that of rx_proxy");
	path->remote.port = port ? port : tx->rx_proxy.port;
	if (!path->name[0])
		snprintf(path->name, sizeof path->name, "path%zu", i);
	if (path->local.family != ADDR_NONE && path->local.family != path->remote.family)
		return conf_fail(reader, place_at(reader, "paths.[%zu].local_ip", i),
		                 "is IPv%d, but the remote address is IPv%d; expected the same family",
		                 path->local.family, path->remote.family);
	for (size_t j = 0; j < i; j++)
		if (strcmp(tx->paths[j].name, path->name) == 0)
			return conf_fail(reader, place_at(reader, "paths.[%zu].name", i),
			                 "\"%s\" is the name of another path too; expected unique names", path->name);
	return 0;
}

static int complete_paths(struct conf_reader *reader, struct conf_tx *tx)
{
	unsigned stripes = 0;

	if (!tx->path_count) {
		const struct conf_row *row = conf_table_find(conf_table_of(CONF_TX_PROXY), "paths", strlen("paths"));

		tx->paths = calloc(1, sizeof *tx->paths);
		if (!tx->paths)
			return conf_fail_memory(reader);
		tx->path_count = 1;
		conf_apply_presets(reader, row->table, tx->paths);
	}
	for (size_t i = 0; i < tx->path_count; i++) {
		int err = complete_path(reader, &tx->paths[i], i);

		if (err < 0)
			return err;
		stripes += tx->paths[i].stripes;
	}
	if (stripes > CONF_STRIPES_TOTAL_MAX)
		return conf_fail(reader, conf_place_of(reader, "paths"), "have %u stripes in all; expected at most %d",
		                 stripes, CONF_STRIPES_TOTAL_MAX);
	if (tx->rx_proxy.family == ADDR_NONE)
		tx->rx_proxy.port = 0; /* unused: ADDR_NONE has no other field */
	return 0;
}

static int check_tx(struct conf_reader *reader)
{
	struct conf_tx *tx = &reader->conf->tx;
	int err = complete_paths(reader, tx);

	if (!err)
		err = check_limits(reader, &tx->limits);
	if (!err)
		err = check_security_mode(reader, tx->security, tx->key.identity[0] || tx->key.key_file[0]);
	if (!err && tx->security == CONF_SECURITY_PSK)
		err = check_key(reader, conf_place_of(reader, "security"), conf_place_of(reader, "security.key_file"),
		                &tx->key);
	return err;
}

static int check_rx_security(struct conf_reader *reader, const struct conf_rx *rx)
{
	int err = check_security_mode(reader, rx->security, false);

	if (err || rx->security != CONF_SECURITY_PSK)
		return err;
	if (!rx->key_count)
		return conf_fail(reader, conf_place_of(reader, "security"),
		                 "keys is missing; mode \"psk\" needs keys = ( { identity = …; key_file = …; } )");
	if (rx->accept_from.count)
		return conf_fail(reader, conf_place_of(reader, "security.accept_from"),
		                 "goes with mode \"none\" alone; with \"psk\" the keys decide");
	for (size_t i = 0; i < rx->key_count; i++) {
		err = check_key(reader, place_at(reader, "security.keys.[%zu]", i),
		                place_at(reader, "security.keys.[%zu].key_file", i), &rx->keys[i]);
		for (size_t j = 0; j < i && !err; j++)
			if (strcmp(rx->keys[i].identity, rx->keys[j].identity) == 0)
				err = conf_fail(reader, place_at(reader, "security.keys.[%zu].identity", i),
				                "\"%s\" has another key too; expected unique identities",
				                rx->keys[i].identity);
		if (err)
			return err;
	}
	if (rx->sessions < rx->key_count)
		return conf_fail(reader, conf_place_of(reader, "sessions"),
		                 "%u sessions for %zu keys; expected at least one for each", rx->sessions,
		                 rx->key_count);
	return 0;
}

static int check_rx(struct conf_reader *reader)
{
	struct conf_rx *rx = &reader->conf->rx;
	int err;

	if (rx->fixed_dest.family != ADDR_NONE && !rx->fixed_dest.port)
		return conf_fail(reader, conf_place_of(reader, "dest_ip"),
		                 "dest_port is missing; both are needed, or neither");
	if (rx->fixed_dest.family == ADDR_NONE && rx->fixed_dest.port)
		return conf_fail(reader, conf_place_of(reader, "dest_port"),
		                 "dest_ip is missing; both are needed, or neither");
	err = check_limits(reader, &rx->limits);
	return err ? err : check_rx_security(reader, rx);
}

static int check_stream(struct conf_reader *reader)
{
	struct conf_stream *stream = &reader->conf->stream;

	if (stream->dest.family == ADDR_NONE)
		return conf_fail(reader, conf_place_of(reader, "dest_ip"),
		                 "dest_ip is missing; expected an IPv4 or IPv6 address");
	if (stream->duration_s && !conf_given(reader, "bytes"))
		stream->bytes = UINT64_MAX;
	return 0;
}

int conf_check(struct conf_reader *reader)
{
	switch (reader->conf->group) {
	case CONF_TX_PROXY:
		return check_tx(reader);
	case CONF_RX_PROXY:
		return check_rx(reader);
	case CONF_STREAM:
		return check_stream(reader);
	case CONF_DEST:
		break;
	}
	return 0;
}
