/* Any bytes, in any pieces: the frame reader gives the same frames and bytes as for the whole, keeps its error, points
 * into what it was given; and whatever it accepts encodes to the same bytes again.
 *
 * The first byte of the input chooses the pieces.
 */
#include <errno.h>
#include <stdlib.h>

#include "../../common/core/frame_reader.h"
#include "../../common/core/parity.h"
#include "fuzz.h"

struct summary {
	uint64_t hash;    /* of frames and payload, whatever pieces it came in */
	uint64_t payload; /* bytes */
	const char *error;
};

static void mix(struct summary *s, uint64_t value)
{
	s->hash = (s->hash ^ value) * 0x9e3779b97f4a7c15u;
	s->hash ^= s->hash >> 31;
}

static void take(struct summary *s, const struct frame *f, bool is_piece, const uint8_t *from, const uint8_t *to)
{
	uint8_t head[FRAME_HEAD_MAX];

	FUZZ_CHECK(!f->payload_len || (f->payload >= from && f->payload + f->payload_len <= to));
	FUZZ_CHECK(f->type == FRAME_DATA || f->type == FRAME_PARITY || !f->payload_len);
	FUZZ_CHECK(f->payload_len <= FRAME_PAYLOAD_MAX);
	if (!is_piece) {
		struct frame alone = *f;
		alone.payload_len = 0;
		if (alone.type == FRAME_DATA || alone.type == FRAME_PARITY)
			alone.flags = 0; /* come with the last piece */
		if (alone.type == FRAME_PARITY)
			alone.payload_len = PARITY_SYMBOL_BYTES;
		uint32_t len = frame_encode_head(head, &alone);
		for (uint32_t i = 0; i < len; i++)
			mix(s, head[i]);
	}
	for (uint32_t i = 0; i < f->payload_len; i++)
		mix(s, 0x100u | f->payload[i]);
	s->payload += f->payload_len;
}

static int feed(struct frame_reader *r, struct summary *s, const uint8_t *from, const uint8_t *to)
{
	const uint8_t *at = from;
	struct frame f;
	int got;

	for (;;) {
		bool is_piece = r->in_payload && r->header.payload_len != r->payload_left;
		bool follows_open = r->in_payload && r->header.type == FRAME_OPEN;
		got = frame_reader_next(r, &at, to, &f);
		if (got <= 0)
			break;
		take(s, &f, is_piece || follows_open, from, to);
		if (!r->in_payload)
			mix(s, 0x200u | f.flags);
	}
	FUZZ_CHECK(got == 0 ? at == to && !r->error : got == -EPROTO && r->error);
	return got;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct frame_reader r;
	struct summary whole = {0}, pieces = {0};
	const uint8_t *end = data + size;
	uint64_t seed;

	if (!size)
		return 0;
	seed = *data++;
	frame_reader_init(&r);
	feed(&r, &whole, data, end);
	whole.error = r.error;

	frame_reader_init(&r);
	for (const uint8_t *at = data; at < end;) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		size_t len = 1 + (size_t)(seed >> 33) % (seed >> 61 ? 64 : 2);
		if (len > (size_t)(end - at))
			len = (size_t)(end - at);
		if (feed(&r, &pieces, at, at + len))
			break;
		at += len;
	}
	pieces.error = r.error;
	FUZZ_CHECK(whole.error == pieces.error); /* static texts */
	FUZZ_CHECK(whole.payload == pieces.payload);
	FUZZ_CHECK(whole.hash == pieces.hash);
	if (r.error)
		FUZZ_CHECK(feed(&r, &pieces, data, end) == -EPROTO);
	return 0;
}
