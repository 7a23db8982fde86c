#include "dialler.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../common/io/log.h"
#include "../common/io/sock.h"
#include "../common/io/sockaddr.h"
#include "../common/io/stripe_io.h"

enum { PAUSE_MIN_MS = 100, PAUSE_MAX_MS = 5000, CONNECT_MS = 3000, SECURE_MS = 5000, WELCOME_MS = 5000 };

enum dial_state {
	DIAL_PAUSED,     /* the timer runs until the next attempt */
	DIAL_CONNECTING, /* the timer bounds connect */
	DIAL_SECURING,   /* the timer bounds the handshake of TLS */
	DIAL_HANDSHAKE,  /* a stripe of the session; the timer bounds the wait for WELCOME */
	DIAL_UP          /* has outlived that wait: no timer, and when it fails the pauses start anew */
};

/* One stripe of one path, connected or not. */
struct dial {
	struct dialler *dialler;
	const struct conf_path *path;
	unsigned path_index, index;
	enum dial_state state;
	unsigned pause_ms; /* before the next attempt, without its random part */
	ev_timer timer;
	ev_io connecting;           /* .fd: the socket in DIAL_CONNECTING and DIAL_SECURING */
	struct transport transport; /* in DIAL_SECURING */
	struct stripe_io *io;       /* in DIAL_HANDSHAKE and DIAL_UP */
};

struct dialler {
	struct runner *runner;
	struct session *session;
	struct transport_security *security; /* NULL: plain */
	size_t count;
	struct dial dials[];
};

static struct log_limit failed_limit = {.burst = 20, .interval_us = 1000000};
static struct log_limit option_limit = LOG_LIMIT_DEFAULT;

static void set_state(struct dial *dial, enum dial_state state, unsigned timer_ms)
{
	dial->state = state;
	ev_timer_stop(dial->dialler->runner->loop, &dial->timer);
	if (!timer_ms)
		return;
	ev_timer_set(&dial->timer, timer_ms / 1e3, 0);
	ev_timer_start(dial->dialler->runner->loop, &dial->timer);
}

/* Waits between a half and the whole of the pause, then dials again. */
static void pause_dial(struct dial *dial)
{
	uint32_t random = 0;

	if (getrandom(&random, sizeof random, GRND_NONBLOCK) != (ssize_t)sizeof random)
		random = (uint32_t)dial->dialler->runner->now_us;
	set_state(dial, DIAL_PAUSED, dial->pause_ms / 2 + random % (dial->pause_ms / 2 + 1));
	dial->pause_ms = dial->pause_ms * 2 < PAUSE_MAX_MS ? dial->pause_ms * 2 : PAUSE_MAX_MS;
}

static void failed_because(struct dial *dial, const char *step, const char *reason)
{
	char remote[SOCKADDR_TEXT_MAX], why[128];

	log_limited(&failed_limit, LOG_LEVEL_INFO, "dial_failed", "path=%s stripe=%u remote=%s step=%s error=%s",
	            dial->path->name, dial->index, sockaddr_text(remote, &dial->path->remote), step,
	            log_value(why, sizeof why, reason));
	pause_dial(dial);
}

static void failed(struct dial *dial, const char *step, int error)
{
	failed_because(dial, step, strerror(error));
}

/* --- Connecting --------------------------------------------------------------------------------------------------- */

/* Everything that must be set before connect. NULL, or the name of what failed, with errno. */
static const char *set_options(int fd, const struct conf_path *path)
{
	char why[128];
	int err;

	sock_prepare_stripe(fd);
	err = sock_set_congestion(fd, path->congestion);
	if (err)
		log_limited(&option_limit, LOG_LEVEL_WARN, "congestion_refused", "path=%s congestion=%s error=%s",
		            path->name, path->congestion, log_value(why, sizeof why, strerror(-err)));
	if (path->mark && setsockopt(fd, SOL_SOCKET, SO_MARK, &path->mark, sizeof path->mark) < 0)
		return "mark";
	if (path->interface[0] &&
	    setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, path->interface, (socklen_t)strlen(path->interface)) < 0)
		return "interface";
	if (path->local.family != ADDR_NONE) {
		struct sockaddr_storage sa;
		socklen_t len = sockaddr_from_addr(&sa, &path->local);
		/* The port is chosen by connect, which knows the other end: more stripes than ports would fit else. */
		sock_set(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
		if (bind(fd, (struct sockaddr *)&sa, len) < 0)
			return "local_ip";
	}
	return NULL;
}

static void start_connect(struct dial *dial)
{
	struct ev_loop *loop = dial->dialler->runner->loop;
	struct sockaddr_storage sa;
	socklen_t len = sockaddr_from_addr(&sa, &dial->path->remote);
	int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	const char *step;

	if (fd < 0) {
		failed(dial, "socket", errno);
		return;
	}
	step = set_options(fd, dial->path);
	if (!step && connect(fd, (struct sockaddr *)&sa, len) < 0 && errno != EINPROGRESS)
		step = "connect";
	if (step) {
		int error = errno;
		close(fd);
		failed(dial, step, error);
		return;
	}
	ev_io_set(&dial->connecting, fd, EV_WRITE);
	ev_io_start(loop, &dial->connecting);
	set_state(dial, DIAL_CONNECTING, CONNECT_MS);
}

/* Ends DIAL_CONNECTING or DIAL_SECURING; the socket, or the transport, is the caller's. */
static int take_socket(struct dial *dial)
{
	ev_io_stop(dial->dialler->runner->loop, &dial->connecting);
	return dial->connecting.fd;
}

/* --- A stripe of the session -------------------------------------------------------------------------------------- */

static void on_closed(void *user, struct stripe_io *io)
{
	struct dial *dial = user;

	dial->io = NULL;
	if (dial->state == DIAL_UP)
		dial->pause_ms = PAUSE_MIN_MS;
	pause_dial(dial);
}

static const struct stripe_io_owner stripe_owner = {.closed = on_closed};

static void start_stripe(struct dial *dial, const struct transport *transport)
{
	struct dialler *dialler = dial->dialler;
	const struct conf_path *path = dial->path;
	struct hello hello = {.path = (uint16_t)dial->path_index,
	                      .index = (uint16_t)dial->index,
	                      .stripes = (uint16_t)path->stripes,
	                      .backup = path->backup,
	                      .reinject_percent = (uint8_t)path->reinject_percent};
	struct stripe *stripe;

	snprintf(hello.congestion, sizeof hello.congestion, "%s", path->congestion);
	dial->io = stripe_io_new(dialler->runner, transport, &path->remote, path->name, &stripe_owner, dial);
	stripe = dial->io ? session_stripe_dialled(dialler->session, &hello, dial->io, dialler->runner->now_us) : NULL;
	if (dial->io)
		stripe_io_start(dial->io, stripe);
	if (!stripe) {
		dial->io = NULL;
		failed(dial, "session", ENOMEM);
		return;
	}
	set_state(dial, DIAL_HANDSHAKE, WELCOME_MS);
}

/* --- Security ----------------------------------------------------------------------------------------------------- */

static void secure(struct dial *dial)
{
	struct ev_loop *loop = dial->dialler->runner->loop;
	int err = transport_handshake(&dial->transport);
	int events = EV_READ | (transport_wants_write(&dial->transport) ? EV_WRITE : 0);

	ev_io_stop(loop, &dial->connecting);
	if (!err) {
		start_stripe(dial, &dial->transport);
	} else if (err == -EAGAIN) {
		ev_io_set(&dial->connecting, dial->transport.fd, events);
		ev_io_start(loop, &dial->connecting);
	} else {
		/* The reason is a static text, and stays. */
		const char *reason = transport_reason(&dial->transport);
		transport_close(&dial->transport);
		failed_because(dial, "tls", reason);
	}
}

static void on_connected(struct dial *dial)
{
	int fd = take_socket(dial);
	int error = sock_error(fd);

	if (!error)
		error = -transport_init(&dial->transport, fd, dial->dialler->security);
	if (error) {
		close(fd);
		failed(dial, "connect", error);
	} else if (dial->dialler->security) {
		set_state(dial, DIAL_SECURING, SECURE_MS);
		secure(dial);
	} else {
		start_stripe(dial, &dial->transport);
	}
}

static void on_ready(struct ev_loop *loop, ev_io *w, int events)
{
	struct dial *dial = w->data;

	if (dial->state == DIAL_CONNECTING)
		on_connected(dial);
	else
		secure(dial);
}

static void on_timer(struct ev_loop *loop, ev_timer *w, int events)
{
	struct dial *dial = w->data;

	switch (dial->state) {
	case DIAL_PAUSED:
		start_connect(dial);
		break;
	case DIAL_CONNECTING:
		close(take_socket(dial));
		failed(dial, "connect", ETIMEDOUT);
		break;
	case DIAL_SECURING:
		take_socket(dial);
		transport_close(&dial->transport);
		failed(dial, "tls", ETIMEDOUT);
		break;
	case DIAL_HANDSHAKE:
		if (!dial->io->stripe)
			break; /* closed in this wakeup: on_closed follows */
		if (dial->io->stripe->state == STRIPE_HANDSHAKE)
			stripe_io_close(dial->io, "no welcome");
		else
			set_state(dial, DIAL_UP, 0);
		break;
	case DIAL_UP:
		break;
	}
}

struct dialler *dialler_new(struct runner *runner, struct session *session, const struct conf_tx *conf,
                            struct transport_security *security)
{
	size_t count = 0;

	for (size_t i = 0; i < conf->path_count; i++)
		count += conf->paths[i].stripes;
	struct dialler *dialler = calloc(1, sizeof *dialler + count * sizeof *dialler->dials);
	if (!dialler)
		return NULL;
	dialler->runner = runner;
	dialler->session = session;
	dialler->security = security;
	for (size_t i = 0; i < conf->path_count; i++)
		for (unsigned n = 0; n < conf->paths[i].stripes; n++) {
			struct dial *dial = &dialler->dials[dialler->count++];
			*dial = (struct dial){.dialler = dialler,
			                      .path = &conf->paths[i],
			                      .path_index = (unsigned)i,
			                      .index = n,
			                      .pause_ms = PAUSE_MIN_MS};
			ev_timer_init(&dial->timer, on_timer, 0, 0);
			ev_io_init(&dial->connecting, on_ready, -1, EV_WRITE);
			dial->timer.data = dial->connecting.data = dial;
			start_connect(dial);
		}
	return dialler;
}

void dialler_free(struct dialler *dialler)
{
	for (size_t i = 0; i < dialler->count; i++) {
		struct dial *dial = &dialler->dials[i];
		ev_timer_stop(dialler->runner->loop, &dial->timer);
		if (dial->state == DIAL_CONNECTING)
			close(take_socket(dial));
		if (dial->state == DIAL_SECURING) {
			take_socket(dial);
			transport_close(&dial->transport);
		}
		if (dial->io)
			stripe_io_free(dial->io);
	}
	free(dialler);
}
