/* transport: carries the bytes of a stripe over its socket: plainly, or in TLS 1.3 with a pre-shared key.
 *
 * TLS is OpenSSL's, restricted to what a pair needs (RFC 8446): version 1.3 alone; an external PSK of hash SHA-256 in
 * the mode psk_dhe_ke, so what was recorded cannot be replayed, nor read when the key becomes known later; no
 * certificates, no tickets, no early data. An identity that is not known gets the treatment of a wrong key: the
 * handshake is carried out with a key that nobody has, so the other side cannot tell the two apart.
 *
 * All calls are non-blocking. The socket must be non-blocking and connected, and belongs to the transport from
 * transport_init on. What the loop has to watch for: readability, always; writability, while transport_wants_write or
 * while the caller has something that was not taken. Bytes that TLS has read ahead do not make the socket readable, so
 * a reader goes on until transport_read takes less than it was offered, and as long as transport_has_more.
 *
 * Where the kernel has TLS (the module tls) and OpenSSL is built for it, the kernel encrypts what is sent. Else what is
 * written at once becomes records of up to 16 KiB each that go out with one system call.
 *
 * A struct transport may be copied and moved; only one of the copies is used then.
 */
#ifndef PAIR_IO_TRANSPORT_H
#define PAIR_IO_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "conf.h"

/* --- Who speaks TLS with which keys ------------------------------------------------------------------------------- */

struct transport_security;

enum { TRANSPORT_ERROR_MAX = 320 };

/* Reads the key files. NULL with a complete message in error[]: a key file is wrong, or TLS is not to be had. They must
 * outlive their transports; `keys` need not. The client has one key; the server must be able to tell its clients apart
 * by identity. */
struct transport_security *transport_security_client(const struct conf_key *key, char error[TRANSPORT_ERROR_MAX]);
struct transport_security *transport_security_server(const struct conf_key *keys, size_t count,
                                                     char error[TRANSPORT_ERROR_MAX]);
/* NULL is ignored. */
void transport_security_free(struct transport_security *security);

/* --- One connection ----------------------------------------------------------------------------------------------- */

struct transport_tls;

struct transport {
	int fd;
	struct transport_tls *tls; /* NULL: plain */
};

/* Server, before transport_init: whether it is time for it, by what a stranger has said so far, which stays where it
 * is. So a connection costs no state of TLS until there is a whole ClientHello, in one record of at most
 * TRANSPORT_HELLO_MAX bytes, as our clients send it. 0: there is; -EAGAIN: not yet, and the socket becomes readable
 * when there is or when no more can come; other: there will be none, *reason (a static text) tells why. */
enum { TRANSPORT_HELLO_MAX = 4096 };
int transport_look(int fd, const char **reason);

/* `security` NULL: plain, and there is no handshake. 0, or -ENOMEM: the socket is the caller's still. */
int transport_init(struct transport *transport, int fd, struct transport_security *security);
static inline bool transport_is_secure(const struct transport *transport)
{
	return transport->tls != NULL;
}

/* Goes on with the handshake. 0: done, both sides have proved that they have the key; what the other side sent behind
 * it may have been read already, so read at once. -EAGAIN: later. Other: it failed, transport_reason tells why; what
 * the other side is told has been sent as far as the socket takes it. Not for a plain transport. */
int transport_handshake(struct transport *transport);
/* Server, amid the handshake: whether the client has shown a key; one who replays a recording has, too, and comes no
 * further. */
bool transport_shown_key(const struct transport *transport);
/* Why the handshake or a later call failed: a static text, also for an error number that says little. */
const char *transport_reason(const struct transport *transport);
/* Server, after the handshake: the identity that the client proved; lives as long as the security. NULL: plain. */
const char *transport_identity(const struct transport *transport);
/* Whether the kernel encrypts what is sent. */
bool transport_in_kernel(const struct transport *transport);

/* Bytes read; 0: the end; -EAGAIN: nothing there now; or another negative errno. In TLS the end is close_notify; a
 * connection that ends without it gives -ECONNABORTED, one that was tampered with -EPROTO. An error comes when the
 * bytes before it were taken. */
ssize_t transport_read(struct transport *transport, const struct iovec *slices, unsigned count);
/* After a read that filled all it was offered, or an error that is waiting: read again without waiting for the socket.
 */
bool transport_has_more(const struct transport *transport);
/* While held, nothing is read from the socket, only what TLS has read ahead: so a reader can end its turn with nothing
 * left behind. */
void transport_hold(struct transport *transport, bool held);

/* Bytes taken, which may be fewer than offered; -EAGAIN: none now; or another negative errno: -EKEYEXPIRED when the
 * kernel encrypts and the key has served long enough (RFC 8446, 5.5). What was taken is on its way or will be sent
 * before all else; what was not may be offered again in other pieces, or not at all. */
ssize_t transport_write(struct transport *transport, const struct iovec *slices, unsigned count);
/* Sends what was taken and is not with the kernel yet. 0, -EAGAIN: some is left; or another negative errno. */
int transport_flush(struct transport *transport);
/* Encrypted bytes that were taken and not given to the kernel. */
size_t transport_unsent_bytes(const struct transport *transport);
bool transport_wants_write(const struct transport *transport);

/* Ends it: close_notify, as far as the socket takes it, and FIN. */
void transport_close(struct transport *transport);
/* Ends it with RST. */
void transport_reset(struct transport *transport);

#endif
