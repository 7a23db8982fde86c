/* link_watch in a network namespace of its own: the one interface there is goes up and down. */
#define _GNU_SOURCE /* unshare */
#include "../../common/io/link_watch.h"
#include "../../common/io/log.h"
#include "../../common/io/sockaddr.h"
#include "../unit/unit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/route.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static unsigned told, routes;
static bool routes_matter;
static struct ev_loop *loop;

static bool on_route(void *user, const struct link_route *route)
{
	routes++;
	return routes_matter;
}

static void on_changed(void *user)
{
	told++;
}

static const struct link_watch_ops ops = {.route = on_route, .changed = on_changed};

static void on_over(struct ev_loop *l, ev_timer *w, int events)
{
	ev_break(l, EVBREAK_ALL);
}

static void run_for(double seconds)
{
	ev_timer over;

	ev_now_update(loop);
	ev_timer_init(&over, on_over, seconds, 0);
	ev_timer_start(loop, &over);
	ev_run(loop, 0);
}

static int set_lo(bool up)
{
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = up ? IFF_UP : 0};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int err = ioctl(fd, SIOCSIFFLAGS, &request) < 0 ? -errno : 0;

	close(fd);
	return err;
}

static int add_route(const char *dst)
{
	struct rtentry request = {.rt_flags = RTF_UP, .rt_dev = (char[]){"lo"}};
	struct sockaddr_in *net = (struct sockaddr_in *)&request.rt_dst;
	struct sockaddr_in *mask = (struct sockaddr_in *)&request.rt_genmask;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	net->sin_family = mask->sin_family = AF_INET;
	net->sin_addr.s_addr = inet_addr(dst);
	mask->sin_addr.s_addr = inet_addr("255.255.255.0");
	int err = ioctl(fd, SIOCADDRT, &request) < 0 ? -errno : 0;
	close(fd);
	return err;
}

static bool carries(const struct link_watch *watch)
{
	struct addr addr;

	sockaddr_parse(&addr, "127.0.0.1");
	return link_table_carries(link_watch_table(watch), &addr);
}

static void test_watch(struct link_watch *watch)
{
	UNIT_CASE("what is there is known from the start") {
		UNIT_TRUE(link_watch_table(watch)->link_count >= 1);
		UNIT_EQ(link_table_up(link_watch_table(watch), "lo"), 0);
		UNIT_TRUE(!carries(watch));
	}
	UNIT_CASE("an interface comes up with its address, and it is told once") {
		UNIT_EQ(set_lo(true), 0);
		run_for(0.2);
		UNIT_EQ(told, 1);
		UNIT_TRUE(link_table_up(link_watch_table(watch), "lo") != 0);
		UNIT_TRUE(carries(watch));
	}
	UNIT_CASE("it goes down") {
		UNIT_EQ(set_lo(false), 0);
		run_for(0.2);
		UNIT_EQ(told, 2);
		UNIT_EQ(link_table_up(link_watch_table(watch), "lo"), 0);
		UNIT_TRUE(!carries(watch));
	}
	UNIT_CASE("much that happens at once is told in a few words") {
		told = 0;
		for (unsigned i = 0; i < 100; i++)
			set_lo(i % 2 == 0);
		run_for(0.4);
		UNIT_TRUE(told >= 1 && told <= 5);
		UNIT_TRUE(!carries(watch));
	}
	UNIT_CASE("news that the socket could not hold is made up for") {
		told = 0;
		for (unsigned i = 0; i < 2001; i++)
			set_lo(i % 2 == 0);
		run_for(0.5);
		UNIT_TRUE(told >= 1);
		UNIT_TRUE(link_table_up(link_watch_table(watch), "lo") != 0);
		UNIT_TRUE(carries(watch));
	}
	UNIT_CASE("a route is told of when it matters") {
		told = routes = 0;
		UNIT_EQ(add_route("192.0.2.0"), 0);
		run_for(0.2);
		UNIT_EQ(routes, 1);
		UNIT_EQ(told, 0);
		routes_matter = true;
		UNIT_EQ(add_route("198.51.100.0"), 0);
		run_for(0.2);
		UNIT_EQ(routes, 2);
		UNIT_EQ(told, 1);
	}
	UNIT_CASE("who has nothing to hear is not called") {
		told = 0;
		run_for(0.3);
		UNIT_EQ(told, 0);
	}
}

int main(void)
{
	struct link_watch *watch = NULL;
	int err = unshare(CLONE_NEWNET);

	if (err < 0)
		err = unshare(CLONE_NEWUSER | CLONE_NEWNET);
	loop = ev_default_loop(0);
	if (err == 0)
		err = link_watch_open(&watch);
	else
		err = -errno;
	if (!watch) {
		UNIT_CASE("link_watch") {
			unit_skip(strerror(-err));
		}
		return unit_exit();
	}
	log_set_level(LOG_LEVEL_ERROR);
	link_watch_start(watch, loop, &ops, NULL);
	test_watch(watch);
	link_watch_close(watch);
	return unit_exit();
}
