/* sockaddr: struct addr ↔ struct sockaddr_storage ↔ text. */
#ifndef PAIR_IO_SOCKADDR_H
#define PAIR_IO_SOCKADDR_H

#include <sys/socket.h>

#include "../core/addr.h"

enum { SOCKADDR_TEXT_MAX = 64 }; /* "[ffff:…]:65535" and the NUL */

/* Fills `sa` and returns its length; `addr` must not be ADDR_NONE. */
socklen_t sockaddr_from_addr(struct sockaddr_storage *sa, const struct addr *addr);

/* ADDR_NONE for a family that is not IP. An IPv4-mapped IPv6 address becomes IPv4. */
struct addr sockaddr_to_addr(const struct sockaddr_storage *sa);

/* "192.0.2.1:80", "[2001:db8::1]:80"; without port when it is 0; "none". Returns buf. */
const char *sockaddr_text(char buf[SOCKADDR_TEXT_MAX], const struct addr *addr);

/* "192.0.2.1" or "2001:db8::1" → addr with port 0; "::ffff:192.0.2.1" becomes IPv4. 0, or -EINVAL and *addr as it was.
 */
int sockaddr_parse(struct addr *addr, const char *text);

#endif
