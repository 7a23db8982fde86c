#include "ingress.h"

#include <assert.h>
#include <errno.h>

#include "frame.h"

void ingress_init(struct ingress *in, struct page_pool *pool)
{
	*in = (struct ingress){.edge = FRAME_FIRST_WINDOW_BYTES, .end = UINT64_MAX};
	page_store_init(&in->store, pool, 0);
	range_set_init(&in->beyond, &pool->account);
}

void ingress_fini(struct ingress *in)
{
	page_store_fini(&in->store);
	range_set_fini(&in->beyond);
}

/* One gap's worth of new bytes; `bytes` NULL: they are in place. */
static int put_new(struct ingress *in, struct range gap, const uint8_t *bytes)
{
	int err = page_store_reserve(&in->store, gap.from, gap.to);
	if (err)
		return err;
	if (gap.from != in->next) {
		err = range_set_add(&in->beyond, gap.from, gap.to);
		if (err)
			return err == -E2BIG ? -EPROTO : err;
	} else {
		in->next = gap.to;
	}
	if (bytes)
		page_store_write(&in->store, gap.from, bytes, (size_t)(gap.to - gap.from));
	return 0;
}

static int put_fin(struct ingress *in, uint64_t end)
{
	if (in->end == end)
		return 0;
	if (in->end != UINT64_MAX || end < in->highest)
		return -EPROTO;
	in->end = end;
	return 1;
}

int ingress_put(struct ingress *in, uint64_t offset, const uint8_t *bytes, uint32_t len, bool fin)
{
	uint64_t to = offset + len;
	int changed = 0;

	if (to > in->edge || to > in->end)
		return -EPROTO;
	if (fin) {
		changed = put_fin(in, to);
		if (changed < 0)
			return changed;
	}
	/* After the FIN in order, `next` is end + 1 and nothing can be new. */
	uint64_t from = offset > in->next ? offset : in->next;
	struct range gap;
	while (from < to && range_set_gap(&in->beyond, from, to, &gap)) {
		int err = put_new(in, gap, bytes ? bytes + (gap.from - offset) : NULL);
		if (err)
			return err;
		changed = 1;
		from = gap.to;
		if (in->next == gap.to)
			in->next = range_set_take_from(&in->beyond, in->next);
		if (from < in->next)
			from = in->next;
	}
	if (len && to > in->highest)
		in->highest = to;
	if (in->next == in->end)
		in->next = in->end + 1;
	return changed;
}

unsigned ingress_place(struct ingress *in, uint64_t offset, uint32_t len, struct iovec *slices, unsigned max,
                       size_t *bytes)
{
	struct range gap;
	uint64_t to = offset + len;
	if (offset < in->next || to > in->edge || to > in->end || !range_set_gap(&in->beyond, offset, to, &gap))
		return 0;
	if (gap.from != offset || gap.to != to || page_store_reserve(&in->store, offset, to))
		return 0;
	return page_store_slices(&in->store, offset, to, slices, max, bytes);
}

int ingress_placed(struct ingress *in, uint64_t offset, uint32_t len, bool fin)
{
	return ingress_put(in, offset, NULL, len, fin);
}

uint64_t ingress_readable(const struct ingress *in)
{
	uint64_t to = in->next > in->end ? in->end : in->next;
	return to - in->delivered;
}

unsigned ingress_peek(const struct ingress *in, struct iovec *slices, unsigned max)
{
	size_t covered;
	return page_store_slices(&in->store, in->delivered, in->delivered + ingress_readable(in), slices, max,
	                         &covered);
}

void ingress_consume(struct ingress *in, uint64_t len)
{
	assert(len <= ingress_readable(in));
	in->delivered += len;
	page_store_advance(&in->store, in->delivered, in->delivered == in->highest);
}

bool ingress_at_end(const struct ingress *in)
{
	return in->end != UINT64_MAX && in->delivered == in->end && in->next == in->end + 1;
}
