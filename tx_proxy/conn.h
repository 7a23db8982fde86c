/* conn: a client's connection from its SYN to its end, and the table of them by client and destination.
 *
 *   CONN_HELD      the SYN is held in the queue; the flow is being opened
 *   CONN_CAPTURED  the SYN was let go to us; the connection will be accepted. flow NULL: opened only then (capture.open
 * = "early") CONN_DOOMED    was captured, and its flow has ended since: what is accepted is reset CONN_OPEN accepted;
 * app_io has socket and flow
 *
 * A conn in one of the first three states is also in a list of those that wait, oldest first.
 */
#ifndef TX_PROXY_CONN_H
#define TX_PROXY_CONN_H

#include "../common/io/app_io.h"

enum conn_state { CONN_HELD, CONN_CAPTURED, CONN_DOOMED, CONN_OPEN };

struct conn {
	struct conn *hash_next;
	struct conn *next, *prev; /* in its list */
	enum conn_state state;
	bool linked;        /* in the table */
	uint32_t packet_id; /* CONN_HELD */
	uint64_t since_us;  /* when it came into its list */
	struct flow *flow;  /* CONN_HELD, CONN_CAPTURED; else NULL */
	struct app_io app;  /* CONN_OPEN */
	struct syn syn;
};

struct conn_list {
	struct conn *first, *last;
	uint32_t count;
};

struct conn_table {
	struct conn **buckets;
	uint32_t size; /* a power of two */
	uint32_t count;
	uint64_t secret[2]; /* clients must not be able to choose their bucket */
};

/* 0, -ENOMEM, or -EIO: no random numbers. */
int conn_table_init(struct conn_table *table);
/* It must be empty. */
void conn_table_fini(struct conn_table *table);

struct conn *conn_table_find(const struct conn_table *table, const struct addr *src, const struct addr *dst);
/* A new one with that syn, in the table and in no list. NULL: no memory. */
struct conn *conn_table_add(struct conn_table *table, const struct syn *syn);
/* It is found no more; conn_table_remove is still to come. Twice is harmless. */
void conn_table_unlink(struct conn_table *table, struct conn *conn);
/* Unlinks and frees it; it must be in no list. */
void conn_table_remove(struct conn_table *table, struct conn *conn);

void conn_list_append(struct conn_list *list, struct conn *conn, uint64_t now_us);
void conn_list_remove(struct conn_list *list, struct conn *conn);

#endif
