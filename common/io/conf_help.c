#include <string.h>

#include "conf_table.h"

enum { PREFIX_MAX = 64 };

static void help_scalar(FILE *out, const struct conf_row *row, const char *prefix)
{
	char expected[CONF_EXPECTED_MAX];

	fprintf(out, "  --%s%s=…\n      %s\n      %s", prefix, row->name, row->help, conf_row_expected(row, expected));
	if (row->preset)
		fprintf(out, "; default %s", row->preset);
	fputc('\n', out);
}

static void help_scalars(FILE *out, const struct conf_table *table, const char *prefix)
{
	char nested[PREFIX_MAX];

	for (const struct conf_row *row = table->rows; row->name; row++) {
		if (conf_type_is_scalar(row->type))
			help_scalar(out, row, prefix);
		if (row->type == CONF_TYPE_GROUP) {
			snprintf(nested, sizeof nested, "%s%s.", prefix, row->name);
			help_scalars(out, row->table, nested);
		}
	}
}

static bool has_list(const struct conf_table *table)
{
	for (const struct conf_row *row = table->rows; row->name; row++)
		if (row->type == CONF_TYPE_GROUP ? has_list(row->table) : !conf_type_is_scalar(row->type))
			return true;
	return false;
}

static void help_list(FILE *out, const struct conf_row *list, const char *prefix)
{
	char expected[CONF_EXPECTED_MAX];

	fprintf(out, "  %s%s\n      %s\n      %s\n", prefix, list->name, list->help, conf_row_expected(list, expected));
	if (list->type != CONF_TYPE_GROUPS)
		return;
	for (const struct conf_row *row = list->table->rows; row->name; row++) {
		fprintf(out, "      %-12s %s\n      %-12s %s", row->name, row->help, "",
		        conf_row_expected(row, expected));
		if (row->preset)
			fprintf(out, "; default %s", row->preset);
		fputc('\n', out);
	}
}

static void help_lists(FILE *out, const struct conf_table *table, const char *prefix)
{
	char nested[PREFIX_MAX];

	for (const struct conf_row *row = table->rows; row->name; row++) {
		if (row->type == CONF_TYPE_GROUP) {
			snprintf(nested, sizeof nested, "%s%s.", prefix, row->name);
			help_lists(out, row->table, nested);
		} else if (!conf_type_is_scalar(row->type)) {
			help_list(out, row, prefix);
		}
	}
}

void conf_help(FILE *out, enum conf_group group)
{
	const struct conf_table *table = conf_table_of(group);

	fprintf(out, "Keys of the group %s, in the file or here:\n", conf_group_name(group));
	help_scalars(out, table, "");
	if (has_list(table)) {
		fputs("\nLists, in the file alone:\n", out);
		help_lists(out, table, "");
	}
}
