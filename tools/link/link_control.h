/* link_control: questions and orders to a running emulator, over a unix socket (SOCK_SEQPACKET): one packet asks, one
 * packet answers, and the connection is over. A question is words separated by spaces:
 *
 *   set WORD…   figures, as link_figures.h writes them; answers `{"ok":true}`
 *   show        figures and counters of both directions as one JSON object
 *   losses      numbers of the frames lost since the seed (the first 1024 in each direction) as JSON
 *   quit        ends the emulator
 *
 * An answer that starts with "error: " is a refusal, and nothing was changed.
 */
#ifndef LINK_CONTROL_H
#define LINK_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "link_direction.h"
#include "link_tap.h"

#define LINK_CONTROL_CLIENTS 8
#define LINK_CONTROL_QUESTION_MAX 2048
#define LINK_CONTROL_ANSWER_MAX 65536

/* What the emulator is, seen by the control; owned by main. */
struct link {
	struct link_tap taps[2];
	struct link_direction directions[LINK_SIDES];
	uint64_t seed;
	bool quit;
};

struct link_control {
	char path[108];                       /* sun_path */
	int listen_fd;                        /* -1: no control socket */
	int client_fds[LINK_CONTROL_CLIENTS]; /* connected and silent so far; -1: free */
	unsigned oldest;                      /* which gives way when all are taken */
};

/* Opens the socket at `path`, for the owner alone. A dead socket in the way is replaced, a living one is -EADDRINUSE.
 * Returns 0, or -errno with a sentence in `why`. */
int link_control_open(struct link_control *control, const char *path, char *why, size_t why_size);

/* Closes and removes the socket. */
void link_control_close(struct link_control *control);

/* listen_fd is readable: takes one connection. */
void link_control_accept(struct link_control *control);

/* client_fds[index] is readable or gone: answers and closes it. */
void link_control_answer(struct link_control *control, unsigned index, struct link *link, uint64_t now_ns);

/* The client's side: sends the words, prints the answer. Returns the program's exit code. */
int link_control_ask(const char *path, char *const *words, size_t count);

#endif
