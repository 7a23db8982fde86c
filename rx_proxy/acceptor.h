/* acceptor: new connections from tx_proxies, until their HELLO is here.
 *
 * Anybody can connect and say nothing, or something else. So what has not said HELLO has 5 s for all; there may be
 * ACCEPTOR_PENDING_MAX of it, ACCEPTOR_ADDRESS_MAX from one address (of IPv6: from one network of 64 bits); and it
 * costs little: with keys the state of TLS is made when the whole ClientHello is here, and stays only if that shows a
 * key. When there are too many, of one address or of all, a new one takes the place of the oldest that has said nothing
 * (nor half of a ClientHello); if all have, of the oldest that has waited for ACCEPTOR_YIELD_US; if none has, it is
 * refused. A tx_proxy's first words come with its connection, so whoever is silent does not keep it out, at any rate.
 * What is refused, gives way, or says anything else first is closed with a line in the log, limited in rate: one limit
 * for the many that say nothing, another for the others, lest the former hide them.
 *
 * Nor do strangers hold up those who are in: at most ACCEPTOR_TURN handshakes begin in one wakeup, after all that
 * stripes and applications had to say.
 */
#ifndef RX_PROXY_ACCEPTOR_H
#define RX_PROXY_ACCEPTOR_H

#include "../common/io/transport.h"
#include "sessions.h"

enum { ACCEPTOR_PENDING_MAX = 256, ACCEPTOR_ADDRESS_MAX = 64, ACCEPTOR_YIELD_US = 1000000, ACCEPTOR_TURN = 8 };

struct pending;

struct acceptor {
	struct runner *runner;
	struct sessions *sessions;
	const struct conf_rx *conf;
	struct transport_security *security; /* NULL: plain */
	struct pending *first, *last;        /* oldest first */
	unsigned count;
	uint64_t turn_us; /* the wakeup in which turn_count handshakes have begun */
	unsigned turn_count;
	ev_timer sweep;
};

/* `conf`, `security` (NULL: plain) and `sessions` must outlive it. */
void acceptor_init(struct acceptor *acceptor, struct runner *runner, const struct conf_rx *conf,
                   struct transport_security *security, struct sessions *sessions);
void acceptor_fini(struct acceptor *acceptor);

/* For listener; `user` is the struct acceptor. */
void acceptor_on_accept(void *user, int fd, const struct addr *remote);

#endif
