/* The table of clients' connections, and the lists of those that wait. */
#include "../../tx_proxy/conn.h"
#include "../unit/unit.h"

enum { MANY = 5000 };

static struct addr ipv4(uint32_t host, uint16_t port)
{
	struct addr addr = {.family = ADDR_IPV4, .port = port};

	for (int i = 0; i < 4; i++)
		addr.ip[i] = (uint8_t)(host >> (24 - 8 * i));
	return addr;
}

/* The n-th connection: every fourth differs from its neighbours in one of the four parts of a tuple alone. */
static struct syn nth(uint32_t n)
{
	uint16_t step = (uint16_t)(n / 4);

	return (struct syn){
	        .src = ipv4(0x0a000001 + (n % 4 == 0 ? step : 0), (uint16_t)(1024 + (n % 4 == 1 ? step : 0))),
	        .dst = ipv4(0xc0000201 + (n % 4 == 2 ? step : 0), (uint16_t)(80 + (n % 4 == 3 ? step : 0)))};
}

int main(void)
{
	struct conn_table table;

	UNIT_CASE("conn: what was added is found, and nothing else") {
		static struct conn *conns[MANY];
		if (!UNIT_EQ(conn_table_init(&table), 0))
			break;
		/* The first of each kind is the same tuple. */
		for (uint32_t n = 4; n < MANY; n++) {
			struct syn syn = nth(n);
			UNIT_TRUE(!conn_table_find(&table, &syn.src, &syn.dst));
			conns[n] = conn_table_add(&table, &syn);
		}
		UNIT_EQ(table.count, MANY - 4);
		for (uint32_t n = 4; n < MANY; n++) {
			struct syn syn = nth(n);
			UNIT_TRUE(conn_table_find(&table, &syn.src, &syn.dst) == conns[n]);
		}
		for (uint32_t n = 4; n < MANY; n += 2)
			conn_table_remove(&table, conns[n]);
		for (uint32_t n = 4; n < MANY; n++) {
			struct syn syn = nth(n);
			UNIT_TRUE(conn_table_find(&table, &syn.src, &syn.dst) == (n % 2 ? conns[n] : NULL));
		}
		for (uint32_t n = 5; n < MANY; n += 2)
			conn_table_remove(&table, conns[n]);
		UNIT_EQ(table.count, 0);
		conn_table_fini(&table);
	}

	UNIT_CASE("conn: an unlinked one makes way for its like") {
		struct syn syn = nth(0);
		if (!UNIT_EQ(conn_table_init(&table), 0))
			break;
		struct conn *old = conn_table_add(&table, &syn);
		conn_table_unlink(&table, old);
		conn_table_unlink(&table, old);
		UNIT_EQ(table.count, 0);
		UNIT_TRUE(!conn_table_find(&table, &syn.src, &syn.dst));
		struct conn *new = conn_table_add(&table, &syn);
		conn_table_remove(&table, old);
		UNIT_TRUE(conn_table_find(&table, &syn.src, &syn.dst) == new);
		conn_table_remove(&table, new);
		UNIT_EQ(table.count, 0);
		conn_table_fini(&table);
	}

	UNIT_CASE("conn: a list keeps its order whatever is taken out") {
		struct conn conns[4] = {0};
		for (unsigned out = 0; out < 4; out++) {
			struct conn_list list = {0};
			unsigned left = 0;
			for (unsigned i = 0; i < 4; i++)
				conn_list_append(&list, &conns[i], 100 + i);
			conn_list_remove(&list, &conns[out]);
			for (struct conn *conn = list.first; conn; conn = conn->next, left++) {
				UNIT_EQ(conn - conns, left < out ? left : left + 1);
				UNIT_EQ(conn->since_us, 100 + (conn - conns));
				UNIT_TRUE(conn->next || conn == list.last);
			}
			UNIT_EQ(left, 3);
		}
	}
	return unit_exit();
}
