/* The reserve: what was begun finds memory where the system has none. In a process whose address space may not grow. */
#include "../../common/core/memory.h"
#include "unit.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { PIECE_BYTES = 256 << 10, PIECES_MAX = 4096, MIB = 1 << 20 };

static uint64_t address_space(void)
{
	FILE *file = fopen("/proc/self/statm", "re");
	unsigned long pages = 0;

	if (!file || fscanf(file, "%lu", &pages) != 1)
		UNIT_FAIL("no /proc/self/statm");
	if (file)
		fclose(file);
	return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void allow(uint64_t bytes)
{
	struct rlimit limit = {.rlim_cur = bytes, .rlim_max = RLIM_INFINITY};

	UNIT_EQ(setrlimit(RLIMIT_AS, &limit), 0);
}

/* Takes until there is no more; their number. */
static unsigned take_all(void *pieces[PIECES_MAX], size_t size)
{
	unsigned count = 0;

	while (count < PIECES_MAX && (pieces[count] = memory_new_raw(size)) != NULL)
		count++;
	return count;
}

static void give_back(void *pieces[PIECES_MAX], unsigned count)
{
	while (count)
		memory_free(pieces[--count]);
}

int main(void)
{
	static void *pieces[PIECES_MAX];
	unsigned without, with = 0;

#ifdef __SANITIZE_ADDRESS__
	UNIT_CASE("memory: the reserve")
		unit_skip("the sanitizer's address space is its own");
	return unit_exit();
#endif
	UNIT_CASE("memory: without a reserve nothing is ever scarce, and what is missing is missing") {
		UNIT_TRUE(!memory_is_scarce());
		memory_promise(1000 * (int64_t)MIB);
		UNIT_TRUE(memory_backs(UINT64_MAX / 2));
		memory_promise(-1000 * (int64_t)MIB);
		allow(address_space() + MIB);
		without = take_all(pieces, PIECE_BYTES);
		UNIT_TRUE(without * PIECE_BYTES <= 2 * MIB);
		give_back(pieces, without);
		allow(RLIM_INFINITY);
	}
	UNIT_CASE("memory: it holds address space, and touches none") {
		uint64_t before = address_space();
		memory_reserve(8 * MIB);
		memory_promise(8 * MIB);
		UNIT_TRUE(address_space() >= before + 16 * MIB);
		struct rusage usage;
		getrusage(RUSAGE_SELF, &usage);
		UNIT_TRUE(usage.ru_maxrss < 12 * 1024);
		UNIT_TRUE(!memory_is_scarce());
	}
	UNIT_CASE("memory: what the system refuses comes from it, to the last piece") {
		allow(address_space());
		with = take_all(pieces, PIECE_BYTES);
		UNIT_TRUE(with * PIECE_BYTES >= 12 * MIB);
		UNIT_TRUE(memory_is_scarce());
		memset(pieces[with - 1], 1, PIECE_BYTES);
	}
	UNIT_CASE("memory: it is made whole again as soon as it can be") {
		give_back(pieces, with);
		allow(RLIM_INFINITY);
		UNIT_TRUE(!memory_is_scarce());
		allow(address_space());
		with = take_all(pieces, PIECE_BYTES);
		UNIT_TRUE(with * PIECE_BYTES >= 12 * MIB);
		give_back(pieces, with);
		allow(RLIM_INFINITY);
	}
	UNIT_CASE("memory: promises that cannot be backed are told before") {
		UNIT_TRUE(!memory_is_scarce());
		allow(address_space() + 2 * MIB);
		UNIT_TRUE(!memory_backs(64 * MIB));
		UNIT_TRUE(memory_backs(MIB));
		/* Asking is no promise. */
		UNIT_TRUE(!memory_is_scarce());
		memory_promise(64 * MIB);
		UNIT_TRUE(memory_is_scarce());
		memory_promise(-64 * MIB);
		UNIT_TRUE(!memory_is_scarce());
		allow(RLIM_INFINITY);
	}
	UNIT_CASE("memory: promises that end are given back") {
		memory_promise(200 * MIB);
		uint64_t before = address_space();
		memory_promise(-200 * MIB);
		UNIT_TRUE(address_space() <= before - 190 * (uint64_t)MIB);
		/* A flow is freed: its window first, then its pages. */
		memory_promise(-100 * MIB);
		UNIT_TRUE(!memory_is_scarce());
		memory_promise(100 * MIB);
		UNIT_TRUE(!memory_is_scarce());
	}
	UNIT_CASE("memory: as many promises and returns as a busy hour has") {
		uint64_t before = address_space();
		for (unsigned i = 0; i < 300000; i++)
			memory_promise(i % 2 ? -16384 : 16384);
		UNIT_TRUE(address_space() <= before + MIB);
	}
	return unit_exit();
}
