#include "acceptor.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "../common/core/frame_reader.h"
#include "../common/core/memory.h"
#include "../common/io/listener.h"
#include "../common/io/log.h"
#include "../common/io/sock.h"
#include "../common/io/sockaddr.h"

enum { HELLO_MAX_US = 5000000, IPV6_NET_BYTES = 8 };

static const double sweep_interval_s = 0.25;

static struct log_limit refused_limit = LOG_LIMIT_DEFAULT;
static struct log_limit silent_limit = LOG_LIMIT_DEFAULT;

/* A connection that has not said HELLO yet. */
struct pending {
	struct acceptor *acceptor;
	struct pending *next, *prev;
	ev_io watcher; /* .fd: the socket */
	uint64_t since_us;
	struct addr remote;
	struct transport transport;
	bool spoken;  /* a whole ClientHello is here */
	bool secured; /* the handshake of TLS is over, or not needed */
	struct frame_reader reader;
};

static void log_refused(struct log_limit *limit, const struct addr *remote, const char *reason)
{
	char text[SOCKADDR_TEXT_MAX], why[128];

	log_limited(limit, LOG_LEVEL_WARN, "stripe_refused", "remote=%s reason=%s", sockaddr_text(text, remote),
	            log_value(why, sizeof why, reason));
}

/* Ends the wait; the transport is the caller's. */
static struct transport release(struct pending *pending)
{
	struct acceptor *acceptor = pending->acceptor;
	struct transport transport = pending->transport;

	ev_io_stop(acceptor->runner->loop, &pending->watcher);
	*(pending->prev ? &pending->prev->next : &acceptor->first) = pending->next;
	*(pending->next ? &pending->next->prev : &acceptor->last) = pending->prev;
	acceptor->count--;
	memory_free(pending);
	return transport;
}

static void refuse_to(struct log_limit *limit, struct pending *pending, const char *reason)
{
	struct transport transport;

	log_refused(limit, &pending->remote, reason);
	transport = release(pending);
	transport_reset(&transport);
}

static void refuse(struct pending *pending, const char *reason)
{
	refuse_to(&refused_limit, pending, reason);
}

/* After a call of the transport's that failed. */
static void refuse_broken(struct pending *pending, int err)
{
	const char *reason = transport_reason(&pending->transport);

	refuse(pending, reason ? reason : strerror(-err));
}

static void say_no(struct transport *transport, enum welcome_status status)
{
	struct frame f = {.type = FRAME_WELCOME, .welcome = {.status = status}};
	uint8_t head[FRAME_HEAD_MAX];
	struct iovec slice = {.iov_base = head, .iov_len = frame_encode_head(head, &f)};

	/* A fresh socket takes so few bytes; if it does not, closing says the same. */
	transport_write(transport, &slice, 1);
	transport_close(transport);
}

static void on_hello(struct pending *pending, const struct hello *hello, const uint8_t *rest, size_t rest_len)
{
	struct sessions *sessions = pending->acceptor->sessions;
	struct addr remote = pending->remote;
	struct transport transport = release(pending);

	sock_prepare_stripe(transport.fd);
	enum welcome_status status = sessions_join(sessions, hello, &transport, &remote, rest, rest_len);

	if (status != WELCOME_OK)
		say_no(&transport, status);
}

static void watch(struct pending *pending)
{
	struct ev_loop *loop = pending->acceptor->runner->loop;
	int events = EV_READ | (transport_wants_write(&pending->transport) ? EV_WRITE : 0);

	ev_io_stop(loop, &pending->watcher);
	ev_io_set(&pending->watcher, pending->transport.fd, events);
	ev_io_start(loop, &pending->watcher);
}

/* Whether one more handshake may begin in this wakeup; else the socket stays readable until the next one. */
static bool take_turn(struct acceptor *acceptor)
{
	if (acceptor->turn_us != acceptor->runner->now_us)
		acceptor->turn_count = 0;
	acceptor->turn_us = acceptor->runner->now_us;
	return acceptor->turn_count++ < ACCEPTOR_TURN;
}

/* Makes the state of TLS when it is time. True: it is there. Else it waits, or is refused. */
static bool begin(struct pending *pending)
{
	const char *reason = NULL;
	int err;

	if (transport_is_secure(&pending->transport))
		return true;
	err = pending->spoken ? 0 : transport_look(pending->transport.fd, &reason);
	pending->spoken = !err;
	if (err == -EAGAIN || (!err && !take_turn(pending->acceptor)))
		return false;
	if (!err)
		err = transport_init(&pending->transport, pending->transport.fd, pending->acceptor->security);
	/* Who goes without a whole word is one of the silent. */
	if (err)
		refuse_to(err == -EPROTO ? &refused_limit : &silent_limit, pending, reason ? reason : strerror(-err));
	return !err;
}

/* True: bytes may be read. Else it waits, or is refused. */
static bool secure(struct pending *pending)
{
	int err;

	if (pending->secured)
		return true;
	if (!begin(pending))
		return false;
	err = transport_handshake(&pending->transport);
	if (err && err != -EAGAIN) {
		refuse_broken(pending, err);
		return false;
	}
	/* Asked to say its ClientHello again, it would have to be remembered. */
	if (err && !transport_shown_key(&pending->transport)) {
		refuse(pending, "TLS without a key");
		return false;
	}
	watch(pending);
	pending->secured = !err;
	return pending->secured;
}

static void on_readable(struct ev_loop *loop, ev_io *w, int events)
{
	struct pending *pending = w->data;
	uint8_t *buffer = pending->acceptor->runner->buffer;
	struct iovec slice = {.iov_base = buffer, .iov_len = RUNNER_BUFFER_BYTES};
	const uint8_t *at = buffer;
	struct frame f;

	if (!secure(pending))
		return;
	ssize_t got = transport_flush(&pending->transport);
	if (!got || got == -EAGAIN)
		got = transport_read(&pending->transport, &slice, 1);
	if (got == -EAGAIN) {
		watch(pending);
		return;
	}
	if (got < 0) {
		refuse_broken(pending, (int)got);
		return;
	}
	if (!got) {
		refuse(pending, "closed before HELLO");
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
		refuse_to(&silent_limit, acceptor->first, "no HELLO in time");
	if (!acceptor->first)
		ev_timer_stop(loop, w);
}

/* --- Arrival ------------------------------------------------------------------------------------------------------ */

/* Who has one IPv6 address has a network of them. */
static bool is_neighbour(const struct addr *a, const struct addr *b)
{
	if (a->family == ADDR_IPV6 && b->family == ADDR_IPV6)
		return memcmp(a->ip, b->ip, IPV6_NET_BYTES) == 0;
	return addr_same_host(a, b);
}

/* Those of one address, or all. */
struct crowd {
	unsigned count;
	struct pending *oldest, *silent; /* silent: the oldest that has said nothing */
};

static void crowd_add(struct crowd *crowd, struct pending *pending)
{
	crowd->count++;
	if (!crowd->oldest)
		crowd->oldest = pending;
	if (!crowd->silent && !pending->spoken)
		crowd->silent = pending;
}

/* Whether there is room for one more from that address, or has been made. Else *reason. */
static bool has_room(struct acceptor *acceptor, const struct addr *remote, const char **reason)
{
	struct crowd all = {0}, here = {0}, *full = NULL;
	struct pending *leaves;

	for (struct pending *pending = acceptor->first; pending; pending = pending->next) {
		crowd_add(&all, pending);
		if (is_neighbour(&pending->remote, remote))
			crowd_add(&here, pending);
	}
	if (here.count >= ACCEPTOR_ADDRESS_MAX) {
		*reason = "too many without HELLO from one address";
		full = &here;
	} else if (all.count >= ACCEPTOR_PENDING_MAX) {
		*reason = "too many without HELLO";
		full = &all;
	} else {
		return true;
	}
	leaves = full->silent ? full->silent : full->oldest;
	if (leaves->spoken && acceptor->runner->now_us - leaves->since_us < ACCEPTOR_YIELD_US)
		return false;
	refuse_to(&silent_limit, leaves, *reason);
	return true;
}

/* NULL: made, and waiting. Else why not, and the socket is the caller's. */
static const char *take(struct acceptor *acceptor, int fd, const struct addr *remote)
{
	const char *reason = NULL;
	struct pending *pending;

	if (!has_room(acceptor, remote, &reason))
		return reason;
	pending = memory_new(1, sizeof *pending);
	if (!pending)
		return "no memory";
	pending->acceptor = acceptor;
	pending->since_us = acceptor->runner->now_us;
	pending->remote = *remote;
	/* Plain until it speaks. */
	transport_init(&pending->transport, fd, NULL);
	pending->secured = !acceptor->security;
	frame_reader_init(&pending->reader);
	pending->prev = acceptor->last;
	*(acceptor->last ? &acceptor->last->next : &acceptor->first) = pending;
	acceptor->last = pending;
	acceptor->count++;
	ev_io_init(&pending->watcher, on_readable, fd, EV_READ);
	/* After those who are in, before those who are still to come. */
	ev_set_priority(&pending->watcher, LISTENER_PRIORITY + 1);
	pending->watcher.data = pending;
	ev_io_start(acceptor->runner->loop, &pending->watcher);
	if (!ev_is_active(&acceptor->sweep))
		ev_timer_again(acceptor->runner->loop, &acceptor->sweep);
	return NULL;
}

void acceptor_on_accept(void *user, int fd, const struct addr *remote)
{
	struct acceptor *acceptor = user;
	bool known = !acceptor->conf->accept_from.count || conf_nets_contain(&acceptor->conf->accept_from, remote);
	const char *reason = known ? take(acceptor, fd, remote) : "not in accept_from";

	if (!reason)
		return;
	log_refused(known ? &silent_limit : &refused_limit, remote, reason);
	sock_reset(fd);
}

void acceptor_init(struct acceptor *acceptor, struct runner *runner, const struct conf_rx *conf,
                   struct transport_security *security, struct sessions *sessions)
{
	*acceptor = (struct acceptor){.runner = runner, .sessions = sessions, .conf = conf, .security = security};
	ev_timer_init(&acceptor->sweep, on_sweep, 0, sweep_interval_s);
	acceptor->sweep.data = acceptor;
}

void acceptor_fini(struct acceptor *acceptor)
{
	ev_timer_stop(acceptor->runner->loop, &acceptor->sweep);
	while (acceptor->first) {
		struct transport transport = release(acceptor->first);
		transport_close(&transport);
	}
}
