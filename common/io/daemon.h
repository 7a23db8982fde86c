/* daemon: what both proxies do as processes: signals, the way they end, descriptors.
 *
 *   SIGTERM, SIGINT, SIGHUP   stop: nothing new, what there is may end within DAEMON_GRACE_S; again: it is aborted
 *   SIGUSR1                   stats
 *   SIGPIPE                   ignored
 */
#ifndef PAIR_IO_DAEMON_H
#define PAIR_IO_DAEMON_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#define DAEMON_GRACE_S 2.0
#define DAEMON_LINGER_S 0.5

struct daemon_ops {
	void (*stop)(void *user);  /* called once: take nothing new */
	bool (*busy)(void *user);  /* after stop: whether something still wants to end by itself */
	void (*stats)(void *user); /* log them */
};

struct daemon {
	struct ev_loop *loop;
	uint64_t files_max; /* RLIMIT_NOFILE */

	/* private */
	const struct daemon_ops *ops;
	void *user;
	ev_signal terminate, interrupt, hangup, report;
	ev_timer grace;    /* looks whether it is busy */
	ev_timer deadline; /* not a time of ev_now, which is the wall clock */
	bool stopping;
};

/* Makes the loop, raises RLIMIT_NOFILE, and sets memory aside for when the system has no more (core/memory.h). 0 or
 * -ENOMEM. */
int daemon_init(struct daemon *daemon, const struct daemon_ops *ops, void *user);
/* Logs event=ready (`format`: its details), tells the service manager, and runs the loop until the process is to end.
 */
__attribute__((format(printf, 2, 3))) void daemon_serve(struct daemon *daemon, const char *format, ...);
/* After the caller has aborted what is left: runs the loop on until it is no longer busy, a signal comes, or
 * DAEMON_LINGER_S are over, so that the far ends hear of it. The loop may end amid a wakeup: a runner_round belongs
 * behind it. */
void daemon_linger(struct daemon *daemon);
void daemon_fini(struct daemon *daemon);

/* Logs event=failed and exits with `status`: 1 for run time, 2 for configuration. */
__attribute__((format(printf, 2, 3), noreturn)) void daemon_die(int status, const char *format, ...);

#endif
