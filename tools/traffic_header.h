/* traffic_header: what stream and receive tell each other inside the connection.
 *
 * stream → receive: header, data, [trailer], FIN.      receive → stream: [data], [trailer], FIN.
 *
 * The header is the first thing on a connection; a connection that starts otherwise is raw: its bytes are data, and
 * nothing is sent back. Trailers end both directions of a transfer: they have a fixed size and stand right before the
 * FIN, so the data between needs no framing, and they are found even when data went missing before them. Requests and
 * echoes have no trailers.
 *
 * Numbers are big-endian. Both end with a hash of the bytes before it: damaged ones are not believed. What a decoded
 * header asks for is within the limits below; receive is given headers by strangers.
 */
#ifndef PAIR_TOOLS_TRAFFIC_HEADER_H
#define PAIR_TOOLS_TRAFFIC_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	TRAFFIC_VERSION = 1,
	TRAFFIC_HEADER_SIZE = 56,
	TRAFFIC_TRAILER_SIZE = 120,
	TRAFFIC_SHA256_SIZE = 32,
	TRAFFIC_FLOWS_MAX = 10000000,         /* flow indices are below */
	TRAFFIC_DURATION_MAX_MS = 1000000000, /* what the configuration allows */
};
#define TRAFFIC_BYTES_MAX (UINT64_C(1) << 60) /* of one direction of one flow; as good as "without limit" */
#define TRAFFIC_NO_OFFSET UINT64_MAX          /* "no byte was wrong" */

enum traffic_mode {
	TRAFFIC_TRANSFER, /* data in one direction or both, with trailers */
	TRAFFIC_ECHO,     /* receive sends back every byte after the header */
	TRAFFIC_REQUEST,  /* the header is the request; receive answers with back_bytes of pattern and closes */
};

enum traffic_flag {
	TRAFFIC_HAS_FORTH = 1, /* data goes from stream to receive */
	TRAFFIC_HAS_BACK = 2,  /* pattern goes from receive to stream */
	TRAFFIC_IS_FILE = 4,   /* the data from stream is a file's, not the pattern's */
	TRAFFIC_VERIFY = 8,    /* receive checks the pattern, or takes the SHA-256 of the file */
	TRAFFIC_FLAGS = 15,
};

struct traffic_header {
	enum traffic_mode mode;
	unsigned flags; /* enum traffic_flag, or-ed */
	uint32_t flow;  /* index within the run of stream, < TRAFFIC_FLOWS_MAX */
	uint64_t seed;
	uint64_t forth_bytes; /* what stream means to send, at most TRAFFIC_BYTES_MAX; informative */
	uint64_t back_bytes;  /* what receive shall send at most, ≤ TRAFFIC_BYTES_MAX */
	uint32_t duration_ms; /* receive stops sending after so long; 0: at back_bytes alone */
};

/* How a flow ended, as each side sees it. Travels in the trailer, so values stay as they are. */
enum traffic_status {
	TRAFFIC_OK = 0,
	TRAFFIC_CONNECT_FAILED = 1, /* refused, unreachable, timed out */
	TRAFFIC_RESET = 2,          /* the connection was reset, or ended in another error */
	TRAFFIC_SHORT = 3,          /* ended by FIN before everything was there */
	TRAFFIC_WRONG_DATA = 4,     /* a byte, the count or the SHA-256 differs from what was sent */
	TRAFFIC_NO_REPORT = 5,      /* everything was sent, but the other side's trailer did not come */
	TRAFFIC_BAD_HEADER = 6,     /* starts with the magic, but is no header that we serve */
	TRAFFIC_INPUT_FAILED = 7,   /* the file to send could not be read */
	TRAFFIC_OUTPUT_FAILED = 8,  /* received bytes could not be written */
	TRAFFIC_TIMED_OUT = 9,      /* --timeout */
	TRAFFIC_INTERRUPTED = 10,   /* by a signal */
	TRAFFIC_STATUS_COUNT,
};

struct traffic_trailer {
	uint64_t sent_bytes;                       /* data that the writer of the trailer sent before it */
	uint64_t received_bytes;                   /* data that it had received by then */
	uint64_t first_wrong;                      /* offset in what it received, or TRAFFIC_NO_OFFSET */
	uint64_t receive_us;                       /* from its header to the last byte of data received */
	enum traffic_status status;                /* as its writer sees the flow */
	bool has_sent_sha256, has_received_sha256; /* files only */
	uint8_t sent_sha256[TRAFFIC_SHA256_SIZE];
	uint8_t received_sha256[TRAFFIC_SHA256_SIZE];
};

/* "ok", "reset", "wrong_data"… */
const char *traffic_status_name(enum traffic_status status);

void traffic_header_encode(uint8_t buf[TRAFFIC_HEADER_SIZE], const struct traffic_header *header);

/* Whether the first len_bytes of a connection may still be the start of a header (true for 0 bytes). */
bool traffic_header_may_start(const uint8_t *buf, size_t len_bytes);

/* 0; -EPROTO: damaged or another version; -ERANGE: asks for more than the limits, or for what cannot be. */
int traffic_header_decode(struct traffic_header *header, const uint8_t buf[TRAFFIC_HEADER_SIZE]);

void traffic_trailer_encode(uint8_t buf[TRAFFIC_TRAILER_SIZE], const struct traffic_trailer *trailer);

/* 0, or -EPROTO: these bytes are no trailer. */
int traffic_trailer_decode(struct traffic_trailer *trailer, const uint8_t buf[TRAFFIC_TRAILER_SIZE]);

#endif
