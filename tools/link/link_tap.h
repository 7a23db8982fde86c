/* link_tap: an Ethernet device whose other end is a descriptor here. */
#ifndef LINK_TAP_H
#define LINK_TAP_H

#include <net/if.h>
#include <stddef.h>

struct link_tap {
	char spec[256]; /* as given: NAME or NAME@NETNS */
	char name[IFNAMSIZ];
	int fd; /* non-blocking; one frame a read or write, without FCS. -1: none */
};

/* Creates the TAP `spec`, NAME or NAME@NETNS, in the calling namespace or in that of /run/netns/NETNS, with the given
 * MTU, and brings it up. It takes part in no offload, so that the kernel segments and checksums whatever it sends us.
 * The device goes when the descriptor is closed. Needs CAP_NET_ADMIN, and CAP_SYS_ADMIN for another namespace.
 * Returns 0, or -errno with a sentence in `why`. */
int link_tap_open(struct link_tap *tap, const char *spec, unsigned mtu_bytes, char *why, size_t why_size);

void link_tap_close(struct link_tap *tap);

#endif
