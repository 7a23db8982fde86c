#include "unit.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { WHY_MAX = 2000, REPORTED_MAX = 3 };

static struct {
	bool open;
	char name[200];
	const char *skip; /* the reason, or NULL */
	char why[WHY_MAX];
	unsigned failed; /* checks of the open case */
	unsigned cases;
	unsigned failed_cases;
} unit;

bool unit_begin(const char *name, ...)
{
	va_list args;

	unit_end();
	unit.open = true;
	unit.skip = NULL;
	unit.failed = 0;
	unit.why[0] = '\0';
	va_start(args, name);
	vsnprintf(unit.name, sizeof unit.name, name, args);
	va_end(args);
	return true;
}

bool unit_end(void)
{
	if (!unit.open)
		return false;
	unit.open = false;
	unit.cases++;
	if (unit.failed) {
		unit.failed_cases++;
		printf("not ok - %s: %s", unit.name, unit.why);
		if (unit.failed > REPORTED_MAX)
			printf("; and %u more", unit.failed - REPORTED_MAX);
		putchar('\n');
	} else if (unit.skip) {
		printf("skip - %s: %s\n", unit.name, unit.skip);
	} else {
		printf("ok - %s\n", unit.name);
	}
	fflush(stdout); /* what was decided must survive a crash in the next case */
	return false;
}

void unit_skip(const char *reason)
{
	unit.skip = reason;
}

int unit_exit(void)
{
	unit_end();
	return unit.failed_cases || !unit.cases;
}

void unit_fail(const char *file, int line, const char *format, ...)
{
	size_t used = strlen(unit.why);
	va_list args;

	if (unit.failed++ >= REPORTED_MAX)
		return;
	used += (size_t)snprintf(unit.why + used, WHY_MAX - used, "%s%s:%d ", used ? "; " : "", file, line);
	if (used >= WHY_MAX)
		return;
	va_start(args, format);
	vsnprintf(unit.why + used, WHY_MAX - used, format, args);
	va_end(args);
	for (char *c = unit.why; *c; c++)
		if ((unsigned char)*c < ' ')
			*c = ' '; /* one line a case, whatever was compared */
}

bool unit_true(bool held, const char *file, int line, const char *text)
{
	if (!held)
		unit_fail(file, line, "%s is false", text);
	return held;
}

bool unit_equal(int64_t got, int64_t want, const char *file, int line, const char *text, const char *want_text)
{
	if (got != want)
		unit_fail(file, line, "%s is %" PRId64 ", not %s (%" PRId64 ")", text, got, want_text, want);
	return got == want;
}

bool unit_string(const char *got, const char *want, const char *file, int line, const char *text)
{
	bool held = got && want ? strcmp(got, want) == 0 : got == want;

	if (!held)
		unit_fail(file, line, "%s is \"%s\", not \"%s\"", text, got ? got : "(null)", want ? want : "(null)");
	return held;
}

bool unit_has(const char *got, const char *want, const char *file, int line, const char *text)
{
	bool held = got && strstr(got, want);

	if (!held)
		unit_fail(file, line, "%s is \"%s\", which has no \"%s\"", text, got ? got : "(null)", want);
	return held;
}

bool unit_memory(const void *got, const void *want, size_t len_bytes, const char *file, int line, const char *text)
{
	const uint8_t *a = got, *b = want;

	for (size_t i = 0; i < len_bytes; i++)
		if (a[i] != b[i]) {
			unit_fail(file, line, "%s has 0x%02x at byte %zu, not 0x%02x", text, a[i], i, b[i]);
			return false;
		}
	return true;
}
