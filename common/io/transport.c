#include "transport.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sock.h"
#include "transport_tls.h"

int transport_init(struct transport *transport, int fd, struct transport_security *security)
{
	*transport = (struct transport){.fd = fd};
	if (!security)
		return 0;
	transport->tls = transport_tls_new(security, fd);
	return transport->tls ? 0 : -ENOMEM;
}

int transport_handshake(struct transport *transport)
{
	return transport_tls_handshake(transport->tls);
}

bool transport_shown_key(const struct transport *transport)
{
	return transport->tls && transport_tls_shown_key(transport->tls);
}

const char *transport_reason(const struct transport *transport)
{
	return transport->tls ? transport_tls_reason(transport->tls) : NULL;
}

const char *transport_identity(const struct transport *transport)
{
	return transport->tls ? transport_tls_identity(transport->tls) : NULL;
}

bool transport_in_kernel(const struct transport *transport)
{
	return transport->tls && transport_tls_in_kernel(transport->tls);
}

ssize_t transport_read(struct transport *transport, const struct iovec *slices, unsigned count)
{
	ssize_t got;

	if (transport->tls)
		return transport_tls_read(transport->tls, slices, count);
	do
		got = readv(transport->fd, slices, (int)count);
	while (got < 0 && errno == EINTR);
	return got < 0 ? -errno : got;
}

bool transport_has_more(const struct transport *transport)
{
	return transport->tls && transport_tls_has_more(transport->tls);
}

void transport_hold(struct transport *transport, bool held)
{
	if (transport->tls)
		transport_tls_hold(transport->tls, held);
}

ssize_t transport_write(struct transport *transport, const struct iovec *slices, unsigned count)
{
	struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)slices, .msg_iovlen = count};
	ssize_t put;

	if (transport->tls)
		return transport_tls_write(transport->tls, slices, count);
	do
		put = sendmsg(transport->fd, &message, MSG_NOSIGNAL);
	while (put < 0 && errno == EINTR);
	return put < 0 ? -errno : put;
}

int transport_flush(struct transport *transport)
{
	return transport->tls ? transport_tls_flush(transport->tls) : 0;
}

size_t transport_unsent_bytes(const struct transport *transport)
{
	return transport->tls ? transport_tls_unsent_bytes(transport->tls) : 0;
}

bool transport_wants_write(const struct transport *transport)
{
	return transport_unsent_bytes(transport) > 0;
}

void transport_close(struct transport *transport)
{
	if (transport->tls)
		transport_tls_free(transport->tls, false);
	transport->tls = NULL;
	close(transport->fd);
}

void transport_reset(struct transport *transport)
{
	if (transport->tls)
		transport_tls_free(transport->tls, true);
	transport->tls = NULL;
	sock_reset(transport->fd);
}
