#include "dial.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../common/io/log.h"
#include "../common/io/sock.h"
#include "../common/io/sockaddr.h"
#include "../common/io/stripe_io.h"

enum {
	PAUSE_MIN_MS = 100,
	PAUSE_MAX_MS = 5000,
	PAUSE_FIRST_MAX_MS = 1000, /* of a path's first stripe: the others follow when it gets through */
	PAUSE_WRONG_MAX_MS = 30000,
	PAUSE_WRONG_FIRST_MAX_MS = 5000,
	HALVING_MS = 500, /* of a welcome stripe's life */
	AT_ONCE_MS = 1,
	ABSENT_MS = 20000, /* netlink tells sooner; for what it cannot know */
	CONNECT_MS = 3000,
	SECURE_MS = 5000,
	WELCOME_MS = 5000
};

static struct log_limit failed_limit = {.burst = 20, .interval_us = 10000000};
static struct log_limit waits_limit = {.burst = 20, .interval_us = 10000000};
static struct log_limit option_limit = LOG_LIMIT_DEFAULT;

static void set_state(struct dial *dial, enum dial_state state, unsigned timer_ms)
{
	struct ev_loop *loop = dial->env->runner->loop;

	dial->state = state;
	ev_timer_stop(loop, &dial->timer);
	if (!timer_ms)
		return;
	ev_timer_set(&dial->timer, timer_ms / 1e3, 0);
	ev_timer_start(loop, &dial->timer);
}

/* --- Pauses ------------------------------------------------------------------------------------------------------- */

/* Between a half and the whole of the time. */
static void pause_for(struct dial *dial, unsigned ms)
{
	uint32_t random = 0;

	if (getrandom(&random, sizeof random, GRND_NONBLOCK) != (ssize_t)sizeof random)
		random = (uint32_t)dial->env->runner->now_us;
	set_state(dial, DIAL_PAUSED, ms / 2 + random % (ms / 2 + 1));
}

static void pause_longer(struct dial *dial)
{
	unsigned max_ms = dial->index ? PAUSE_MAX_MS : PAUSE_FIRST_MAX_MS;

	if (dial->wrong)
		max_ms = dial->index ? PAUSE_WRONG_MAX_MS : PAUSE_WRONG_FIRST_MAX_MS;
	pause_for(dial, dial->pause_ms);
	dial->pause_ms = dial->pause_ms * 2 < max_ms ? dial->pause_ms * 2 : max_ms;
}

static void pay_back(struct dial *dial)
{
	uint64_t lived_ms = dial->up_us ? (dial->env->runner->now_us - dial->up_us) / 1000 : 0;

	for (uint64_t ms = HALVING_MS; ms <= lived_ms && dial->pause_ms > PAUSE_MIN_MS; ms += HALVING_MS)
		dial->pause_ms = dial->pause_ms / 2 > PAUSE_MIN_MS ? dial->pause_ms / 2 : PAUSE_MIN_MS;
}

void dial_again(struct dial *dial, bool fresh)
{
	if (fresh)
		dial->pause_ms = PAUSE_MIN_MS;
	set_state(dial, DIAL_PAUSED, AT_ONCE_MS);
}

void dial_within(struct dial *dial, uint64_t wait_us)
{
	if (ev_timer_remaining(dial->env->runner->loop, &dial->timer) > (double)wait_us / 1e6)
		set_state(dial, DIAL_PAUSED, (unsigned)(wait_us / 1000) + AT_ONCE_MS);
}

static void tell(const struct dial *dial, const char *step, const char *reason)
{
	const struct conf_path *conf = dial->path->conf;
	char remote[SOCKADDR_TEXT_MAX], text[512], why[128];
	unsigned count = 0;
	bool is_due = failures_note(&dial->path->failures, step, reason, dial->env->runner->now_us, &count);

	snprintf(text, sizeof text, "path=%s stripe=%u remote=%s step=%s error=%s", conf->name, dial->index,
	         sockaddr_text(remote, &conf->remote), step, log_value(why, sizeof why, reason));
	if (!is_due)
		log_event(LOG_LEVEL_DEBUG, "dial_failed", "%s", text);
	else if (count > 1)
		log_limited(&failed_limit, LOG_LEVEL_INFO, "dial_failed", "%s count=%u", text, count);
	else
		log_limited(&failed_limit, LOG_LEVEL_INFO, "dial_failed", "%s", text);
}

static void refused(struct dial *dial, const char *step, const char *reason)
{
	tell(dial, step, reason);
	pause_longer(dial);
}

/* --- Waiting for this machine ------------------------------------------------------------------------------------- */

struct link_want dial_path_wants(const struct dial_path *path)
{
	const struct conf_path *conf = path->conf;

	return (struct link_want){.interface = conf->interface, .local = &conf->local, .remote = &conf->remote};
}

static void log_waits(const struct dial_path *path)
{
	const struct conf_path *conf = path->conf;
	char ip[SOCKADDR_TEXT_MAX], reason[128], quoted[160];

	switch (path->waits_for) {
	case LINK_LACKS_INTERFACE:
		snprintf(reason, sizeof reason, "no interface %s", conf->interface);
		break;
	case LINK_LACKS_CARRIER:
		if (*conf->interface)
			snprintf(reason, sizeof reason, "interface %s is down", conf->interface);
		else
			snprintf(reason, sizeof reason, "interface of %s is down", sockaddr_text(ip, &conf->local));
		break;
	case LINK_LACKS_ADDRESS:
		if (conf->local.family != ADDR_NONE)
			snprintf(reason, sizeof reason, "no address %s", sockaddr_text(ip, &conf->local));
		else
			snprintf(reason, sizeof reason, "interface %s has no address", conf->interface);
		break;
	default:
		snprintf(reason, sizeof reason, "no route to %s", sockaddr_text(ip, &conf->remote));
	}
	log_limited(&waits_limit, LOG_LEVEL_WARN, "path_waits", "path=%s reason=%s", conf->name,
	            log_value(quoted, sizeof quoted, reason));
}

/* What this machine lacks, that the step failed. An answer of the other side's shows that it lacks nothing. */
static unsigned find_lack(const struct dial *dial, const char *step, int error)
{
	struct link_want want = dial_path_wants(dial->path);

	if (!dial->env->links || error == ECONNREFUSED || error == ECONNRESET)
		return LINK_LACKS_NOTHING;
	unsigned lack = link_table_lacks(dial->env->links, &want);
	return lack || strcmp(step, "route") != 0 ? lack : DIAL_LACKS_ROUTE;
}

static void failed(struct dial *dial, const char *step, int error)
{
	unsigned lack = find_lack(dial, step, error);

	if (!lack) {
		refused(dial, step, strerror(error));
		return;
	}
	if (dial->path->waits_for != lack) {
		dial->path->waits_for = lack;
		log_waits(dial->path);
	}
	dial->pause_ms = PAUSE_MIN_MS;
	pause_for(dial, ABSENT_MS);
}

/* Remembers what the socket uses. */
static void note_links(struct dial *dial, int fd)
{
	dial->local = sock_local(fd);
	dial->carried = dial->env->links && link_table_carries(dial->env->links, &dial->local);
	dial->device = dial->env->links ? link_table_up(dial->env->links, dial->path->conf->interface) : 0;
}

const char *dial_gone(struct dial *dial)
{
	bool carried = link_table_carries(dial->env->links, &dial->local);
	unsigned device = link_table_up(dial->env->links, dial->path->conf->interface);
	const char *reason = NULL;

	if (dial->device && device != dial->device)
		reason = "its interface is gone or down";
	else if (dial->carried && !carried)
		reason = "its address is gone, or the interface with that is down";
	dial->carried = carried;
	dial->device = device;
	return reason;
}

/* --- Connecting --------------------------------------------------------------------------------------------------- */

/* Everything that must be set before connect. NULL, or the name of what failed, with errno. */
static const char *set_options(int fd, const struct conf_path *path)
{
	char why[128];
	int err;

	sock_prepare_stripe(fd);
	err = sock_set_congestion(fd, path->congestion);
	if (err)
		log_limited(&option_limit, LOG_LEVEL_WARN, "congestion_refused", "path=%s congestion=%s error=%s",
		            path->name, path->congestion, log_value(why, sizeof why, strerror(-err)));
	if (path->mark && setsockopt(fd, SOL_SOCKET, SO_MARK, &path->mark, sizeof path->mark) < 0)
		return "mark";
	if (path->interface[0] &&
	    setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, path->interface, (socklen_t)strlen(path->interface)) < 0)
		return "interface";
	if (path->local.family != ADDR_NONE) {
		struct sockaddr_storage sa;
		socklen_t len = sockaddr_from_addr(&sa, &path->local);
		/* The port is chosen by connect, which knows the other end: more stripes than ports would fit else. */
		sock_set(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
		if (bind(fd, (struct sockaddr *)&sa, len) < 0)
			return "local_ip";
	}
	return NULL;
}

static void start_connect(struct dial *dial)
{
	struct ev_loop *loop = dial->env->runner->loop;
	struct sockaddr_storage sa;
	socklen_t len = sockaddr_from_addr(&sa, &dial->path->conf->remote);
	int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	const char *step;

	if (fd < 0) {
		refused(dial, "socket", strerror(errno));
		return;
	}
	step = set_options(fd, dial->path->conf);
	if (!step && connect(fd, (struct sockaddr *)&sa, len) < 0 && errno != EINPROGRESS)
		step = errno == ENETUNREACH ? "route" : "connect";
	if (step) {
		int error = errno;
		close(fd);
		failed(dial, step, error);
		return;
	}
	if (dial->path->waits_for == DIAL_LACKS_ROUTE)
		dial->path->waits_for = LINK_LACKS_NOTHING;
	note_links(dial, fd);
	dial->dialled_us = dial->env->runner->now_us;
	dial->up_us = 0;
	dial->wrong = false;
	ev_io_set(&dial->connecting, fd, EV_WRITE);
	ev_io_start(loop, &dial->connecting);
	set_state(dial, DIAL_CONNECTING, CONNECT_MS);
}

/* Ends DIAL_CONNECTING or DIAL_SECURING; the socket, or the transport, is the caller's. */
static int take_socket(struct dial *dial)
{
	ev_io_stop(dial->env->runner->loop, &dial->connecting);
	return dial->connecting.fd;
}

/* --- A stripe of the session -------------------------------------------------------------------------------------- */

static void on_closed(void *user, struct stripe_io *io)
{
	struct dial *dial = user;

	dial->io = NULL;
	pay_back(dial);
	if (dial->at_once)
		dial_again(dial, true);
	else
		pause_longer(dial);
	dial->at_once = false;
}

/* Before WELCOME it is an attempt that failed. */
static bool tells(void *user, const struct stripe_io *io, const char *reason, bool broken)
{
	struct dial *dial = user;

	if (dial->state != DIAL_HANDSHAKE)
		return false;
	dial->wrong = broken;
	tell(dial, "hello", reason);
	return true;
}

static const struct stripe_io_owner stripe_owner = {.closed = on_closed, .tells = tells};

static void start_stripe(struct dial *dial, const struct transport *transport)
{
	const struct dial_env *env = dial->env;
	const struct conf_path *path = dial->path->conf;
	struct hello hello = {.path = (uint16_t)dial->path->index,
	                      .index = (uint16_t)dial->index,
	                      .stripes = (uint16_t)path->stripes,
	                      .backup = path->backup,
	                      .reinject_percent = (uint8_t)path->reinject_percent};
	struct stripe *stripe;

	snprintf(hello.congestion, sizeof hello.congestion, "%s", path->congestion);
	dial->io = stripe_io_new(env->runner, transport, &path->remote, path->name, &stripe_owner, dial);
	stripe = dial->io ? session_stripe_dialled(env->session, &hello, dial->io, env->runner->now_us) : NULL;
	if (dial->io)
		stripe_io_start(dial->io, stripe);
	if (!stripe) {
		dial->io = NULL;
		refused(dial, "session", strerror(ENOMEM));
		return;
	}
	set_state(dial, DIAL_HANDSHAKE, WELCOME_MS);
}

/* --- Security ----------------------------------------------------------------------------------------------------- */

static void secure(struct dial *dial)
{
	struct ev_loop *loop = dial->env->runner->loop;
	int err = transport_handshake(&dial->transport);
	int events = EV_READ | (transport_wants_write(&dial->transport) ? EV_WRITE : 0);

	ev_io_stop(loop, &dial->connecting);
	if (!err) {
		start_stripe(dial, &dial->transport);
	} else if (err == -EAGAIN) {
		ev_io_set(&dial->connecting, dial->transport.fd, events);
		ev_io_start(loop, &dial->connecting);
	} else {
		/* The reason is a static text, and stays. */
		const char *reason = transport_reason(&dial->transport);
		transport_close(&dial->transport);
		dial->wrong = err == -EPROTO;
		refused(dial, "tls", reason);
	}
}

static void on_connected(struct dial *dial)
{
	int fd = take_socket(dial);
	int error = sock_error(fd);

	if (!error)
		error = -transport_init(&dial->transport, fd, dial->env->security);
	if (error) {
		close(fd);
		failed(dial, "connect", error);
	} else if (dial->env->security) {
		set_state(dial, DIAL_SECURING, SECURE_MS);
		secure(dial);
	} else {
		start_stripe(dial, &dial->transport);
	}
}

static void on_ready(struct ev_loop *loop, ev_io *w, int events)
{
	struct dial *dial = w->data;

	if (dial->state == DIAL_CONNECTING)
		on_connected(dial);
	else
		secure(dial);
}

static void on_timer(struct ev_loop *loop, ev_timer *w, int events)
{
	struct dial *dial = w->data;

	switch (dial->state) {
	case DIAL_PAUSED:
		start_connect(dial);
		break;
	case DIAL_CONNECTING:
		close(take_socket(dial));
		failed(dial, "connect", ETIMEDOUT);
		break;
	case DIAL_SECURING:
		take_socket(dial);
		transport_close(&dial->transport);
		failed(dial, "tls", ETIMEDOUT);
		break;
	case DIAL_HANDSHAKE:
		stripe_io_close(dial->io, "no welcome"); /* on_closed follows */
		break;
	case DIAL_UP:
		break;
	}
}

/* --- For the dialler ---------------------------------------------------------------------------------------------- */

/* Closes the socket of an attempt that is not a stripe yet. */
static void end_attempt(struct dial *dial)
{
	int fd = take_socket(dial);

	if (dial->state == DIAL_SECURING)
		transport_close(&dial->transport);
	else
		close(fd);
}

struct dial *dial_of(const struct stripe *stripe)
{
	const struct stripe_io *io = stripe->user;

	return io->user;
}

void dial_welcome(struct dial *dial)
{
	dial->up_us = dial->env->runner->now_us;
	dial->path->waits_for = LINK_LACKS_NOTHING;
	dial->path->failures = (struct failures){0};
	set_state(dial, DIAL_UP, 0);
}

void dial_give_up(struct dial *dial, const char *reason)
{
	if (dial->io) {
		dial->at_once = true;
		stripe_io_close(dial->io, reason); /* on_closed follows */
		return;
	}
	end_attempt(dial);
	dial_again(dial, true);
}

void dial_start(struct dial *dial, const struct dial_env *env, struct dial_path *path, unsigned index)
{
	*dial = (struct dial){.env = env, .path = path, .index = index, .pause_ms = PAUSE_MIN_MS};
	ev_timer_init(&dial->timer, on_timer, 0, 0);
	ev_io_init(&dial->connecting, on_ready, -1, EV_WRITE);
	dial->timer.data = dial->connecting.data = dial;
	start_connect(dial);
}

void dial_stop(struct dial *dial)
{
	ev_timer_stop(dial->env->runner->loop, &dial->timer);
	if (dial->io)
		stripe_io_free(dial->io);
	else if (dial->state != DIAL_PAUSED)
		end_attempt(dial);
}
