#include "traffic_socket.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include "../common/io/sock.h"
#include "../common/io/sockaddr.h"

int traffic_socket_connect(const struct addr *remote)
{
	struct sockaddr_storage sa;
	socklen_t sa_bytes = sockaddr_from_addr(&sa, remote);
	int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int error;

	if (fd < 0)
		return -errno;
	sock_set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	if (connect(fd, (struct sockaddr *)&sa, sa_bytes) == 0 || errno == EINPROGRESS)
		return fd;
	error = -errno;
	close(fd);
	return error;
}
