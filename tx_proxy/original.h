/* original: where a captured connection was going before it was captured. */
#ifndef TX_PROXY_ORIGINAL_H
#define TX_PROXY_ORIGINAL_H

#include "../common/io/conf.h"

/* Lets the connections of a listening socket keep their SYN, for original_isn. A kernel that cannot is no failure. */
void original_keep_syn(int listener_fd);

/* Sets *dst for the accepted socket `fd`: what conntrack remembers of a REDIRECT, or for TPROXY the local address
 * itself. With method none a connection made to `local_port` itself keeps that as its destination: rx_proxy's fixed one
 * replaces it. 0; -ENOENT: nobody captured it, it was made to this port; or another negative errno. */
int original_destination(int fd, enum conf_capture_method method, uint16_t local_port, struct addr *dst);

/* The initial sequence number of the client of the accepted socket `fd`. It tells which SYN the connection came from
 * when the client's port does not: a client may use one port towards two destinations, which after REDIRECT would be
 * one and the same connection, so conntrack gives the second another source port. 0, or -ENOENT: not known (the SYN
 * was answered with a cookie). */
int original_isn(int fd, uint32_t *isn);

#endif
