/* acceptor: new connections from tx_proxies, until their HELLO is here.
 *
 * With keys the handshake of TLS comes first, and its state is made when the first byte is here. Anybody can connect
 * and say nothing, or something else. So what has not said HELLO costs little, has 5 s for all, and there may be
 * ACCEPTOR_PENDING_MAX of it, ACCEPTOR_ADDRESS_MAX from one address. One more takes the place of the one that has
 * waited longest (of its address, or of all) if that has been so for ACCEPTOR_YIELD_US, and is refused else: silent
 * connections do not keep a tx_proxy out. What is refused, gives way, or says anything else first is closed with a line
 * in the log, limited in rate.
 */
#ifndef RX_PROXY_ACCEPTOR_H
#define RX_PROXY_ACCEPTOR_H

#include "../common/io/transport.h"
#include "sessions.h"

enum { ACCEPTOR_PENDING_MAX = 256, ACCEPTOR_ADDRESS_MAX = 64, ACCEPTOR_YIELD_US = 1000000 };

struct pending;

struct acceptor {
	struct runner *runner;
	struct sessions *sessions;
	const struct conf_rx *conf;
	struct transport_security *security; /* NULL: plain */
	struct pending *first, *last;        /* oldest first */
	unsigned count;
	ev_timer sweep;
};

/* `conf`, `security` (NULL: plain) and `sessions` must outlive it. */
void acceptor_init(struct acceptor *acceptor, struct runner *runner, const struct conf_rx *conf,
                   struct transport_security *security, struct sessions *sessions);
void acceptor_fini(struct acceptor *acceptor);

/* For listener; `user` is the struct acceptor. */
void acceptor_on_accept(void *user, int fd, const struct addr *remote);

#endif
