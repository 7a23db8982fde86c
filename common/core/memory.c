#include "memory.h"

#include <stdlib.h>

/* Per thread, as engines are: workers share nothing. */
static _Thread_local uint64_t fail_countdown;
static _Thread_local uint64_t live;

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
	void *block = fails() ? NULL : calloc(count, size);
	live += block != NULL;
	return block;
}

void *memory_new_raw(size_t size)
{
	void *block = fails() ? NULL : malloc(size);
	live += block != NULL;
	return block;
}

void *memory_resize(void *old, size_t count, size_t size)
{
	void *block = fails() ? NULL : reallocarray(old, count, size);
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
