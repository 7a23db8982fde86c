/* Parity against its definition, worked out byte by byte with a table-free product, and whatever is missing worked out
 * from it again.
 */
#include <string.h>

#include "../../common/core/parity.h"
#include "unit.h"
#include "unit_random.h"

enum { POLYNOMIAL = 0x11d };

static uint8_t product(unsigned a, unsigned b)
{
	unsigned sum = 0;

	for (; b; b >>= 1) {
		sum ^= b & 1 ? a : 0;
		a = a << 1 ^ (a & 0x80 ? POLYNOMIAL : 0);
	}
	return (uint8_t)sum;
}

/* doc/protocol.md: 1 / (r + (16 + s)). */
static uint8_t coefficient(unsigned row, unsigned symbol)
{
	unsigned sum = row ^ (16 + symbol), inverse = 1;

	while (product(sum, inverse) != 1)
		inverse++;
	return (uint8_t)inverse;
}

static uint8_t block[PARITY_BLOCK_MAX_BYTES];
static uint8_t sums[PARITY_ROWS_MAX * PARITY_SYMBOL_BYTES];

static void fill(uint64_t *seed, uint32_t len)
{
	memset(block, 0, sizeof block);
	for (uint32_t i = 0; i < len; i++)
		block[i] = (uint8_t)unit_random(seed);
}

static void check_definition(void)
{
	UNIT_CASE("rows are the documented sums") {
		uint64_t seed = 1;
		fill(&seed, sizeof block);
		memset(sums, 0, sizeof sums);
		parity_add(sums, PARITY_ROWS_MAX, 0, block, sizeof block);
		for (unsigned row = 0; row < PARITY_ROWS_MAX; row++) {
			for (unsigned at = 0; at < PARITY_SYMBOL_BYTES; at += 97) {
				uint8_t want = 0;
				for (unsigned s = 0; s < PARITY_SYMBOLS_MAX; s++)
					want ^= product(coefficient(row, s), block[s * PARITY_SYMBOL_BYTES + at]);
				UNIT_EQ(sums[row * PARITY_SYMBOL_BYTES + at], want);
			}
		}
	}
	UNIT_CASE("in pieces of any size and in any order they are the same") {
		uint64_t seed = 2;
		static uint8_t again[sizeof sums];
		uint32_t cuts[2000], count = 0;

		fill(&seed, sizeof block);
		memset(sums, 0, sizeof sums);
		memset(again, 0, sizeof again);
		parity_add(sums, 7, 0, block, sizeof block);
		for (uint32_t at = 0; at < sizeof block && count < 1999; count++) {
			cuts[count] = at;
			at += (uint32_t)(1 + unit_below(&seed, unit_chance(&seed, 1, 4) ? 5000 : 70));
		}
		for (uint32_t i = 0; i < count; i++) {
			/* Every other one first, the rest from the end. */
			uint32_t k = i < (count + 1) / 2 ? 2 * i : 2 * (count - 1 - i) + 1;
			uint32_t to = k + 1 < count ? cuts[k + 1] : (uint32_t)sizeof block;
			if (k >= count)
				continue;
			parity_add(again, 7, cuts[k], block + cuts[k], to - cuts[k]);
		}
		UNIT_MEM(again, sums, sizeof sums);
	}
}

/* Random symbols missing, some of them in part, and random rows for them. */
static bool solve_once(uint64_t *seed)
{
	uint32_t len = (uint32_t)(1 + unit_below(seed, PARITY_BLOCK_MAX_BYTES));
	uint32_t symbols = parity_symbols(len), most = symbols < PARITY_ROWS_MAX ? symbols : PARITY_ROWS_MAX;
	unsigned count = (unsigned)(1 + unit_below(seed, most));
	bool lost[PARITY_SYMBOLS_MAX] = {false}, used[PARITY_ROWS_MAX] = {false};
	uint8_t rows[PARITY_ROWS_MAX], missing[PARITY_ROWS_MAX], out[sizeof sums], got[sizeof sums] = {0};

	fill(seed, len);
	memset(sums, 0, sizeof sums);
	parity_add(sums, PARITY_ROWS_MAX, 0, block, len);
	for (unsigned i = 0; i < count; i++) {
		do
			missing[i] = (uint8_t)unit_below(seed, symbols);
		while (lost[missing[i]]);
		lost[missing[i]] = true;
		do
			rows[i] = (uint8_t)unit_below(seed, PARITY_ROWS_MAX);
		while (used[rows[i]]);
		used[rows[i]] = true;
		memcpy(got + rows[i] * PARITY_SYMBOL_BYTES, sums + rows[i] * PARITY_SYMBOL_BYTES, PARITY_SYMBOL_BYTES);
	}
	uint32_t partly = (uint32_t)unit_below(seed, PARITY_SYMBOL_BYTES);
	for (uint32_t s = 0; s < symbols; s++) {
		uint32_t at = s * PARITY_SYMBOL_BYTES, left = len - at;
		uint32_t whole = left < PARITY_SYMBOL_BYTES ? left : PARITY_SYMBOL_BYTES;
		uint32_t known = !lost[s] ? whole : s == missing[0] && partly < whole ? partly : 0;
		parity_add(got, PARITY_ROWS_MAX, at, block + at, known);
	}
	parity_solve(got, rows, missing, count, out);
	for (unsigned i = 0; i < count; i++) {
		uint8_t want[PARITY_SYMBOL_BYTES];
		uint32_t at = missing[i] * PARITY_SYMBOL_BYTES;
		memcpy(want, block + at, PARITY_SYMBOL_BYTES);
		if (!i && partly < len - at)
			memset(want, 0, partly < PARITY_SYMBOL_BYTES ? partly : PARITY_SYMBOL_BYTES);
		if (!UNIT_MEM(out + i * PARITY_SYMBOL_BYTES, want, PARITY_SYMBOL_BYTES))
			return false;
	}
	return true;
}

int main(void)
{
	check_definition();
	UNIT_CASE("whatever is missing comes back, from any rows") {
		uint64_t seed = 3;
		for (int round = 0; round < 2000; round++) {
			if (!solve_once(&seed)) {
				UNIT_FAIL("round %d", round);
				break;
			}
		}
	}
	return unit_exit();
}
