/* receive: the sink of the lab. Takes what stream sends (or anybody), checks it, and tells how it went. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "../common/io/cmdline.h"
#include "../common/io/log.h"
#include "../common/io/sock.h"
#include "traffic_serve.h"

enum { EXIT_DONE = 0, EXIT_FAILED = 1 };

static bool json, quiet;

static const struct cmdline cmdline = {
        .program = "receive",
        .summary = "Takes the flows of stream, or any connection, checks them and reports each.",
};

static const struct cmdline_switch switches[] = {
        {.name = "json", .help = "one JSON object per flow on standard output", .flag = &json},
        {.name = "quiet", .help = "neither lines per flow nor progress on standard error", .flag = &quiet},
};

struct receive {
	struct traffic_server server;
	struct traffic_progress progress;
	ev_timer second;
	ev_signal interrupt, terminate, gaps;
};

static void on_done(struct traffic_server *server)
{
	ev_break(server->loop, EVBREAK_ALL);
}

static void on_signal(struct ev_loop *loop, ev_signal *watcher, int events)
{
	ev_break(loop, EVBREAK_ALL);
}

static void on_gaps(struct ev_loop *loop, ev_signal *watcher, int events)
{
	struct receive *receive = watcher->data;

	receive->server.buffer->gap_epoch++;
}

static void on_second(struct ev_loop *loop, ev_timer *watcher, int events)
{
	struct receive *receive = watcher->data;
	uint64_t received_bytes, sent_bytes;

	traffic_serve_bytes(&receive->server, &received_bytes, &sent_bytes);
	traffic_progress_show(&receive->progress, traffic_now_us(), receive->server.live, sent_bytes, received_bytes);
}

static void receive_watch(struct receive *receive, struct ev_loop *loop)
{
	ev_signal_init(&receive->interrupt, on_signal, SIGINT);
	ev_signal_init(&receive->terminate, on_signal, SIGTERM);
	ev_signal_init(&receive->gaps, on_gaps, SIGUSR1);
	receive->gaps.data = receive;
	ev_signal_start(loop, &receive->gaps);
	ev_signal_start(loop, &receive->interrupt);
	ev_signal_start(loop, &receive->terminate);
	traffic_progress_init(&receive->progress, quiet, traffic_now_us());
	ev_timer_init(&receive->second, on_second, 1., 1.);
	receive->second.data = receive;
	if (receive->progress.shown)
		ev_timer_start(loop, &receive->second);
}

/* NULL and *failed where the configured file cannot be opened. */
static FILE *open_log(const char *name, bool *failed)
{
	FILE *log = name[0] ? fopen(name, "ae") : NULL;

	*failed = name[0] && !log;
	if (*failed)
		log_event(LOG_LEVEL_ERROR, "log_failed", "file=%s error=\"%s\"", name, strerror(errno));
	return log;
}

static int receive_run(struct ev_loop *loop, const struct conf_dest *conf, FILE *log)
{
	struct receive receive = {
	        .server = {.loop = loop, .conf = conf, .json = json, .quiet = quiet, .log = log, .done = on_done},
	};
	int error = traffic_serve_start(&receive.server);

	if (error) {
		log_event(LOG_LEVEL_ERROR, "listen_failed", "port=%u error=\"%s\"", conf->recv_port, strerror(-error));
		return EXIT_FAILED;
	}
	receive_watch(&receive, loop);
	log_event(LOG_LEVEL_INFO, "ready", "port=%u", conf->recv_port);
	ev_run(loop, 0);
	traffic_progress_clear(&receive.progress);
	traffic_serve_stop(&receive.server);
	traffic_serve_summary(&receive.server);
	return receive.server.failed ? EXIT_FAILED : EXIT_DONE;
}

int main(int argc, char **argv)
{
	struct conf *conf = cmdline_load(&cmdline, argc, argv, CONF_DEST, switches, sizeof switches / sizeof *switches);
	struct ev_loop *loop = ev_default_loop(0);
	bool log_failed;
	FILE *log = open_log(conf->dest.log, &log_failed);
	int result = EXIT_FAILED;

	signal(SIGPIPE, SIG_IGN);
	sock_raise_limit();
	if (!log_failed && loop)
		result = receive_run(loop, &conf->dest, log);
	if (log)
		fclose(log);
	conf_free(conf);
	return result;
}
