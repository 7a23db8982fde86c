#include "egress.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "frame.h"
#include "memory.h"

void egress_init(struct egress *e, struct page_pool *pool)
{
	*e = (struct egress){.edge = FRAME_FIRST_WINDOW_BYTES};
	page_store_init(&e->store, pool, 0);
}

static struct memory_quota *account_of(const struct egress *e)
{
	return &e->store.pool->account;
}

static void free_records(struct egress *e)
{
	memory_free(e->records);
	account_of(e)->used_bytes -= e->record_capacity * sizeof *e->records;
	e->records = NULL;
	e->record_capacity = e->record_first = 0;
}

void egress_fini(struct egress *e)
{
	page_store_fini(&e->store);
	free_records(e);
	e->record_count = e->lost = e->repeats = 0;
}

size_t egress_room(const struct egress *e)
{
	uint64_t limit = e->sent + EGRESS_BACKLOG_BYTES + e->ahead_bytes;
	if (e->fin || e->end >= limit)
		return 0;
	return (size_t)(limit - e->end);
}

int egress_reserve(struct egress *e, size_t len, struct iovec *slices, unsigned max)
{
	size_t room = egress_room(e), covered;
	if (len > room)
		len = room;
	if (!len)
		return 0;
	int err = page_store_reserve(&e->store, e->end, e->end + len);
	if (err) {
		/* Whatever pages there are serve as far as they reach. */
		size_t in_page = PAGE_BYTES - e->end % PAGE_BYTES;
		if (len > in_page)
			len = in_page;
		page_store_trim(&e->store, e->end + len, e->end + room);
		err = page_store_reserve(&e->store, e->end, e->end + len);
	}
	if (err)
		return err;
	e->reserved = e->end + len;
	return (int)page_store_slices(&e->store, e->end, e->end + len, slices, max, &covered);
}

void egress_commit(struct egress *e, size_t len)
{
	assert(!e->fin && e->end + len <= e->reserved);
	e->end += len;
	page_store_trim(&e->store, e->end, e->reserved);
	if (e->end == e->acked)
		page_store_advance(&e->store, e->end, true);
}

void egress_end(struct egress *e)
{
	e->fin = true;
}

uint64_t egress_sendable(const struct egress *e)
{
	uint64_t to = e->end < e->edge ? e->end : e->edge;
	return to > e->sent ? to - e->sent : 0;
}

/* All bytes are out, the FIN is not. */
static bool fin_next(const struct egress *e)
{
	return e->fin && e->sent == e->end;
}

bool egress_has_next(const struct egress *e)
{
	return e->lost || egress_sendable(e) || fin_next(e);
}

/* It doubles. */
static bool may_grow(const struct egress *e)
{
	return e->record_capacity < EGRESS_RECORDS_FIRST ||
	       (e->record_capacity < EGRESS_RECORDS_MAX &&
	        memory_quota_allows(account_of(e), e->record_capacity * sizeof *e->records));
}

bool egress_full(const struct egress *e)
{
	return !e->lost && e->record_count == e->record_capacity && !may_grow(e);
}

bool egress_done(const struct egress *e)
{
	return e->fin && e->acked == e->end + 1;
}

struct egress_record *egress_record_at(const struct egress *e, uint32_t i)
{
	assert(i < e->record_count);
	return &e->records[(e->record_first + i) & (e->record_capacity - 1)];
}

static uint64_t number_of(const struct egress *e, const struct egress_record *record)
{
	return e->records_gone + (((uint32_t)(record - e->records) - e->record_first) & (e->record_capacity - 1));
}

static void set_lost(struct egress *e, struct egress_record *record)
{
	uint64_t number = number_of(e, record);
	egress_drop_repeat(e, record);
	if (!e->lost || number < e->lost_from)
		e->lost_from = number;
	e->lost++;
	record->stripe = 0;
}

static struct egress_piece piece_of(const struct egress *e, struct egress_record *record, uint32_t avoid_stripe)
{
	/* What was acknowledged of it has left the store. */
	uint32_t known = e->acked > record->offset ? (uint32_t)(e->acked - record->offset) : 0;
	return (struct egress_piece){.offset = record->offset + known,
	                             .len = record->len - known,
	                             .fin = record->fin,
	                             .avoid_stripe = avoid_stripe,
	                             .record = record};
}

bool egress_next_repeat(const struct egress *e, struct egress_piece *piece)
{
	for (uint32_t i = 0; e->repeats && i < e->record_count; i++) {
		struct egress_record *record = egress_record_at(e, i);
		if (!record->repeat)
			continue;
		*piece = piece_of(e, record, record->stripe);
		return true;
	}
	return false;
}

bool egress_next(const struct egress *e, uint32_t max_len, struct egress_piece *piece)
{
	uint32_t first = e->lost_from > e->records_gone ? (uint32_t)(e->lost_from - e->records_gone) : 0;
	for (uint32_t i = first; e->lost && i < e->record_count; i++) {
		struct egress_record *record = egress_record_at(e, i);
		if (record->stripe)
			continue;
		*piece = piece_of(e, record, record->last_stripe);
		return true;
	}
	return egress_next_new(e, max_len, piece);
}

bool egress_next_new(const struct egress *e, uint32_t max_len, struct egress_piece *piece)
{
	uint64_t len = egress_sendable(e);
	if (!len && !fin_next(e))
		return false;
	if (len > max_len)
		len = max_len;
	*piece = (struct egress_piece){
	        .offset = e->sent, .len = (uint32_t)len, .fin = e->fin && e->sent + len == e->end};
	return true;
}

static int grow_records(struct egress *e)
{
	if (e->record_count < e->record_capacity)
		return 0;
	if (!may_grow(e))
		return -ENOMEM;
	uint32_t capacity = e->record_capacity ? e->record_capacity * 2 : EGRESS_RECORDS_FIRST;
	struct egress_record *records = memory_new(capacity, sizeof *records);
	if (!records)
		return -ENOMEM;
	for (uint32_t i = 0; i < e->record_count; i++)
		records[i] = *egress_record_at(e, i);
	free_records(e);
	account_of(e)->used_bytes += capacity * sizeof *records;
	e->records = records;
	e->record_capacity = capacity;
	return 0;
}

/* The next record, for `len` bytes from `sent` on. NULL: no memory, or too many. */
static struct egress_record *append_record(struct egress *e, uint32_t len, bool fin)
{
	if (grow_records(e))
		return NULL;
	e->record_count++;
	struct egress_record *record = egress_record_at(e, e->record_count - 1);
	*record = (struct egress_record){.offset = e->sent, .len = len, .fin = fin};
	e->sent += len + fin;
	return record;
}

int egress_leave(struct egress *e, uint64_t len_bytes, uint32_t record_bytes)
{
	assert(len_bytes <= egress_sendable(e));
	while (len_bytes) {
		uint32_t len = len_bytes < record_bytes ? (uint32_t)len_bytes : record_bytes;
		struct egress_record *record = append_record(e, len, false);
		if (!record)
			return -ENOMEM;
		set_lost(e, record);
		len_bytes -= len;
	}
	return 0;
}

int egress_sent(struct egress *e, struct egress_piece *piece, uint32_t stripe, uint64_t now_us)
{
	assert(stripe);
	if (piece->record) {
		struct egress_record *record = piece->record;
		if (record->stripe) {
			/* The first sending is under way still. */
			egress_drop_repeat(e, record);
			record->copy_stripe = record->stripe;
			record->copy_position = record->position;
		} else {
			e->lost--;
			e->lost_from = number_of(e, record);
		}
		record->reinjected = record->sent_us > 0;
		record->stripe = record->last_stripe = stripe;
		record->sent_us = now_us;
		return 0;
	}
	assert(piece->offset == e->sent);
	piece->record = append_record(e, piece->len, piece->fin);
	if (!piece->record)
		return -ENOMEM;
	piece->record->stripe = piece->record->last_stripe = stripe;
	piece->record->sent_us = now_us;
	return 0;
}

void egress_mark_lost(struct egress *e, struct egress_record *record)
{
	if (record->stripe)
		set_lost(e, record);
	record->copy_stripe = 0;
}

void egress_unmark_lost(struct egress *e, struct egress_record *record)
{
	assert(!record->stripe && record->last_stripe);
	e->lost--;
	e->lost_from = number_of(e, record);
	record->stripe = record->last_stripe;
}

void egress_mark_repeat(struct egress *e, struct egress_record *record)
{
	assert(record->stripe);
	e->repeats += !record->repeat;
	record->repeat = true;
}

void egress_drop_repeat(struct egress *e, struct egress_record *record)
{
	e->repeats -= record->repeat;
	record->repeat = false;
}

static bool has_arrived(uint64_t position, uint64_t arrived)
{
	return arrived && position <= arrived;
}

uint32_t egress_stripe_lost(struct egress *e, uint32_t id, uint64_t arrived)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < e->record_count; i++) {
		struct egress_record *record = egress_record_at(e, i);
		if (record->copy_stripe == id && !has_arrived(record->copy_position, arrived))
			record->copy_stripe = 0;
		if (record->stripe != id || has_arrived(record->position, arrived))
			continue;
		if (record->copy_stripe) {
			record->stripe = record->last_stripe = record->copy_stripe;
			record->position = record->copy_position;
			record->copy_stripe = 0;
		} else {
			set_lost(e, record);
			count++;
		}
	}
	return count;
}

int egress_ack(struct egress *e, uint64_t offset, uint64_t edge)
{
	if (offset > e->sent)
		return -EPROTO;
	if (edge > e->edge)
		e->edge = edge;
	if (offset <= e->acked)
		return 0;
	e->acked = offset;
	while (e->record_count) {
		struct egress_record *record = egress_record_at(e, 0);
		if (record->offset + record->len + record->fin > offset)
			break;
		e->lost -= !record->stripe;
		egress_drop_repeat(e, record);
		e->record_first = (e->record_first + 1) & (e->record_capacity - 1);
		e->record_count--;
		e->records_gone++;
	}
	if (!e->record_count && e->record_capacity > 64)
		free_records(e);
	uint64_t low = offset < e->end ? offset : e->end;
	page_store_advance(&e->store, low, low == e->end);
	return 0;
}
