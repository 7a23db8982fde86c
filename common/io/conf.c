#include "conf.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "conf_table.h"

/* "tx_proxy.paths[1].stripes". Returns the length; as much as fits is written. */
static size_t setting_name(const config_setting_t *setting, char *buf, size_t size)
{
	const config_setting_t *parent = config_setting_parent(setting);
	size_t used;
	int len;

	if (!parent) { /* the root has no name */
		buf[0] = '\0';
		return 0;
	}
	used = setting_name(parent, buf, size);
	if (used >= size)
		return used;
	if (config_setting_name(setting))
		len = snprintf(buf + used, size - used, "%s%s", used ? "." : "", config_setting_name(setting));
	else
		len = snprintf(buf + used, size - used, "[%d]", config_setting_index(setting));
	return used + (size_t)len;
}

enum { FILE_SHOWN_MAX = 160 };

/* The end of a long file name tells more than its beginning. */
static const char *file_tail(const char *file)
{
	size_t len = strlen(file);

	return len <= FILE_SHOWN_MAX ? file : file + len - FILE_SHOWN_MAX;
}

/* Returns the length written, less than `size`. */
static size_t place_text(const struct conf_reader *reader, struct conf_place at, char *buf, size_t size)
{
	const char *file = file_tail(reader->conf->file);
	char name[FILE_SHOWN_MAX];

	if (at.override) {
		snprintf(buf, size, "--%.80s=%.80s: ", at.override->key, at.override->value);
	} else if (at.setting) {
		setting_name(at.setting, name, sizeof name);
		snprintf(buf, size, "%.160s:%u: %s: ", file, config_setting_source_line(at.setting), name);
	} else {
		snprintf(buf, size, "%.160s: ", file);
	}
	return strlen(buf);
}

int conf_fail(struct conf_reader *reader, struct conf_place at, const char *format, ...)
{
	size_t used = place_text(reader, at, reader->error, CONF_ERROR_MAX);
	va_list args;

	va_start(args, format);
	vsnprintf(reader->error + used, CONF_ERROR_MAX - used, format, args);
	va_end(args);
	return -EINVAL;
}

int conf_fail_memory(struct conf_reader *reader)
{
	snprintf(reader->error, CONF_ERROR_MAX, "out of memory while reading the configuration");
	return -ENOMEM;
}

static const struct conf_override *override_of(const struct conf_reader *reader, const char *key)
{
	for (size_t i = reader->override_count; i-- > 0;)
		if (strcmp(reader->overrides[i].key, key) == 0)
			return &reader->overrides[i];
	return NULL;
}

struct conf_place conf_place_of(const struct conf_reader *reader, const char *key)
{
	struct conf_place at = {.override = override_of(reader, key)};

	if (!at.override)
		at.setting = config_setting_lookup(reader->group, key);
	if (!at.override && !at.setting)
		at.setting = reader->group;
	return at;
}

bool conf_given(const struct conf_reader *reader, const char *key)
{
	return override_of(reader, key) || config_setting_lookup(reader->group, key);
}

void conf_apply_presets(struct conf_reader *reader, const struct conf_table *table, void *at)
{
	for (const struct conf_row *row = table->rows; row->name; row++) {
		void *field = (char *)at + row->offset;

		if (row->type == CONF_TYPE_GROUP)
			conf_apply_presets(reader, row->table, field);
		else if (row->preset &&
		         conf_value_from_text(reader, (struct conf_place){0}, row, row->preset, field) < 0)
			assert(!"a default of the table is not valid");
	}
}

static int read_group(struct conf_reader *reader, const struct conf_table *table, const config_setting_t *group,
                      void *at);

static size_t item_size_of(const struct conf_row *row)
{
	switch (row->type) {
	case CONF_TYPE_GROUPS:
		return row->table->struct_size;
	case CONF_TYPE_INTERFACES:
		return IFNAMSIZ;
	default:
		return sizeof(struct conf_net);
	}
}

static int read_item(struct conf_reader *reader, const struct conf_row *row, const config_setting_t *item, void *at)
{
	static const struct conf_row interface_row = {.type = CONF_TYPE_INTERFACE, .size = IFNAMSIZ};
	struct conf_place place = {.setting = item};
	const char *text = config_setting_get_string(item); /* NULL for another type */

	if (row->type == CONF_TYPE_GROUPS) {
		if (!config_setting_is_group(item))
			return conf_fail(reader, place, "is %s; expected a group { key = value; … }",
			                 conf_setting_kind(item));
		conf_apply_presets(reader, row->table, at);
		return read_group(reader, row->table, item, at);
	}
	if (row->type == CONF_TYPE_INTERFACES)
		return conf_value_from_setting(reader, &interface_row, item, at);
	if (!text)
		return conf_fail(reader, place, "is %s; expected a string \"ADDRESS/PREFIX\"", conf_setting_kind(item));
	return conf_net_parse(reader, place, text, at);
}

static int read_list(struct conf_reader *reader, const struct conf_row *row, const config_setting_t *list, void *at)
{
	char expected[CONF_EXPECTED_MAX];
	struct conf_place place = {.setting = list};
	struct conf_nets *nets = (struct conf_nets *)((char *)at + row->offset);
	void **items = (void **)((char *)at + row->offset);
	size_t *stored_count = (size_t *)((char *)at + row->count_offset);
	size_t item_size = item_size_of(row);
	int count = config_setting_length(list);

	if (row->type == CONF_TYPE_NETS) {
		items = (void **)&nets->items;
		stored_count = &nets->count;
	}
	if (!config_setting_is_aggregate(list) || config_setting_is_group(list))
		return conf_fail(reader, place, "is %s; expected %s", conf_setting_kind(list),
		                 conf_row_expected(row, expected));
	if ((uint64_t)count < row->min || (uint64_t)count > row->max)
		return conf_fail(reader, place, "has %d items; expected %llu to %llu", count,
		                 (unsigned long long)row->min, (unsigned long long)row->max);
	if (!count)
		return 0;
	*items = calloc((size_t)count, item_size);
	if (!*items)
		return conf_fail_memory(reader);
	*stored_count = (size_t)count;
	for (int i = 0; i < count; i++) {
		int err = read_item(reader, row, config_setting_get_elem(list, (unsigned)i),
		                    (char *)*items + item_size * (size_t)i);

		if (err < 0)
			return err;
	}
	return 0;
}

/* "expected local_port, rx_proxy_ip, …" */
static int fail_unknown(struct conf_reader *reader, struct conf_place at, const struct conf_table *table,
                        const char *name)
{
	char known[CONF_ERROR_MAX / 2];
	size_t used = 0;

	for (const struct conf_row *row = table->rows; row->name && used < sizeof known; row++)
		used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", row->name);
	return conf_fail(reader, at, "unknown key \"%.60s\"; known here: %s", name, known);
}

static int read_group(struct conf_reader *reader, const struct conf_table *table, const config_setting_t *group,
                      void *at)
{
	for (int i = 0; i < config_setting_length(group); i++) {
		const config_setting_t *setting = config_setting_get_elem(group, (unsigned)i);
		const char *name = config_setting_name(setting);
		const struct conf_row *row = conf_table_find(table, name, strlen(name));
		char expected[CONF_EXPECTED_MAX];
		void *field;
		int err;

		if (!row)
			return fail_unknown(reader, (struct conf_place){.setting = setting}, table, name);
		field = (char *)at + row->offset;
		if (conf_type_is_scalar(row->type))
			err = conf_value_from_setting(reader, row, setting, field);
		else if (row->type != CONF_TYPE_GROUP)
			err = read_list(reader, row, setting, at);
		else if (config_setting_is_group(setting))
			err = read_group(reader, row->table, setting, field);
		else
			err = conf_fail(reader, (struct conf_place){.setting = setting}, "is %s; expected %s",
			                conf_setting_kind(setting), conf_row_expected(row, expected));
		if (err < 0)
			return err;
	}
	return 0;
}

/* Finds the row and the field of a dotted key. */
static int resolve_override(struct conf_reader *reader, const struct conf_override *override,
                            const struct conf_row **out, void **field)
{
	const struct conf_table *table = conf_table_of(reader->conf->group);
	struct conf_place at = {.override = override};
	char *base = (char *)&reader->conf->tx; /* all groups of the union begin there */
	const char *name = override->key;

	for (;;) {
		size_t len = strcspn(name, ".");
		const struct conf_row *row = conf_table_find(table, name, len);

		if (!row)
			return fail_unknown(reader, at, table, override->key);
		base += row->offset;
		if (row->type == CONF_TYPE_GROUP) {
			if (!name[len])
				return conf_fail(reader, at, "is a group; expected one of its keys: --%s.KEY=value",
				                 override->key);
			table = row->table;
			name += len + 1;
			continue;
		}
		if (!conf_type_is_scalar(row->type))
			return conf_fail(reader, at, "is a list, which only the file can give");
		if (name[len])
			return conf_fail(reader, at, "%.*s is no group and has no keys",
			                 (int)(name + len - override->key), override->key);
		*out = row;
		*field = base;
		return 0;
	}
}

static int read_overrides(struct conf_reader *reader, bool apply)
{
	for (size_t i = 0; i < reader->override_count; i++) {
		const struct conf_override *override = &reader->overrides[i];
		const struct conf_row *row = NULL;
		void *field = NULL;
		int err = resolve_override(reader, override, &row, &field);

		if (!err && apply)
			err = conf_value_from_text(reader, (struct conf_place){.override = override}, row,
			                           override->value, field);
		if (err < 0)
			return err;
	}
	return 0;
}

/* Checks that every group of the file has a known name, and finds our own. */
static int find_group(struct conf_reader *reader)
{
	const config_setting_t *root = config_root_setting(&reader->config);
	const char *own = conf_group_name(reader->conf->group);

	for (int i = 0; i < config_setting_length(root); i++) {
		const config_setting_t *setting = config_setting_get_elem(root, (unsigned)i);
		const char *name = config_setting_name(setting);
		bool known = false;

		for (int group = CONF_TX_PROXY; group <= CONF_DEST; group++)
			known = known || strcmp(name, conf_group_name((enum conf_group)group)) == 0;
		if (!known)
			return conf_fail(reader, (struct conf_place){.setting = setting},
			                 "unknown group \"%.60s\"; known: tx_proxy, rx_proxy, stream, dest", name);
		if (!config_setting_is_group(setting))
			return conf_fail(reader, (struct conf_place){.setting = setting},
			                 "is %s; expected a group { key = value; … }", conf_setting_kind(setting));
	}
	reader->group = config_setting_get_member(root, own);
	if (!reader->group)
		return conf_fail(reader, (struct conf_place){0},
		                 "has no group \"%s\"; expected %s = { key = value; … };", own, own);
	return 0;
}

/* Opens the file, or the first of the default places that has one; its name goes to conf->file. */
static int open_file(struct conf_reader *reader, const char *name, FILE **out)
{
	static const char *const places[] = {"./network.conf", "/etc/pair_proxy/network.conf"};
	FILE *file = NULL;
	int err = ENOENT;

	for (size_t i = 0; i < (name ? 1 : 2) && err == ENOENT; i++) {
		const char *place = name ? name : places[i];

		file = fopen(place, "re");
		err = file ? 0 : errno;
		snprintf(reader->conf->file, CONF_FILE_MAX, "%s", place);
	}
	if (!name && err == ENOENT) {
		snprintf(reader->error, CONF_ERROR_MAX,
		         "no configuration file: neither %s nor %s exists; name one with -c FILE", places[0],
		         places[1]);
		return -ENOENT;
	}
	if (err) {
		conf_fail(reader, (struct conf_place){0}, "cannot be read: %s", strerror(err));
		return err == ENOENT || err == EACCES || err == ENOMEM ? -err : -EINVAL;
	}
	*out = file;
	return 0;
}

static int parse_file(struct conf_reader *reader, const char *name)
{
	FILE *file = NULL;
	char *source = NULL;
	int err = open_file(reader, name, &file);

	if (err < 0)
		return err;
	err = conf_source_read(reader, file, &source);
	fclose(file);
	if (err < 0)
		return err;
	if (config_read_string(&reader->config, source) != CONFIG_TRUE) {
		snprintf(reader->error, CONF_ERROR_MAX, "%.160s:%d: %s", file_tail(reader->conf->file),
		         config_error_line(&reader->config), config_error_text(&reader->config));
		err = -EINVAL;
	}
	free(source);
	return err ? err : find_group(reader);
}

int conf_load(struct conf **out, enum conf_group group, const char *file, const struct conf_override *overrides,
              size_t override_count, char error[CONF_ERROR_MAX])
{
	const struct conf_table *table = conf_table_of(group);
	struct conf_reader reader = {.overrides = overrides, .override_count = override_count, .error = error};
	int err;

	*out = NULL;
	error[0] = '\0';
	reader.conf = calloc(1, sizeof *reader.conf);
	if (!reader.conf)
		return conf_fail_memory(&reader);
	reader.conf->group = group;
	config_init(&reader.config);
	conf_apply_presets(&reader, table, &reader.conf->tx);
	err = read_overrides(&reader, false); /* a mistyped option is told before a missing file */
	if (!err)
		err = parse_file(&reader, file);
	if (!err)
		err = read_group(&reader, table, reader.group, &reader.conf->tx);
	if (!err)
		err = read_overrides(&reader, true);
	if (!err)
		err = conf_check(&reader);
	config_destroy(&reader.config);
	if (err < 0) {
		conf_free(reader.conf);
		return err;
	}
	*out = reader.conf;
	return 0;
}

static void free_lists(const struct conf_table *table, void *at)
{
	for (const struct conf_row *row = table->rows; row->name; row++) {
		char *field = (char *)at + row->offset;

		if (row->type == CONF_TYPE_GROUP)
			free_lists(row->table, field);
		else if (row->type == CONF_TYPE_NETS)
			free(((struct conf_nets *)field)->items);
		else if (!conf_type_is_scalar(row->type)) /* no list holds lists */
			free(*(void **)field);
	}
}

void conf_free(struct conf *conf)
{
	if (!conf)
		return;
	free_lists(conf_table_of(conf->group), &conf->tx);
	free(conf);
}
