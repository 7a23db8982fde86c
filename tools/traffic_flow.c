#include "traffic_flow.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../common/io/sock.h"
#include "traffic_socket.h"

/* Chunks that one flow may read or send per wakeup, so that the others get their turns. */
enum { CHUNKS_PER_TURN = 4 };

uint64_t traffic_now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static bool is_ended(const struct traffic_flow *flow)
{
	return flow->state == TRAFFIC_FLOW_ENDED;
}

static bool block_pending(const struct traffic_flow *flow)
{
	return flow->block_sent < flow->block_bytes;
}

/* The one place where watchers are set: read iff there is room for it, write iff there is something to write. */
static void flow_watch(struct traffic_flow *flow)
{
	bool reads = flow->state == TRAFFIC_FLOW_OPEN && flow->receiving != TRAFFIC_RECEIVING_DONE &&
	             !(flow->plan.echoes && block_pending(flow));
	bool writes = flow->state == TRAFFIC_FLOW_CONNECTING ||
	              (flow->state == TRAFFIC_FLOW_OPEN &&
	               (block_pending(flow) || flow->sending == TRAFFIC_SENDING_LAST ||
	                (flow->sending == TRAFFIC_SENDING_DATA && flow->receiving != TRAFFIC_RECEIVING_GREETING &&
	                 !flow->plan.echoes)));

	if (reads)
		ev_io_start(flow->loop, &flow->reader);
	else
		ev_io_stop(flow->loop, &flow->reader);
	if (writes)
		ev_io_start(flow->loop, &flow->writer);
	else
		ev_io_stop(flow->loop, &flow->writer);
}

/* True where the other side has said its last word, so that a FIN cannot deceive it. */
static bool ends_politely(enum traffic_status status)
{
	return status == TRAFFIC_OK || status == TRAFFIC_SHORT || status == TRAFFIC_WRONG_DATA ||
	       status == TRAFFIC_NO_REPORT;
}

static void flow_end(struct traffic_flow *flow, enum traffic_status status, int error)
{
	assert(!is_ended(flow));
	flow->state = TRAFFIC_FLOW_ENDED;
	flow->status = status;
	flow->error = error;
	flow->ended_us = traffic_now_us();
	ev_timer_stop(flow->loop, &flow->deadline);
	if (flow->fd < 0)
		return;
	ev_io_stop(flow->loop, &flow->reader);
	ev_io_stop(flow->loop, &flow->writer);
	if (ends_politely(status))
		close(flow->fd);
	else
		sock_reset(flow->fd);
	flow->fd = -1;
}

/* Every path in from libev or from the owner leaves through here: `ended` may free the flow. */
static void flow_leave(struct traffic_flow *flow)
{
	if (is_ended(flow))
		flow->ops->ended(flow);
	else
		flow_watch(flow);
}

/* How a whole flow stands by what was received and, on the side that gets a report, by the other side's report. */
static enum traffic_status flow_verdict(struct traffic_flow *flow)
{
	const struct traffic_trailer *theirs = &flow->theirs;
	const struct traffic_sink *sink = &flow->sink;
	uint8_t sha256[TRAFFIC_SHA256_SIZE];
	bool reports = !flow->plan.trailer_after_eof; /* theirs tells how our data fared */

	if (sink->error)
		return TRAFFIC_OUTPUT_FAILED;
	if (sink->first_wrong != TRAFFIC_NO_OFFSET)
		return TRAFFIC_WRONG_DATA;
	if (!sink->expects_trailer)
		return sink->bytes < flow->plan.complete_at_bytes ? TRAFFIC_SHORT : TRAFFIC_OK;
	if (!flow->has_theirs)
		return reports && sink->kind == TRAFFIC_SINK_COUNT && sink->bytes == 0 ? TRAFFIC_NO_REPORT
		                                                                       : TRAFFIC_SHORT;
	if (sink->bytes != theirs->sent_bytes)
		return sink->bytes < theirs->sent_bytes ? TRAFFIC_SHORT : TRAFFIC_WRONG_DATA;
	if (theirs->has_sent_sha256 && traffic_sink_sha256(&flow->sink, sha256) &&
	    memcmp(sha256, theirs->sent_sha256, sizeof sha256) != 0)
		return TRAFFIC_WRONG_DATA;
	if (!reports)
		return TRAFFIC_OK;
	if (theirs->status != TRAFFIC_OK)
		return theirs->status;
	if (theirs->received_bytes != flow->source.offset)
		return theirs->received_bytes < flow->source.offset ? TRAFFIC_SHORT : TRAFFIC_WRONG_DATA;
	if (theirs->has_received_sha256 && traffic_source_sha256(&flow->source, sha256) &&
	    memcmp(sha256, theirs->received_sha256, sizeof sha256) != 0)
		return TRAFFIC_WRONG_DATA;
	return TRAFFIC_OK;
}

static void flow_queue_trailer(struct traffic_flow *flow)
{
	struct traffic_trailer ours = {
	        .sent_bytes = flow->source.offset,
	        .received_bytes = flow->sink.bytes,
	        .first_wrong = flow->sink.first_wrong,
	        .receive_us = flow->last_us > flow->greeted_us ? flow->last_us - flow->greeted_us : 0,
	};

	/* Only the side that waited for all of it can judge. */
	if (flow->plan.trailer_after_eof)
		ours.status = flow_verdict(flow);
	ours.has_sent_sha256 = traffic_source_sha256(&flow->source, ours.sent_sha256);
	ours.has_received_sha256 = traffic_sink_sha256(&flow->sink, ours.received_sha256);
	traffic_trailer_encode(flow->block, &ours);
	flow->block_bytes = TRAFFIC_TRAILER_SIZE;
	flow->block_sent = 0;
}

/* The source has ended, or the FIN that the trailer waits for has come. */
static void flow_sending_next(struct traffic_flow *flow)
{
	if (!flow->plan.half_closes) {
		flow->sending = TRAFFIC_SENDING_DONE;
	} else if (!flow->plan.sends_trailer) {
		flow->sending = TRAFFIC_SENDING_LAST;
	} else if (flow->plan.trailer_after_eof && flow->receiving != TRAFFIC_RECEIVING_DONE) {
		flow->sending = TRAFFIC_SENDING_WAITS;
	} else {
		flow_queue_trailer(flow);
		flow->sending = TRAFFIC_SENDING_LAST;
	}
}

static void flow_end_if_complete(struct traffic_flow *flow)
{
	bool all_came = flow->receiving == TRAFFIC_RECEIVING_DONE;
	bool all_sent = flow->sending == TRAFFIC_SENDING_DONE && !block_pending(flow);
	enum traffic_status status;

	if (is_ended(flow))
		return;
	if (flow->plan.complete_at_bytes && flow->sink.bytes >= flow->plan.complete_at_bytes)
		all_came = all_sent = true;
	if (!all_came || !(all_sent || flow->plan.ends_at_eof))
		return;
	status = flow_verdict(flow);
	flow_end(flow, status == TRAFFIC_OK && !all_sent ? TRAFFIC_SHORT : status, flow->sink.error);
}

/* How many bytes the socket took; 0: none now, or the flow has ended. */
static size_t flow_send(struct traffic_flow *flow, const uint8_t *data, size_t len_bytes)
{
	ssize_t sent;

	do
		sent = send(flow->fd, data, len_bytes, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	if (sent >= 0)
		return (size_t)sent;
	if (errno != EAGAIN)
		flow_end(flow, TRAFFIC_RESET, -errno);
	return 0;
}

static void flow_write(struct traffic_flow *flow)
{
	for (int turn = 0; turn < CHUNKS_PER_TURN && !is_ended(flow); turn++) {
		size_t sent;
		long filled;

		if (block_pending(flow)) {
			sent = flow_send(flow, flow->block + flow->block_sent, flow->block_bytes - flow->block_sent);
			flow->block_sent += sent;
			if (block_pending(flow))
				return;
			continue;
		}
		if (flow->sending == TRAFFIC_SENDING_LAST) {
			shutdown(flow->fd, SHUT_WR);
			flow->sending = TRAFFIC_SENDING_DONE;
		}
		if (flow->sending != TRAFFIC_SENDING_DATA || flow->plan.echoes)
			return;
		filled = traffic_source_fill(&flow->source, flow->buffer->data, sizeof flow->buffer->data);
		if (filled < 0) {
			flow_end(flow, TRAFFIC_INPUT_FAILED, (int)filled);
		} else if (filled == 0) {
			flow_sending_next(flow);
		} else {
			sent = flow_send(flow, flow->buffer->data, (size_t)filled);
			traffic_source_sent(&flow->source, flow->buffer->data, sent);
			if (sent < (size_t)filled)
				return;
		}
	}
}

static void start_deadline(struct traffic_flow *flow)
{
	if (!flow->plan.duration_ms)
		return;
	ev_timer_set(&flow->deadline, flow->plan.duration_ms / 1e3, 0.);
	ev_timer_start(flow->loop, &flow->deadline);
}

/* The greeting is whole, or what came can be none: ask the owner for the plan. */
static void flow_greet(struct traffic_flow *flow, bool is_raw)
{
	struct traffic_header header;
	enum traffic_status status;
	int error = is_raw ? 0 : traffic_header_decode(&header, flow->block);

	flow->greeted_us = traffic_now_us();
	if (error) {
		flow_end(flow, TRAFFIC_BAD_HEADER, error);
		return;
	}
	flow->receiving = TRAFFIC_RECEIVING_DATA;
	status = flow->ops->greeted(flow, is_raw ? NULL : &header);
	if (status != TRAFFIC_OK) {
		flow_end(flow, status, flow->sink.error);
		return;
	}
	if (is_raw) {
		memcpy(flow->buffer->data, flow->block, flow->greeting_bytes);
		traffic_sink_take(&flow->sink, flow->buffer->data, flow->greeting_bytes);
	}
	start_deadline(flow);
}

static void flow_take_eof(struct traffic_flow *flow)
{
	if (flow->receiving == TRAFFIC_RECEIVING_GREETING)
		flow_greet(flow, true);
	if (is_ended(flow))
		return;
	flow->receiving = TRAFFIC_RECEIVING_DONE;
	flow->has_theirs = flow->sink.expects_trailer && traffic_sink_end(&flow->sink, &flow->theirs) == 0;
	if (flow->plan.echoes || flow->sending == TRAFFIC_SENDING_WAITS)
		flow_sending_next(flow);
}

static void note_gap(struct traffic_flow *flow, uint64_t gap_us)
{
	if (flow->gap_epoch != flow->buffer->gap_epoch)
		flow->longest_gap_us = 0;
	flow->gap_epoch = flow->buffer->gap_epoch;
	if (gap_us > flow->longest_gap_us)
		flow->longest_gap_us = gap_us;
}

uint64_t traffic_flow_longest_gap_us(const struct traffic_flow *flow)
{
	return flow->gap_epoch == flow->buffer->gap_epoch ? flow->longest_gap_us : 0;
}

static void flow_take(struct traffic_flow *flow, uint8_t *data, size_t len_bytes)
{
	uint64_t now_us = traffic_now_us();

	if (!flow->first_us)
		flow->first_us = now_us;
	else
		note_gap(flow, now_us - flow->last_us);
	flow->last_us = now_us;
	if (flow->receiving == TRAFFIC_RECEIVING_GREETING) {
		flow->greeting_bytes += len_bytes;
		if (!traffic_header_may_start(flow->block, flow->greeting_bytes))
			flow_greet(flow, true);
		else if (flow->greeting_bytes == TRAFFIC_HEADER_SIZE)
			flow_greet(flow, false);
	} else if (flow->plan.echoes) {
		flow->block_bytes = len_bytes;
		flow->block_sent = 0;
		flow->sink.bytes += len_bytes;
		flow_write(flow);
	} else {
		traffic_sink_take(&flow->sink, data, len_bytes);
	}
	/* With a trailer to come, the report tells it; else there is no other way to tell. */
	if (!is_ended(flow) && flow->sink.error && !flow->sink.expects_trailer)
		flow_end(flow, TRAFFIC_OUTPUT_FAILED, flow->sink.error);
}

static void flow_read(struct traffic_flow *flow)
{
	for (int turn = 0; turn < CHUNKS_PER_TURN && flow->receiving != TRAFFIC_RECEIVING_DONE; turn++) {
		uint8_t *data = flow->buffer->data;
		size_t room = sizeof flow->buffer->data;
		ssize_t got;

		/* The greeting is read exactly, so nothing behind it is ever in the wrong place. */
		if (flow->receiving == TRAFFIC_RECEIVING_GREETING) {
			data = flow->block + flow->greeting_bytes;
			room = TRAFFIC_HEADER_SIZE - flow->greeting_bytes;
		} else if (flow->plan.echoes) {
			if (block_pending(flow))
				return;
			data = flow->block;
			room = sizeof flow->block;
		}
		got = recv(flow->fd, data, room, 0);
		if (got > 0)
			flow_take(flow, data, (size_t)got);
		else if (got == 0)
			flow_take_eof(flow);
		else if (errno != EAGAIN && errno != EINTR)
			flow_end(flow, TRAFFIC_RESET, -errno);
		else
			return;
		flow_end_if_complete(flow);
		if (is_ended(flow))
			return;
	}
}

static void on_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
	struct traffic_flow *flow = watcher->data;

	flow_read(flow);
	flow_leave(flow);
}

static void on_writable(struct ev_loop *loop, ev_io *watcher, int events)
{
	struct traffic_flow *flow = watcher->data;

	if (flow->state == TRAFFIC_FLOW_CONNECTING) {
		int error = -sock_error(flow->fd);

		if (error) {
			flow_end(flow, TRAFFIC_CONNECT_FAILED, error);
			flow_leave(flow);
			return;
		}
		flow->state = TRAFFIC_FLOW_OPEN;
		flow->connected_us = flow->greeted_us = traffic_now_us();
		start_deadline(flow);
		if (flow->ops->connected)
			flow->ops->connected(flow);
	}
	flow_write(flow);
	flow_end_if_complete(flow);
	flow_leave(flow);
}

static void on_deadline(struct ev_loop *loop, ev_timer *watcher, int events)
{
	struct traffic_flow *flow = watcher->data;

	traffic_source_stop(&flow->source);
	flow_write(flow);
	flow_end_if_complete(flow);
	flow_leave(flow);
}

static void flow_start(struct traffic_flow *flow, int fd, const struct addr *remote, uint64_t started_us)
{
	flow->fd = fd;
	flow->remote = *remote;
	flow->started_us = started_us;
	ev_io_init(&flow->reader, on_readable, fd, EV_READ);
	ev_io_init(&flow->writer, on_writable, fd, EV_WRITE);
	ev_init(&flow->deadline, on_deadline);
	flow->reader.data = flow->writer.data = flow->deadline.data = flow;
}

void traffic_flow_connect(struct traffic_flow *flow, const struct addr *remote, const void *greeting,
                          size_t greeting_bytes)
{
	uint64_t started_us = traffic_now_us();
	int fd = traffic_socket_connect(remote);

	assert(greeting_bytes <= sizeof flow->block);
	flow_start(flow, fd, remote, started_us);
	flow->state = TRAFFIC_FLOW_CONNECTING;
	flow->receiving = TRAFFIC_RECEIVING_DATA;
	flow->sending = TRAFFIC_SENDING_DATA;
	if (greeting_bytes > 0)
		memcpy(flow->block, greeting, greeting_bytes);
	flow->block_bytes = greeting_bytes;
	flow->block_sent = 0;
	if (fd < 0)
		flow_end(flow, TRAFFIC_CONNECT_FAILED, fd);
	flow_leave(flow);
}

void traffic_flow_accept(struct traffic_flow *flow, int fd, const struct addr *remote)
{
	flow_start(flow, fd, remote, traffic_now_us());
	flow->state = TRAFFIC_FLOW_OPEN;
	flow->receiving = TRAFFIC_RECEIVING_GREETING;
	flow->sending = TRAFFIC_SENDING_DATA;
	flow->connected_us = flow->started_us;
	flow->block_bytes = flow->block_sent = flow->greeting_bytes = 0;
	traffic_sink_init(&flow->sink);
	flow_leave(flow);
}

void traffic_flow_abort(struct traffic_flow *flow, enum traffic_status status)
{
	if (is_ended(flow))
		return;
	flow_end(flow, status, 0);
	flow_leave(flow);
}

void traffic_flow_free(struct traffic_flow *flow)
{
	traffic_source_free(&flow->source);
	traffic_sink_free(&flow->sink);
}
