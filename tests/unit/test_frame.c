/* Frames: the exact bytes of each type, the way back, and every value that must be refused. */
#include <string.h>

#include "../../common/core/frame.h"
#include "../../common/core/parity.h"
#include "unit.h"
#include "unit_random.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* Decodes a head of `len` bytes. NULL or why not. */
static const char *decode(struct frame *f, const uint8_t *bytes, size_t len)
{
	struct frame_header header;
	const char *error = frame_decode_header(&header, bytes);

	if (!error && header.type == FRAME_OPEN)
		error = frame_open_fixed_len(&header, len > FRAME_HEADER_BYTES ? bytes[FRAME_HEADER_BYTES] : 0);
	if (error)
		return error;
	if (FRAME_HEADER_BYTES + header.fixed_len != len)
		return "the test's own bytes have the wrong length";
	error = frame_decode_fixed(f, &header, bytes + FRAME_HEADER_BYTES);
	f->payload_len = header.payload_len;
	return error;
}

static struct addr addr4(uint8_t last, uint16_t port)
{
	return (struct addr){.family = ADDR_IPV4, .ip = {192, 0, 2, last}, .port = port};
}

static struct addr addr6(uint8_t last, uint16_t port)
{
	return (struct addr){.family = ADDR_IPV6, .ip = {0x20, 0x01, 0x0d, 0xb8, [15] = last}, .port = port};
}

static const struct golden {
	const char *name;
	struct frame frame;
	uint8_t len;
	uint8_t bytes[FRAME_HEAD_MAX];
} goldens[] = {
        {"HELLO",
         {.type = FRAME_HELLO,
          .hello = {.session = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
                    .path = 15,
                    .index = 63,
                    .stripes = 64,
                    .backup = true,
                    .reinject_percent = 100,
                    .congestion = "bbr"}},
         52,
         {0x11, 0,  0,  44, 0,  0,  0,  0,  'P', 'a', 'i', 'r', 1, 2,  3, 4,   5,   6,   7,  8,
          9,    10, 11, 12, 13, 14, 15, 16, 0,   15,  0,   63,  0, 64, 1, 100, 'b', 'b', 'r'}},
        {"WELCOME",
         {.type = FRAME_WELCOME,
          .welcome = {.incarnation = {16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1},
                      .status = WELCOME_DENIED}},
         28,
         {0x12, 0, 0, 20, 0, 0, 0, 0, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0, 0, 2}},
        {"PING",
         {.type = FRAME_PING, .token = 0x0102030405060708},
         16,
         {0x13, 0, 0, 8, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8}},
        {"PONG",
         {.type = FRAME_PONG, .token = UINT64_MAX},
         16,
         {0x14, 0, 0, 8, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255}},
        {"GOAWAY", {.type = FRAME_GOAWAY}, 8, {0x15, 0, 0, 0, 0, 0, 0, 0}},
        {"OPEN_RESULT",
         {.type = FRAME_OPEN_RESULT,
          .flow = 0x01020304,
          .result = {.status = OPEN_FAILED, .window_edge = 0x0102030405}},
         20,
         {0x17, 0, 0, 12, 1, 2, 3, 4, 0, 0, 0, 6, 0, 0, 0, 1, 2, 3, 4, 5}},
        {"DATA with FIN, COPY and the longest payload",
         {.type = FRAME_DATA,
          .flags = FRAME_FLAG_FIN | FRAME_FLAG_COPY,
          .flow = UINT32_MAX,
          .offset = (uint64_t)1 << 62,
          .payload_len = FRAME_PAYLOAD_MAX},
         16,
         {0x18, 3, 0xff, 0xc7, 255, 255, 255, 255, 0x40, 0, 0, 0, 0, 0, 0, 0}},
        {"ACK",
         {.type = FRAME_ACK, .flow = 1, .ack = {.offset = 0x100000000, .edge = 0x100008000}},
         24,
         {0x19, 0, 0, 16, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0x80, 0}},
        {"RESET",
         {.type = FRAME_RESET, .flow = 7, .reason = RESET_PROTOCOL},
         12,
         {0x1a, 0, 0, 4, 0, 0, 0, 7, 0, 0, 0, 4}},
        {"GONE", {.type = FRAME_GONE, .flow = 7}, 8, {0x1b, 0, 0, 0, 0, 0, 0, 7}},
        {"BLOCK with FIN and COPY, 66051 bytes into its block",
         {.type = FRAME_BLOCK,
          .flags = FRAME_FLAG_FIN | FRAME_FLAG_COPY,
          .flow = 9,
          .offset = 0x100010203,
          .block = {.start = 0x100000000, .rows = 11},
          .payload_len = 1400},
         20,
         {0x1c, 3, 0x05, 0x84, 0, 0, 0, 9, 0, 0, 0, 1, 0, 1, 2, 3, 11, 1, 2, 3}},
        {"the last row of PARITY over the longest block",
         {.type = FRAME_PARITY,
          .flags = FRAME_FLAG_FIN,
          .flow = 9,
          .block = {.start = 0x100000000, .len = PARITY_BLOCK_MAX_BYTES, .rows = 11, .row = 10},
          .payload_len = PARITY_SYMBOL_BYTES},
         24,
         {0x1d, 1, 0x05, 0x88, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 11, 10, 0, 0, 0, 4, 0xc9, 0}},
};

static void check_goldens(void)
{
	uint8_t bytes[FRAME_HEAD_MAX], again[FRAME_HEAD_MAX];
	struct frame back;

	for (size_t i = 0; i < COUNT(goldens); i++) {
		const struct golden *g = &goldens[i];

		UNIT_CASE("%s has its documented bytes, there and back", g->name) {
			UNIT_EQ(frame_encode_head(bytes, &g->frame), g->len);
			UNIT_MEM(bytes, g->bytes, g->len);
			if (!UNIT_STR(decode(&back, g->bytes, g->len), NULL))
				break;
			UNIT_EQ(back.type, g->frame.type);
			UNIT_EQ(back.flags, g->frame.flags);
			UNIT_EQ(back.flow, g->frame.flow);
			UNIT_EQ(back.payload_len, g->frame.payload_len);
			UNIT_EQ(back.block.start, g->frame.block.start);
			UNIT_EQ(back.block.len, g->frame.block.len);
			UNIT_EQ(back.block.rows, g->frame.block.rows);
			UNIT_EQ(back.block.row, g->frame.block.row);
			UNIT_EQ(frame_encode_head(again, &back), g->len);
			UNIT_MEM(again, g->bytes, g->len);
		}
	}
}

static void check_open(void)
{
	static const uint8_t ipv4[] = {0x16, 2, 0, 31, 0, 0, 0, 9, 4, 46, 0x05, 0xb4, 7, 3, 0x04, 0xd2, 0, 80,
	                               0,    0, 0, 0,  0, 0, 0, 1, 0, 0,  192,  0,    2, 1, 192,  0,    2, 2};
	static const uint8_t ipv6_start[] = {0x16, 0, 0, 52, 0, 0, 0, 9, 6, 63, 0, 0, 255, 0, 0, 0, 0xff, 0xff, 0, 0};
	struct frame f = {.type = FRAME_OPEN, .flags = FRAME_FLAG_COPY, .flow = 9, .payload_len = 3}, back;
	uint8_t bytes[FRAME_HEAD_MAX];

	f.open.window_edge = 65536;
	f.open.syn = (struct syn){.src = addr4(1, 1234),
	                          .dst = addr4(2, 80),
	                          .mss = 1460,
	                          .window_scale = 7,
	                          .dscp = 46,
	                          .sack_permitted = true,
	                          .timestamps = true};
	UNIT_CASE("OPEN with IPv4 has its documented bytes, there and back") {
		UNIT_EQ(sizeof ipv4, 36);
		UNIT_EQ(frame_encode_head(bytes, &f), sizeof ipv4);
		UNIT_MEM(bytes, ipv4, sizeof ipv4);
		UNIT_STR(decode(&back, bytes, sizeof ipv4), NULL);
		UNIT_TRUE(addr_equal(&back.open.syn.src, &f.open.syn.src));
		UNIT_TRUE(addr_equal(&back.open.syn.dst, &f.open.syn.dst));
		UNIT_EQ(back.open.syn.mss, 1460);
		UNIT_EQ(back.open.syn.window_scale, 7);
		UNIT_EQ(back.open.syn.dscp, 46);
		UNIT_TRUE(back.open.syn.sack_permitted && back.open.syn.timestamps);
		UNIT_EQ(back.open.window_edge, 65536);
		UNIT_EQ(back.payload_len, 3);
		UNIT_EQ(back.flags, FRAME_FLAG_COPY);
	}
	f = (struct frame){.type = FRAME_OPEN, .flow = 9};
	f.open.syn = (struct syn){.src = addr6(1, 0), .dst = addr6(2, 65535), .window_scale = 255, .dscp = 63};
	UNIT_CASE("OPEN with IPv6 has its documented bytes, there and back") {
		UNIT_EQ(frame_encode_head(bytes, &f), 60);
		UNIT_MEM(bytes, ipv6_start, sizeof ipv6_start);
		UNIT_EQ(bytes[28], 0x20);
		UNIT_EQ(bytes[43], 1);
		UNIT_EQ(bytes[59], 2);
		UNIT_STR(decode(&back, bytes, 60), NULL);
		UNIT_TRUE(addr_equal(&back.open.syn.src, &f.open.syn.src));
		UNIT_TRUE(addr_equal(&back.open.syn.dst, &f.open.syn.dst));
		UNIT_EQ(back.open.syn.window_scale, 255);
		UNIT_TRUE(!back.open.syn.sack_permitted && !back.open.syn.timestamps);
	}
}

/* One byte of a good frame is changed, or several are. */
static const struct malformed {
	const char *name;
	const char *why;
	uint8_t len;
	uint8_t bytes[FRAME_HEAD_MAX];
} malformed[] = {
        {"version 0", "another protocol, or another version", 8, {0x05}},
        {"version 2", "another protocol, or another version", 8, {0x25}},
        {"an HTTP request", "another protocol, or another version", 8, {'G', 'E', 'T', ' ', '/', ' ', 'H', 'T'}},
        {"type 0", "unknown frame type", 8, {0x10}},
        {"type 14", "unknown frame type", 8, {0x1e}},
        {"type 15", "unknown frame type", 8, {0x1f}},
        {"an unknown flag of DATA", "unknown flag", 16, {0x18, 4, 0, 8, 0, 0, 0, 1}},
        {"FIN on an OPEN", "unknown flag", 36, {0x16, 1, 0, 28, 0, 0, 0, 1}},
        {"a flag on an ACK", "unknown flag", 24, {0x19, 2, 0, 16, 0, 0, 0, 1}},
        {"DATA without a flow", "flow id missing", 16, {0x18, 0, 0, 8, 0, 0, 0, 0}},
        {"RESET without a flow", "flow id missing", 12, {0x1a, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 1}},
        {"PING with a flow", "flow id where none belongs", 16, {0x13, 0, 0, 8, 0, 0, 0, 1}},
        {"DATA of 7 bytes", "frame too short for its type", 15, {0x18, 0, 0, 7, 0, 0, 0, 1}},
        {"ACK of 15 bytes", "frame too short for its type", 23, {0x19, 0, 0, 15, 0, 0, 0, 1}},
        {"ACK of 17 bytes", "frame too long for its type", 25, {0x19, 0, 0, 17, 0, 0, 0, 1}},
        {"GOAWAY of 1 byte", "frame too long for its type", 9, {0x15, 0, 0, 1}},
        {"GONE of 65535 bytes", "frame too long for its type", 8, {0x1b, 0, 255, 255, 0, 0, 0, 1}},
        {"DATA with 65472 bytes of payload", "payload over the limit", 16, {0x18, 0, 0xff, 0xc8, 0, 0, 0, 1}},
        {"DATA at 2^62 + 1", "offset out of range", 16, {0x18, 0, 0, 8, 0, 0, 0, 1, 0x40, 0, 0, 0, 0, 0, 0, 1}},
        {"DATA at 2^64 - 1",
         "offset out of range",
         16,
         {0x18, 0, 0, 8, 0, 0, 0, 1, 255, 255, 255, 255, 255, 255, 255, 255}},
        {"ACK of 2^63", "offset out of range", 24, {0x19, 0, 0, 16, 0, 0, 0, 1, 0x80}},
        {"ACK with edge 2^63", "offset out of range", 24, {0x19, 0, 0, 16, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0x80}},
        {"RESET without a reason", "unknown reset reason", 12, {0x1a, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0}},
        {"RESET for loss of the session", "unknown reset reason", 12, {0x1a, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 5}},
        {"RESET with reason 2^24", "unknown reset reason", 12, {0x1a, 0, 0, 4, 0, 0, 0, 1, 1, 0, 0, 0}},
        {"OPEN_RESULT 7", "unknown open status", 20, {0x17, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 7}},
        {"OPEN_RESULT with edge 2^63", "window edge out of range", 20, {0x17, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0x80}},
        {"WELCOME 3", "unknown welcome status", 28, {0x12, 0, 0, 20, [27] = 3}},
        {"HELLO without magic",
         "no magic number: not a stripe",
         52,
         {0x11, 0, 0, 44, [8] = 'P', 'a', 'i', 'R', [33] = 1}},
        {"HELLO of path 16",
         "path or stripe number out of range",
         52,
         {0x11, 0, 0, 44, [8] = 'P', 'a', 'i', 'r', [29] = 16, [33] = 1}},
        {"HELLO with no stripes",
         "path or stripe number out of range",
         52,
         {0x11, 0, 0, 44, [8] = 'P', 'a', 'i', 'r', [33] = 0}},
        {"HELLO with 65 stripes",
         "path or stripe number out of range",
         52,
         {0x11, 0, 0, 44, [8] = 'P', 'a', 'i', 'r', [33] = 65}},
        {"HELLO of stripe 2 of 2",
         "path or stripe number out of range",
         52,
         {0x11, 0, 0, 44, [8] = 'P', 'a', 'i', 'r', [31] = 2, [33] = 2}},
        {"HELLO with reserved bits",
         "reserved bits set",
         52,
         {0x11, 0, 0, 44, [8] = 'P', 'a', 'i', 'r', [33] = 1, [34] = 2}},
        {"HELLO with high reserved bits",
         "reserved bits set",
         52,
         {0x11, 0, 0, 44, [8] = 'P', 'a', 'i', 'r', [33] = 1, [34] = 129}},
        {"HELLO with 101 percent of reinjection",
         "reinjection percentage out of range",
         52,
         {0x11, 0, 0, 44, [8] = 'P', 'a', 'i', 'r', [33] = 1, [35] = 101}},
        {"HELLO with a path in place of a congestion control",
         "malformed name of a congestion control",
         52,
         {0x11, 0, 0, 44, [8] = 'P', 'a', 'i', 'r', [33] = 1, [36] = '.', '.', '/'}},
        {"HELLO with a congestion control of 16 letters",
         "malformed name of a congestion control",
         52,
         {0x11, 0,   0,   44,  [8] = 'P', 'a', 'i', 'r', [33] = 1, [36] = 'a', 'b', 'c', 'd',
          'e',  'f', 'g', 'h', 'i',       'j', 'k', 'l', 'm',      'n',        'o', 'p'}},
        {"OPEN of family 0", "unknown address family", 36, {0x16, 0, 0, 28, 0, 0, 0, 1, [17] = 80}},
        {"OPEN of family 5", "unknown address family", 36, {0x16, 0, 0, 28, 0, 0, 0, 1, 5, [17] = 80}},
        {"OPEN with IPv6 in 51 bytes", "frame too short for its type", 59, {0x16, 0, 0, 51, 0, 0, 0, 1, 6, [17] = 80}},
        {"OPEN of 27 bytes", "frame too short for its type", 35, {0x16, 0, 0, 27, 0, 0, 0, 1, 4, [17] = 80}},
        {"OPEN with DSCP 64", "DSCP out of range", 36, {0x16, 0, 0, 28, 0, 0, 0, 1, 4, 64, [17] = 80}},
        {"OPEN with window scale 15",
         "window scale out of range",
         36,
         {0x16, 0, 0, 28, 0, 0, 0, 1, 4, [12] = 15, [17] = 80}},
        {"OPEN with window scale 254",
         "window scale out of range",
         36,
         {0x16, 0, 0, 28, 0, 0, 0, 1, 4, [12] = 254, [17] = 80}},
        {"OPEN with unknown SYN flags", "reserved bits set", 36, {0x16, 0, 0, 28, 0, 0, 0, 1, 4, [13] = 4, [17] = 80}},
        {"OPEN with reserved bytes", "reserved bits set", 36, {0x16, 0, 0, 28, 0, 0, 0, 1, 4, [17] = 80, [19] = 1}},
        {"OPEN to port 0", "destination without a port", 36, {0x16, 0, 0, 28, 0, 0, 0, 1, 4, [15] = 80}},
        {"BLOCK without rows", "rows of parity out of range", 20, {0x1c, 0, 0, 13, 0, 0, 0, 1, [15] = 9, [19] = 1}},
        {"BLOCK with 12 rows", "rows of parity out of range", 20, {0x1c, 0, 0, 13, 0, 0, 0, 1, [15] = 9, 12, 0, 0, 1}},
        {"BLOCK that begins before offset 0",
         "offset out of range",
         20,
         {0x1c, 0, 0, 13, 0, 0, 0, 1, [15] = 9, 1, 0, 0, 10}},
        {"BLOCK beyond offset 2^62",
         "offset out of range",
         20,
         {0x1c, 0, 0, 13, 0, 0, 0, 1, 0x40, [15] = 1, 1, 0, 0, 1}},
        {"BLOCK whose last byte is one too many",
         "beyond the end of a block",
         20,
         {0x1c, 0, 0, 13, 0, 0, 0, 1, [8] = 1, [16] = 1, 4, 0xc9, 0}},
        {"PARITY of row 1 of 1",
         "row of parity out of range",
         24,
         {0x1d, 0, 0x05, 0x88, 0, 0, 0, 1, [16] = 1, 1, [23] = 9}},
        {"PARITY with 12 rows",
         "rows of parity out of range",
         24,
         {0x1d, 0, 0x05, 0x88, 0, 0, 0, 1, [16] = 12, 1, [23] = 9}},
        {"PARITY over nothing", "length of a block out of range", 24, {0x1d, 0, 0x05, 0x88, 0, 0, 0, 1, [16] = 1}},
        {"PARITY over one byte too many",
         "length of a block out of range",
         24,
         {0x1d, 0, 0x05, 0x88, 0, 0, 0, 1, [16] = 1, [21] = 4, 0xc9, 1}},
        {"PARITY of a byte less",
         "parity of a wrong length",
         24,
         {0x1d, 0, 0x05, 0x87, 0, 0, 0, 1, [16] = 1, [23] = 9}},
        {"PARITY of a byte more",
         "parity of a wrong length",
         24,
         {0x1d, 0, 0x05, 0x89, 0, 0, 0, 1, [16] = 1, [23] = 9}},
        {"PARITY beyond offset 2^62",
         "offset out of range",
         24,
         {0x1d, 0, 0x05, 0x88, 0, 0, 0, 1, 0x40, [15] = 1, 1, [23] = 9}},
        {"PARITY with reserved bytes",
         "reserved bits set",
         24,
         {0x1d, 0, 0x05, 0x88, 0, 0, 0, 1, [16] = 1, [19] = 1, [23] = 9}},
        {"OPEN with edge 2^62 + 1",
         "window edge out of range",
         36,
         {0x16, 0, 0, 28, 0, 0, 0, 1, 4, [17] = 80, [20] = 0x40, [27] = 1}},
};

static void check_malformed(void)
{
	struct frame f;

	for (size_t i = 0; i < COUNT(malformed); i++)
		UNIT_CASE("refused: %s", malformed[i].name)
			UNIT_STR(decode(&f, malformed[i].bytes, malformed[i].len), malformed[i].why);
}

/* Whatever decodes must encode to the same bytes: no two encodings of one frame, nothing lost in decoding. */
static void check_random(void)
{
	uint64_t seed = 1;
	unsigned decoded = 0;

	UNIT_CASE("what random bytes decode to encodes to the same bytes") {
		for (unsigned round = 0; round < 400000; round++) {
			const struct golden *g = &goldens[unit_below(&seed, COUNT(goldens))];
			uint8_t bytes[FRAME_HEAD_MAX], again[FRAME_HEAD_MAX];
			struct frame_header header;
			struct frame f;

			memcpy(bytes, g->bytes, sizeof bytes);
			if (unit_chance(&seed, 1, 4)) {
				static const uint8_t open[] = {0x16, 0, 0, 60, 0, 0, 0, 9, 4,
				                               0,    0, 0, 0,  0, 0, 0, 0, 1};
				memcpy(bytes, open, sizeof open);
				bytes[8] = unit_chance(&seed, 1, 2) ? 4 : 6;
			}
			for (uint64_t n = unit_below(&seed, 4); n; n--)
				bytes[unit_below(&seed, sizeof bytes)] = (uint8_t)unit_random(&seed);
			if (frame_decode_header(&header, bytes))
				continue;
			if (header.type == FRAME_OPEN && frame_open_fixed_len(&header, bytes[8]))
				continue;
			if (frame_decode_fixed(&f, &header, bytes + FRAME_HEADER_BYTES))
				continue;
			f.payload_len = header.payload_len;
			decoded++;
			uint32_t len = frame_encode_head(again, &f);
			if (!UNIT_EQ(len, FRAME_HEADER_BYTES + header.fixed_len) || !UNIT_MEM(again, bytes, len))
				break;
		}
		UNIT_TRUE(decoded > 100000);
	}
}

static void check_names(void)
{
	UNIT_CASE("every value has a name of its own, and others have none") {
		for (int i = FRAME_HELLO; i <= FRAME_PARITY; i++)
			for (int k = i + 1; k <= FRAME_PARITY; k++)
				UNIT_TRUE(strcmp(frame_type_name((enum frame_type)i),
				                 frame_type_name((enum frame_type)k)));
		UNIT_STR(frame_type_name((enum frame_type)0), "?");
		UNIT_STR(frame_type_name((enum frame_type)14), "?");
		UNIT_STR(frame_type_name((enum frame_type) - 1), "?");
		UNIT_STR(frame_type_name(FRAME_OPEN_RESULT), "OPEN_RESULT");
		UNIT_STR(open_status_name(OPEN_CONNECTED), "connected");
		UNIT_STR(open_status_name(OPEN_FAILED), "failed");
		UNIT_STR(open_status_name(OPEN_STATUS_COUNT), "?");
		UNIT_STR(reset_reason_name(RESET_NONE), "none");
		UNIT_STR(reset_reason_name(RESET_SESSION), "session_lost");
		UNIT_STR(reset_reason_name(RESET_REASON_COUNT), "?");
	}
}

int main(void)
{
	check_goldens();
	check_open();
	check_malformed();
	check_random();
	check_names();
	return unit_exit();
}
