/* failures: what of a path's failed attempts is told. */
#include "../../tx_proxy/failures.h"
#include <string.h>

#include "../unit/unit.h"

enum { S = 1000000 };

static void test_repetition(void)
{
	struct failures failures = {0};
	unsigned count = 0;

	UNIT_CASE("failures: the first is told, the same again is not") {
		UNIT_TRUE(failures_note(&failures, "hello", "no WELCOME", 5 * S, &count));
		UNIT_EQ(count, 1);
		for (unsigned i = 1; i < 60; i++)
			UNIT_TRUE(!failures_note(&failures, "hello", "no WELCOME", (5 + i) * S, &count));
	}
	UNIT_CASE("failures: after a minute it is told again, with how many there were") {
		UNIT_TRUE(failures_note(&failures, "hello", "no WELCOME", 65 * S, &count));
		UNIT_EQ(count, 60);
		UNIT_TRUE(!failures_note(&failures, "hello", "no WELCOME", 66 * S, &count));
	}
	UNIT_CASE("failures: after a long pause at once, and the pause counts nothing") {
		UNIT_TRUE(failures_note(&failures, "hello", "no WELCOME", 9000ull * S, &count));
		UNIT_EQ(count, 2);
	}
}

static void test_kinds(void)
{
	static const char *const reasons[] = {"a", "b", "c", "d", "e"};
	char longer[3 * FAILURES_REASON_MAX], other[3 * FAILURES_REASON_MAX];
	struct failures failures = {0};
	unsigned count = 0;

	UNIT_CASE("failures: another step or reason is another kind") {
		UNIT_TRUE(failures_note(&failures, "connect", "a", S, &count));
		UNIT_TRUE(failures_note(&failures, "tls", "a", S, &count));
		UNIT_TRUE(failures_note(&failures, "tls", "b", S, &count));
		UNIT_TRUE(!failures_note(&failures, "connect", "a", 2 * S, &count));
		UNIT_TRUE(!failures_note(&failures, "tls", "b", 2 * S, &count));
	}
	UNIT_CASE("failures: of more kinds than have place the oldest is forgotten") {
		failures = (struct failures){0};
		for (unsigned i = 0; i < 5; i++)
			UNIT_TRUE(failures_note(&failures, "connect", reasons[i], (1 + i) * S, &count));
		UNIT_TRUE(!failures_note(&failures, "connect", "b", 7 * S, &count));
		UNIT_TRUE(!failures_note(&failures, "connect", "e", 7 * S, &count));
		UNIT_TRUE(failures_note(&failures, "connect", "a", 7 * S, &count));
		UNIT_EQ(count, 1);
	}
	UNIT_CASE("failures: long reasons are compared as far as they are kept") {
		memset(longer, 'x', sizeof longer);
		longer[sizeof longer - 1] = '\0';
		memcpy(other, longer, sizeof other);
		other[2 * FAILURES_REASON_MAX] = 'y';
		UNIT_TRUE(failures_note(&failures, "tls", longer, S, &count));
		UNIT_TRUE(!failures_note(&failures, "tls", longer, S, &count));
		UNIT_TRUE(!failures_note(&failures, "tls", other, S, &count));
	}
}

int main(void)
{
	test_repetition();
	test_kinds();
	return unit_exit();
}
