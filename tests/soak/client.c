#include "client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "content.h"
#include "plan.h"

struct client_flow {
	struct flow_end end;
	struct client_flow *next, *prev;
	enum plan_kind kind;
	uint32_t id;
};

struct client {
	const struct client_options *options;
	struct ev_loop *loop;
	FILE *log;
	ev_timer next_start, give_up, telling;
	ev_tstamp stop_at;
	uint32_t index; /* of the next flow */
	struct plan_flow plan;
	struct client_flow *live;
	unsigned live_count;
	bool waits; /* too many are live */
	uint64_t counts[FLOW_VERDICTS];
};

static struct client client;

static void on_ended(struct flow_end *end)
{
	struct client_flow *flow = (struct client_flow *)((char *)end - offsetof(struct client_flow, end));
	enum flow_verdict verdict = flow_end_verdict(end);

	*(flow->prev ? &flow->prev->next : &client.live) = flow->next;
	if (flow->next)
		flow->next->prev = flow->prev;
	client.live_count--;
	client.counts[verdict]++;
	flow_end_report(end, client.log, verdict, "side=client id=%" PRIu32 " kind=%s", flow->id,
	                plan_kind_name(flow->kind));
	free(flow);
	if (client.waits) {
		client.waits = false;
		ev_timer_set(&client.next_start, 0., 0.);
		ev_timer_start(client.loop, &client.next_start);
	}
	if (!client.live_count && ev_is_active(&client.give_up))
		ev_break(client.loop, EVBREAK_ALL);
}

static void start_flow(void)
{
	const struct client_options *options = client.options;
	struct client_flow *flow = calloc(1, sizeof *flow);
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(options->port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (!flow || fd < 0) {
		perror("soak_flows");
		exit(2);
	}
	flow->kind = client.plan.kind;
	flow->id = options->first_id + client.index;
	flow->end.work = client.plan.client;
	flow->end.ended = on_ended;
	flow->end.head_bytes = FLOW_HEAD_BYTES;
	plan_head_write(flow->end.head, flow->id, &client.plan);
	flow->next = client.live;
	if (client.live)
		client.live->prev = flow;
	client.live = flow;
	client.live_count++;
	if (flow->kind == PLAN_REFUSED)
		sa.sin_port = htons(options->closed_port);
	inet_pton(AF_INET, options->address, &sa.sin_addr);
	/* What fails at once is seen when the socket is written. */
	connect(fd, (struct sockaddr *)&sa, sizeof sa);
	flow_end_start(&flow->end, client.loop, fd);
}

static void prepare_next(void)
{
	plan_make(&client.plan, client.options->seed, client.index, client.options->rate, client.options->idle_max_ms);
	ev_timer_set(&client.next_start, client.plan.pause_ms / 1000., 0.);
	ev_timer_start(client.loop, &client.next_start);
}

static void on_next_start(struct ev_loop *loop, ev_timer *w, int events)
{
	if (ev_now(loop) >= client.stop_at) {
		ev_timer_start(loop, &client.give_up);
		if (!client.live_count)
			ev_break(loop, EVBREAK_ALL);
		return;
	}
	if (client.live_count >= client.options->live_max) {
		client.waits = true;
		return;
	}
	start_flow();
	client.index++;
	prepare_next();
}

/* Those that are left have hung. */
static void on_give_up(struct ev_loop *loop, ev_timer *w, int events)
{
	while (client.live)
		flow_end_reset(&client.live->end);
	ev_break(loop, EVBREAK_ALL);
}

static void tell(void)
{
	FILE *status = fopen(client.options->status, "w");

	if (!status)
		return;
	fprintf(status, "started=%" PRIu32 " live=%u", client.index, client.live_count);
	for (enum flow_verdict verdict = 0; verdict < FLOW_VERDICTS; verdict++)
		fprintf(status, " %s=%" PRIu64, flow_verdict_name(verdict), client.counts[verdict]);
	fputc('\n', status);
	fclose(status);
}

static void on_telling(struct ev_loop *loop, ev_timer *w, int events)
{
	tell();
	/* A client that waits must end, too. */
	if (client.waits && ev_now(loop) >= client.stop_at && !ev_is_active(&client.give_up))
		ev_timer_start(loop, &client.give_up);
}

int client_run(const struct client_options *options)
{
	client.options = options;
	client.loop = ev_default_loop(EVFLAG_NOENV);
	client.log = fopen(options->log, "a");
	if (!client.loop || !client.log) {
		perror("soak_flows");
		return 2;
	}
	setvbuf(client.log, NULL, _IOLBF, 0);
	client.stop_at = ev_now(client.loop) + options->seconds;
	ev_timer_init(&client.next_start, on_next_start, 0., 0.);
	ev_timer_init(&client.give_up, on_give_up, options->drain_s, 0.);
	ev_timer_init(&client.telling, on_telling, 0., 1.);
	ev_timer_start(client.loop, &client.telling);
	prepare_next();
	ev_run(client.loop, 0);
	tell();
	fclose(client.log);
	return client.counts[FLOW_CUT] || client.counts[FLOW_WRONG] || client.counts[FLOW_HUNG];
}
