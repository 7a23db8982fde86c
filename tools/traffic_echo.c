/* Keystrokes: a few bytes every interval, sent back by receive; how long each takes there and back.
 *
 * A byte is sent when its time has come whether or not the ones before it are back, as a typist does. The bytes are
 * those of the pattern, so a wrong or missing echo is seen.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../common/io/sock.h"
#include "traffic_client.h"
#include "traffic_socket.h"

struct typist {
	struct traffic_client *client;
	unsigned index;
	int fd;
	bool ended;
	enum traffic_status status;
	int error;
	uint64_t connected_us, started_us;
	struct traffic_pattern pattern;
	uint64_t due_echoes;               /* whose time has come */
	uint64_t header_sent;              /* bytes of the header sent */
	uint64_t sent_bytes, echoed_bytes; /* without the header */
	uint64_t echoed;                   /* whole echoes */
	uint64_t *due_us;                  /* when each was typed; owned */
	ev_io reader, writer;
	ev_timer ticker;
};

struct echoes {
	struct typist *typists;
	unsigned count, ended, failed;
	struct traffic_samples samples; /* of all flows */
};

static uint64_t due_bytes(const struct typist *typist)
{
	return typist->due_echoes * typist->client->options->echo_bytes;
}

static void typist_end(struct typist *typist, enum traffic_status status, int error)
{
	struct traffic_client *client = typist->client;
	struct echoes *echoes = client->state;

	typist->ended = true;
	typist->status = status;
	typist->error = error;
	ev_timer_stop(client->loop, &typist->ticker);
	if (typist->fd >= 0) {
		ev_io_stop(client->loop, &typist->reader);
		ev_io_stop(client->loop, &typist->writer);
		if (status == TRAFFIC_OK)
			close(typist->fd);
		else
			sock_reset(typist->fd);
		typist->fd = -1;
	}
	client->ended_us = traffic_now_us();
	echoes->ended++;
	if (status != TRAFFIC_OK) {
		echoes->failed++;
		traffic_client_log_failure(client, typist->index, status, error);
	}
	if (echoes->ended == echoes->count)
		ev_break(client->loop, EVBREAK_ALL);
}

/* Sends what is due. False: the typist has ended. */
static bool typist_write(struct typist *typist)
{
	struct traffic_client *client = typist->client;
	uint8_t *data = client->buffer->data;
	ssize_t sent = 0;

	while (sent >= 0 && (typist->header_sent < TRAFFIC_HEADER_SIZE || typist->sent_bytes < due_bytes(typist))) {
		size_t len_bytes = TRAFFIC_HEADER_SIZE - typist->header_sent;
		bool in_header = len_bytes > 0;

		if (in_header) {
			struct traffic_header header = {.mode = TRAFFIC_ECHO, .flow = typist->index};
			uint8_t whole[TRAFFIC_HEADER_SIZE];

			traffic_header_encode(whole, &header);
			memcpy(data, whole + typist->header_sent, len_bytes);
		} else {
			len_bytes = due_bytes(typist) - typist->sent_bytes;
			if (len_bytes > sizeof client->buffer->data)
				len_bytes = sizeof client->buffer->data;
			traffic_pattern_fill(&typist->pattern, typist->sent_bytes, data, len_bytes);
		}
		sent = send(typist->fd, data, len_bytes, MSG_NOSIGNAL);
		if (sent >= 0 && in_header)
			typist->header_sent += (uint64_t)sent;
		else if (sent >= 0)
			typist->sent_bytes += (uint64_t)sent;
	}
	if (sent >= 0) {
		ev_io_stop(client->loop, &typist->writer);
		return true;
	}
	if (errno == EAGAIN || errno == EINTR) {
		ev_io_start(client->loop, &typist->writer);
		return true;
	}
	typist_end(typist, TRAFFIC_RESET, -errno);
	return false;
}

static void on_tick(struct ev_loop *loop, ev_timer *watcher, int events)
{
	struct typist *typist = watcher->data;

	typist->due_us[typist->due_echoes++] = traffic_now_us();
	if (typist->due_echoes == typist->client->options->echo_count)
		ev_timer_stop(loop, &typist->ticker);
	typist_write(typist);
}

static void on_writable(struct ev_loop *loop, ev_io *watcher, int events)
{
	struct typist *typist = watcher->data;
	double interval_s = (double)typist->client->options->interval_ms / 1e3;
	int error;

	if (!typist->connected_us) {
		error = -sock_error(typist->fd);
		if (error) {
			typist_end(typist, TRAFFIC_CONNECT_FAILED, error);
			return;
		}
		typist->connected_us = traffic_now_us();
		ev_timer_init(&typist->ticker, on_tick, interval_s, interval_s);
		ev_timer_start(loop, &typist->ticker);
		ev_io_start(loop, &typist->reader);
	}
	typist_write(typist);
}

static void typist_take(struct typist *typist, const uint8_t *data, size_t len_bytes)
{
	struct traffic_client *client = typist->client;
	struct echoes *echoes = client->state;
	uint64_t now_us = traffic_now_us();

	if (typist->echoed_bytes + len_bytes > typist->sent_bytes ||
	    traffic_pattern_check(&typist->pattern, typist->echoed_bytes, data, len_bytes) < len_bytes) {
		typist_end(typist, TRAFFIC_WRONG_DATA, 0);
		return;
	}
	typist->echoed_bytes += len_bytes;
	/* Room for all samples was made at the start. */
	for (; (typist->echoed + 1) * client->options->echo_bytes <= typist->echoed_bytes; typist->echoed++)
		traffic_samples_add(&echoes->samples, now_us - typist->due_us[typist->echoed]);
	if (typist->echoed == client->options->echo_count)
		typist_end(typist, TRAFFIC_OK, 0);
}

static void on_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
	struct typist *typist = watcher->data;
	uint8_t *data = typist->client->buffer->data;
	ssize_t got = recv(typist->fd, data, sizeof typist->client->buffer->data, 0);

	if (got > 0)
		typist_take(typist, data, (size_t)got);
	else if (got == 0)
		typist_end(typist, TRAFFIC_SHORT, 0);
	else if (errno != EAGAIN && errno != EINTR)
		typist_end(typist, TRAFFIC_RESET, -errno);
}

/* Connects from the loop, like everything that may end a flow. */
static void on_start(struct ev_loop *loop, ev_timer *watcher, int events)
{
	struct typist *typist = watcher->data;

	typist->started_us = traffic_now_us();
	typist->fd = traffic_socket_connect(&typist->client->options->conf->dest);
	if (typist->fd < 0) {
		typist_end(typist, TRAFFIC_CONNECT_FAILED, typist->fd);
		return;
	}
	ev_io_init(&typist->reader, on_readable, typist->fd, EV_READ);
	ev_io_init(&typist->writer, on_writable, typist->fd, EV_WRITE);
	typist->reader.data = typist->writer.data = typist;
	ev_io_start(loop, &typist->writer);
}

static int echo_start(struct traffic_client *client)
{
	const struct traffic_options *options = client->options;
	struct echoes *echoes = calloc(1, sizeof *echoes);

	if (!echoes)
		return -ENOMEM;
	client->state = echoes;
	echoes->samples.capacity = options->conf->flows * options->echo_count;
	echoes->samples.us = calloc(echoes->samples.capacity, sizeof *echoes->samples.us);
	echoes->typists = calloc(options->conf->flows, sizeof *echoes->typists);
	if (!echoes->typists || !echoes->samples.us)
		return -ENOMEM;
	while (echoes->count < options->conf->flows) {
		struct typist *typist = &echoes->typists[echoes->count];

		typist->client = client;
		typist->index = echoes->count++;
		typist->fd = -1;
		typist->pattern = traffic_pattern_make(options->conf->seed, typist->index, TRAFFIC_FORTH);
		typist->due_us = calloc(options->echo_count, sizeof *typist->due_us);
		if (!typist->due_us)
			return -ENOMEM;
		ev_timer_init(&typist->ticker, on_start, 0., 0.);
		typist->ticker.data = typist;
	}
	client->started_us = client->ended_us = traffic_now_us();
	for (unsigned i = 0; i < echoes->count; i++)
		ev_timer_start(client->loop, &echoes->typists[i].ticker);
	return 0;
}

static void echo_stop(struct traffic_client *client, enum traffic_status status)
{
	struct echoes *echoes = client->state;

	for (unsigned i = 0; i < echoes->count; i++)
		if (!echoes->typists[i].ended)
			typist_end(&echoes->typists[i], status, 0);
}

static void echo_bytes(const struct traffic_client *client, unsigned *flows, uint64_t *sent, uint64_t *received)
{
	const struct echoes *echoes = client->state;

	*flows = echoes->count - echoes->ended;
	*sent = *received = 0;
	for (unsigned i = 0; i < echoes->count; i++) {
		*sent += echoes->typists[i].sent_bytes;
		*received += echoes->typists[i].echoed_bytes;
	}
}

/* The end of the first flow that failed, TRAFFIC_OK if none did. */
static enum traffic_status echo_status(const struct echoes *echoes)
{
	for (unsigned i = 0; i < echoes->count; i++)
		if (echoes->typists[i].status != TRAFFIC_OK)
			return echoes->typists[i].status;
	return TRAFFIC_OK;
}

static bool echo_report(struct traffic_client *client)
{
	const struct traffic_options *options = client->options;
	struct echoes *echoes = client->state;
	struct traffic_samples *samples = &echoes->samples;
	uint64_t lost = echoes->count * options->echo_count - samples->count;
	double connect_ms = traffic_report_ms(echoes->typists[0].started_us, echoes->typists[0].connected_us);

	traffic_samples_sort(samples);
	if (options->json) {
		traffic_client_json_head(client, "echo");
		printf("\"flows\":%u,\"count\":%" PRIu64 ",\"echo_bytes\":%" PRIu64 ",\"interval_ms\":%" PRIu64
		       ",\"echoed\":%zu,\"lost\":%" PRIu64 ",\"connect_ms\":%.3f,\"min_ms\":%.3f,\"median_ms\":%.3f"
		       ",\"p99_ms\":%.3f,\"max_ms\":%.3f,\"status\":\"%s\"}\n",
		       echoes->count, options->echo_count, options->echo_bytes, options->interval_ms, samples->count,
		       lost, connect_ms, traffic_samples_ms(samples, 0), traffic_samples_ms(samples, 0.5),
		       traffic_samples_ms(samples, 0.99), traffic_samples_ms(samples, 1),
		       traffic_status_name(echo_status(echoes)));
	} else {
		printf("echoes: %zu of %" PRIu64 " bytes came back, %" PRIu64 " did not: %s\n"
		       "there and back: min %.3f ms, median %.3f ms, p99 %.3f ms, max %.3f ms\n",
		       samples->count, options->echo_bytes, lost, traffic_status_name(echo_status(echoes)),
		       traffic_samples_ms(samples, 0), traffic_samples_ms(samples, 0.5),
		       traffic_samples_ms(samples, 0.99), traffic_samples_ms(samples, 1));
	}
	return echoes->failed == 0;
}

static void echo_free(struct traffic_client *client)
{
	struct echoes *echoes = client->state;

	if (!echoes)
		return;
	for (unsigned i = 0; i < echoes->count; i++)
		free(echoes->typists[i].due_us);
	traffic_samples_free(&echoes->samples);
	free(echoes->typists);
	free(echoes);
	client->state = NULL;
}

const struct traffic_client_ops traffic_echo_ops = {
        .start = echo_start,
        .stop = echo_stop,
        .bytes = echo_bytes,
        .report = echo_report,
        .free = echo_free,
};
