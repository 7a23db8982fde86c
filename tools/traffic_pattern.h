/* traffic_pattern: verifiable data that depends on its seed, its flow, its direction and its offset.
 *
 * The 64-bit word at byte offset 8·i is mix(key + i·γ): a counter in steps of the golden ratio (Weyl sequence) through
 * a bijective multiply-xorshift, stored little-endian. As the mix is bijective, no two words of one stream are alike
 * within 2^64 steps: a word that is wrong, swapped, missing or doubled shows at its own place, and the streams of two
 * flows, or of the two directions of one flow, differ from their first word on (but for a chance of 2^-64).
 *
 * Generating and checking need no state: any range of offsets can be made again. Several GB/s on one core.
 */
#ifndef PAIR_TOOLS_TRAFFIC_PATTERN_H
#define PAIR_TOOLS_TRAFFIC_PATTERN_H

#include <stddef.h>
#include <stdint.h>

enum traffic_way { TRAFFIC_FORTH, TRAFFIC_BACK }; /* stream → receive, receive → stream */

struct traffic_pattern {
	uint64_t key;
};

struct traffic_pattern traffic_pattern_make(uint64_t seed, uint32_t flow, enum traffic_way way);

/* Writes the bytes of [offset, offset + len_bytes) to buf. */
void traffic_pattern_fill(const struct traffic_pattern *pattern, uint64_t offset, uint8_t *buf, size_t len_bytes);

/* How many bytes from the start of buf are those of the pattern from `offset` on: len_bytes when all are. */
size_t traffic_pattern_check(const struct traffic_pattern *pattern, uint64_t offset, const uint8_t *buf,
                             size_t len_bytes);

/* A 64-bit hash of a short block, for the check fields of headers and trailers. Not against an enemy. */
uint64_t traffic_pattern_hash(const uint8_t *buf, size_t len_bytes);

#endif
