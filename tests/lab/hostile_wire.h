/* hostile_wire: one TCP connection that speaks the stripe protocol by hand, right or wrong.
 *
 * Knows doc/protocol.md on its own and shares no code with the daemons, so that a mistake in theirs cannot hide in its
 * own twin here. Bytes are queued with wire_put… and travel in wire_pump; a frame that came is taken with wire_next.
 * PINGs are answered by itself. Sockets are non-blocking; whoever gets no memory or socket dies with a message.
 */
#ifndef PAIR_TESTS_HOSTILE_WIRE_H
#define PAIR_TESTS_HOSTILE_WIRE_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	WIRE_HELLO = 1,
	WIRE_WELCOME,
	WIRE_PING,
	WIRE_PONG,
	WIRE_GOAWAY,
	WIRE_OPEN,
	WIRE_OPEN_RESULT,
	WIRE_DATA,
	WIRE_ACK,
	WIRE_RESET,
	WIRE_GONE,
	WIRE_TYPES
};

enum { WIRE_HEAD_BYTES = 8, WIRE_FRAME_MAX = WIRE_HEAD_BYTES + 65535, WIRE_ID_BYTES = 16 };

enum wire_end { WIRE_RUNS, WIRE_CLOSED /* FIN */, WIRE_WAS_RESET };

struct wire {
	int fd;
	enum wire_end end;
	uint8_t *out; /* not yet written: out[out_first, out_last) */
	size_t out_first, out_last, out_size;
	size_t in_first, in_last; /* not yet taken: in[in_first, in_last) */
	uint8_t in[4 * WIRE_FRAME_MAX];
};

/* A frame within a wire's `in`, valid until wire_next or wire_pump. */
struct wire_frame {
	unsigned type;
	uint32_t flow;
	const uint8_t *whole; /* with its header */
	const uint8_t *body;  /* what follows the header */
	size_t body_len;
};

__attribute__((noreturn)) void wire_die(const char *what);
int64_t wire_now_ms(void);

struct sockaddr_in wire_address(const char *ip, const char *port);
/* Connected, or about to be. */
int wire_dial(const struct sockaddr_in *to);
int wire_listen(const char *port);

struct wire *wire_new(int fd);
void wire_free(struct wire *wire);

void wire_put(struct wire *wire, const void *bytes, size_t len);
size_t wire_unsent(const struct wire *wire);
/* The header of a frame whose body of `len` bytes follows. */
void wire_put_head(struct wire *wire, unsigned type, unsigned flags, size_t len, uint32_t flow);
/* `width` bytes, big-endian. */
void wire_put_number(struct wire *wire, uint64_t value, unsigned width);
void wire_put_hello(struct wire *wire, const uint8_t session[WIRE_ID_BYTES], unsigned index, unsigned stripes);
void wire_put_welcome(struct wire *wire, const uint8_t incarnation[WIRE_ID_BYTES], unsigned status);
void wire_put_open(struct wire *wire, uint32_t flow, const struct sockaddr_in *dest, uint64_t edge);
/* Payload: wire_pattern. */
void wire_put_data(struct wire *wire, uint32_t flow, uint64_t offset, size_t len, unsigned flags);
uint8_t wire_pattern(uint32_t flow, uint64_t offset);

uint64_t wire_number(const uint8_t *bytes, unsigned width);

/* Moves what can be moved; waits at most so long for something to move. */
void wire_pump(struct wire *wire, int timeout_ms);
/* The next whole frame, in order. */
bool wire_next(struct wire *wire, struct wire_frame *frame);
/* That frame is done with. */
void wire_drop(struct wire *wire, const struct wire_frame *frame);

const char *wire_type_name(unsigned type);

#endif
