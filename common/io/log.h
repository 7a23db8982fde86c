/* log: one line an event, to standard error: `TIME LEVEL event=NAME key=value …`.
 *
 * TIME is UTC with milliseconds. Values with a space, a quote or a control byte are quoted and escaped by
 * log_value(); numbers and names that the program made itself go in as they are. Nothing is logged per packet at the
 * default level (info). Safe to call anywhere in the thread of the loop; not from signal handlers. errno is preserved.
 */
#ifndef PAIR_IO_LOG_H
#define PAIR_IO_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* Longer lines are cut. */
enum { LOG_LINE_MAX = 2048 };

/* Lines above `level` are not written. LOG_LEVEL_INFO until the first call. */
void log_set_level(enum log_level level);

/* "error", "warn", "info", "debug" → *level. 0 or -EINVAL. */
int log_level_parse(enum log_level *level, const char *name);

/* `event` is a lower_case name; `format` gives the rest of the line ("" for none). One write(2) a line. A control byte
 * that comes in unquoted is written as '?', so a line stays a line. */
__attribute__((format(printf, 3, 4))) void log_event(enum log_level level, const char *event, const char *format, ...);

/* A rate limit for events that the network can provoke: at most `burst` lines, then one per `interval_us`; the
 * line after a pause carries suppressed=N. One static instance per kind of event; zero-initialised but for the first
 * two. */
struct log_limit {
	unsigned burst;
	uint64_t interval_us;
	unsigned tokens_used;
	uint64_t last_us;
	uint64_t suppressed;
};
#define LOG_LIMIT_DEFAULT                                                                                              \
	{                                                                                                              \
		.burst = 10, .interval_us = 1000000                                                                    \
	}

__attribute__((format(printf, 4, 5))) void log_limited(struct log_limit *limit, enum log_level level, const char *event,
                                                       const char *format, ...);

/* `text` as a value: as it is, or in quotes with \" \\ \n \r \t and \xNN (also for every byte from 0x7f on) where it
 * holds anything else than printable ASCII without space, quote, backslash and '='. NULL and "" become "". Cut to fit
 * `size` (at least 3), never inside an escape. Returns buf. */
const char *log_value(char *buf, unsigned size, const char *text);

#endif
