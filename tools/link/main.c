/* link_emulator: a link between two TAP devices, with a rate, a delay, a queue and losses. */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "link_control.h"
#include "link_direction.h"
#include "link_figures.h"
#include "link_tap.h"

enum { EXIT_DONE, EXIT_FAILED, EXIT_USAGE };

/* Ethernet header and up to two VLAN tags around the MTU. */
#define FRAME_OVERHEAD_BYTES 22
/* Frames taken or handed over before the other side has its turn. */
#define BATCH_FRAMES 32

struct options {
	const char *a, *b, *control;
	uint64_t mtu_bytes, memory_bytes, priority;
	char **words;
	size_t word_count;
};

static volatile sig_atomic_t stop_signal;

static const char help_text[] =
        "Usage: link_emulator --a NAME[@NETNS] --b NAME[@NETNS] [OPTION]... [FIGURE]...\n"
        "       link_emulator --control SOCKET set FIGURE...\n"
        "       link_emulator --control SOCKET show | losses | quit\n"
        "\n"
        "Creates two TAP devices, each in the network namespace named, and carries Ethernet frames between them as a "
        "link\n"
        "with the given figures would. The second form changes figures while it runs; `show` prints figures and "
        "counters\n"
        "as JSON, `losses` the numbers of the frames lost since the seed.\n"
        "\n"
        "Figures, for both directions, or for the one named by the last word `ab`, `ba` or `both` before them:\n"
        "  rate=100M        bit/s of Ethernet frames without FCS; k, M, G; 0: no limit (default)\n"
        "  delay=25ms       one way, after serialisation; us, ms, s; a bare number is ms\n"
        "  queue=625000     bytes waiting for serialisation before frames are dropped; 0: no limit (default)\n"
        "  loss=1%          share of frames lost on the wire; also 0.01\n"
        "  burst=4          losses come in bursts of this mean length (Gilbert-Elliott); 0: independent (default)\n"
        "  loss_bad=100%    share lost within a burst\n"
        "  blackhole=on     drop everything, what is under way too; off: carry on\n"
        "  seed=1           restart the sequence of losses, of both directions\n"
        "A new rate, delay, queue or loss holds for the frames that come in from then on. Frames never overtake.\n"
        "\n"
        "Options:\n"
        "  --a, --b DEVICE     the two ends\n"
        "  --control SOCKET    unix socket to open, or to ask\n"
        "  --mtu BYTES         of both devices (default 1500)\n"
        "  --memory BYTES      most frames kept in each direction (default 64Mi)\n"
        "  --priority N        real-time priority 1 to 99 where permitted; 0: an ordinary process (default 1)\n"
        "  --help, --version\n"
        "\n"
        "A line with event=ready on standard error says that frames are carried. SIGTERM or SIGINT ends it; the "
        "devices go\n"
        "with it. Exit codes: 0 done, 1 failed, 2 wrong usage.\n"
        "\n"
        "Example:\n"
        "  link_emulator --a eth1@left --b eth1@right --control /run/link.sock rate=100M delay=25ms queue=625000 ab "
        "loss=1% &\n"
        "  link_emulator --control /run/link.sock set ab loss=3% burst=4\n";

__attribute__((format(printf, 1, 2))) static void complain(const char *format, ...)
{
	va_list args;

	fputs("link_emulator: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

static uint64_t clock_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec;
}

static void signal_note(int number)
{
	stop_signal = number;
}

/* Returns -1 to go on, else an exit code. */
static int options_parse(struct options *o, int argc, char **argv)
{
	enum { OPT_A = 256, OPT_B, OPT_CONTROL, OPT_MTU, OPT_MEMORY, OPT_PRIORITY, OPT_HELP, OPT_VERSION };
	static const struct option table[] = {
	        {"a", required_argument, NULL, OPT_A},
	        {"b", required_argument, NULL, OPT_B},
	        {"control", required_argument, NULL, OPT_CONTROL},
	        {"mtu", required_argument, NULL, OPT_MTU},
	        {"memory", required_argument, NULL, OPT_MEMORY},
	        {"priority", required_argument, NULL, OPT_PRIORITY},
	        {"help", no_argument, NULL, OPT_HELP},
	        {"version", no_argument, NULL, OPT_VERSION},
	        {NULL, 0, NULL, 0},
	};
	int c;

	*o = (struct options){.mtu_bytes = 1500, .memory_bytes = 64 << 20, .priority = 1};
	while ((c = getopt_long(argc, argv, "", table, NULL)) != -1) {
		switch (c) {
		case OPT_A:
			o->a = optarg;
			break;
		case OPT_B:
			o->b = optarg;
			break;
		case OPT_CONTROL:
			o->control = optarg;
			break;
		case OPT_MTU:
			if (link_number_parse(optarg, "", 65521, &o->mtu_bytes) < 0 || o->mtu_bytes < 68) {
				complain("--mtu %s: expected 68 to 65521 bytes", optarg);
				return EXIT_USAGE;
			}
			break;
		case OPT_MEMORY:
			if (link_number_parse(optarg, "", 8ULL << 30, &o->memory_bytes) < 0 ||
			    o->memory_bytes < 1 << 20) {
				complain("--memory %s: expected 1Mi to 8Gi bytes", optarg);
				return EXIT_USAGE;
			}
			break;
		case OPT_PRIORITY:
			if (link_number_parse(optarg, "", 99, &o->priority) < 0) {
				complain("--priority %s: expected 0 to 99", optarg);
				return EXIT_USAGE;
			}
			break;
		case OPT_HELP:
			fputs(help_text, stdout);
			return EXIT_DONE;
		case OPT_VERSION:
			puts("link_emulator " PAIR_VERSION);
			return EXIT_DONE;
		default:
			fputs("Try 'link_emulator --help'.\n", stderr);
			return EXIT_USAGE;
		}
	}
	o->words = argv + optind;
	o->word_count = (size_t)(argc - optind);
	return -1;
}

static void signals_prepare(sigset_t *unblocked)
{
	struct sigaction action = {.sa_handler = signal_note};
	sigset_t blocked;

	/* Only ppoll lets them in, so none slips in between the check and the wait. */
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGTERM);
	sigaddset(&blocked, SIGINT);
	sigprocmask(SIG_BLOCK, &blocked, unblocked);
	sigdelset(unblocked, SIGTERM);
	sigdelset(unblocked, SIGINT);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
}

/* Wakes us when we ask and not some 50 us later; without the right to real time, at least that. */
static const char *timing_prepare(int priority)
{
	struct sched_param param = {.sched_priority = priority};

	prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
	if (priority > 0 && sched_setscheduler(0, SCHED_FIFO, &param) == 0)
		return "fifo";
	return "ordinary";
}

/* Takes in what waits on `tap`. Returns 1 if there may be more, 0 if not, -errno if the device is gone. */
static int frames_take(struct link_direction *d, const struct link_tap *tap)
{
	static uint8_t overflow[65536 + FRAME_OVERHEAD_BYTES]; /* where frames go that find no memory */

	for (int i = 0; i < BATCH_FRAMES; i++) {
		uint8_t *space = link_direction_buffer(d);
		ssize_t n = read(tap->fd, space ? space : overflow, d->frame_max_bytes + 1);

		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		link_direction_accept(d, (size_t)n, clock_now_ns());
	}
	return 1;
}

/* Hands over to `tap` what is due. */
static void frames_give(struct link_direction *d, const struct link_tap *tap)
{
	for (int i = 0; i < BATCH_FRAMES; i++) {
		/* Read before the write, which does the receiver's work too: that is not our lateness. */
		uint64_t now_ns = clock_now_ns();
		const struct link_frame *frame = link_direction_due(d, now_ns);

		if (!frame)
			return;
		link_direction_done(d, write(tap->fd, frame->data, frame->len_bytes) == (ssize_t)frame->len_bytes,
		                    now_ns);
	}
}

/* Until the next frame is due. Returns NULL for ever. */
static const struct timespec *wait_time(const struct link *link, struct timespec *t)
{
	uint64_t a_ns = link_direction_next_ns(&link->directions[LINK_A_TO_B]);
	uint64_t b_ns = link_direction_next_ns(&link->directions[LINK_B_TO_A]);
	uint64_t next_ns = a_ns < b_ns ? a_ns : b_ns, now_ns, wait_ns;

	if (next_ns == LINK_NEVER_NS)
		return NULL;
	now_ns = clock_now_ns();
	wait_ns = next_ns > now_ns ? next_ns - now_ns : 0;
	t->tv_sec = (time_t)(wait_ns / 1000000000ULL);
	t->tv_nsec = (long)(wait_ns % 1000000000ULL);
	return t;
}

static int link_carry(struct link *link, struct link_control *control, const sigset_t *unblocked)
{
	enum { POLL_A, POLL_B, POLL_LISTEN, POLL_CLIENTS, POLL_COUNT = POLL_CLIENTS + LINK_CONTROL_CLIENTS };
	struct pollfd fds[POLL_COUNT];
	struct timespec t;

	for (int i = 0; i < POLL_COUNT; i++)
		fds[i] = (struct pollfd){.fd = -1, .events = POLLIN};
	fds[POLL_A].fd = link->taps[0].fd;
	fds[POLL_B].fd = link->taps[1].fd;
	fds[POLL_LISTEN].fd = control->listen_fd;
	while (!stop_signal && !link->quit) {
		for (unsigned i = 0; i < LINK_CONTROL_CLIENTS; i++)
			fds[POLL_CLIENTS + i].fd = control->client_fds[i];
		if (ppoll(fds, POLL_COUNT, wait_time(link, &t), unblocked) < 0) {
			if (errno == EINTR)
				continue;
			complain("poll: %s", strerror(errno));
			return EXIT_FAILED;
		}
		for (int side = 0; side < LINK_SIDES; side++) {
			int rc = fds[side].revents ? frames_take(&link->directions[side], &link->taps[side]) : 0;

			if (rc < 0) {
				fprintf(stderr, "event=device_gone device=%s error=\"%s\"\n", link->taps[side].spec,
				        strerror(-rc));
				return EXIT_FAILED;
			}
		}
		for (int side = 0; side < LINK_SIDES; side++)
			frames_give(&link->directions[side], &link->taps[!side]);
		for (unsigned i = 0; i < LINK_CONTROL_CLIENTS; i++)
			if (fds[POLL_CLIENTS + i].revents)
				link_control_answer(control, i, link, clock_now_ns());
		if (fds[POLL_LISTEN].revents)
			link_control_accept(control);
	}
	return EXIT_DONE;
}

/* Device names go into JSON and log lines as they are, so they may hold nothing that means something there. */
static bool spec_is_printable(const char *spec)
{
	return spec[strcspn(spec, "\"\\ \t\r\n=")] == '\0';
}

static int figures_apply(struct link *link, const struct options *o, char *why, size_t why_size)
{
	struct link_figures both[LINK_SIDES];
	bool has_seed = false;

	link->seed = 1;
	for (int side = 0; side < LINK_SIDES; side++)
		link_figures_init(&both[side]);
	if (link_figures_parse(both, o->words, o->word_count, &link->seed, &has_seed, why, why_size) < 0)
		return -EINVAL;
	for (int side = 0; side < LINK_SIDES; side++) {
		link->directions[side].figures = both[side];
		link_loss_seed(&link->directions[side].loss, link->seed, (enum link_side)side);
	}
	return 0;
}

static int link_run(const struct options *o)
{
	static struct link link;
	struct link_control control = {.listen_fd = -1};
	const char *specs[2] = {o->a, o->b};
	const char *scheduling;
	char why[512];
	sigset_t unblocked;
	int rc = EXIT_FAILED, error;

	for (int i = 0; i < 2; i++)
		link.taps[i].fd = -1;
	for (unsigned i = 0; i < LINK_CONTROL_CLIENTS; i++)
		control.client_fds[i] = -1;
	for (int side = 0; side < LINK_SIDES; side++) {
		error = link_direction_init(&link.directions[side], o->mtu_bytes + FRAME_OVERHEAD_BYTES,
		                            o->memory_bytes);
		if (error < 0) {
			complain("memory: %s", strerror(-error));
			goto cleanup;
		}
	}
	if (figures_apply(&link, o, why, sizeof(why)) < 0) {
		complain("%s", why);
		rc = EXIT_USAGE;
		goto cleanup;
	}
	signals_prepare(&unblocked);
	for (int i = 0; i < 2; i++) {
		if (link_tap_open(&link.taps[i], specs[i], (unsigned)o->mtu_bytes, why, sizeof(why)) < 0) {
			complain("%s", why);
			goto cleanup;
		}
	}
	if (o->control && link_control_open(&control, o->control, why, sizeof(why)) < 0) {
		complain("%s", why);
		goto cleanup;
	}
	scheduling = timing_prepare((int)o->priority);
	fprintf(stderr, "event=ready a=%s b=%s control=%s scheduling=%s\n", o->a, o->b, o->control ? o->control : "-",
	        scheduling);
	rc = link_carry(&link, &control, &unblocked);
	fprintf(stderr, "event=stopped\n");
cleanup:
	link_control_close(&control);
	for (int i = 0; i < 2; i++)
		link_tap_close(&link.taps[i]);
	for (int side = 0; side < LINK_SIDES; side++)
		link_direction_free(&link.directions[side]);
	return rc;
}

int main(int argc, char **argv)
{
	struct options o;
	int rc = options_parse(&o, argc, argv);

	if (rc >= 0)
		return rc;
	if (!o.a && !o.b && o.control && o.word_count > 0)
		return link_control_ask(o.control, o.words, o.word_count);
	if (!o.a || !o.b || !spec_is_printable(o.a) || !spec_is_printable(o.b)) {
		complain("expected --a DEVICE and --b DEVICE, or --control SOCKET and a command; try --help");
		return EXIT_USAGE;
	}
	return link_run(&o);
}
