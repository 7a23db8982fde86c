#include "traffic_transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../common/io/log.h"

/* More would overflow the backlog of an ordinary listener, and then wait for retransmissions. */
enum { CONNECTING_MAX = 256 };

static const struct traffic_flow_ops transfer_flow_ops;

static uint64_t bounded(uint64_t bytes)
{
	return bytes < TRAFFIC_BYTES_MAX ? bytes : TRAFFIC_BYTES_MAX;
}

static int open_file(struct traffic_transfer *transfer, const char *name)
{
	struct stat found = {0};
	int error;

	transfer->file_fd = open(name, O_RDONLY | O_CLOEXEC);
	if (transfer->file_fd < 0 || fstat(transfer->file_fd, &found) < 0)
		error = -errno;
	else
		error = S_ISREG(found.st_mode) ? 0 : -EINVAL;
	if (error) {
		log_event(LOG_LEVEL_ERROR, "input_failed", "file=\"%s\" error=\"%s\"", name,
		          error == -EINVAL ? "not a regular file" : strerror(-error));
		return error;
	}
	transfer->forth_bytes = bounded((uint64_t)found.st_size);
	return 0;
}

static int flow_prepare(struct traffic_client *client, unsigned index)
{
	const struct traffic_options *options = client->options;
	const struct conf_stream *conf = options->conf;
	struct traffic_transfer *transfer = client->state;
	struct traffic_flow *flow = &transfer->flows[index];
	bool digest = transfer->sends && transfer->file_fd >= 0 && conf->verify && !options->raw;

	flow->loop = client->loop;
	flow->buffer = client->buffer;
	flow->ops = &transfer_flow_ops;
	flow->owner = client;
	flow->plan.half_closes = flow->plan.ends_at_eof = true;
	flow->plan.sends_trailer = !options->raw;
	flow->plan.duration_ms = conf->duration_s * 1000;
	traffic_sink_init(&flow->sink);
	flow->sink.expects_trailer = !options->raw;
	flow->sink.pattern = traffic_pattern_make(conf->seed, index, TRAFFIC_BACK);
	if (transfer->receives && conf->verify)
		flow->sink.kind = TRAFFIC_SINK_PATTERN;
	return traffic_source_init(&flow->source, transfer->file_fd,
	                           traffic_pattern_make(conf->seed, index, TRAFFIC_FORTH), transfer->forth_bytes,
	                           digest);
}

static size_t make_greeting(const struct traffic_client *client, unsigned index, uint8_t greeting[TRAFFIC_HEADER_SIZE])
{
	const struct conf_stream *conf = client->options->conf;
	const struct traffic_transfer *transfer = client->state;
	struct traffic_header header = {
	        .mode = TRAFFIC_TRANSFER,
	        .flow = index,
	        .seed = conf->seed,
	        .forth_bytes = transfer->forth_bytes,
	        .back_bytes = transfer->back_bytes,
	        .duration_ms = conf->duration_s * 1000,
	};

	if (client->options->raw)
		return 0;
	header.flags |= transfer->sends ? TRAFFIC_HAS_FORTH : 0;
	header.flags |= transfer->receives ? TRAFFIC_HAS_BACK : 0;
	header.flags |= transfer->file_fd >= 0 ? TRAFFIC_IS_FILE : 0;
	header.flags |= conf->verify ? TRAFFIC_VERIFY : 0;
	traffic_header_encode(greeting, &header);
	return TRAFFIC_HEADER_SIZE;
}

static void on_start(struct ev_loop *loop, ev_timer *watcher, int events)
{
	struct traffic_client *client = watcher->data;
	struct traffic_transfer *transfer = client->state;
	uint8_t greeting[TRAFFIC_HEADER_SIZE];

	while (transfer->started < transfer->count && transfer->connecting < CONNECTING_MAX) {
		unsigned index = transfer->started++;
		size_t greeting_bytes = make_greeting(client, index, greeting);

		transfer->connecting++;
		traffic_flow_connect(&transfer->flows[index], &client->options->conf->dest, greeting, greeting_bytes);
	}
}

static void start_more(struct traffic_client *client)
{
	struct traffic_transfer *transfer = client->state;

	if (transfer->started == transfer->count || ev_is_active(&transfer->starter))
		return;
	ev_timer_set(&transfer->starter, 0., 0.);
	ev_timer_start(client->loop, &transfer->starter);
}

static void on_connected(struct traffic_flow *flow)
{
	struct traffic_client *client = flow->owner;
	struct traffic_transfer *transfer = client->state;

	transfer->connecting--;
	transfer->any_connected = true;
	start_more(client);
}

/* Flows that will not be started any more. */
static void give_up_rest(struct traffic_client *client, enum traffic_status status, int error)
{
	struct traffic_transfer *transfer = client->state;

	ev_timer_stop(client->loop, &transfer->starter);
	while (transfer->started < transfer->count) {
		struct traffic_flow *flow = &transfer->flows[transfer->started++];

		flow->state = TRAFFIC_FLOW_ENDED;
		flow->status = status;
		flow->error = error;
		transfer->ended++;
		transfer->failed++;
	}
}

static void on_ended(struct traffic_flow *flow)
{
	struct traffic_client *client = flow->owner;
	struct traffic_transfer *transfer = client->state;

	/* Whole by receive's own report, but is that what it was asked for? */
	if (flow->status == TRAFFIC_OK && transfer->receives && !client->options->conf->duration_s &&
	    flow->sink.bytes != transfer->back_bytes)
		flow->status = flow->sink.bytes < transfer->back_bytes ? TRAFFIC_SHORT : TRAFFIC_WRONG_DATA;
	transfer->ended++;
	transfer->failed += flow->status != TRAFFIC_OK;
	transfer->connecting -= !flow->connected_us;
	client->ended_us = flow->ended_us;
	if (flow->status != TRAFFIC_OK)
		traffic_client_log_failure(client, (uint64_t)(flow - transfer->flows), flow->status, flow->error);
	if (flow->status == TRAFFIC_CONNECT_FAILED && !transfer->any_connected)
		give_up_rest(client, flow->status, flow->error);
	start_more(client);
	if (transfer->ended == transfer->count)
		ev_break(client->loop, EVBREAK_ALL);
}

static const struct traffic_flow_ops transfer_flow_ops = {.connected = on_connected, .ended = on_ended};

static int transfer_start(struct traffic_client *client)
{
	const struct conf_stream *conf = client->options->conf;
	struct traffic_transfer *transfer = calloc(1, sizeof *transfer);
	int error;

	if (!transfer)
		return -ENOMEM;
	client->state = transfer;
	transfer->file_fd = -1;
	transfer->sends = conf->direction != CONF_RECEIVE;
	transfer->receives = conf->direction != CONF_SEND;
	transfer->forth_bytes = transfer->sends ? bounded(conf->bytes) : 0;
	transfer->back_bytes = transfer->receives ? bounded(conf->bytes) : 0;
	ev_init(&transfer->starter, on_start);
	transfer->starter.data = client;
	if (transfer->sends && conf->file_name[0]) {
		error = open_file(transfer, conf->file_name);
		if (error)
			return error;
	}
	transfer->flows = calloc(conf->flows, sizeof *transfer->flows);
	if (!transfer->flows)
		return -ENOMEM;
	while (transfer->count < conf->flows) {
		error = flow_prepare(client, transfer->count++);
		if (error)
			return error;
	}
	client->started_us = client->ended_us = traffic_now_us();
	start_more(client);
	return 0;
}

static void transfer_stop(struct traffic_client *client, enum traffic_status status)
{
	struct traffic_transfer *transfer = client->state;
	unsigned started = transfer->started;

	give_up_rest(client, status, 0);
	for (unsigned i = 0; i < started; i++)
		traffic_flow_abort(&transfer->flows[i], status);
}

static void transfer_bytes(const struct traffic_client *client, unsigned *flows, uint64_t *sent, uint64_t *received)
{
	const struct traffic_transfer *transfer = client->state;

	*flows = transfer->started - transfer->ended;
	*sent = *received = 0;
	for (unsigned i = 0; i < transfer->count; i++) {
		*sent += transfer->flows[i].source.offset;
		*received += transfer->flows[i].sink.bytes;
	}
}

static void transfer_free(struct traffic_client *client)
{
	struct traffic_transfer *transfer = client->state;

	if (!transfer)
		return;
	for (unsigned i = 0; i < transfer->count; i++)
		traffic_flow_free(&transfer->flows[i]);
	if (transfer->file_fd >= 0)
		close(transfer->file_fd);
	free(transfer->flows);
	free(transfer);
	client->state = NULL;
}

const struct traffic_client_ops traffic_transfer_ops = {
        .start = transfer_start,
        .stop = transfer_stop,
        .bytes = transfer_bytes,
        .report = traffic_transfer_report,
        .free = transfer_free,
};
