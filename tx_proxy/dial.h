/* dial: one stripe of one path, connected or on its way to be. The dialler has all of them.
 *
 * An attempt: connect from the path's address, device and mark with its congestion control; prove the key, where there
 * is one; become a stripe of the session; be welcome. What fails is tried again after a pause that grows from 100 ms to
 * 5 s (1 s for the first stripe of a path: the others follow it), each with a random part so that stripes and proxies
 * do not return all at once. A stripe that was welcome pays back: its pause is halved for each half second that it
 * lived. So a path that comes and goes is dialled quickly when it is well, and who closes soon after WELCOME is left
 * alone as one who refuses. A far end that answers, but not as rx_proxy does, will hardly change soon: there the pauses
 * grow to 30 s (5 s for the first stripe).
 *
 * What fails is told once for each path and reason, then once a minute (failures.h); each time with log-level debug.
 *
 * While this machine lacks what the path is bound to (struct dial_path), a failed attempt is followed by one in 10 to
 * 20 s, and one line in the log tells what is waited for: the dialler learns from netlink when it is there.
 */
#ifndef TX_PROXY_DIAL_H
#define TX_PROXY_DIAL_H

#include "../common/io/conf.h"
#include "../common/io/link_table.h"
#include "../common/io/runner.h"
#include "../common/io/transport.h"
#include "failures.h"

/* What all dials of a dialler share. */
struct dial_env {
	struct runner *runner;
	struct session *session;
	struct transport_security *security; /* NULL: plain */
	const struct link_table *links;      /* NULL: not known, nothing is ever lacking */
};

/* What a path may want, besides those of enum link_lack. */
enum { DIAL_LACKS_ROUTE = LINK_LACKS_ADDRESS + 1 };

struct dial_path {
	const struct conf_path *conf;
	unsigned index;
	unsigned lack;            /* as of the last news from netlink */
	unsigned waits_for;       /* an attempt failed for want of this, and the log says so; 0: none did */
	uint64_t news;            /* link_table_news of then */
	bool routed;              /* a route to its remote was added since */
	uint64_t nudges_us;       /* the dialler's: when the next nudge would come, if none came too soon */
	uint64_t nudge_us;        /* the last nudge is made then, or was */
	struct failures failures; /* since a stripe was welcome */
};

enum dial_state {
	DIAL_PAUSED,     /* the timer runs until the next attempt */
	DIAL_CONNECTING, /* the timer bounds connect */
	DIAL_SECURING,   /* the timer bounds the handshake of TLS */
	DIAL_HANDSHAKE,  /* a stripe of the session; the timer bounds the wait for WELCOME */
	DIAL_UP          /* the other side has welcomed it; no timer */
};

struct dial {
	const struct dial_env *env;
	struct dial_path *path;
	unsigned index;
	enum dial_state state;

	/* private */
	unsigned pause_ms;   /* before the next attempt, without its random part */
	bool at_once;        /* no pause when it has closed */
	bool wrong;          /* what answered the attempt was no rx_proxy for us */
	uint64_t dialled_us; /* when the last attempt began */
	uint64_t up_us;      /* when that one was welcome; 0: it was not */
	/* From DIAL_CONNECTING on: what the socket uses, as far as the link table knew it at the last look. */
	struct addr local;
	bool carried;    /* this address was usable on an interface that was up */
	unsigned device; /* the path's interface, if it was up; else 0 */
	ev_timer timer;
	ev_io connecting;           /* .fd: the socket in DIAL_CONNECTING and DIAL_SECURING */
	struct transport transport; /* in DIAL_SECURING */
	struct stripe_io *io;       /* in DIAL_HANDSHAKE and DIAL_UP */
};

/* Makes the first attempt. `env` and `path` must outlive it. */
void dial_start(struct dial *dial, const struct dial_env *env, struct dial_path *path, unsigned index);
/* Closes whatever it has; the session must have been freed before. */
void dial_stop(struct dial *dial);

/* The dial whose stripe this is. */
struct dial *dial_of(const struct stripe *stripe);
/* WELCOME has come. */
void dial_welcome(struct dial *dial);

/* The next attempt is made now; a `fresh` one is followed by short pauses again. Only in DIAL_PAUSED. */
void dial_again(struct dial *dial, bool fresh);
/* The next attempt is made in `wait_us`, or before that if its pause is over. Only in DIAL_PAUSED. */
void dial_within(struct dial *dial, uint64_t wait_us);
/* Ends the attempt, or the stripe with a line in the log; the next attempt, a fresh one, is made now. Not in
 * DIAL_PAUSED. */
void dial_give_up(struct dial *dial, const char *reason);
/* After news from netlink: why what the dial uses is gone since the last look, a static text; NULL: it is not. What the
 * table never had (as with ip_nonlocal_bind) cannot go. */
const char *dial_gone(struct dial *dial);

struct link_want dial_path_wants(const struct dial_path *path);

#endif
