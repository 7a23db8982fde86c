/* capture: clients' connections: what is done with each SYN, with each accepted socket, and with the session's answers.
 *
 * capture.open = "confirm": a SYN is held while rx_proxy connects to its destination. Connected: the SYN is let go to
 * us, and the accepted socket is joined with the flow. Refused: the client is refused. Anything else, or no answer in
 * time: the SYN is let go to its destination as if nothing were installed, and the client sees for itself. capture.open
 * = "early": the SYN is let go to us at once, and the flow is opened when the connection is accepted; what the
 * destination answers then is a reset if it is not "connected". Connections that are accepted without a SYN known here
 * (it came before a restart, or with method "none") are opened early in either mode.
 *
 * Whatever cannot be served goes direct while it is only a SYN: the session is down, a limit is reached, descriptors
 * are scarce, the destination is on the bypass list or is a path's remote.
 */
#ifndef TX_PROXY_CAPTURE_H
#define TX_PROXY_CAPTURE_H

#include "../common/io/conf.h"
#include "conn.h"
#include "intercept.h"

struct capture {
	struct intercept *intercept; /* set by main; NULL: no SYNs come, and none is waiting for a verdict */
	struct session *session;     /* set by main before the loop runs */
	struct app_set apps;

	/* private */
	struct runner *runner;
	const struct conf_tx *conf;
	struct conn_table table;
	struct conn_list held;     /* CONN_HELD */
	struct conn_list captured; /* CONN_CAPTURED, CONN_DOOMED */
	struct conn_list replaced; /* CONN_OPEN, no longer in the table: another one has their addresses */
	uint64_t conns_max;        /* as descriptors allow */
	ev_timer sweep;
	bool stopped;
};

/* `conf` must outlive it; `files_max` descriptors may be open in this process. 0, or as conn_table_init. */
int capture_init(struct capture *capture, struct runner *runner, const struct conf_tx *conf, uint64_t files_max);
/* After capture_abort. */
void capture_fini(struct capture *capture);

/* For intercept and listener; `user` is the struct capture. */
void capture_on_syn(void *user, const struct syn *syn, uint32_t packet_id);
void capture_on_accept(void *user, int fd, const struct addr *remote);

/* For struct session_ops. */
void capture_flow_result(void *user, struct flow *flow, enum open_status status);
void capture_flow_readable(void *user, struct flow *flow);
void capture_flow_writable(void *user, struct flow *flow);
void capture_flow_ended(void *user, struct flow *flow, enum reset_reason reason);

/* Takes nothing new: closes the queue, so that what is held and what comes goes direct. */
void capture_stop(struct capture *capture);
/* Whether connections are left. */
bool capture_busy(const struct capture *capture);
/* Resets every connection that is left. */
void capture_abort(struct capture *capture);

#endif
