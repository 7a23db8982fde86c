/* stripe_io: the socket of one stripe: bytes in to the session, frames out of it, and what TCP_INFO says.
 *
 * Made by the dialler (tx_proxy) or the acceptor (rx_proxy) around a transport whose handshake is over, which it owns
 * from then on. A stripe that fails, ends, or breaks the protocol is closed here: the session is told
 * (session_stripe_lost), a line is logged, and the owner's `closed` is called when the wakeup is over; the stripe_io is
 * gone after that call.
 *
 * The kernel is given little more than it can send at once (TCP_NOTSENT_LOWAT, kept at some ms of the measured rate),
 * since what it has been given cannot go to another stripe any more. "Room" is what is left of that mark.
 * While a stripe has less room than half of the mark, or output waits, the loop watches for writability, which the
 * kernel reports when less than half of the mark is unsent (__sk_stream_memory_free).
 */
#ifndef PAIR_IO_STRIPE_IO_H
#define PAIR_IO_STRIPE_IO_H

#include "runner.h"
#include "transport.h"

struct stripe_io;

struct stripe_io_owner {
	/* `io` is valid during the call, its stripe is gone. */
	void (*closed)(void *user, struct stripe_io *io);
	/* NULL, or asked before a line tells why the stripe ends, while that is still there. True: nothing is logged,
	 * the owner tells it in its own way. `broken`: the far end does not keep to the protocol. */
	bool (*tells)(void *user, const struct stripe_io *io, const char *reason, bool broken);
};

struct stripe_io {
	ev_io watcher; /* .fd: the transport's socket */
	struct transport transport;
	struct runner *runner;
	struct stripe *stripe; /* NULL: closed */
	const struct stripe_io_owner *owner;
	void *user; /* the owner's */
	struct addr remote;
	const char *path_name; /* for the log; must outlive the stripe_io */
	uint16_t index;        /* for the log */

	/* private */
	struct stripe_info info;
	uint64_t info_us;
	uint64_t floor_us;   /* when info.floor_rtt_us was taken */
	uint64_t pacing_Bps; /* what the kernel would send, if it had it */
	uint32_t lowat_bytes;
	uint32_t room_bytes; /* as last reported */
	uint64_t written;    /* bytes given to the kernel since info_us */
	struct stripe_io *written_next;
	bool in_written;
	struct runner_later later;
};

/* Takes `*transport`. NULL when memory is short: then it is closed. */
struct stripe_io *stripe_io_new(struct runner *runner, const struct transport *transport, const struct addr *remote,
                                const char *path_name, const struct stripe_io_owner *owner, void *user);
/* The session has made its stripe, with the stripe_io as user; NULL: it could not, and the transport is closed, without
 * a call of `closed`. Frames may go out from now on. */
void stripe_io_start(struct stripe_io *io, struct stripe *stripe);
/* Bytes of the stripe that were read before it was one. Not from within a session's callback. */
void stripe_io_in(struct stripe_io *io, const uint8_t *bytes, size_t len);
/* Closes it as if it had failed. `reason` is a static text for the log. */
void stripe_io_close(struct stripe_io *io, const char *reason);
/* When all ends: the session has been freed already. Closes the socket without another word. */
void stripe_io_free(struct stripe_io *io);

/* For struct session_ops; `user` is not used. */
void stripe_io_output(void *user, struct stripe *stripe);
void stripe_io_measure(void *user, struct stripe *stripe);

/* For stats: who encrypts what a stripe sends: "none", "library" or "kernel". */
const char *stripe_io_tls(const struct stripe *stripe);

/* For runner: measures what this round has written to. Whether one of these stripes takes more. */
bool stripe_io_settle(struct runner *runner);

#endif
