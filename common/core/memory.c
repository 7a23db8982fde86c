#define _GNU_SOURCE /* mremap */
#include "memory.h"

#include <stdlib.h>
#include <sys/mman.h>

/* The reserve changes in such steps, and shrinks when it is so many too large. */
enum { RESERVE_STEP_BYTES = 1 << 20, RESERVE_SLACK_STEPS = 4 };

struct reserve {
	bool on;
	int64_t wanted_bytes; /* asked for, and promised; for a moment less than nothing while a flow is freed */
	void *at;             /* held_bytes, or NULL */
	size_t held_bytes;
};

/* Per thread, as engines are: workers share nothing. */
static _Thread_local uint64_t fail_countdown;
static _Thread_local uint64_t live;
static _Thread_local struct reserve reserve;

/* --- The reserve -------------------------------------------------------------------------------------------------- */

static uint64_t steps_up(uint64_t bytes)
{
	return (bytes + RESERVE_STEP_BYTES - 1) / RESERVE_STEP_BYTES * RESERVE_STEP_BYTES;
}

static uint64_t wanted(void)
{
	return reserve.wanted_bytes > 0 ? (uint64_t)reserve.wanted_bytes : 0;
}

/* In whole steps. False: it stays as it is. */
static bool hold(uint64_t bytes)
{
	void *at = NULL;

	if (bytes == reserve.held_bytes)
		return true;
	if (!bytes)
		munmap(reserve.at, reserve.held_bytes);
	else if (reserve.at)
		at = mremap(reserve.at, reserve.held_bytes, (size_t)bytes, MREMAP_MAYMOVE);
	else
		at = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED)
		return false;
	reserve.at = at;
	reserve.held_bytes = (size_t)bytes;
	return true;
}

static bool fill(uint64_t bytes)
{
	return reserve.held_bytes >= bytes || hold(steps_up(bytes));
}

void memory_promise(int64_t bytes)
{
	reserve.wanted_bytes += bytes;
	if (!reserve.on || !fill(wanted()))
		return;
	uint64_t enough = steps_up(wanted());
	if (reserve.held_bytes > enough + (uint64_t)RESERVE_SLACK_STEPS * RESERVE_STEP_BYTES)
		hold(enough);
}

void memory_reserve(size_t bytes)
{
	reserve.on = true;
	memory_promise((int64_t)bytes);
}

bool memory_backs(uint64_t bytes)
{
	return !reserve.on || fill(wanted() + bytes);
}

/* After an allocation of so many bytes found nothing. False: there is nothing to take from. */
static bool take_from_reserve(size_t bytes)
{
	uint64_t need = steps_up(bytes) + RESERVE_STEP_BYTES;

	if (!reserve.held_bytes)
		return false;
	return hold(reserve.held_bytes > need ? reserve.held_bytes - need : 0);
}

/* --- The heap ----------------------------------------------------------------------------------------------------- */

static int fails(void)
{
	if (!fail_countdown)
		return 0;
	if (fail_countdown > 1) {
		fail_countdown--;
		return 0;
	}
	return 1;
}

void *memory_new(size_t count, size_t size)
{
	void *block = NULL;

	if (fails())
		return NULL;
	do
		block = calloc(count, size);
	while (!block && take_from_reserve(count * size));
	live += block != NULL;
	return block;
}

void *memory_new_raw(size_t size)
{
	void *block = NULL;

	if (fails())
		return NULL;
	do
		block = malloc(size);
	while (!block && take_from_reserve(size));
	live += block != NULL;
	return block;
}

void *memory_resize(void *old, size_t count, size_t size)
{
	void *block = NULL;

	if (fails())
		return NULL;
	do
		block = reallocarray(old, count, size);
	while (!block && take_from_reserve(count * size));
	live += !old && block;
	return block;
}

void memory_free(void *block)
{
	live -= block != NULL;
	free(block);
}

void memory_fail_after(uint64_t allocations)
{
	fail_countdown = allocations;
}

uint64_t memory_live(void)
{
	return live;
}
