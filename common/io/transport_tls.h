/* transport_tls: the TLS half of transport. Private to transport*.c.
 *
 * OpenSSL reads and writes through a BIO of ours that stands on its socket BIO: what is written is collected, so that
 * several records go out with one system call and a write never has to be repeated with the same bytes; reading can be
 * held. */
#ifndef PAIR_IO_TRANSPORT_TLS_H
#define PAIR_IO_TRANSPORT_TLS_H

#include "transport.h"

struct transport_tls *transport_tls_new(struct transport_security *security, int fd);
/* `quietly`: without close_notify. */
void transport_tls_free(struct transport_tls *tls, bool quietly);

int transport_tls_handshake(struct transport_tls *tls);
bool transport_tls_shown_key(const struct transport_tls *tls);
const char *transport_tls_reason(const struct transport_tls *tls);
const char *transport_tls_identity(const struct transport_tls *tls);
bool transport_tls_in_kernel(const struct transport_tls *tls);
ssize_t transport_tls_read(struct transport_tls *tls, const struct iovec *slices, unsigned count);
bool transport_tls_has_more(const struct transport_tls *tls);
void transport_tls_hold(struct transport_tls *tls, bool held);
ssize_t transport_tls_write(struct transport_tls *tls, const struct iovec *slices, unsigned count);
int transport_tls_flush(struct transport_tls *tls);
size_t transport_tls_unsent_bytes(const struct transport_tls *tls);

/* After so many records under one key there is a new one. For AES-GCM at most 2^24.5 (RFC 8446, 5.5). */
enum { TRANSPORT_KEY_RECORDS = 1 << 23 };
void transport_tls_set_key_records(struct transport_tls *tls, uint64_t records);

/* Of transport_security.c, for transport_tls.c. */
struct ssl_st;
/* A new connection; NULL: no memory. `*identity` is set when the client has named one that is known. */
struct ssl_st *transport_security_connection(struct transport_security *security, const char **identity);

#endif
