#include "traffic_serve.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

#include "../common/io/sock.h"

static void list_add(struct traffic_server *server, struct traffic_served *served)
{
	served->prev = NULL;
	served->next = server->first;
	if (server->first)
		server->first->prev = served;
	server->first = served;
	server->live++;
}

static void list_remove(struct traffic_server *server, struct traffic_served *served)
{
	if (served->prev)
		served->prev->next = served->next;
	else
		server->first = served->next;
	if (served->next)
		served->next->prev = served->prev;
	server->live--;
}

static enum traffic_status open_out(struct traffic_served *served)
{
	char path[CONF_FILE_MAX + 16];
	struct traffic_sink *sink = &served->flow.sink;

	sink->kind = TRAFFIC_SINK_BYTES;
	sink->file_fd = traffic_out_open(&served->server->out, path, sizeof path, &sink->error);
	if (sink->error)
		return TRAFFIC_OUTPUT_FAILED;
	if (sink->file_fd >= 0)
		served->out_name = strdup(path);
	return TRAFFIC_OK;
}

static enum traffic_status plan_transfer(struct traffic_served *served, const struct traffic_header *header)
{
	struct traffic_flow *flow = &served->flow;
	struct traffic_pattern back = traffic_pattern_make(header->seed, header->flow, TRAFFIC_BACK);

	flow->plan.sends_trailer = flow->plan.trailer_after_eof = flow->plan.half_closes = true;
	flow->plan.duration_ms = header->duration_ms;
	flow->sink.expects_trailer = true;
	flow->sink.pattern = traffic_pattern_make(header->seed, header->flow, TRAFFIC_FORTH);
	traffic_source_init(&flow->source, -1, back, header->flags & TRAFFIC_HAS_BACK ? header->back_bytes : 0, false);
	if (header->flags & TRAFFIC_IS_FILE) {
		served->kind = TRAFFIC_KIND_FILE;
		if (header->flags & TRAFFIC_VERIFY && traffic_sink_add_digest(&flow->sink) < 0)
			return TRAFFIC_OUTPUT_FAILED;
		/* A file that cannot be opened is told in the trailer, as one that cannot be written. */
		open_out(served);
		return TRAFFIC_OK;
	}
	served->kind = TRAFFIC_KIND_PATTERN;
	if (header->flags & TRAFFIC_VERIFY)
		flow->sink.kind = TRAFFIC_SINK_PATTERN;
	return TRAFFIC_OK;
}

static enum traffic_status plan_request(struct traffic_served *served, const struct traffic_header *header)
{
	struct traffic_flow *flow = &served->flow;
	struct traffic_pattern back = traffic_pattern_make(header->seed, header->flow, TRAFFIC_BACK);

	served->kind = TRAFFIC_KIND_REQUEST;
	flow->plan.half_closes = true;
	traffic_source_init(&flow->source, -1, back, header->back_bytes, false);
	return TRAFFIC_OK;
}

static enum traffic_status on_greeted(struct traffic_flow *flow, const struct traffic_header *header)
{
	struct traffic_served *served = flow->owner;

	if (!header) {
		served->kind = TRAFFIC_KIND_RAW;
		return flow->greeting_bytes ? open_out(served) : TRAFFIC_OK;
	}
	served->index = header->flow;
	switch (header->mode) {
	case TRAFFIC_TRANSFER:
		return plan_transfer(served, header);
	case TRAFFIC_REQUEST:
		return plan_request(served, header);
	case TRAFFIC_ECHO:
		served->kind = TRAFFIC_KIND_ECHO;
		flow->plan.echoes = flow->plan.half_closes = true;
		break;
	}
	return TRAFFIC_OK;
}

static void served_free(struct traffic_served *served)
{
	traffic_flow_free(&served->flow);
	free(served->out_name);
	free(served);
}

static void on_ended(struct traffic_flow *flow)
{
	struct traffic_served *served = flow->owner;
	struct traffic_server *server = served->server;

	list_remove(server, served);
	server->ended++;
	server->failed += flow->status != TRAFFIC_OK;
	server->received_bytes += flow->sink.bytes;
	server->sent_bytes += flow->source.offset;
	traffic_serve_report(served);
	served_free(served);
	if (server->conf->flows && server->ended == server->conf->flows)
		server->done(server);
}

static const struct traffic_flow_ops served_ops = {.greeted = on_greeted, .ended = on_ended};

static void serve_take(struct traffic_server *server, int fd, const struct addr *remote)
{
	struct traffic_served *served = calloc(1, sizeof *served);

	server->accepted++;
	if (!served) {
		sock_reset(fd);
		server->ended++;
		server->failed++;
		return;
	}
	served->server = server;
	served->number = server->accepted;
	served->flow.loop = server->loop;
	served->flow.buffer = server->buffer;
	served->flow.ops = &served_ops;
	served->flow.owner = served;
	list_add(server, served);
	traffic_flow_accept(&served->flow, fd, remote);
}

static void on_accepted(void *user, int fd, const struct addr *remote)
{
	struct traffic_server *server = user;

	sock_set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	sock_set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	serve_take(server, fd, remote);
	if (server->conf->flows && server->accepted == server->conf->flows)
		listener_close(&server->listener);
}

int traffic_serve_start(struct traffic_server *server)
{
	int error;

	server->buffer = calloc(1, sizeof *server->buffer);
	if (!server->buffer)
		return -ENOMEM;
	server->out.name = server->conf->out;
	error = listener_open(&server->listener, server->loop, server->conf->recv_port, false, on_accepted, server);
	if (error)
		free(server->buffer);
	return error;
}

void traffic_serve_stop(struct traffic_server *server)
{
	listener_close(&server->listener);
	while (server->first)
		traffic_flow_abort(&server->first->flow, TRAFFIC_INTERRUPTED);
	free(server->buffer);
	server->buffer = NULL;
}

void traffic_serve_bytes(const struct traffic_server *server, uint64_t *received_bytes, uint64_t *sent_bytes)
{
	*received_bytes = server->received_bytes;
	*sent_bytes = server->sent_bytes;
	for (const struct traffic_served *served = server->first; served; served = served->next) {
		*received_bytes += served->flow.sink.bytes;
		*sent_bytes += served->flow.source.offset;
	}
}
