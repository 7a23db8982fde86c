/* conf: network.conf and the command line → one validated, read-only struct.
 *
 * libconfig syntax, one file for all machines; each binary loads its own group. Every number may also be
 * written as a string ("5000"), as in the original project's file. Scalars of the group can be overridden by
 * --key=value on the command line (nested ones by their dotted name: --capture.queue=3).
 *
 * Unlike plain libconfig, integers of any length are checked without a suffix L, and @include is refused.
 * A size may be written as a string with the suffix k, M or G ("16M"; powers of 1024). A network is "ADDRESS/PREFIX";
 * without prefix it is one host; bits beyond the prefix must be 0.
 *
 * A mistake is reported as "FILE:LINE: group.key: what is wrong; what was expected" (or "--key=value: …"): an unknown
 * key, a wrong type, a value out of range, an unknown congestion control, an unreadable key file each have their own
 * message. The contents of the other binaries' groups are not looked at; a group of an unknown name is a mistake.
 * conf_load does no other I/O than reading the file and what it names, and opens no socket that stays open.
 */
#ifndef PAIR_IO_CONF_H
#define PAIR_IO_CONF_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../core/addr.h"

enum {
	CONF_NAME_MAX = 32,       /* path and identity names, with the NUL; letters, digits, '.', '_', '-' */
	CONF_FILE_MAX = 4096,     /* file names, with the NUL */
	CONF_CONGESTION_MAX = 16, /* TCP_CA_NAME_MAX, with the NUL */
	CONF_PATHS_MAX = 16,
	CONF_STRIPES_MAX = 64,       /* of one path */
	CONF_STRIPES_TOTAL_MAX = 256 /* of all paths: what one session takes */
};

/* A network: addr.port is 0 and unused. */
struct conf_net {
	struct addr addr;
	uint8_t prefix_len; /* 0..32 or 0..128 */
};

struct conf_nets {
	struct conf_net *items; /* owned by struct conf */
	size_t count;
};

struct conf_path {
	char name[CONF_NAME_MAX];             /* unique in the session; "path0", "path1"… where none is given */
	struct addr remote;                   /* never ADDR_NONE */
	struct addr local;                    /* ADDR_NONE: the kernel chooses; port always 0 */
	char interface[IFNAMSIZ];             /* "": not bound to a device */
	uint32_t mark;                        /* SO_MARK; 0: none */
	unsigned stripes;                     /* 1..64, default 8 */
	char congestion[CONF_CONGESTION_MAX]; /* "": the kernel's default */
	bool backup;                          /* carries data only while no other path can */
	unsigned reinject_percent;            /* of its new bytes, how many may be repeats; 0..100, default 100 */
};

enum conf_capture_method { CONF_CAPTURE_REDIRECT, CONF_CAPTURE_TPROXY, CONF_CAPTURE_NONE };
enum conf_open { CONF_OPEN_CONFIRM, CONF_OPEN_EARLY };

struct conf_capture {
	enum conf_capture_method method; /* default redirect */
	unsigned queue;                  /* NFQUEUE number 0..65535, default 0 */
	uint32_t mark;                /* mark of a captured SYN, 1..0x7ffffffe, default 1; mark+1 marks a refused one */
	char (*interfaces)[IFNAMSIZ]; /* where clients' SYNs come in; owned by struct conf; none: every interface */
	size_t interface_count;
	struct conf_nets sources; /* whose connections are captured; none: everybody's */
	enum conf_open open;      /* default confirm */
	struct conf_nets bypass;  /* destinations never captured */
};

enum conf_security_mode {
	CONF_SECURITY_UNSET, /* the file says nothing; each daemon decides whether it dares */
	CONF_SECURITY_NONE,
	CONF_SECURITY_PSK
};

struct conf_key {
	char identity[CONF_NAME_MAX];
	char key_file[CONF_FILE_MAX];
};

struct conf_limits {
	unsigned flows; /* flows of one session, 1..1000000, default 4096 */
	/* The most that one direction of one flow may have under way, 64 KiB..memory_bytes / 4; default 16 MiB or, if
	 * that is less, memory_bytes / 4. */
	uint64_t flow_window_bytes;
	uint64_t memory_bytes;       /* all buffers of one session, default 512 MiB, at least 1 MiB */
	unsigned session_timeout_ms; /* default 60000, 100..86400000 */
};

struct conf_tx {
	uint16_t local_port;  /* default 5000 */
	struct addr rx_proxy; /* rx_proxy_ip and rx_proxy_port (default 6000): remote of paths that name none */
	struct conf_capture capture;
	struct conf_path *paths; /* ≥ 1, at most CONF_STRIPES_TOTAL_MAX stripes in all; owned by struct conf */
	size_t path_count;
	enum conf_security_mode security;
	struct conf_key key; /* when security is psk */
	struct conf_limits limits;
};

enum conf_source { CONF_SOURCE_PROXY, CONF_SOURCE_CLIENT };

struct conf_rx {
	uint16_t recv_port;      /* default 6000 */
	struct addr fixed_dest;  /* dest_ip and dest_port; ADDR_NONE: every flow goes to its original destination */
	struct conf_nets allow;  /* destinations; none: all that deny does not name */
	struct conf_nets deny;   /* the longest prefix of both lists decides; on a tie deny wins */
	enum conf_source source; /* default proxy */
	/* Of the accepted stripes, for what rx_proxy sends; "": the kernel's default. */
	char congestion[CONF_CONGESTION_MAX];
	enum conf_security_mode security;
	struct conf_key *keys; /* when security is psk, ≥ 1, identities unique; owned by struct conf */
	size_t key_count;
	struct conf_nets accept_from; /* when security is none: tx_proxies that may connect; empty with psk */
	struct conf_limits limits;    /* per session */
	unsigned sessions;            /* most sessions at once, key_count..1024, at least 1, default 16 */
};

enum conf_direction { CONF_SEND, CONF_RECEIVE, CONF_BOTH }; /* seen from stream */

struct conf_stream {
	struct addr dest;              /* dest_ip, dest_port (default 7000) */
	char file_name[CONF_FILE_MAX]; /* "": a generated pattern */
	/* Per flow and direction of the generated pattern, 0 too is a size; suffixes k, M, G (powers of 1024); default
	 * 64 MiB, or UINT64_MAX (no end) where duration_s is given. */
	uint64_t bytes;
	unsigned duration_s; /* 0: until bytes are sent; else stop after so many seconds, or bytes if sooner */
	unsigned flows;      /* 1..10000, default 1 */
	enum conf_direction direction; /* default send */
	uint64_t seed;                 /* of the pattern, default 1 */
	bool verify;                   /* default true; false: the receiver does not check each byte (for speed) */
};

struct conf_dest {
	uint16_t recv_port;      /* default 7000 */
	char out[CONF_FILE_MAX]; /* where received bytes are written; "": nowhere */
	char log[CONF_FILE_MAX]; /* one line for each finished flow; "": standard error */
	unsigned flows;          /* stop after so many; 0: never */
};

enum conf_group { CONF_TX_PROXY, CONF_RX_PROXY, CONF_STREAM, CONF_DEST };

struct conf {
	enum conf_group group;
	char file[CONF_FILE_MAX]; /* the file that was read */
	union {
		struct conf_tx tx;
		struct conf_rx rx;
		struct conf_stream stream;
		struct conf_dest dest;
	};
};

/* One "key=value" of the command line. */
struct conf_override {
	const char *key; /* "local_port", "capture.queue" */
	const char *value;
};

enum { CONF_ERROR_MAX = 512 };

/* Reads and validates `group` of the file, then applies the overrides, in order. `file` NULL: ./network.conf, then
 * /etc/pair_proxy/network.conf. Returns 0 and a struct for conf_free; or -EINVAL (the file or an override is wrong),
 * -ENOENT (no file), -EACCES, -ENOMEM with a complete message for the user, without newline, in error[]. */
int conf_load(struct conf **out, enum conf_group group, const char *file, const struct conf_override *overrides,
              size_t override_count, char error[CONF_ERROR_MAX]);
void conf_free(struct conf *conf);

/* Whether `addr` (port ignored) lies in one of the networks. */
bool conf_nets_contain(const struct conf_nets *nets, const struct addr *addr);

/* The longest prefix length of a network in `nets` that contains `addr`, or -1. */
int conf_nets_longest_match(const struct conf_nets *nets, const struct addr *addr);

#endif
