#include "intercept.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <ev.h>
#include <libmnl/libmnl.h>
#include <libnetfilter_queue/libnetfilter_queue.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "../common/io/log.h"
#include "syn_parse.h"

enum {
	QUEUE_MAX_PACKETS = 4096,               /* held and unread ones together; what is more passes (fail-open) */
	RECEIVE_BUFFER_BYTES = 8 * 1024 * 1024, /* the kernel books about 1 KB for each of those packets */
	RECEIVE_BYTES = 8192,                   /* one packet's message, with room for attributes to come */
	SEND_BYTES = 256,                       /* one configuration or verdict message */
	PACKETS_PER_WAKEUP = 64,                /* so that a flood of SYNs leaves time for the flows */
	SEND_ATTEMPTS = 3
};

struct intercept {
	struct mnl_socket *socket;
	struct ev_loop *loop;
	ev_io readable;
	uint16_t queue;
	uint32_t mark;
	struct intercept_ops ops;
	void *user;
	struct intercept_stats stats;
	uint32_t newest_id; /* of all packets seen */
	bool calling;       /* inside on_syn */
};

static int send_message(struct intercept *in, const struct nlmsghdr *message)
{
	for (int attempt = 1;; attempt++) {
		if (mnl_socket_sendto(in->socket, message, message->nlmsg_len) >= 0)
			return 0;
		if (attempt == SEND_ATTEMPTS || (errno != EINTR && errno != EAGAIN && errno != ENOBUFS))
			return -errno;
	}
}

/* `mark` 0: the packet keeps the mark that it came with. */
static int send_verdict(struct intercept *in, int message_type, uint32_t packet_id, int verdict, uint32_t mark)
{
	char buf[SEND_BYTES] __attribute__((aligned(MNL_ALIGNTO)));
	struct nlmsghdr *message = nfq_nlmsg_put(buf, message_type, in->queue);

	nfq_nlmsg_verdict_put(message, (int)packet_id, verdict);
	if (mark != 0)
		nfq_nlmsg_verdict_put_mark(message, mark);
	return send_message(in, message);
}

static void log_verdict_failed(const struct intercept *in, uint32_t packet_id, int err)
{
	static struct log_limit limit = LOG_LIMIT_DEFAULT;

	log_limited(&limit, LOG_LEVEL_WARN, "verdict_failed", "queue=%u packet=%u error=\"%s\"", in->queue, packet_id,
	            strerror(-err));
}

static void pass(struct intercept *in, uint32_t packet_id)
{
	int err = send_verdict(in, NFQNL_MSG_VERDICT, packet_id, NF_ACCEPT, 0);

	in->stats.unparsed++;
	if (err)
		log_verdict_failed(in, packet_id, err);
}

/* `deliver` false: while the queue is being configured nobody is there yet to hold a packet. */
static void handle_packet(struct intercept *in, const struct nlmsghdr *message, bool deliver)
{
	struct nlattr *attr[NFQA_MAX + 1] = {NULL};
	const struct nfqnl_msg_packet_hdr *packet;
	struct syn syn;
	uint32_t packet_id;

	if (nfq_nlmsg_parse(message, attr) < 0 || !attr[NFQA_PACKET_HDR] ||
	    mnl_attr_get_payload_len(attr[NFQA_PACKET_HDR]) < sizeof *packet)
		return; /* without an id there is no verdict */
	packet = mnl_attr_get_payload(attr[NFQA_PACKET_HDR]);
	packet_id = ntohl(packet->packet_id);
	in->newest_id = packet_id;
	if (!deliver || !attr[NFQA_PAYLOAD] ||
	    syn_parse(&syn, mnl_attr_get_payload(attr[NFQA_PAYLOAD]), mnl_attr_get_payload_len(attr[NFQA_PAYLOAD])) <
	            0) {
		pass(in, packet_id);
		return;
	}
	in->stats.syns++;
	in->calling = true;
	in->ops.on_syn(in->user, &syn, packet_id);
	in->calling = false;
}

/* The kernel's answer to a message of ours: true, with its errno, for a configuration. Verdicts ask for no answer, so
 * one that comes is a failure. */
static bool handle_answer(const struct intercept *in, const struct nlmsghdr *message, int *err)
{
	static struct log_limit limit = LOG_LIMIT_DEFAULT;
	const struct nlmsgerr *answer = mnl_nlmsg_get_payload(message);

	if (mnl_nlmsg_get_payload_len(message) < sizeof *answer)
		return false;
	if (NFNL_MSG_TYPE(answer->msg.nlmsg_type) == NFQNL_MSG_CONFIG) {
		*err = answer->error;
		return true;
	}
	if (NFNL_MSG_TYPE(answer->msg.nlmsg_type) == NFQNL_MSG_VERDICT)
		log_limited(&limit, LOG_LEVEL_WARN, "verdict_failed", "queue=%u error=\"%s\"", in->queue,
		            strerror(-answer->error));
	return false;
}

/* Reads one datagram and handles what it holds. 0; 1 with *answer set when it held the answer to a configuration; or
 * a negative errno, -EAGAIN when there is no datagram. */
static int receive(struct intercept *in, bool deliver, int *answer)
{
	char buf[RECEIVE_BYTES] __attribute__((aligned(MNL_ALIGNTO)));
	const struct nlmsghdr *message = (const struct nlmsghdr *)buf;
	ssize_t got = mnl_socket_recvfrom(in->socket, buf, sizeof buf);
	int left_bytes = (int)got;
	int result = 0;

	if (got < 0)
		return -errno;
	for (; mnl_nlmsg_ok(message, left_bytes); message = mnl_nlmsg_next(message, &left_bytes)) {
		if (message->nlmsg_type == NLMSG_ERROR) {
			if (handle_answer(in, message, answer))
				result = 1;
		} else if (message->nlmsg_type == (NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_PACKET)) {
			handle_packet(in, message, deliver);
		}
	}
	return result;
}

static void on_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
	static struct log_limit overrun_limit = LOG_LIMIT_DEFAULT;
	static struct log_limit error_limit = LOG_LIMIT_DEFAULT;
	struct intercept *in = watcher->data;

	for (int i = 0; i < PACKETS_PER_WAKEUP; i++) {
		int answer;
		int err = receive(in, true, &answer);

		if (err >= 0 || err == -EINTR)
			continue;
		if (err == -EAGAIN)
			return;
		if (err != -ENOBUFS) {
			log_limited(&error_limit, LOG_LEVEL_WARN, "queue_read_failed", "queue=%u error=\"%s\"",
			            in->queue, strerror(-err));
			return;
		}
		in->stats.overruns++;
		log_limited(&overrun_limit, LOG_LEVEL_WARN, "queue_overrun", "queue=%u overruns=%llu", in->queue,
		            (unsigned long long)in->stats.overruns);
	}
}

/* Sends a configuration message and gives the kernel's answer, which it has put on the socket by the time that the
 * send returns: behind packets, if the queue has any already. */
static int configure(struct intercept *in, struct nlmsghdr *message)
{
	int answer = 0;
	int err;

	message->nlmsg_flags |= NLM_F_ACK;
	err = send_message(in, message);
	if (err)
		return err;
	do {
		err = receive(in, false, &answer);
	} while (err == 0 || err == -EINTR || err == -ENOBUFS);
	return err == 1 ? answer : err;
}

static int configure_command(struct intercept *in, uint8_t command)
{
	char buf[SEND_BYTES] __attribute__((aligned(MNL_ALIGNTO)));
	struct nlmsghdr *message = nfq_nlmsg_put(buf, NFQNL_MSG_CONFIG, in->queue);

	nfq_nlmsg_cfg_put_cmd(message, AF_INET, command);
	return configure(in, message);
}

/* Binding and parameters in one message: the queue never exists without them. */
static int bind_queue(struct intercept *in)
{
	const uint32_t flags = NFQA_CFG_F_FAIL_OPEN | NFQA_CFG_F_GSO;
	char buf[SEND_BYTES] __attribute__((aligned(MNL_ALIGNTO)));
	struct nlmsghdr *message = nfq_nlmsg_put(buf, NFQNL_MSG_CONFIG, in->queue);

	nfq_nlmsg_cfg_put_cmd(message, AF_INET, NFQNL_CFG_CMD_BIND);
	nfq_nlmsg_cfg_put_params(message, NFQNL_COPY_PACKET, SYN_PARSE_BYTES);
	nfq_nlmsg_cfg_put_qmaxlen(message, QUEUE_MAX_PACKETS);
	mnl_attr_put_u32(message, NFQA_CFG_FLAGS, htonl(flags));
	mnl_attr_put_u32(message, NFQA_CFG_MASK, htonl(flags));
	return configure(in, message);
}

static int open_socket(struct intercept *in)
{
	int bytes = RECEIVE_BUFFER_BYTES;
	int err;

	in->socket = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (!in->socket)
		return -errno;
	if (mnl_socket_bind(in->socket, 0, MNL_SOCKET_AUTOPID) < 0)
		return -errno;
	/* A smaller buffer works too: more SYNs of a flood pass by. NETLINK_NO_ENOBUFS stays off: overruns are counted.
	 */
	setsockopt(mnl_socket_get_fd(in->socket), SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);

	/* An obsolete command without effect, but one that tells whether we may: the kernel answers EPERM to a
	 * binding both when we may not and when another process has the queue. */
	err = configure_command(in, NFQNL_CFG_CMD_PF_BIND);
	if (err)
		return err;
	err = bind_queue(in);
	return err == -EPERM ? -EBUSY : err;
}

static void free_intercept(struct intercept *in)
{
	if (in->socket)
		mnl_socket_close(in->socket);
	free(in);
}

int intercept_open(struct intercept **out, struct ev_loop *loop, uint16_t queue, uint32_t mark,
                   const struct intercept_ops *ops, void *user)
{
	struct intercept *in = calloc(1, sizeof *in);
	int err;

	*out = NULL;
	if (!in)
		return -ENOMEM;
	in->loop = loop;
	in->queue = queue;
	in->mark = mark;
	in->ops = *ops;
	in->user = user;
	err = open_socket(in);
	if (err) {
		free_intercept(in);
		return err;
	}
	ev_io_init(&in->readable, on_readable, mnl_socket_get_fd(in->socket), EV_READ);
	in->readable.data = in;
	ev_io_start(loop, &in->readable);
	*out = in;
	return 0;
}

void intercept_verdict(struct intercept *in, uint32_t packet_id, enum intercept_verdict verdict)
{
	uint32_t mark = 0;
	int err;

	if (verdict == INTERCEPT_CAPTURE)
		mark = in->mark;
	else if (verdict == INTERCEPT_REFUSE)
		mark = in->mark + 1;
	err = send_verdict(in, NFQNL_MSG_VERDICT, packet_id, verdict == INTERCEPT_DROP ? NF_DROP : NF_ACCEPT, mark);
	in->stats.verdicts[verdict]++;
	if (err)
		log_verdict_failed(in, packet_id, err);
}

const struct intercept_stats *intercept_stats(const struct intercept *in)
{
	return &in->stats;
}

void intercept_close(struct intercept *in)
{
	/* One batch verdict lets go all packets up to an id, in the order of a wrapping counter; those that are not
	 * read yet come soon after the newest one seen. Unbinding would drop them. */
	const uint32_t unread_ids = 1u << 20;

	if (!in)
		return;
	assert(!in->calling);
	ev_io_stop(in->loop, &in->readable);
	send_verdict(in, NFQNL_MSG_VERDICT_BATCH, in->newest_id + unread_ids, NF_ACCEPT, 0);
	configure_command(in, NFQNL_CFG_CMD_UNBIND);
	free_intercept(in);
}
