/* traffic_socket: the sockets of stream and receive. All non-blocking, close-on-exec, TCP_NODELAY. */
#ifndef PAIR_TOOLS_TRAFFIC_SOCKET_H
#define PAIR_TOOLS_TRAFFIC_SOCKET_H

#include "../common/core/addr.h"

/* A socket that is connecting to `remote`, or a negative errno. */
int traffic_socket_connect(const struct addr *remote);

/* The outcome when a connecting socket has become writable: 0 or a negative errno. */
int traffic_socket_connect_result(int fd);

/* Listens on `port` of every address, IPv6 and IPv4 (IPv4 alone where there is no IPv6), or a negative errno. */
int traffic_socket_listen(uint16_t port);

/* The next connection and where it comes from; -EAGAIN: none waits; other negative errno as accept4(2). */
int traffic_socket_accept(int listener, struct addr *remote);

/* Closes with a reset instead of a FIN. */
void traffic_socket_reset(int fd);

/* As many descriptors as the hard limit allows. */
void traffic_socket_raise_limit(void);

#endif
