/* traffic_socket: how stream connects. The rest of what the tools' sockets need is common/io/sock.h and listener.h. */
#ifndef PAIR_TOOLS_TRAFFIC_SOCKET_H
#define PAIR_TOOLS_TRAFFIC_SOCKET_H

#include "../common/core/addr.h"

/* A socket that is connecting to `remote`, non-blocking, close-on-exec, TCP_NODELAY; or a negative errno. */
int traffic_socket_connect(const struct addr *remote);

#endif
