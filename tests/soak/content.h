/* content: the bytes that the soak's flows carry, known from a key and an offset, so that each end can say of each byte
 * whether it is the right one. The stream of a key is that of splitmix64 (Steele, Lea, Flood, OOPSLA 2014),
 * little-endian.
 */
#ifndef PAIR_SOAK_CONTENT_H
#define PAIR_SOAK_CONTENT_H

#include <stddef.h>
#include <stdint.h>

#define CONTENT_RIGHT UINT64_MAX

/* The finalizer of splitmix64: a number that looks random, and is the same for the same x. */
uint64_t content_mix(uint64_t x);

void content_fill(uint64_t key, uint64_t offset, uint8_t *bytes, size_t len);

/* The offset of the first byte that is not the key's, or CONTENT_RIGHT. */
uint64_t content_check(uint64_t key, uint64_t offset, const uint8_t *bytes, size_t len);

#endif
