/* link_watch: follows the interfaces, addresses and routes of this machine (rtnetlink(7)), in an event loop.
 *
 * What comes together is told together: `changed` is called once a few milliseconds after the first of some news, and
 * at most ten times a second, however much the machine's network is rearranged. News that was lost because there was
 * more of it than the socket holds is made up for by looking at everything again. Needs no privileges.
 */
#ifndef PAIR_IO_LINK_WATCH_H
#define PAIR_IO_LINK_WATCH_H

#include <ev.h>

#include "link_table.h"

struct link_watch;

struct link_watch_ops {
	/* A route was added. Whether it matters: only then `changed` follows for its sake. Takes note, does nothing
	 * else. */
	bool (*route)(void *user, const struct link_route *route);
	/* The table, or a route that matters, is not as it was. May do anything but close the link_watch. */
	void (*changed)(void *user);
};

/* Opens the socket and looks at what is there. 0 or a negative errno: the kernel or a sandbox refuses. */
int link_watch_open(struct link_watch **out);
/* Follows what happens from then on; `user` must outlive it. */
void link_watch_start(struct link_watch *watch, struct ev_loop *loop, const struct link_watch_ops *ops, void *user);
/* Valid as long as the link_watch is. */
const struct link_table *link_watch_table(const struct link_watch *watch);
/* NULL is ignored. */
void link_watch_close(struct link_watch *watch);

#endif
