/* parity: an erasure code over a block of bytes, in symbols of PARITY_SYMBOL_BYTES, the last one of which may be
 * shorter (then zeros follow). Row r of parity is the sum over all symbols s of c(r, s) · symbol s, in GF(2^8), with
 * Cauchy's matrix c(r, s) = 1 / (x_r + y_s), all x and y different (Blömer et al., ICSI TR-95-048, 1995): any m rows
 * give any m symbols that are missing. The arithmetic is ISA-L's.
 *
 * It is a sum, so bytes may be added one by one and in any order. A receiver that adds what it has to the rows that it
 * got is left with the sum over what it misses, for addition is subtraction here.
 */
#ifndef PAIR_CORE_PARITY_H
#define PAIR_CORE_PARITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	PARITY_SYMBOL_BYTES = 1400, /* what a small flow's frame holds (session_run.h): with its head, a segment */
	PARITY_SYMBOLS_MAX = 224,   /* of one block; with the rows they must be different bytes */
	PARITY_ROWS_MAX = 11,       /* as many as a page holds */
	PARITY_BLOCK_MAX_BYTES = PARITY_SYMBOL_BYTES * PARITY_SYMBOLS_MAX
};

/* Symbols of a block of `len_bytes`. */
static inline uint32_t parity_symbols(uint32_t len_bytes)
{
	return (len_bytes + PARITY_SYMBOL_BYTES - 1) / PARITY_SYMBOL_BYTES;
}

/* Adds `len` bytes, which lie at `at` in their block (at + len ≤ PARITY_BLOCK_MAX_BYTES), to the first `rows` ≤
 * PARITY_ROWS_MAX rows: row r begins at sums + r · PARITY_SYMBOL_BYTES, and all are zeros before the first call. */
void parity_add(uint8_t *sums, unsigned rows, uint32_t at, const uint8_t *bytes, size_t len);

/* From `count` ≥ 1 rows, to which all but `count` symbols have been added and the parity that was received, those
 * symbols: symbol symbols[i] to out + i · PARITY_SYMBOL_BYTES. Of a symbol that was added in part the rest is given,
 * and zeros. Rows and symbols must be different ones each. */
void parity_solve(uint8_t *sums, const uint8_t *rows, const uint8_t *symbols, unsigned count, uint8_t *out);

#endif
