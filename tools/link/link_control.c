#define _GNU_SOURCE
#include "link_control.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define QUESTION_WORDS_MAX 64

static const char *const fate_names[LINK_FATES] = {
        [LINK_FATE_DELIVERED] = "delivered",        [LINK_FATE_LOST] = "dropped_loss",
        [LINK_FATE_QUEUE_FULL] = "dropped_queue",   [LINK_FATE_BLACKHOLED] = "dropped_blackhole",
        [LINK_FATE_NO_MEMORY] = "dropped_memory",   [LINK_FATE_OVERSIZE] = "dropped_oversize",
        [LINK_FATE_WRITE_FAILED] = "dropped_write",
};
static const char *const side_names[LINK_SIDES] = {[LINK_A_TO_B] = "ab", [LINK_B_TO_A] = "ba"};

struct answer {
	char text[LINK_CONTROL_ANSWER_MAX];
	size_t len;
};

__attribute__((format(printf, 2, 3))) static void answer_add(struct answer *answer, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(answer->text + answer->len, sizeof(answer->text) - answer->len, format, args);
	va_end(args);
	if (n > 0)
		answer->len += (size_t)n;
	if (answer->len >= sizeof(answer->text))
		answer->len = sizeof(answer->text) - 1;
}

static int address_fill(struct sockaddr_un *address, const char *path)
{
	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	if (strlen(path) >= sizeof(address->sun_path))
		return -ENAMETOOLONG;
	memcpy(address->sun_path, path, strlen(path) + 1);
	return 0;
}

/* A connected socket, or -errno. */
static int control_connect(const char *path)
{
	struct sockaddr_un address;
	int fd, rc;

	rc = address_fill(&address, path);
	if (rc < 0)
		return rc;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		rc = -errno;
		close(fd);
		return rc;
	}
	return fd;
}

static int control_listen(int fd, const struct sockaddr_un *address)
{
	mode_t mask = umask(077);
	int rc = bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;

	umask(mask);
	if (rc == 0 && listen(fd, LINK_CONTROL_CLIENTS) < 0)
		rc = -errno;
	return rc;
}

int link_control_open(struct link_control *control, const char *path, char *why, size_t why_size)
{
	struct sockaddr_un address;
	int rc, probe_fd;

	control->listen_fd = -1;
	control->oldest = 0;
	for (unsigned i = 0; i < LINK_CONTROL_CLIENTS; i++)
		control->client_fds[i] = -1;
	rc = address_fill(&address, path);
	if (rc < 0)
		goto failed;
	memcpy(control->path, path, strlen(path) + 1);
	probe_fd = control_connect(path);
	if (probe_fd >= 0) {
		close(probe_fd);
		rc = -EADDRINUSE;
		goto failed;
	}
	if (probe_fd == -ECONNREFUSED)
		unlink(path);
	control->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	rc = control->listen_fd < 0 ? -errno : control_listen(control->listen_fd, &address);
	if (rc == 0)
		return 0;
	if (control->listen_fd >= 0)
		close(control->listen_fd);
	control->listen_fd = -1;
failed:
	snprintf(why, why_size, "control socket %s: %s", path, strerror(-rc));
	return rc;
}

void link_control_close(struct link_control *control)
{
	if (control->listen_fd < 0)
		return;
	for (unsigned i = 0; i < LINK_CONTROL_CLIENTS; i++)
		if (control->client_fds[i] >= 0)
			close(control->client_fds[i]);
	close(control->listen_fd);
	control->listen_fd = -1;
	unlink(control->path);
}

void link_control_accept(struct link_control *control)
{
	int fd = accept4(control->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	unsigned slot;

	if (fd < 0)
		return;
	for (slot = 0; slot < LINK_CONTROL_CLIENTS && control->client_fds[slot] >= 0; slot++)
		;
	if (slot == LINK_CONTROL_CLIENTS) {
		/* Whoever connects and stays silent must not lock the others out. */
		slot = control->oldest;
		control->oldest = (control->oldest + 1) % LINK_CONTROL_CLIENTS;
		close(control->client_fds[slot]);
	}
	control->client_fds[slot] = fd;
}

static void show_figures(struct answer *answer, const struct link_figures *f)
{
	double p_enter = 0, p_leave = 0;

	if (f->burst_frames > 0)
		link_loss_transitions(f, &p_enter, &p_leave);
	answer_add(answer,
	           "\"rate_bps\":%" PRIu64 ",\"delay_us\":%.3f,\"queue_limit_bytes\":%" PRIu64 ",\"loss\":%.9g,"
	           "\"burst_frames\":%.9g,\"loss_bad\":%.9g,\"p_enter\":%.9g,\"p_leave\":%.9g,\"blackhole\":%s,",
	           f->rate_bps, (double)f->delay_ns / 1e3, f->queue_bytes, f->loss, f->burst_frames, f->loss_bad,
	           p_enter, p_leave, f->blackhole ? "true" : "false");
}

static void show_direction(struct answer *answer, const struct link_direction *d)
{
	const struct link_counters *c = &d->counters;
	uint64_t delivered = c->frames[LINK_FATE_DELIVERED];

	show_figures(answer, &d->figures);
	answer_add(answer, "\"frames_in\":%" PRIu64 ",\"bytes_in\":%" PRIu64 ",", c->frames_in, c->bytes_in);
	for (int fate = 0; fate < LINK_FATES; fate++)
		answer_add(answer, "\"frames_%s\":%" PRIu64 ",\"bytes_%s\":%" PRIu64 ",", fate_names[fate],
		           c->frames[fate], fate_names[fate], c->bytes[fate]);
	answer_add(answer,
	           "\"frames_under_way\":%" PRIu64 ",\"queue_frames\":%" PRIu64 ",\"queue_bytes\":%" PRIu64
	           ",\"queue_peak_bytes\":%" PRIu64 ",\"frame_max_bytes\":%" PRIu64 ",\"late_mean_us\":%.3f"
	           ",\"late_max_us\":%.3f,\"memory_bytes\":%zu}",
	           d->under_way_frames, d->queue_frames, d->queue_bytes, c->queue_peak_bytes, c->frame_max_bytes,
	           delivered ? (double)c->late_sum_ns / (double)delivered / 1e3 : 0.0, (double)c->late_max_ns / 1e3,
	           d->touched_slots * d->slot_bytes);
}

static void answer_show(struct answer *answer, struct link *link, uint64_t now_ns)
{
	/* The names need no escaping: main refuses those that would. */
	answer_add(answer, "{\"a\":\"%s\",\"b\":\"%s\",\"seed\":%" PRIu64, link->taps[0].spec, link->taps[1].spec,
	           link->seed);
	for (int side = 0; side < LINK_SIDES; side++) {
		link_direction_refresh(&link->directions[side], now_ns);
		answer_add(answer, ",\"%s\":{", side_names[side]);
		show_direction(answer, &link->directions[side]);
	}
	answer_add(answer, "}\n");
}

static void answer_losses(struct answer *answer, const struct link *link)
{
	answer_add(answer, "{\"seed\":%" PRIu64, link->seed);
	for (int side = 0; side < LINK_SIDES; side++) {
		const struct link_loss *loss = &link->directions[side].loss;
		uint64_t shown = loss->lost < LINK_LOSS_RECORDED ? loss->lost : LINK_LOSS_RECORDED;

		answer_add(answer, ",\"%s\":{\"frames\":%" PRIu64 ",\"lost\":%" PRIu64 ",\"first\":[", side_names[side],
		           loss->frames, loss->lost);
		for (uint64_t i = 0; i < shown; i++)
			answer_add(answer, "%s%" PRIu64, i ? "," : "", loss->recorded[i]);
		answer_add(answer, "]}");
	}
	answer_add(answer, "}\n");
}

static void answer_set(struct answer *answer, struct link *link, char *const *words, size_t count)
{
	struct link_figures both[LINK_SIDES];
	bool has_seed = false;
	char why[256];

	if (count == 0) {
		answer_add(answer, "error: set: expected key=value\n");
		return;
	}
	for (int side = 0; side < LINK_SIDES; side++)
		both[side] = link->directions[side].figures;
	if (link_figures_parse(both, words, count, &link->seed, &has_seed, why, sizeof(why)) < 0) {
		answer_add(answer, "error: %s\n", why);
		return;
	}
	for (int side = 0; side < LINK_SIDES; side++) {
		link->directions[side].figures = both[side];
		if (has_seed)
			link_loss_seed(&link->directions[side].loss, link->seed, (enum link_side)side);
	}
	answer_add(answer, "{\"ok\":true}\n");
}

/* Splits `text` in place. */
static size_t words_split(char *text, char **words, size_t max)
{
	char *save = NULL;
	size_t count = 0;

	for (char *word = strtok_r(text, " \t\r\n", &save); word && count < max;
	     word = strtok_r(NULL, " \t\r\n", &save))
		words[count++] = word;
	return count;
}

void link_control_answer(struct link_control *control, unsigned index, struct link *link, uint64_t now_ns)
{
	static struct answer answer; /* too big for the stack; one question at a time */
	char question[LINK_CONTROL_QUESTION_MAX + 1];
	char *words[QUESTION_WORDS_MAX];
	int fd = control->client_fds[index];
	size_t count;
	ssize_t n;

	n = recv(fd, question, sizeof(question), 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	control->client_fds[index] = -1;
	if (n <= 0)
		goto cleanup;
	answer.len = 0;
	question[n > LINK_CONTROL_QUESTION_MAX ? LINK_CONTROL_QUESTION_MAX : n] = '\0';
	count = words_split(question, words, QUESTION_WORDS_MAX);
	if (n > LINK_CONTROL_QUESTION_MAX || count == QUESTION_WORDS_MAX)
		answer_add(&answer, "error: too long\n");
	else if (count >= 1 && strcmp(words[0], "set") == 0)
		answer_set(&answer, link, words + 1, count - 1);
	else if (count == 1 && strcmp(words[0], "show") == 0)
		answer_show(&answer, link, now_ns);
	else if (count == 1 && strcmp(words[0], "losses") == 0)
		answer_losses(&answer, link);
	else if (count == 1 && strcmp(words[0], "quit") == 0) {
		link->quit = true;
		answer_add(&answer, "{\"ok\":true}\n");
	} else {
		answer_add(&answer, "error: expected set WORD..., show, losses or quit\n");
	}
	/* An answer fits the socket's buffer; who does not want it may go without. */
	(void)send(fd, answer.text, answer.len, MSG_NOSIGNAL);
cleanup:
	close(fd);
}

int link_control_ask(const char *path, char *const *words, size_t count)
{
	static char answer[LINK_CONTROL_ANSWER_MAX];
	char question[LINK_CONTROL_QUESTION_MAX] = "";
	size_t len = 0;
	ssize_t n = -1;
	int fd;

	for (size_t i = 0; i < count; i++) {
		len += (size_t)snprintf(question + len, sizeof(question) - len, "%s%s", i ? " " : "", words[i]);
		if (len >= sizeof(question)) {
			fprintf(stderr, "link_emulator: too many words\n");
			return 2;
		}
	}
	fd = control_connect(path);
	if (fd < 0) {
		fprintf(stderr, "link_emulator: control socket %s: %s\n", path, strerror(-fd));
		return 1;
	}
	if (send(fd, question, len, MSG_NOSIGNAL) == (ssize_t)len)
		n = recv(fd, answer, sizeof(answer), 0);
	close(fd);
	if (n <= 0) {
		fprintf(stderr, "link_emulator: no answer from %s\n", path);
		return 1;
	}
	if (strncmp(answer, "error: ", 7) == 0) {
		fprintf(stderr, "link_emulator: %.*s", (int)n - 7, answer + 7);
		return 2;
	}
	return fwrite(answer, 1, (size_t)n, stdout) == (size_t)n && fflush(stdout) == 0 ? 0 : 1;
}
