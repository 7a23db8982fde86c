/* frame: encode and decode one frame of the stripe protocol. No state. doc/protocol.md has the byte layouts.
 *
 * Every frame is a header of 8 bytes (version and type, flags, length of what follows, flow id), a fixed part that
 * depends on the type, and, for DATA, BLOCK, PARITY and OPEN only, a payload up to the end of the frame. Decoding
 * trusts nothing: a frame either decodes into in-range values or is refused with a reason.
 */
#ifndef PAIR_CORE_FRAME_H
#define PAIR_CORE_FRAME_H

#include "syn.h"

enum {
	FRAME_VERSION = 1,
	FRAME_HEADER_BYTES = 8,
	FRAME_DATA_FIXED_BYTES = 8,
	FRAME_BLOCK_FIXED_BYTES = 12,
	FRAME_PARITY_FIXED_BYTES = 16,
	FRAME_FIXED_MAX = 64, /* no type has a longer fixed part */
	FRAME_HEAD_MAX = FRAME_HEADER_BYTES + FRAME_FIXED_MAX,
	FRAME_DATA_HEAD_BYTES = FRAME_HEADER_BYTES + FRAME_DATA_FIXED_BYTES,
	FRAME_BLOCK_HEAD_BYTES = FRAME_HEADER_BYTES + FRAME_BLOCK_FIXED_BYTES,
	FRAME_PARITY_HEAD_BYTES = FRAME_HEADER_BYTES + FRAME_PARITY_FIXED_BYTES,
	FRAME_PAYLOAD_MAX = 65535 - FRAME_FIXED_MAX, /* the length field has 16 bits */
	FRAME_ID_BYTES = 16,                         /* of a session id and an incarnation */
	FRAME_STRIPES_MAX = 64,                      /* of a path; a bit each in a word of 64 (session_run.c) */
	FRAME_CONGESTION_BYTES = 16                  /* TCP_CA_NAME_MAX */
};

/* The right edge of a direction's window before its receiver has said more: the same constant at both ends. */
enum { FRAME_FIRST_WINDOW_BYTES = 32768 };

/* Offsets are limited so that offset + length never wraps: 2^62 bytes are 4 exbibytes. */
#define FRAME_OFFSET_MAX ((uint64_t)1 << 62)

enum frame_type {
	FRAME_HELLO = 1,   /* first frame on a stripe, from its dialler */
	FRAME_WELCOME = 2, /* first frame back, from its acceptor */
	FRAME_PING = 3,    /* asks for a PONG with the same token */
	FRAME_PONG = 4,
	FRAME_GOAWAY = 5,      /* no new flows, please: the sender is going to end */
	FRAME_OPEN = 6,        /* tx → rx: a new flow; payload: its first bytes, at offset 0 */
	FRAME_OPEN_RESULT = 7, /* rx → tx: what the destination answered */
	FRAME_DATA = 8,        /* payload at a joint offset */
	FRAME_ACK = 9,         /* data ack and right edge of the window */
	FRAME_RESET = 10,      /* both directions of the flow are over, now */
	FRAME_GONE = 11,       /* nothing is kept here for that flow (any more): answers RESET and late DATA */
	FRAME_BLOCK = 12,      /* as DATA, sent for the first time, of a block for which parity follows */
	FRAME_PARITY = 13      /* a row of parity over a block, see parity.h */
};

enum {
	FRAME_FLAG_FIN = 1, /* DATA, BLOCK, PARITY: the direction ends after this payload, or block; the end takes an
	                       offset (RFC 8684, DATA_FIN) */
	FRAME_FLAG_COPY = 2 /* DATA, BLOCK, OPEN: sent on another stripe as well; needs no GONE */
};

enum open_status {
	OPEN_CONNECTED = 0,
	OPEN_REFUSED = 1,     /* the destination answered with a RST */
	OPEN_UNREACHABLE = 2, /* ICMP unreachable, or no route */
	OPEN_TIMED_OUT = 3,   /* no answer */
	OPEN_DENIED = 4,      /* by rx_proxy's access list */
	OPEN_LIMIT = 5,       /* rx_proxy has no room for another flow */
	OPEN_FAILED = 6,      /* anything else on rx_proxy's side */
	OPEN_STATUS_COUNT
};

enum reset_reason {
	RESET_NONE = 0,      /* not on the wire */
	RESET_BY_APP = 1,    /* the application's socket was reset */
	RESET_TIMED_OUT = 2, /* the application's socket timed out */
	RESET_ABORTED = 3,   /* the proxy gave the flow up: limit, deadline, shutdown */
	RESET_PROTOCOL = 4,  /* the other proxy broke the flow's rules */
	RESET_SESSION = 5,   /* the session was lost: not on the wire */
	RESET_REASON_COUNT
};

enum welcome_status { WELCOME_OK = 0, WELCOME_BUSY = 1, WELCOME_DENIED = 2, WELCOME_STATUS_COUNT };

enum { FRAME_MAGIC = 0x50616972 }; /* "Pair" */

/* What a dialler says of a new stripe. */
struct hello {
	uint8_t session[FRAME_ID_BYTES];         /* chosen at random by tx_proxy */
	uint16_t path;                           /* 0..15: index in the dialler's list of paths */
	uint16_t index;                          /* 0..63: of the stripe on its path */
	uint16_t stripes;                        /* 1..64: how many the path has */
	bool backup;                             /* the path carries data only while no other can */
	uint8_t reinject_percent;                /* 0..100: of the path's new bytes, how many may be repeats */
	char congestion[FRAME_CONGESTION_BYTES]; /* congestion control wished for at the far end too; "": its default.
	                                          * Lower case letters, digits, _ and -; NUL-terminated */
};

/* BLOCK and PARITY: of which block, and how it is protected. */
struct frame_block {
	uint64_t start; /* offset of its first byte */
	uint32_t len;   /* its bytes, 1..PARITY_BLOCK_MAX_BYTES; PARITY only */
	uint8_t rows;   /* of parity that there are at most, 1..PARITY_ROWS_MAX */
	uint8_t row;    /* which one this is, < rows; PARITY only */
};

/* One decoded frame. Which members mean something depends on `type`. */
struct frame {
	enum frame_type type;
	uint8_t flags;
	uint32_t flow; /* 0 in frames about the stripe or the session, ≥ 1 in all others */
	union {
		struct hello hello;
		struct {
			uint8_t incarnation[FRAME_ID_BYTES]; /* differs whenever the acceptor's session state is new */
			enum welcome_status status;
		} welcome;
		uint64_t token; /* PING, PONG: opaque to the one that answers */
		struct {
			struct syn syn;
			uint64_t window_edge; /* of the direction destination → client */
		} open;
		struct {
			enum open_status status;
			uint64_t window_edge; /* of the direction client → destination */
		} result;
		uint64_t offset; /* DATA, BLOCK: of the first byte of payload; OPEN's and PARITY's payloads start at
		                    0 */
		struct {
			uint64_t offset; /* all below it have arrived */
			uint64_t edge;   /* offsets below it may be sent */
		} ack;
		enum reset_reason reason;
	};
	struct frame_block block; /* BLOCK, PARITY; rows 0 in all others */
	const uint8_t *payload;   /* DATA, BLOCK, OPEN, PARITY */
	uint32_t payload_len;     /* bytes; as given to frame_encode_head, or what is at payload */
};

/* What a header announces. */
struct frame_header {
	enum frame_type type;
	uint8_t flags;
	uint32_t flow;
	uint32_t fixed_len;   /* bytes of the fixed part */
	uint32_t payload_len; /* bytes after it */
};

/* Writes header and fixed part of `f` (its payload_len counts, its payload is not touched) to out[FRAME_HEAD_MAX].
 * Returns their length. The values must be in range: that is the caller's duty (asserted). */
uint32_t frame_encode_head(uint8_t out[FRAME_HEAD_MAX], const struct frame *f);

/* Decodes FRAME_HEADER_BYTES at `bytes`. For OPEN, fixed_len is that of an IPv4 OPEN until frame_open_fixed_len has
 * seen more. NULL: fine; else why the frame is refused, a static text for the log. */
const char *frame_decode_header(struct frame_header *header, const uint8_t *bytes);

/* OPEN's fixed part has 28 or 52 bytes, told by its first byte: sets the lengths in `header`. NULL or a reason. */
const char *frame_open_fixed_len(struct frame_header *header, uint8_t first_byte);

/* Decodes the fixed part. Payload fields of `f` are set to none. NULL or a reason. */
const char *frame_decode_fixed(struct frame *f, const struct frame_header *header, const uint8_t *fixed);

/* Names for logs; "?" for a value out of range. */
const char *frame_type_name(enum frame_type type);
const char *open_status_name(enum open_status status);
const char *reset_reason_name(enum reset_reason reason);

#endif
