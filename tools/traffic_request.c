/* Many small flows one after another: what a page with many objects, or a service with short calls, feels. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "traffic_client.h"

struct requests {
	struct traffic_flow *slots; /* one for each that may be under way */
	unsigned count;
	uint64_t started, ended, failed;
	uint64_t received_bytes; /* of ended ones */
	struct traffic_samples samples;
	bool stopping;
	ev_timer starter; /* starts more, from the loop and not from within the end of another */
};

static void request_start(struct traffic_client *client, struct traffic_flow *flow);

static void start_more(struct traffic_client *client)
{
	struct requests *requests = client->state;

	if (requests->started == client->options->requests || ev_is_active(&requests->starter))
		return;
	ev_timer_set(&requests->starter, 0., 0.);
	ev_timer_start(client->loop, &requests->starter);
}

static void on_start(struct ev_loop *loop, ev_timer *watcher, int events)
{
	struct traffic_client *client = watcher->data;
	struct requests *requests = client->state;

	for (unsigned i = 0; i < requests->count && requests->started < client->options->requests; i++)
		if (requests->slots[i].state == TRAFFIC_FLOW_ENDED)
			request_start(client, &requests->slots[i]);
}

static void on_ended(struct traffic_flow *flow)
{
	struct traffic_client *client = flow->owner;
	struct requests *requests = client->state;

	requests->ended++;
	client->ended_us = flow->ended_us;
	requests->received_bytes += flow->sink.bytes;
	if (flow->status != TRAFFIC_OK) {
		requests->failed++;
		traffic_client_log_failure(client, (uint64_t)(flow - requests->slots), flow->status, flow->error);
	} else {
		/* Room for all samples was made at the start. */
		traffic_samples_add(&requests->samples, flow->ended_us - flow->started_us);
	}
	traffic_flow_free(flow);
	flow->sink.bytes = 0;
	if (requests->ended == client->options->requests ||
	    (requests->stopping && requests->ended == requests->started))
		ev_break(client->loop, EVBREAK_ALL);
	else if (!requests->stopping)
		start_more(client);
}

static const struct traffic_flow_ops request_flow_ops = {.ended = on_ended};

static void request_start(struct traffic_client *client, struct traffic_flow *flow)
{
	const struct conf_stream *conf = client->options->conf;
	struct requests *requests = client->state;
	uint8_t greeting[TRAFFIC_HEADER_SIZE];
	struct traffic_header header = {
	        .mode = TRAFFIC_REQUEST,
	        .flags = TRAFFIC_HAS_BACK,
	        .flow = (uint32_t)requests->started++,
	        .seed = conf->seed,
	        .back_bytes = client->options->answer_bytes,
	};

	*flow = (struct traffic_flow){
	        .loop = client->loop,
	        .buffer = client->buffer,
	        .ops = &request_flow_ops,
	        .owner = client,
	        .plan = {.ends_at_eof = true, .complete_at_bytes = header.back_bytes},
	};
	traffic_sink_init(&flow->sink);
	flow->sink.pattern = traffic_pattern_make(conf->seed, header.flow, TRAFFIC_BACK);
	flow->sink.kind = conf->verify ? TRAFFIC_SINK_PATTERN : TRAFFIC_SINK_COUNT;
	traffic_header_encode(greeting, &header);
	traffic_flow_connect(flow, &conf->dest, greeting, sizeof greeting);
}

static int requests_start(struct traffic_client *client)
{
	const struct traffic_options *options = client->options;
	struct requests *requests = calloc(1, sizeof *requests);

	if (!requests)
		return -ENOMEM;
	client->state = requests;
	requests->count = (unsigned)(options->parallel < options->requests ? options->parallel : options->requests);
	requests->slots = calloc(requests->count, sizeof *requests->slots);
	requests->samples.us = calloc(options->requests, sizeof *requests->samples.us);
	requests->samples.capacity = options->requests;
	if (!requests->slots || !requests->samples.us)
		return -ENOMEM;
	for (unsigned i = 0; i < requests->count; i++)
		requests->slots[i].state = TRAFFIC_FLOW_ENDED;
	ev_init(&requests->starter, on_start);
	requests->starter.data = client;
	start_more(client);
	client->started_us = client->ended_us = traffic_now_us();
	return 0;
}

static void requests_stop(struct traffic_client *client, enum traffic_status status)
{
	struct requests *requests = client->state;

	requests->stopping = true;
	ev_timer_stop(client->loop, &requests->starter);
	for (unsigned i = 0; i < requests->count; i++)
		traffic_flow_abort(&requests->slots[i], status);
}

static void requests_bytes(const struct traffic_client *client, unsigned *flows, uint64_t *sent, uint64_t *received)
{
	const struct requests *requests = client->state;

	*flows = (unsigned)(requests->started - requests->ended);
	*sent = requests->started * TRAFFIC_HEADER_SIZE;
	*received = requests->received_bytes;
	for (unsigned i = 0; i < requests->count; i++)
		*received += requests->slots[i].sink.bytes;
}

static bool requests_report(struct traffic_client *client)
{
	const struct traffic_options *options = client->options;
	struct requests *requests = client->state;
	const struct traffic_samples *samples = &requests->samples;
	/* Those that were not even started, as the run was stopped, were not answered either. */
	uint64_t failures = options->requests - samples->count;
	double completion_ms = traffic_report_ms(client->started_us, client->ended_us);

	traffic_samples_sort(&requests->samples);
	if (options->json) {
		traffic_client_json_head(client, "request");
		printf("\"requests\":%" PRIu64 ",\"parallel\":%" PRIu64 ",\"answer_bytes\":%" PRIu64 ",\"answered\":%zu"
		       ",\"failures\":%" PRIu64 ",\"min_ms\":%.3f,\"p50_ms\":%.3f,\"p90_ms\":%.3f,\"p99_ms\":%.3f"
		       ",\"max_ms\":%.3f,\"completion_ms\":%.3f,\"status\":\"%s\"}\n",
		       options->requests, options->parallel, options->answer_bytes, samples->count, failures,
		       traffic_samples_ms(samples, 0), traffic_samples_ms(samples, 0.5),
		       traffic_samples_ms(samples, 0.9), traffic_samples_ms(samples, 0.99),
		       traffic_samples_ms(samples, 1), completion_ms, failures ? "failed" : "ok");
	} else {
		printf("requests: %zu answered, %" PRIu64 " failed, %" PRIu64 " at once, %" PRIu64
		       " bytes each, in %.3f ms\n"
		       "connect to complete answer: p50 %.3f ms, p90 %.3f ms, p99 %.3f ms, max %.3f ms\n",
		       samples->count, failures, options->parallel, options->answer_bytes, completion_ms,
		       traffic_samples_ms(samples, 0.5), traffic_samples_ms(samples, 0.9),
		       traffic_samples_ms(samples, 0.99), traffic_samples_ms(samples, 1));
	}
	return failures == 0;
}

static void requests_free(struct traffic_client *client)
{
	struct requests *requests = client->state;

	if (!requests)
		return;
	traffic_samples_free(&requests->samples);
	free(requests->slots);
	free(requests);
	client->state = NULL;
}

const struct traffic_client_ops traffic_request_ops = {
        .start = requests_start,
        .stop = requests_stop,
        .bytes = requests_bytes,
        .report = requests_report,
        .free = requests_free,
};
