/* Egress against a naive model that keeps, for each offset, which stripes carry it. */
#include <errno.h>
#include <string.h>

#include "../../common/core/egress.h"
#include "../../common/core/frame.h"
#include "../../common/core/memory.h"
#include "unit.h"
#include "unit_random.h"

enum { SPACE = 700000, STRIPES = 6 };

static struct page_pool pool;

/* The FIN takes the offset `end`, as it does in the engine. */
static struct {
	uint32_t carrier[SPACE]; /* id, 0: none */
	uint32_t copy[SPACE];
	uint64_t acked, sent, end, edge;
	bool fin;
} model;

static uint8_t pattern(uint64_t offset)
{
	return (uint8_t)(offset * 2654435761u >> 13);
}

/* Puts in up to `len` bytes; returns how many went in. */
static size_t put_in(struct egress *e, size_t len, size_t used)
{
	struct iovec slices[16];
	int count = egress_reserve(e, len, slices, 16);
	uint64_t offset = e->end;
	size_t filled = 0;

	if (count <= 0)
		return 0;
	for (int i = 0; i < count; i++)
		for (size_t k = 0; k < slices[i].iov_len && filled < used; k++)
			((uint8_t *)slices[i].iov_base)[k] = pattern(offset + filled++);
	egress_commit(e, filled);
	return filled;
}

static bool bytes_are_there(const struct egress *e, uint64_t from, uint64_t to)
{
	while (from < to) {
		size_t len = to - from;
		const uint8_t *at = page_store_at(&e->store, from, &len, NULL);
		for (size_t i = 0; i < len; i++)
			if (at[i] != pattern(from + i))
				return false;
		from += len;
	}
	return true;
}

/* The records lie end to end over [acked, sent), and say of each offset what the model says. */
static bool agrees(const struct egress *e)
{
	uint64_t at = e->record_count ? egress_record_at(e, 0)->offset : e->sent;
	uint32_t lost = 0;

	if (!UNIT_EQ(e->acked, model.acked) || !UNIT_EQ(e->sent, model.sent) || !UNIT_EQ(e->end, model.end) ||
	    !UNIT_EQ(e->edge, model.edge))
		return false;
	if (!UNIT_TRUE(at <= model.acked || model.acked == model.sent))
		return false;
	for (uint32_t i = 0; i < e->record_count; i++) {
		const struct egress_record *r = egress_record_at(e, i);
		lost += r->stripe == 0;
		if (!UNIT_EQ(r->offset, at) || !UNIT_TRUE(r->len || r->fin))
			return false;
		at += r->len + r->fin;
		if (!UNIT_TRUE(at > model.acked) || !UNIT_EQ(r->fin, model.fin && at == model.end + 1))
			return false;
		for (uint64_t k = at - 1; k + 1 > r->offset && k >= model.acked; k -= 1 + r->len / 3) {
			if (r->stripe != model.carrier[k] || r->copy_stripe != model.copy[k])
				return UNIT_EQ(r->stripe, model.carrier[k]) && UNIT_EQ(r->copy_stripe, model.copy[k]);
			if (k < 1 + r->len / 3)
				break;
		}
	}
	return UNIT_EQ(at, model.sent) && UNIT_EQ(e->lost, lost) &&
	       UNIT_TRUE(bytes_are_there(e, model.acked, model.end)) &&
	       UNIT_EQ(egress_done(e), model.fin && model.acked == model.end + 1);
}

static bool send_one(struct egress *e, uint64_t *seed)
{
	struct egress_piece piece;
	uint32_t max_len = 1 + (uint32_t)unit_below(seed, unit_chance(seed, 1, 2) ? 100 : 60000);
	uint32_t stripe = 1 + (uint32_t)unit_below(seed, STRIPES);
	uint64_t lost_at = model.acked;

	while (lost_at < model.sent && model.carrier[lost_at])
		lost_at++;
	bool any_lost = lost_at < model.sent;
	uint64_t may = model.end < model.edge ? model.end : model.edge;
	bool any_new = may > model.sent || (model.fin && model.sent == model.end);

	if (!UNIT_EQ(egress_has_next(e), any_lost || any_new) ||
	    !UNIT_EQ(egress_sendable(e), may > model.sent ? may - model.sent : 0))
		return false;
	if (!UNIT_EQ(egress_next(e, max_len, &piece), any_lost || any_new))
		return false;
	if (!any_lost && !any_new)
		return true;
	if (!UNIT_EQ(piece.offset, any_lost ? lost_at : model.sent) || !UNIT_EQ(piece.record != NULL, any_lost))
		return false;
	if (!UNIT_EQ(piece.fin, any_lost ? piece.record->fin : model.fin && piece.offset + piece.len == model.end))
		return false;
	if (!any_lost && (!UNIT_TRUE(piece.len <= max_len) || !UNIT_TRUE(piece.offset + piece.len <= model.edge)))
		return false;
	int err = egress_sent(e, &piece, stripe, 1 + unit_below(seed, 1000));
	if (err)
		return UNIT_EQ(err, -ENOMEM);
	for (uint64_t k = piece.offset; k < piece.offset + piece.len + piece.fin; k++)
		model.carrier[k] = stripe;
	if (!any_lost) {
		model.sent += piece.len + piece.fin;
		uint32_t copy = unit_chance(seed, 1, 4) ? stripe % STRIPES + 1 : 0;
		piece.record->copy_stripe = copy;
		for (uint64_t k = piece.offset; k < piece.offset + piece.len + piece.fin; k++)
			model.copy[k] = copy;
	}
	return true;
}

static void lose_stripe(struct egress *e, uint32_t id)
{
	for (uint64_t k = model.acked; k < model.sent; k++) {
		if (model.copy[k] == id)
			model.copy[k] = 0;
		if (model.carrier[k] == id) {
			model.carrier[k] = model.copy[k];
			model.copy[k] = 0;
		}
	}
	egress_stripe_lost(e, id, 0);
}

static void lose_record(struct egress *e, uint64_t *seed)
{
	if (!e->record_count)
		return;
	struct egress_record *record = egress_record_at(e, (uint32_t)unit_below(seed, e->record_count));
	for (uint64_t k = record->offset; k < record->offset + record->len + record->fin; k++)
		model.carrier[k] = model.copy[k] = 0;
	egress_mark_lost(e, record);
}

static bool leave_some(struct egress *e, uint64_t *seed)
{
	uint64_t len = unit_below(seed, egress_sendable(e) + 1), before = e->sent;
	int err = egress_leave(e, len, 1 + (uint32_t)unit_below(seed, 20000));

	for (uint64_t k = before; k < e->sent; k++)
		model.carrier[k] = model.copy[k] = 0;
	model.sent = e->sent;
	return err ? UNIT_EQ(err, -ENOMEM) && UNIT_TRUE(e->sent < before + len) : UNIT_EQ(e->sent, before + len);
}

static bool acknowledge(struct egress *e, uint64_t *seed)
{
	uint64_t offset = model.acked + unit_below(seed, model.sent - model.acked + 1);
	uint64_t edge = model.edge;

	if (unit_chance(seed, 1, 3))
		offset = model.sent;
	if (unit_chance(seed, 1, 20))
		offset = unit_below(seed, model.acked + 1); /* stale */
	if (unit_chance(seed, 1, 2) && offset + 300000 > edge && edge < SPACE - 200000)
		edge = edge + unit_below(seed, 50000);
	if (unit_chance(seed, 1, 20))
		return UNIT_EQ(egress_ack(e, model.sent + 1 + unit_below(seed, 9), edge), -EPROTO);
	if (offset > model.acked)
		model.acked = offset;
	model.edge = edge;
	return UNIT_EQ(egress_ack(e, offset, unit_chance(seed, 1, 10) ? 0 : edge), 0) && (e->edge = edge, true);
}

static void check_random(const char *name, size_t pool_pages, unsigned fail_of_100)
{
	UNIT_CASE("random steps, %s", name) {
		for (uint64_t round = 1; round <= 8; round++) {
			uint64_t seed = round;
			struct egress e;
			bool good = true;

			page_pool_init(&pool, pool_pages);
			egress_init(&e, &pool);
			memset(&model, 0, sizeof model);
			model.edge = FRAME_FIRST_WINDOW_BYTES;
			for (int step = 0; good && step < 500; step++) {
				if (unit_chance(&seed, fail_of_100, 100))
					memory_fail_after(1 + unit_below(&seed, 2));
				switch (unit_below(&seed, 13)) {
				case 0:
				case 1:
				case 2:
				case 3: {
					size_t room = egress_room(&e), len = unit_below(&seed, 40000);
					size_t used = unit_chance(&seed, 1, 4) ? unit_below(&seed, len + 1) : len;
					size_t put = model.end < SPACE - 200000 ? put_in(&e, len, used) : 0;
					good = UNIT_TRUE(put <= room && put <= used);
					model.end += put;
					break;
				}
				case 4:
				case 5:
				case 6:
				case 7:
					good = send_one(&e, &seed);
					break;
				case 8:
					if (unit_chance(&seed, 1, 5))
						lose_stripe(&e, 1 + (uint32_t)unit_below(&seed, STRIPES));
					break;
				case 9:
					if (unit_chance(&seed, 1, 5))
						lose_record(&e, &seed);
					break;
				case 10:
					good = acknowledge(&e, &seed);
					break;
				case 12:
					good = !unit_chance(&seed, 1, 3) || leave_some(&e, &seed);
					break;
				case 11:
					if (step > 400 && !model.fin) {
						model.fin = true;
						egress_end(&e);
						good = UNIT_EQ(egress_room(&e), 0);
					}
					break;
				}
				memory_fail_after(0);
				good = good && (step % 16 || UNIT_TRUE(bytes_are_there(&e, model.acked, model.end)));
				good = good && agrees(&e) && UNIT_TRUE(pool.used == e.store.page_count);
			}
			if (!model.fin)
				egress_end(&e);
			model.fin = true;
			/* Whatever happened, it can be brought to its end, and then keeps nothing. */
			for (int left = 20000; good && !egress_done(&e) && left; left--) {
				model.edge = model.end;
				good = UNIT_EQ(egress_ack(&e, 0, model.edge), 0) && send_one(&e, &seed);
				if (good && !egress_has_next(&e)) {
					model.acked = model.sent;
					good = UNIT_EQ(egress_ack(&e, model.sent, 0), 0);
				}
			}
			good = good && UNIT_TRUE(egress_done(&e)) && UNIT_EQ(pool.used, 0);
			egress_fini(&e);
			if (!good) {
				UNIT_FAIL("seed %d", (int)round);
				break;
			}
			page_pool_fini(&pool);
		}
		UNIT_EQ(memory_live(), 0);
	}
}

static void check_rules(void)
{
	struct egress e;
	struct egress_piece piece;

	page_pool_init(&pool, 1000);
	UNIT_CASE("the application's bytes are taken a backlog beyond the window, no more") {
		egress_init(&e, &pool);
		UNIT_EQ(egress_room(&e), EGRESS_BACKLOG_BYTES);
		size_t total = 0;
		for (size_t put; (put = put_in(&e, 7000, 7000)) > 0;)
			total += put;
		UNIT_EQ(total, EGRESS_BACKLOG_BYTES);
		UNIT_EQ(egress_room(&e), 0);
		UNIT_EQ(egress_sendable(&e), FRAME_FIRST_WINDOW_BYTES);
		egress_fini(&e);
	}
	UNIT_CASE("a direction that ends without a byte sends a FIN, which is acknowledged like a byte") {
		egress_init(&e, &pool);
		UNIT_TRUE(!egress_has_next(&e));
		egress_end(&e);
		UNIT_TRUE(egress_has_next(&e));
		UNIT_TRUE(egress_next(&e, 100, &piece));
		UNIT_EQ(piece.len, 0);
		UNIT_TRUE(piece.fin);
		UNIT_EQ(egress_sent(&e, &piece, 1, 5), 0);
		UNIT_TRUE(!egress_has_next(&e));
		UNIT_EQ(egress_ack(&e, 0, 0), 0);
		UNIT_TRUE(!egress_done(&e));
		UNIT_EQ(egress_ack(&e, 2, 0), -EPROTO);
		UNIT_EQ(egress_stripe_lost(&e, 1, 0), 1);
		UNIT_TRUE(egress_next(&e, 100, &piece));
		UNIT_TRUE(piece.fin && piece.record && piece.record->len == 0);
		UNIT_EQ(egress_sent(&e, &piece, 2, 6), 0);
		UNIT_TRUE(egress_record_at(&e, 0)->reinjected);
		UNIT_EQ(egress_ack(&e, 1, 0), 0);
		UNIT_TRUE(egress_done(&e));
		egress_fini(&e);
	}
	UNIT_CASE("a FIN that comes after the last byte was sent goes alone") {
		egress_init(&e, &pool);
		UNIT_EQ(put_in(&e, 10, 10), 10);
		UNIT_TRUE(egress_next(&e, 100, &piece));
		UNIT_EQ(egress_sent(&e, &piece, 1, 5), 0);
		egress_end(&e);
		UNIT_TRUE(egress_next(&e, 100, &piece));
		UNIT_EQ(piece.offset, 10);
		UNIT_EQ(piece.len, 0);
		UNIT_TRUE(piece.fin);
		UNIT_EQ(egress_sent(&e, &piece, 1, 5), 0);
		UNIT_EQ(egress_ack(&e, 10, 0), 0);
		UNIT_EQ(e.record_count, 1);
		UNIT_EQ(pool.used, 0);
		UNIT_EQ(egress_ack(&e, 11, 0), 0);
		UNIT_TRUE(egress_done(&e));
		egress_fini(&e);
	}
	UNIT_CASE("what was acknowledged of a lost record is not sent again") {
		egress_init(&e, &pool);
		UNIT_EQ(put_in(&e, 30000, 30000), 30000);
		UNIT_TRUE(egress_next(&e, 30000, &piece));
		UNIT_EQ(egress_sent(&e, &piece, 1, 5), 0);
		UNIT_EQ(egress_ack(&e, 20000, 0), 0);
		UNIT_EQ(egress_stripe_lost(&e, 1, 0), 1);
		UNIT_TRUE(egress_next(&e, 100, &piece));
		UNIT_EQ(piece.offset, 20000);
		UNIT_EQ(piece.len, 10000);
		UNIT_EQ(piece.avoid_stripe, 1);
		UNIT_TRUE(bytes_are_there(&e, 20000, 30000));
		egress_fini(&e);
	}
	UNIT_CASE("a record with a living copy is not lost") {
		egress_init(&e, &pool);
		UNIT_EQ(put_in(&e, 10, 10), 10);
		UNIT_TRUE(egress_next(&e, 100, &piece));
		UNIT_EQ(egress_sent(&e, &piece, 1, 5), 0);
		piece.record->position = 26;
		piece.record->copy_stripe = 2;
		piece.record->copy_position = 52;
		UNIT_EQ(egress_stripe_lost(&e, 1, 0), 0);
		UNIT_TRUE(!egress_has_next(&e));
		UNIT_EQ(egress_stripe_lost(&e, 1, 0), 0);
		UNIT_EQ(egress_stripe_lost(&e, 2, 0), 1);
		UNIT_TRUE(egress_next(&e, 100, &piece));
		UNIT_EQ(piece.avoid_stripe, 2);
		egress_unmark_lost(&e, piece.record);
		UNIT_EQ(piece.record->stripe, 2);
		UNIT_EQ(piece.record->position, 52);
		egress_fini(&e);
	}
	UNIT_CASE("more records than EGRESS_RECORDS_MAX wait") {
		uint32_t count = 0;
		egress_init(&e, &pool);
		UNIT_EQ(put_in(&e, 20000, 20000), 20000);
		while (egress_next(&e, 1, &piece) && egress_sent(&e, &piece, 1, 1) == 0)
			count++;
		UNIT_EQ(count, EGRESS_RECORDS_MAX);
		UNIT_EQ(e.sent, EGRESS_RECORDS_MAX);
		UNIT_EQ(egress_ack(&e, 1, 0), 0);
		UNIT_TRUE(egress_next(&e, 1, &piece));
		UNIT_EQ(egress_sent(&e, &piece, 1, 1), 0);
		egress_fini(&e);
	}
	page_pool_fini(&pool);
	UNIT_EQ(memory_live(), 0);
}

static void check_full_pool(void)
{
	struct egress e, other;
	size_t put = 0;

	UNIT_CASE("a full pool takes what fits and goes on when pages come back") {
		page_pool_init(&pool, 2);
		egress_init(&e, &pool);
		egress_init(&other, &pool);
		UNIT_EQ(put_in(&other, 10, 10), 10);
		for (size_t got; (got = put_in(&e, 40000, 40000)) > 0;)
			put += got;
		UNIT_EQ(put, PAGE_BYTES);
		UNIT_EQ(pool.used, 2);
		UNIT_EQ(put_in(&other, 10, 10), 10);
		egress_fini(&other);
		UNIT_EQ(pool.used, 1);
		UNIT_EQ(put_in(&e, 40000, 40000), PAGE_BYTES);
		UNIT_TRUE(bytes_are_there(&e, 0, 2 * PAGE_BYTES));
		egress_fini(&e);
		page_pool_fini(&pool);
		UNIT_EQ(memory_live(), 0);
	}
}

/* Sends bytes one by one until no record fits. */
static uint32_t fill(struct egress *e)
{
	struct egress_piece piece;
	uint32_t count = 0;

	while (!egress_full(e) && egress_next(e, 1, &piece) && egress_sent(e, &piece, 1, 1) == 0)
		count++;
	return count;
}

static void check_account(void)
{
	struct egress e, other;
	struct egress_piece piece;

	UNIT_CASE("records beyond the first keep to the pool's account; when it is full, acks make room") {
		page_pool_init(&pool, 100);
		pool.account.limit_bytes = 64 * sizeof(struct egress_record);
		egress_init(&e, &pool);
		egress_init(&other, &pool);
		put_in(&e, 20000, 20000);
		put_in(&other, 20000, 20000);
		UNIT_EQ(fill(&e), 64);
		UNIT_EQ(pool.account.used_bytes, pool.account.limit_bytes);
		UNIT_TRUE(egress_full(&e) && egress_has_next(&e));
		UNIT_TRUE(egress_next(&e, 1, &piece));
		UNIT_EQ(egress_sent(&e, &piece, 1, 1), -ENOMEM);
		UNIT_EQ(fill(&other), EGRESS_RECORDS_FIRST);
		UNIT_EQ(egress_ack(&e, 10, 0), 0);
		UNIT_TRUE(!egress_full(&e));
		UNIT_EQ(fill(&e), 10);
		/* What is lost needs no new record. */
		UNIT_EQ(egress_stripe_lost(&e, 1, 0), 64);
		UNIT_TRUE(!egress_full(&e));
		UNIT_TRUE(egress_next(&e, 1, &piece));
		UNIT_EQ(egress_sent(&e, &piece, 2, 1), 0);
		egress_fini(&e);
		UNIT_TRUE(!egress_full(&other));
		UNIT_EQ(fill(&other), 64 - EGRESS_RECORDS_FIRST);
		egress_fini(&other);
		UNIT_EQ(pool.account.used_bytes, 0);
		page_pool_fini(&pool);
		UNIT_EQ(memory_live(), 0);
	}
}

static void check_repeats(void)
{
	struct egress e;
	struct egress_piece piece;

	UNIT_CASE("a record that is late is repeated once elsewhere, and its first stripe counts still") {
		page_pool_init(&pool, 10);
		egress_init(&e, &pool);
		put_in(&e, 100, 100);
		UNIT_TRUE(egress_next(&e, 100, &piece));
		UNIT_EQ(egress_sent(&e, &piece, 1, 1), 0);
		UNIT_TRUE(!egress_next_repeat(&e, &piece));
		egress_mark_repeat(&e, egress_record_at(&e, 0));
		egress_mark_repeat(&e, egress_record_at(&e, 0));
		UNIT_EQ(e.repeats, 1);
		UNIT_TRUE(!egress_has_next(&e)); /* not before what is new */
		UNIT_TRUE(egress_next_repeat(&e, &piece));
		UNIT_EQ(piece.avoid_stripe, 1);
		UNIT_EQ(piece.len, 100);
		UNIT_EQ(egress_sent(&e, &piece, 2, 2), 0);
		UNIT_EQ(e.repeats, 0);
		UNIT_EQ(egress_stripe_lost(&e, 2, 0), 0); /* on its way on the first */
		UNIT_EQ(egress_stripe_lost(&e, 1, 0), 1);
		UNIT_TRUE(egress_has_next(&e));
		egress_fini(&e);
	}
	UNIT_CASE("lost, acknowledged or dropped: then it need not be repeated") {
		for (unsigned how = 0; how < 4; how++) {
			egress_init(&e, &pool);
			put_in(&e, 100, 100);
			UNIT_TRUE(egress_next(&e, 100, &piece));
			UNIT_EQ(egress_sent(&e, &piece, 1, 1), 0);
			egress_mark_repeat(&e, egress_record_at(&e, 0));
			if (how == 0)
				UNIT_EQ(egress_stripe_lost(&e, 1, 0), 1);
			else if (how == 1)
				UNIT_EQ(egress_ack(&e, 100, 0), 0);
			else if (how == 2)
				egress_drop_repeat(&e, egress_record_at(&e, 0));
			else
				egress_mark_lost(&e, egress_record_at(&e, 0));
			UNIT_EQ(e.repeats, 0);
			UNIT_TRUE(!egress_next_repeat(&e, &piece));
			UNIT_EQ(egress_has_next(&e), how == 0 || how == 3);
			egress_fini(&e);
		}
		page_pool_fini(&pool);
		UNIT_EQ(memory_live(), 0);
	}
}

static void check_left(void)
{
	struct egress e;
	struct egress_piece piece;

	UNIT_CASE("what is left for later waits, in pieces, while what lies behind it goes") {
		page_pool_init(&pool, 10);
		egress_init(&e, &pool);
		put_in(&e, 10000, 10000);
		UNIT_EQ(egress_leave(&e, 2500, 1000), 0);
		UNIT_EQ(e.record_count, 3);
		UNIT_TRUE(egress_next_new(&e, 1400, &piece));
		UNIT_EQ(piece.offset, 2500);
		UNIT_TRUE(!piece.record);
		UNIT_EQ(egress_sent(&e, &piece, 7, 1), 0);
		for (unsigned i = 0; i < 3; i++) {
			UNIT_TRUE(egress_next(&e, 60000, &piece));
			UNIT_EQ(piece.offset, 1000 * i);
			UNIT_EQ(piece.len, i < 2 ? 1000 : 500);
			UNIT_EQ(piece.avoid_stripe, 0);
			UNIT_TRUE(piece.record && !piece.record->sent_us);
			UNIT_EQ(egress_sent(&e, &piece, 1, 2), 0);
			UNIT_TRUE(!piece.record->reinjected); /* it goes for the first time */
		}
		UNIT_TRUE(egress_next(&e, 60000, &piece));
		UNIT_EQ(piece.offset, 3900);
		UNIT_EQ(piece.len, 6100);
	}
	UNIT_CASE("a stripe that dies changes nothing of it, and the other side may have it without knowing how") {
		UNIT_EQ(egress_leave(&e, 100, 1000), 0);
		UNIT_EQ(egress_stripe_lost(&e, 7, 0), 1);
		UNIT_EQ(e.lost, 2);
		UNIT_EQ(egress_ack(&e, 4000, 0), 0);
		UNIT_EQ(e.lost, 0);
		egress_fini(&e);
		page_pool_fini(&pool);
		UNIT_EQ(memory_live(), 0);
	}
}

int main(void)
{
	check_left();
	check_rules();
	check_account();
	check_repeats();
	check_full_pool();
	check_random("memory enough", 200, 0);
	check_random("few pages", 5, 0);
	check_random("allocations fail", 200, 10);
	return unit_exit();
}
