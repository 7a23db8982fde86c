/* tx_proxy: captures clients' TCP connections and carries them to rx_proxy. This file only wires:
 * configuration → privileged sockets → fewer privileges → engine → loop → ready. */
#include <errno.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "../common/io/cmdline.h"
#include "../common/io/daemon.h"
#include "../common/io/link_watch.h"
#include "../common/io/listener.h"
#include "../common/io/log.h"
#include "../common/io/privs.h"
#include "../common/io/psk.h"
#include "../common/io/session_log.h"
#include "../common/io/sock.h"
#include "../common/io/stats.h"
#include "../common/io/stripe_io.h"
#include "../common/io/transport.h"
#include "capture.h"
#include "dialler.h"
#include "original.h"
#include "rules.h"

struct tx_proxy {
	const struct conf_tx *conf;
	struct daemon daemon;
	struct runner runner;
	struct capture capture;
	struct listener listener;
	struct session_config config;
	struct runner_session entry;
	struct transport_security *security; /* NULL: none */
	struct link_watch *links;            /* NULL: not to be had */
	struct dialler *dialler;
};

/* struct session_ops.user is the capture, to whom most of the callbacks go. */
static struct tx_proxy *proxy_of(void *user)
{
	return (struct tx_proxy *)((char *)user - offsetof(struct tx_proxy, capture));
}

static const char *path_name(void *user, unsigned path)
{
	const struct conf_tx *conf = user;

	return path < conf->path_count ? conf->paths[path].name : "?";
}

/* False: there are no random numbers. */
static bool choose_id(struct tx_proxy *tx)
{
	return getrandom(tx->config.id, sizeof tx->config.id, 0) == (ssize_t)sizeof tx->config.id;
}

static void on_event(void *user, const struct session_event_info *info)
{
	struct tx_proxy *tx = proxy_of(user);

	session_log_event(info, tx->config.id, path_name((void *)(uintptr_t)tx->conf, info->path));
	if (info->event == SESSION_LOST && choose_id(tx))
		session_renew(tx->entry.session, tx->config.id);
	dialler_note(tx->dialler, info);
}

static const struct session_ops session_ops = {
        .flow_result = capture_flow_result,
        .flow_readable = capture_flow_readable,
        .flow_writable = capture_flow_writable,
        .flow_ended = capture_flow_ended,
        .stripe_output = stripe_io_output,
        .stripe_measure = stripe_io_measure,
        .event = on_event,
};

static void on_stop(void *user)
{
	struct tx_proxy *tx = user;

	session_goaway(tx->entry.session, tx->runner.now_us);
	capture_stop(&tx->capture);
}

static bool is_busy(void *user)
{
	struct tx_proxy *tx = user;

	struct session_stats st;

	session_get_stats(tx->entry.session, &st);
	return capture_busy(&tx->capture) || (st.flows && st.stripes_up);
}

static void on_stats(void *user)
{
	struct tx_proxy *tx = user;
	const struct intercept *intercept = tx->capture.intercept;

	stats_log(tx->entry.session, tx->config.id, tx->capture.apps.count, path_name, (void *)(uintptr_t)tx->conf);
	if (!intercept)
		return;
	const struct intercept_stats *st = intercept_stats(intercept);
	log_event(LOG_LEVEL_INFO, "stats_intercept",
	          "syns=%" PRIu64 " direct=%" PRIu64 " captured=%" PRIu64 " refused=%" PRIu64 " dropped=%" PRIu64
	          " unparsed=%" PRIu64 " overruns=%" PRIu64,
	          st->syns, st->verdicts[INTERCEPT_DIRECT], st->verdicts[INTERCEPT_CAPTURE],
	          st->verdicts[INTERCEPT_REFUSE], st->verdicts[INTERCEPT_DROP], st->unparsed, st->overruns);
}

static const struct daemon_ops daemon_ops = {.stop = on_stop, .busy = is_busy, .stats = on_stats};

static void open_sockets(struct tx_proxy *tx)
{
	static const struct intercept_ops intercept_ops = {.on_syn = capture_on_syn};
	const struct conf_capture *conf = &tx->conf->capture;
	struct ev_loop *loop = tx->daemon.loop;
	int err = listener_open(&tx->listener, loop, tx->conf->local_port, conf->method == CONF_CAPTURE_TPROXY,
	                        capture_on_accept, &tx->capture);

	if (err)
		daemon_die(1, "local_port %u: %s", tx->conf->local_port, strerror(-err));
	original_keep_syn(tx->listener.watcher.fd);
	sock_arm(tx->listener.watcher.fd);
	if (conf->method == CONF_CAPTURE_NONE)
		return;
	err = intercept_open(&tx->capture.intercept, loop, (uint16_t)conf->queue, conf->mark, &intercept_ops,
	                     &tx->capture);
	if (err == -EPERM)
		daemon_die(1, "queue %u: not permitted; start tx_proxy as root or with CAP_NET_ADMIN and CAP_NET_RAW",
		           conf->queue);
	if (err)
		daemon_die(1, "queue %u: %s", conf->queue,
		           err == -EBUSY ? "another process has it; choose another capture.queue" : strerror(-err));
}

/* Without it all goes on: what comes back is found by dialling again and again, what goes by its silence. */
static void watch_links(struct tx_proxy *tx)
{
	int err = link_watch_open(&tx->links);

	if (err)
		log_event(LOG_LEVEL_WARN, "links_unwatched", "error=\"%s\"", strerror(-err));
}

static void start_session(struct tx_proxy *tx)
{
	const struct conf_limits *limits = &tx->conf->limits;

	tx->config = (struct session_config){
	        .role = SESSION_CLIENT,
	        .limits = {.flows = limits->flows,
	                   .flow_window_bytes = limits->flow_window_bytes,
	                   .memory_bytes = limits->memory_bytes,
	                   .timeout_us = (uint64_t)limits->session_timeout_ms * 1000},
	};
	if (!choose_id(tx))
		daemon_die(1, "no random numbers: %s", strerror(errno));
	tx->entry.session = session_new(&tx->config, &session_ops, &tx->capture, tx->runner.now_us);
	if (!tx->entry.session)
		daemon_die(1, "out of memory");
	tx->capture.session = tx->entry.session;
	runner_add(&tx->runner, &tx->entry);
	tx->dialler = dialler_new(&tx->runner, tx->entry.session, tx->conf, tx->security, tx->links);
	if (!tx->dialler)
		daemon_die(1, "out of memory");
}

/* The far end is told of every flow that does not end by itself. */
static void finish(struct tx_proxy *tx)
{
	capture_abort(&tx->capture);
	daemon_linger(&tx->daemon);
	runner_round(&tx->runner);
	runner_remove(&tx->runner, &tx->entry);
	session_free(tx->entry.session);
	dialler_free(tx->dialler);
	link_watch_close(tx->links);
	listener_close(&tx->listener);
	intercept_close(tx->capture.intercept);
	capture_fini(&tx->capture);
	runner_fini(&tx->runner);
	daemon_fini(&tx->daemon);
	transport_security_free(tx->security);
}

/* While the key file may still be read. */
static void read_key(struct tx_proxy *tx)
{
	char error[TRANSPORT_ERROR_MAX];

	if (tx->conf->security != CONF_SECURITY_PSK)
		return;
	privs_hide_memory();
	tx->security = transport_security_client(&tx->conf->key, error);
	if (!tx->security)
		daemon_die(2, "%s", error);
}

/* What is needed after the start. A path's interface is none of it: whoever wants may bind a socket that is not bound
 * yet, and a socket that came through the listening one is as transparent as that. */
static uint64_t capabilities(const struct conf_tx *conf)
{
	uint64_t caps = 0;

	/* As long as there are verdicts. */
	if (conf->capture.method != CONF_CAPTURE_NONE)
		caps |= PRIVS_CAP(CAP_NET_ADMIN);
	for (size_t i = 0; i < conf->path_count; i++) {
		const struct conf_path *path = &conf->paths[i];
		if (path->congestion[0] && !sock_congestion_is_free(path->congestion))
			caps |= PRIVS_CAP(CAP_NET_ADMIN);
		if (path->mark)
			caps |= PRIVS_CAP(CAP_NET_RAW);
	}
	/* The greater of the two lets marks be set as well. */
	return caps & PRIVS_CAP(CAP_NET_ADMIN) ? PRIVS_CAP(CAP_NET_ADMIN) : caps;
}

static void run(struct tx_proxy *tx)
{
	int err = daemon_init(&tx->daemon, &daemon_ops, tx);

	if (!err)
		err = runner_init(&tx->runner, tx->daemon.loop);
	if (!err)
		err = capture_init(&tx->capture, &tx->runner, tx->conf, tx->daemon.files_max);
	if (err)
		daemon_die(1, "cannot start: %s", strerror(-err));
	read_key(tx);
	open_sockets(tx);
	watch_links(tx);
	err = privs_drop(capabilities(tx->conf));
	if (err)
		daemon_die(1, "cannot drop privileges: %s", strerror(-err));
	start_session(tx);
	daemon_serve(&tx->daemon, "local_port=%u queue=%d paths=%zu", tx->conf->local_port,
	             tx->capture.intercept ? (int)tx->conf->capture.queue : -1, tx->conf->path_count);
	finish(tx);
}

/* --rules=up|down|print: the netfilter rules, and nothing else. The exit code. */
static int do_rules(const char *what, const struct conf_tx *conf)
{
	int err;

	if (strcmp(what, "print") == 0) {
		err = rules_print(stdout, conf, true);
	} else if (strcmp(what, "up") == 0 || strcmp(what, "down") == 0) {
		err = rules_apply(conf, what[0] == 'u');
	} else {
		fprintf(stderr, "tx_proxy: --rules=%s: expected up, down or print\n", what);
		return 2;
	}
	if (err)
		fprintf(stderr, "tx_proxy: --rules=%s: %s\n", what, strerror(-err));
	return err ? 1 : 0;
}

static int make_key(const char *program, const char *name)
{
	int err = psk_make(name);

	if (!err)
		return 0;
	fprintf(stderr, "%s: %s: %s\n", program, name,
	        err == -EEXIST ? "is there already, and stays as it is" : strerror(-err));
	return 1;
}

int main(int argc, char **argv)
{
	static struct tx_proxy tx;
	const char *rules = NULL;
	const struct cmdline cmdline = {
	        .program = "tx_proxy",
	        .summary = "Captures TCP connections and carries them to rx_proxy over all paths."};
	const struct cmdline_switch switches[] = {
	        {.name = "rules",
	         .value_name = "up|down|print",
	         .help = "put the netfilter rules up or take them down, or print them; then exit",
	         .value = &rules},
	        {.name = "make-key",
	         .value_name = "FILE",
	         .help = "write a new key for security.mode \"psk\" into a file of mode 600 that is not there yet; "
	                 "then exit",
	         .act = make_key},
	};
	struct conf *conf = cmdline_load(&cmdline, argc, argv, CONF_TX_PROXY, switches, 2);
	int status = 0;

	tx.conf = &conf->tx;
	if (rules)
		status = do_rules(rules, tx.conf);
	else
		run(&tx);
	conf_free(conf);
	return status;
}
