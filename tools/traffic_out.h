/* traffic_out: the files that receive writes.
 *
 * Every connection that brings bytes to be written gets a file of its own: the first one `out` itself, those after it
 * out.1, out.2…; a name with %d gets the number there instead, from 0 on. An existing file is overwritten; one that is
 * no regular file (/dev/stdout, a FIFO) is written by all of them.
 */
#ifndef PAIR_TOOLS_TRAFFIC_OUT_H
#define PAIR_TOOLS_TRAFFIC_OUT_H

#include <stddef.h>

enum { TRAFFIC_OUT_FILES_MAX = 100000 }; /* strangers cannot fill the directory */

struct traffic_out {
	const char *name; /* borrowed; "": nothing is written */
	unsigned opened;
};

/* Opens the next file and puts its name into path. Its descriptor; -1 where nothing is to be written; *error is 0 or
 * the negative errno (-EMFILE also past TRAFFIC_OUT_FILES_MAX, -ENAMETOOLONG). */
int traffic_out_open(struct traffic_out *out, char *path, size_t path_size, int *error);

#endif
