/* log: the shape of a line, levels, quoting, and the limit on repetitions. */
#include <errno.h>
#include <regex.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../../common/io/log.h"
#include "../unit/unit.h"

static FILE *captured;  /* what standard error is meanwhile */
static int real_stderr; /* and what it was */
static char text[4 * LOG_LINE_MAX];

static void capture_begin(void)
{
	captured = tmpfile();
	real_stderr = dup(STDERR_FILENO);
	dup2(fileno(captured), STDERR_FILENO);
}

/* Returns what was logged since capture_begin(). */
static const char *capture_end(void)
{
	size_t len;

	dup2(real_stderr, STDERR_FILENO);
	close(real_stderr);
	rewind(captured);
	len = fread(text, 1, sizeof text - 1, captured);
	text[len] = '\0';
	fclose(captured);
	return text;
}

static unsigned lines_of(const char *log)
{
	unsigned count = 0;

	for (; *log; log++)
		count += *log == '\n';
	return count;
}

static bool matches(const char *got, const char *pattern)
{
	regex_t regex;
	bool found;

	if (regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB) != 0)
		return false;
	found = regexec(&regex, got, 0, NULL, 0) == 0;
	regfree(&regex);
	return found;
}

static void test_lines(void)
{
	UNIT_CASE("log: time, level, event, values") {
		capture_begin();
		log_event(LOG_LEVEL_WARN, "path_down", "path=%s rtt_us=%d", "adsl", 12);
		if (!matches(capture_end(),
		             "^20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]\\.[0-9]{3}Z "
		             "warn event=path_down path=adsl rtt_us=12\n$"))
			UNIT_FAIL("the line is \"%s\"", text);
	}
	UNIT_CASE("log: an event without values ends after its name") {
		capture_begin();
		log_event(LOG_LEVEL_ERROR, "ready", "%s", "");
		log_event(LOG_LEVEL_ERROR, "ready2", "k=1");
		UNIT_EQ(lines_of(capture_end()), 2);
		UNIT_HAS(text, " error event=ready");
		UNIT_HAS(text, " error event=ready2 k=1\n");
	}
	UNIT_CASE("log: a long line is cut and stays one line") {
		char value[2 * LOG_LINE_MAX];

		memset(value, 'x', sizeof value);
		value[sizeof value - 1] = '\0';
		capture_begin();
		log_event(LOG_LEVEL_ERROR, "long", "v=%s", value);
		capture_end();
		UNIT_EQ(strlen(text), LOG_LINE_MAX);
		UNIT_EQ(lines_of(text), 1);
		UNIT_EQ(text[LOG_LINE_MAX - 1], '\n');
	}
	UNIT_CASE("log: control bytes cannot make a second line") {
		capture_begin();
		log_event(LOG_LEVEL_ERROR, "e", "v=%s", "a\nb\x1b[0m\x7f");
		UNIT_HAS(capture_end(), "v=a?b?[0m?\n");
	}
	UNIT_CASE("log: errno is preserved") {
		struct log_limit limit = LOG_LIMIT_DEFAULT;

		capture_begin();
		close(STDERR_FILENO); /* makes write() fail */
		errno = EXDEV;
		log_event(LOG_LEVEL_ERROR, "e", "k=1");
		UNIT_EQ(errno, EXDEV);
		log_limited(&limit, LOG_LEVEL_ERROR, "e", "k=1");
		UNIT_EQ(errno, EXDEV);
		capture_end();
	}
}

static void test_levels(void)
{
	static const char *const names[] = {"error", "warn", "info", "debug"};

	UNIT_CASE("log: info is the default level") {
		capture_begin();
		log_event(LOG_LEVEL_INFO, "shown", "k=1");
		log_event(LOG_LEVEL_DEBUG, "hidden", "k=1");
		UNIT_HAS(capture_end(), "event=shown");
		UNIT_EQ(lines_of(text), 1);
	}
	for (int level = LOG_LEVEL_ERROR; level <= LOG_LEVEL_DEBUG; level++)
		UNIT_CASE("log: level %s", names[level]) {
			enum log_level parsed = LOG_LEVEL_ERROR;

			UNIT_EQ(log_level_parse(&parsed, names[level]), 0);
			UNIT_EQ(parsed, level);
			log_set_level(parsed);
			capture_begin();
			for (int i = LOG_LEVEL_ERROR; i <= LOG_LEVEL_DEBUG; i++)
				log_event((enum log_level)i, "e", "k=1");
			UNIT_EQ(lines_of(capture_end()), level + 1);
		}
	log_set_level(LOG_LEVEL_INFO);
	UNIT_CASE("log: a name that is no level") {
		enum log_level parsed = LOG_LEVEL_WARN;

		UNIT_EQ(log_level_parse(&parsed, "Info"), -EINVAL);
		UNIT_EQ(log_level_parse(&parsed, ""), -EINVAL);
		UNIT_EQ(parsed, LOG_LEVEL_WARN);
	}
}

static void test_values(void)
{
	static const struct {
		const char *in, *out;
	} cases[] = {
	        {"plain-1.2:3/[x]", "plain-1.2:3/[x]"},
	        {"", "\"\""},
	        {NULL, "\"\""},
	        {"two words", "\"two words\""},
	        {"a=b", "\"a=b\""},
	        {"say \"hi\"", "\"say \\\"hi\\\"\""},
	        {"back\\slash", "\"back\\\\slash\""},
	        {"line\nline\r\t", "\"line\\nline\\r\\t\""},
	        {"\x01\x1b\x7f", "\"\\x01\\x1b\\x7f\""},
	        {"gr\xc3\xbc\xc3\x9f", "\"gr\\xc3\\xbc\\xc3\\x9f\""},
	};
	char buf[64];

	UNIT_CASE("log: quoting of values") {
		for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
			UNIT_STR(log_value(buf, sizeof buf, cases[i].in), cases[i].out);
	}
	UNIT_CASE("log: a value is cut to any size without half an escape") {
		for (unsigned size = 3; size < 20; size++) {
			size_t len;

			memset(buf, '#', sizeof buf);
			len = strlen(log_value(buf, size, "a b\n\x01\x02\x03"));
			UNIT_TRUE(len < size && buf[0] == '"' && buf[len - 1] == '"');
			UNIT_EQ(buf[size], '#');
			UNIT_TRUE(matches(buf, "^\"([a-z ]|\\\\n|\\\\x[0-9a-f]{2})*\"$"));
			UNIT_TRUE(strlen(log_value(buf, size, "abcdefghijklmnopqrstuvwxyz")) == size - 1);
		}
	}
}

static void sleep_ms(long ms)
{
	const struct timespec pause = {.tv_nsec = ms * 1000000};

	nanosleep(&pause, NULL);
}

static void test_limit(void)
{
	UNIT_CASE("log: a burst, then silence") {
		struct log_limit limit = {.burst = 3, .interval_us = 60 * 1000000};

		capture_begin();
		for (int i = 0; i < 100; i++)
			log_limited(&limit, LOG_LEVEL_WARN, "flood", "i=%d", i);
		UNIT_EQ(lines_of(capture_end()), 3);
		UNIT_HAS(text, "i=2\n");
		UNIT_EQ(limit.suppressed, 97);
	}
	UNIT_CASE("log: the line after a pause tells how many were left out") {
		struct log_limit limit = {.burst = 1, .interval_us = 20000};

		capture_begin();
		for (int i = 0; i < 5; i++)
			log_limited(&limit, LOG_LEVEL_WARN, "flood", "i=%d", i);
		sleep_ms(30);
		log_limited(&limit, LOG_LEVEL_WARN, "flood", "i=%d", 5);
		sleep_ms(30);
		log_limited(&limit, LOG_LEVEL_WARN, "flood", "i=%d", 6);
		UNIT_HAS(capture_end(), "event=flood i=5 suppressed=4\n");
		UNIT_HAS(text, "event=flood i=6\n");
	}
	UNIT_CASE("log: a long pause gives the whole burst back and no more") {
		struct log_limit limit = {.burst = 2, .interval_us = 1000000, .tokens_used = 2, .last_us = 0};

		capture_begin();
		for (int i = 0; i < 10; i++)
			log_limited(&limit, LOG_LEVEL_WARN, "flood", "i=%d", i);
		UNIT_EQ(lines_of(capture_end()), 2);
	}
	UNIT_CASE("log: what the level hides is neither counted nor charged") {
		struct log_limit limit = {.burst = 1, .interval_us = 60 * 1000000};

		capture_begin();
		for (int i = 0; i < 10; i++)
			log_limited(&limit, LOG_LEVEL_DEBUG, "quiet", "i=%d", i);
		UNIT_STR(capture_end(), "");
		UNIT_EQ(limit.suppressed, 0);
		UNIT_EQ(limit.tokens_used, 0);
	}
}

int main(void)
{
	test_lines();
	test_levels();
	test_values();
	test_limit();
	return unit_exit();
}
