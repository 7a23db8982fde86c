/* crowd: many strangers at once, from one address or from many.
 *
 *   crowd connect ADDRESS PORT NET COUNT RATE HOLD_MS [HEX]
 *       COUNT connections, RATE of them a second, from the addresses of NET (10.66.0.0/16; /32: one) in turn. Each
 *       sends the bytes HEX, says nothing more, and is given up when it is HOLD_MS old; 0: closed as soon as it is
 *       open. Writes
 *       "connections=N connected=N ended=N kept=N longest_ms=N most_open=N ms=N": ended by the other side before
 *       that, or not; the age of the oldest that was; open at the same time; how long all took
 *   crowd syn ADDRESS PORT NET COUNT RATE
 *       SYNs and nothing else. Writes "syns=N ms=N". Needs CAP_NET_RAW.
 *
 * The addresses of NET need not be this machine's, but then replies must find their way:
 * `ip route add local NET dev lo` here, a route to here there.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEX_MAX = 4096, EVENTS = 256, FIRST_PORT = 1024, LAST_PORT = 65000 };

struct net {
	uint32_t first, count; /* host byte order */
};

struct one {
	int fd; /* -1: over */
	bool connected;
	uint64_t since_us;
};

struct crowd {
	struct sockaddr_in to;
	struct net net;
	unsigned long count, rate;
	uint64_t hold_us;
	uint8_t bytes[HEX_MAX];
	size_t len;

	int epoll_fd;
	struct one *all;
	unsigned long begun, oldest, open, connected, ended, kept, most_open;
	uint64_t longest_us;
};

__attribute__((noreturn)) static void die(const char *what)
{
	fprintf(stderr, "crowd: %s: %s\n", what, strerror(errno));
	exit(2);
}

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static uint64_t ms_of(uint64_t us)
{
	return (us + 500) / 1000;
}

/* --- Arguments ---------------------------------------------------------------------------------------------------- */

static void parse_common(struct crowd *crowd, char **argv)
{
	char *slash = strchr(argv[2], '/');
	struct in_addr first;

	crowd->to.sin_family = AF_INET;
	crowd->to.sin_port = htons((uint16_t)atoi(argv[1]));
	errno = EINVAL;
	if (inet_pton(AF_INET, argv[0], &crowd->to.sin_addr) != 1)
		die(argv[0]);
	if (!slash)
		die(argv[2]);
	*slash = '\0';
	if (inet_pton(AF_INET, argv[2], &first) != 1 || atoi(slash + 1) < 8 || atoi(slash + 1) > 32)
		die(argv[2]);
	crowd->net.first = ntohl(first.s_addr);
	crowd->net.count = UINT32_C(1) << (32 - atoi(slash + 1));
	crowd->count = strtoul(argv[3], NULL, 10);
	crowd->rate = strtoul(argv[4], NULL, 10);
	if (!crowd->count || !crowd->rate)
		die("COUNT and RATE");
}

static void parse_hex(struct crowd *crowd, const char *text)
{
	for (; text[0] && text[1] && crowd->len < HEX_MAX; text += 2) {
		char byte[3] = {text[0], text[1], '\0'};

		crowd->bytes[crowd->len++] = (uint8_t)strtoul(byte, NULL, 16);
	}
}

static uint32_t address_of(const struct net *net, unsigned long i)
{
	/* .0 and .255 look like what they may be. */
	return net->count == 1 ? net->first : net->first + (uint32_t)(i * 7 % (net->count - 2)) + 1;
}

/* How many should have begun by now. */
static unsigned long due(const struct crowd *crowd, uint64_t elapsed_us)
{
	unsigned long count = 1 + (unsigned long)(elapsed_us * crowd->rate / 1000000);

	return count < crowd->count ? count : crowd->count;
}

/* --- Connections -------------------------------------------------------------------------------------------------- */

static void leave(struct crowd *crowd, struct one *one)
{
	close(one->fd);
	one->fd = -1;
	crowd->open--;
}

static void begin_one(struct crowd *crowd, uint64_t now)
{
	struct one *one = &crowd->all[crowd->begun];
	struct sockaddr_in from = {.sin_family = AF_INET};
	struct epoll_event event = {.events = EPOLLOUT | EPOLLIN | EPOLLRDHUP, .data.u64 = crowd->begun};
	int yes = 1;

	one->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (one->fd < 0)
		die("socket");
	from.sin_addr.s_addr = htonl(address_of(&crowd->net, crowd->begun));
	setsockopt(one->fd, IPPROTO_IP, IP_FREEBIND, &yes, sizeof yes);
	setsockopt(one->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
	if (bind(one->fd, (struct sockaddr *)&from, sizeof from) < 0)
		die("bind");
	if (connect(one->fd, (struct sockaddr *)&crowd->to, sizeof crowd->to) < 0 && errno != EINPROGRESS)
		die("connect");
	if (epoll_ctl(crowd->epoll_fd, EPOLL_CTL_ADD, one->fd, &event) < 0)
		die("epoll_ctl");
	one->since_us = now;
	crowd->begun++;
	crowd->open++;
	if (crowd->open > crowd->most_open)
		crowd->most_open = crowd->open;
}

static void on_event(struct crowd *crowd, const struct epoll_event *event, uint64_t now)
{
	struct one *one = &crowd->all[event->data.u64];
	struct epoll_event further = {.events = EPOLLIN | EPOLLRDHUP, .data.u64 = event->data.u64};
	uint8_t trash[4096];
	int error = 0;
	socklen_t len = sizeof error;

	if (one->fd < 0)
		return;
	if (!one->connected && event->events & EPOLLOUT) {
		getsockopt(one->fd, SOL_SOCKET, SO_ERROR, &error, &len);
		/* An answer of a sort: it had been open, or would have been refused. */
		one->connected = !error || error == ECONNRESET;
		crowd->connected += one->connected;
		if (!error && crowd->len)
			(void)!send(one->fd, crowd->bytes, crowd->len, MSG_NOSIGNAL);
		epoll_ctl(crowd->epoll_fd, EPOLL_CTL_MOD, one->fd, &further);
		if (!error && !crowd->hold_us) {
			crowd->kept++;
			leave(crowd, one);
			return;
		}
	}
	if (!error && !(event->events & (EPOLLERR | EPOLLHUP)) &&
	    (!(event->events & EPOLLIN) || recv(one->fd, trash, sizeof trash, 0) > 0))
		return;
	crowd->ended++;
	if (now - one->since_us > crowd->longest_us)
		crowd->longest_us = now - one->since_us;
	leave(crowd, one);
}

/* Gives up those whose time is over. */
static void expire(struct crowd *crowd, uint64_t now)
{
	for (; crowd->oldest < crowd->begun; crowd->oldest++) {
		struct one *one = &crowd->all[crowd->oldest];
		if (one->fd >= 0 && now - one->since_us < crowd->hold_us)
			return;
		if (one->fd < 0)
			continue;
		crowd->kept++;
		leave(crowd, one);
	}
}

static int run_connect(struct crowd *crowd)
{
	struct rlimit files = {(rlim_t)crowd->count + 100, (rlim_t)crowd->count + 100};
	struct epoll_event events[EVENTS];
	uint64_t start = now_us(), now = start;

	setrlimit(RLIMIT_NOFILE, &files);
	crowd->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	crowd->all = calloc(crowd->count, sizeof *crowd->all);
	if (crowd->epoll_fd < 0 || !crowd->all)
		die("memory");
	while (crowd->begun < crowd->count || crowd->open) {
		for (unsigned long target = due(crowd, now - start); crowd->begun < target;)
			begin_one(crowd, now);
		int count = epoll_wait(crowd->epoll_fd, events, EVENTS, 2);
		now = now_us();
		for (int i = 0; i < count; i++)
			on_event(crowd, &events[i], now);
		if (crowd->hold_us)
			expire(crowd, now);
	}
	printf("connections=%lu connected=%lu ended=%lu kept=%lu longest_ms=%llu most_open=%lu ms=%llu\n", crowd->count,
	       crowd->connected, crowd->ended, crowd->kept, (unsigned long long)ms_of(crowd->longest_us),
	       crowd->most_open, (unsigned long long)ms_of(now - start));
	return 0;
}

/* --- SYNs --------------------------------------------------------------------------------------------------------- */

struct packet {
	struct iphdr ip;
	struct tcphdr tcp;
};

static uint32_t add_words(uint32_t sum, const void *bytes, size_t len)
{
	const uint8_t *at = bytes;

	for (size_t i = 0; i + 1 < len; i += 2)
		sum += (uint32_t)at[i] << 8 | at[i + 1];
	return sum;
}

static void make_syn(struct packet *packet, const struct crowd *crowd, unsigned long i)
{
	uint32_t sum;

	*packet = (struct packet){
	        .ip = {.version = 4,
	               .ihl = 5,
	               .tot_len = htons(sizeof *packet),
	               .ttl = 64,
	               .protocol = IPPROTO_TCP,
	               .saddr = htonl(address_of(&crowd->net, i)),
	               .daddr = crowd->to.sin_addr.s_addr},
	        .tcp = {.source = htons((uint16_t)(FIRST_PORT + i % (LAST_PORT - FIRST_PORT))),
	                .dest = crowd->to.sin_port,
	                .seq = htonl((uint32_t)i * 2654435761U),
	                .doff = 5,
	                .syn = 1,
	                .window = htons(64240)},
	};
	/* With the pseudo header (RFC 9293, 3.1); the kernel fills in IP's own. */
	sum = add_words(IPPROTO_TCP + sizeof packet->tcp, &packet->ip.saddr, 8);
	sum = add_words(sum, &packet->tcp, sizeof packet->tcp);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	packet->tcp.check = htons((uint16_t)~sum);
}

static int run_syn(struct crowd *crowd)
{
	int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	uint64_t start = now_us();
	struct packet packet;

	if (fd < 0)
		die("raw socket");
	while (crowd->begun < crowd->count) {
		for (unsigned long target = due(crowd, now_us() - start); crowd->begun < target; crowd->begun++) {
			make_syn(&packet, crowd, crowd->begun);
			if (sendto(fd, &packet, sizeof packet, 0, (struct sockaddr *)&crowd->to, sizeof crowd->to) <
			            0 &&
			    errno != ENOBUFS)
				die("sendto");
		}
		poll(NULL, 0, 1);
	}
	printf("syns=%lu ms=%llu\n", crowd->count, (unsigned long long)ms_of(now_us() - start));
	close(fd);
	return 0;
}

int main(int argc, char **argv)
{
	static struct crowd crowd;
	const char *command = argc > 1 ? argv[1] : "";

	if (strcmp(command, "connect") == 0 && (argc == 8 || argc == 9)) {
		parse_common(&crowd, argv + 2);
		crowd.hold_us = strtoull(argv[7], NULL, 10) * 1000;
		if (argc == 9)
			parse_hex(&crowd, argv[8]);
		return run_connect(&crowd);
	}
	if (strcmp(command, "syn") == 0 && argc == 7) {
		parse_common(&crowd, argv + 2);
		return run_syn(&crowd);
	}
	fprintf(stderr, "Usage: crowd connect ADDRESS PORT NET COUNT RATE HOLD_MS [HEX]\n"
	                "       crowd syn ADDRESS PORT NET COUNT RATE\n");
	return 2;
}
