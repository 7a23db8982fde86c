#include "conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { TABLE_START = 256 };

/* Multiply and fold, with a secret on both sides of the product: enough that nobody outside can tell which tuples
 * collide. */
static uint64_t mix(uint64_t a, uint64_t b)
{
	__extension__ unsigned __int128 product = (unsigned __int128)a * b;

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t hash_addr(const struct conn_table *table, uint64_t hash, const struct addr *addr)
{
	uint64_t words[2];

	memcpy(words, addr->ip, sizeof words);
	hash = mix(hash ^ words[0] ^ table->secret[0], words[1] ^ table->secret[1]);
	return mix(hash ^ addr->port ^ table->secret[1], table->secret[0]);
}

static struct conn **bucket_of(const struct conn_table *table, const struct addr *src, const struct addr *dst)
{
	uint64_t hash = hash_addr(table, hash_addr(table, 0, src), dst);

	return &table->buckets[hash & (table->size - 1)];
}

int conn_table_init(struct conn_table *table)
{
	*table = (struct conn_table){.size = TABLE_START};
	if (getrandom(table->secret, sizeof table->secret, 0) != (ssize_t)sizeof table->secret)
		return -EIO;
	table->secret[0] |= 1;
	table->secret[1] |= 1;
	table->buckets = calloc(table->size, sizeof *table->buckets);
	return table->buckets ? 0 : -ENOMEM;
}

void conn_table_fini(struct conn_table *table)
{
	free(table->buckets);
	table->buckets = NULL;
}

struct conn *conn_table_find(const struct conn_table *table, const struct addr *src, const struct addr *dst)
{
	struct conn *conn = *bucket_of(table, src, dst);

	while (conn && !(addr_equal(&conn->syn.src, src) && addr_equal(&conn->syn.dst, dst)))
		conn = conn->hash_next;
	return conn;
}

/* Without memory for it the table only stays slower. */
static void grow(struct conn_table *table)
{
	struct conn_table larger = *table;

	larger.size *= 2;
	larger.buckets = calloc(larger.size, sizeof *larger.buckets);
	if (!larger.buckets)
		return;
	for (uint32_t i = 0; i < table->size; i++)
		while (table->buckets[i]) {
			struct conn *conn = table->buckets[i];
			struct conn **bucket = bucket_of(&larger, &conn->syn.src, &conn->syn.dst);
			table->buckets[i] = conn->hash_next;
			conn->hash_next = *bucket;
			*bucket = conn;
		}
	free(table->buckets);
	*table = larger;
}

struct conn *conn_table_add(struct conn_table *table, const struct syn *syn)
{
	struct conn *conn = calloc(1, sizeof *conn);

	if (!conn)
		return NULL;
	if (table->count >= table->size)
		grow(table);
	struct conn **bucket = bucket_of(table, &syn->src, &syn->dst);
	conn->syn = *syn;
	conn->linked = true;
	conn->hash_next = *bucket;
	*bucket = conn;
	table->count++;
	return conn;
}

void conn_table_unlink(struct conn_table *table, struct conn *conn)
{
	struct conn **at = bucket_of(table, &conn->syn.src, &conn->syn.dst);

	if (!conn->linked)
		return;
	while (*at != conn)
		at = &(*at)->hash_next;
	*at = conn->hash_next;
	conn->linked = false;
	table->count--;
}

void conn_table_remove(struct conn_table *table, struct conn *conn)
{
	conn_table_unlink(table, conn);
	free(conn);
}

void conn_list_append(struct conn_list *list, struct conn *conn, uint64_t now_us)
{
	conn->since_us = now_us;
	conn->next = NULL;
	conn->prev = list->last;
	*(list->last ? &list->last->next : &list->first) = conn;
	list->last = conn;
	list->count++;
}

void conn_list_remove(struct conn_list *list, struct conn *conn)
{
	*(conn->prev ? &conn->prev->next : &list->first) = conn->next;
	*(conn->next ? &conn->next->prev : &list->last) = conn->prev;
	conn->next = conn->prev = NULL;
	list->count--;
}
