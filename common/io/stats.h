/* stats: a session in log lines: one event=stats, one event=stats_path for each path that ever had a stripe, and one
 * event=stats_stripe for each stripe. Tests read them; tx_proxy(8) explains them.
 *
 *   event=stats session=HEX flows= stripes_up= bytes_in= bytes_out= copied_bytes= repeated_bytes= refused_bytes=
 *       reinjected_bytes= duplicate_bytes= recovered_bytes= dropped_bytes= egress_pages= ingress_pages= account_bytes=
 *       promised_bytes= flows_opened= flows_ended= flows_reset= apps= files=
 *   event=stats_path session=HEX path=NAME state=up|stale|down backup= stripes_up= stripes_stale= srtt_us= rate_Bps=
 *       bytes_in= bytes_out= reinject_percent= copied_bytes= repeated_bytes= refused_bytes= reinjected_bytes=
 *   event=stats_stripe session=HEX path=NAME stripe=N state= tls= srtt_us= rate_Bps= cwnd_bytes= in_flight_bytes=
 *       backlog_bytes= room_bytes= bytes_in= bytes_out= copied_bytes= repeated_bytes= reinjected_bytes=
 *       sent_segments= lost_segments=
 *   tls: who encrypts what is sent: none, library, kernel (where the kernel has the module tls)
 */
#ifndef PAIR_IO_STATS_H
#define PAIR_IO_STATS_H

#include "../core/session.h"

/* The first bytes of a session's id, as log lines show it. Returns buf. */
enum { STATS_ID_MAX = 9 };
const char *stats_session_id(char buf[STATS_ID_MAX], const uint8_t id[FRAME_ID_BYTES]);

/* `apps`: application sockets open. path_name gives the name for an index of a path. */
void stats_log(const struct session *session, const uint8_t id[FRAME_ID_BYTES], unsigned apps,
               const char *(*path_name)(void *user, unsigned path), void *user);

/* Descriptors open in this process, or 0 if that cannot be told. */
unsigned stats_count_files(void);

#endif
