#include "parity.h"

#include <assert.h>
#include <isa-l/erasure_code.h>
#include <string.h>

enum {
	TABLE_BYTES = 32, /* ISA-L's for one coefficient */
	FIRST_SYMBOL = 16 /* x_r = r, y_s = 16 + s */
};

static unsigned char coefficient(unsigned row, unsigned symbol)
{
	return gf_inv((unsigned char)(row ^ (FIRST_SYMBOL + symbol)));
}

/* Those of all symbols, row by row. */
static unsigned char *tables(void)
{
	static unsigned char made[TABLE_BYTES * PARITY_SYMBOLS_MAX * PARITY_ROWS_MAX];
	static bool ready;
	unsigned char matrix[PARITY_SYMBOLS_MAX * PARITY_ROWS_MAX];
	if (ready)
		return made;
	for (unsigned row = 0; row < PARITY_ROWS_MAX; row++)
		for (unsigned symbol = 0; symbol < PARITY_SYMBOLS_MAX; symbol++)
			matrix[row * PARITY_SYMBOLS_MAX + symbol] = coefficient(row, symbol);
	ec_init_tables(PARITY_SYMBOLS_MAX, PARITY_ROWS_MAX, matrix, made);
	ready = true;
	return made;
}

void parity_add(uint8_t *sums, unsigned rows, uint32_t at, const uint8_t *bytes, size_t len)
{
	assert(rows <= PARITY_ROWS_MAX && at + len <= PARITY_BLOCK_MAX_BYTES);
	while (len) {
		uint32_t symbol = at / PARITY_SYMBOL_BYTES, in_symbol = at % PARITY_SYMBOL_BYTES;
		size_t part = PARITY_SYMBOL_BYTES - in_symbol;
		unsigned char *to[PARITY_ROWS_MAX];
		if (part > len)
			part = len;
		for (unsigned row = 0; row < rows; row++)
			to[row] = sums + row * PARITY_SYMBOL_BYTES + in_symbol;
		ec_encode_data_update((int)part, PARITY_SYMBOLS_MAX, (int)rows, (int)symbol, tables(),
		                      (unsigned char *)(uintptr_t)bytes, to);
		at += (uint32_t)part;
		bytes += part;
		len -= part;
	}
}

void parity_solve(uint8_t *sums, const uint8_t *rows, const uint8_t *symbols, unsigned count, uint8_t *out)
{
	unsigned char matrix[PARITY_ROWS_MAX * PARITY_ROWS_MAX], inverse[PARITY_ROWS_MAX * PARITY_ROWS_MAX];
	unsigned char made[TABLE_BYTES * PARITY_ROWS_MAX * PARITY_ROWS_MAX];
	unsigned char *from[PARITY_ROWS_MAX], *to[PARITY_ROWS_MAX];
	assert(count > 0 && count <= PARITY_ROWS_MAX);
	for (unsigned i = 0; i < count; i++) {
		from[i] = sums + rows[i] * PARITY_SYMBOL_BYTES;
		to[i] = out + i * PARITY_SYMBOL_BYTES;
		for (unsigned j = 0; j < count; j++)
			matrix[i * count + j] = coefficient(rows[i], symbols[j]);
	}
	/* Any square part of Cauchy's matrix has an inverse. */
	int err = gf_invert_matrix(matrix, inverse, (int)count);
	assert(!err);
	(void)err;
	ec_init_tables((int)count, (int)count, inverse, made);
	ec_encode_data(PARITY_SYMBOL_BYTES, (int)count, (int)count, made, from, to);
}
