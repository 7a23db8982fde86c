#define _GNU_SOURCE /* strerrordesc_np */
#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "sock.h"
#include "transport.h"

/* RFC 8446, 5.1 and 4: the head of a record, and of the handshake message in it. */
enum {
	RECORD_HEAD_BYTES = 5,
	MESSAGE_HEAD_BYTES = 4,
	HEADS_BYTES = RECORD_HEAD_BYTES + MESSAGE_HEAD_BYTES,
	RECORD_HANDSHAKE = 22,
	RECORD_MAJOR = 3,
	CLIENT_HELLO = 1,
	TCP_STATE_ESTABLISHED = 1
};

/* What OpenSSL says of it, so that the log has one name for it. */
static const char closed[] = "closed during the TLS handshake";

/* More must come; the kernel wakes us when that is here, or nothing more comes. */
static int await(int fd, int bytes, const char **reason)
{
	struct tcp_info info;
	socklen_t len = sizeof info;

	sock_set(fd, SOL_SOCKET, SO_RCVLOWAT, bytes);
	/* A FIN behind the first bytes makes the socket readable for good. */
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0 || info.tcpi_state == TCP_STATE_ESTABLISHED)
		return -EAGAIN;
	*reason = closed;
	return -ECONNABORTED;
}

int transport_look(int fd, const char **reason)
{
	uint8_t heads[HEADS_BYTES];
	ssize_t got;

	do
		got = recv(fd, heads, sizeof heads, MSG_PEEK);
	while (got < 0 && errno == EINTR);
	if (got < 0 && errno == EAGAIN)
		return -EAGAIN;
	*reason = got < 0 ? strerrordesc_np(errno) : closed;
	if (got <= 0)
		return got < 0 ? -errno : -ECONNABORTED;

	*reason = "not TLS";
	if (heads[0] != RECORD_HANDSHAKE || (got > 1 && heads[1] != RECORD_MAJOR))
		return -EPROTO;
	if (got < HEADS_BYTES)
		return await(fd, HEADS_BYTES, reason);
	int record = heads[3] << 8 | heads[4];
	int message = heads[6] << 16 | heads[7] << 8 | heads[8];
	if (heads[5] != CLIENT_HELLO || message + MESSAGE_HEAD_BYTES != record || record > TRANSPORT_HELLO_MAX) {
		*reason = "not a TLS ClientHello of one record";
		return -EPROTO;
	}
	record += RECORD_HEAD_BYTES;
	int here = 0;
	if (ioctl(fd, FIONREAD, &here) < 0 || here < record)
		return await(fd, record, reason);
	sock_set(fd, SOL_SOCKET, SO_RCVLOWAT, 1);
	*reason = NULL;
	return 0;
}
