/* app_io: one application's socket ↔ one flow. Both daemons use it the same way: tx_proxy for the client's captured
 * connection, rx_proxy for the one to the destination.
 *
 * Bytes go straight between the socket and the flow's pages. The socket is read while the flow gives room and written
 * while the flow has bytes; each wakeup moves a bounded number of bytes, so that one socket does not keep the others
 * waiting. An end is passed on as an end (half-close), a failure as a reset, and never the one as the other: the socket
 * is armed to be reset (sock.h) until both directions have ended in order.
 *
 * The owner embeds struct app_io in its own struct for a connection and gets that back in app_set.ended, once, when the
 * wakeup is over: by then the socket is closed and the flow is nobody's. Until app_io_start and after `ended` the
 * flow's callbacks are the owner's affair; in between it passes them on to the functions here.
 */
#ifndef PAIR_IO_APP_IO_H
#define PAIR_IO_APP_IO_H

#include "runner.h"

struct app_io;

/* What all application sockets of one process share. */
struct app_set {
	struct runner *runner;
	void (*ended)(struct app_io *app);
	unsigned count; /* sockets open */

	/* private */
	struct app_io *quiet; /* sockets that the loop does not watch: looked at once a second */
	ev_timer quiet_timer;
};

struct app_io {
	ev_io watcher; /* .fd: the socket */
	struct app_set *set;
	struct flow *flow; /* NULL: over */

	/* private */
	struct app_io *quiet_next, *quiet_prev;
	struct runner_later later;
	uint32_t read_bytes;  /* how much the next read asks for */
	bool in_blocked : 1;  /* the flow had no room: flow_writable comes */
	bool in_ended : 1;    /* the application has ended its direction */
	bool end_waits : 1;   /* it is known to have done so, but that is still to be read */
	bool out_blocked : 1; /* the socket takes no more now */
	bool out_ended : 1;   /* the far end's end was passed on */
	bool is_quiet : 1;    /* in the set's list */
};

void app_set_init(struct app_set *set, struct runner *runner, void (*ended)(struct app_io *app));
/* All sockets must be closed. */
void app_set_fini(struct app_set *set);

/* Takes the connected `fd` and the flow, and moves what is there already. May be called from a session's callback. */
void app_io_start(struct app_io *app, struct app_set *set, int fd, struct flow *flow);

/* The session's callbacks for this flow. */
void app_io_readable(struct app_io *app);
void app_io_writable(struct app_io *app);
void app_io_flow_ended(struct app_io *app, enum reset_reason reason);

/* Whether the application has nothing more to say or to hear: both directions have ended, in order or not. The flow may
 * still be on its way. */
bool app_io_is_over(const struct app_io *app);

/* Gives the connection up: the flow and the socket are reset. */
void app_io_abort(struct app_io *app, enum reset_reason reason);

#endif
