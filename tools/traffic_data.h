/* traffic_data: where a flow's bytes come from (source) and where they go (sink). No sockets here.
 *
 * A source can make any of its bytes again: what a socket did not accept is simply filled once more, so flows share
 * one buffer and thousands of them cost little memory. A sink consumes all it is given at once, but for the last
 * TRAFFIC_TRAILER_SIZE bytes, which may turn out to be the trailer and are held until more comes or the end.
 */
#ifndef PAIR_TOOLS_TRAFFIC_DATA_H
#define PAIR_TOOLS_TRAFFIC_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "traffic_header.h"
#include "traffic_pattern.h"

struct traffic_digest; /* SHA-256 of a file */

struct traffic_source {
	int file_fd; /* ≥ 0: a file, borrowed, read by pread(2); -1: the pattern */
	struct traffic_pattern pattern;
	uint64_t limit_bytes;          /* never sends more; 0: nothing to send */
	uint64_t offset;               /* bytes sent */
	bool ended;                    /* nothing more comes: limit, end of file, or traffic_source_stop() */
	struct traffic_digest *digest; /* owned; NULL: none */
};

/* `with_digest` takes the SHA-256 of what is sent. 0 or -ENOMEM. */
int traffic_source_init(struct traffic_source *source, int file_fd, struct traffic_pattern pattern,
                        uint64_t limit_bytes, bool with_digest);
void traffic_source_free(struct traffic_source *source);

/* Fills buf with the next bytes, at most size: how many (0: ended), or a negative errno of reading the file. */
long traffic_source_fill(struct traffic_source *source, uint8_t *buf, size_t size);

/* len_bytes of what was filled last, from its start, have been sent. */
void traffic_source_sent(struct traffic_source *source, const uint8_t *buf, size_t len_bytes);

/* Ends where it stands: the time is up. */
void traffic_source_stop(struct traffic_source *source);

/* false: it takes none. */
bool traffic_source_sha256(struct traffic_source *source, uint8_t sha256[TRAFFIC_SHA256_SIZE]);

enum traffic_sink_kind {
	TRAFFIC_SINK_COUNT,   /* counts */
	TRAFFIC_SINK_PATTERN, /* counts and compares */
	TRAFFIC_SINK_BYTES,   /* counts, writes to file_fd unless that is -1, takes the SHA-256 if asked to */
};

struct traffic_sink {
	enum traffic_sink_kind kind;
	struct traffic_pattern pattern;
	int file_fd;                   /* owned; -1: none */
	struct traffic_digest *digest; /* owned; NULL: none */
	bool expects_trailer;
	size_t held_bytes;
	uint8_t held[TRAFFIC_TRAILER_SIZE];
	uint64_t bytes;       /* consumed, so without the held ones */
	uint64_t first_wrong; /* TRAFFIC_NO_OFFSET: none so far; nothing behind it is compared */
	int error;            /* negative errno of writing; nothing is written after it */
};

/* Counts only and expects no trailer: what every sink is before its flow knows better. */
void traffic_sink_init(struct traffic_sink *sink);
void traffic_sink_free(struct traffic_sink *sink);

/* Also take the SHA-256. 0 or -ENOMEM. */
int traffic_sink_add_digest(struct traffic_sink *sink);

/* `data` must have TRAFFIC_TRAILER_SIZE writable bytes before it: what was held is put back in front. */
void traffic_sink_take(struct traffic_sink *sink, uint8_t *data, size_t len_bytes);

/* No more comes. 0 and the other side's trailer if one was expected and came (else it is data, and -EPROTO). */
int traffic_sink_end(struct traffic_sink *sink, struct traffic_trailer *trailer);

bool traffic_sink_sha256(struct traffic_sink *sink, uint8_t sha256[TRAFFIC_SHA256_SIZE]);

#endif
