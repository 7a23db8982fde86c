#include "frame_reader.h"

#include <errno.h>

void frame_reader_init(struct frame_reader *r)
{
	*r = (struct frame_reader){0};
}

static int fail(struct frame_reader *r, const char *why)
{
	r->error = why;
	return -EPROTO;
}

/* Fills head[] up to `want` bytes. True when it has them. */
static bool gather(struct frame_reader *r, const uint8_t **at, const uint8_t *end, uint32_t want)
{
	size_t len = (size_t)(end - *at);
	if (r->head_len >= want)
		return true;
	if (len > want - r->head_len)
		len = want - r->head_len;
	memcpy(r->head + r->head_len, *at, len);
	r->head_len += (uint32_t)len;
	*at += len;
	return r->head_len == want;
}

uint32_t frame_reader_payload(const struct frame_reader *r, uint32_t *flow, uint64_t *offset)
{
	if (r->error || !r->in_payload || r->header.type == FRAME_PARITY)
		return 0;
	*flow = r->header.flow;
	*offset = r->payload_offset;
	return r->payload_left;
}

void frame_reader_took(struct frame_reader *r, uint32_t len, struct frame *f)
{
	*f = (struct frame){.type = r->header.type == FRAME_PARITY ? FRAME_PARITY : FRAME_DATA,
	                    .flags = r->header.flags & FRAME_FLAG_COPY,
	                    .flow = r->header.flow,
	                    .offset = r->payload_offset,
	                    .block = r->block,
	                    .payload_len = len};
	r->payload_left -= len;
	r->payload_offset += len;
	if (!r->payload_left) {
		f->flags = r->header.flags;
		r->in_payload = false;
		r->head_len = 0;
	}
}

/* The next piece of payload as a frame. */
static int next_piece(struct frame_reader *r, const uint8_t **at, const uint8_t *end, struct frame *f)
{
	size_t len = (size_t)(end - *at);
	if (len > r->payload_left)
		len = r->payload_left;
	if (!len && r->payload_left)
		return 0;
	frame_reader_took(r, (uint32_t)len, f);
	f->payload = *at;
	*at += len;
	return 1;
}

int frame_reader_next(struct frame_reader *r, const uint8_t **at, const uint8_t *end, struct frame *f)
{
	const char *error;

	if (r->error)
		return -EPROTO;
	if (r->in_payload)
		return next_piece(r, at, end, f);
	if (r->head_len < FRAME_HEADER_BYTES) {
		if (!gather(r, at, end, FRAME_HEADER_BYTES))
			return 0;
		error = frame_decode_header(&r->header, r->head);
		if (error)
			return fail(r, error);
	}
	if (r->header.type == FRAME_OPEN && r->head_len <= FRAME_HEADER_BYTES) {
		if (!gather(r, at, end, FRAME_HEADER_BYTES + 1))
			return 0;
		error = frame_open_fixed_len(&r->header, r->head[FRAME_HEADER_BYTES]);
		if (error)
			return fail(r, error);
	}
	if (!gather(r, at, end, FRAME_HEADER_BYTES + r->header.fixed_len))
		return 0;
	error = frame_decode_fixed(f, &r->header, r->head + FRAME_HEADER_BYTES);
	if (error)
		return fail(r, error);
	r->payload_left = r->header.payload_len;
	bool has_offset = f->type == FRAME_DATA || f->type == FRAME_BLOCK;
	r->payload_offset = has_offset ? f->offset : 0;
	r->block = f->block;
	r->in_payload = r->payload_left > 0;
	if (has_offset || f->type == FRAME_PARITY) {
		r->in_payload = true;
		return next_piece(r, at, end, f);
	}
	if (!r->in_payload)
		r->head_len = 0;
	return 1;
}
