/* dialler: keeps every stripe of every path connected to rx_proxy, as far as this machine's network allows.
 *
 * Each stripe is dialled on its own (dial.h). No path is special: any may be the first, the last, or missing.
 *
 * It follows the machine's interfaces, addresses and routes. When what a path is bound to comes, its stripes are
 * dialled at once; when it goes, they are closed at once, and so is a stripe whose own address goes: what they carried
 * goes on by others. A path that is bound to nothing is dialled when a route to its remote is added. A machine where
 * that goes on all the time makes nobody hammer: of each path eight times in a row, then twice a second. And where one
 * stripe of a path gets through after all were gone, the others follow without waiting out their pauses.
 */
#ifndef TX_PROXY_DIALLER_H
#define TX_PROXY_DIALLER_H

#include "../common/io/conf.h"
#include "../common/io/link_watch.h"
#include "../common/io/runner.h"
#include "../common/io/transport.h"

struct dialler;

/* Starts to dial with the loop. `conf`, `security` (NULL: plain) and `watch` (NULL: the machine is not followed; not
 * started yet) must outlive it. NULL: no memory. */
struct dialler *dialler_new(struct runner *runner, struct session *session, const struct conf_tx *conf,
                            struct transport_security *security, struct link_watch *watch);
/* For struct session_ops.event: every event of the session. */
void dialler_note(struct dialler *dialler, const struct session_event_info *info);
/* The session must have been freed before, and nothing may be deferred in the runner. Closes every socket. */
void dialler_free(struct dialler *dialler);

#endif
