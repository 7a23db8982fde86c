/* server: the other end of the soak's flows, and a small HTTP server for clients that are not ours.
 *
 * Each connection tells by its head what is to be done (plan.h), or asks for content:
 *   GET /sized/KEY/BYTES      so many bytes of content KEY, with Content-Length
 *   GET /unsized/KEY/BYTES    without: it is complete when the connection ends in order
 * A line for each flow that ended goes to the log; on SIGUSR1 one for each that has not, then `event=live count=N`.
 */
#ifndef PAIR_SOAK_SERVER_H
#define PAIR_SOAK_SERVER_H

#include <stdint.h>

/* Serves until SIGTERM. The process's exit status. */
int server_run(uint16_t port, const char *log);

#endif
