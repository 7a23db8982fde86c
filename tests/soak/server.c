#define _GNU_SOURCE /* accept4 */
#include "server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "content.h"
#include "plan.h"

enum { BACKLOG = 1024, HTTP_MAX = 1024, FROM_MAX = INET_ADDRSTRLEN };

struct served {
	struct flow_end end;
	struct served *next, *prev;
	char from[FROM_MAX];
	const char *kind; /* NULL: its head has not come yet */
	uint32_t id;
	int fd; /* while the head comes */
	ev_io head_reader;
	char head[HTTP_MAX];
	size_t head_bytes;
};

struct server {
	struct ev_loop *loop;
	FILE *log;
	int fd;
	ev_io acceptor;
	ev_signal list, stop;
	struct served *live;
	unsigned live_count;
};

static struct server server;

static void release(struct served *served)
{
	*(served->prev ? &served->prev->next : &server.live) = served->next;
	if (served->next)
		served->next->prev = served->prev;
	server.live_count--;
	free(served);
}

static void on_ended(struct flow_end *end)
{
	struct served *served = (struct served *)((char *)end - offsetof(struct served, end));

	flow_end_report(end, server.log, flow_end_verdict(end), "side=server id=%" PRIu32 " kind=%s from=%s",
	                served->id, served->kind, served->from);
	release(served);
}

/* --- Heads -------------------------------------------------------------------------------------------------------- */

/* Ended before its head was there: with an error, or, never rightly, in order. */
static void head_failed(struct served *served, int error, const char *verdict)
{
	char clock[FLOW_CLOCK_TEXT];

	fprintf(server.log, "side=server id=0 kind=none from=%s verdict=%s error=%s head=%zu at=%s\n", served->from,
	        verdict, flow_error_name(error), served->head_bytes, flow_clock_text(clock, server.loop));
	ev_io_stop(server.loop, &served->head_reader);
	flow_reset_socket(served->fd);
	release(served);
}

static void serve(struct served *served, const char *kind, const struct flow_work *work)
{
	ev_io_stop(server.loop, &served->head_reader);
	served->kind = kind;
	served->end.work = *work;
	served->end.ended = on_ended;
	flow_end_start(&served->end, server.loop, served->fd);
}

static void serve_http(struct served *served)
{
	struct flow_work work = {.break_at = FLOW_NEVER};
	bool sized;
	int len;

	served->head[served->head_bytes] = '\0';
	sized = sscanf(served->head, "GET /sized/%" SCNu64 "/%" SCNu64 " ", &work.send_key, &work.send_bytes) == 2;
	if (!sized &&
	    sscanf(served->head, "GET /unsized/%" SCNu64 "/%" SCNu64 " ", &work.send_key, &work.send_bytes) != 2) {
		head_failed(served, 0, "wrong");
		return;
	}
	if (sized)
		len = snprintf(served->end.head, sizeof served->end.head,
		               "HTTP/1.0 200 OK\r\nContent-Length: %" PRIu64 "\r\n\r\n", work.send_bytes);
	else
		len = snprintf(served->end.head, sizeof served->end.head, "HTTP/1.0 200 OK\r\n\r\n");
	served->end.head_bytes = (size_t)len;
	served->id = (uint32_t)work.send_key;
	serve(served, sized ? "sized" : "unsized", &work);
}

static void on_head(struct ev_loop *loop, ev_io *w, int events)
{
	struct served *served = w->data;
	bool http = served->head_bytes && served->head[0] == 'G';
	/* No byte more than the head of a flow of ours. */
	size_t most = (http ? HTTP_MAX - 1 : FLOW_HEAD_BYTES) - served->head_bytes;
	ssize_t got = recv(served->fd, served->head + served->head_bytes, most, 0);
	struct plan_flow flow;

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		head_failed(served, got < 0 ? errno : 0, got < 0 ? "broken" : "cut");
		return;
	}
	served->head_bytes += (size_t)got;
	if (served->head[0] == 'G') {
		if (memmem(served->head, served->head_bytes, "\r\n\r\n", 4))
			serve_http(served);
		else if (served->head_bytes == HTTP_MAX - 1)
			head_failed(served, 0, "wrong");
	} else if (served->head_bytes == FLOW_HEAD_BYTES) {
		if (plan_head_read(served->head, &served->id, &flow))
			serve(served, plan_kind_name(flow.kind), &flow.server);
		else
			head_failed(served, 0, "wrong");
	}
}

/* --- Life --------------------------------------------------------------------------------------------------------- */

static void on_accept(struct ev_loop *loop, ev_io *w, int events)
{
	struct sockaddr_in sa;
	socklen_t len = sizeof sa;
	int fd = accept4(w->fd, (struct sockaddr *)&sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct served *served;

	if (fd < 0)
		return;
	served = calloc(1, sizeof *served);
	if (!served) {
		close(fd);
		return;
	}
	inet_ntop(AF_INET, &sa.sin_addr, served->from, sizeof served->from);
	served->fd = fd;
	served->next = server.live;
	if (server.live)
		server.live->prev = served;
	server.live = served;
	server.live_count++;
	flow_keep_alive(fd);
	ev_io_init(&served->head_reader, on_head, fd, EV_READ);
	served->head_reader.data = served;
	ev_io_start(loop, &served->head_reader);
}

static void on_list(struct ev_loop *loop, ev_signal *w, int events)
{
	for (const struct served *served = server.live; served; served = served->next)
		fprintf(server.log,
		        "event=lives id=%" PRIu32 " kind=%s from=%s received=%" PRIu64 " sent=%" PRIu64 " eof=%d\n",
		        served->id, served->kind ? served->kind : "none", served->from, served->end.received_bytes,
		        served->end.sent_bytes, served->end.eof);
	fprintf(server.log, "event=live count=%u\n", server.live_count);
}

static void on_stop(struct ev_loop *loop, ev_signal *w, int events)
{
	ev_break(loop, EVBREAK_ALL);
}

static bool listen_on(uint16_t port)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(port)};
	int one = 1;

	server.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(server.fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	return bind(server.fd, (struct sockaddr *)&sa, sizeof sa) == 0 && listen(server.fd, BACKLOG) == 0;
}

int server_run(uint16_t port, const char *log)
{
	server.loop = ev_default_loop(EVFLAG_NOENV);
	server.log = fopen(log, "a");
	if (!server.loop || !server.log || !listen_on(port)) {
		perror("soak_flows");
		return 2;
	}
	setvbuf(server.log, NULL, _IOLBF, 0);
	ev_io_init(&server.acceptor, on_accept, server.fd, EV_READ);
	ev_io_start(server.loop, &server.acceptor);
	ev_signal_init(&server.list, on_list, SIGUSR1);
	ev_signal_start(server.loop, &server.list);
	ev_signal_init(&server.stop, on_stop, SIGTERM);
	ev_signal_start(server.loop, &server.stop);
	ev_run(server.loop, 0);
	fclose(server.log);
	return 0;
}
