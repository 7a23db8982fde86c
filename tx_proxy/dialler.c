#include "dialler.h"

#include <stdlib.h>

#include "dial.h"

_Static_assert((int)CONF_STRIPES_MAX == (int)FRAME_STRIPES_MAX, "a path has as many stripes as HELLO can say");

enum {
	/* Of each path: so many in a row, then one in so long. */
	NUDGES_MAX = 8,
	NUDGE_US = 500000
};

struct dialler {
	struct dial_env env;
	struct dial_path paths[CONF_PATHS_MAX];
	size_t path_count;
	size_t count;
	struct dial dials[];
};

/* --- What the session tells --------------------------------------------------------------------------------------- */

/* Where one gets through, the others need not wait out their pauses; and one that is still connecting, though it began
 * no later than this one that is welcome already, has lost its SYN. */
static void follow(struct dialler *dialler, const struct dial *first)
{
	for (size_t i = 0; i < dialler->count; i++) {
		struct dial *dial = &dialler->dials[i];
		if (dial->path != first->path)
			continue;
		if (dial->state == DIAL_PAUSED)
			dial_again(dial, false);
		else if (dial->state == DIAL_CONNECTING && dial->dialled_us <= first->dialled_us)
			dial_give_up(dial, NULL);
	}
}

void dialler_note(struct dialler *dialler, const struct session_event_info *info)
{
	if (info->event == SESSION_STRIPE_UP)
		dial_welcome(dial_of(info->stripe));
	else if (info->event == SESSION_PATH_UP)
		follow(dialler, dial_of(info->stripe));
}

/* --- What the machine tells --------------------------------------------------------------------------------------- */

static bool is_bound(const struct dial_path *path)
{
	return *path->conf->interface || path->conf->local.family != ADDR_NONE;
}

/* How long a nudge has to wait: a machine whose routes or addresses come and go all the time must not make us hammer
 * the other side (generic cell rate algorithm, ITU-T I.371). One that waits stands for all that come until then. */
static uint64_t nudge_wait_us(struct dial_path *path, uint64_t now_us)
{
	const uint64_t ahead_us = (NUDGES_MAX - 1) * NUDGE_US;

	if (now_us < path->nudge_us)
		return path->nudge_us - now_us;
	uint64_t from_us = path->nudges_us > now_us ? path->nudges_us : now_us;
	path->nudges_us = from_us + NUDGE_US;
	path->nudge_us = from_us > now_us + ahead_us ? from_us - ahead_us : now_us;
	return path->nudge_us - now_us;
}

static void nudge_dial(struct dial *dial, bool fresh, bool anew)
{
	if (dial->state == DIAL_PAUSED)
		dial_again(dial, fresh);
	else if (dial->state == DIAL_CONNECTING && anew)
		dial_give_up(dial, NULL);
}

/* Something came that the path may have waited for. Where it is bound to something, attempts that began without that
 * are begun anew: a socket that is bound to a device takes whatever address there is, and as long as it has no route
 * the whole world for its own link. */
static void nudge(struct dialler *dialler, struct dial_path *path, bool was_missing)
{
	bool bound = is_bound(path);
	uint64_t wait_us = nudge_wait_us(path, dialler->env.runner->now_us);

	for (size_t i = 0; i < dialler->count; i++) {
		struct dial *dial = &dialler->dials[i];
		if (dial->path != path)
			continue;
		if (!wait_us)
			nudge_dial(dial, bound || was_missing, bound);
		else if (dial->state == DIAL_PAUSED)
			dial_within(dial, wait_us);
	}
}

static void look_at_path(struct dialler *dialler, struct dial_path *path)
{
	struct link_want want = dial_path_wants(path);
	uint64_t news = link_table_news(dialler->env.links, &want);
	bool is_new = news != path->news || path->routed;
	bool was_missing = path->lack || path->waits_for;

	path->lack = link_table_lacks(dialler->env.links, &want);
	path->news = news;
	path->routed = false;
	if (path->lack || (!was_missing && !is_new))
		return;
	if (path->waits_for != DIAL_LACKS_ROUTE)
		path->waits_for = LINK_LACKS_NOTHING;
	nudge(dialler, path, was_missing);
}

static void on_machine_changed(void *user)
{
	struct dialler *dialler = user;

	for (size_t i = 0; i < dialler->count; i++) {
		struct dial *dial = &dialler->dials[i];
		const char *reason = dial->state == DIAL_PAUSED ? NULL : dial_gone(dial);
		if (reason)
			dial_give_up(dial, reason);
	}
	for (size_t i = 0; i < dialler->path_count; i++)
		look_at_path(dialler, &dialler->paths[i]);
}

static bool on_route(void *user, const struct link_route *route)
{
	struct dialler *dialler = user;
	bool matters = false;

	for (size_t i = 0; i < dialler->path_count; i++) {
		struct dial_path *path = &dialler->paths[i];
		const char *interface = path->conf->interface;
		bool elsewhere =
		        *interface && route->index && route->index != link_table_up(dialler->env.links, interface);
		if (elsewhere || !link_route_leads_to(route, &path->conf->remote))
			continue;
		path->routed = true;
		matters = true;
	}
	return matters;
}

/* --- Life --------------------------------------------------------------------------------------------------------- */

struct dialler *dialler_new(struct runner *runner, struct session *session, const struct conf_tx *conf,
                            struct transport_security *security, struct link_watch *watch)
{
	static const struct link_watch_ops watch_ops = {.route = on_route, .changed = on_machine_changed};
	size_t count = 0;

	for (size_t i = 0; i < conf->path_count; i++)
		count += conf->paths[i].stripes;
	struct dialler *dialler = calloc(1, sizeof *dialler + count * sizeof *dialler->dials);
	if (!dialler)
		return NULL;
	dialler->env = (struct dial_env){.runner = runner, .session = session, .security = security};
	if (watch) {
		dialler->env.links = link_watch_table(watch);
		link_watch_start(watch, runner->loop, &watch_ops, dialler);
	}
	for (size_t i = 0; i < conf->path_count; i++) {
		struct dial_path *path = &dialler->paths[dialler->path_count++];
		*path = (struct dial_path){.conf = &conf->paths[i], .index = (unsigned)i};
		if (watch)
			look_at_path(dialler, path);
		for (unsigned n = 0; n < path->conf->stripes; n++)
			dial_start(&dialler->dials[dialler->count++], &dialler->env, path, n);
	}
	return dialler;
}

void dialler_free(struct dialler *dialler)
{
	for (size_t i = 0; i < dialler->count; i++)
		dial_stop(&dialler->dials[i]);
	free(dialler);
}
