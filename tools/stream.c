/* stream: the source of the lab. Sends, fetches, asks or types, and tells how it went. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "../common/io/log.h"
#include "../common/io/sock.h"
#include "traffic_client.h"

enum { EXIT_DONE = 0, EXIT_FAILED = 1 };

struct stream {
	struct traffic_client client;
	struct traffic_progress progress;
	ev_timer second, limit;
	ev_signal interrupt, terminate, gaps;
};

static void stream_stop(struct stream *stream, enum traffic_status status)
{
	stream->client.ops->stop(&stream->client, status);
	ev_break(stream->client.loop, EVBREAK_ALL);
}

static void on_signal(struct ev_loop *loop, ev_signal *watcher, int events)
{
	stream_stop(watcher->data, TRAFFIC_INTERRUPTED);
}

static void on_gaps(struct ev_loop *loop, ev_signal *watcher, int events)
{
	struct stream *stream = watcher->data;

	stream->client.buffer->gap_epoch++;
}

static void on_limit(struct ev_loop *loop, ev_timer *watcher, int events)
{
	stream_stop(watcher->data, TRAFFIC_TIMED_OUT);
}

static void on_second(struct ev_loop *loop, ev_timer *watcher, int events)
{
	struct stream *stream = watcher->data;
	uint64_t sent_bytes, received_bytes;
	unsigned flows;

	stream->client.ops->bytes(&stream->client, &flows, &sent_bytes, &received_bytes);
	traffic_progress_show(&stream->progress, traffic_now_us(), flows, sent_bytes, received_bytes);
}

static void stream_watch(struct stream *stream)
{
	const struct traffic_options *options = stream->client.options;
	struct ev_loop *loop = stream->client.loop;

	ev_signal_init(&stream->interrupt, on_signal, SIGINT);
	ev_signal_init(&stream->terminate, on_signal, SIGTERM);
	ev_signal_init(&stream->gaps, on_gaps, SIGUSR1);
	ev_timer_init(&stream->limit, on_limit, (double)options->timeout_s, 0.);
	ev_timer_init(&stream->second, on_second, 1., 1.);
	stream->interrupt.data = stream->terminate.data = stream->limit.data = stream->second.data = stream->gaps.data =
	        stream;
	ev_signal_start(loop, &stream->gaps);
	ev_signal_start(loop, &stream->interrupt);
	ev_signal_start(loop, &stream->terminate);
	if (options->timeout_s)
		ev_timer_start(loop, &stream->limit);
	traffic_progress_init(&stream->progress, options->quiet, traffic_now_us());
	if (stream->progress.shown)
		ev_timer_start(loop, &stream->second);
}

static const struct traffic_client_ops *choose_ops(const struct traffic_options *options)
{
	if (options->echo)
		return &traffic_echo_ops;
	return options->requests ? &traffic_request_ops : &traffic_transfer_ops;
}

static int stream_run(struct stream *stream)
{
	struct traffic_client *client = &stream->client;
	int error = client->ops->start(client);

	if (error == -ENOMEM)
		log_event(LOG_LEVEL_ERROR, "start_failed", "error=\"%s\"", strerror(ENOMEM));
	if (error)
		return EXIT_FAILED;
	stream_watch(stream);
	ev_run(client->loop, 0);
	traffic_progress_clear(&stream->progress);
	return client->ops->report(client) ? EXIT_DONE : EXIT_FAILED;
}

int main(int argc, char **argv)
{
	struct traffic_options options;
	struct conf *conf;
	struct stream stream = {.client = {.options = &options}};
	int result = EXIT_FAILED;

	traffic_options_load(&options, &conf, argc, argv);
	signal(SIGPIPE, SIG_IGN);
	sock_raise_limit();
	stream.client.ops = choose_ops(&options);
	stream.client.loop = ev_default_loop(0);
	stream.client.buffer = calloc(1, sizeof *stream.client.buffer);
	if (stream.client.loop && stream.client.buffer) {
		result = stream_run(&stream);
		stream.client.ops->free(&stream.client);
	}
	free(stream.client.buffer);
	conf_free(conf);
	return result;
}
