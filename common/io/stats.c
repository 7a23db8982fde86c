#include "stats.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>

#include "log.h"
#include "stripe_io.h"

const char *stats_session_id(char buf[STATS_ID_MAX], const uint8_t id[FRAME_ID_BYTES])
{
	snprintf(buf, STATS_ID_MAX, "%02x%02x%02x%02x", id[0], id[1], id[2], id[3]);
	return buf;
}

unsigned stats_count_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;

	if (!dir)
		return 0;
	for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir))
		count += entry->d_name[0] != '.';
	closedir(dir);
	return count - 1; /* the directory itself */
}

static void log_stripe(const struct stripe *stripe, const char *id, const char *path)
{
	const struct stripe_traffic *traffic = &stripe->traffic;

	log_event(LOG_LEVEL_INFO, "stats_stripe",
	          "session=%s path=%s stripe=%u state=%s tls=%s srtt_us=%u rate_Bps=%" PRIu64
	          " cwnd_bytes=%u in_flight_bytes=%u"
	          " backlog_bytes=%" PRIu64 " room_bytes=%u bytes_in=%" PRIu64 " bytes_out=%" PRIu64
	          " copied_bytes=%" PRIu64 " repeated_bytes=%" PRIu64 " reinjected_bytes=%" PRIu64
	          " sent_segments=%" PRIu64 " lost_segments=%" PRIu64,
	          id, path, stripe->index, stripe_state_name(stripe->state), stripe_io_tls(stripe),
	          stripe->info.srtt_us, stripe->info.rate_Bps, stripe->info.cwnd_bytes, stripe->info.in_flight_bytes,
	          stripe_backlog_bytes(stripe), stripe->room_bytes, traffic->bytes_in, traffic->bytes_out,
	          traffic->copied_bytes, traffic->repeated_bytes, traffic->reinjected_bytes, stripe->info.sent_segments,
	          stripe->info.lost_segments);
}

static const char *state_of(const struct session_path_stats *path)
{
	if (!path->stripes_up)
		return "down";
	return path->stripes_stale < path->stripes_up ? "up" : "stale";
}

static void log_path(const struct session_path_stats *path, const char *id, const char *name)
{
	const struct stripe_traffic *traffic = &path->traffic;

	log_event(LOG_LEVEL_INFO, "stats_path",
	          "session=%s path=%s state=%s backup=%s stripes_up=%u stripes_stale=%u srtt_us=%u rate_Bps=%" PRIu64
	          " bytes_in=%" PRIu64 " bytes_out=%" PRIu64 " reinject_percent=%u copied_bytes=%" PRIu64
	          " repeated_bytes=%" PRIu64 " refused_bytes=%" PRIu64 " reinjected_bytes=%" PRIu64,
	          id, name, state_of(path), path->backup ? "true" : "false", path->stripes_up, path->stripes_stale,
	          path->srtt_us, path->rate_Bps, traffic->bytes_in, traffic->bytes_out, path->reinject_percent,
	          traffic->copied_bytes, traffic->repeated_bytes, path->refused_bytes, traffic->reinjected_bytes);
}

void stats_log(const struct session *session, const uint8_t id[FRAME_ID_BYTES], unsigned apps,
               const char *(*path_name)(void *user, unsigned path), void *user)
{
	struct session_stats st;
	char text[STATS_ID_MAX];

	session_get_stats(session, &st);
	stats_session_id(text, id);
	log_event(LOG_LEVEL_INFO, "stats",
	          "session=%s flows=%u stripes_up=%u bytes_in=%" PRIu64 " bytes_out=%" PRIu64 " copied_bytes=%" PRIu64
	          " repeated_bytes=%" PRIu64 " refused_bytes=%" PRIu64 " reinjected_bytes=%" PRIu64
	          " duplicate_bytes=%" PRIu64 " recovered_bytes=%" PRIu64 " dropped_bytes=%" PRIu64
	          " egress_pages=%" PRIu64 " ingress_pages=%" PRIu64 " account_bytes=%" PRIu64
	          " promised_bytes=%" PRIu64 " flows_opened=%" PRIu64 " flows_ended=%" PRIu64 " flows_reset=%" PRIu64
	          " apps=%u files=%u",
	          text, st.flows, st.stripes_up, st.bytes_in, st.bytes_out, st.copied_bytes, st.repeated_bytes,
	          st.refused_bytes, st.reinjected_bytes, st.duplicate_bytes, st.recovered_bytes, st.dropped_bytes,
	          st.egress_pages, st.ingress_pages, st.account_bytes, st.promised_bytes, st.flows_opened,
	          st.flows_ended, st.flows_reset, apps, stats_count_files());
	for (unsigned i = 0; i < SESSION_PATHS_MAX; i++) {
		struct session_path_stats path;
		if (session_get_path_stats(session, i, &path))
			log_path(&path, text, path_name(user, i));
	}
	for (const struct stripe *stripe = session_first_stripe(session); stripe; stripe = stripe->next)
		if (stripe->state != STRIPE_DEAD)
			log_stripe(stripe, text, path_name(user, stripe->path));
}
