/* What statistics say of a session and of its paths. */
#include "session_internal.h"

void stats_add_traffic(struct stripe_traffic *sum, const struct stripe_traffic *more)
{
	sum->bytes_in += more->bytes_in;
	sum->bytes_out += more->bytes_out;
	sum->copied_bytes += more->copied_bytes;
	sum->repeated_bytes += more->repeated_bytes;
	sum->reinjected_bytes += more->reinjected_bytes;
}

void session_get_stats(const struct session *session, struct session_stats *stats)
{
	*stats = session->stats;
	stats->flows = session->flow_count;
	stats->stripes_up = session->stripes_up;
	stats->egress_pages = session->egress_pool.used;
	stats->ingress_pages = session->ingress_pool.used;
	stats->account_bytes = session->egress_pool.account.used_bytes + session->ingress_pool.account.used_bytes;
	stats->promised_bytes = session->promised_bytes;
}

bool session_get_path_stats(const struct session *session, unsigned path_index, struct session_path_stats *stats)
{
	const struct path *path = &session->paths[path_index];
	*stats = (struct session_path_stats){.stripes_up = path->stripes_up,
	                                     .backup = path->backup,
	                                     .reinject_percent = path->budget.percent,
	                                     .traffic = path->past,
	                                     .refused_bytes = path->refused_bytes};
	for (const struct stripe *stripe = session->stripes; stripe; stripe = stripe->next) {
		if (stripe->path != path_index)
			continue;
		stats_add_traffic(&stats->traffic, &stripe->traffic);
		if (!stripe_is_up(stripe))
			continue;
		stats->stripes_stale += stripe->state == STRIPE_STALE;
		stats->rate_Bps += stripe->info.rate_Bps;
		if (!stats->srtt_us || (stripe->info.srtt_us && stripe->info.srtt_us < stats->srtt_us))
			stats->srtt_us = stripe->info.srtt_us;
	}
	return path->known;
}
