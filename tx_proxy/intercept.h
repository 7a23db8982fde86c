/* intercept: SYNs that netfilter queues → on_syn; a verdict for each → netfilter. Knows no flows.
 *
 * Speaks NFQUEUE over libmnl with the nfq_nlmsg_* calls of libnetfilter_queue. A queued packet is held by the kernel
 * until its verdict; every packet handed to on_syn gets exactly one verdict from the owner, during the call or later.
 * A client that gets no answer sends its SYN again after about 1 s: while one is held, on_syn is called again with the
 * same addresses and another packet id (answer: INTERCEPT_DROP). Once a SYN has been let go, direct or captured, the
 * rules keep its repetitions away: netfilter has decided where that connection goes. A full queue lets further SYNs
 * pass unseen (NFQA_CFG_F_FAIL_OPEN); if the process dies the kernel drops what is held, and the client's repetition
 * goes straight through. Packets that are no plain IPv4/IPv6 TCP SYN are let pass without a call. Needs CAP_NET_ADMIN
 * while it runs.
 */
#ifndef TX_PROXY_INTERCEPT_H
#define TX_PROXY_INTERCEPT_H

#include <stdint.h>

#include "../common/core/syn.h"

struct ev_loop;
struct intercept;

enum intercept_verdict {
	INTERCEPT_DIRECT,  /* on its way as if nothing were installed */
	INTERCEPT_CAPTURE, /* accepted with the capture mark: netfilter redirects it to local_port */
	INTERCEPT_REFUSE,  /* accepted with the capture mark + 1: netfilter answers with a RST */
	INTERCEPT_DROP     /* silently dropped: a repetition of a SYN that is still held */
};

struct intercept_stats {
	uint64_t syns;        /* handed to on_syn */
	uint64_t verdicts[4]; /* by enum intercept_verdict */
	uint64_t unparsed;    /* passed without a call */
	uint64_t overruns;    /* ENOBUFS on the netlink socket */
};

struct intercept_ops {
	void (*on_syn)(void *user, const struct syn *syn, uint32_t packet_id);
};

/* Binds queue `queue` and starts reading on `loop`, which must outlive it; *ops is copied. 0, or -EPERM (no
 * CAP_NET_ADMIN), -EBUSY (another process has the queue), -ENOMEM or what the kernel says. */
int intercept_open(struct intercept **out, struct ev_loop *loop, uint16_t queue, uint32_t mark,
                   const struct intercept_ops *ops, void *user);
/* A verdict that the kernel does not take is logged; there is nothing that the owner could do. */
void intercept_verdict(struct intercept *in, uint32_t packet_id, enum intercept_verdict verdict);
const struct intercept_stats *intercept_stats(const struct intercept *in);
/* Lets held packets go to their destinations, then closes. Their ids are void afterwards. NULL is allowed; not from
 * within on_syn. */
void intercept_close(struct intercept *in);

#endif
