/* The text of the file, made fit for libconfig.
 *
 * libconfig keeps only 32 bits of an integer without the suffix L and says nothing: 4294972296 would be read as port
 * 5000. So long integers are put in quotes, where conf_value.c sees all of their digits. Lines keep their numbers.
 * @include is refused: what it brings in would not come through here.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "conf_table.h"

enum {
	SOURCE_MAX_BYTES = 1 << 20,
	DIGITS_SAFE = 9,    /* decimal digits that always fit 31 bits */
	HEX_DIGITS_SAFE = 7 /* the same for hexadecimal ones */
};

/* Reads the whole file; *text is freed by the caller. */
static int read_all(struct conf_reader *reader, FILE *file, char **text)
{
	char *buf = malloc(SOURCE_MAX_BYTES + 1);
	size_t len;

	if (!buf)
		return conf_fail_memory(reader);
	errno = 0;
	len = fread(buf, 1, SOURCE_MAX_BYTES + 1, file);
	if (ferror(file)) {
		conf_fail(reader, (struct conf_place){0}, "cannot be read: %s", strerror(errno));
	} else if (len > SOURCE_MAX_BYTES) {
		conf_fail(reader, (struct conf_place){0}, "is too large; expected at most %d bytes", SOURCE_MAX_BYTES);
	} else if (memchr(buf, '\0', len)) {
		conf_fail(reader, (struct conf_place){0}, "is no text file: it holds a zero byte");
	} else {
		buf[len] = '\0';
		*text = buf;
		return 0;
	}
	free(buf);
	return -EINVAL;
}

/* The length of what begins at `c` and holds no word: a comment, a string, or one byte. Unfinished ones end with the
 * text. */
static size_t skip_length(const char *c)
{
	const char *end;

	if (*c == '#' || (c[0] == '/' && c[1] == '/'))
		return strcspn(c, "\n");
	if (c[0] == '/' && c[1] == '*') {
		end = strstr(c + 2, "*/");
		return end ? (size_t)(end + 2 - c) : strlen(c);
	}
	if (*c != '"')
		return 1;
	for (end = c + 1; *end && *end != '"'; end++)
		if (end[0] == '\\' && end[1])
			end++;
	return (size_t)(end - c) + (*end == '"');
}

static size_t word_length(const char *c)
{
	size_t len = 0;

	while (isalnum((unsigned char)c[len]) || (c[len] && strchr("_.*+-", c[len])))
		len++;
	return len;
}

/* How many bytes of the word to put in quotes: all but the suffix L; 0 if it is no long integer. */
static size_t long_integer_length(const char *word, size_t len)
{
	size_t begin = len && (word[0] == '-' || word[0] == '+');
	size_t end = len, digits = 0;
	bool hex = len > begin + 2 && word[begin] == '0' && (word[begin + 1] == 'x' || word[begin + 1] == 'X');

	while (end > begin && word[end - 1] == 'L')
		end--;
	for (size_t i = begin + (hex ? 2 : 0); i < end; i++, digits++)
		if (hex ? !isxdigit((unsigned char)word[i]) : !isdigit((unsigned char)word[i]))
			return 0;
	return digits > (hex ? HEX_DIGITS_SAFE : DIGITS_SAFE) ? end : 0;
}

static int fail_include(struct conf_reader *reader, const char *text, const char *at)
{
	unsigned line = 1;

	for (const char *c = text; c < at; c++)
		line += *c == '\n';
	snprintf(reader->error, CONF_ERROR_MAX,
	         "%.160s:%u: unexpected '@'; @include is not supported, one file holds all", reader->conf->file, line);
	return -EINVAL;
}

static int quote_long_integers(struct conf_reader *reader, const char *text, char *out)
{
	for (const char *c = text; *c;) {
		size_t len = word_length(c);
		size_t number = long_integer_length(c, len);

		if (*c == '@')
			return fail_include(reader, text, c);
		if (number) {
			*out++ = '"';
			memcpy(out, c, number);
			out += number;
			*out++ = '"';
		} else {
			len = len ? len : skip_length(c);
			memcpy(out, c, len);
			out += len;
		}
		c += len;
	}
	*out = '\0';
	return 0;
}

int conf_source_read(struct conf_reader *reader, FILE *file, char **source)
{
	char *text = NULL;
	int err = read_all(reader, file, &text);

	if (!text)
		return err;
	*source = malloc(2 * strlen(text) + 1); /* the quotes add two bytes to a word of more than two */
	err = *source ? quote_long_integers(reader, text, *source) : conf_fail_memory(reader);
	if (err < 0) {
		free(*source);
		*source = NULL;
	}
	free(text);
	return err;
}
