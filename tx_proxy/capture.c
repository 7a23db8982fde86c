#include "capture.h"

#include <errno.h>
#include <stddef.h>

#include "../common/core/memory.h"
#include "../common/io/log.h"
#include "../common/io/sock.h"
#include "../common/io/sockaddr.h"
#include "original.h"

enum {
	HELD_MAX_US = 3000000,      /* the client's patience is not ours to spend: its SYN then goes direct */
	HELD_SILENT_US = 300000,    /* and 2.5 RTT: with no working stripe the answer will not come */
	CAPTURED_MAX_US = 10000000, /* from letting a SYN go to us until its connection must have been accepted */
	FILES_RESERVE = 128         /* descriptors that are not for clients, beside those of stripes */
};

static const double sweep_interval_s = 0.05;

static struct log_limit direct_limit = LOG_LIMIT_DEFAULT;
static struct log_limit scarce_limit = LOG_LIMIT_DEFAULT;
static struct log_limit stray_limit = LOG_LIMIT_DEFAULT;
static struct log_limit refused_limit = LOG_LIMIT_DEFAULT;

/* --- Conns that wait ---------------------------------------------------------------------------------------------- */

static struct conn_list *list_of(struct capture *capture, const struct conn *conn)
{
	return conn->state == CONN_HELD ? &capture->held : &capture->captured;
}

static void start_waiting(struct capture *capture, struct conn *conn, enum conn_state state)
{
	conn->state = state;
	conn_list_append(list_of(capture, conn), conn, capture->runner->now_us);
	if (!ev_is_active(&capture->sweep))
		ev_timer_again(capture->runner->loop, &capture->sweep);
}

static void stop_waiting(struct capture *capture, struct conn *conn)
{
	conn_list_remove(list_of(capture, conn), conn);
}

/* Ends a conn that has no socket. */
static void drop(struct capture *capture, struct conn *conn)
{
	stop_waiting(capture, conn);
	if (conn->flow)
		flow_reset(conn->flow, RESET_ABORTED);
	conn_table_remove(&capture->table, conn);
}

static void verdict(struct capture *capture, uint32_t packet_id, enum intercept_verdict what)
{
	if (capture->intercept)
		intercept_verdict(capture->intercept, packet_id, what);
}

static void log_conn(struct log_limit *limit, enum log_level level, const char *event, const struct syn *syn,
                     const char *reason)
{
	char src[SOCKADDR_TEXT_MAX], dst[SOCKADDR_TEXT_MAX];

	log_limited(limit, level, event, "src=%s dst=%s reason=%s", sockaddr_text(src, &syn->src),
	            sockaddr_text(dst, &syn->dst), reason);
}

/* Lets a held SYN go to its destination. */
static void let_direct(struct capture *capture, struct conn *conn, const char *reason)
{
	log_conn(&direct_limit, LOG_LEVEL_INFO, "held_direct", &conn->syn, reason);
	verdict(capture, conn->packet_id, INTERCEPT_DIRECT);
	drop(capture, conn);
}

/* The longest a held SYN waits while no stripe works. */
static uint64_t silent_max_us(const struct capture *capture)
{
	uint64_t srtt_us = 0;

	for (const struct stripe *stripe = session_first_stripe(capture->session); stripe; stripe = stripe->next)
		if (stripe->info.srtt_us > srtt_us)
			srtt_us = stripe->info.srtt_us;
	return srtt_us * 5 / 2 + HELD_SILENT_US;
}

static bool any_stripe_works(const struct capture *capture)
{
	for (const struct stripe *stripe = session_first_stripe(capture->session); stripe; stripe = stripe->next)
		if (stripe->state == STRIPE_UP)
			return true;
	return false;
}

static void on_sweep(struct ev_loop *loop, ev_timer *w, int events)
{
	struct capture *capture = w->data;
	uint64_t now_us = capture->runner->now_us;
	uint64_t held_us = any_stripe_works(capture) ? HELD_MAX_US : silent_max_us(capture);

	if (held_us > HELD_MAX_US)
		held_us = HELD_MAX_US;
	while (capture->held.first && now_us - capture->held.first->since_us >= held_us)
		let_direct(capture, capture->held.first, held_us == HELD_MAX_US ? "no_answer" : "far_end_silent");
	while (capture->captured.first && now_us - capture->captured.first->since_us >= CAPTURED_MAX_US)
		drop(capture, capture->captured.first);
	if (!capture->held.first && !capture->captured.first)
		ev_timer_stop(loop, w);
}

/* --- SYNs --------------------------------------------------------------------------------------------------------- */

static bool is_path_remote(const struct conf_tx *conf, const struct addr *dst)
{
	for (size_t i = 0; i < conf->path_count; i++)
		if (addr_equal(&conf->paths[i].remote, dst))
			return true;
	return false;
}

/* NULL, or what this machine has no more of. */
static const char *what_is_scarce(const struct capture *capture)
{
	/* Those that are still to be accepted have been promised one. */
	unsigned waiting = capture->table.count > capture->apps.count ? capture->table.count - capture->apps.count : 0;

	/* What was counted at the start is not all: the limit can be lowered, and the system's own be reached. */
	if (capture->table.count >= capture->conns_max || !sock_files_left(waiting + 1))
		return "files_scarce";
	return memory_is_scarce() ? "memory_scarce" : NULL;
}

/* NULL, or why the SYN goes direct; *level: how much that is worth telling. */
static const char *why_direct(const struct capture *capture, const struct syn *syn, enum log_level *level)
{
	const char *scarce;
	uint32_t waiting = 0;

	*level = LOG_LEVEL_DEBUG;
	if (conf_nets_contain(&capture->conf->capture.bypass, &syn->dst))
		return "bypass";
	if (is_path_remote(capture->conf, &syn->dst))
		return "path_remote";
	scarce = what_is_scarce(capture);
	if (scarce) {
		*level = LOG_LEVEL_WARN;
		return scarce;
	}
	/* Early ones have no flow yet that the session could count, but have been promised one. */
	if (capture->table.count >= capture->conf->limits.flows)
		return "flows_limit";
	if (capture->conf->capture.open == CONF_OPEN_EARLY)
		waiting = capture->captured.count;
	if (!session_can_open_after(capture->session, waiting))
		return session_has_room_after(capture->session, waiting) ? "session_not_ready" : "memory_limit";
	return NULL;
}

/* The client has a new connection with the ports of this one, which is over, then, told or not. If it ended in order,
 * its last bytes may still be on their way. */
static void replace(struct capture *capture, struct conn *conn)
{
	if (!app_io_is_over(&conn->app))
		app_io_abort(&conn->app, RESET_BY_APP);
	conn_table_unlink(&capture->table, conn);
	conn_list_append(&capture->replaced, conn, capture->runner->now_us);
}

static void repeated_syn(struct capture *capture, struct conn *conn, uint32_t packet_id)
{
	/* A SYN for a connection that is open here: the client's end is a new one. Our kernel finds that out with it.
	 */
	verdict(capture, packet_id, conn->state == CONN_HELD ? INTERCEPT_DROP : INTERCEPT_CAPTURE);
}

static void new_syn(struct capture *capture, const struct syn *syn, uint32_t packet_id)
{
	struct conn *conn = conn_table_add(&capture->table, syn);

	if (!conn) {
		verdict(capture, packet_id, INTERCEPT_DIRECT);
		return;
	}
	if (capture->conf->capture.open == CONF_OPEN_EARLY) {
		start_waiting(capture, conn, CONN_CAPTURED);
		verdict(capture, packet_id, INTERCEPT_CAPTURE);
		return;
	}
	conn->flow = session_open(capture->session, syn, conn, capture->runner->now_us);
	if (!conn->flow) {
		conn_table_remove(&capture->table, conn);
		verdict(capture, packet_id, INTERCEPT_DIRECT);
		return;
	}
	conn->packet_id = packet_id;
	start_waiting(capture, conn, CONN_HELD);
}

void capture_on_syn(void *user, const struct syn *syn, uint32_t packet_id)
{
	struct capture *capture = user;
	struct conn *conn = conn_table_find(&capture->table, &syn->src, &syn->dst);
	enum log_level level;
	const char *reason;

	if (conn && conn->state == CONN_OPEN && app_io_is_over(&conn->app)) {
		replace(capture, conn);
		conn = NULL;
	} else if (conn && conn->state == CONN_HELD && conn->syn.isn != syn->isn) {
		/* The client has given up that attempt and makes another from the same port. */
		verdict(capture, conn->packet_id, INTERCEPT_DROP);
		drop(capture, conn);
		conn = NULL;
	}
	if (conn) {
		repeated_syn(capture, conn, packet_id);
		return;
	}
	reason = why_direct(capture, syn, &level);
	if (!reason) {
		new_syn(capture, syn, packet_id);
		return;
	}
	log_conn(level == LOG_LEVEL_DEBUG ? &direct_limit : &scarce_limit, level, "syn_direct", syn, reason);
	verdict(capture, packet_id, INTERCEPT_DIRECT);
}

/* --- Accepted sockets --------------------------------------------------------------------------------------------- */

static struct conn *conn_of(struct app_io *app)
{
	return (struct conn *)((char *)app - offsetof(struct conn, app));
}

static void on_app_ended(struct app_io *app)
{
	struct capture *capture = (struct capture *)((char *)app->set - offsetof(struct capture, apps));

	if (!conn_of(app)->linked)
		conn_list_remove(&capture->replaced, conn_of(app));
	conn_table_remove(&capture->table, conn_of(app));
}

static void join(struct capture *capture, struct conn *conn, int fd, struct flow *flow)
{
	conn->flow = NULL;
	conn->state = CONN_OPEN;
	app_io_start(&conn->app, &capture->apps, fd, flow);
}

/* A connection whose flow is still to be opened: `conn` is in no list. */
static void open_accepted(struct capture *capture, struct conn *conn, int fd)
{
	struct flow *flow = session_open(capture->session, &conn->syn, conn, capture->runner->now_us);

	if (flow) {
		join(capture, conn, fd, flow);
		return;
	}
	log_conn(&refused_limit, LOG_LEVEL_INFO, "connection_refused", &conn->syn, "session_not_ready");
	conn_table_remove(&capture->table, conn);
	sock_reset(fd);
}

static void accept_known(struct capture *capture, struct conn *conn, int fd)
{
	struct flow *flow = conn->flow;

	stop_waiting(capture, conn);
	if (conn->state == CONN_DOOMED) {
		conn_table_remove(&capture->table, conn);
		sock_reset(fd);
	} else if (flow) {
		join(capture, conn, fd, flow);
	} else {
		open_accepted(capture, conn, fd);
	}
}

static void accept_unknown(struct capture *capture, const struct syn *syn, int fd)
{
	struct conn *conn = NULL;

	if (capture->table.count < capture->conns_max && !is_path_remote(capture->conf, &syn->dst))
		conn = conn_table_add(&capture->table, syn);
	if (!conn) {
		sock_reset(fd);
		return;
	}
	open_accepted(capture, conn, fd);
}

/* The conn that an accepted connection belongs to, or NULL. Its SYN's sequence number decides: conntrack may have given
 * it another source port, and this port may be another conn's (original.h). */
static struct conn *conn_of_accepted(const struct capture *capture, int fd, const struct syn *syn)
{
	struct conn *conn = conn_table_find(&capture->table, &syn->src, &syn->dst);
	uint32_t isn;

	if (original_isn(fd, &isn) < 0 || (conn && conn->state != CONN_OPEN && conn->syn.isn == isn))
		return conn;
	/* Those that are to be accepted now are few. */
	for (struct conn *other = capture->captured.first; other; other = other->next)
		if (other->syn.isn == isn && addr_same_host(&other->syn.src, &syn->src) &&
		    addr_equal(&other->syn.dst, &syn->dst))
			return other;
	return conn && conn->state == CONN_OPEN ? conn : NULL;
}

void capture_on_accept(void *user, int fd, const struct addr *remote)
{
	struct capture *capture = user;
	struct syn syn = {.src = *remote, .window_scale = 255};
	int err = original_destination(fd, capture->conf->capture.method, capture->conf->local_port, &syn.dst);
	struct conn *conn;

	if (err) {
		log_conn(&stray_limit, LOG_LEVEL_WARN, "connection_stray", &syn,
		         err == -ENOENT ? "not_captured" : "no_destination");
		sock_reset(fd);
		return;
	}
	conn = conn_of_accepted(capture, fd, &syn);
	if (conn && conn->state == CONN_OPEN) {
		replace(capture, conn);
		conn = NULL;
	}
	if (conn && conn->state == CONN_HELD) {
		/* It came around the queue, so nothing will be known of the held SYN's fate. */
		verdict(capture, conn->packet_id, INTERCEPT_DROP);
		stop_waiting(capture, conn);
		start_waiting(capture, conn, CONN_CAPTURED);
	}
	if (capture->stopped && (!conn || !conn->flow)) {
		sock_reset(fd);
		return;
	}
	if (conn)
		accept_known(capture, conn, fd);
	else
		accept_unknown(capture, &syn, fd);
}

/* --- What the session says ---------------------------------------------------------------------------------------- */

static void held_result(struct capture *capture, struct conn *conn, enum open_status status)
{
	if (status == OPEN_CONNECTED) {
		verdict(capture, conn->packet_id, INTERCEPT_CAPTURE);
		stop_waiting(capture, conn);
		start_waiting(capture, conn, CONN_CAPTURED);
		return;
	}
	conn->flow = NULL;
	if (status != OPEN_REFUSED) {
		let_direct(capture, conn, open_status_name(status));
		return;
	}
	verdict(capture, conn->packet_id, INTERCEPT_REFUSE);
	drop(capture, conn);
}

void capture_flow_result(void *user, struct flow *flow, enum open_status status)
{
	struct conn *conn = flow->user;

	if (conn->state == CONN_HELD)
		held_result(user, conn, status);
	else if (status != OPEN_CONNECTED)
		capture_flow_ended(user, flow, RESET_BY_APP);
}

void capture_flow_readable(void *user, struct flow *flow)
{
	struct conn *conn = flow->user;

	if (conn->state == CONN_OPEN)
		app_io_readable(&conn->app);
}

void capture_flow_writable(void *user, struct flow *flow)
{
	struct conn *conn = flow->user;

	if (conn->state == CONN_OPEN)
		app_io_writable(&conn->app);
}

void capture_flow_ended(void *user, struct flow *flow, enum reset_reason reason)
{
	struct capture *capture = user;
	struct conn *conn = flow->user;

	switch (conn->state) {
	case CONN_HELD:
		conn->flow = NULL;
		let_direct(capture, conn, reset_reason_name(reason));
		break;
	case CONN_CAPTURED:
		conn->flow = NULL;
		conn->state = CONN_DOOMED;
		break;
	case CONN_OPEN:
		app_io_flow_ended(&conn->app, reason);
		break;
	case CONN_DOOMED:
		break; /* has no flow */
	}
}

/* --- Life --------------------------------------------------------------------------------------------------------- */

int capture_init(struct capture *capture, struct runner *runner, const struct conf_tx *conf, uint64_t files_max)
{
	uint64_t others = FILES_RESERVE;

	*capture = (struct capture){.runner = runner, .conf = conf};
	for (size_t i = 0; i < conf->path_count; i++)
		others += conf->paths[i].stripes;
	capture->conns_max = files_max > others * 2 ? files_max - others : files_max / 2;
	app_set_init(&capture->apps, runner, on_app_ended);
	ev_timer_init(&capture->sweep, on_sweep, 0, sweep_interval_s);
	capture->sweep.data = capture;
	return conn_table_init(&capture->table);
}

void capture_fini(struct capture *capture)
{
	ev_timer_stop(capture->runner->loop, &capture->sweep);
	app_set_fini(&capture->apps);
	conn_table_fini(&capture->table);
}

void capture_stop(struct capture *capture)
{
	capture->stopped = true;
	intercept_close(capture->intercept);
	capture->intercept = NULL;
	while (capture->held.first)
		drop(capture, capture->held.first);
}

bool capture_busy(const struct capture *capture)
{
	return capture->table.count > 0 || capture->replaced.first;
}

void capture_abort(struct capture *capture)
{
	while (capture->captured.first)
		drop(capture, capture->captured.first);
	for (struct conn *conn = capture->replaced.first; conn; conn = conn->next)
		app_io_abort(&conn->app, RESET_ABORTED);
	for (uint32_t i = 0; i < capture->table.size; i++)
		for (struct conn *conn = capture->table.buckets[i]; conn; conn = conn->hash_next)
			app_io_abort(&conn->app, RESET_ABORTED);
}
