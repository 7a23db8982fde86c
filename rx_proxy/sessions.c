#include "sessions.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "../common/core/memory.h"
#include "../common/io/log.h"
#include "../common/io/session_log.h"
#include "../common/io/sock.h"
#include "../common/io/sockaddr.h"
#include "../common/io/stats.h"
#include "../common/io/stripe_io.h"

enum { IDLE_MAX_US = 5000000 };

static const double sweep_interval_s = 1.0;

static struct log_limit freed_limit = {.burst = 100, .interval_us = 100000};
static struct log_limit full_limit = LOG_LIMIT_DEFAULT;
static struct log_limit option_limit = LOG_LIMIT_DEFAULT;
static struct log_limit foreign_limit = LOG_LIMIT_DEFAULT;

struct rx_session {
	struct rx_session *next;
	struct sessions *sessions;
	struct runner_session entry;
	struct session_config config;
	const char *identity; /* of all its stripes: an entry of the one table of keys; NULL: there are no keys */
	struct rx_stripe *stripes;
	uint64_t used_us; /* when it last had a stripe or a flow */
	bool lost;        /* the engine gave it up, and no stripe has come since */
};

/* A stripe's place in the list of its session. */
struct rx_stripe {
	struct rx_stripe *next, **at; /* *at: this one */
	struct rx_session *rx;
	struct stripe_io *io;
};

/* rx_proxy does not know what tx_proxy calls its paths. */
static const char *path_name(void *user, unsigned path)
{
	static const char *const names[SESSION_PATHS_MAX] = {"path0",  "path1",  "path2",  "path3", "path4",  "path5",
	                                                     "path6",  "path7",  "path8",  "path9", "path10", "path11",
	                                                     "path12", "path13", "path14", "path15"};

	return path < SESSION_PATHS_MAX ? names[path] : "?";
}

/* --- Callbacks ---------------------------------------------------------------------------------------------------- */

static void on_flow_open(void *user, struct flow *flow)
{
	struct rx_session *rx = user;

	connector_flow_open(rx->sessions->connector, flow);
}

static void on_flow_readable(void *user, struct flow *flow)
{
	connector_flow_readable(flow);
}

static void on_flow_writable(void *user, struct flow *flow)
{
	connector_flow_writable(flow);
}

static void on_flow_ended(void *user, struct flow *flow, enum reset_reason reason)
{
	connector_flow_ended(flow, reason);
}

/* False: there are no random numbers. */
static bool choose_incarnation(struct rx_session *rx)
{
	return getrandom(rx->config.incarnation, FRAME_ID_BYTES, 0) == FRAME_ID_BYTES;
}

static void on_event(void *user, const struct session_event_info *info)
{
	struct rx_session *rx = user;

	session_log_event(info, rx->config.id, path_name(NULL, info->path));
	if (info->event != SESSION_LOST)
		return;
	rx->lost = true;
	if (choose_incarnation(rx))
		session_renew(rx->entry.session, rx->config.incarnation);
}

static const struct session_ops session_ops = {
        .flow_open = on_flow_open,
        .flow_readable = on_flow_readable,
        .flow_writable = on_flow_writable,
        .flow_ended = on_flow_ended,
        .stripe_output = stripe_io_output,
        .stripe_measure = stripe_io_measure,
        .event = on_event,
};

/* --- One session -------------------------------------------------------------------------------------------------- */

static struct rx_session *find(const struct sessions *sessions, const uint8_t id[FRAME_ID_BYTES])
{
	struct rx_session *rx = sessions->first;

	while (rx && memcmp(rx->config.id, id, FRAME_ID_BYTES) != 0)
		rx = rx->next;
	return rx;
}

static struct rx_session *make(struct sessions *sessions, const uint8_t id[FRAME_ID_BYTES], const char *identity)
{
	const struct conf_limits *limits = &sessions->conf->limits;
	struct rx_session *rx = calloc(1, sizeof *rx);

	if (!rx)
		return NULL;
	rx->sessions = sessions;
	rx->identity = identity;
	rx->used_us = sessions->runner->now_us;
	rx->config = (struct session_config){
	        .role = SESSION_SERVER,
	        .limits = {.flows = limits->flows,
	                   .flow_window_bytes = limits->flow_window_bytes,
	                   .memory_bytes = limits->memory_bytes,
	                   .timeout_us = (uint64_t)limits->session_timeout_ms * 1000},
	};
	memcpy(rx->config.id, id, FRAME_ID_BYTES);
	if (choose_incarnation(rx))
		rx->entry.session = session_new(&rx->config, &session_ops, rx, sessions->runner->now_us);
	if (!rx->entry.session) {
		free(rx);
		return NULL;
	}
	rx->next = sessions->first;
	sessions->first = rx;
	sessions->count++;
	runner_add(sessions->runner, &rx->entry);
	return rx;
}

/* With its flows and stripes, if it has any left; their sockets are the caller's. */
static void free_session(struct sessions *sessions, struct rx_session *rx)
{
	struct rx_session **at = &sessions->first;
	char id[STATS_ID_MAX];

	while (*at != rx)
		at = &(*at)->next;
	*at = rx->next;
	sessions->count--;
	runner_remove(sessions->runner, &rx->entry);
	session_free(rx->entry.session);
	log_limited(&freed_limit, LOG_LEVEL_INFO, "session_freed", "session=%s", stats_session_id(id, rx->config.id));
	free(rx);
}

static bool is_unused(const struct rx_session *rx)
{
	struct session_stats st;

	session_get_stats(rx->entry.session, &st);
	return !rx->stripes && !st.flows;
}

/* Frees sessions that were unused for as long, and lost ones. */
static void free_unused(struct sessions *sessions, uint64_t idle_us)
{
	struct rx_session *next;

	for (struct rx_session *rx = sessions->first; rx; rx = next) {
		next = rx->next;
		if (!is_unused(rx))
			rx->used_us = sessions->runner->now_us;
		else if (rx->lost || sessions->runner->now_us - rx->used_us >= idle_us)
			free_session(sessions, rx);
	}
}

/* A tx_proxy that dies leaves a session behind whose flows wait for it; when it comes back it makes another. With no
 * place left, its oldest one that nobody holds is given up: the place is free with the next attempt. */
static void expire_oldest(struct sessions *sessions, const char *identity)
{
	struct rx_session *oldest = NULL;

	for (struct rx_session *rx = sessions->first; rx; rx = rx->next)
		if (rx->identity == identity && !rx->stripes && !rx->lost)
			oldest = rx; /* new ones come in front */
	if (oldest)
		session_expire(oldest->entry.session, sessions->runner->now_us);
}

static const struct rx_session *newest_of(const struct sessions *sessions, const char *identity)
{
	const struct rx_session *rx = sessions->first;

	while (rx && rx->identity != identity)
		rx = rx->next;
	return rx;
}

/* One place is kept for each identity that has no session yet, so that nobody who has a key keeps another out. */
static bool has_place(const struct sessions *sessions, const char *identity)
{
	size_t taken = sessions->count;

	if (identity && taken + sessions->conf->key_count >= sessions->conf->sessions) {
		taken += sessions->conf->key_count - !newest_of(sessions, identity);
		for (const struct rx_session *rx = sessions->first; rx; rx = rx->next)
			taken -= rx == newest_of(sessions, rx->identity);
	}
	return taken < sessions->conf->sessions;
}

static void on_sweep(struct ev_loop *loop, ev_timer *w, int events)
{
	free_unused(w->data, IDLE_MAX_US);
}

/* --- Stripes ------------------------------------------------------------------------------------------------------ */

static void on_stripe_closed(void *user, struct stripe_io *io)
{
	struct rx_stripe *stripe = user;

	*stripe->at = stripe->next;
	if (stripe->next)
		stripe->next->at = stripe->at;
	memory_free(stripe);
}

static const struct stripe_io_owner stripe_owner = {.closed = on_stripe_closed};

/* The congestion control decides about what is sent from here: the administrator's word counts, which stripes inherit
 * from the listening socket, else the far end's wish. */
static void set_congestion(const struct conf_rx *conf, const struct hello *hello, int fd)
{
	int err = conf->congestion[0] ? 0 : sock_set_congestion(fd, hello->congestion);
	char value[64], why[128];

	if (err)
		log_limited(&option_limit, LOG_LEVEL_WARN, "congestion_refused", "congestion=%s error=%s",
		            log_value(value, sizeof value, hello->congestion),
		            log_value(why, sizeof why, strerror(-err)));
}

/* False: no memory, or the session has too many; then the transport is closed. */
static bool add_stripe(struct rx_session *rx, const struct hello *hello, const struct transport *transport,
                       const struct addr *remote, const uint8_t *rest, size_t rest_len)
{
	struct runner *runner = rx->sessions->runner;
	struct rx_stripe *stripe = memory_new(1, sizeof *stripe);
	struct stripe *engine;

	if (!stripe) {
		struct transport lost = *transport;
		transport_reset(&lost);
		return false;
	}
	stripe->rx = rx;
	stripe->io = stripe_io_new(runner, transport, remote, path_name(NULL, hello->path), &stripe_owner, stripe);
	engine = stripe->io ? session_stripe_accepted(rx->entry.session, hello, stripe->io, runner->now_us) : NULL;
	if (stripe->io)
		stripe_io_start(stripe->io, engine);
	if (!engine) {
		memory_free(stripe);
		return false;
	}
	stripe->next = rx->stripes;
	stripe->at = &rx->stripes;
	if (stripe->next)
		stripe->next->at = &stripe->next;
	rx->stripes = stripe;
	rx->lost = false;
	if (rest_len)
		stripe_io_in(stripe->io, rest, rest_len);
	return true;
}

/* Whether the session's identity is another one. Ids are random, so this is no accident. */
static bool is_foreign(const struct rx_session *rx, const char *identity, const struct addr *remote)
{
	char text[SOCKADDR_TEXT_MAX];

	if (rx->identity == identity)
		return false;
	log_limited(&foreign_limit, LOG_LEVEL_WARN, "stripe_refused",
	            "remote=%s identity=%s reason=\"the session of another identity\"", sockaddr_text(text, remote),
	            identity ? identity : "");
	return true;
}

enum welcome_status sessions_join(struct sessions *sessions, const struct hello *hello,
                                  const struct transport *transport, const struct addr *remote, const uint8_t *rest,
                                  size_t rest_len)
{
	const char *identity = transport_identity(transport);
	struct rx_session *rx = find(sessions, hello->session);

	if (sessions->stopped)
		return WELCOME_BUSY;
	if (!rx && !has_place(sessions, identity))
		free_unused(sessions, 0);
	if (!rx && has_place(sessions, identity))
		rx = make(sessions, hello->session, identity);
	if (!rx) {
		expire_oldest(sessions, identity);
		log_limited(&full_limit, LOG_LEVEL_WARN, "session_refused", "sessions=%u identity=%s", sessions->count,
		            identity ? identity : "");
		return WELCOME_BUSY;
	}
	if (is_foreign(rx, identity, remote))
		return WELCOME_DENIED;
	set_congestion(sessions->conf, hello, transport->fd);
	if (!add_stripe(rx, hello, transport, remote, rest, rest_len))
		log_limited(&full_limit, LOG_LEVEL_WARN, "stripe_refused", "sessions=%u", sessions->count);
	return WELCOME_OK;
}

/* --- Life --------------------------------------------------------------------------------------------------------- */

void sessions_init(struct sessions *sessions, struct runner *runner, const struct conf_rx *conf,
                   struct connector *connector)
{
	*sessions = (struct sessions){.runner = runner, .conf = conf, .connector = connector};
	ev_timer_init(&sessions->sweep, on_sweep, 0, sweep_interval_s);
	sessions->sweep.data = sessions;
	ev_timer_again(runner->loop, &sessions->sweep);
}

void sessions_fini(struct sessions *sessions)
{
	ev_timer_stop(sessions->runner->loop, &sessions->sweep);
	while (sessions->first) {
		struct rx_session *rx = sessions->first;
		struct rx_stripe *stripes = rx->stripes;
		free_session(sessions, rx);
		while (stripes) {
			struct rx_stripe *next = stripes->next;
			stripe_io_free(stripes->io);
			memory_free(stripes);
			stripes = next;
		}
	}
}

void sessions_stop(struct sessions *sessions)
{
	sessions->stopped = true;
	for (struct rx_session *rx = sessions->first; rx; rx = rx->next)
		session_goaway(rx->entry.session, sessions->runner->now_us);
}

bool sessions_busy(const struct sessions *sessions)
{
	struct session_stats st;

	for (const struct rx_session *rx = sessions->first; rx; rx = rx->next) {
		session_get_stats(rx->entry.session, &st);
		if (st.flows && st.stripes_up)
			return true;
	}
	return false;
}

void sessions_log_stats(const struct sessions *sessions)
{
	for (const struct rx_session *rx = sessions->first; rx; rx = rx->next)
		stats_log(rx->entry.session, rx->config.id, sessions->connector->apps.count, path_name, NULL);
}
