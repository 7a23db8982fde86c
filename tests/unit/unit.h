/* unit: cases and checks for test programs. One line a case on standard output: `ok - NAME`, `not ok - NAME: why`
 * or `skip - NAME: reason`.
 *
 *   int main(void)
 *   {
 *           UNIT_CASE("a range can be split") {
 *                   UNIT_EQ(range_split(&set, 3), 0);
 *                   if (!UNIT_TRUE(set.first))
 *                           break;                  // leaves the case; what failed is reported
 *                   UNIT_STR(set.first->name, "x");
 *           }
 *           return unit_exit();
 *   }
 *
 * A failed check does not end its case; the first few are reported with file and line. The checks give true when
 * they held. Arguments are evaluated once. Cases do not nest. Needs libc alone.
 */
#ifndef TESTS_UNIT_H
#define TESTS_UNIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UNIT_CASE(...) for (bool unit_more_ = unit_begin(__VA_ARGS__); unit_more_; unit_more_ = unit_end())

#define UNIT_TRUE(x) unit_true((x), __FILE__, __LINE__, #x)
/* Integers, enums, booleans; compared as 64 bits. */
#define UNIT_EQ(got, want) unit_equal((int64_t)(got), (int64_t)(want), __FILE__, __LINE__, #got, #want)
/* Strings; NULL equals NULL alone. */
#define UNIT_STR(got, want) unit_string((got), (want), __FILE__, __LINE__, #got)
/* `want` stands somewhere in `got`. */
#define UNIT_HAS(got, want) unit_has((got), (want), __FILE__, __LINE__, #got)
#define UNIT_MEM(got, want, len_bytes) unit_memory((got), (want), (len_bytes), __FILE__, __LINE__, #got)
/* Fails always, with a message of printf's kind: for what the other checks cannot say. */
#define UNIT_FAIL(...) unit_fail(__FILE__, __LINE__, __VA_ARGS__)

/* The name may hold printf directives, for cases made by a table or a loop. Always true. */
__attribute__((format(printf, 1, 2))) bool unit_begin(const char *name, ...);
bool unit_end(void); /* always false */

/* The case counts as skipped unless something failed in it; `break` follows. */
void unit_skip(const char *reason);

/* Ends the last case. 0 iff nothing failed and there was at least one case; for main's return. */
int unit_exit(void);

bool unit_true(bool held, const char *file, int line, const char *text);
bool unit_equal(int64_t got, int64_t want, const char *file, int line, const char *text, const char *want_text);
bool unit_string(const char *got, const char *want, const char *file, int line, const char *text);
bool unit_has(const char *got, const char *want, const char *file, int line, const char *text);
bool unit_memory(const void *got, const void *want, size_t len_bytes, const char *file, int line, const char *text);
__attribute__((format(printf, 3, 4))) void unit_fail(const char *file, int line, const char *format, ...);

#endif
