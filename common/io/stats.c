#include "stats.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>

#include "log.h"

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
	log_event(
	        LOG_LEVEL_INFO, "stats_stripe",
	        "session=%s path=%s stripe=%u state=%s srtt_us=%u rate_Bps=%" PRIu64 " cwnd_bytes=%u in_flight_bytes=%u"
	        " backlog_bytes=%" PRIu64 " room_bytes=%u bytes_in=%" PRIu64 " bytes_out=%" PRIu64
	        " reinjected_bytes=%" PRIu64 " copied_bytes=%" PRIu64 " sent_segments=%" PRIu64
	        " lost_segments=%" PRIu64,
	        id, path, stripe->index, stripe_state_name(stripe->state), stripe->info.srtt_us, stripe->info.rate_Bps,
	        stripe->info.cwnd_bytes, stripe->info.in_flight_bytes, stripe_backlog_bytes(stripe), stripe->room_bytes,
	        stripe->bytes_in, stripe->bytes_out, stripe->reinjected_bytes, stripe->copied_bytes,
	        stripe->info.sent_segments, stripe->info.lost_segments);
}

void stats_log(const struct session *session, const uint8_t id[FRAME_ID_BYTES], unsigned apps,
               const char *(*path_name)(void *user, unsigned path), void *user)
{
	struct session_stats st;
	char text[STATS_ID_MAX];

	session_get_stats(session, &st);
	stats_session_id(text, id);
	log_event(LOG_LEVEL_INFO, "stats",
	          "session=%s flows=%u stripes_up=%u bytes_in=%" PRIu64 " bytes_out=%" PRIu64
	          " reinjected_bytes=%" PRIu64 " copied_bytes=%" PRIu64 " duplicate_bytes=%" PRIu64
	          " egress_pages=%" PRIu64 " ingress_pages=%" PRIu64 " promised_bytes=%" PRIu64 " flows_opened=%" PRIu64
	          " flows_ended=%" PRIu64 " flows_reset=%" PRIu64 " apps=%u files=%u",
	          text, st.flows, st.stripes_up, st.bytes_in, st.bytes_out, st.reinjected_bytes, st.copied_bytes,
	          st.duplicate_bytes, st.egress_pages, st.ingress_pages, st.promised_bytes, st.flows_opened,
	          st.flows_ended, st.flows_reset, apps, stats_count_files());
	for (const struct stripe *stripe = session_first_stripe(session); stripe; stripe = stripe->next)
		if (stripe->state != STRIPE_DEAD)
			log_stripe(stripe, text, path_name(user, stripe->path));
}
