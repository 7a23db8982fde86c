/* intercept_probe: the three parts that test_intercept.sh plays with.
 *
 *   intercept_probe proxy [KEY=VALUE …] [VERDICT=PORT …]
 *       Opens the queue and answers each SYN by its destination port: VERDICT is direct, capture, refuse, drop,
 *       hold (capture after 300 ms), stall (capture after 1500 ms). A SYN that repeats a held one is dropped; ports
 *       without a verdict go direct. Captured connections are greeted with "proxy ORIGINAL-DESTINATION". Writes
 *       "ready", then one line a SYN. SIGTERM closes the queue in an orderly way.
 *   intercept_probe rules up|down|print [KEY=VALUE …]
 *   intercept_probe serve PORT …            greets every connection with "dest"
 *   intercept_probe connect ADDRESS PORT    "GREETING retransmits=N ms=N", or "refused …", "timeout …"
 *   intercept_probe flood ADDRESS PORT COUNT   begins so many connections, writes "ready" and waits to be killed
 *
 * KEY is queue, mark, port (of the proxy), method, interface, source, bypass, remote (a path's ADDRESS@PORT).
 */
#define _GNU_SOURCE /* accept4 */
#include <errno.h>
#include <ev.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../../common/io/conf.h"
#include "../../common/io/sockaddr.h"
#include "../../tx_proxy/intercept.h"
#include "../../tx_proxy/rules.h"

#define SO_ORIGINAL_DST_NUMBER 80 /* of linux/netfilter_ipv4.h, which clashes with netinet/in.h; the same for IPv6 */

enum { LIST_MAX = 16, PORT_COUNT = 65536, CONNECT_TIMEOUT_MS = 4000 };

enum policy { POLICY_DIRECT, POLICY_CAPTURE, POLICY_REFUSE, POLICY_DROP, POLICY_HOLD, POLICY_STALL };

static const char *const policy_names[] = {"direct", "capture", "refuse", "drop", "hold", "stall"};

struct held {
	ev_timer timer;
	struct syn syn;
	uint32_t packet_id;
	bool used;
};

static struct {
	struct ev_loop *loop;
	struct intercept *in;
	struct conf_tx conf;
	char interfaces[LIST_MAX][IFNAMSIZ];
	struct conf_net sources[LIST_MAX];
	struct conf_net bypass[LIST_MAX];
	struct conf_path paths[LIST_MAX];
	uint8_t policies[PORT_COUNT];
	struct held held[LIST_MAX];
} probe;

static __attribute__((noreturn)) void die(const char *what, int err)
{
	fprintf(stderr, "intercept_probe: %s%s%s\n", what, err ? ": " : "", err ? strerror(err) : "");
	exit(1);
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static struct addr parse_addr(const char *text)
{
	struct addr addr;

	if (sockaddr_parse(&addr, text))
		die(text, EINVAL);
	return addr;
}

/* "ADDRESS/LENGTH" */
static void add_net(struct conf_nets *nets, struct conf_net *items, char *text)
{
	char *slash = strchr(text, '/');

	if (!slash || nets->count == LIST_MAX)
		die(text, EINVAL);
	*slash = '\0';
	items[nets->count].addr = parse_addr(text);
	items[nets->count].prefix_len = (uint8_t)atoi(slash + 1);
	nets->items = items;
	nets->count++;
}

static void add_remote(char *text)
{
	struct conf_path *path = &probe.paths[probe.conf.path_count];
	char *at = strchr(text, '@');

	if (!at || probe.conf.path_count == LIST_MAX)
		die(text, EINVAL);
	*at = '\0';
	path->remote = parse_addr(text);
	path->remote.port = (uint16_t)atoi(at + 1);
	probe.conf.paths = probe.paths;
	probe.conf.path_count++;
}

static bool set_policy(const char *name, const char *value)
{
	for (size_t i = 0; i < sizeof policy_names / sizeof policy_names[0]; i++) {
		if (strcmp(name, policy_names[i]) == 0) {
			probe.policies[(uint16_t)atoi(value)] = (uint8_t)i;
			return true;
		}
	}
	return false;
}

static void set_method(const char *value)
{
	if (strcmp(value, "redirect") == 0)
		probe.conf.capture.method = CONF_CAPTURE_REDIRECT;
	else if (strcmp(value, "tproxy") == 0)
		probe.conf.capture.method = CONF_CAPTURE_TPROXY;
	else if (strcmp(value, "none") == 0)
		probe.conf.capture.method = CONF_CAPTURE_NONE;
	else
		die(value, EINVAL);
}

static void set_option(char *text)
{
	struct conf_capture *capture = &probe.conf.capture;
	char *value = strchr(text, '=');

	if (!value)
		die(text, EINVAL);
	*value++ = '\0';
	if (strcmp(text, "queue") == 0)
		capture->queue = (unsigned)atoi(value);
	else if (strcmp(text, "mark") == 0)
		capture->mark = (uint32_t)strtoul(value, NULL, 0);
	else if (strcmp(text, "port") == 0)
		probe.conf.local_port = (uint16_t)atoi(value);
	else if (strcmp(text, "method") == 0)
		set_method(value);
	else if (strcmp(text, "interface") == 0 && capture->interface_count < LIST_MAX)
		snprintf(probe.interfaces[capture->interface_count++], IFNAMSIZ, "%s", value);
	else if (strcmp(text, "source") == 0)
		add_net(&capture->sources, probe.sources, value);
	else if (strcmp(text, "bypass") == 0)
		add_net(&capture->bypass, probe.bypass, value);
	else if (strcmp(text, "remote") == 0)
		add_remote(value);
	else if (!set_policy(text, value))
		die(text, EINVAL);
}

static void set_options(char **texts)
{
	probe.conf.local_port = 5000;
	probe.conf.capture.mark = 1;
	probe.conf.capture.interfaces = probe.interfaces;
	for (; *texts; texts++)
		set_option(*texts);
}

static int listen_on(uint16_t port, bool transparent)
{
	struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int off = 0, on = 1;

	if (fd < 0)
		die("socket", errno);
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (transparent && setsockopt(fd, IPPROTO_IP, IP_TRANSPARENT, &on, sizeof on) < 0)
		die("IP_TRANSPARENT", errno);
	if (bind(fd, (struct sockaddr *)&any, sizeof any) < 0 || listen(fd, 16) < 0)
		die("listen", errno);
	return fd;
}

static void greet_dest(int fd)
{
	dprintf(fd, "dest\n");
}

/* With a redirect conntrack knows where the connection went; with tproxy it is the socket's own address. */
static void greet_proxy(int fd)
{
	struct sockaddr_storage sa;
	struct addr addr;
	socklen_t len = sizeof sa;
	char text[SOCKADDR_TEXT_MAX];
	bool known = false;

	if (probe.conf.capture.method == CONF_CAPTURE_REDIRECT) {
		known = getsockopt(fd, SOL_IP, SO_ORIGINAL_DST_NUMBER, &sa, &len) == 0;
		if (!known) {
			len = sizeof sa;
			known = getsockopt(fd, SOL_IPV6, SO_ORIGINAL_DST_NUMBER, &sa, &len) == 0;
		}
	}
	len = sizeof sa;
	if (!known && getsockname(fd, (struct sockaddr *)&sa, &len) < 0)
		die("getsockname", errno);
	addr = sockaddr_to_addr(&sa);
	dprintf(fd, "proxy %s\n", sockaddr_text(text, &addr));
}

static void on_connection(struct ev_loop *loop, ev_io *watcher, int events)
{
	void (*greet)(int) = watcher->data;
	int fd = accept4(watcher->fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		return;
	greet(fd);
	close(fd);
}

static void greet_on(uint16_t port, bool transparent, void (*greet)(int))
{
	ev_io *watcher = calloc(1, sizeof *watcher); /* lives as long as the program */

	if (!watcher)
		die("calloc", ENOMEM);
	ev_io_init(watcher, on_connection, listen_on(port, transparent), EV_READ);
	watcher->data = greet;
	ev_io_start(probe.loop, watcher);
}

static void on_held(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct held *held = timer->data;

	held->used = false;
	intercept_verdict(probe.in, held->packet_id, INTERCEPT_CAPTURE);
}

static bool hold(const struct syn *syn, uint32_t packet_id, double after_s)
{
	for (size_t i = 0; i < LIST_MAX; i++) {
		struct held *held = &probe.held[i];

		if (held->used)
			continue;
		held->used = true;
		held->syn = *syn;
		held->packet_id = packet_id;
		ev_timer_init(&held->timer, on_held, after_s, 0);
		held->timer.data = held;
		ev_timer_start(probe.loop, &held->timer);
		return true;
	}
	return false;
}

static bool is_held(const struct syn *syn)
{
	for (size_t i = 0; i < LIST_MAX; i++) {
		const struct held *held = &probe.held[i];

		if (held->used && addr_equal(&held->syn.src, &syn->src) && addr_equal(&held->syn.dst, &syn->dst))
			return true;
	}
	return false;
}

static void on_syn(void *user, const struct syn *syn, uint32_t packet_id)
{
	enum policy policy = probe.policies[syn->dst.port];
	bool repeated = is_held(syn);
	char text[SOCKADDR_TEXT_MAX];

	printf("syn to=%s policy=%s mss=%u window_scale=%u dscp=%u sack=%d timestamps=%d%s\n",
	       sockaddr_text(text, &syn->dst), policy_names[policy], syn->mss, syn->window_scale, syn->dscp,
	       syn->sack_permitted, syn->timestamps, repeated ? " repeated" : "");
	if (repeated || policy == POLICY_DROP)
		intercept_verdict(probe.in, packet_id, INTERCEPT_DROP);
	else if (policy == POLICY_CAPTURE)
		intercept_verdict(probe.in, packet_id, INTERCEPT_CAPTURE);
	else if (policy == POLICY_REFUSE)
		intercept_verdict(probe.in, packet_id, INTERCEPT_REFUSE);
	else if (policy == POLICY_DIRECT || !hold(syn, packet_id, policy == POLICY_HOLD ? 0.3 : 1.5))
		intercept_verdict(probe.in, packet_id, INTERCEPT_DIRECT);
}

static void on_terminate(struct ev_loop *loop, ev_signal *watcher, int events)
{
	ev_break(loop, EVBREAK_ALL);
}

static int run_proxy(void)
{
	const struct intercept_ops ops = {.on_syn = on_syn};
	const struct conf_capture *capture = &probe.conf.capture;
	ev_signal terminate;
	int err;

	probe.loop = ev_default_loop(0);
	ev_signal_init(&terminate, on_terminate, SIGTERM);
	ev_signal_start(probe.loop, &terminate);
	greet_on(probe.conf.local_port, capture->method == CONF_CAPTURE_TPROXY, greet_proxy);
	err = intercept_open(&probe.in, probe.loop, (uint16_t)capture->queue, capture->mark, &ops, NULL);
	if (err)
		die("intercept_open", -err);
	puts("ready");
	ev_run(probe.loop, 0);
	printf("closed syns=%llu unparsed=%llu overruns=%llu\n", (unsigned long long)intercept_stats(probe.in)->syns,
	       (unsigned long long)intercept_stats(probe.in)->unparsed,
	       (unsigned long long)intercept_stats(probe.in)->overruns);
	intercept_close(probe.in);
	return 0;
}

static int run_rules(const char *what)
{
	int err;

	if (strcmp(what, "print") == 0)
		err = rules_print(stdout, &probe.conf, true);
	else
		err = rules_apply(&probe.conf, strcmp(what, "up") == 0);
	if (err)
		fprintf(stderr, "intercept_probe: rules %s: %s\n", what, strerror(-err));
	return err ? 1 : 0;
}

static int run_serve(char **ports)
{
	probe.loop = ev_default_loop(0);
	for (; *ports; ports++)
		greet_on((uint16_t)atoi(*ports), false, greet_dest);
	puts("ready");
	ev_run(probe.loop, 0);
	return 0;
}

/* What became of a connection attempt, in one word, or the line that the other side sent. */
static const char *greeting_of(int fd, int err, char *buf, size_t size)
{
	struct pollfd ready = {.fd = fd, .events = POLLIN};
	ssize_t got;

	if (err == ECONNREFUSED)
		return "refused";
	if (err)
		return strerror(err);
	if (poll(&ready, 1, CONNECT_TIMEOUT_MS) != 1)
		return "silent";
	got = read(fd, buf, size - 1);
	if (got <= 0)
		return "closed";
	buf[got] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	return buf;
}

static int run_connect(const char *address, const char *port)
{
	struct sockaddr_storage sa;
	struct addr addr = parse_addr(address);
	struct tcp_info info;
	socklen_t info_bytes = sizeof info, err_bytes = sizeof(int), sa_bytes;
	struct pollfd writable = {.events = POLLOUT};
	int64_t begin_ms = now_ms();
	char greeting[128];
	int err = ETIMEDOUT;
	int fd;

	addr.port = (uint16_t)atoi(port);
	sa_bytes = sockaddr_from_addr(&sa, &addr);
	fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		die("socket", errno);
	writable.fd = fd;
	if (connect(fd, (struct sockaddr *)&sa, sa_bytes) < 0 && errno != EINPROGRESS)
		err = errno;
	else if (poll(&writable, 1, CONNECT_TIMEOUT_MS) == 1)
		getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &err_bytes);
	memset(&info, 0, sizeof info);
	getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &info_bytes);
	begin_ms = now_ms() - begin_ms;
	printf("%s retransmits=%u ms=%lld\n",
	       err == ETIMEDOUT ? "timeout" : greeting_of(fd, err, greeting, sizeof greeting), info.tcpi_total_retrans,
	       (long long)begin_ms);
	close(fd);
	return 0;
}

static int run_flood(const char *address, const char *port, unsigned count)
{
	struct rlimit files = {count + 64, count + 64};
	struct sockaddr_storage sa;
	struct addr addr = parse_addr(address);
	socklen_t sa_bytes;

	addr.port = (uint16_t)atoi(port);
	sa_bytes = sockaddr_from_addr(&sa, &addr);
	if (setrlimit(RLIMIT_NOFILE, &files) < 0)
		die("setrlimit", errno);
	for (unsigned i = 0; i < count; i++) {
		int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

		if (fd < 0 || (connect(fd, (struct sockaddr *)&sa, sa_bytes) < 0 && errno != EINPROGRESS))
			die("flood", errno);
	}
	puts("ready");
	pause();
	return 0;
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc >= 2 && strcmp(argv[1], "proxy") == 0) {
		set_options(argv + 2);
		return run_proxy();
	}
	if (argc >= 3 && strcmp(argv[1], "rules") == 0) {
		set_options(argv + 3);
		return run_rules(argv[2]);
	}
	if (argc >= 3 && strcmp(argv[1], "serve") == 0)
		return run_serve(argv + 2);
	if (argc == 4 && strcmp(argv[1], "connect") == 0)
		return run_connect(argv[2], argv[3]);
	if (argc == 5 && strcmp(argv[1], "flood") == 0)
		return run_flood(argv[2], argv[3], (unsigned)atoi(argv[4]));
	fprintf(stderr, "usage: intercept_probe proxy|rules|serve|connect|flood …\n");
	return 2;
}
