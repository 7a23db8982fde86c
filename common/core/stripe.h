/* stripe: what the engine knows of one TCP connection between the proxies, and what waits to be written to it.
 *
 * The engine puts frames into the output; common/io/stripe_io writes them to the socket (stripe_output_peek,
 * stripe_output_consume) and reports what TCP_INFO says (session_stripe_info). Only as much is put in as the kernel
 * would send soon, because what has been written cannot be recalled.
 */
#ifndef PAIR_CORE_STRIPE_H
#define PAIR_CORE_STRIPE_H

#include "frame_reader.h"
#include "page.h"

enum stripe_state {
	STRIPE_HANDSHAKE, /* HELLO sent, WELCOME not yet here; carries nothing else */
	STRIPE_UP,
	STRIPE_STALE, /* up, but its data is not acknowledged in the time its path explains: gets no new data, what it
	                 carries is reinjected */
	STRIPE_DEAD   /* its socket is gone; freed by the next session_run */
};

enum { STRIPE_OUTPUT_ITEMS = 256, STRIPE_OUTPUT_INLINE = 80 };

/* What the kernel says of the connection (struct tcp_info), in the engine's units. */
struct stripe_info {
	uint32_t srtt_us;    /* smoothed RTT; 0: not known */
	uint32_t rttvar_us;  /* its mean deviation */
	uint32_t rtt_min_us; /* 0: not known */
	uint32_t cwnd_bytes;
	uint32_t mss_bytes;
	uint32_t in_flight_bytes; /* sent, not acknowledged by the other kernel */
	uint32_t under_way_bytes; /* of these, what is known neither to have arrived nor to be lost; whole segments */
	uint32_t notsent_bytes;   /* in the socket, not sent */
	uint64_t rate_Bps;        /* delivery rate, bytes per second; 0: not known */
	uint64_t pacing_Bps;      /* it sends no faster than that; 0: not known, or not paced */
	uint64_t delivered;       /* segments acknowledged since the start, selectively too */
	uint64_t arrived_bytes;   /* of the stripe's output, those that the other kernel has; some more may be there */
	uint64_t sent_segments;   /* since the start, with retransmissions */
	uint64_t lost_segments;   /* retransmissions since the start */
	uint32_t floor_rtt_us;    /* what BBR takes for the RTT of the empty path; 0: not BBR */
	bool probes_rtt;          /* BBR is in PROBE_RTT: it sends next to nothing */
	bool in_recovery;         /* tcpi_ca_state is Recovery or Loss */
	bool app_limited;         /* rate_Bps is what was asked of it, not what it could do */
};

/* Bytes of frames since the start. */
struct stripe_traffic {
	uint64_t bytes_in, bytes_out;
	/* Of those out: sent twice from the start, or parity; late elsewhere, so repeated; lost elsewhere, so sent
	 * again. */
	uint64_t copied_bytes, repeated_bytes, reinjected_bytes;
};

/* One piece of output: bytes of its own (a frame's head) or a slice of a page it holds a reference to. */
struct stripe_item {
	struct page *page; /* NULL: the bytes are inline_bytes */
	const uint8_t *start;
	uint32_t len;
	uint8_t inline_bytes[STRIPE_OUTPUT_INLINE];
};

struct stripe {
	struct session *session;
	struct stripe *next; /* in the session's list */
	void *user;          /* the owner's */
	uint32_t id;         /* ≥ 1, never used twice in a session */
	uint16_t path;       /* index of its path */
	uint16_t index;      /* of the stripe on its path */
	bool express;        /* of its path's express lane, which bulk keeps off */
	bool wide;           /* its path has stripes enough for bulk without that lane */
	bool backup;
	enum stripe_state state;
	const char *error; /* why the engine wants it closed, static text; NULL: it does not */

	struct frame_reader reader;

	struct stripe_item *items; /* ring of STRIPE_OUTPUT_ITEMS */
	uint32_t item_first;
	uint32_t item_count;
	uint64_t output_bytes;  /* in the ring */
	struct page_pool *pool; /* of the pages in the ring */

	struct stripe_info info;
	uint64_t info_us;     /* when info was taken */
	uint32_t room_bytes;  /* what may still be put in before the next info */
	uint64_t progress_us; /* last time the other kernel acknowledged anything, or nothing was to be acknowledged */
	uint64_t timed_position; /* of the output: when the other kernel has it is measured */
	uint64_t timed_us;       /* when that was put in; 0: nothing is being timed */
	uint64_t put_us;         /* last time that something was put in */
	uint64_t floor_us;       /* when that floor was measured, as far as is seen from here (session_rest.c) */
	uint64_t rest_us;        /* nothing new is put in since then, to spare it PROBE_RTT; 0: it does not rest */
	uint64_t pong_token;     /* to answer with */
	bool ping_due, pong_due; /* to be put in by the next session_run */
	uint64_t block; /* the last one (session_block.c) of which it was given frames, 0: none yet; and how many */
	uint32_t block_frames;
	struct stripe_traffic traffic;
};

/* What the connection could do, bytes per second; 0: not known. */
uint64_t stripe_rate_Bps(const struct stripe_info *info);
/* What the kernel will send within half a round trip, or a wakeup of the loop's if that is longer, if it has so much:
 * what the window has left, what acknowledgements make room for meanwhile, and a few segments. UINT64_MAX: nothing is
 * known. */
uint64_t stripe_soon_bytes(const struct stripe_info *info);
/* Where the output ends, counted in bytes from its start. */
uint64_t stripe_position(const struct stripe *stripe);
/* Bytes waiting in the ring and the kernel that were not sent yet. */
uint64_t stripe_backlog_bytes(const struct stripe *stripe);

/* How many bytes a socket should hold that were not sent yet, for the rate at which its kernel sends: what leaves
 * within two of the loop's wakeups (the kernel wakes it when half of that is gone). More cannot be recalled when
 * another stripe could take it sooner; with less the stripe runs dry between two wakeups, counts as
 * application-limited, and BBR then never ends its start-up (tcp_rate.c). */
uint32_t stripe_lowat_bytes(uint64_t pacing_Bps);

/* Whether a frame with `pages` slices can be put in. */
bool stripe_output_fits(const struct stripe *stripe, unsigned pages);
/* Puts in `len` ≤ STRIPE_OUTPUT_INLINE bytes, copied. */
void stripe_output_head(struct stripe *stripe, const uint8_t *bytes, uint32_t len);
/* Puts in a slice of `page`, takes a reference. */
void stripe_output_slice(struct stripe *stripe, struct page *page, const uint8_t *start, uint32_t len);

/* Up to `max` slices of what is to be written, in order. Returns their number. */
unsigned stripe_output_peek(const struct stripe *stripe, struct iovec *slices, unsigned max);
/* `len` bytes of it were written. */
void stripe_output_consume(struct stripe *stripe, size_t len);
/* Throws all of it away. */
void stripe_output_clear(struct stripe *stripe);

/* The handshake is over and the socket is there, whether it is stale or not. */
static inline bool stripe_is_up(const struct stripe *stripe)
{
	return stripe->state == STRIPE_UP || stripe->state == STRIPE_STALE;
}

const char *stripe_state_name(enum stripe_state state);

#endif
