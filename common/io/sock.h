/* sock: options that the sockets of both daemons share, and what TCP knows of one.
 *
 * Functions return 0 or a negative errno unless they say otherwise. None of them logs.
 */
#ifndef PAIR_IO_SOCK_H
#define PAIR_IO_SOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "../core/addr.h"

int sock_set(int fd, int level, int option, int value);

/* TCP_CONGESTION; "" leaves the kernel's default. -ENOENT: the kernel does not know it; -EPERM: not allowed here. */
int sock_set_congestion(int fd, const char *name);

/* Whether TCP_CONGESTION takes that name without CAP_NET_ADMIN. */
bool sock_congestion_is_free(const char *name);
/* Whether that is so of all that the kernel has. */
bool sock_congestions_are_free(void);

/* A stripe: never delayed, given up by the kernel within SOCK_STRIPE_TIMEOUT_MS of silence, in use or idle, and tried
 * at least every two seconds until then (where the kernel can, from Linux 6.15 on). Meant for sockets before connect or
 * after accept. */
enum { SOCK_STRIPE_TIMEOUT_MS = 10000 };
void sock_prepare_stripe(int fd);

/* However this process ends, whoever is connected to the socket sees a reset and never a clean end that was not one. A
 * listener's hold for what it accepts. */
void sock_arm(int fd);
/* An application's socket: never delayed, kept alive, and armed. sock_disarm comes before an orderly close. */
void sock_prepare_app(int fd);
/* It is half-closed now: conntrack forgets such a connection, and with it the destination that was captured, after 60 s
 * without a packet (nf_conntrack_tcp_timeout_close_wait). From now on there is one more often. */
void sock_keep_half_closed(int fd);
void sock_disarm(int fd);

/* Closes with RST. */
void sock_reset(int fd);

/* SO_ERROR as a positive errno, or 0. Reading it clears it. */
int sock_error(int fd);

/* getsockname; ADDR_NONE where that fails. */
struct addr sock_local(int fd);

/* Whether what is sent to the address, whatever its port, stays on this machine, or goes to nobody in particular
 * (broadcast, multicast): by the routes as they are now. */
bool sock_is_local(const struct addr *addr);

/* Raises RLIMIT_NOFILE as far as it goes (at most 1048576) and returns what it is then. */
uint64_t sock_raise_limit(void);

/* Whether so many more descriptors could be opened now; of more than 64 it looks for 64. */
bool sock_files_left(unsigned count);

#endif
