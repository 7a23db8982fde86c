/* acceptor: new connections from tx_proxies, until their HELLO is here.
 *
 * Anybody can connect and say nothing, or something else. So what has not said HELLO costs little, has 5 s, and there may
 * be ACCEPTOR_PENDING_MAX of it, ACCEPTOR_ADDRESS_MAX from one address; what exceeds that or says
 * anything else first is closed with a line in the log.
 */
#ifndef RX_PROXY_ACCEPTOR_H
#define RX_PROXY_ACCEPTOR_H

#include "sessions.h"

enum { ACCEPTOR_PENDING_MAX = 256, ACCEPTOR_ADDRESS_MAX = 64 };

struct pending;

struct acceptor {
	struct runner *runner;
	struct sessions *sessions;
	const struct conf_rx *conf;
	struct pending *first, *last; /* oldest first */
	unsigned count;
	ev_timer sweep;
};

/* `conf` and `sessions` must outlive it. */
void acceptor_init(struct acceptor *acceptor, struct runner *runner, const struct conf_rx *conf,
                   struct sessions *sessions);
void acceptor_fini(struct acceptor *acceptor);

/* For listener; `user` is the struct acceptor. */
void acceptor_on_accept(void *user, int fd, const struct addr *remote);

#endif
