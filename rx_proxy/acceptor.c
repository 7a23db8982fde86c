#include "acceptor.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../common/core/frame_reader.h"
#include "../common/io/log.h"
#include "../common/io/sock.h"
#include "../common/io/sockaddr.h"

enum { HELLO_MAX_US = 5000000 };

static const double sweep_interval_s = 0.25;

static struct log_limit refused_limit = LOG_LIMIT_DEFAULT;

/* A connection that has not said HELLO yet. */
struct pending {
	struct acceptor *acceptor;
	struct pending *next, *prev;
	ev_io watcher; /* .fd: the socket */
	uint64_t since_us;
	struct addr remote;
	struct frame_reader reader;
};

static void log_refused(const struct addr *remote, const char *reason)
{
	char text[SOCKADDR_TEXT_MAX], why[128];

	log_limited(&refused_limit, LOG_LEVEL_WARN, "stripe_refused", "remote=%s reason=%s", sockaddr_text(text, remote),
	            log_value(why, sizeof why, reason));
}

/* Ends the wait; the socket is the caller's. */
static int release(struct pending *pending)
{
	struct acceptor *acceptor = pending->acceptor;
	int fd = pending->watcher.fd;

	ev_io_stop(acceptor->runner->loop, &pending->watcher);
	*(pending->prev ? &pending->prev->next : &acceptor->first) = pending->next;
	*(pending->next ? &pending->next->prev : &acceptor->last) = pending->prev;
	acceptor->count--;
	free(pending);
	return fd;
}

static void refuse(struct pending *pending, const char *reason)
{
	log_refused(&pending->remote, reason);
	sock_reset(release(pending));
}

static void say_no(int fd, enum welcome_status status)
{
	struct frame f = {.type = FRAME_WELCOME, .welcome = {.status = status}};
	uint8_t head[FRAME_HEAD_MAX];
	uint32_t len = frame_encode_head(head, &f);

	/* A fresh socket takes so few bytes; if it does not, closing says the same. */
	send(fd, head, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	close(fd);
}

static void on_hello(struct pending *pending, const struct hello *hello, const uint8_t *rest, size_t rest_len)
{
	struct sessions *sessions = pending->acceptor->sessions;
	struct addr remote = pending->remote;
	int fd = release(pending);
	enum welcome_status status = sessions_join(sessions, hello, fd, &remote, rest, rest_len);

	if (status != WELCOME_OK)
		say_no(fd, status);
}

static void on_readable(struct ev_loop *loop, ev_io *w, int events)
{
	struct pending *pending = w->data;
	uint8_t *buffer = pending->acceptor->runner->buffer;
	const uint8_t *at = buffer;
	struct frame f;
	ssize_t got = recv(w->fd, buffer, RUNNER_BUFFER_BYTES, 0);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		refuse(pending, got ? strerror(errno) : "closed before HELLO");
		return;
	}
	switch (frame_reader_next(&pending->reader, &at, buffer + got, &f)) {
	case 0:
		return;
	case 1:
		if (f.type == FRAME_HELLO)
			on_hello(pending, &f.hello, at, (size_t)(buffer + got - at));
		else
			refuse(pending, "another frame before HELLO");
		return;
	default:
		refuse(pending, pending->reader.error);
	}
}

static void on_sweep(struct ev_loop *loop, ev_timer *w, int events)
{
	struct acceptor *acceptor = w->data;

	while (acceptor->first && acceptor->runner->now_us - acceptor->first->since_us >= HELLO_MAX_US)
		refuse(acceptor->first, "no HELLO in time");
	if (!acceptor->first)
		ev_timer_stop(loop, w);
}

/* NULL, or why the connection may not even say HELLO. */
static const char *why_refused(const struct acceptor *acceptor, const struct addr *remote)
{
	unsigned of_host = 0;

	if (acceptor->conf->accept_from.count && !conf_nets_contain(&acceptor->conf->accept_from, remote))
		return "not in accept_from";
	if (acceptor->count >= ACCEPTOR_PENDING_MAX)
		return "too many without HELLO";
	for (const struct pending *pending = acceptor->first; pending; pending = pending->next)
		of_host += addr_same_host(&pending->remote, remote);
	return of_host >= ACCEPTOR_ADDRESS_MAX ? "too many without HELLO from one address" : NULL;
}

void acceptor_on_accept(void *user, int fd, const struct addr *remote)
{
	struct acceptor *acceptor = user;
	const char *reason = why_refused(acceptor, remote);
	struct pending *pending = reason ? NULL : calloc(1, sizeof *pending);

	if (!pending) {
		log_refused(remote, reason ? reason : "no memory");
		sock_reset(fd);
		return;
	}
	sock_prepare_stripe(fd);
	pending->acceptor = acceptor;
	pending->since_us = acceptor->runner->now_us;
	pending->remote = *remote;
	frame_reader_init(&pending->reader);
	pending->prev = acceptor->last;
	*(acceptor->last ? &acceptor->last->next : &acceptor->first) = pending;
	acceptor->last = pending;
	acceptor->count++;
	ev_io_init(&pending->watcher, on_readable, fd, EV_READ);
	pending->watcher.data = pending;
	ev_io_start(acceptor->runner->loop, &pending->watcher);
	if (!ev_is_active(&acceptor->sweep))
		ev_timer_again(acceptor->runner->loop, &acceptor->sweep);
}

void acceptor_init(struct acceptor *acceptor, struct runner *runner, const struct conf_rx *conf,
                   struct sessions *sessions)
{
	*acceptor = (struct acceptor){.runner = runner, .sessions = sessions, .conf = conf};
	ev_timer_init(&acceptor->sweep, on_sweep, 0, sweep_interval_s);
	acceptor->sweep.data = acceptor;
}

void acceptor_fini(struct acceptor *acceptor)
{
	ev_timer_stop(acceptor->runner->loop, &acceptor->sweep);
	while (acceptor->first)
		close(release(acceptor->first));
}
