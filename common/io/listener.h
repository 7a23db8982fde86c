/* listener: a listening TCP socket on every local address, IPv4 and IPv6 where the machine has both.
 *
 * Accepted sockets are non-blocking and close-on-exec and belong to the callback. Without a free descriptor a
 * connection is accepted with a spare one and reset at once, so that the client learns it and the loop does not spin;
 * after other failures accepting pauses for a moment.
 */
#ifndef PAIR_IO_LISTENER_H
#define PAIR_IO_LISTENER_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "../core/addr.h"

/* Of its watcher: new connections come last in a wakeup. */
enum { LISTENER_PRIORITY = EV_MINPRI };

struct listener {
	ev_io watcher; /* .fd: the socket; -1: closed */
	uint16_t port;

	/* private */
	struct ev_loop *loop;
	ev_timer pause;
	int spare_fd;
	void (*accepted)(void *user, int fd, const struct addr *remote);
	void *user;
};

/* `transparent`: for TPROXY, takes connections to foreign addresses (needs CAP_NET_RAW or CAP_NET_ADMIN). 0, or a
 * negative errno: -EADDRINUSE, -EACCES, -EPERM, … */
int listener_open(struct listener *listener, struct ev_loop *loop, uint16_t port, bool transparent,
                  void (*accepted)(void *user, int fd, const struct addr *remote), void *user);
/* Twice is harmless. */
void listener_close(struct listener *listener);

#endif
