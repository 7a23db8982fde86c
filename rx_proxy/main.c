/* rx_proxy: takes the flows of tx_proxies and connects them to their destinations. This file only wires:
 * configuration → listening socket → fewer privileges → engine → loop → ready. */
#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>

#include "../common/io/cmdline.h"
#include "../common/io/daemon.h"
#include "../common/io/listener.h"
#include "../common/io/log.h"
#include "../common/io/privs.h"
#include "../common/io/sock.h"
#include "../common/io/sockaddr.h"
#include "acceptor.h"

struct rx_proxy {
	const struct conf_rx *conf;
	struct daemon daemon;
	struct runner runner;
	struct transport_security *security; /* NULL: none */
	struct listener listener;
	struct acceptor acceptor;
	struct sessions sessions;
	struct connector connector;
};

static void on_stop(void *user)
{
	struct rx_proxy *rx = user;

	listener_close(&rx->listener);
	sessions_stop(&rx->sessions);
}

static bool is_busy(void *user)
{
	struct rx_proxy *rx = user;

	return rx->connector.count > 0 || sessions_busy(&rx->sessions);
}

static void on_stats(void *user)
{
	struct rx_proxy *rx = user;

	sessions_log_stats(&rx->sessions);
}

static const struct daemon_ops daemon_ops = {.stop = on_stop, .busy = is_busy, .stats = on_stats};

/* What is needed after the start. */
static uint64_t capabilities(const struct conf_rx *conf)
{
	uint64_t caps = 0;

	/* Without a name of our own each stripe gets what its HELLO wishes, which may be one that not everybody may
	 * choose. */
	if (!conf->congestion[0] && !sock_congestions_are_free())
		caps |= PRIVS_CAP(CAP_NET_ADMIN);
	/* To connect from a client's address. */
	if (conf->source == CONF_SOURCE_CLIENT)
		caps |= PRIVS_CAP(CAP_NET_RAW);
	return caps;
}

/* Stripes inherit it from the listening socket, so nobody needs a capability for it later. */
static void set_congestion(const struct rx_proxy *rx)
{
	const char *name = rx->conf->congestion;
	int err = sock_set_congestion(rx->listener.watcher.fd, name);
	char value[64], why[128];

	if (err)
		log_event(LOG_LEVEL_WARN, "congestion_refused", "congestion=%s error=%s",
		          log_value(value, sizeof value, name), log_value(why, sizeof why, strerror(-err)));
}

/* The far ends are told of every flow that does not end by itself. */
static void finish(struct rx_proxy *rx)
{
	listener_close(&rx->listener);
	acceptor_fini(&rx->acceptor);
	connector_abort(&rx->connector);
	daemon_linger(&rx->daemon);
	runner_round(&rx->runner);
	sessions_fini(&rx->sessions);
	connector_fini(&rx->connector);
	runner_fini(&rx->runner);
	daemon_fini(&rx->daemon);
	transport_security_free(rx->security);
}

/* While the key files may still be read. */
static void read_keys(struct rx_proxy *rx)
{
	char error[TRANSPORT_ERROR_MAX];

	if (rx->conf->security != CONF_SECURITY_PSK)
		return;
	privs_hide_memory();
	rx->security = transport_security_server(rx->conf->keys, rx->conf->key_count, error);
	if (!rx->security)
		daemon_die(2, "%s", error);
}

static void run(struct rx_proxy *rx)
{
	int err = daemon_init(&rx->daemon, &daemon_ops, rx);

	if (!err)
		err = runner_init(&rx->runner, rx->daemon.loop);
	if (err)
		daemon_die(1, "cannot start: %s", strerror(-err));
	read_keys(rx);
	err = listener_open(&rx->listener, rx->daemon.loop, rx->conf->recv_port, false, acceptor_on_accept,
	                    &rx->acceptor);
	if (err)
		daemon_die(1, "recv_port %u: %s", rx->conf->recv_port, strerror(-err));
	set_congestion(rx);
	err = privs_drop(capabilities(rx->conf));
	if (err)
		daemon_die(1, "cannot drop privileges: %s", strerror(-err));
	connector_init(&rx->connector, &rx->runner, rx->conf, rx->daemon.files_max);
	sessions_init(&rx->sessions, &rx->runner, rx->conf, &rx->connector);
	acceptor_init(&rx->acceptor, &rx->runner, rx->conf, rx->security, &rx->sessions);
	daemon_serve(&rx->daemon, "recv_port=%u", rx->conf->recv_port);
	finish(rx);
}

/* NULL, or why this configuration must not be run: nobody shall get an open relay without having asked for it. The
 * original project's files say nothing of security, and have a fixed destination: they run. */
static const char *objection(const struct conf *conf)
{
	const struct conf_rx *rx = &conf->rx;

	if (rx->security == CONF_SECURITY_NONE && !rx->accept_from.count)
		return "security.mode \"none\" needs accept_from = ( \"ADDRESS/32\" ); with the addresses of the "
		       "tx_proxies: whoever reaches recv_port could use this machine";
	if (rx->security == CONF_SECURITY_UNSET && rx->fixed_dest.family == ADDR_NONE)
		return "whoever reaches recv_port could connect to anywhere through this machine; write security = "
		       "{ mode = \"psk\"; keys = ( … ); }; or { mode = \"none\"; accept_from = ( \"ADDRESS/32\" ); }; "
		       "with the addresses of the tx_proxies";
	return NULL;
}

int main(int argc, char **argv)
{
	static struct rx_proxy rx;
	const struct cmdline cmdline = {
	        .program = "rx_proxy",
	        .summary = "Takes the flows of tx_proxies and connects them to their destinations.",
	        .objection = objection};
	struct conf *conf = cmdline_load(&cmdline, argc, argv, CONF_RX_PROXY, NULL, 0);
	const char *why = objection(conf);
	char text[SOCKADDR_TEXT_MAX];

	if (why)
		daemon_die(2, "%s", why);
	rx.conf = &conf->rx;
	if (rx.conf->security == CONF_SECURITY_UNSET)
		log_event(LOG_LEVEL_WARN, "open_to_all", "recv_port=%u dst=%s", rx.conf->recv_port,
		          sockaddr_text(text, &rx.conf->fixed_dest));
	run(&rx);
	conf_free(conf);
	return 0;
}
