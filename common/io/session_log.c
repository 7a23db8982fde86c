#include "session_log.h"

#include "log.h"
#include "stats.h"

static struct log_limit broken_limit = LOG_LIMIT_DEFAULT;
static struct log_limit limit_limit = LOG_LIMIT_DEFAULT;
/* Enough for every path of every session to come or go at once; but who makes one session after another fills no disk.
 */
static struct log_limit session_limit = {.burst = 200, .interval_us = 100000};
static struct log_limit path_limit = {.burst = 200, .interval_us = 100000};

static void log_flow(struct log_limit *limit, const char *event, const char *session,
                     const struct session_event_info *info)
{
	char reason[128];

	log_limited(limit, LOG_LEVEL_WARN, event, "session=%s flow=%u reason=%s", session, info->flow,
	            log_value(reason, sizeof reason, info->text));
}

void session_log_event(const struct session_event_info *info, const uint8_t id[FRAME_ID_BYTES], const char *path_name)
{
	static const struct {
		const char *name;
		enum log_level level;
		enum { OF_SESSION, OF_PATH, OF_STRIPE } what;
	} kinds[] = {
	        [SESSION_UP] = {"session_up", LOG_LEVEL_INFO, OF_SESSION},
	        [SESSION_DOWN] = {"session_down", LOG_LEVEL_WARN, OF_SESSION},
	        [SESSION_LOST] = {"session_lost", LOG_LEVEL_WARN, OF_SESSION},
	        [SESSION_RENEWED] = {"session_renewed", LOG_LEVEL_WARN, OF_SESSION},
	        [SESSION_GOAWAY] = {"session_goaway", LOG_LEVEL_INFO, OF_SESSION},
	        [SESSION_PATH_UP] = {"path_up", LOG_LEVEL_INFO, OF_PATH},
	        [SESSION_PATH_DOWN] = {"path_down", LOG_LEVEL_WARN, OF_PATH},
	        [SESSION_PATH_QUIET] = {"path_quiet", LOG_LEVEL_DEBUG, OF_PATH},
	        [SESSION_PATH_SILENT] = {"path_silent", LOG_LEVEL_INFO, OF_PATH},
	        [SESSION_PATH_BACK] = {"path_back", LOG_LEVEL_INFO, OF_PATH},
	        [SESSION_STRIPE_UP] = {"stripe_up", LOG_LEVEL_DEBUG, OF_STRIPE},
	        [SESSION_STRIPE_STALE] = {"stripe_stale", LOG_LEVEL_DEBUG, OF_STRIPE},
	        [SESSION_STRIPE_BACK] = {"stripe_back", LOG_LEVEL_DEBUG, OF_STRIPE},
	};
	char session[STATS_ID_MAX];

	stats_session_id(session, id);
	if (info->event == SESSION_FLOW_BROKEN) {
		log_flow(&broken_limit, "flow_broken", session, info);
		return;
	}
	if (info->event == SESSION_LIMIT) {
		log_flow(&limit_limit, "open_limit", session, info);
		return;
	}
	if ((unsigned)info->event >= sizeof kinds / sizeof *kinds)
		return;
	const char *name = kinds[info->event].name;
	enum log_level level = kinds[info->event].level;
	switch (kinds[info->event].what) {
	case OF_SESSION:
		log_limited(&session_limit, level, name, "session=%s", session);
		break;
	case OF_PATH:
		log_limited(&path_limit, level, name, "session=%s path=%s", session, path_name);
		break;
	case OF_STRIPE:
		log_event(level, name, "session=%s path=%s stripe=%u", session, path_name,
		          info->stripe ? info->stripe->index : 0);
		break;
	}
}
