/* daemon: how long it takes to end, also when somebody sets the clock meanwhile. Each case runs in a child, all at
 * once. */
#define _GNU_SOURCE /* syscall */
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../common/io/daemon.h"
#include "../unit/unit.h"

enum { CASES = 5, STOP_MS = 400 };

struct test {
	const char *name;
	bool busy;
	int signum;       /* that tells it to end; 0: SIGTERM */
	int set_s;        /* the wall clock is moved by so much when it has been told to end */
	unsigned stop_ms; /* what the owner's stop takes */
	unsigned least_ms, most_ms;
};

static const struct test tests[CASES] = {
        {.name = "nothing is left", .busy = false, .most_ms = 500},
        {.name = "its terminal closes", .busy = false, .signum = SIGHUP, .most_ms = 500},
        {.name = "the clock is set back", .busy = true, .set_s = -3600, .least_ms = 1950, .most_ms = 3000},
        {.name = "the clock is set forward", .busy = true, .set_s = 3600, .least_ms = 1950, .most_ms = 3000},
        {.name = "stopping takes a while",
         .busy = true,
         .stop_ms = STOP_MS,
         .least_ms = 1950 + STOP_MS,
         .most_ms = 3500},
};

/* --- A clock that can be set ----------------------------------------------------------------------------------------
 */

static int clock_moved_s;

/* Both in the place of libc's, for libev, which asks the one or the other. */
int gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
	int status = (int)syscall(SYS_gettimeofday, tv, zone);

	tv->tv_sec += clock_moved_s;
	return status;
}

int clock_gettime(clockid_t id, struct timespec *ts)
{
	int status = (int)syscall(SYS_clock_gettime, id, ts);

	if (id == CLOCK_REALTIME)
		ts->tv_sec += clock_moved_s;
	return status;
}

static unsigned now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (unsigned)(ts.tv_sec * 1000 + ts.tv_nsec / 1000000);
}

/* --- A daemon -------------------------------------------------------------------------------------------------------
 */

static unsigned told_ms;

static void stop(void *user)
{
	const struct test *test = user;

	told_ms = now_ms();
	usleep(test->stop_ms * 1000);
	clock_moved_s = test->set_s;
}

static bool is_busy(void *user)
{
	const struct test *test = user;

	return test->busy;
}

static void stats(void *user)
{
}

static void on_timer(struct ev_loop *loop, ev_timer *w, int events)
{
	const struct test *test = w->data;

	kill(getpid(), test->signum ? test->signum : SIGTERM);
}

/* Tells on `out` how many ms it took. */
static void child(const struct test *test, int out)
{
	static const struct daemon_ops ops = {.stop = stop, .busy = is_busy, .stats = stats};
	static struct daemon daemon;
	ev_timer timer;
	unsigned took_ms = 0;

	signal(SIGHUP, SIG_DFL); /* whoever runs this may ignore it */
	if (daemon_init(&daemon, &ops, (void *)(uintptr_t)test))
		exit(1);
	ev_timer_init(&timer, on_timer, 0.1, 0);
	timer.data = (void *)(uintptr_t)test;
	ev_timer_start(daemon.loop, &timer);
	daemon_serve(&daemon, "case=1");
	took_ms = now_ms() - told_ms;
	daemon_fini(&daemon);
	exit(write(out, &took_ms, sizeof took_ms) == sizeof took_ms ? 0 : 1);
}

int main(void)
{
	int pipes[CASES][2];
	pid_t pids[CASES];

	for (unsigned i = 0; i < CASES; i++) {
		if (pipe(pipes[i]) < 0)
			return 1;
		pids[i] = fork();
		if (pids[i] == 0) {
			alarm(20);
			child(&tests[i], pipes[i][1]);
		}
		close(pipes[i][1]);
	}
	for (unsigned i = 0; i < CASES; i++) {
		unsigned took_ms = 0;
		UNIT_CASE("daemon: how long it takes to end: %s", tests[i].name) {
			if (!UNIT_EQ(read(pipes[i][0], &took_ms, sizeof took_ms), sizeof took_ms))
				break;
			if (took_ms < tests[i].least_ms || took_ms > tests[i].most_ms)
				UNIT_FAIL("%u ms, not %u to %u", took_ms, tests[i].least_ms, tests[i].most_ms);
		}
		waitpid(pids[i], NULL, 0);
	}
	return unit_exit();
}
