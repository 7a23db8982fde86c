/* block: what a receiver keeps of a block whose bytes arrive, so that parity (parity.h) can stand for those that are
 * held up: not the bytes, which the application may have had long since, but the sums over them.
 *
 * Every byte is added once, when it is new; rows of parity are added to theirs. Nothing here knows flows or windows;
 * ingress.c feeds it, and asks it what it can do.
 */
#ifndef PAIR_CORE_BLOCK_H
#define PAIR_CORE_BLOCK_H

#include "memory.h"
#include "parity.h"

struct block {
	struct memory_quota *account;
	uint64_t start;                   /* offset of its first byte */
	uint64_t added_to;                /* one past the highest offset that was added */
	uint64_t stray_from;              /* the lowest offset of block_stray */
	uint32_t len;                     /* its bytes; 0: not known before the first row is here */
	uint8_t rows;                     /* that may come */
	uint8_t whole;                    /* rows that are complete */
	uint16_t filled[PARITY_ROWS_MAX]; /* bytes of each row that have come */
	uint8_t sums[];
};

/* NULL: no memory, or the account allows no more. */
struct block *block_new(struct memory_quota *account, uint64_t start, uint8_t rows);
/* NULL is fine. */
void block_free(struct block *block);

/* New bytes of the flow; those outside the block are left out. */
void block_add(struct block *block, uint64_t offset, const uint8_t *bytes, size_t len);

/* New bytes that may be of the block or behind it, while it is not known where it ends: they are not added. */
void block_stray(struct block *block, uint64_t offset);
/* Whether the sums are over what has come of the block, and nothing else, now that its length is known. */
bool block_is_sound(const struct block *block);

/* `len` bytes of row `row` < rows, from its byte `at` on, of a block of `block_len` bytes. 0, or -EPROTO: another
 * length than before. Bytes that do not follow those that have come are left out: what is sent again of a row counts
 * only from there on. */
int block_parity(struct block *block, uint32_t block_len, unsigned row, uint64_t at, const uint8_t *bytes, size_t len);

/* The symbols symbols[0..count), all others of the block having been added, to out + i · PARITY_SYMBOL_BYTES; 1 ≤ count
 * ≤ whole. The block can only be freed then. */
void block_solve(struct block *block, const uint8_t *symbols, unsigned count, uint8_t *out);

#endif
