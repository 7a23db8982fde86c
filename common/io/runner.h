/* runner: sessions on an event loop.
 *
 * The clock is read once after each sleep (now_us); every callback of that wakeup uses the same time. Before the loop
 * sleeps again, each session is run: its callbacks are made, and its stripes written, until it has nothing more to
 * write or no stripe takes more. A timer wakes the loop for the session that is due first.
 *
 * What dies during a wakeup is freed at its end (runner_later), so that no callback under way meets freed memory.
 * One runner belongs to one loop and one thread.
 */
#ifndef PAIR_IO_RUNNER_H
#define PAIR_IO_RUNNER_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "../core/session.h"

enum { RUNNER_BUFFER_BYTES = 256 * 1024 };

/* A session's place in the runner; part of the owner's struct. */
struct runner_session {
	struct session *session;
	struct runner_session *next;
};

/* Something to be done when the wakeup is over; part of the owner's struct. */
struct runner_later {
	struct runner_later *next;
	void (*run)(struct runner_later *later);
};

struct stripe_io;

struct runner {
	struct ev_loop *loop;
	uint64_t now_us; /* CLOCK_MONOTONIC, of this wakeup */
	uint8_t *buffer; /* RUNNER_BUFFER_BYTES, for whoever reads: its contents last until the reader returns to the
	                    loop */
	struct stripe_io *written; /* stripes that this round wrote to; kept by stripe_io */

	/* private */
	ev_prepare prepare;
	ev_check check;
	ev_timer timer;
	ev_idle again;
	uint64_t timer_us;
	struct runner_session *sessions;
	struct runner_later *later;
};

/* 0 or -ENOMEM. */
int runner_init(struct runner *runner, struct ev_loop *loop);
/* All sessions must have been removed. */
void runner_fini(struct runner *runner);

/* From now on `entry->session` is run. */
void runner_add(struct runner *runner, struct runner_session *entry);
/* Not from within one of that session's callbacks: use runner_later there. */
void runner_remove(struct runner *runner, struct runner_session *entry);

/* Calls later->run once, after the sessions have been run. */
void runner_defer(struct runner *runner, struct runner_later *later);

/* The end of a wakeup, when the loop ended amid one: runs the sessions, and does what was put off. */
void runner_round(struct runner *runner);

#endif
