#include "stripe_io.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "../core/memory.h"
#include "log.h"
#include "sock.h"
#include "sockaddr.h"

enum {
	INFO_AGE_MAX_US = 500,
	FLOOR_AGE_MAX_US = 8000, /* it changes seldom; a tick of the engine's clock may pass unnoticed */
	SLICES = 64,
	PLACED_SLICES = 8,
	BESIDE_PLACED_BYTES = 4096,
	/* Read from one stripe in one wakeup. */
	WAKEUP_BYTES = RUNNER_BUFFER_BYTES
};

static struct log_limit broken_limit = {.burst = 30, .interval_us = 100000};
static struct log_limit closed_limit = {.burst = 64, .interval_us = 100000};

/* The one place that decides what the loop watches for. */
static void watch(struct stripe_io *io)
{
	int events = EV_READ;

	/* The kernel calls the socket writable when less than half of the mark is unsent: that gives at least this
	 * room. */
	if (io->stripe->output_bytes || transport_wants_write(&io->transport) || io->room_bytes < io->lowat_bytes / 2)
		events |= EV_WRITE;
	if (ev_is_active(&io->watcher) && (io->watcher.events & (EV_READ | EV_WRITE)) == events)
		return;
	ev_io_stop(io->runner->loop, &io->watcher);
	ev_io_modify(&io->watcher, events);
	ev_io_start(io->runner->loop, &io->watcher);
}

static void release(struct runner_later *later)
{
	struct stripe_io *io = (struct stripe_io *)((char *)later - offsetof(struct stripe_io, later));

	io->owner->closed(io->user, io);
	memory_free(io);
}

static void forget_written(struct stripe_io *io)
{
	struct stripe_io **at = &io->runner->written;

	if (!io->in_written)
		return;
	while (*at != io)
		at = &(*at)->written_next;
	*at = io->written_next;
	io->in_written = false;
}

/* The stripe is over; why has been logged. */
static void drop(struct stripe_io *io)
{
	struct stripe *stripe = io->stripe;

	io->stripe = NULL;
	stripe->user = NULL;
	session_stripe_lost(stripe, io->runner->now_us);
	forget_written(io);
	ev_io_stop(io->runner->loop, &io->watcher);
	transport_close(&io->transport);
	runner_defer(io->runner, &io->later);
}

static void log_end(const struct stripe_io *io, struct log_limit *limit, enum log_level level, const char *event,
                    const char *reason)
{
	char remote[SOCKADDR_TEXT_MAX], why[128];

	log_limited(limit, level, event, "path=%s stripe=%u remote=%s reason=%s", io->path_name, io->index,
	            sockaddr_text(remote, &io->remote), log_value(why, sizeof why, reason));
}

static bool owner_tells(const struct stripe_io *io, const char *reason, bool broken)
{
	return io->owner->tells && io->owner->tells(io->user, io, reason, broken);
}

void stripe_io_close(struct stripe_io *io, const char *reason)
{
	if (!io->stripe)
		return;
	if (!owner_tells(io, reason, false))
		log_end(io, &closed_limit, LOG_LEVEL_INFO, "stripe_closed", reason);
	drop(io);
}

void stripe_io_free(struct stripe_io *io)
{
	forget_written(io);
	ev_io_stop(io->runner->loop, &io->watcher);
	transport_close(&io->transport);
	memory_free(io);
}

static void close_errno(struct stripe_io *io, int error)
{
	const char *reason = transport_reason(&io->transport);

	stripe_io_close(io, reason ? reason : strerror(error));
}

/* The engine refuses what came: somebody speaks another protocol, or means harm. */
static void close_broken(struct stripe_io *io)
{
	const char *reason = io->stripe->error ? io->stripe->error : "refused";

	if (!owner_tells(io, reason, true))
		log_end(io, &broken_limit, LOG_LEVEL_WARN, "stripe_broken", reason);
	drop(io);
}

static uint32_t scaled(uint64_t count, uint64_t unit)
{
	uint64_t bytes = count * unit;

	return bytes > UINT32_MAX ? UINT32_MAX : (uint32_t)bytes;
}

/* Keeps the low-water mark in step with the rate at which the kernel sends; a system call only for a change that
 * matters. */
static void adapt_lowat(struct stripe_io *io)
{
	uint32_t bytes = stripe_lowat_bytes(io->pacing_Bps);

	if (io->lowat_bytes && bytes < (uint64_t)io->lowat_bytes * 2 && bytes > io->lowat_bytes / 2)
		return;
	if (bytes == io->lowat_bytes)
		return;
	io->lowat_bytes = bytes;
	sock_set(io->watcher.fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, (int)bytes);
}

/* How much of the stripe's output the other kernel has acknowledged. What TLS adds to the rest counts as output: so it
 * is a little less than that at times, and right when nothing is under way. */
static uint64_t arrived_bytes(const struct stripe_io *io)
{
	int queued = 0;

	if (ioctl(io->watcher.fd, SIOCOUTQ, &queued) < 0)
		return 0;
	uint64_t out = io->stripe->traffic.bytes_out, rest = (uint64_t)queued + transport_unsent_bytes(&io->transport);
	return out > rest ? out - rest : 0;
}

/* What BBR (version 1) says of itself; other congestion controls say less, or nothing. */
static void take_floor(struct stripe_io *io)
{
	union tcp_cc_info cc;
	socklen_t len = sizeof cc;

	if (io->runner->now_us - io->floor_us < FLOOR_AGE_MAX_US)
		return;
	io->floor_us = io->runner->now_us;
	io->info.floor_rtt_us = 0;
	io->info.probes_rtt = false;
	if (getsockopt(io->watcher.fd, IPPROTO_TCP, TCP_CC_INFO, &cc, &len) < 0 || len < sizeof cc.bbr)
		return;
	io->info.floor_rtt_us = cc.bbr.bbr_min_rtt < UINT32_MAX ? cc.bbr.bbr_min_rtt : 0;
	/* Its gains are in 256ths; both are 1 in PROBE_RTT alone. */
	io->info.probes_rtt = cc.bbr.bbr_pacing_gain == 256 && cc.bbr.bbr_cwnd_gain == 256;
}

static void take_info(struct stripe_io *io)
{
	struct tcp_info ti = {0};
	socklen_t len = sizeof ti;

	if (getsockopt(io->watcher.fd, IPPROTO_TCP, TCP_INFO, &ti, &len) < 0)
		return;
	/* As tcp_packets_in_flight of Linux counts. */
	int64_t under_way = (int64_t)ti.tcpi_unacked - ti.tcpi_sacked - ti.tcpi_lost + ti.tcpi_retrans;
	io->info = (struct stripe_info){
	        .floor_rtt_us = io->info.floor_rtt_us,
	        .probes_rtt = io->info.probes_rtt,
	        .srtt_us = ti.tcpi_rtt,
	        .rttvar_us = ti.tcpi_rttvar,
	        .rtt_min_us = ti.tcpi_min_rtt < UINT32_MAX ? ti.tcpi_min_rtt : 0, /* of no RTT: all ones */
	        .cwnd_bytes = scaled(ti.tcpi_snd_cwnd, ti.tcpi_snd_mss),
	        .mss_bytes = ti.tcpi_snd_mss,
	        .in_flight_bytes = scaled(ti.tcpi_unacked, ti.tcpi_snd_mss),
	        .under_way_bytes = scaled(under_way > 0 ? (uint64_t)under_way : 0, ti.tcpi_snd_mss),
	        .notsent_bytes = ti.tcpi_notsent_bytes,
	        .rate_Bps = ti.tcpi_delivery_rate,
	        .delivered = ti.tcpi_delivered,
	        .arrived_bytes = arrived_bytes(io),
	        .sent_segments = ti.tcpi_data_segs_out,
	        .lost_segments = ti.tcpi_total_retrans,
	        .in_recovery = ti.tcpi_ca_state >= TCP_CA_Recovery,
	        .app_limited = ti.tcpi_delivery_rate_app_limited,
	};
	take_floor(io);
	/* Without a limit it is all ones. Of those that say more only BBR keeps to it without a queueing discipline. */
	io->pacing_Bps = ti.tcpi_pacing_rate < UINT32_MAX ? ti.tcpi_pacing_rate : UINT32_MAX;
	io->info.pacing_Bps = io->info.floor_rtt_us ? io->pacing_Bps : 0;
	io->info_us = io->runner->now_us;
	io->written = 0;
	adapt_lowat(io);
}

/* Reports what is known, and the room that is left: what was written since counts as unsent until the kernel says
 * otherwise. */
static void report(struct stripe_io *io)
{
	uint64_t unsent = io->info.notsent_bytes + io->written + transport_unsent_bytes(&io->transport);
	struct stripe_info info = io->info;

	info.notsent_bytes = scaled(unsent, 1);
	unsent += io->stripe->output_bytes;
	io->room_bytes = unsent < io->lowat_bytes ? io->lowat_bytes - (uint32_t)unsent : 0;
	session_stripe_info(io->stripe, &info, io->room_bytes, io->runner->now_us);
}

static void remember_written(struct stripe_io *io)
{
	if (io->in_written)
		return;
	io->in_written = true;
	io->written_next = io->runner->written;
	io->runner->written = io;
}

/* Writes what the kernel takes. False: closed. */
static bool flush(struct stripe_io *io)
{
	int err = transport_flush(&io->transport);

	if (err && err != -EAGAIN) {
		close_errno(io, -err);
		return false;
	}
	while (!err && io->stripe->output_bytes) {
		struct iovec slices[SLICES];
		unsigned count = stripe_output_peek(io->stripe, slices, SLICES);
		size_t offered = 0;
		for (unsigned i = 0; i < count; i++)
			offered += slices[i].iov_len;
		ssize_t put = transport_write(&io->transport, slices, count);
		if (put == -EAGAIN)
			break;
		if (put < 0) {
			close_errno(io, (int)-put);
			return false;
		}
		stripe_output_consume(io->stripe, (size_t)put);
		io->written += (size_t)put;
		remember_written(io);
		/* The kernel is full; TLS takes less than that at once. */
		if ((size_t)put < offered && !transport_is_secure(&io->transport))
			break;
	}
	return true;
}

/* One read: the rest of a payload goes where it belongs, what follows it into the buffer; there, little is
 * asked for, so that most of the next payload can go to its place as well. Bytes asked for and got, or as
 * transport_read. */
static ssize_t read_once(struct stripe_io *io, size_t *asked)
{
	struct iovec slices[PLACED_SLICES + 1];
	size_t placed = 0;
	unsigned count = session_stripe_place(io->stripe, slices, PLACED_SLICES, &placed);

	if (!count)
		placed = 0;
	slices[count] = (struct iovec){io->runner->buffer, count ? BESIDE_PLACED_BYTES : RUNNER_BUFFER_BYTES};
	*asked = placed + slices[count].iov_len;
	ssize_t got = transport_read(&io->transport, slices, count + 1);
	if (got <= 0)
		return got;
	if (session_stripe_placed(io->stripe, (size_t)got < placed ? (size_t)got : placed, io->runner->now_us) < 0)
		close_broken(io);
	else if ((size_t)got > placed)
		stripe_io_in(io, io->runner->buffer, (size_t)got - placed);
	return got;
}

static void on_readable(struct stripe_io *io)
{
	size_t asked, total = 0;
	ssize_t got;

	/* What TLS has read ahead does not wake the loop again, so it is read to its end; the socket has had its turn
	 * then. */
	do {
		transport_hold(&io->transport, total >= WAKEUP_BYTES);
		got = read_once(io, &asked);
		if (got == 0)
			stripe_io_close(io, "closed by the other side");
		else if (got < 0 && got != -EAGAIN)
			close_errno(io, (int)-got);
		total += got > 0 ? (size_t)got : 0;
	} while (io->stripe && (got == (ssize_t)asked || transport_has_more(&io->transport)) &&
	         (total < WAKEUP_BYTES || transport_is_secure(&io->transport)));
	if (!io->stripe)
		return;
	transport_hold(&io->transport, false);
	/* An answer of the library's own. */
	if (transport_wants_write(&io->transport))
		watch(io);
}

static void on_writable(struct stripe_io *io)
{
	if (!flush(io))
		return;
	take_info(io);
	report(io);
	/* Writable with less room than that: the mark has just been lowered, or was never taken. Rather a little more
	 * in the kernel than a loop that spins. */
	if (io->room_bytes < io->lowat_bytes / 2 && !io->stripe->output_bytes) {
		io->room_bytes = io->lowat_bytes / 2;
		session_stripe_info(io->stripe, &io->info, io->room_bytes, io->runner->now_us);
	}
	watch(io);
}

static void on_event(struct ev_loop *loop, ev_io *w, int events)
{
	struct stripe_io *io = w->data;

	if (events & EV_READ)
		on_readable(io);
	if (io->stripe && (events & EV_WRITE))
		on_writable(io);
}

struct stripe_io *stripe_io_new(struct runner *runner, const struct transport *transport, const struct addr *remote,
                                const char *path_name, const struct stripe_io_owner *owner, void *user)
{
	struct stripe_io *io = memory_new(1, sizeof *io);

	if (!io) {
		struct transport lost = *transport;
		transport_close(&lost);
		return NULL;
	}
	io->transport = *transport;
	ev_io_init(&io->watcher, on_event, transport->fd, EV_READ);
	io->watcher.data = io;
	io->runner = runner;
	io->remote = *remote;
	io->path_name = path_name;
	io->owner = owner;
	io->user = user;
	io->later.run = release;
	adapt_lowat(io);
	return io;
}

void stripe_io_start(struct stripe_io *io, struct stripe *stripe)
{
	if (!stripe) {
		transport_close(&io->transport);
		memory_free(io);
		return;
	}
	io->stripe = stripe;
	io->index = stripe->index;
	take_info(io);
	report(io);
	watch(io);
	/* What came behind the handshake may have been read ahead. */
	if (transport_is_secure(&io->transport))
		ev_feed_event(io->runner->loop, &io->watcher, EV_READ);
}

void stripe_io_in(struct stripe_io *io, const uint8_t *bytes, size_t len)
{
	if (io->stripe && session_stripe_in(io->stripe, bytes, len, io->runner->now_us) < 0)
		close_broken(io);
}

void stripe_io_output(void *user, struct stripe *stripe)
{
	struct stripe_io *io = stripe->user;

	if (!io)
		return;
	if (stripe->error) {
		stripe_io_close(io, stripe->error);
		return;
	}
	if (flush(io))
		watch(io);
}

void stripe_io_measure(void *user, struct stripe *stripe)
{
	struct stripe_io *io = stripe->user;

	if (!io)
		return;
	if (io->runner->now_us - io->info_us >= INFO_AGE_MAX_US)
		take_info(io);
	report(io);
	watch(io);
}

const char *stripe_io_tls(const struct stripe *stripe)
{
	const struct stripe_io *io = stripe->user;

	if (!io || !transport_is_secure(&io->transport))
		return "none";
	return transport_in_kernel(&io->transport) ? "kernel" : "library";
}

bool stripe_io_settle(struct runner *runner)
{
	bool more = false;

	while (runner->written) {
		struct stripe_io *io = runner->written;
		runner->written = io->written_next;
		io->in_written = false;
		take_info(io);
		report(io);
		watch(io);
		more |= io->room_bytes > 0;
	}
	return more;
}
