/* sim_conn: one simulated TCP connection between the two engines, as both daemons' stripe code would handle it: dials,
 * greets, writes, reads, reports, and closes. For sim_net.c.
 */
#ifndef TESTS_SIM_CONN_H
#define TESTS_SIM_CONN_H

#include "sim_net.h"

/* Puts a new connection into sim->conns; a round trip later it is there. */
void sim_conn_dial(struct sim *sim, unsigned path, unsigned index);
void sim_conn_free(struct sim_conn *conn);

/* This side's socket is closed; the other side will hear of it. */
void sim_conn_close(struct sim_conn *conn, unsigned side);
/* Tells the side's engine what its kernel knows. There must be a stripe. */
void sim_conn_report(struct sim_conn *conn, unsigned side);
/* As much of the stripe's output as the socket takes. */
void sim_conn_write(struct sim_conn *conn, unsigned side);

/* When something happens by itself; UINT64_MAX: never. */
uint64_t sim_conn_next_us(const struct sim_conn *conn);
/* What is due of what the kernels and the wire do. */
void sim_conn_run(struct sim_conn *conn);

#endif
