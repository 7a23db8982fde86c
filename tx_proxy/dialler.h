/* dialler: keeps every stripe of every path connected to rx_proxy.
 *
 * Each stripe is dialled on its own: connect from the path's address, device and mark with its congestion control;
 * given to the session once connected, and authenticated where there is a key; closed if the WELCOME does not come;
 * dialled again after a pause that grows from 100 ms to 5 s while it fails, each pause with a random part so that
 * stripes and proxies do not return all at once. No path is special: any may be the first, the last, or missing.
 */
#ifndef TX_PROXY_DIALLER_H
#define TX_PROXY_DIALLER_H

#include "../common/io/conf.h"
#include "../common/io/runner.h"
#include "../common/io/transport.h"

struct dialler;

/* Starts to dial with the loop. `conf` and `security` (NULL: plain) must outlive it. NULL: no memory. */
struct dialler *dialler_new(struct runner *runner, struct session *session, const struct conf_tx *conf,
                            struct transport_security *security);
/* The session must have been freed before, and nothing may be deferred in the runner. Closes every socket. */
void dialler_free(struct dialler *dialler);

#endif
