#include "frame.h"

#include <assert.h>

#include "bytes.h"
#include "parity.h"

enum { OPEN_FIXED_IPV4 = 28, OPEN_FIXED_IPV6 = 52 };

/* OPEN fixed part: family, DSCP, MSS, window scale, SYN flags, ports, window edge, addresses. */
enum { OPEN_SYN_SACK = 1, OPEN_SYN_TIMESTAMPS = 2 };

enum { WINDOW_SCALE_NONE = 255, WINDOW_SCALE_MAX = 14 /* RFC 7323, 2.3 */ };

struct layout {
	const char *name;
	uint8_t fixed_len;
	uint8_t flags; /* those allowed */
	bool has_flow;
	bool has_payload;
};

static const struct layout layouts[] = {
        [FRAME_HELLO] = {"HELLO", 44, 0, false, false},
        [FRAME_WELCOME] = {"WELCOME", 20, 0, false, false},
        [FRAME_PING] = {"PING", 8, 0, false, false},
        [FRAME_PONG] = {"PONG", 8, 0, false, false},
        [FRAME_GOAWAY] = {"GOAWAY", 0, 0, false, false},
        [FRAME_OPEN] = {"OPEN", OPEN_FIXED_IPV4, FRAME_FLAG_COPY, true, true},
        [FRAME_OPEN_RESULT] = {"OPEN_RESULT", 12, 0, true, false},
        [FRAME_DATA] = {"DATA", FRAME_DATA_FIXED_BYTES, FRAME_FLAG_FIN | FRAME_FLAG_COPY, true, true},
        [FRAME_ACK] = {"ACK", 16, 0, true, false},
        [FRAME_RESET] = {"RESET", 4, 0, true, false},
        [FRAME_GONE] = {"GONE", 0, 0, true, false},
        [FRAME_BLOCK] = {"BLOCK", FRAME_BLOCK_FIXED_BYTES, FRAME_FLAG_FIN | FRAME_FLAG_COPY, true, true},
        [FRAME_PARITY] = {"PARITY", FRAME_PARITY_FIXED_BYTES, FRAME_FLAG_FIN, true, true},
};

#define LAYOUT_COUNT (sizeof layouts / sizeof layouts[0])

static uint32_t addr_bytes(uint8_t family)
{
	return family == ADDR_IPV6 ? 16 : 4;
}

static void put_open(struct bytes_writer *w, const struct syn *syn, uint64_t window_edge)
{
	assert(syn->src.family == syn->dst.family);
	assert(syn->src.family == ADDR_IPV4 || syn->src.family == ADDR_IPV6);
	bytes_put(w, syn->dst.family, 1);
	bytes_put(w, syn->dscp, 1);
	bytes_put(w, syn->mss, 2);
	bytes_put(w, syn->window_scale, 1);
	bytes_put(w, (syn->sack_permitted ? OPEN_SYN_SACK : 0) | (syn->timestamps ? OPEN_SYN_TIMESTAMPS : 0), 1);
	bytes_put(w, syn->src.port, 2);
	bytes_put(w, syn->dst.port, 2);
	bytes_put(w, 0, 2);
	bytes_put(w, window_edge, 8);
	bytes_put_copy(w, syn->src.ip, addr_bytes(syn->src.family));
	bytes_put_copy(w, syn->dst.ip, addr_bytes(syn->dst.family));
}

uint32_t frame_encode_head(uint8_t out[FRAME_HEAD_MAX], const struct frame *f)
{
	assert(f->type > 0 && (unsigned)f->type < LAYOUT_COUNT && layouts[f->type].name);
	assert(f->payload_len <= FRAME_PAYLOAD_MAX);
	struct bytes_writer w = {out + FRAME_HEADER_BYTES, out + FRAME_HEAD_MAX, false};
	switch (f->type) {
	case FRAME_HELLO:
		bytes_put(&w, FRAME_MAGIC, 4);
		bytes_put_copy(&w, f->hello.session, FRAME_ID_BYTES);
		bytes_put(&w, f->hello.path, 2);
		bytes_put(&w, f->hello.index, 2);
		bytes_put(&w, f->hello.stripes, 2);
		bytes_put(&w, f->hello.backup, 1);
		bytes_put(&w, f->hello.reinject_percent, 1);
		bytes_put_copy(&w, f->hello.congestion, FRAME_CONGESTION_BYTES);
		break;
	case FRAME_WELCOME:
		bytes_put_copy(&w, f->welcome.incarnation, FRAME_ID_BYTES);
		bytes_put(&w, f->welcome.status, 4);
		break;
	case FRAME_PING:
	case FRAME_PONG:
		bytes_put(&w, f->token, 8);
		break;
	case FRAME_OPEN:
		put_open(&w, &f->open.syn, f->open.window_edge);
		break;
	case FRAME_OPEN_RESULT:
		bytes_put(&w, f->result.status, 4);
		bytes_put(&w, f->result.window_edge, 8);
		break;
	case FRAME_DATA:
		bytes_put(&w, f->offset, 8);
		break;
	case FRAME_BLOCK:
		assert(f->offset - f->block.start <= PARITY_BLOCK_MAX_BYTES);
		bytes_put(&w, f->offset, 8);
		bytes_put(&w, f->block.rows, 1);
		bytes_put(&w, f->offset - f->block.start, 3);
		break;
	case FRAME_PARITY:
		assert(f->payload_len == PARITY_SYMBOL_BYTES && f->block.row < f->block.rows);
		bytes_put(&w, f->block.start, 8);
		bytes_put(&w, f->block.rows, 1);
		bytes_put(&w, f->block.row, 1);
		bytes_put(&w, 0, 2);
		bytes_put(&w, f->block.len, 4);
		break;
	case FRAME_ACK:
		bytes_put(&w, f->ack.offset, 8);
		bytes_put(&w, f->ack.edge, 8);
		break;
	case FRAME_RESET:
		bytes_put(&w, f->reason, 4);
		break;
	case FRAME_GOAWAY:
	case FRAME_GONE:
		break;
	}
	assert(!w.failed);
	uint32_t fixed_len = (uint32_t)(w.at - out) - FRAME_HEADER_BYTES;
	w = (struct bytes_writer){out, out + FRAME_HEADER_BYTES, false};
	bytes_put(&w, FRAME_VERSION << 4 | f->type, 1);
	bytes_put(&w, f->flags, 1);
	bytes_put(&w, fixed_len + f->payload_len, 2);
	bytes_put(&w, f->flow, 4);
	return FRAME_HEADER_BYTES + fixed_len;
}

static const char *set_lengths(struct frame_header *header, uint32_t body_len, uint32_t fixed_len, bool has_payload)
{
	if (body_len < fixed_len)
		return "frame too short for its type";
	if (!has_payload && body_len > fixed_len)
		return "frame too long for its type";
	header->fixed_len = fixed_len;
	header->payload_len = body_len - fixed_len;
	if (header->payload_len > FRAME_PAYLOAD_MAX)
		return "payload over the limit";
	return NULL;
}

const char *frame_decode_header(struct frame_header *header, const uint8_t *bytes)
{
	struct bytes_reader r = {bytes, bytes + FRAME_HEADER_BYTES, false};
	uint8_t first = bytes_get_u8(&r);
	uint8_t flags = bytes_get_u8(&r);
	uint32_t body_len = bytes_get_u16(&r);
	uint32_t flow = bytes_get_u32(&r);
	unsigned type = first & 15;

	if (first >> 4 != FRAME_VERSION)
		return "another protocol, or another version";
	if (type >= LAYOUT_COUNT || !layouts[type].name)
		return "unknown frame type";
	const struct layout *layout = &layouts[type];
	if (flags & ~layout->flags)
		return "unknown flag";
	if (layout->has_flow != (flow != 0))
		return layout->has_flow ? "flow id missing" : "flow id where none belongs";
	header->type = (enum frame_type)type;
	header->flags = flags;
	header->flow = flow;
	return set_lengths(header, body_len, layout->fixed_len, layout->has_payload);
}

const char *frame_open_fixed_len(struct frame_header *header, uint8_t first_byte)
{
	assert(header->type == FRAME_OPEN);
	if (first_byte == ADDR_IPV4)
		return NULL;
	if (first_byte != ADDR_IPV6)
		return "unknown address family";
	return set_lengths(header, header->fixed_len + header->payload_len, OPEN_FIXED_IPV6, true);
}

static void get_addr(struct addr *addr, struct bytes_reader *r, uint8_t family, uint16_t port)
{
	memset(addr, 0, sizeof *addr);
	addr->family = family;
	addr->port = port;
	bytes_get_copy(r, addr->ip, addr_bytes(family));
}

static const char *get_open(struct frame *f, struct bytes_reader *r)
{
	struct syn *syn = &f->open.syn;
	uint8_t family = bytes_get_u8(r);
	if (family != ADDR_IPV4 && family != ADDR_IPV6)
		return "unknown address family";
	syn->dscp = bytes_get_u8(r);
	syn->mss = bytes_get_u16(r);
	syn->window_scale = bytes_get_u8(r);
	uint8_t syn_flags = bytes_get_u8(r);
	uint16_t src_port = bytes_get_u16(r);
	uint16_t dst_port = bytes_get_u16(r);
	uint16_t reserved = bytes_get_u16(r);
	f->open.window_edge = bytes_get_u64(r);
	get_addr(&syn->src, r, family, src_port);
	get_addr(&syn->dst, r, family, dst_port);
	syn->sack_permitted = syn_flags & OPEN_SYN_SACK;
	syn->timestamps = syn_flags & OPEN_SYN_TIMESTAMPS;
	if (syn->dscp > 63)
		return "DSCP out of range";
	if (syn->window_scale > WINDOW_SCALE_MAX && syn->window_scale != WINDOW_SCALE_NONE)
		return "window scale out of range";
	if (syn_flags & ~(OPEN_SYN_SACK | OPEN_SYN_TIMESTAMPS) || reserved)
		return "reserved bits set";
	if (!dst_port)
		return "destination without a port";
	if (f->open.window_edge > FRAME_OFFSET_MAX)
		return "window edge out of range";
	return NULL;
}

static bool is_congestion_name(const char name[FRAME_CONGESTION_BYTES])
{
	unsigned i = 0;
	while (i < FRAME_CONGESTION_BYTES && name[i]) {
		char c = name[i++];
		if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '_' && c != '-')
			return false;
	}
	return i < FRAME_CONGESTION_BYTES;
}

static const char *get_hello(struct frame *f, struct bytes_reader *r)
{
	if (bytes_get_u32(r) != FRAME_MAGIC)
		return "no magic number: not a stripe";
	bytes_get_copy(r, f->hello.session, FRAME_ID_BYTES);
	f->hello.path = bytes_get_u16(r);
	f->hello.index = bytes_get_u16(r);
	f->hello.stripes = bytes_get_u16(r);
	uint8_t flags = bytes_get_u8(r);
	f->hello.backup = flags & 1;
	f->hello.reinject_percent = bytes_get_u8(r);
	bytes_get_copy(r, f->hello.congestion, FRAME_CONGESTION_BYTES);
	if (f->hello.path > 15 || f->hello.stripes < 1 || f->hello.stripes > FRAME_STRIPES_MAX ||
	    f->hello.index >= f->hello.stripes)
		return "path or stripe number out of range";
	if (f->hello.reinject_percent > 100)
		return "reinjection percentage out of range";
	if (!is_congestion_name(f->hello.congestion))
		return "malformed name of a congestion control";
	return flags > 1 ? "reserved bits set" : NULL;
}

static const char *get_rows(struct frame_block *block, struct bytes_reader *r)
{
	block->rows = bytes_get_u8(r);
	return block->rows < 1 || block->rows > PARITY_ROWS_MAX ? "rows of parity out of range" : NULL;
}

static const char *get_block(struct frame *f, uint32_t payload_len, struct bytes_reader *r)
{
	f->offset = bytes_get_u64(r);
	const char *error = get_rows(&f->block, r);
	uint32_t back = (uint32_t)bytes_get_u8(r) << 16 | bytes_get_u16(r);
	if (error)
		return error;
	if (f->offset > FRAME_OFFSET_MAX || back > f->offset)
		return "offset out of range";
	if (back + payload_len > PARITY_BLOCK_MAX_BYTES)
		return "beyond the end of a block";
	f->block.start = f->offset - back;
	return NULL;
}

static const char *get_parity(struct frame *f, uint32_t payload_len, struct bytes_reader *r)
{
	f->block.start = bytes_get_u64(r);
	const char *error = get_rows(&f->block, r);
	f->block.row = bytes_get_u8(r);
	uint16_t reserved = bytes_get_u16(r);
	f->block.len = bytes_get_u32(r);
	if (error)
		return error;
	if (f->block.start > FRAME_OFFSET_MAX)
		return "offset out of range";
	if (f->block.row >= f->block.rows)
		return "row of parity out of range";
	if (!f->block.len || f->block.len > PARITY_BLOCK_MAX_BYTES)
		return "length of a block out of range";
	if (payload_len != PARITY_SYMBOL_BYTES)
		return "parity of a wrong length";
	return reserved ? "reserved bits set" : NULL;
}

const char *frame_decode_fixed(struct frame *f, const struct frame_header *header, const uint8_t *fixed)
{
	struct bytes_reader r = {fixed, fixed + header->fixed_len, false};
	const char *error = NULL;
	uint32_t value;

	*f = (struct frame){.type = header->type, .flags = header->flags, .flow = header->flow};
	switch (header->type) {
	case FRAME_HELLO:
		error = get_hello(f, &r);
		break;
	case FRAME_WELCOME:
		bytes_get_copy(&r, f->welcome.incarnation, FRAME_ID_BYTES);
		value = bytes_get_u32(&r);
		if (value >= WELCOME_STATUS_COUNT)
			return "unknown welcome status";
		f->welcome.status = (enum welcome_status)value;
		break;
	case FRAME_PING:
	case FRAME_PONG:
		f->token = bytes_get_u64(&r);
		break;
	case FRAME_OPEN:
		error = get_open(f, &r);
		break;
	case FRAME_OPEN_RESULT:
		value = bytes_get_u32(&r);
		if (value >= OPEN_STATUS_COUNT)
			return "unknown open status";
		f->result.status = (enum open_status)value;
		f->result.window_edge = bytes_get_u64(&r);
		if (f->result.window_edge > FRAME_OFFSET_MAX)
			return "window edge out of range";
		break;
	case FRAME_DATA:
		f->offset = bytes_get_u64(&r);
		if (f->offset > FRAME_OFFSET_MAX)
			return "offset out of range";
		break;
	case FRAME_BLOCK:
		error = get_block(f, header->payload_len, &r);
		break;
	case FRAME_PARITY:
		error = get_parity(f, header->payload_len, &r);
		break;
	case FRAME_ACK:
		f->ack.offset = bytes_get_u64(&r);
		f->ack.edge = bytes_get_u64(&r);
		if (f->ack.offset > FRAME_OFFSET_MAX || f->ack.edge > FRAME_OFFSET_MAX)
			return "offset out of range";
		break;
	case FRAME_RESET:
		value = bytes_get_u32(&r);
		if (value == RESET_NONE || value >= RESET_SESSION)
			return "unknown reset reason";
		f->reason = (enum reset_reason)value;
		break;
	case FRAME_GOAWAY:
	case FRAME_GONE:
		break;
	}
	if (!error && r.failed)
		error = "frame too short for its type";
	return error;
}

const char *frame_type_name(enum frame_type type)
{
	return type > 0 && (unsigned)type < LAYOUT_COUNT && layouts[type].name ? layouts[type].name : "?";
}

const char *open_status_name(enum open_status status)
{
	static const char *const names[OPEN_STATUS_COUNT] = {"connected", "refused", "unreachable", "timed_out",
	                                                     "denied",    "limit",   "failed"};
	return (unsigned)status < OPEN_STATUS_COUNT ? names[status] : "?";
}

const char *reset_reason_name(enum reset_reason reason)
{
	static const char *const names[RESET_REASON_COUNT] = {"none",    "by_app",   "timed_out",
	                                                      "aborted", "protocol", "session_lost"};
	return (unsigned)reason < RESET_REASON_COUNT ? names[reason] : "?";
}
