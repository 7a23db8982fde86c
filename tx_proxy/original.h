/* original: where a captured connection was going before it was captured. */
#ifndef TX_PROXY_ORIGINAL_H
#define TX_PROXY_ORIGINAL_H

#include "../common/io/conf.h"

/* Sets *dst for the accepted socket `fd`: what conntrack remembers of a REDIRECT, or for TPROXY the local address itself.
 * With method none a connection made to `local_port` itself keeps that as its destination: rx_proxy's fixed one
 * replaces it. 0; -ENOENT: nobody captured it, it was made to this port; or another negative errno. */
int original_destination(int fd, enum conf_capture_method method, uint16_t local_port, struct addr *dst);

#endif
