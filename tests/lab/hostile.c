/* hostile: a stranger who speaks the stripe protocol, right or wrong, as the steps on its command line say.
 *
 *   hostile talk ADDRESS PORT STEP…           connects and takes the steps; "ok", or "failed STEP: why" and status 1
 *   hostile listen PORT STEP…                 writes "ready"; takes the steps on each connection that comes
 *   hostile relay PORT ADDRESS PORT forth|back COUNT STEP…
 *       writes "ready"; passes each connection that comes on to ADDRESS, frame by frame; after COUNT frames in that
 *       direction it puts in the bytes of the steps, once for each connection
 *   hostile many ADDRESS PORT COUNT MS [STEP…]
 *       so many connections at once, each given the bytes of the steps; after MS, or when all have ended,
 *       "connections=N connected=N closed=N reset=N open=N"
 *
 * Steps that give bytes:
 *   hello[=KEY[,INDEX,STRIPES]]   KEY stands for a session id; none: a random one
 *   welcome=STATUS                of a random incarnation
 *   open=FLOW,ADDRESS,PORT        data=FLOW,OFFSET,LEN[,FLAGS]   ack=FLOW,OFFSET,EDGE   reset=FLOW,REASON
 *   gone=FLOW   ping=TOKEN   goaway   hex=BYTES   random=LEN,SEED   scatter=FLOW,COUNT (DATA of every second byte)
 * Steps that wait:
 *   expect=TYPE[,FLOW[,VALUE]]    a frame; what comes before it is thrown away. VALUE: status or reason
 *   expect=echo,FLOW,LEN          the bytes of `data` back, from offset 0, whatever their pieces
 *   expect=closed[,MS]            FIN or RST, within 5 s or MS
 *   expect=open,MS                neither in that time
 *   opens=COUNT,FIRST,ADDRESS,PORT   so many OPENs of flows from FIRST on; writes how they were answered
 *   wait=MS
 */
#define _GNU_SOURCE /* accept4, SOCK_NONBLOCK */
#include "hostile_wire.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ARGS_MAX = 6, WAIT_MS = 5000, QUIET_MS = 3000, UNSENT_MAX = 65536, STATUSES = 7 };

struct args {
	unsigned count;
	char *at[ARGS_MAX];
};

struct step {
	const char *name;
	unsigned least_args;
	bool waits;
	/* NULL, or why it failed */
	const char *(*take)(struct wire *wire, const struct args *args);
};

static uint64_t number(const struct args *args, unsigned i)
{
	return i < args->count ? strtoull(args->at[i], NULL, 0) : 0;
}

/* --- Steps that give bytes ---------------------------------------------------------------------------------------- */

static void random_id(uint8_t id[WIRE_ID_BYTES])
{
	if (getrandom(id, WIRE_ID_BYTES, 0) != WIRE_ID_BYTES)
		wire_die("getrandom");
}

static const char *take_hello(struct wire *wire, const struct args *args)
{
	uint8_t id[WIRE_ID_BYTES] = {0};

	if (args->count)
		memcpy(id, args->at[0], strnlen(args->at[0], sizeof id));
	else
		random_id(id);
	wire_put_hello(wire, id, (unsigned)number(args, 1), args->count > 2 ? (unsigned)number(args, 2) : 1);
	return NULL;
}

static const char *take_welcome(struct wire *wire, const struct args *args)
{
	uint8_t incarnation[WIRE_ID_BYTES];

	random_id(incarnation);
	wire_put_welcome(wire, incarnation, (unsigned)number(args, 0));
	return NULL;
}

static const char *take_open(struct wire *wire, const struct args *args)
{
	struct sockaddr_in dest = wire_address(args->at[1], args->at[2]);

	wire_put_open(wire, (uint32_t)number(args, 0), &dest, 1 << 20);
	return NULL;
}

static const char *take_data(struct wire *wire, const struct args *args)
{
	wire_put_data(wire, (uint32_t)number(args, 0), number(args, 1), number(args, 2), (unsigned)number(args, 3));
	return NULL;
}

static const char *take_scatter(struct wire *wire, const struct args *args)
{
	for (uint64_t i = 1; i <= number(args, 1); i++)
		wire_put_data(wire, (uint32_t)number(args, 0), 2 * i, 1, 0);
	return NULL;
}

static const char *take_ack(struct wire *wire, const struct args *args)
{
	wire_put_head(wire, WIRE_ACK, 0, 16, (uint32_t)number(args, 0));
	wire_put_number(wire, number(args, 1), 8);
	wire_put_number(wire, number(args, 2), 8);
	return NULL;
}

static const char *take_reset(struct wire *wire, const struct args *args)
{
	wire_put_head(wire, WIRE_RESET, 0, 4, (uint32_t)number(args, 0));
	wire_put_number(wire, number(args, 1), 4);
	return NULL;
}

static const char *take_gone(struct wire *wire, const struct args *args)
{
	wire_put_head(wire, WIRE_GONE, 0, 0, (uint32_t)number(args, 0));
	return NULL;
}

static const char *take_ping(struct wire *wire, const struct args *args)
{
	wire_put_head(wire, WIRE_PING, 0, 8, 0);
	wire_put_number(wire, number(args, 0), 8);
	return NULL;
}

static const char *take_goaway(struct wire *wire, const struct args *args)
{
	wire_put_head(wire, WIRE_GOAWAY, 0, 0, 0);
	return NULL;
}

static const char *take_hex(struct wire *wire, const struct args *args)
{
	for (const char *at = args->at[0]; at[0] && at[1]; at += 2) {
		char byte[3] = {at[0], at[1], '\0'};

		wire_put_number(wire, strtoul(byte, NULL, 16), 1);
	}
	return NULL;
}

static const char *take_random(struct wire *wire, const struct args *args)
{
	uint64_t len = number(args, 0), state = number(args, 1) * 2 + 1;

	while (len--) {
		state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		wire_put_number(wire, state >> 56, 1);
	}
	return NULL;
}

/* --- Steps that wait ---------------------------------------------------------------------------------------------- */

/* The next frame that is no PING; false: none came in time, or the connection has ended. */
static bool await_frame(struct wire *wire, struct wire_frame *frame, int64_t deadline_ms)
{
	while (true) {
		if (wire_next(wire, frame)) {
			if (frame->type != WIRE_PING)
				return true;
			wire_put_head(wire, WIRE_PONG, 0, 8, 0);
			wire_put(wire, frame->body, 8);
			wire_drop(wire, frame);
			continue;
		}
		int64_t left_ms = deadline_ms - wire_now_ms();
		if (wire->end != WIRE_RUNS || left_ms <= 0)
			return false;
		wire_pump(wire, (int)left_ms);
	}
}

static const char *no_frame(const struct wire *wire)
{
	if (wire->end == WIRE_RUNS)
		return "it did not come";
	return wire->end == WIRE_CLOSED ? "closed" : "reset";
}

/* Lets come what may until the time is over or the connection. */
static void throw_away(struct wire *wire, uint64_t ms)
{
	struct wire_frame frame;
	int64_t deadline_ms = wire_now_ms() + (int64_t)ms;

	while (await_frame(wire, &frame, deadline_ms))
		wire_drop(wire, &frame);
}

static const char *expect_closed(struct wire *wire, uint64_t ms)
{
	throw_away(wire, ms);
	return wire->end == WIRE_RUNS ? "still open" : NULL;
}

static const char *expect_open(struct wire *wire, uint64_t ms)
{
	throw_away(wire, ms);
	return wire->end == WIRE_RUNS ? NULL : no_frame(wire);
}

static const char *expect_echo(struct wire *wire, uint32_t flow, uint64_t len)
{
	int64_t deadline_ms = wire_now_ms() + WAIT_MS;
	struct wire_frame frame;
	uint64_t have = 0;

	while (have < len) {
		if (!await_frame(wire, &frame, deadline_ms))
			return no_frame(wire);
		if (frame.flow == flow && (frame.type == WIRE_RESET || frame.type == WIRE_GONE))
			return wire_type_name(frame.type);
		if (frame.flow == flow && frame.type == WIRE_DATA) {
			uint64_t offset = wire_number(frame.body, 8);
			for (size_t i = 0; i < frame.body_len - 8; i++)
				if (frame.body[8 + i] != wire_pattern(flow, offset + i))
					return "wrong bytes";
			/* Pieces come in order on one connection, and perhaps once more. */
			if (offset <= have && offset + frame.body_len - 8 > have)
				have = offset + frame.body_len - 8;
		}
		wire_drop(wire, &frame);
	}
	return NULL;
}

/* The status or reason that a frame carries. */
static uint64_t value_of(const struct wire_frame *frame)
{
	switch (frame->type) {
	case WIRE_WELCOME:
		return wire_number(frame->body + WIRE_ID_BYTES, 4);
	case WIRE_OPEN_RESULT:
	case WIRE_RESET:
		return wire_number(frame->body, 4);
	default:
		return 0;
	}
}

static const char *expect_frame(struct wire *wire, const struct args *args)
{
	int64_t deadline_ms = wire_now_ms() + WAIT_MS;
	struct wire_frame frame;
	bool same;

	do {
		if (!await_frame(wire, &frame, deadline_ms))
			return no_frame(wire);
		same = strcmp(wire_type_name(frame.type), args->at[0]) == 0;
		same = same && (args->count < 2 || frame.flow == number(args, 1));
		if (same && args->count > 2 && value_of(&frame) != number(args, 2)) {
			static char why[64];
			snprintf(why, sizeof why, "it came with %llu", (unsigned long long)value_of(&frame));
			return why;
		}
		wire_drop(wire, &frame);
	} while (!same);
	return NULL;
}

static const char *take_expect(struct wire *wire, const struct args *args)
{
	if (strcmp(args->at[0], "closed") == 0)
		return expect_closed(wire, args->count > 1 ? number(args, 1) : WAIT_MS);
	if (strcmp(args->at[0], "open") == 0)
		return expect_open(wire, number(args, 1));
	if (strcmp(args->at[0], "echo") == 0)
		return expect_echo(wire, (uint32_t)number(args, 1), number(args, 2));
	return expect_frame(wire, args);
}

static const char *take_wait(struct wire *wire, const struct args *args)
{
	throw_away(wire, number(args, 0));
	return NULL;
}

static const char *take_opens(struct wire *wire, const struct args *args)
{
	static const char *const names[STATUSES] = {"connected", "refused", "unreachable", "timed_out",
	                                            "denied",    "limit",   "failed"};
	uint64_t count = number(args, 0), sent = 0, answered = 0, statuses[STATUSES] = {0};
	struct sockaddr_in dest = wire_address(args->at[2], args->at[3]);
	int64_t moved_ms = wire_now_ms();
	struct wire_frame frame;

	while (answered < count && wire->end == WIRE_RUNS && wire_now_ms() - moved_ms < QUIET_MS) {
		for (; sent < count && wire_unsent(wire) < UNSENT_MAX; sent++)
			wire_put_open(wire, (uint32_t)(number(args, 1) + sent), &dest, 1 << 20);
		size_t unsent = wire_unsent(wire);
		wire_pump(wire, 100);
		if (wire_unsent(wire) != unsent)
			moved_ms = wire_now_ms();
		while (await_frame(wire, &frame, 0)) {
			if (frame.type == WIRE_OPEN_RESULT && value_of(&frame) < STATUSES) {
				statuses[value_of(&frame)]++;
				answered++;
			}
			moved_ms = wire_now_ms();
			wire_drop(wire, &frame);
		}
	}
	printf("opens=%llu answered=%llu", (unsigned long long)sent, (unsigned long long)answered);
	for (unsigned i = 0; i < STATUSES; i++)
		if (statuses[i])
			printf(" %s=%llu", names[i], (unsigned long long)statuses[i]);
	printf("\n");
	return wire->end == WIRE_RUNS ? NULL : no_frame(wire);
}

/* --- Taking steps ------------------------------------------------------------------------------------------------- */

static const struct step steps[] = {
        {"hello", 0, false, take_hello}, {"welcome", 1, false, take_welcome}, {"open", 3, false, take_open},
        {"data", 3, false, take_data},   {"ack", 3, false, take_ack},         {"reset", 2, false, take_reset},
        {"gone", 1, false, take_gone},   {"ping", 1, false, take_ping},       {"goaway", 0, false, take_goaway},
        {"hex", 1, false, take_hex},     {"random", 2, false, take_random},   {"expect", 1, true, take_expect},
        {"wait", 1, true, take_wait},    {"opens", 4, true, take_opens},      {"scatter", 2, false, take_scatter},
};

static const struct step *parse_step(const char *text, char buf[256], struct args *args)
{
	char *rest;

	snprintf(buf, 256, "%s", text);
	rest = strchr(buf, '=');
	*args = (struct args){0};
	if (rest)
		*rest++ = '\0';
	for (char *at = rest ? strtok_r(rest, ",", &rest) : NULL; at && args->count < ARGS_MAX;
	     at = strtok_r(NULL, ",", &rest))
		args->at[args->count++] = at;
	for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
		if (strcmp(steps[i].name, buf) == 0 && args->count >= steps[i].least_args)
			return &steps[i];
	errno = EINVAL;
	wire_die(text);
}

/* False: one failed, and was told. */
static bool take_steps(struct wire *wire, char **texts, bool may_wait)
{
	char buf[256];
	struct args args;

	for (; *texts; texts++) {
		const struct step *step = parse_step(*texts, buf, &args);
		if (step->waits && !may_wait) {
			errno = 0;
			wire_die("a step that waits has no place here");
		}
		const char *why = step->take(wire, &args);
		if (why) {
			printf("failed %s: %s\n", *texts, why);
			return false;
		}
	}
	/* The last bytes; the other side may well close before it takes them. */
	for (int64_t end_ms = wire_now_ms() + WAIT_MS; may_wait && wire_unsent(wire) && wire_now_ms() < end_ms;) {
		if (wire->end != WIRE_RUNS)
			break;
		throw_away(wire, 10);
	}
	return true;
}

static int talk(char **argv)
{
	struct sockaddr_in to = wire_address(argv[0], argv[1]);
	struct wire *wire = wire_new(wire_dial(&to));
	bool ok = take_steps(wire, argv + 2, true);

	if (ok)
		printf("ok\n");
	wire_free(wire);
	return !ok;
}

/* --- Listening ---------------------------------------------------------------------------------------------------- */

/* A process for each connection. */
static void serve(const char *port, void (*one)(int fd, char **argv), char **argv)
{
	int listener = wire_listen(port);

	signal(SIGCHLD, SIG_IGN);
	printf("ready\n");
	while (true) {
		int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0)
			wire_die("accept");
		pid_t pid = fork();
		if (pid == 0) {
			close(listener);
			one(fd, argv);
			exit(0);
		}
		close(fd);
	}
}

static void listen_one(int fd, char **argv)
{
	struct wire *wire = wire_new(fd);

	if (take_steps(wire, argv, true))
		printf("ok\n");
	wire_free(wire);
}

/* Passes on what has come whole; after *count frames the bytes of `texts`. */
static void pass(struct wire *from, struct wire *to, int64_t *count, char **texts)
{
	struct wire_frame frame;

	while (wire_unsent(to) < UNSENT_MAX && wire_next(from, &frame)) {
		wire_put(to, frame.whole, WIRE_HEAD_BYTES + frame.body_len);
		wire_drop(from, &frame);
		if (texts && --*count == 0)
			take_steps(to, texts, false);
	}
}

/* argv: ADDRESS PORT forth|back COUNT STEP… */
static void relay_one(int fd, char **argv)
{
	struct sockaddr_in to = wire_address(argv[0], argv[1]);
	bool forth = strcmp(argv[2], "forth") == 0;
	int64_t count = atoll(argv[3]);
	struct wire *near = wire_new(fd), *far = wire_new(wire_dial(&to));

	while (near->end == WIRE_RUNS && far->end == WIRE_RUNS) {
		struct pollfd polls[2] = {{.fd = near->fd}, {.fd = far->fd}};
		polls[0].events = (wire_unsent(near) ? POLLOUT : 0) | (wire_unsent(far) < UNSENT_MAX ? POLLIN : 0);
		polls[1].events = (wire_unsent(far) ? POLLOUT : 0) | (wire_unsent(near) < UNSENT_MAX ? POLLIN : 0);
		if (poll(polls, 2, -1) < 0)
			wire_die("poll");
		if (polls[0].revents)
			wire_pump(near, 0);
		if (polls[1].revents)
			wire_pump(far, 0);
		pass(near, far, &count, forth ? argv + 4 : NULL);
		pass(far, near, &count, forth ? NULL : argv + 4);
	}
	wire_free(near);
	wire_free(far);
}

/* --- Many at once ------------------------------------------------------------------------------------------------- */

struct crowd {
	struct pollfd *polls; /* .events: POLLOUT until connected; .fd < 0: over */
	long count, connected, closed, reset, open;
};

static void crowd_end(struct crowd *crowd, struct pollfd *one, bool reset)
{
	reset ? crowd->reset++ : crowd->closed++;
	crowd->open--;
	close(one->fd);
	one->fd = -1;
}

static void crowd_serve(struct crowd *crowd, struct pollfd *one, struct wire *bytes, char **texts)
{
	char trash[4096];
	ssize_t got;

	if (one->events & POLLOUT && one->revents & POLLOUT) {
		bytes->out_last = 0;
		take_steps(bytes, texts, false);
		if (send(one->fd, bytes->out, bytes->out_last, MSG_NOSIGNAL) < 0) {
			crowd_end(crowd, one, true);
			return;
		}
		crowd->connected++;
		one->events = POLLIN;
	}
	if (!(one->revents & (POLLIN | POLLERR | POLLHUP)))
		return;
	got = recv(one->fd, trash, sizeof trash, 0);
	if (got == 0 || (got < 0 && errno != EAGAIN))
		crowd_end(crowd, one, got < 0);
}

/* argv: ADDRESS PORT COUNT MS STEP… */
static int many(char **argv)
{
	struct sockaddr_in to = wire_address(argv[0], argv[1]);
	struct crowd crowd = {.count = atol(argv[2])};
	int64_t end_ms = wire_now_ms() + atoll(argv[3]);
	struct wire *bytes = wire_new(-1);
	struct rlimit files = {(rlim_t)crowd.count + 100, (rlim_t)crowd.count + 100};

	setrlimit(RLIMIT_NOFILE, &files);
	crowd.polls = calloc((size_t)crowd.count, sizeof *crowd.polls);
	if (!crowd.polls)
		wire_die("memory");
	for (; crowd.open < crowd.count; crowd.open++)
		crowd.polls[crowd.open] = (struct pollfd){.fd = wire_dial(&to), .events = POLLIN | POLLOUT};
	while (crowd.open && wire_now_ms() < end_ms) {
		if (poll(crowd.polls, (nfds_t)crowd.count, (int)(end_ms - wire_now_ms())) <= 0)
			continue;
		for (long i = 0; i < crowd.count; i++)
			if (crowd.polls[i].fd >= 0 && crowd.polls[i].revents)
				crowd_serve(&crowd, &crowd.polls[i], bytes, argv + 4);
	}
	printf("connections=%ld connected=%ld closed=%ld reset=%ld open=%ld\n", crowd.count, crowd.connected,
	       crowd.closed, crowd.reset, crowd.open);
	return 0;
}

int main(int argc, char **argv)
{
	const char *command = argc > 1 ? argv[1] : "";

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (strcmp(command, "talk") == 0 && argc > 3)
		return talk(argv + 2);
	if (strcmp(command, "listen") == 0 && argc > 2)
		serve(argv[2], listen_one, argv + 3);
	if (strcmp(command, "relay") == 0 && argc > 6)
		serve(argv[2], relay_one, argv + 3);
	if (strcmp(command, "many") == 0 && argc > 5)
		return many(argv + 2);
	fprintf(stderr, "Usage: hostile talk|listen|relay|many …: see the head of tests/lab/hostile.c\n");
	return 2;
}
