/* bytes: bounds-checked big-endian cursors, the only code that knows the byte order of the wire.
 *
 * A reader or writer that would pass its end sets `failed` and from then on does nothing (reads give 0), so a
 * caller checks once, at the end. Neither owns its memory.
 */
#ifndef PAIR_CORE_BYTES_H
#define PAIR_CORE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct bytes_reader {
	const uint8_t *at;
	const uint8_t *end;
	bool failed;
};

struct bytes_writer {
	uint8_t *at;
	uint8_t *end;
	bool failed;
};

static inline uint64_t bytes_get(struct bytes_reader *r, unsigned width)
{
	if (r->failed || (size_t)(r->end - r->at) < width) {
		r->failed = true;
		return 0;
	}
	uint64_t value = 0;
	while (width--)
		value = value << 8 | *r->at++;
	return value;
}

static inline uint8_t bytes_get_u8(struct bytes_reader *r)
{
	return (uint8_t)bytes_get(r, 1);
}
static inline uint16_t bytes_get_u16(struct bytes_reader *r)
{
	return (uint16_t)bytes_get(r, 2);
}
static inline uint32_t bytes_get_u32(struct bytes_reader *r)
{
	return (uint32_t)bytes_get(r, 4);
}
static inline uint64_t bytes_get_u64(struct bytes_reader *r)
{
	return bytes_get(r, 8);
}

static inline void bytes_get_copy(struct bytes_reader *r, void *to, size_t len)
{
	if (r->failed || (size_t)(r->end - r->at) < len) {
		r->failed = true;
		memset(to, 0, len);
		return;
	}
	memcpy(to, r->at, len);
	r->at += len;
}

static inline void bytes_put(struct bytes_writer *w, uint64_t value, unsigned width)
{
	if (w->failed || (size_t)(w->end - w->at) < width) {
		w->failed = true;
		return;
	}
	while (width--)
		*w->at++ = (uint8_t)(value >> (8 * width));
}

static inline void bytes_put_copy(struct bytes_writer *w, const void *from, size_t len)
{
	if (w->failed || (size_t)(w->end - w->at) < len) {
		w->failed = true;
		return;
	}
	memcpy(w->at, from, len);
	w->at += len;
}

#endif
