#include "runner.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <time.h>

#include "stripe_io.h"

enum {
	/* Runs of one session in a wakeup, as long as each one writes: then the other sockets have their turn. */
	ROUNDS_MAX = 8,
	/* A session that says it is overdue, again and again, must not make the loop spin. */
	SLEEP_MIN_US = 500
};

static uint64_t clock_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* Runs one session until it writes nothing more. True: it has more, but has had its share. */
static bool run_session(struct runner *runner, struct session *session)
{
	for (unsigned round = 0; round < ROUNDS_MAX; round++) {
		session_run(session, runner->now_us);
		if (!stripe_io_settle(runner))
			return false;
	}
	return true;
}

static void set_timer(struct runner *runner, uint64_t next_us)
{
	if (next_us == runner->timer_us && next_us > runner->now_us)
		return;
	runner->timer_us = next_us;
	if (next_us == UINT64_MAX) {
		ev_timer_stop(runner->loop, &runner->timer);
		return;
	}
	uint64_t sleep_us = next_us > runner->now_us + SLEEP_MIN_US ? next_us - runner->now_us : SLEEP_MIN_US;
	runner->timer.repeat = (double)sleep_us / 1e6;
	ev_timer_again(runner->loop, &runner->timer);
}

static void run_later(struct runner *runner)
{
	while (runner->later) {
		struct runner_later *later = runner->later;
		runner->later = later->next;
		later->run(later);
	}
}

void runner_round(struct runner *runner)
{
	uint64_t next_us = UINT64_MAX;
	bool again = false;

	for (struct runner_session *entry = runner->sessions; entry; entry = entry->next)
		again |= run_session(runner, entry->session);
	run_later(runner);
	for (struct runner_session *entry = runner->sessions; entry; entry = entry->next) {
		uint64_t due_us = session_next_us(entry->session);
		if (due_us < next_us)
			next_us = due_us;
	}
	set_timer(runner, next_us);
	if (again)
		ev_idle_start(runner->loop, &runner->again);
}

static void on_check(struct ev_loop *loop, ev_check *w, int events)
{
	struct runner *runner = w->data;

	runner->now_us = clock_us();
}

static void on_prepare(struct ev_loop *loop, ev_prepare *w, int events)
{
	runner_round(w->data);
}

/* What is to be done when the timer fires is done by on_prepare. */
static void on_timer(struct ev_loop *loop, ev_timer *w, int events)
{
	struct runner *runner = w->data;

	ev_timer_stop(loop, w);
	runner->timer_us = UINT64_MAX;
}

static void on_again(struct ev_loop *loop, ev_idle *w, int events)
{
	ev_idle_stop(loop, w);
}

int runner_init(struct runner *runner, struct ev_loop *loop)
{
	*runner = (struct runner){.loop = loop, .now_us = clock_us(), .timer_us = UINT64_MAX};
	runner->buffer = malloc(RUNNER_BUFFER_BYTES);
	if (!runner->buffer)
		return -ENOMEM;
	ev_prepare_init(&runner->prepare, on_prepare);
	ev_check_init(&runner->check, on_check);
	ev_timer_init(&runner->timer, on_timer, 0, 0);
	ev_idle_init(&runner->again, on_again);
	runner->prepare.data = runner->check.data = runner->timer.data = runner;
	/* First and last of a wakeup: every other callback finds the time set, and its effects are run. */
	ev_set_priority(&runner->check, EV_MAXPRI);
	ev_set_priority(&runner->prepare, EV_MINPRI);
	/* Others' callbacks are never kept waiting: an idle watcher runs only when nothing of its priority is pending.
	 */
	ev_set_priority(&runner->again, EV_MAXPRI);
	ev_prepare_start(loop, &runner->prepare);
	ev_check_start(loop, &runner->check);
	return 0;
}

void runner_fini(struct runner *runner)
{
	run_later(runner);
	ev_prepare_stop(runner->loop, &runner->prepare);
	ev_check_stop(runner->loop, &runner->check);
	ev_timer_stop(runner->loop, &runner->timer);
	ev_idle_stop(runner->loop, &runner->again);
	free(runner->buffer);
	runner->buffer = NULL;
}

void runner_add(struct runner *runner, struct runner_session *entry)
{
	entry->next = runner->sessions;
	runner->sessions = entry;
}

void runner_remove(struct runner *runner, struct runner_session *entry)
{
	struct runner_session **at = &runner->sessions;

	while (*at && *at != entry)
		at = &(*at)->next;
	if (*at)
		*at = entry->next;
}

void runner_defer(struct runner *runner, struct runner_later *later)
{
	later->next = runner->later;
	runner->later = later;
}
