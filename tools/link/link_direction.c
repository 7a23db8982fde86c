#include "link_direction.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

int link_direction_init(struct link_direction *d, size_t frame_max_bytes, size_t memory_bytes)
{
	void *map;

	memset(d, 0, sizeof(*d));
	link_figures_init(&d->figures);
	d->frame_max_bytes = frame_max_bytes;
	d->slot_bytes = (sizeof(struct link_frame) + frame_max_bytes + 1 + 63) / 64 * 64;
	d->pool_slots = memory_bytes / d->slot_bytes;
	if (d->pool_slots == 0)
		return -EINVAL;
	map = mmap(NULL, d->pool_slots * d->slot_bytes, PROT_READ | PROT_WRITE,
	           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (map == MAP_FAILED)
		return -errno;
	d->pool = map;
	return 0;
}

void link_direction_free(struct link_direction *d)
{
	if (d->pool)
		munmap(d->pool, d->pool_slots * d->slot_bytes);
	d->pool = NULL;
}

static struct link_frame *slot_take(struct link_direction *d)
{
	struct link_frame *slot = d->free_slots;

	if (slot)
		d->free_slots = slot->next;
	else if (d->touched_slots < d->pool_slots)
		slot = (struct link_frame *)(void *)(d->pool + d->touched_slots++ * d->slot_bytes);
	return slot;
}

static void slot_give(struct link_direction *d, struct link_frame *slot)
{
	slot->next = d->free_slots;
	d->free_slots = slot;
}

uint8_t *link_direction_buffer(struct link_direction *d)
{
	if (!d->spare)
		d->spare = slot_take(d);
	return d->spare ? d->spare->data : NULL;
}

static void fate_count(struct link_direction *d, enum link_fate fate, size_t len_bytes)
{
	d->counters.frames[fate]++;
	d->counters.bytes[fate] += len_bytes;
}

void link_direction_refresh(struct link_direction *d, uint64_t now_ns)
{
	while (d->unsent && d->unsent->departure_ns <= now_ns) {
		d->queue_bytes -= d->unsent->len_bytes;
		d->queue_frames--;
		d->unsent = d->unsent->next;
	}
}

static bool queue_has_room(const struct link_direction *d, size_t len_bytes)
{
	/* As with a real device, one frame may always be on its way out, whatever its length. */
	return d->figures.queue_bytes == 0 || d->queue_bytes == 0 ||
	       d->queue_bytes + len_bytes <= d->figures.queue_bytes;
}

static uint64_t later_of(uint64_t x, uint64_t y)
{
	return x > y ? x : y;
}

static void frame_append(struct link_direction *d, struct link_frame *frame)
{
	frame->next = NULL;
	if (d->tail)
		d->tail->next = frame;
	else
		d->head = frame;
	d->tail = frame;
	if (!d->unsent)
		d->unsent = frame;
	d->under_way_frames++;
	d->queue_frames++;
	d->queue_bytes += frame->len_bytes;
	if (d->queue_bytes > d->counters.queue_peak_bytes)
		d->counters.queue_peak_bytes = d->queue_bytes;
}

void link_direction_accept(struct link_direction *d, size_t len_bytes, uint64_t now_ns)
{
	const struct link_figures *f = &d->figures;
	struct link_frame *frame = d->spare;
	uint64_t serialise_ns;

	d->counters.frames_in++;
	d->counters.bytes_in += len_bytes;
	if (len_bytes > d->counters.frame_max_bytes)
		d->counters.frame_max_bytes = len_bytes;
	link_direction_refresh(d, now_ns);
	if (len_bytes > d->frame_max_bytes) {
		fate_count(d, LINK_FATE_OVERSIZE, len_bytes);
		return;
	}
	if (f->blackhole) {
		fate_count(d, LINK_FATE_BLACKHOLED, len_bytes);
		return;
	}
	if (!queue_has_room(d, len_bytes)) {
		fate_count(d, LINK_FATE_QUEUE_FULL, len_bytes);
		return;
	}
	if (!frame) {
		fate_count(d, LINK_FATE_NO_MEMORY, len_bytes);
		return;
	}
	d->spare = NULL;
	serialise_ns = f->rate_bps ? (uint64_t)len_bytes * 8000000000ULL / f->rate_bps : 0;
	d->departure_ns = later_of(now_ns, d->departure_ns) + serialise_ns;
	d->due_ns = later_of(d->departure_ns + f->delay_ns, d->due_ns);
	frame->departure_ns = d->departure_ns;
	frame->due_ns = d->due_ns;
	frame->len_bytes = (uint32_t)len_bytes;
	frame->lost = link_loss_draw(&d->loss, f);
	frame_append(d, frame);
}

static void head_drop(struct link_direction *d, enum link_fate fate)
{
	struct link_frame *frame = d->head;

	assert(frame && frame != d->unsent);
	fate_count(d, fate, frame->len_bytes);
	d->head = frame->next;
	if (!d->head)
		d->tail = NULL;
	d->under_way_frames--;
	slot_give(d, frame);
}

const struct link_frame *link_direction_due(struct link_direction *d, uint64_t now_ns)
{
	link_direction_refresh(d, now_ns);
	while (d->head && d->head->due_ns <= now_ns) {
		if (d->figures.blackhole)
			head_drop(d, LINK_FATE_BLACKHOLED);
		else if (d->head->lost)
			head_drop(d, LINK_FATE_LOST);
		else
			return d->head;
	}
	return NULL;
}

void link_direction_done(struct link_direction *d, bool delivered, uint64_t now_ns)
{
	uint64_t late_ns = now_ns - d->head->due_ns;

	if (delivered) {
		d->counters.late_sum_ns += late_ns;
		d->counters.late_max_ns = later_of(d->counters.late_max_ns, late_ns);
	}
	head_drop(d, delivered ? LINK_FATE_DELIVERED : LINK_FATE_WRITE_FAILED);
}

uint64_t link_direction_next_ns(const struct link_direction *d)
{
	return d->head ? d->head->due_ns : LINK_NEVER_NS;
}
