/* conf_table: the one description of every key, from which reading, overriding, checking of types and ranges, freeing
 * and
 * --help are driven. Private to conf*.c and cmdline.c.
 *
 * A table describes the fields of one struct; a row describes one key and where its value goes. A group nests another
 * table at the row's offset; a list of groups fills an allocated array with one item for each group.
 */
#ifndef PAIR_IO_CONF_TABLE_H
#define PAIR_IO_CONF_TABLE_H

#include <libconfig.h>
#include <stdio.h>

#include "conf.h"

enum conf_type {
	/* scalars */
	CONF_TYPE_NUMBER,     /* unsigned integer of row.size bytes */
	CONF_TYPE_PORT,       /* uint16_t */
	CONF_TYPE_SIZE,       /* bytes, unsigned integer of row.size bytes; suffix k, M or G */
	CONF_TYPE_BOOL,       /* bool */
	CONF_TYPE_CHOICE,     /* an enum, one of row.choices */
	CONF_TYPE_FILE,       /* char[row.size] */
	CONF_TYPE_NAME,       /* char[row.size]: letters, digits, '.', '_', '-' */
	CONF_TYPE_INTERFACE,  /* char[IFNAMSIZ] */
	CONF_TYPE_CONGESTION, /* char[CONF_CONGESTION_MAX], known to the kernel */
	CONF_TYPE_IP,         /* struct addr; the port stays as it is */
	/* the file alone can give these */
	CONF_TYPE_GROUP,      /* row.table at row.offset */
	CONF_TYPE_GROUPS,     /* array of row.table's struct: pointer at row.offset, size_t at row.count_offset */
	CONF_TYPE_INTERFACES, /* array of char[IFNAMSIZ]: the same */
	CONF_TYPE_NETS        /* struct conf_nets */
};

struct conf_choice {
	const char *name; /* NULL ends the array */
	int value;
};

struct conf_row {
	const char *name; /* NULL ends the table */
	enum conf_type type;
	size_t offset;       /* in the struct of the table */
	size_t size;         /* of the field */
	size_t count_offset; /* of lists but CONF_TYPE_NETS */
	uint64_t min, max;   /* of a number, or of a list's length */
	const char *preset;  /* the default, as it would stand in the file; NULL: 0, empty or absent */
	const char *help;    /* one line */
	const struct conf_choice *choices;
	const struct conf_table *table;
};

struct conf_table {
	const struct conf_row *rows;
	size_t struct_size;
};

/* Of the group's struct; and its name in the file. */
const struct conf_table *conf_table_of(enum conf_group group);
const char *conf_group_name(enum conf_group group);

static inline bool conf_type_is_scalar(enum conf_type type)
{
	return type < CONF_TYPE_GROUP;
}

/* The row of `name`, of which `len` characters count, or NULL. */
const struct conf_row *conf_table_find(const struct conf_table *table, const char *name, size_t len);

enum { CONF_EXPECTED_MAX = 160 };

/* "a port, 1..65535"; "redirect, tproxy or none". Returns buf. */
const char *conf_row_expected(const struct conf_row *row, char buf[CONF_EXPECTED_MAX]);

/* What conf_load is doing. */
struct conf_reader {
	struct conf *conf;
	config_t config;
	config_setting_t *group; /* the binary's own */
	const struct conf_override *overrides;
	size_t override_count;
	char *error;
};

/* Where a mistake is: one of the two, or neither for the file as a whole. */
struct conf_place {
	const config_setting_t *setting;
	const struct conf_override *override;
};

/* Writes "PLACE: message" to reader->error; returns -EINVAL. */
__attribute__((format(printf, 3, 4))) int conf_fail(struct conf_reader *reader, struct conf_place at,
                                                    const char *format, ...);
/* The same for want of memory; returns -ENOMEM. */
int conf_fail_memory(struct conf_reader *reader);

/* Where the dotted key ("limits.flows", "paths.[0].name") got its value: the last override, else its line in the file,
 * else its group's. */
struct conf_place conf_place_of(const struct conf_reader *reader, const char *key);
bool conf_given(const struct conf_reader *reader, const char *key);

/* One scalar → the field at `field`; 0 or -EINVAL. */
int conf_value_from_text(struct conf_reader *reader, struct conf_place at, const struct conf_row *row, const char *text,
                         void *field);
int conf_value_from_setting(struct conf_reader *reader, const struct conf_row *row, const config_setting_t *setting,
                            void *field);

/* "a list", "a group", "a number"… for messages. */
const char *conf_setting_kind(const config_setting_t *setting);

/* "10.0.0.0/8", "192.0.2.1" (a host). `text` in messages as it is. 0 or -EINVAL. */
int conf_net_parse(struct conf_reader *reader, struct conf_place at, const char *text, struct conf_net *net);

/* The file's text for config_read_string; freed by the caller. 0 or a negative errno. */
int conf_source_read(struct conf_reader *reader, FILE *file, char **source);

/* What no single key shows: defaults that depend on others, contradictions, files that must exist. 0 or a negative
 * errno. */
int conf_check(struct conf_reader *reader);

/* Fills a struct with the defaults of its table. */
void conf_apply_presets(struct conf_reader *reader, const struct conf_table *table, void *at);

/* The keys of a group, for --help. */
void conf_help(FILE *out, enum conf_group group);

#endif
