/* frame_reader: a stripe's incoming bytes → frames, piece by piece, without ever holding a payload.
 *
 * Payload is handed on as it arrives: a DATA frame of 60 kB that comes in three reads gives three frames of type DATA
 * with consecutive offsets, FIN only on the last; an OPEN with payload gives the OPEN (without payload) and then DATA
 * at offset 0. A BLOCK gives DATA that tells its block; PARITY gives pieces of PARITY, offsets counted from 0. So a
 * reader costs a few dozen bytes whatever the peer announces, and what a dying stripe delivered of a frame counts.
 *
 * The first error is sticky: the stream has no way to find the next frame, so the stripe must be closed.
 */
#ifndef PAIR_CORE_FRAME_READER_H
#define PAIR_CORE_FRAME_READER_H

#include "frame.h"

struct frame_reader {
	struct frame_header header; /* valid when head_len ≥ FRAME_HEADER_BYTES */
	uint32_t head_len;          /* bytes of head[] that are filled; all of them: payload comes next */
	uint32_t payload_left;      /* bytes of the current frame's payload still to come */
	uint64_t payload_offset;    /* joint offset of the next of them */
	bool in_payload;            /* between a frame's head and its last payload byte */
	struct frame_block block;   /* of the current frame, if it is of one */
	const char *error;          /* static text, or NULL */
	uint8_t head[FRAME_HEAD_MAX];
};

void frame_reader_init(struct frame_reader *r);

/* Takes bytes from [*at, end), advances *at, and fills `f` with the next frame or piece of one.
 * 1: `f` is valid; its payload points into [*at, end) and lives as long as the caller's bytes do.
 * 0: all bytes taken, more are needed. -EPROTO: r->error tells why; *at is undefined. */
int frame_reader_next(struct frame_reader *r, const uint8_t **at, const uint8_t *end, struct frame *f);

/* A flow's bytes that come next, before any further frame: the flow, the offset of the first byte and how many bytes
 * are still to come. 0 when a frame's head comes next, or parity. */
uint32_t frame_reader_payload(const struct frame_reader *r, uint32_t *flow, uint64_t *offset);

/* `len` ≤ frame_reader_payload bytes of it were taken past the reader: `f` becomes the piece they make, with payload
 * NULL. */
void frame_reader_took(struct frame_reader *r, uint32_t len, struct frame *f);

#endif
