#include "block.h"

#include <assert.h>
#include <errno.h>

static size_t size_of(uint8_t rows)
{
	return sizeof(struct block) + (size_t)rows * PARITY_SYMBOL_BYTES;
}

struct block *block_new(struct memory_quota *account, uint64_t start, uint8_t rows)
{
	assert(rows > 0 && rows <= PARITY_ROWS_MAX);
	/* What has arrived must be remembered, this need not. */
	bool allowed = account->used_bytes + size_of(rows) <= account->limit_bytes / 2;
	struct block *block = allowed ? memory_new(1, size_of(rows)) : NULL;
	if (!block)
		return NULL;
	account->used_bytes += size_of(rows);
	block->account = account;
	block->start = start;
	block->rows = rows;
	block->added_to = start;
	block->stray_from = UINT64_MAX;
	return block;
}

void block_free(struct block *block)
{
	if (block)
		block->account->used_bytes -= size_of(block->rows);
	memory_free(block);
}

void block_add(struct block *block, uint64_t offset, const uint8_t *bytes, size_t len)
{
	uint64_t end = block->start + PARITY_BLOCK_MAX_BYTES;
	if (offset < block->start) {
		uint64_t before = block->start - offset;
		if (before >= len)
			return;
		offset += before;
		bytes += before;
		len -= (size_t)before;
	}
	if (offset >= end)
		return;
	if (len > end - offset)
		len = (size_t)(end - offset);
	if (block->added_to < offset + len)
		block->added_to = offset + len;
	parity_add(block->sums, block->rows, (uint32_t)(offset - block->start), bytes, len);
}

void block_stray(struct block *block, uint64_t offset)
{
	if (offset < block->start)
		offset = block->start;
	if (offset < block->stray_from)
		block->stray_from = offset;
}

bool block_is_sound(const struct block *block)
{
	uint64_t end = block->start + block->len;
	return block->added_to <= end && block->stray_from >= end;
}

int block_parity(struct block *block, uint32_t block_len, unsigned row, uint64_t at, const uint8_t *bytes, size_t len)
{
	assert(row < block->rows && at + len <= PARITY_SYMBOL_BYTES);
	if (block->len && block->len != block_len)
		return -EPROTO;
	block->len = block_len;
	if (at != block->filled[row])
		return 0;
	uint8_t *sum = block->sums + row * PARITY_SYMBOL_BYTES + at;
	for (size_t i = 0; i < len; i++)
		sum[i] ^= bytes[i];
	block->filled[row] += (uint16_t)len;
	block->whole += len && block->filled[row] == PARITY_SYMBOL_BYTES;
	return 0;
}

void block_solve(struct block *block, const uint8_t *symbols, unsigned count, uint8_t *out)
{
	uint8_t rows[PARITY_ROWS_MAX];
	unsigned found = 0;
	assert(count <= block->whole);
	for (uint8_t row = 0; found < count; row++)
		if (block->filled[row] == PARITY_SYMBOL_BYTES)
			rows[found++] = row;
	parity_solve(block->sums, rows, symbols, count, out);
}
