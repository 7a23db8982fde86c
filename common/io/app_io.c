#define _GNU_SOURCE /* POLLRDHUP */
#include "app_io.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "log.h"
#include "sock.h"

enum {
	/* Of one socket in one wakeup, each way. */
	WAKEUP_BYTES = 256 * 1024,
	/* A read asks for twice what the one before brought, between these: small ones need few pages. */
	READ_MIN_BYTES = PAGE_BYTES,
	READ_MAX_BYTES = 128 * 1024,
	SLICES = 16,
	POLL_BATCH = 64
};

static const double quiet_interval_s = 1.0;

/* --- Which sockets are watched, and for what ---------------------------------------------------------------------- */

static void set_quiet(struct app_io *app, bool quiet)
{
	struct app_set *set = app->set;

	if (app->is_quiet == quiet)
		return;
	app->is_quiet = quiet;
	if (!quiet) {
		*(app->quiet_prev ? &app->quiet_prev->quiet_next : &set->quiet) = app->quiet_next;
		if (app->quiet_next)
			app->quiet_next->quiet_prev = app->quiet_prev;
		return;
	}
	app->quiet_prev = NULL;
	app->quiet_next = set->quiet;
	if (set->quiet)
		set->quiet->quiet_prev = app;
	set->quiet = app;
	if (!ev_is_active(&set->quiet_timer))
		ev_timer_again(set->runner->loop, &set->quiet_timer);
}

/* The one place that decides what the loop watches for. */
static void watch(struct app_io *app)
{
	int events = 0;

	if (!app->flow)
		return;
	if (!app->in_ended && !app->in_blocked)
		events |= EV_READ;
	if (app->out_blocked)
		events |= EV_WRITE;
	/* After both ends the flow alone decides, and nothing that the socket could say matters. */
	set_quiet(app, !events && !(app->in_ended && app->out_ended));
	if ((ev_is_active(&app->watcher) ? app->watcher.events & (EV_READ | EV_WRITE) : 0) == events)
		return;
	ev_io_stop(app->set->runner->loop, &app->watcher);
	ev_io_modify(&app->watcher, events);
	if (events)
		ev_io_start(app->set->runner->loop, &app->watcher);
}

/* --- The end ------------------------------------------------------------------------------------------------------ */

static void release(struct runner_later *later)
{
	struct app_io *app = (struct app_io *)((char *)later - offsetof(struct app_io, later));

	app->set->ended(app);
}

/* The flow is no longer ours. */
static void finish(struct app_io *app)
{
	app->flow = NULL;
	set_quiet(app, false);
	ev_io_stop(app->set->runner->loop, &app->watcher);
	close(app->watcher.fd);
	app->set->count--;
	runner_defer(app->set->runner, &app->later);
}

bool app_io_is_over(const struct app_io *app)
{
	return !app->flow || (app->in_ended && app->out_ended);
}

void app_io_abort(struct app_io *app, enum reset_reason reason)
{
	if (!app->flow)
		return;
	flow_reset(app->flow, reason);
	finish(app);
}

static void fail(struct app_io *app, int error)
{
	log_event(LOG_LEVEL_DEBUG, "app_failed", "flow=%u error=\"%s\"", app->flow->id, strerror(error));
	app_io_abort(app, error == ETIMEDOUT ? RESET_TIMED_OUT : RESET_BY_APP);
}

void app_io_flow_ended(struct app_io *app, enum reset_reason reason)
{
	if (!app->flow)
		return;
	if (reason == RESET_NONE && app->in_ended && app->out_ended)
		sock_disarm(app->watcher.fd);
	finish(app);
}

/* One of its directions has ended. */
static void half_closed(struct app_io *app)
{
	if (app->in_ended != app->out_ended)
		sock_keep_half_closed(app->watcher.fd);
}

/* --- From the socket to the flow ---------------------------------------------------------------------------------- */

/* One read. Bytes, 0 at the end, or a negative errno; -ENOBUFS: the flow has no room. */
static ssize_t read_once(struct app_io *app, size_t len, bool *drained)
{
	struct iovec slices[SLICES];
	unsigned count = flow_reserve(app->flow, len, slices, SLICES);
	size_t asked = 0;
	ssize_t got;
	int error;

	if (!count)
		return -ENOBUFS;
	for (unsigned i = 0; i < count; i++)
		asked += slices[i].iov_len;
	do
		got = readv(app->watcher.fd, slices, (int)count);
	while (got < 0 && errno == EINTR);
	error = errno;
	flow_commit(app->flow, got > 0 ? (size_t)got : 0);
	*drained = got >= 0 && (size_t)got < asked;
	return got < 0 ? -error : got;
}

static void adapt_read(struct app_io *app, size_t got)
{
	size_t next = got * 2;

	if (next < READ_MIN_BYTES)
		next = READ_MIN_BYTES;
	app->read_bytes = next < READ_MAX_BYTES ? (uint32_t)next : READ_MAX_BYTES;
}

static void pump_in(struct app_io *app)
{
	size_t budget = WAKEUP_BYTES;
	bool drained = false;

	while (budget && !drained && !app->in_ended) {
		ssize_t got = read_once(app, app->read_bytes < budget ? app->read_bytes : budget, &drained);
		if (got == -EAGAIN)
			break;
		if (got == -ENOBUFS) {
			app->in_blocked = true;
			break;
		}
		if (got < 0) {
			fail(app, (int)-got);
			return;
		}
		if (got == 0) {
			flow_end(app->flow);
			app->in_ended = true;
			half_closed(app);
			break;
		}
		adapt_read(app, (size_t)got);
		budget -= (size_t)got;
	}
	watch(app);
}

/* --- From the flow to the socket ---------------------------------------------------------------------------------- */

/* One write. Bytes, or a negative errno; -ENODATA: the flow has none. */
static ssize_t write_once(struct app_io *app, bool *full)
{
	struct iovec slices[SLICES];
	unsigned count = flow_peek(app->flow, slices, SLICES);
	struct msghdr message = {.msg_iov = slices, .msg_iovlen = count};
	size_t offered = 0;
	ssize_t put;

	if (!count)
		return -ENODATA;
	for (unsigned i = 0; i < count; i++)
		offered += slices[i].iov_len;
	do
		put = sendmsg(app->watcher.fd, &message, MSG_NOSIGNAL);
	while (put < 0 && errno == EINTR);
	if (put < 0)
		return -errno;
	flow_consume(app->flow, (size_t)put);
	*full = (size_t)put < offered;
	return put;
}

static void pump_out(struct app_io *app)
{
	size_t budget = WAKEUP_BYTES;
	bool full = false;

	app->out_blocked = false;
	while (true) {
		if (full || !budget) {
			app->out_blocked = true;
			break;
		}
		ssize_t put = write_once(app, &full);
		if (put == -ENODATA)
			break;
		if (put == -EAGAIN) {
			full = true;
			continue;
		}
		if (put < 0) {
			fail(app, (int)-put);
			return;
		}
		budget -= (size_t)put < budget ? (size_t)put : budget;
	}
	if (!app->out_blocked && !app->out_ended && flow_at_end(app->flow)) {
		shutdown(app->watcher.fd, SHUT_WR);
		app->out_ended = true;
		half_closed(app);
		flow_end_taken(app->flow);
	}
	watch(app);
}

/* --- Who calls ---------------------------------------------------------------------------------------------------- */

static void on_event(struct ev_loop *loop, ev_io *w, int events)
{
	struct app_io *app = w->data;

	if (events & EV_WRITE)
		pump_out(app);
	if (app->flow && (events & EV_READ) && !app->in_ended)
		pump_in(app);
}

void app_io_readable(struct app_io *app)
{
	/* While the socket is full, its writability goes on where this would. */
	if (app->flow && !app->out_blocked)
		pump_out(app);
}

void app_io_writable(struct app_io *app)
{
	if (!app->flow || !app->in_blocked)
		return;
	app->in_blocked = false;
	pump_in(app);
}

void app_io_start(struct app_io *app, struct app_set *set, int fd, struct flow *flow)
{
	memset(app, 0, sizeof *app);
	app->set = set;
	app->flow = flow;
	app->read_bytes = READ_MIN_BYTES;
	app->later.run = release;
	ev_io_init(&app->watcher, on_event, fd, EV_READ);
	app->watcher.data = app;
	set->count++;
	sock_prepare_app(fd);
	pump_in(app);
	if (app->flow)
		pump_out(app);
}

/* --- Sockets that nobody watches ---------------------------------------------------------------------------------- */

/* Looks at up to POLL_BATCH quiet sockets from `app` on; returns where to go on. poll(2) tells of failures unasked, and
 * of an end that the application's kernel has sent, though there is no room yet for what is to be read before it: for
 * connection tracking, the connection is half-closed as soon as that. */
static struct app_io *check_batch(struct app_io *app)
{
	struct pollfd polls[POLL_BATCH];
	struct app_io *apps[POLL_BATCH];
	nfds_t count = 0;

	for (; app && count < POLL_BATCH; app = app->quiet_next, count++) {
		apps[count] = app;
		polls[count] = (struct pollfd){.fd = app->watcher.fd,
		                               .events = app->in_ended || app->end_waits ? 0 : POLLRDHUP};
	}
	if (poll(polls, count, 0) <= 0)
		return app;
	for (nfds_t i = 0; i < count; i++) {
		if (polls[i].revents & POLLRDHUP) {
			apps[i]->end_waits = true;
			sock_keep_half_closed(polls[i].fd);
		}
		if (polls[i].revents & (POLLERR | POLLHUP)) {
			int error = sock_error(polls[i].fd);
			/* Without one, both directions have ended in order, and what is still to be read waits for
			 * room. */
			if (error)
				fail(apps[i], error);
		}
	}
	return app;
}

static void on_quiet_timer(struct ev_loop *loop, ev_timer *w, int events)
{
	struct app_set *set = w->data;

	for (struct app_io *app = set->quiet; app;)
		app = check_batch(app);
	if (!set->quiet)
		ev_timer_stop(loop, w);
}

void app_set_init(struct app_set *set, struct runner *runner, void (*ended)(struct app_io *app))
{
	*set = (struct app_set){.runner = runner, .ended = ended};
	ev_timer_init(&set->quiet_timer, on_quiet_timer, 0, quiet_interval_s);
	set->quiet_timer.data = set;
}

void app_set_fini(struct app_set *set)
{
	ev_timer_stop(set->runner->loop, &set->quiet_timer);
}
