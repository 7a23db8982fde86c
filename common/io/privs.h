/* privs: gives up what a daemon no longer needs once its privileged sockets are open. */
#ifndef PAIR_IO_PRIVS_H
#define PAIR_IO_PRIVS_H

#include <stdint.h>

/* A set of capabilities: PRIVS_CAP(CAP_NET_ADMIN) | …, numbers of linux/capability.h. */
#define PRIVS_CAP(cap) ((uint64_t)1 << (cap))

/* Keeps the capabilities in `keep`, as far as the process has them, and no other; changes from uid 0 to the user
 * "nobody" (65534 where there is none) with its group and no further ones; forbids gaining any by execve(2); hides
 * memory as below, since a change of the user may undo that. A process that is not root keeps its user. 0, or a
 * negative errno: the process must not go on. */
int privs_drop(uint64_t keep);

/* From now on there is no core file of this process, and no other of the same user may look into its memory: it holds
 * keys. */
void privs_hide_memory(void);

#endif
