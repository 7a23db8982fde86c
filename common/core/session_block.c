/* Blocks with parity: where segments are lost, what a young flow says goes with a few rows of parity (parity.h) behind
 * it, so that the last bytes need not wait for the kernel's repairs on each of the stripes that carry them: of those
 * that are held up as many may be missing as rows have come. The rows are second sendings, within the budgets of the
 * paths (budget.h).
 *
 * A block ends where the flow's bytes end, or it pauses, or is no longer young, or the block is full.
 */
#include "session_run.h"

#include <string.h>

enum {
	ROWS = PARITY_ROWS_MAX, /* of parity over a long block, */
	ROWS_MIN = 4,           /* a short one, */
	ROW_SYMBOLS = 30,       /* and one more for so many symbols */
	ROWS_BUSY = 2,          /* but while others want the room no more than these, */
	WORTH_SYMBOLS = 96,     /* unless the block has so many symbols, and no bulk was sent */
	BULK_US = 2000000,      /* for so long */
	SYMBOLS_MIN = 3,        /* for less there are copies (session_repeat.c) */
	STRIPES_MIN = 8,        /* with fewer, one stripe holds up more than the rows can stand for */
	SENDERS_MAX = 32,       /* flows with a block at a time, each with a page */
	RECEIVERS_MAX = 64,     /* whose blocks are kept account of */
	PAUSE_US = 2000         /* without new bytes: the block ends */
};

_Static_assert(ROWS *PARITY_SYMBOL_BYTES <= PAGE_BYTES, "the sums of a block are one page");
_Static_assert((int)PARITY_SYMBOL_BYTES == (int)RUN_FRAME_MIN, "a small flow's frame is a symbol");

/* --- Sending ------------------------------------------------------------------------------------------------------*/

void block_drop(struct flow *flow)
{
	struct flow_block *block = &flow->block;
	session_unlink(flow, LINK_PARITY);
	if (!block->page)
		return;
	page_unref(&flow->session->egress_pool, block->page);
	block->page = NULL;
	flow->session->blocks--;
}

static bool may_begin(const struct run *run, const struct flow *flow)
{
	const struct session *session = run->session;
	/* What flows may always have is not for parity. */
	size_t taken = session->egress_pool.used + session->flow_count;
	return egress_sendable(&flow->egress) > (SYMBOLS_MIN - 1) * PARITY_SYMBOL_BYTES && flow->state == FLOW_OPEN &&
	       flow->young_bytes > 0 && run_loses(run) && run->count >= STRIPES_MIN && session->blocks < SENDERS_MAX &&
	       taken < session->egress_pool.limit / 2 && !memory_is_scarce();
}

static void begin(struct flow *flow)
{
	struct page *page = page_new(&flow->session->egress_pool);
	if (!page)
		return;
	memset(page->bytes, 0, ROWS * PARITY_SYMBOL_BYTES);
	flow->block =
	        (struct flow_block){.page = page, .number = ++flow->session->last_block, .start = flow->egress.sent};
	flow->session->blocks++;
}

uint32_t block_limit(const struct run *run, struct flow *flow, uint32_t max_len)
{
	struct flow_block *block = &flow->block;
	/* What was left for other paths comes later: the sums would wait for it. */
	if (block->page && !block->over && flow->egress.sent != block->start + block->len)
		block_drop(flow);
	if (!block->page && may_begin(run, flow))
		begin(flow);
	if (!block->page || block->over)
		return max_len;
	uint32_t left = PARITY_SYMBOL_BYTES - block->len % PARITY_SYMBOL_BYTES;
	return left < max_len ? left : max_len;
}

bool block_covers(const struct flow *flow, uint64_t offset)
{
	const struct flow_block *block = &flow->block;
	return block->page && !block->over && offset == block->start + block->len;
}

/* What rows over a long block take, other young flows lack: they are worth that to them, as they are to this one; not
 * to bulk, and over short blocks they are a large part of all. */
static bool is_worth_it(const struct flow *flow)
{
	const struct session *session = flow->session;
	bool bulk = session->bulk_us && session->now_us - session->bulk_us < BULK_US;
	return !bulk && parity_symbols(flow->block.len) >= WORTH_SYMBOLS;
}

static uint8_t rows_for(uint32_t len_bytes)
{
	uint32_t symbols = parity_symbols(len_bytes), rows = ROWS_MIN + symbols / ROW_SYMBOLS;
	if (symbols < SYMBOLS_MIN)
		return 0;
	return rows < ROWS ? (uint8_t)rows : ROWS;
}

/* It has new bytes, or its end, to send. */
static bool has_more(const struct flow *flow)
{
	struct egress_piece piece;
	return egress_next_new(&flow->egress, 1, &piece);
}

void block_sent(struct flow *flow, const struct egress_piece *piece)
{
	struct session *session = flow->session;
	struct flow_block *block = &flow->block;
	if (!block->page || block->over)
		return;
	for (uint32_t done = 0; done < piece->len;) {
		size_t len = piece->len - done;
		const uint8_t *bytes = page_store_at(&flow->egress.store, piece->offset + done, &len, NULL);
		parity_add(block->page->bytes, ROWS, block->len, bytes, len);
		block->len += (uint32_t)len;
		done += (uint32_t)len;
	}
	block->fin = piece->fin;
	block->over = block->fin || block->len == PARITY_BLOCK_MAX_BYTES || flow->young_bytes <= 0;
	block->due_us = session->now_us + (block->over ? 0 : PAUSE_US);
	if (!block->over && has_more(flow))
		return;
	session_link(flow, LINK_PARITY);
	if (blocks_next_us(session) < session->tick_us)
		session->tick_us = blocks_next_us(session);
}

/* The next row. False: no stripe takes it now. */
static bool send_row(struct run *run, struct flow *flow)
{
	struct flow_block *block = &flow->block;
	struct path *refused;
	struct frame f = {.type = FRAME_PARITY,
	                  .flags = block->fin ? FRAME_FLAG_FIN : 0,
	                  .flow = flow->id,
	                  .block = {.start = block->start, .len = block->len, .rows = ROWS, .row = block->rows_sent},
	                  .payload_len = PARITY_SYMBOL_BYTES};
	int index =
	        run_pick_second(run, flow, SCHED_SMALL, FRAME_PARITY_HEAD_BYTES + PARITY_SYMBOL_BYTES, -1, &refused);
	if (index < 0 && !refused)
		return false;
	if (refused)
		run_count_refused(run, refused, FRAME_PARITY_HEAD_BYTES + PARITY_SYMBOL_BYTES);
	/* The budget, or what others want, ends it. */
	bool dear = !is_worth_it(flow) && block->rows_sent >= ROWS_BUSY;
	if (index < 0 || (dear && !run_is_idle(run, index))) {
		block->rows_sent = ROWS;
		return true;
	}
	run_put_page(run, index, &f, block->page, block->page->bytes + block->rows_sent * PARITY_SYMBOL_BYTES);
	block->rows_sent++;
	return true;
}

/* Sends the rest of its parity. False: no stripe takes more now. */
static bool send_rows(struct run *run, struct flow *flow)
{
	struct flow_block *block = &flow->block;
	block->over = true;
	while (block->rows_sent < rows_for(block->len))
		if (!send_row(run, flow))
			return false;
	block_drop(flow);
	return true;
}

/* Rows help only once what came on other stripes is there, and the repairs are not: for so long after they are due
 * others' bytes may go before them, µs. */
static uint64_t patience_us(const struct flow *flow)
{
	return is_worth_it(flow) ? 0 : flow->session->longest_rtt_us / 2;
}

static bool may_wait(const struct flow *flow)
{
	const struct session *session = flow->session;
	bool others = session->turns[TURN_EXPRESS].first || session->turns[TURN_BULK].first;
	return others && !flow->block.rows_sent && session->now_us < flow->block.due_us + patience_us(flow);
}

/* More bytes have come of a flow that paused. */
static bool goes_on(const struct flow *flow)
{
	return !flow->block.over && has_more(flow);
}

uint64_t blocks_next_us(const struct session *session)
{
	uint64_t next_us = UINT64_MAX;
	for (const struct flow *flow = session->linked[LINK_PARITY].first; flow; flow = flow->links[LINK_PARITY].next) {
		uint64_t due_us = flow->block.due_us;
		/* What waits for a stripe's room does not wait for the clock. */
		if (flow->block.over)
			due_us += patience_us(flow);
		if (due_us > session->now_us && due_us < next_us)
			next_us = due_us;
	}
	return next_us;
}

void blocks_send(struct run *run)
{
	const struct session *session = run->session;
	struct flow *next;
	for (struct flow *flow = run->session->linked[LINK_PARITY].first; flow; flow = next) {
		next = flow->links[LINK_PARITY].next;
		if (flow->egress.acked >= flow->block.start + flow->block.len)
			block_drop(flow);
		else if (goes_on(flow))
			session_unlink(flow, LINK_PARITY);
		else if (flow->block.due_us <= session->now_us && !may_wait(flow) && !send_rows(run, flow))
			return;
	}
}

uint32_t block_frames(const struct flow *flow, const struct stripe *stripe)
{
	return flow->block.page && stripe->block == flow->block.number ? stripe->block_frames : 0;
}

void block_count(const struct flow *flow, struct stripe *stripe)
{
	stripe->block_frames = block_frames(flow, stripe) + 1;
	stripe->block = flow->block.number;
}

struct frame_block block_of(const struct flow *flow)
{
	return (struct frame_block){.start = flow->block.start, .rows = ROWS};
}

/* --- Receiving ----------------------------------------------------------------------------------------------------*/

void block_expect(struct flow *flow, const struct frame *f)
{
	struct flow_list *list = &flow->session->linked[LINK_BLOCK];
	const struct block *before = flow->ingress.block;
	ingress_expect(&flow->ingress, f->block.start, memory_is_scarce() ? 0 : f->block.rows);
	if (flow->ingress.block != before)
		session_unlink(flow, LINK_BLOCK);
	if (!flow->ingress.block)
		return;
	session_link(flow, LINK_BLOCK);
	if (list->count > RECEIVERS_MAX)
		block_forget(list->first);
}

void block_forget(struct flow *flow)
{
	ingress_drop_block(&flow->ingress);
	session_unlink(flow, LINK_BLOCK);
}
