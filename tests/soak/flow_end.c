#define _GNU_SOURCE /* strerrorname_np */
#include "flow_end.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "content.h"

enum { CHUNK_BYTES = 16384, TURN_CHUNKS = 4, SHA_TEXT = 65 };

static uint8_t chunk[CHUNK_BYTES]; /* of whoever reads or writes now */

void flow_reset_socket(int fd)
{
	struct linger linger = {.l_onoff = 1, .l_linger = 0};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
	close(fd);
}

void flow_keep_alive(int fd)
{
	int one = 1, idle_s = 10, interval_s = 3, probes = 4;

	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
}

static void stop_watching(struct flow_end *end)
{
	ev_io_stop(end->loop, &end->reader);
	ev_io_stop(end->loop, &end->writer);
	ev_timer_stop(end->loop, &end->read_pause);
	ev_timer_stop(end->loop, &end->send_pause);
}

static void finish(struct flow_end *end, int error)
{
	stop_watching(end);
	end->error = error;
	if (error || (end->broke && !end->work.breaks_by_close))
		flow_reset_socket(end->fd);
	else
		close(end->fd);
	end->fd = -1;
	end->ended(end);
}

/* The offset up to which bytes may be sent now. */
static uint64_t allowed(const struct flow_end *end)
{
	const struct flow_work *work = &end->work;

	switch (work->start) {
	case FLOW_AT_ONCE:
	case FLOW_ASKS:
		break;
	case FLOW_AFTER_BYTES:
		if (end->received_bytes < work->receive_bytes)
			return 0;
		break;
	case FLOW_AFTER_END:
		if (!end->eof)
			return 0;
		break;
	case FLOW_ANSWERS:
		return end->received_bytes < work->send_bytes ? end->received_bytes : work->send_bytes;
	}
	return work->piece_bytes ? end->piece_end : work->send_bytes;
}

static bool may_end(const struct flow_end *end)
{
	return end->head_sent == end->head_bytes && end->sent_bytes == end->work.send_bytes && !end->fin_sent &&
	       (!end->work.ends_last || end->eof);
}

static void watch_one(struct ev_loop *loop, ev_io *w, bool wanted)
{
	if (wanted)
		ev_io_start(loop, w);
	else
		ev_io_stop(loop, w);
}

static void watch(struct flow_end *end)
{
	bool sends = end->head_sent < end->head_bytes || end->sent_bytes < allowed(end);

	watch_one(end->loop, &end->reader, !end->eof && !ev_is_active(&end->read_pause));
	watch_one(end->loop, &end->writer, sends && !ev_is_active(&end->send_pause));
}

/* What follows from what was sent and received. False: it is over. */
static bool go_on(struct flow_end *end)
{
	if (end->wrong_at != CONTENT_RIGHT || (end->eof && end->received_bytes < end->work.receive_bytes)) {
		finish(end, 0);
		return false;
	}
	if (end->sent_bytes + end->received_bytes >= end->work.break_at) {
		end->broke = true;
		finish(end, 0);
		return false;
	}
	if (may_end(end)) {
		if (shutdown(end->fd, SHUT_WR) < 0) {
			finish(end, errno);
			return false;
		}
		end->fin_sent = true;
	}
	if (end->eof && end->fin_sent) {
		finish(end, 0);
		return false;
	}
	return true;
}

static void next_piece(struct flow_end *end)
{
	uint64_t left = end->work.send_bytes - end->piece_end;

	end->piece_end += left < end->work.piece_bytes ? left : end->work.piece_bytes;
}

/* Its bytes are out, and, of an end that asks, answered: the next one, after the pause. */
static void piece_done(struct flow_end *end)
{
	next_piece(end);
	if (end->work.piece_pause_ms && end->piece_end > end->sent_bytes) {
		ev_timer_set(&end->send_pause, end->work.piece_pause_ms / 1000., 0.);
		ev_timer_start(end->loop, &end->send_pause);
	}
}

static ssize_t receive_once(struct flow_end *end)
{
	size_t most = end->work.read_bytes && end->work.read_bytes < sizeof chunk ? end->work.read_bytes : sizeof chunk;
	ssize_t got = recv(end->fd, chunk, most, 0);

	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (got == 0) {
		end->eof = true;
		return 0;
	}
	end->wrong_at = content_check(end->work.receive_key, end->received_bytes, chunk, (size_t)got);
	if (end->wrong_at == CONTENT_RIGHT && end->received_bytes + (uint64_t)got > end->work.receive_bytes)
		end->wrong_at = end->work.receive_bytes;
	end->received_bytes += (uint64_t)got;
	EVP_DigestUpdate(end->received_sha, chunk, (size_t)got);
	return got;
}

static void on_readable(struct ev_loop *loop, ev_io *w, int events)
{
	struct flow_end *end = w->data;
	ssize_t got = 1;

	for (unsigned i = 0; i < TURN_CHUNKS && got > 0 && end->wrong_at == CONTENT_RIGHT; i++) {
		got = receive_once(end);
		if (got < 0) {
			finish(end, (int)-got);
			return;
		}
		if (end->work.read_pause_ms && !end->eof) {
			ev_timer_set(&end->read_pause, end->work.read_pause_ms / 1000., 0.);
			ev_timer_start(loop, &end->read_pause);
			break;
		}
	}
	if (end->work.start == FLOW_ASKS && end->received_bytes == end->piece_end)
		piece_done(end);
	if (go_on(end))
		watch(end);
}

/* Bytes taken by the socket, or a negative errno. */
static ssize_t put(struct flow_end *end, const void *bytes, size_t len)
{
	ssize_t sent = send(end->fd, bytes, len, MSG_NOSIGNAL);

	return sent >= 0 ? sent : errno == EAGAIN || errno == EINTR ? 0 : -errno;
}

static ssize_t send_head(struct flow_end *end)
{
	ssize_t sent = put(end, end->head + end->head_sent, end->head_bytes - end->head_sent);

	end->head_sent += sent > 0 ? (size_t)sent : 0;
	return sent;
}

static ssize_t send_content(struct flow_end *end)
{
	uint64_t left = allowed(end) - end->sent_bytes;
	size_t len = left < sizeof chunk ? (size_t)left : sizeof chunk;
	ssize_t sent;

	content_fill(end->work.send_key, end->sent_bytes, chunk, len);
	sent = put(end, chunk, len);
	if (sent > 0) {
		EVP_DigestUpdate(end->sent_sha, chunk, (size_t)sent);
		end->sent_bytes += (uint64_t)sent;
	}
	return sent;
}

static void on_writable(struct ev_loop *loop, ev_io *w, int events)
{
	struct flow_end *end = w->data;
	ssize_t sent = 1;

	for (unsigned i = 0; i < TURN_CHUNKS && sent > 0; i++) {
		if (end->head_sent < end->head_bytes)
			sent = send_head(end);
		else if (end->sent_bytes < allowed(end))
			sent = send_content(end);
		else
			break;
	}
	if (sent < 0) {
		finish(end, (int)-sent);
		return;
	}
	if (end->work.piece_bytes && end->work.start != FLOW_ASKS && end->sent_bytes == end->piece_end)
		piece_done(end);
	if (go_on(end))
		watch(end);
}

static void on_pause_over(struct ev_loop *loop, ev_timer *w, int events)
{
	watch(w->data);
}

void flow_end_start(struct flow_end *end, struct ev_loop *loop, int fd)
{
	end->loop = loop;
	end->fd = fd;
	end->wrong_at = CONTENT_RIGHT;
	end->started_at = ev_now(loop);
	end->sent_sha = EVP_MD_CTX_new();
	end->received_sha = EVP_MD_CTX_new();
	EVP_DigestInit_ex(end->sent_sha, EVP_sha256(), NULL);
	EVP_DigestInit_ex(end->received_sha, EVP_sha256(), NULL);
	if (end->work.piece_bytes)
		next_piece(end);
	ev_io_init(&end->reader, on_readable, fd, EV_READ);
	ev_io_init(&end->writer, on_writable, fd, EV_WRITE);
	ev_timer_init(&end->read_pause, on_pause_over, 0., 0.);
	ev_timer_init(&end->send_pause, on_pause_over, 0., 0.);
	end->reader.data = end->writer.data = end->read_pause.data = end->send_pause.data = end;
	flow_keep_alive(fd);
	/* Also tells whether it has connected. */
	ev_io_start(loop, &end->writer);
	ev_io_start(loop, &end->reader);
}

void flow_end_reset(struct flow_end *end)
{
	stop_watching(end);
	flow_reset_socket(end->fd);
	end->fd = -1;
	end->ended(end);
}

/* --- What became of it -------------------------------------------------------------------------------------------- */

enum flow_verdict flow_end_verdict(const struct flow_end *end)
{
	if (end->wrong_at != CONTENT_RIGHT)
		return FLOW_WRONG;
	if (end->eof && end->received_bytes < end->work.receive_bytes)
		return FLOW_CUT;
	if (end->broke)
		return FLOW_ABORTED;
	if (end->error)
		return FLOW_BROKEN;
	return end->eof && end->fin_sent ? FLOW_WHOLE : FLOW_HUNG;
}

const char *flow_verdict_name(enum flow_verdict verdict)
{
	static const char *const names[FLOW_VERDICTS] = {"whole", "broken", "aborted", "cut", "wrong", "hung"};

	return names[verdict];
}

const char *flow_error_name(int error)
{
	const char *name = error ? strerrorname_np(error) : "none";

	return name ? name : "?";
}

static const char *sha_text(char text[SHA_TEXT], EVP_MD_CTX *sha)
{
	uint8_t digest[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	EVP_DigestFinal_ex(sha, digest, &len);
	for (unsigned i = 0; i < len && 2 * i + 2 < SHA_TEXT; i++)
		snprintf(text + 2 * i, 3, "%02x", digest[i]);
	return text;
}

const char *flow_clock_text(char text[FLOW_CLOCK_TEXT], struct ev_loop *loop)
{
	ev_tstamp now = ev_now(loop);
	time_t seconds = (time_t)now;
	struct tm utc;
	size_t len;

	gmtime_r(&seconds, &utc);
	len = strftime(text, FLOW_CLOCK_TEXT, "%T", &utc);
	snprintf(text + len, FLOW_CLOCK_TEXT - len, ".%03u", (unsigned)((now - (ev_tstamp)seconds) * 1000) % 1000);
	return text;
}

void flow_end_report(struct flow_end *end, FILE *log, enum flow_verdict verdict, const char *format, ...)
{
	char sent[SHA_TEXT], received[SHA_TEXT];
	char clock[FLOW_CLOCK_TEXT];
	va_list args;

	va_start(args, format);
	vfprintf(log, format, args);
	va_end(args);
	fprintf(log,
	        " verdict=%s error=%s eof=%d sent=%" PRIu64 " to_send=%" PRIu64 " received=%" PRIu64
	        " to_receive=%" PRIu64 " sent_sha256=%s received_sha256=%s",
	        flow_verdict_name(verdict), flow_error_name(end->error), end->eof, end->sent_bytes,
	        end->work.send_bytes, end->received_bytes, end->work.receive_bytes, sha_text(sent, end->sent_sha),
	        sha_text(received, end->received_sha));
	if (end->wrong_at != CONTENT_RIGHT)
		fprintf(log, " wrong_at=%" PRIu64, end->wrong_at);
	fprintf(log, " ms=%.0f at=%s\n", (ev_now(end->loop) - end->started_at) * 1000,
	        flow_clock_text(clock, end->loop));
	EVP_MD_CTX_free(end->sent_sha);
	EVP_MD_CTX_free(end->received_sha);
	end->sent_sha = end->received_sha = NULL;
}
