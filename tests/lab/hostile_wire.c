#define _GNU_SOURCE /* accept4, SOCK_NONBLOCK */
#include "hostile_wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { VERSION = 1, MAGIC = 0x50616972 };

static const char *const type_names[WIRE_TYPES] = {"?",    "HELLO",       "WELCOME", "PING", "PONG",  "GOAWAY",
                                                   "OPEN", "OPEN_RESULT", "DATA",    "ACK",  "RESET", "GONE"};

const char *wire_type_name(unsigned type)
{
	return type < WIRE_TYPES ? type_names[type] : "?";
}

void wire_die(const char *what)
{
	fprintf(stderr, "hostile: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
	exit(2);
}

int64_t wire_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* --- Sockets ------------------------------------------------------------------------------------------------------ */

struct sockaddr_in wire_address(const char *ip, const char *port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};

	errno = 0;
	if (inet_pton(AF_INET, ip, &address.sin_addr) != 1)
		wire_die(ip);
	return address;
}

int wire_dial(const struct sockaddr_in *to)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int one = 1;

	if (fd < 0)
		wire_die("socket");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (connect(fd, (const struct sockaddr *)to, sizeof *to) < 0 && errno != EINPROGRESS)
		wire_die("connect");
	return fd;
}

int wire_listen(const char *port)
{
	struct sockaddr_in address = wire_address("0.0.0.0", port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int one = 1;

	if (fd < 0)
		wire_die("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 64) < 0)
		wire_die("listen");
	return fd;
}

struct wire *wire_new(int fd)
{
	struct wire *wire = calloc(1, sizeof *wire);

	if (!wire)
		wire_die("memory");
	wire->fd = fd;
	return wire;
}

void wire_free(struct wire *wire)
{
	close(wire->fd);
	free(wire->out);
	free(wire);
}

/* --- Frames out --------------------------------------------------------------------------------------------------- */

size_t wire_unsent(const struct wire *wire)
{
	return wire->out_last - wire->out_first;
}

void wire_put(struct wire *wire, const void *bytes, size_t len)
{
	if (wire->out_last + len > wire->out_size) {
		memmove(wire->out, wire->out + wire->out_first, wire->out ? wire_unsent(wire) : 0);
		wire->out_last -= wire->out_first;
		wire->out_first = 0;
	}
	if (wire->out_last + len > wire->out_size) {
		wire->out_size = 2 * (wire->out_last + len);
		wire->out = realloc(wire->out, wire->out_size);
		if (!wire->out)
			wire_die("memory");
	}
	memcpy(wire->out + wire->out_last, bytes, len);
	wire->out_last += len;
}

void wire_put_number(struct wire *wire, uint64_t value, unsigned width)
{
	uint8_t bytes[8];

	for (unsigned i = 0; i < width; i++)
		bytes[i] = (uint8_t)(value >> (8 * (width - 1 - i)));
	wire_put(wire, bytes, width);
}

void wire_put_head(struct wire *wire, unsigned type, unsigned flags, size_t len, uint32_t flow)
{
	wire_put_number(wire, VERSION << 4 | type, 1);
	wire_put_number(wire, flags, 1);
	wire_put_number(wire, len, 2);
	wire_put_number(wire, flow, 4);
}

void wire_put_hello(struct wire *wire, const uint8_t session[WIRE_ID_BYTES], unsigned index, unsigned stripes)
{
	wire_put_head(wire, WIRE_HELLO, 0, 44, 0);
	wire_put_number(wire, MAGIC, 4);
	wire_put(wire, session, WIRE_ID_BYTES);
	wire_put_number(wire, 0, 2);
	wire_put_number(wire, index, 2);
	wire_put_number(wire, stripes, 2);
	wire_put_number(wire, 0, 2);
	wire_put_number(wire, 0, 8);
	wire_put_number(wire, 0, 8);
}

void wire_put_welcome(struct wire *wire, const uint8_t incarnation[WIRE_ID_BYTES], unsigned status)
{
	wire_put_head(wire, WIRE_WELCOME, 0, 20, 0);
	wire_put(wire, incarnation, WIRE_ID_BYTES);
	wire_put_number(wire, status, 4);
}

void wire_put_open(struct wire *wire, uint32_t flow, const struct sockaddr_in *dest, uint64_t edge)
{
	wire_put_head(wire, WIRE_OPEN, 0, 28, flow);
	wire_put_number(wire, 4, 1);
	wire_put_number(wire, 0, 1);
	wire_put_number(wire, 1460, 2);
	wire_put_number(wire, 7, 1);
	wire_put_number(wire, 3, 1);
	wire_put_number(wire, 40000 + flow % 20000, 2);
	wire_put_number(wire, ntohs(dest->sin_port), 2);
	wire_put_number(wire, 0, 2);
	wire_put_number(wire, edge, 8);
	wire_put_number(wire, 0xc0a8020b, 4); /* 192.168.2.11 */
	wire_put_number(wire, ntohl(dest->sin_addr.s_addr), 4);
}

uint8_t wire_pattern(uint32_t flow, uint64_t offset)
{
	return (uint8_t)(offset * 7 + offset / 256 + flow);
}

void wire_put_data(struct wire *wire, uint32_t flow, uint64_t offset, size_t len, unsigned flags)
{
	wire_put_head(wire, WIRE_DATA, flags, 8 + len, flow);
	wire_put_number(wire, offset, 8);
	for (size_t i = 0; i < len; i++)
		wire_put_number(wire, wire_pattern(flow, offset + i), 1);
}

/* --- Frames in ---------------------------------------------------------------------------------------------------- */

uint64_t wire_number(const uint8_t *bytes, unsigned width)
{
	uint64_t value = 0;

	while (width--)
		value = value << 8 | *bytes++;
	return value;
}

bool wire_next(struct wire *wire, struct wire_frame *frame)
{
	const uint8_t *at = wire->in + wire->in_first;
	size_t len = wire->in_last - wire->in_first;

	if (len < WIRE_HEAD_BYTES)
		return false;
	frame->type = at[0] & 15;
	frame->flow = (uint32_t)wire_number(at + 4, 4);
	frame->whole = at;
	frame->body = at + WIRE_HEAD_BYTES;
	frame->body_len = (size_t)wire_number(at + 2, 2);
	return len >= WIRE_HEAD_BYTES + frame->body_len;
}

void wire_drop(struct wire *wire, const struct wire_frame *frame)
{
	wire->in_first += WIRE_HEAD_BYTES + frame->body_len;
}

/* --- Moving ------------------------------------------------------------------------------------------------------- */

/* How a call ended that moved nothing. */
static void end_by(struct wire *wire, ssize_t moved)
{
	if (moved < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	wire->end = moved == 0 ? WIRE_CLOSED : WIRE_WAS_RESET;
}

static void read_in(struct wire *wire)
{
	ssize_t got;

	memmove(wire->in, wire->in + wire->in_first, wire->in_last - wire->in_first);
	wire->in_last -= wire->in_first;
	wire->in_first = 0;
	if (wire->in_last == sizeof wire->in)
		return;
	got = recv(wire->fd, wire->in + wire->in_last, sizeof wire->in - wire->in_last, 0);
	if (got > 0)
		wire->in_last += (size_t)got;
	else
		end_by(wire, got);
}

static void write_out(struct wire *wire)
{
	ssize_t put = send(wire->fd, wire->out + wire->out_first, wire_unsent(wire), MSG_NOSIGNAL);

	if (put > 0)
		wire->out_first += (size_t)put;
	else if (put < 0 && errno == EPIPE)
		wire->out_first = wire->out_last; /* what is to be read tells how it ended */
	else if (put < 0)
		end_by(wire, put);
}

void wire_pump(struct wire *wire, int timeout_ms)
{
	struct pollfd poll_fd = {.fd = wire->fd, .events = POLLIN};

	if (wire_unsent(wire))
		poll_fd.events |= POLLOUT;
	if (wire->end != WIRE_RUNS || poll(&poll_fd, 1, timeout_ms) <= 0)
		return;
	if (poll_fd.revents & (POLLIN | POLLERR | POLLHUP))
		read_in(wire);
	if (wire->end == WIRE_RUNS && poll_fd.revents & POLLOUT)
		write_out(wire);
}
