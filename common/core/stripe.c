#include "stripe.h"

#include <assert.h>

enum { LOWAT_MIN_BYTES = 4 * 1024, LOWAT_MAX_BYTES = 2 * 1024 * 1024, WAKEUP_US = 10000, SOON_MIN_BYTES = 8192 };

uint32_t stripe_lowat_bytes(uint64_t pacing_Bps)
{
	uint64_t bytes = pacing_Bps * WAKEUP_US / 1000000 * 2;

	if (bytes < LOWAT_MIN_BYTES)
		bytes = LOWAT_MIN_BYTES;
	return bytes < LOWAT_MAX_BYTES ? (uint32_t)bytes : LOWAT_MAX_BYTES;
}

uint64_t stripe_rate_Bps(const struct stripe_info *info)
{
	if (!info->app_limited || !info->srtt_us)
		return info->rate_Bps;
	uint64_t window_Bps = (uint64_t)info->cwnd_bytes * 1000000 / info->srtt_us;
	/* BBR remembers of a connection that had little to say that it delivers little. */
	if (info->pacing_Bps && info->pacing_Bps < window_Bps)
		window_Bps = info->pacing_Bps;
	return window_Bps > info->rate_Bps ? window_Bps : info->rate_Bps;
}

uint64_t stripe_soon_bytes(const struct stripe_info *info)
{
	uint64_t left_bytes = info->cwnd_bytes > info->under_way_bytes ? info->cwnd_bytes - info->under_way_bytes : 0;
	uint64_t srtt_us = info->srtt_us, within_us = srtt_us / 2 > WAKEUP_US ? srtt_us / 2 : WAKEUP_US;
	if (!srtt_us)
		return UINT64_MAX;
	return left_bytes + info->cwnd_bytes * within_us / srtt_us + SOON_MIN_BYTES;
}

uint64_t stripe_position(const struct stripe *stripe)
{
	return stripe->traffic.bytes_out + stripe->output_bytes;
}

uint64_t stripe_backlog_bytes(const struct stripe *stripe)
{
	return stripe->output_bytes + stripe->info.notsent_bytes;
}

bool stripe_output_fits(const struct stripe *stripe, unsigned pages)
{
	return stripe->item_count + 1 + pages <= STRIPE_OUTPUT_ITEMS;
}

static struct stripe_item *append(struct stripe *stripe, uint32_t len)
{
	assert(stripe->item_count < STRIPE_OUTPUT_ITEMS);
	struct stripe_item *item = &stripe->items[(stripe->item_first + stripe->item_count) % STRIPE_OUTPUT_ITEMS];
	stripe->item_count++;
	stripe->output_bytes += len;
	item->len = len;
	return item;
}

void stripe_output_head(struct stripe *stripe, const uint8_t *bytes, uint32_t len)
{
	assert(len <= STRIPE_OUTPUT_INLINE);
	struct stripe_item *item = append(stripe, len);
	item->page = NULL;
	memcpy(item->inline_bytes, bytes, len);
	item->start = item->inline_bytes;
}

void stripe_output_slice(struct stripe *stripe, struct page *page, const uint8_t *start, uint32_t len)
{
	struct stripe_item *item = append(stripe, len);
	item->page = page_ref(page);
	item->start = start;
}

unsigned stripe_output_peek(const struct stripe *stripe, struct iovec *slices, unsigned max)
{
	unsigned count = 0;
	for (; count < max && count < stripe->item_count; count++) {
		const struct stripe_item *item = &stripe->items[(stripe->item_first + count) % STRIPE_OUTPUT_ITEMS];
		slices[count] = (struct iovec){(void *)(uintptr_t)item->start, item->len};
	}
	return count;
}

void stripe_output_consume(struct stripe *stripe, size_t len)
{
	assert(len <= stripe->output_bytes);
	stripe->output_bytes -= len;
	stripe->traffic.bytes_out += len;
	while (stripe->item_count) {
		struct stripe_item *item = &stripe->items[stripe->item_first];
		if (len < item->len) {
			item->start += len;
			item->len -= (uint32_t)len;
			return;
		}
		len -= item->len;
		if (item->page)
			page_unref(stripe->pool, item->page);
		stripe->item_first = (stripe->item_first + 1) % STRIPE_OUTPUT_ITEMS;
		stripe->item_count--;
	}
}

void stripe_output_clear(struct stripe *stripe)
{
	uint64_t sent = stripe->traffic.bytes_out;
	stripe_output_consume(stripe, stripe->output_bytes);
	stripe->traffic.bytes_out = sent;
}

const char *stripe_state_name(enum stripe_state state)
{
	static const char *const names[] = {"handshake", "up", "stale", "dead"};
	return (unsigned)state < sizeof names / sizeof names[0] ? names[state] : "?";
}
