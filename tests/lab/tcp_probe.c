/* tcp_probe: one TCP connection by a script of operations, and what exactly came of it, for both ends.
 *
 *   tcp_probe connect ADDRESS PORT [OPERATION ...]   a line when the script has ended; exit status 1: one failed
 *   tcp_probe connect ADDRESS PORT,FROM [OPERATION ...]   the same from the local port FROM
 *   tcp_probe listen PORT [OPERATION ...]            the script for every connection, each in a process of its own
 *
 *   send=N     sends N bytes of a pattern that depends on the offset
 *   read=N     takes N bytes and checks them
 *   end        takes and checks everything until the other side's end, whatever kind it is of
 *   fin        ends the sending direction         rst   closes with a RST
 *   urgent     sends the pattern's next byte as urgent data (MSG_OOB)
 *   sleep=MS   wait=FILE   until it exists        say=WORD   a line with that word, at once
 *   limit=S    from here on, how long one operation may take; at first 20 s
 *
 * The line:
 *   peer=ADDRESS:PORT connect_ms=N sent=N read=N wrong=OFFSET|none end=eof|none error=NAME|none at=OPERATION|none ms=N
 * `end` is what was read last, `error` an errno's name, or "eof" where a read wanted more, or "timeout"; `at` names
 * the operation that failed, "connect" among them. After the script or an error the socket is closed.
 */
#define _GNU_SOURCE /* accept4 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PIECE_BYTES = 65536, LIMIT_S = 20, BACKLOG = 1024, EXIT_FAILED = 1, EXIT_USAGE = 2 };

struct probe {
	int fd;
	uint64_t started_us, limit_us;
	uint64_t connect_us;
	uint64_t sent_bytes, read_bytes;
	uint64_t wrong_offset; /* UINT64_MAX: none */
	bool at_eof;
	const char *error, *error_at; /* NULL: none */
	char peer[64];
};

static uint8_t piece[PIECE_BYTES];

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* Of each offset, so that bytes which are missing, doubled or of another place do not go unnoticed. */
static uint8_t pattern_at(uint64_t offset)
{
	return (uint8_t)((offset * UINT64_C(0x9e3779b97f4a7c15)) >> 56);
}

static const char *errno_name(int error)
{
	static char number[16];

	switch (error) {
	case ECONNREFUSED:
		return "ECONNREFUSED";
	case ECONNRESET:
		return "ECONNRESET";
	case EPIPE:
		return "EPIPE";
	case ETIMEDOUT:
		return "ETIMEDOUT";
	case EHOSTUNREACH:
		return "EHOSTUNREACH";
	case ENETUNREACH:
		return "ENETUNREACH";
	default:
		snprintf(number, sizeof number, "%d", error);
		return number;
	}
}

static bool fail(struct probe *probe, const char *at, const char *error)
{
	probe->error = error;
	probe->error_at = at;
	return false;
}

/* Until the socket is ready or the operation's time is over. */
static bool await(struct probe *probe, const char *at, short events, uint64_t deadline_us)
{
	struct pollfd pollfd = {.fd = probe->fd, .events = events};
	uint64_t now = now_us();
	int ready = poll(&pollfd, 1, now < deadline_us ? (int)((deadline_us - now) / 1000 + 1) : 0);

	return ready > 0 || (ready < 0 && errno == EINTR) ? true : fail(probe, at, "timeout");
}

static bool do_send(struct probe *probe, uint64_t count)
{
	uint64_t deadline_us = now_us() + probe->limit_us;

	while (count) {
		size_t len = count < sizeof piece ? (size_t)count : sizeof piece;

		for (size_t i = 0; i < len; i++)
			piece[i] = pattern_at(probe->sent_bytes + i);
		ssize_t put = send(probe->fd, piece, len, MSG_NOSIGNAL);
		if (put < 0 && errno != EAGAIN)
			return fail(probe, "send", errno_name(errno));
		if (put < 0 && !await(probe, "send", POLLOUT, deadline_us))
			return false;
		if (put > 0) {
			probe->sent_bytes += (uint64_t)put;
			count -= (uint64_t)put;
		}
	}
	return true;
}

static void verify(struct probe *probe, size_t len)
{
	for (size_t i = 0; i < len && probe->wrong_offset == UINT64_MAX; i++)
		if (piece[i] != pattern_at(probe->read_bytes + i))
			probe->wrong_offset = probe->read_bytes + i;
	probe->read_bytes += len;
}

/* `at` is "read", which wants all of `count`, or "end", which wants what comes. */
static bool do_read(struct probe *probe, const char *at, uint64_t count)
{
	uint64_t deadline_us = now_us() + probe->limit_us;
	bool to_end = strcmp(at, "end") == 0;

	while (count) {
		ssize_t got = recv(probe->fd, piece, count < sizeof piece ? (size_t)count : sizeof piece, 0);

		if (got < 0 && errno != EAGAIN)
			return fail(probe, at, errno_name(errno));
		if (got < 0 && !await(probe, at, POLLIN, deadline_us))
			return false;
		if (got == 0) {
			probe->at_eof = true;
			return to_end || fail(probe, at, "eof");
		}
		if (got > 0) {
			verify(probe, (size_t)got);
			count -= (uint64_t)got;
		}
	}
	return true;
}

static void sleep_ms(uint64_t ms)
{
	struct timespec ts = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};

	while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
		;
}

static bool do_wait(struct probe *probe, const char *file)
{
	uint64_t deadline_us = now_us() + probe->limit_us;

	while (access(file, F_OK) < 0) {
		if (now_us() > deadline_us)
			return fail(probe, "wait", "timeout");
		sleep_ms(10);
	}
	return true;
}

static bool do_rst(struct probe *probe)
{
	struct linger linger = {.l_onoff = 1, .l_linger = 0};

	setsockopt(probe->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
	close(probe->fd);
	probe->fd = -1;
	return true;
}

static bool do_urgent(struct probe *probe)
{
	uint8_t byte = pattern_at(probe->sent_bytes);

	if (send(probe->fd, &byte, 1, MSG_NOSIGNAL | MSG_OOB) != 1)
		return fail(probe, "urgent", errno_name(errno));
	probe->sent_bytes++;
	return true;
}

static void usage(const char *what)
{
	fprintf(stderr, "tcp_probe: %s? See tests/lab/tcp_probe.c\n", what);
	exit(EXIT_USAGE);
}

static bool run_operation(struct probe *probe, const char *operation)
{
	const char *value = strchr(operation, '=');
	uint64_t number = value ? strtoull(value + 1, NULL, 10) : 0;

	if (strcmp(operation, "end") == 0)
		return do_read(probe, "end", UINT64_MAX);
	if (strcmp(operation, "fin") == 0)
		return shutdown(probe->fd, SHUT_WR) == 0 || fail(probe, "fin", errno_name(errno));
	if (strcmp(operation, "rst") == 0)
		return do_rst(probe);
	if (strcmp(operation, "urgent") == 0)
		return do_urgent(probe);
	if (!value)
		usage(operation);
	if (strncmp(operation, "send=", 5) == 0)
		return do_send(probe, number);
	if (strncmp(operation, "read=", 5) == 0)
		return do_read(probe, "read", number);
	if (strncmp(operation, "wait=", 5) == 0)
		return do_wait(probe, value + 1);
	if (strncmp(operation, "sleep=", 6) == 0)
		sleep_ms(number);
	else if (strncmp(operation, "limit=", 6) == 0)
		probe->limit_us = number * 1000000;
	else if (strncmp(operation, "say=", 4) == 0)
		dprintf(STDOUT_FILENO, "%s\n", value + 1);
	else
		usage(operation);
	return true;
}

static void name_peer(struct probe *probe, const struct sockaddr_in6 *sa)
{
	char text[INET6_ADDRSTRLEN] = "?";
	bool mapped = IN6_IS_ADDR_V4MAPPED(&sa->sin6_addr);

	if (mapped)
		inet_ntop(AF_INET, &sa->sin6_addr.s6_addr[12], text, sizeof text);
	else
		inet_ntop(AF_INET6, &sa->sin6_addr, text, sizeof text);
	snprintf(probe->peer, sizeof probe->peer, mapped ? "%s:%u" : "[%s]:%u", text, ntohs(sa->sin6_port));
}

/* Runs the script, closes, tells. */
static int run(struct probe *probe, char *const *operations)
{
	uint64_t end_us;
	char wrong[24] = "none";

	while (!probe->error && *operations && run_operation(probe, *operations))
		operations++;
	end_us = now_us();
	if (probe->fd >= 0)
		close(probe->fd);
	if (probe->wrong_offset != UINT64_MAX)
		snprintf(wrong, sizeof wrong, "%" PRIu64, probe->wrong_offset);
	/* One write: the lines of several processes must not mix. */
	dprintf(STDOUT_FILENO,
	        "peer=%s connect_ms=%" PRIu64 " sent=%" PRIu64 " read=%" PRIu64
	        " wrong=%s end=%s error=%s at=%s ms=%" PRIu64 "\n",
	        probe->peer, probe->connect_us / 1000, probe->sent_bytes, probe->read_bytes, wrong,
	        probe->at_eof ? "eof" : "none", probe->error ? probe->error : "none",
	        probe->error ? probe->error_at : "none", (end_us - probe->started_us) / 1000);
	return probe->error ? EXIT_FAILED : 0;
}

static void begin(struct probe *probe)
{
	*probe = (struct probe){
	        .fd = -1,
	        .started_us = now_us(),
	        .limit_us = LIMIT_S * UINT64_C(1000000),
	        .wrong_offset = UINT64_MAX,
	};
}

static struct sockaddr_in6 parse_address(const char *address, const char *port)
{
	struct sockaddr_in6 sa = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)atoi(port))};
	char mapped[64];

	snprintf(mapped, sizeof mapped, strchr(address, ':') ? "%s" : "::ffff:%s", address);
	if (inet_pton(AF_INET6, mapped, &sa.sin6_addr) != 1)
		usage(address);
	return sa;
}

/* 0 or an errno. */
static int bind_to(int fd, uint16_t port)
{
	struct sockaddr_in6 sa = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	int one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	return bind(fd, (struct sockaddr *)&sa, sizeof sa) < 0 ? errno : 0;
}

/* `from` 0: any local port. */
static void connect_to(struct probe *probe, const struct sockaddr_in6 *sa, uint16_t from)
{
	int error = 0;
	socklen_t len = sizeof error;

	probe->fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (probe->fd < 0)
		error = errno;
	else if (from)
		error = bind_to(probe->fd, from);
	if (!error && connect(probe->fd, (const struct sockaddr *)sa, sizeof *sa) < 0 && errno != EINPROGRESS)
		error = errno;
	if (!error) {
		if (!await(probe, "connect", POLLOUT, probe->started_us + probe->limit_us * 10))
			return;
		getsockopt(probe->fd, SOL_SOCKET, SO_ERROR, &error, &len);
	}
	probe->connect_us = now_us() - probe->started_us;
	if (error)
		fail(probe, "connect", errno_name(error));
}

static int run_client(char **argv)
{
	struct sockaddr_in6 sa = parse_address(argv[2], argv[3]);
	const char *from = strchr(argv[3], ',');
	struct probe probe;

	begin(&probe);
	name_peer(&probe, &sa);
	connect_to(&probe, &sa, from ? (uint16_t)atoi(from + 1) : 0);
	return run(&probe, argv + 4);
}

static int run_server(char **argv)
{
	struct sockaddr_in6 sa = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)atoi(argv[2]))};
	int listener = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(listener, (struct sockaddr *)&sa, sizeof sa) < 0 || listen(listener, BACKLOG) < 0) {
		perror("tcp_probe: listen");
		return EXIT_FAILED;
	}
	signal(SIGCHLD, SIG_IGN);
	while (true) {
		socklen_t len = sizeof sa;
		int fd = accept4(listener, (struct sockaddr *)&sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0 && fork() == 0) {
			struct probe probe;

			prctl(PR_SET_PDEATHSIG, SIGKILL);
			close(listener);
			begin(&probe);
			probe.fd = fd;
			name_peer(&probe, &sa);
			_exit(run(&probe, argv + 3));
		}
		if (fd >= 0)
			close(fd);
	}
}

int main(int argc, char **argv)
{
	if (argc >= 4 && strcmp(argv[1], "connect") == 0)
		return run_client(argv);
	if (argc >= 3 && strcmp(argv[1], "listen") == 0)
		return run_server(argv);
	usage(argc > 1 ? argv[1] : "what");
}
