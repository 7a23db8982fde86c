/* session_log: what a session tells of itself (struct session_ops.event), as log lines.
 *
 *   event=session_up, session_down, session_lost, session_renewed, session_goaway   session=HEX
 *   event=path_up, path_down                                                        session=HEX path=NAME
 *   event=stripe_up, stripe_stale, stripe_back (debug)                              session=HEX path=NAME stripe=N
 *   event=flow_broken, open_limit                                                   session=HEX flow=ID reason=TEXT
 */
#ifndef PAIR_IO_SESSION_LOG_H
#define PAIR_IO_SESSION_LOG_H

#include "../core/session.h"

void session_log_event(const struct session_event_info *info, const uint8_t id[FRAME_ID_BYTES], const char *path_name);

#endif
