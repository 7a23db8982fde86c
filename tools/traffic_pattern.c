#include "traffic_pattern.h"

#include <endian.h>
#include <string.h>

static const uint64_t weyl_step = 0x9e3779b97f4a7c15u; /* 2^64 / golden ratio, odd: the counter visits every value */

enum { WORD = 8, BLOCK_WORDS = 32 };

static inline uint64_t mix(uint64_t x)
{
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93u; /* odd, so the multiplication can be undone: a bijection */
	x ^= x >> 29;
	return x;
}

static inline uint64_t word_at(const struct traffic_pattern *pattern, uint64_t index)
{
	return htole64(mix(pattern->key + index * weyl_step));
}

static inline uint8_t byte_at(const struct traffic_pattern *pattern, uint64_t offset)
{
	uint64_t word = word_at(pattern, offset / WORD);
	uint8_t bytes[WORD];

	memcpy(bytes, &word, sizeof bytes);
	return bytes[offset % WORD];
}

struct traffic_pattern traffic_pattern_make(uint64_t seed, uint32_t flow, enum traffic_way way)
{
	uint64_t lane = (uint64_t)flow * 2 + (way == TRAFFIC_BACK) + 1;

	/* Mixed twice: neighbouring seeds and flows must not give neighbouring counters. */
	return (struct traffic_pattern){.key = mix(mix(seed + lane * weyl_step) + lane)};
}

void traffic_pattern_fill(const struct traffic_pattern *pattern, uint64_t offset, uint8_t *buf, size_t len_bytes)
{
	uint64_t counter;
	size_t pos = 0;

	while (pos < len_bytes && (offset + pos) % WORD != 0) {
		buf[pos] = byte_at(pattern, offset + pos);
		pos++;
	}
	counter = pattern->key + (offset + pos) / WORD * weyl_step;
	for (; len_bytes - pos >= WORD; pos += WORD, counter += weyl_step) {
		uint64_t word = htole64(mix(counter));

		memcpy(buf + pos, &word, WORD);
	}
	for (; pos < len_bytes; pos++)
		buf[pos] = byte_at(pattern, offset + pos);
}

/* The offset of the first wrong byte is looked for only where a block is known to hold one. */
static size_t check_bytes(const struct traffic_pattern *pattern, uint64_t offset, const uint8_t *buf, size_t len_bytes)
{
	size_t pos = 0;

	while (pos < len_bytes && buf[pos] == byte_at(pattern, offset + pos))
		pos++;
	return pos;
}

size_t traffic_pattern_check(const struct traffic_pattern *pattern, uint64_t offset, const uint8_t *buf,
                             size_t len_bytes)
{
	size_t head = (WORD - offset % WORD) % WORD;
	uint64_t counter;
	size_t pos;

	if (head > len_bytes)
		head = len_bytes;
	pos = check_bytes(pattern, offset, buf, head);
	if (pos < head)
		return pos;
	counter = pattern->key + (offset + pos) / WORD * weyl_step;
	for (; len_bytes - pos >= BLOCK_WORDS * WORD; pos += BLOCK_WORDS * WORD) {
		uint64_t differs = 0;

		for (unsigned i = 0; i < BLOCK_WORDS; i++, counter += weyl_step) {
			uint64_t word;

			memcpy(&word, buf + pos + i * WORD, WORD);
			differs |= word ^ htole64(mix(counter));
		}
		if (differs)
			break;
	}
	return pos + check_bytes(pattern, offset + pos, buf + pos, len_bytes - pos);
}

uint64_t traffic_pattern_hash(const uint8_t *buf, size_t len_bytes)
{
	uint64_t hash = len_bytes;

	for (size_t i = 0; i < len_bytes; i++)
		hash = mix(hash + buf[i] + weyl_step);
	return hash;
}
