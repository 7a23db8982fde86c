/* The frame reader: whatever pieces a stream comes in, the same frames and the same bytes leave it; what is malformed
 * stops it with its reason, for good.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../../common/core/frame_reader.h"
#include "../../common/core/parity.h"
#include "unit.h"
#include "unit_random.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

enum { STREAM_MAX = 1 << 20, EVENTS_MAX = 4096 };

/* What came out: one entry a frame, pieces of one payload joined. */
struct event {
	struct frame frame; /* payload_len is that of all pieces */
	size_t payload_at;  /* in `bytes` */
	bool ended;         /* its last piece has come */
};

struct sink {
	struct event events[EVENTS_MAX];
	size_t count;
	uint8_t bytes[STREAM_MAX];
	size_t used;
	const char *broken; /* the reader broke its contract */
};

static struct sink one, whole;

static void take(struct sink *sink, const struct frame *f, const uint8_t *from, const uint8_t *to)
{
	struct event *last = sink->count ? &sink->events[sink->count - 1] : NULL;

	if (f->payload_len && (f->payload < from || f->payload + f->payload_len > to))
		sink->broken = "payload points elsewhere";
	bool has_payload = f->type == FRAME_DATA || f->type == FRAME_PARITY;
	if (f->payload_len && !has_payload)
		sink->broken = "payload in a frame that has none";
	if (last && !last->ended && (last->frame.type == FRAME_DATA || last->frame.type == FRAME_PARITY)) {
		if (f->type != last->frame.type || f->flow != last->frame.flow ||
		    f->offset != last->frame.offset + last->frame.payload_len)
			sink->broken = "a piece does not continue the last one";
		last->frame.payload_len += f->payload_len;
		last->frame.flags = f->flags;
	} else if (sink->count < EVENTS_MAX) {
		last = &sink->events[sink->count++];
		*last = (struct event){.frame = *f, .payload_at = sink->used};
	}
	if (sink->used + f->payload_len > STREAM_MAX)
		sink->broken = "more bytes than went in";
	else if (f->payload_len)
		memcpy(sink->bytes + sink->used, f->payload, f->payload_len);
	sink->used += f->payload_len;
}

/* Feeds [from, to) in one call's worth. */
static int feed(struct frame_reader *r, struct sink *sink, const uint8_t *from, const uint8_t *to)
{
	const uint8_t *at = from;
	struct frame f;
	int got;

	while ((got = frame_reader_next(r, &at, to, &f)) > 0) {
		take(sink, &f, from, to);
		sink->events[sink->count - 1].ended = !r->in_payload;
	}
	if (!got && at != to)
		sink->broken = "not all bytes taken";
	return got;
}

static void compare(const struct sink *got, const struct sink *want)
{
	UNIT_STR(got->broken, NULL);
	if (!UNIT_EQ(got->count, want->count) || !UNIT_EQ(got->used, want->used))
		return;
	for (size_t i = 0; i < want->count; i++) {
		const struct event *a = &got->events[i], *b = &want->events[i];

		UNIT_EQ(a->frame.type, b->frame.type);
		UNIT_EQ(a->frame.flags, b->frame.flags);
		UNIT_EQ(a->frame.flow, b->frame.flow);
		UNIT_EQ(a->frame.payload_len, b->frame.payload_len);
		if (b->frame.type == FRAME_DATA || b->frame.type == FRAME_PARITY)
			UNIT_EQ(a->frame.offset, b->frame.offset);
		UNIT_EQ(a->frame.block.start, b->frame.block.start);
		UNIT_EQ(a->frame.block.len, b->frame.block.len);
		UNIT_EQ(a->frame.block.rows, b->frame.block.rows);
		UNIT_EQ(a->frame.block.row, b->frame.block.row);
		UNIT_EQ(a->ended, b->ended);
		UNIT_EQ(a->payload_at, b->payload_at);
	}
	UNIT_MEM(got->bytes, want->bytes, want->used);
}

static struct addr loopback(uint8_t family, uint16_t port)
{
	struct addr a = {.family = family, .port = port};

	a.ip[family == ADDR_IPV4 ? 3 : 15] = 1;
	return a;
}

static size_t put(uint8_t *stream, size_t used, const struct frame *f, uint64_t *seed)
{
	used += frame_encode_head(stream + used, f);
	for (uint32_t i = 0; i < f->payload_len; i++)
		stream[used++] = (uint8_t)unit_random(seed);
	return used;
}

static struct frame random_frame(uint64_t *seed, uint32_t payload_max)
{
	struct frame f = {.type = (enum frame_type)(1 + unit_below(seed, FRAME_PARITY))};
	uint8_t family = unit_chance(seed, 1, 2) ? ADDR_IPV4 : ADDR_IPV6;

	if (f.type >= FRAME_OPEN)
		f.flow = 1 + (uint32_t)unit_below(seed, UINT32_MAX);
	switch (f.type) {
	case FRAME_HELLO:
		f.hello.stripes = 1;
		break;
	case FRAME_PING:
	case FRAME_PONG:
		f.token = unit_random(seed);
		break;
	case FRAME_OPEN:
		f.open.syn = (struct syn){.src = loopback(family, 1), .dst = loopback(family, 2)};
		f.flags = unit_chance(seed, 1, 2) ? FRAME_FLAG_COPY : 0;
		f.payload_len = (uint32_t)unit_below(seed, payload_max);
		break;
	case FRAME_DATA:
		f.offset = unit_below(seed, FRAME_OFFSET_MAX);
		f.flags = (uint8_t)unit_below(seed, 4);
		f.payload_len = (uint32_t)unit_below(seed, payload_max);
		break;
	case FRAME_BLOCK:
		f.block = (struct frame_block){.start = unit_below(seed, FRAME_OFFSET_MAX - PARITY_BLOCK_MAX_BYTES),
		                               .rows = (uint8_t)(1 + unit_below(seed, PARITY_ROWS_MAX))};
		f.offset = f.block.start + unit_below(seed, PARITY_BLOCK_MAX_BYTES - FRAME_PAYLOAD_MAX);
		f.flags = (uint8_t)unit_below(seed, 4);
		f.payload_len = (uint32_t)unit_below(seed, payload_max);
		break;
	case FRAME_PARITY:
		f.block = (struct frame_block){.start = unit_below(seed, FRAME_OFFSET_MAX),
		                               .len = (uint32_t)(1 + unit_below(seed, PARITY_BLOCK_MAX_BYTES)),
		                               .rows = (uint8_t)(1 + unit_below(seed, PARITY_ROWS_MAX))};
		f.block.row = (uint8_t)unit_below(seed, f.block.rows);
		f.payload_len = PARITY_SYMBOL_BYTES;
		break;
	case FRAME_ACK:
		f.ack.offset = unit_below(seed, FRAME_OFFSET_MAX);
		break;
	case FRAME_RESET:
		f.reason = RESET_BY_APP;
		break;
	default:
		break;
	}
	return f;
}

/* The stream as one piece: what every other way of cutting it must give. */
static void read_whole(struct sink *sink, const uint8_t *stream, size_t len)
{
	struct frame_reader r;

	memset(sink, 0, sizeof *sink);
	frame_reader_init(&r);
	UNIT_EQ(feed(&r, sink, stream, stream + len), 0);
	UNIT_EQ(r.head_len, 0);
	UNIT_TRUE(!r.in_payload);
}

static uint8_t stream[STREAM_MAX];

static size_t one_of_each(void)
{
	static const struct frame frames[] = {
	        {.type = FRAME_HELLO, .hello = {.stripes = 8}},
	        {.type = FRAME_WELCOME},
	        {.type = FRAME_PING, .token = 1},
	        {.type = FRAME_PONG, .token = 2},
	        {.type = FRAME_OPEN, .flow = 1, .open.syn = {.src = {.family = 4}, .dst = {.family = 4, .port = 80}}},
	        {.type = FRAME_OPEN,
	         .flow = 2,
	         .flags = FRAME_FLAG_COPY,
	         .open.syn = {.src = {.family = 6}, .dst = {.family = 6, .port = 80}},
	         .payload_len = 5},
	        {.type = FRAME_OPEN_RESULT, .flow = 1},
	        {.type = FRAME_DATA, .flow = 1, .offset = 0, .payload_len = 7},
	        {.type = FRAME_DATA, .flow = 1, .flags = FRAME_FLAG_FIN, .offset = 7},
	        {.type = FRAME_DATA, .flow = 2, .flags = 3, .offset = (uint64_t)1 << 32, .payload_len = 1},
	        {.type = FRAME_DATA, .flow = 2, .offset = 6},
	        {.type = FRAME_BLOCK, .flow = 2, .offset = 9, .block = {.start = 6, .rows = 2}, .payload_len = 3},
	        {.type = FRAME_BLOCK, .flow = 2, .flags = 3, .offset = 12, .block = {.start = 6, .rows = 2}},
	        {.type = FRAME_PARITY,
	         .flow = 2,
	         .flags = FRAME_FLAG_FIN,
	         .block = {.start = 6, .len = 6, .rows = 2, .row = 1},
	         .payload_len = PARITY_SYMBOL_BYTES},
	        {.type = FRAME_ACK, .flow = 1, .ack = {.offset = 8, .edge = 9}},
	        {.type = FRAME_RESET, .flow = 1, .reason = RESET_ABORTED},
	        {.type = FRAME_GONE, .flow = 1},
	        {.type = FRAME_GOAWAY},
	};
	uint64_t seed = 7;
	size_t len = 0;

	for (size_t i = 0; i < COUNT(frames); i++)
		len = put(stream, len, &frames[i], &seed);
	return len;
}

static void check_every_split(void)
{
	size_t len = one_of_each();
	struct frame_reader r;

	UNIT_CASE("a stream of every type, whole") {
		read_whole(&whole, stream, len);
		UNIT_EQ(whole.count, 19); /* OPEN with payload counts twice: the OPEN, then DATA at offset 0 */
		UNIT_EQ(whole.events[5].frame.type, FRAME_OPEN);
		UNIT_EQ(whole.events[5].frame.payload_len, 0);
		UNIT_EQ(whole.events[6].frame.type, FRAME_DATA);
		UNIT_EQ(whole.events[6].frame.offset, 0);
		UNIT_EQ(whole.events[6].frame.payload_len, 5);
		UNIT_EQ(whole.events[6].frame.flags, FRAME_FLAG_COPY);
		UNIT_EQ(whole.events[9].frame.flags, FRAME_FLAG_FIN);
		/* BLOCK becomes DATA that tells its block. */
		UNIT_EQ(whole.events[12].frame.type, FRAME_DATA);
		UNIT_EQ(whole.events[12].frame.offset, 9);
		UNIT_EQ(whole.events[12].frame.block.start, 6);
		UNIT_EQ(whole.events[12].frame.block.rows, 2);
		UNIT_EQ(whole.events[13].frame.flags, FRAME_FLAG_FIN | FRAME_FLAG_COPY);
		UNIT_EQ(whole.events[14].frame.type, FRAME_PARITY);
		UNIT_EQ(whole.events[14].frame.offset, 0);
		UNIT_EQ(whole.events[14].frame.block.row, 1);
		UNIT_EQ(whole.events[14].frame.payload_len, PARITY_SYMBOL_BYTES);
	}
	UNIT_CASE("the same, cut in two at every byte") {
		for (size_t cut = 0; cut <= len; cut++) {
			memset(&one, 0, offsetof(struct sink, bytes));
			one.used = 0;
			one.broken = NULL;
			frame_reader_init(&r);
			UNIT_EQ(feed(&r, &one, stream, stream + cut), 0);
			UNIT_EQ(feed(&r, &one, stream + cut, stream + len), 0);
			compare(&one, &whole);
		}
	}
	UNIT_CASE("the same, cut in three at many places") {
		for (size_t a = 0; a <= len; a += 7)
			for (size_t b = a; b <= len; b += 11) {
				memset(&one, 0, offsetof(struct sink, bytes));
				one.used = 0;
				one.broken = NULL;
				frame_reader_init(&r);
				UNIT_EQ(feed(&r, &one, stream, stream + a), 0);
				UNIT_EQ(feed(&r, &one, stream + a, stream + b), 0);
				UNIT_EQ(feed(&r, &one, stream + b, stream + len), 0);
				compare(&one, &whole);
			}
	}
	UNIT_CASE("the same, byte by byte") {
		memset(&one, 0, sizeof one);
		frame_reader_init(&r);
		for (size_t i = 0; i < len; i++)
			UNIT_EQ(feed(&r, &one, stream + i, stream + i + 1), 0);
		compare(&one, &whole);
	}
}

static void check_random_splits(void)
{
	UNIT_CASE("random streams in random pieces") {
		for (uint64_t round = 1; round <= 60; round++) {
			uint64_t seed = round;
			size_t len = 0;
			struct frame_reader r;

			for (int n = 0; n < 60; n++) {
				struct frame f =
				        random_frame(&seed, unit_chance(&seed, 1, 20) ? FRAME_PAYLOAD_MAX + 1 : 300);
				if (len + FRAME_HEAD_MAX + f.payload_len <= STREAM_MAX)
					len = put(stream, len, &f, &seed);
			}
			read_whole(&whole, stream, len);
			memset(&one, 0, sizeof one);
			frame_reader_init(&r);
			for (size_t at = 0; at < len;) {
				size_t piece = 1 + unit_below(&seed, unit_chance(&seed, 1, 3) ? 10 : 5000);
				if (piece > len - at)
					piece = len - at;
				UNIT_EQ(feed(&r, &one, stream + at, stream + at + piece), 0);
				at += piece;
			}
			compare(&one, &whole);
		}
	}
}

static void check_sizes(void)
{
	static const uint32_t sizes[] = {0,
	                                 1,
	                                 2,
	                                 7,
	                                 8,
	                                 15,
	                                 16,
	                                 79,
	                                 80,
	                                 255,
	                                 256,
	                                 1000,
	                                 16383,
	                                 16384,
	                                 16385,
	                                 32767,
	                                 32768,
	                                 65470,
	                                 FRAME_PAYLOAD_MAX};
	struct frame_reader r;

	for (size_t i = 0; i < COUNT(sizes); i++)
		UNIT_CASE("a payload of %u bytes in pieces of 1, 1460 and 65536", sizes[i]) {
			static const size_t pieces[] = {1, 1460, 65536};
			uint64_t seed = 3;
			struct frame f = {.type = FRAME_DATA,
			                  .flags = FRAME_FLAG_FIN,
			                  .flow = 1,
			                  .offset = FRAME_OFFSET_MAX - 100,
			                  .payload_len = sizes[i]};
			size_t len = put(stream, 0, &f, &seed);

			f = (struct frame){.type = FRAME_PING};
			len = put(stream, len, &f, &seed);
			read_whole(&whole, stream, len);
			UNIT_EQ(whole.count, 2);
			UNIT_EQ(whole.used, sizes[i]);
			UNIT_EQ(whole.events[0].frame.flags, FRAME_FLAG_FIN);
			for (size_t p = 0; p < COUNT(pieces); p++) {
				memset(&one, 0, sizeof one);
				frame_reader_init(&r);
				for (size_t at = 0; at < len; at += pieces[p]) {
					size_t piece = len - at < pieces[p] ? len - at : pieces[p];
					UNIT_EQ(feed(&r, &one, stream + at, stream + at + piece), 0);
				}
				compare(&one, &whole);
			}
		}
}

static const struct malformed {
	const char *name;
	const char *why;
	uint8_t taken; /* bytes after which it is refused, at the latest */
	uint8_t bytes[FRAME_HEAD_MAX];
} malformed[] = {
        {"noise", "another protocol, or another version", 8, {0xff, 0xff, 0xff, 0xff}},
        {"a TLS hello", "another protocol, or another version", 8, {0x16 ^ 0x20, 3, 1, 2, 0, 1, 0, 1}},
        {"HTTP", "another protocol, or another version", 8, {'G', 'E', 'T', ' ', '/', ' ', 'H', 'T'}},
        {"SSH", "another protocol, or another version", 8, {'S', 'S', 'H', '-', '2', '.', '0', '-'}},
        {"zeros", "another protocol, or another version", 8, {0}},
        {"type 0", "unknown frame type", 8, {0x10}},
        {"type 14", "unknown frame type", 8, {0x1e}},
        {"flag 4 of DATA", "unknown flag", 8, {0x18, 4, 0, 9, 0, 0, 0, 1}},
        {"flag 4 of BLOCK", "unknown flag", 8, {0x1c, 4, 0, 13, 0, 0, 0, 1}},
        {"flag 2 of PARITY", "unknown flag", 8, {0x1d, 2, 0x05, 0x88, 0, 0, 0, 1}},
        {"BLOCK without rows", "rows of parity out of range", 20, {0x1c, 0, 0, 13, 0, 0, 0, 1}},
        {"short PARITY", "frame too short for its type", 8, {0x1d, 0, 0, 15, 0, 0, 0, 1}},
        {"flag 1 of OPEN", "unknown flag", 8, {0x16, 1, 0, 28, 0, 0, 0, 1}},
        {"flag 1 of PING", "unknown flag", 8, {0x13, 1, 0, 8}},
        {"ACK of flow 0", "flow id missing", 8, {0x19, 0, 0, 16}},
        {"HELLO of flow 1", "flow id where none belongs", 8, {0x11, 0, 0, 44, 0, 0, 0, 1}},
        {"short DATA", "frame too short for its type", 8, {0x18, 0, 0, 7, 0, 0, 0, 1}},
        {"empty OPEN", "frame too short for its type", 8, {0x16, 0, 0, 0, 0, 0, 0, 1}},
        {"short OPEN with IPv6", "frame too short for its type", 9, {0x16, 0, 0, 51, 0, 0, 0, 1, 6}},
        {"OPEN of family 2", "unknown address family", 9, {0x16, 0, 0, 28, 0, 0, 0, 1, 2}},
        {"long PONG", "frame too long for its type", 8, {0x14, 0, 0, 9}},
        {"long GOAWAY", "frame too long for its type", 8, {0x15, 0, 255, 255}},
        {"DATA of 65535 bytes", "payload over the limit", 8, {0x18, 0, 255, 255, 0, 0, 0, 1}},
        {"OPEN of 65535 bytes", "payload over the limit", 8, {0x16, 0, 255, 255, 0, 0, 0, 1, 4}},
        {"DATA at 2^63", "offset out of range", 16, {0x18, 0, 0, 9, 0, 0, 0, 1, 0x80}},
        {"ACK of 2^62 + 1", "offset out of range", 24, {0x19, 0, 0, 16, 0, 0, 0, 1, 0x40, 0, 0, 0, 0, 0, 0, 1}},
        {"RESET 0", "unknown reset reason", 12, {0x1a, 0, 0, 4, 0, 0, 0, 1}},
        {"OPEN_RESULT 2^31", "unknown open status", 20, {0x17, 0, 0, 12, 0, 0, 0, 1, 0x80}},
        {"WELCOME 255", "unknown welcome status", 28, {0x12, 0, 0, 20, [27] = 255}},
        {"HELLO without magic", "no magic number: not a stripe", 52, {0x11, 0, 0, 44}},
        {"OPEN to port 0", "destination without a port", 36, {0x16, 0, 0, 28, 0, 0, 0, 1, 4}},
};

/* Good frames first, so that the reader's state is a used one; then the bad one in pieces of `piece`; then good ones
 * again. */
static void refuse(const struct malformed *bad, size_t piece)
{
	static const uint8_t ping[] = {0x13, 0, 0, 8, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8};
	struct frame_reader r;
	const uint8_t *at;
	struct frame f;
	int got = 0;
	size_t fed = 0;

	frame_reader_init(&r);
	memset(&one, 0, offsetof(struct sink, bytes));
	one.used = 0;
	UNIT_EQ(feed(&r, &one, ping, ping + sizeof ping), 0);
	while (!got && fed < sizeof bad->bytes) {
		size_t len = sizeof bad->bytes - fed < piece ? sizeof bad->bytes - fed : piece;
		got = feed(&r, &one, bad->bytes + fed, bad->bytes + fed + len);
		fed += len;
	}
	UNIT_EQ(got, -EPROTO);
	UNIT_STR(r.error, bad->why);
	UNIT_EQ(one.count, 1);
	if (piece == 1)
		UNIT_EQ(fed, bad->taken);
	at = ping;
	UNIT_EQ(frame_reader_next(&r, &at, ping + sizeof ping, &f), -EPROTO);
	UNIT_STR(r.error, bad->why);
	UNIT_EQ(frame_reader_next(&r, &at, at, &f), -EPROTO);
}

static void check_malformed(void)
{
	for (size_t i = 0; i < COUNT(malformed); i++)
		UNIT_CASE("refused at once and for good: %s", malformed[i].name) {
			refuse(&malformed[i], 1);
			refuse(&malformed[i], 5);
			refuse(&malformed[i], sizeof malformed[i].bytes);
		}
}

static void check_truncated(void)
{
	size_t len = one_of_each();
	struct frame_reader r;

	UNIT_CASE("a stream that ends early gives what came, and no error") {
		read_whole(&whole, stream, len);
		for (size_t cut = 0; cut < len; cut++) {
			memset(&one, 0, offsetof(struct sink, bytes));
			one.used = 0;
			one.broken = NULL;
			frame_reader_init(&r);
			UNIT_EQ(feed(&r, &one, stream, stream + cut), 0);
			UNIT_STR(one.broken, NULL);
			UNIT_TRUE(one.used <= whole.used);
			UNIT_MEM(one.bytes, whole.bytes, one.used);
		}
	}
}

int main(void)
{
	check_every_split();
	check_random_splits();
	check_sizes();
	check_malformed();
	check_truncated();
	return unit_exit();
}
