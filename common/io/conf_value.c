#include <arpa/inet.h>
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conf_table.h"
#include "sockaddr.h"

/* Decimal or 0x…, then, if `with_suffix`, k, M or G. 0, -EINVAL: not a number; -ERANGE: negative or beyond 64 bits. */
static int number_parse(const char *text, bool with_suffix, uint64_t *out)
{
	bool negative = *text == '-';
	const char *digits = text + negative;
	bool hex = digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X');
	unsigned shift = 0;
	uint64_t number;
	bool too_large;
	char *end;

	/* strtoull would also take spaces and a sign. */
	if (hex ? !isxdigit((unsigned char)digits[2]) : !isdigit((unsigned char)digits[0]))
		return -EINVAL;
	errno = 0;
	number = strtoull(digits, &end, hex ? 16 : 10);
	too_large = errno == ERANGE;
	if (with_suffix && *end && !end[1]) {
		switch (*end) {
		case 'k':
		case 'K':
			shift = 10;
			break;
		case 'm':
		case 'M':
			shift = 20;
			break;
		case 'g':
		case 'G':
			shift = 30;
			break;
		default:
			return -EINVAL;
		}
		end++;
	}
	if (*end)
		return -EINVAL;
	if (negative || too_large || number > UINT64_MAX >> shift)
		return -ERANGE;
	*out = number << shift;
	return 0;
}

static void number_store(const struct conf_row *row, uint64_t number, void *field)
{
	uint16_t u16 = (uint16_t)number;
	uint32_t u32 = (uint32_t)number;

	switch (row->size) {
	case sizeof u16:
		memcpy(field, &u16, sizeof u16);
		break;
	case sizeof u32:
		memcpy(field, &u32, sizeof u32);
		break;
	default:
		assert(row->size == sizeof number);
		memcpy(field, &number, sizeof number);
	}
}

static int number_set(struct conf_reader *reader, struct conf_place at, const struct conf_row *row, const char *text,
                      void *field)
{
	char expected[CONF_EXPECTED_MAX];
	uint64_t number = 0;
	int err = number_parse(text, row->type == CONF_TYPE_SIZE, &number);

	if (err == -EINVAL)
		return conf_fail(reader, at, "\"%.80s\" is not a number; expected %s", text,
		                 conf_row_expected(row, expected));
	if (err == -ERANGE || number < row->min || number > row->max)
		return conf_fail(reader, at, "%.80s is out of range; expected %s", text,
		                 conf_row_expected(row, expected));
	number_store(row, number, field);
	return 0;
}

static int bool_set(struct conf_reader *reader, struct conf_place at, const char *text, bool *field)
{
	bool yes = strcmp(text, "true") == 0 || strcmp(text, "yes") == 0;

	if (!yes && strcmp(text, "false") != 0 && strcmp(text, "no") != 0)
		return conf_fail(reader, at, "\"%.80s\" is neither true nor false", text);
	*field = yes;
	return 0;
}

static int choice_set(struct conf_reader *reader, struct conf_place at, const struct conf_row *row, const char *text,
                      void *field)
{
	char expected[CONF_EXPECTED_MAX];

	for (const struct conf_choice *choice = row->choices; choice->name; choice++)
		if (strcmp(text, choice->name) == 0) {
			assert(row->size == sizeof choice->value);
			memcpy(field, &choice->value, sizeof choice->value);
			return 0;
		}
	return conf_fail(reader, at, "\"%.80s\" is unknown; expected %s", text, conf_row_expected(row, expected));
}

static bool is_name(const char *text)
{
	for (const char *c = text; *c; c++)
		if (!isalnum((unsigned char)*c) && !strchr("._-", *c))
			return false;
	return true;
}

/* What the kernel's dev_valid_name() takes. */
static bool is_interface(const char *text)
{
	if (strcmp(text, ".") == 0 || strcmp(text, "..") == 0)
		return false;
	for (const char *c = text; *c; c++)
		if (*c == '/' || *c == ':' || isspace((unsigned char)*c) || iscntrl((unsigned char)*c))
			return false;
	return true;
}

static int string_set(struct conf_reader *reader, struct conf_place at, const struct conf_row *row, const char *text,
                      char *field)
{
	char expected[CONF_EXPECTED_MAX];
	bool wrong = (row->type == CONF_TYPE_NAME && !is_name(text)) ||
	             (row->type == CONF_TYPE_INTERFACE && !is_interface(text));

	if (!*text)
		return conf_fail(reader, at, "is empty; expected %s", conf_row_expected(row, expected));
	if (wrong || strlen(text) >= row->size)
		return conf_fail(reader, at, "\"%.80s\" is %s; expected %s", text, wrong ? "no valid name" : "too long",
		                 conf_row_expected(row, expected));
	memcpy(field, text, strlen(text) + 1);
	return 0;
}

/* The kernel's list, blanks between the names; false where there is none to read. */
static bool congestion_list(char *list, size_t size)
{
	FILE *file = fopen("/proc/sys/net/ipv4/tcp_available_congestion_control", "re");
	bool read;

	if (!file)
		return false;
	read = fgets(list, (int)size, file) != NULL;
	fclose(file);
	if (read)
		list[strcspn(list, "\n")] = '\0';
	return read;
}

static bool list_has_word(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (const char *found = strstr(list, word); found; found = strstr(found + 1, word))
		if ((found == list || found[-1] == ' ') && (found[len] == ' ' || !found[len]))
			return true;
	return false;
}

/* The list shows what is loaded; asking for it makes the kernel load a module, where we may. */
static bool congestion_loads(const char *name)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool loads;

	if (fd < 0)
		return false;
	loads = setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, (socklen_t)strlen(name)) == 0;
	close(fd);
	return loads;
}

static int congestion_set(struct conf_reader *reader, struct conf_place at, const struct conf_row *row,
                          const char *text, char *field)
{
	char list[256];

	if (!*text || strlen(text) >= row->size || !is_name(text))
		return conf_fail(reader, at, "\"%.80s\" cannot be the name of a congestion control", text);
	if (congestion_list(list, sizeof list) && !list_has_word(list, text) && !congestion_loads(text))
		return conf_fail(reader, at,
		                 "unknown congestion control \"%s\"; this kernel offers: %s (more: modprobe tcp_NAME)",
		                 text, list);
	memcpy(field, text, strlen(text) + 1);
	return 0;
}

static int ip_set(struct conf_reader *reader, struct conf_place at, const struct conf_row *row, const char *text,
                  struct addr *field)
{
	char expected[CONF_EXPECTED_MAX];
	struct addr addr;

	if (sockaddr_parse(&addr, text) < 0)
		return conf_fail(reader, at, "\"%.80s\" is not an address; expected %s", text,
		                 conf_row_expected(row, expected));
	addr.port = field->port; /* another key's */
	*field = addr;
	return 0;
}

int conf_value_from_text(struct conf_reader *reader, struct conf_place at, const struct conf_row *row, const char *text,
                         void *field)
{
	switch (row->type) {
	case CONF_TYPE_NUMBER:
	case CONF_TYPE_PORT:
	case CONF_TYPE_SIZE:
		return number_set(reader, at, row, text, field);
	case CONF_TYPE_BOOL:
		return bool_set(reader, at, text, field);
	case CONF_TYPE_CHOICE:
		return choice_set(reader, at, row, text, field);
	case CONF_TYPE_CONGESTION:
		return congestion_set(reader, at, row, text, field);
	case CONF_TYPE_IP:
		return ip_set(reader, at, row, text, field);
	default:
		assert(conf_type_is_scalar(row->type));
		return string_set(reader, at, row, text, field);
	}
}

const char *conf_setting_kind(const config_setting_t *setting)
{
	switch (config_setting_type(setting)) {
	case CONFIG_TYPE_INT:
	case CONFIG_TYPE_INT64:
		return "a number";
	case CONFIG_TYPE_FLOAT:
		return "a fraction";
	case CONFIG_TYPE_BOOL:
		return "a boolean";
	case CONFIG_TYPE_STRING:
		return "a string";
	case CONFIG_TYPE_GROUP:
		return "a group";
	default:
		return "a list";
	}
}

int conf_value_from_setting(struct conf_reader *reader, const struct conf_row *row, const config_setting_t *setting,
                            void *field)
{
	struct conf_place at = {.setting = setting};
	bool number = row->type == CONF_TYPE_NUMBER || row->type == CONF_TYPE_PORT || row->type == CONF_TYPE_SIZE;
	int type = config_setting_type(setting);
	char expected[CONF_EXPECTED_MAX];
	char text[32];

	if (type == CONFIG_TYPE_STRING)
		return conf_value_from_text(reader, at, row, config_setting_get_string(setting), field);
	if (number && (type == CONFIG_TYPE_INT || type == CONFIG_TYPE_INT64)) {
		snprintf(text, sizeof text, "%lld",
		         config_setting_get_int64(setting)); /* one code checks every spelling */
		return conf_value_from_text(reader, at, row, text, field);
	}
	if (row->type == CONF_TYPE_BOOL && type == CONFIG_TYPE_BOOL) {
		*(bool *)field = config_setting_get_bool(setting);
		return 0;
	}
	return conf_fail(reader, at, "is %s; expected %s", conf_setting_kind(setting),
	                 conf_row_expected(row, expected));
}
