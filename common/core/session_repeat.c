/* What travels although it travels already: copies and repetitions, within the budgets of the paths (budget.h). */
#include "session_run.h"

enum {
	FEW_BYTES = 4096,   /* so many last bytes may take the express lane, be it narrow, */
	MORE_BYTES = 32768, /* and so many while the path is not busy */
	STUCK_REPEATS = 4,  /* flows in a row whose repetition finds no stripe: the others' would hardly */
	HELD_UP_PPM = 2000  /* all sendings of a small frame may be held up so often */
};

static struct path *path_of(const struct run *run, size_t index)
{
	return &run->session->paths[run->stripes[index]->path];
}

void run_account(const struct run *run, size_t index, enum sending sending, uint32_t len)
{
	struct session_stats *stats = &run->session->stats;
	struct stripe_traffic *traffic = &run->stripes[index]->traffic;
	struct budget *budget = &path_of(run, index)->budget;
	switch (sending) {
	case SENDING_NEW:
		budget_earn(budget, len);
		break;
	case SENDING_AGAIN:
		stats->reinjected_bytes += len;
		traffic->reinjected_bytes += len;
		break;
	case SENDING_COPY:
		budget_spend(budget, len);
		stats->copied_bytes += len;
		traffic->copied_bytes += len;
		break;
	case SENDING_REPEAT:
		budget_spend(budget, len);
		stats->repeated_bytes += len;
		traffic->repeated_bytes += len;
		break;
	}
}

bool run_is_idle(const struct run *run, int index)
{
	unsigned path = run->stripes[index]->path;
	return queue_has_idle(run->session, path, run->load_bytes[path]);
}

static bool may_repeat(const struct run *run, size_t index, uint32_t len)
{
	return budget_allows(&path_of(run, index)->budget, len);
}

int run_pick_second(struct run *run, const struct flow *flow, enum sched_class class, uint32_t len, int first,
                    struct path **refused)
{
	int index = run_pick(run, flow, class, len, first);
	*refused = NULL;
	if (index < 0 || may_repeat(run, (size_t)index, len))
		return index;
	*refused = path_of(run, (size_t)index);
	for (size_t i = 0; i < run->count; i++)
		if (!may_repeat(run, i, len))
			run->choices[i].room_bytes = 0;
	index = run_pick(run, flow, class, len, first);
	for (size_t i = 0; i < run->count; i++)
		run_look_at(run, i);
	return index;
}

void run_count_refused(const struct run *run, struct path *path, uint32_t len)
{
	path->refused_bytes += len;
	run->session->stats.refused_bytes += len;
}

/* As run_pick_second, but on another path; on a backup path only if the first is one, too. */
static int pick_other_path(struct run *run, const struct flow *flow, enum sched_class class, uint32_t len, int first,
                           struct path **refused)
{
	const struct stripe *stripe = run->stripes[first];
	*refused = NULL;
	if (path_of(run, (size_t)first)->stripes_up == run->session->stripes_up)
		return -1;
	for (size_t i = 0; i < run->count; i++)
		if (run->stripes[i]->path == stripe->path || (run->stripes[i]->backup && !stripe->backup))
			run->choices[i].usable = false;
	int index = run_pick_second(run, flow, class, len, first, refused);
	for (size_t i = 0; i < run->count; i++)
		run_look_at(run, i);
	return index;
}

/* A copy helps against a loss wherever it travels, against the death of a path only on another; unless that is much
 * slower. On a path that was not heard for a while, the first bytes are worth a copy even if nothing was lost lately.
 */
static int pick_copy(struct run *run, const struct flow *flow, enum sched_class class, uint32_t len, int first,
                     struct path **refused)
{
	bool unproven = path_is_unproven(run->session, run->stripes[first]->path);
	struct path *refused_here = NULL;
	*refused = NULL;
	if (!run_loses(run) && !unproven)
		return -1;
	int index = pick_other_path(run, flow, class, len, first, refused);
	if (run_loses(run) && !unproven) {
		int here = run_pick_second(run, flow, class, len, first, &refused_here);
		if (index < 0 || (here >= 0 && sched_delivery_us(&run->choices[index], len) >
		                                       2 * sched_delivery_us(&run->choices[here], len))) {
			index = here;
			*refused = refused_here;
		}
	}
	return index;
}

unsigned run_pick_copies(struct run *run, const struct flow *flow, enum sched_class class, uint32_t len, int first,
                         int copies[COPIES_MAX])
{
	unsigned count = 0;
	uint64_t ppm = run->choices[first].repair_ppm;
	run_take(run, first, true);
	while (count < COPIES_MAX && (!count || ppm > HELD_UP_PPM)) {
		/* Of one path all of them take the budget. */
		struct path *refused;
		int index = pick_copy(run, flow, class, len * (count + 1), first, &refused);
		if (refused)
			run_count_refused(run, refused, len);
		if (index < 0)
			break;
		ppm = ppm * run->choices[index].repair_ppm / 1000000;
		run_take(run, index, true);
		copies[count++] = index;
	}
	run_take(run, first, false);
	for (unsigned i = 0; i < count; i++)
		run_take(run, copies[i], false);
	return count;
}

int run_pick_idle_copy(struct run *run, const struct flow *flow, uint32_t len, int first)
{
	struct path *refused;
	int index = pick_copy(run, flow, SCHED_SMALL, len, first, &refused);
	if (refused)
		run_count_refused(run, refused, len);
	if (index < 0 || !run_is_idle(run, index))
		return -1;
	/* Half of the budget is kept for what is more urgent. */
	if (may_repeat(run, (size_t)index, len + BUDGET_BURST_BYTES / 2))
		return index;
	run_count_refused(run, path_of(run, (size_t)index), len);
	return -1;
}

/* Whether the record may be repeated later: another stripe of the kind that `refused` is has the budget. */
static bool another_may(const struct run *run, const struct path *refused, uint32_t len, int not_index)
{
	for (size_t i = 0; i < run->count; i++)
		if ((int)i != not_index && run->choices[i].usable && run->choices[i].backup == refused->backup &&
		    may_repeat(run, i, len))
			return true;
	return false;
}

bool run_repeat(struct run *run, struct flow *flow)
{
	struct egress *e = &flow->egress;
	struct egress_piece piece;
	struct path *refused;
	if (!egress_next_repeat(e, &piece))
		return false;
	bool last_bytes = e->sent - e->acked <= LAST_BYTES;
	uint32_t len = FRAME_DATA_HEAD_BYTES + piece.len;
	int before = run_index_of(run, piece.avoid_stripe);
	uint64_t few_bytes = before >= 0 && run_is_idle(run, before) ? MORE_BYTES : FEW_BYTES;
	int copy = run_index_of(run, piece.record->copy_stripe);
	enum sched_class class = e->sent - e->acked <= few_bytes ? SCHED_EXPRESS
	                         : last_bytes                    ? SCHED_SMALL
	                                                         : SCHED_AGAIN;
	run_take(run, copy, true);
	int index = run_pick_second(run, flow, class, len, before, &refused);
	run_take(run, copy, false);
	if (refused && !piece.record->refused) {
		piece.record->refused = true;
		run_count_refused(run, refused, len);
	}
	if (index < 0 && refused && !another_may(run, refused, len, before)) {
		egress_drop_repeat(e, piece.record);
		piece.record->reinjected = true;
		return true;
	}
	if (index < 0)
		return false;
	egress_sent(e, &piece, run->stripes[index]->id, run->session->now_us);
	run_put_data(run, index, flow, &piece, SENDING_REPEAT);
	flow->turn_bytes -= (int32_t)piece.len;
	return true;
}

void run_repeats(struct run *run)
{
	struct flow_list *list = &run->session->turns[TURN_REPEAT];
	uint32_t stuck = 0;
	while (list->first && stuck < list->count && stuck < STUCK_REPEATS) {
		struct flow *flow = list->first;
		bool sent = run_repeat(run, flow);
		stuck = sent ? 0 : stuck + 1;
		flow_update_turn(flow);
		if (list->first == flow && (!sent || flow->turn_bytes <= 0))
			flow_end_turn(flow);
	}
}
