/* sessions: the associations with tx_proxies: found by the id in HELLO, made when new, and freed when they are over.
 *
 * A session lives from its first stripe on, as long as a stripe or a flow of it does, and for some seconds more: a
 * tx_proxy whose stripes all fail at once finds it again. The engine ends the flows of one whose stripes stay away
 * (limits.session_timeout_ms). Each identity has one place that no other can take.
 */
#ifndef RX_PROXY_SESSIONS_H
#define RX_PROXY_SESSIONS_H

#include "../common/io/transport.h"
#include "connector.h"

struct rx_session;

struct sessions {
	unsigned count;

	/* private */
	struct runner *runner;
	const struct conf_rx *conf;
	struct connector *connector;
	struct rx_session *first;
	ev_timer sweep;
	bool stopped;
};

/* `conf` and `connector` must outlive it. */
void sessions_init(struct sessions *sessions, struct runner *runner, const struct conf_rx *conf,
                   struct connector *connector);
/* Frees all of them with their stripes. The connector must have been aborted, and nothing may be deferred in the
 * runner. */
void sessions_fini(struct sessions *sessions);

/* `hello` came on `*transport`, which is taken, and `rest` after it: joins the stripe to its session. A session belongs
 * to the identity that proved itself on its first stripe, and no other may join it. 0, or what the other side is to be
 * told (then the transport is still the caller's). */
enum welcome_status sessions_join(struct sessions *sessions, const struct hello *hello,
                                  const struct transport *transport, const struct addr *remote, const uint8_t *rest,
                                  size_t rest_len);

/* No new sessions and no new flows; every tx_proxy is told. */
void sessions_stop(struct sessions *sessions);
/* Whether some tx_proxy is there that has not yet heard of the end of all its flows. */
bool sessions_busy(const struct sessions *sessions);
/* event=stats lines of each. */
void sessions_log_stats(const struct sessions *sessions);

#endif
