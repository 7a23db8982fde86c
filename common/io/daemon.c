#include "daemon.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/memory.h"
#include "log.h"
#include "notify.h"
#include "sock.h"

/* For what flows that are open need besides their windows: stripes that come back, records of what is under way, TLS.
 */
enum { RESERVE_BYTES = 8 << 20 };

static const double grace_step_s = 0.02;

static void on_grace(struct ev_loop *loop, ev_timer *w, int events)
{
	struct daemon *daemon = w->data;

	if (!daemon->ops->busy(daemon->user))
		ev_break(loop, EVBREAK_ALL);
}

static void on_deadline(struct ev_loop *loop, ev_timer *w, int events)
{
	ev_break(loop, EVBREAK_ALL);
}

static void on_stop(struct ev_loop *loop, ev_signal *w, int events)
{
	struct daemon *daemon = w->data;

	if (daemon->stopping) {
		ev_break(loop, EVBREAK_ALL);
		return;
	}
	daemon->stopping = true;
	const char *name = w->signum == SIGINT ? "INT" : w->signum == SIGHUP ? "HUP" : "TERM";
	log_event(LOG_LEVEL_INFO, "stopping", "signal=%s", name);
	notify_send("STOPPING=1");
	daemon->ops->stop(daemon->user);
	/* What this wakeup has taken is none of it. */
	ev_now_update(loop);
	ev_timer_start(loop, &daemon->deadline);
	ev_timer_again(loop, &daemon->grace);
}

static void on_report(struct ev_loop *loop, ev_signal *w, int events)
{
	struct daemon *daemon = w->data;

	daemon->ops->stats(daemon->user);
}

static void watch_signal(struct daemon *daemon, ev_signal *w, void (*callback)(struct ev_loop *, ev_signal *, int),
                         int signum)
{
	ev_signal_init(w, callback, signum);
	w->data = daemon;
	ev_signal_start(daemon->loop, w);
}

/* libev ends the process where it gets none. */
static void *allocate(void *old, long bytes)
{
	if (bytes)
		return memory_resize(old, 1, (size_t)bytes);
	memory_free(old);
	return NULL;
}

int daemon_init(struct daemon *daemon, const struct daemon_ops *ops, void *user)
{
	*daemon = (struct daemon){.ops = ops, .user = user};
	memory_reserve(RESERVE_BYTES);
	ev_set_allocator(allocate);
	signal(SIGPIPE, SIG_IGN);
	daemon->files_max = sock_raise_limit();
	daemon->loop = ev_default_loop(EVFLAG_NOENV);
	if (!daemon->loop)
		return -ENOMEM;
	ev_timer_init(&daemon->grace, on_grace, 0, grace_step_s);
	daemon->grace.data = daemon;
	ev_timer_init(&daemon->deadline, on_deadline, DAEMON_GRACE_S, 0);
	watch_signal(daemon, &daemon->terminate, on_stop, SIGTERM);
	watch_signal(daemon, &daemon->interrupt, on_stop, SIGINT);
	/* A terminal that closes; under nohup(1) it is ignored, and stays so. */
	if (signal(SIGHUP, SIG_DFL) == SIG_IGN)
		signal(SIGHUP, SIG_IGN);
	else
		watch_signal(daemon, &daemon->hangup, on_stop, SIGHUP);
	watch_signal(daemon, &daemon->report, on_report, SIGUSR1);
	return 0;
}

void daemon_serve(struct daemon *daemon, const char *format, ...)
{
	char details[512];
	va_list args;

	va_start(args, format);
	vsnprintf(details, sizeof details, format, args);
	va_end(args);
	log_event(LOG_LEVEL_INFO, "ready", "%s", details);
	notify_send("READY=1");
	ev_run(daemon->loop, 0);
}

void daemon_linger(struct daemon *daemon)
{
	ev_timer_stop(daemon->loop, &daemon->deadline);
	ev_timer_set(&daemon->deadline, DAEMON_LINGER_S, 0);
	ev_now_update(daemon->loop);
	ev_timer_start(daemon->loop, &daemon->deadline);
	ev_timer_again(daemon->loop, &daemon->grace);
	ev_run(daemon->loop, 0);
}

void daemon_fini(struct daemon *daemon)
{
	ev_signal_stop(daemon->loop, &daemon->terminate);
	ev_signal_stop(daemon->loop, &daemon->hangup);
	ev_signal_stop(daemon->loop, &daemon->interrupt);
	ev_signal_stop(daemon->loop, &daemon->report);
	ev_timer_stop(daemon->loop, &daemon->grace);
	ev_timer_stop(daemon->loop, &daemon->deadline);
	ev_loop_destroy(daemon->loop);
}

void daemon_die(int status, const char *format, ...)
{
	char text[1024], value[1100];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	log_event(LOG_LEVEL_ERROR, "failed", "reason=%s", log_value(value, sizeof value, text));
	exit(status);
}
