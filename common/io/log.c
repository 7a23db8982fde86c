#include "log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const level_names[] = {"error", "warn", "info", "debug"};

static enum log_level max_level = LOG_LEVEL_INFO;

void log_set_level(enum log_level level)
{
	max_level = level;
}

int log_level_parse(enum log_level *level, const char *name)
{
	for (unsigned i = 0; i < sizeof level_names / sizeof *level_names; i++)
		if (strcmp(name, level_names[i]) == 0) {
			*level = (enum log_level)i;
			return 0;
		}
	return -EINVAL;
}

/* Adds to the line and returns its new length, at most LOG_LINE_MAX - 1. */
__attribute__((format(printf, 3, 0))) static size_t line_add(char *line, size_t used, const char *format, va_list args)
{
	int len = vsnprintf(line + used, LOG_LINE_MAX - used, format, args);

	if (len < 0)
		return used;
	return (size_t)len < LOG_LINE_MAX - used ? used + (size_t)len : LOG_LINE_MAX - 1;
}

__attribute__((format(printf, 3, 4))) static size_t line_print(char *line, size_t used, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	used = line_add(line, used, format, args);
	va_end(args);
	return used;
}

__attribute__((format(printf, 4, 0))) static void log_line(enum log_level level, const char *event, uint64_t suppressed,
                                                           const char *format, va_list args)
{
	char line[LOG_LINE_MAX];
	struct timespec now;
	struct tm utc;
	size_t len;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &utc);
	len = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &utc);
	len = line_print(line, len, ".%03ldZ %s event=%s", now.tv_nsec / 1000000, level_names[level], event);
	if (*format) {
		len = line_print(line, len, " ");
		len = line_add(line, len, format, args);
	}
	if (suppressed)
		len = line_print(line, len, " suppressed=%llu", (unsigned long long)suppressed);
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
			line[i] = '?';
	line[len++] = '\n'; /* len is at most LOG_LINE_MAX - 1 before: the NUL's place */
	/* Nobody is left to tell when standard error does not take it. */
	if (write(STDERR_FILENO, line, len) < 0)
		return;
}

void log_event(enum log_level level, const char *event, const char *format, ...)
{
	int saved = errno;
	va_list args;

	if (level > max_level)
		return;
	va_start(args, format);
	log_line(level, event, 0, format, args);
	va_end(args);
	errno = saved;
}

/* Gives back one token for each interval since the last one; keeps the remainder of the time. */
static void limit_refill(struct log_limit *limit, uint64_t now_us)
{
	uint64_t tokens;

	if (!limit->tokens_used) {
		limit->last_us = now_us;
		return;
	}
	if (!limit->interval_us) {
		limit->tokens_used = 0;
		return;
	}
	tokens = (now_us - limit->last_us) / limit->interval_us;
	if (tokens >= limit->tokens_used) {
		limit->tokens_used = 0;
		limit->last_us = now_us;
	} else {
		limit->tokens_used -= (unsigned)tokens;
		limit->last_us += tokens * limit->interval_us;
	}
}

void log_limited(struct log_limit *limit, enum log_level level, const char *event, const char *format, ...)
{
	int saved = errno;
	struct timespec now;
	va_list args;

	if (level > max_level)
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	limit_refill(limit, (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000);
	if (limit->tokens_used >= limit->burst) {
		limit->suppressed++;
	} else {
		limit->tokens_used++;
		va_start(args, format);
		log_line(level, event, limit->suppressed, format, args);
		va_end(args);
		limit->suppressed = 0;
	}
	errno = saved;
}

static bool is_plain(unsigned char c)
{
	return c > ' ' && c < 0x7f && c != '"' && c != '\\' && c != '=';
}

/* One character of a quoted value, escaped, into out[5]; returns its length. */
static size_t escape(char out[5], unsigned char c)
{
	static const char special[] = "\"\\\n\r\t", letter[] = "\"\\nrt";
	const char *found = c ? strchr(special, c) : NULL;

	if (found) {
		out[0] = '\\';
		out[1] = letter[found - special];
		return 2;
	}
	if (c >= ' ' && c < 0x7f) {
		out[0] = (char)c;
		return 1;
	}
	return (size_t)snprintf(out, 5, "\\x%02x", c);
}

const char *log_value(char *buf, unsigned size, const char *text)
{
	bool plain = text && *text;
	size_t used = 0;

	if (!text)
		text = "";
	for (const char *c = text; *c; c++)
		plain = plain && is_plain((unsigned char)*c);
	if (plain) {
		snprintf(buf, size, "%s", text);
		return buf;
	}
	buf[used++] = '"';
	for (const char *c = text; *c; c++) {
		char out[5];
		size_t len = escape(out, (unsigned char)*c);

		if (used + len + 2 > size) /* the closing quote and the NUL */
			break;
		memcpy(buf + used, out, len);
		used += len;
	}
	buf[used++] = '"';
	buf[used] = '\0';
	return buf;
}
