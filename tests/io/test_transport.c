/* Both ends of a TLS connection in one process, over a socket pair or loopback: who is let in, what arrives, and how it
 * ends. */
#include "../../common/io/psk.h"
#include "../../common/io/sock.h"
#include "../../common/io/transport.h"
#include "../../common/io/transport_tls.h"
#include "../unit/unit.h"
#include "../unit/unit_random.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { STEPS_MAX = 100, SLICES = 7, RECORDED_MAX = 65536 };

static char dir[] = "/tmp/pair_transport_XXXXXX";
static struct conf_key right, wrong, unknown, other;
static struct transport_security *server_keys;

struct ends {
	struct transport client, server;
	int client_err, server_err;
};

/* --- Keys --------------------------------------------------------------------------------------------------------- */

static void key_file(char path[CONF_FILE_MAX], const char *name)
{
	snprintf(path, CONF_FILE_MAX, "%s/%s", dir, name);
}

static struct conf_key key(const char *identity, const char *name)
{
	struct conf_key made = {0};

	snprintf(made.identity, sizeof made.identity, "%s", identity);
	key_file(made.key_file, name);
	return made;
}

static void forget(const char *name)
{
	char path[CONF_FILE_MAX];

	key_file(path, name);
	unlink(path);
}

/* --- Connections -------------------------------------------------------------------------------------------------- */

static void socket_pair(int fds[2])
{
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
		UNIT_FAIL("socketpair: %s", strerror(errno));
}

/* Real TCP, for what a socket pair does not have: RST. */
static void tcp_pair(int fds[2])
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof sin;
	int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(listening, (struct sockaddr *)&sin, len) < 0 || listen(listening, 1) < 0 ||
	    getsockname(listening, (struct sockaddr *)&sin, &len) < 0 ||
	    connect(fds[0], (struct sockaddr *)&sin, len) < 0)
		UNIT_FAIL("loopback: %s", strerror(errno));
	fds[1] = accept(listening, NULL, NULL);
	close(listening);
	for (unsigned i = 0; i < 2; i++) {
		fcntl(fds[i], F_SETFL, O_NONBLOCK);
		sock_prepare_stripe(fds[i]);
	}
}

/* Both handshakes, turn by turn, until both have ended or nothing moves. */
static void shake(struct ends *ends)
{
	ends->client_err = ends->server_err = -EAGAIN;
	for (unsigned step = 0; step < STEPS_MAX; step++) {
		if (ends->client_err == -EAGAIN)
			ends->client_err = transport_handshake(&ends->client);
		if (ends->server_err == -EAGAIN)
			ends->server_err = transport_handshake(&ends->server);
	}
}

static struct ends meet(const struct conf_key *client_key, struct transport_security *security,
                        void (*pair)(int fds[2]))
{
	char error[TRANSPORT_ERROR_MAX] = "";
	struct transport_security *client = client_key ? transport_security_client(client_key, error) : NULL;
	struct ends ends;
	int fds[2];

	if (client_key && !client)
		UNIT_FAIL("%s", error);
	pair(fds);
	UNIT_EQ(transport_init(&ends.client, fds[0], client), 0);
	UNIT_EQ(transport_init(&ends.server, fds[1], security), 0);
	if (client && security)
		shake(&ends);
	/* OpenSSL keeps what the connection needs of it; the key is asked for in the first call. */
	transport_security_free(client);
	return ends;
}

static void part(struct ends *ends)
{
	transport_close(&ends->client);
	transport_close(&ends->server);
}

static ssize_t put_text(struct transport *transport, const char *text)
{
	struct iovec slice = {.iov_base = (char *)(uintptr_t)text, .iov_len = strlen(text)};

	return transport_write(transport, &slice, 1);
}

static ssize_t get_text(struct transport *transport, char text[64])
{
	struct iovec slice = {.iov_base = text, .iov_len = 63};
	ssize_t got = transport_read(transport, &slice, 1);

	text[got > 0 ? got : 0] = '\0';
	return got;
}

static void test_admission(void)
{
	char text[64], error[TRANSPORT_ERROR_MAX], refusals[2][128], alerts[2][128];
	struct ends ends;

	UNIT_CASE("the right key") {
		ends = meet(&right, server_keys, socket_pair);
		UNIT_EQ(ends.client_err, 0);
		UNIT_EQ(ends.server_err, 0);
		UNIT_STR(transport_identity(&ends.server), "tx1");
		UNIT_EQ(put_text(&ends.client, "hello"), 5);
		UNIT_EQ(get_text(&ends.server, text), 5);
		UNIT_STR(text, "hello");
		UNIT_EQ(put_text(&ends.server, "welcome"), 7);
		UNIT_EQ(get_text(&ends.client, text), 7);
		UNIT_STR(text, "welcome");
		UNIT_EQ(get_text(&ends.client, text), -EAGAIN);
		part(&ends);
	}
	UNIT_CASE("another identity, with its own key") {
		ends = meet(&other, server_keys, socket_pair);
		UNIT_EQ(ends.server_err, 0);
		UNIT_STR(transport_identity(&ends.server), "tx2");
		part(&ends);
	}
	UNIT_CASE("a wrong key and an unknown identity are refused in the same way") {
		const struct conf_key *keys[2] = {&wrong, &unknown};

		for (unsigned i = 0; i < 2; i++) {
			ends = meet(keys[i], server_keys, socket_pair);
			UNIT_EQ(ends.server_err, -EPROTO);
			UNIT_TRUE(ends.client_err != 0 && ends.client_err != -EAGAIN);
			snprintf(refusals[i], sizeof refusals[i], "%s", transport_reason(&ends.server));
			snprintf(alerts[i], sizeof alerts[i], "%s", transport_reason(&ends.client));
			UNIT_TRUE(transport_identity(&ends.server) == NULL);
			part(&ends);
		}
		UNIT_STR(refusals[0], "unknown identity or wrong key");
		UNIT_STR(refusals[0], refusals[1]);
		UNIT_STR(alerts[0], "the other side refuses our identity or key");
		UNIT_STR(alerts[0], alerts[1]);
	}
	UNIT_CASE("another identity with the key of this one") {
		struct conf_key mixed = right;

		snprintf(mixed.identity, sizeof mixed.identity, "tx2");
		ends = meet(&mixed, server_keys, socket_pair);
		UNIT_EQ(ends.server_err, -EPROTO);
		part(&ends);
	}
	UNIT_CASE("plain text to a server with keys") {
		ends = meet(NULL, server_keys, socket_pair);
		UNIT_EQ(put_text(&ends.client, "GET / HTTP/1.0\r\n\r\n"), 18);
		UNIT_EQ(transport_handshake(&ends.server), -EPROTO);
		UNIT_STR(transport_reason(&ends.server), "not TLS");
		part(&ends);
	}
	UNIT_CASE("plain text from a server without keys") {
		struct transport_security *client = transport_security_client(&right, error);
		int fds[2];

		socket_pair(fds);
		transport_init(&ends.client, fds[0], client);
		transport_init(&ends.server, fds[1], NULL);
		UNIT_EQ(transport_handshake(&ends.client), -EAGAIN);
		UNIT_EQ(put_text(&ends.server, "HTTP/1.1 400 Bad Request\r\n"), 26);
		UNIT_EQ(transport_handshake(&ends.client), -EPROTO);
		UNIT_STR(transport_reason(&ends.client), "not TLS");
		transport_security_free(client);
		part(&ends);
	}
	UNIT_CASE("closed amid the handshake") {
		ends = meet(NULL, server_keys, socket_pair);
		UNIT_EQ(transport_handshake(&ends.server), -EAGAIN);
		shutdown(ends.client.fd, SHUT_WR);
		UNIT_EQ(transport_handshake(&ends.server), -ECONNABORTED);
		UNIT_STR(transport_reason(&ends.server), "closed during the TLS handshake");
		part(&ends);
	}
	UNIT_CASE("close_notify in place of Finished, which proves nothing") {
		static const uint8_t close_notify[] = {21, 3, 3, 0, 2, 1, 0};
		struct transport_security *client = transport_security_client(&right, error);
		int fds[2];
		socket_pair(fds);
		UNIT_EQ(transport_init(&ends.client, fds[0], client), 0);
		UNIT_EQ(transport_init(&ends.server, fds[1], server_keys), 0);
		UNIT_EQ(transport_handshake(&ends.client), -EAGAIN);
		UNIT_EQ(transport_handshake(&ends.server), -EAGAIN);
		UNIT_EQ(write(fds[0], close_notify, sizeof close_notify), sizeof close_notify);
		UNIT_EQ(transport_handshake(&ends.server), -ECONNABORTED);
		UNIT_STR(transport_reason(&ends.server), "closed during the TLS handshake");
		part(&ends);
		transport_security_free(client);
	}
}

/* A stock client of OpenSSL's: what it may be talked into. */
static int stock_client(const char *suites, int version)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL *ssl;
	struct ends ends = meet(NULL, server_keys, socket_pair);
	int err = -EAGAIN;

	SSL_CTX_set_max_proto_version(ctx, version);
	if (suites)
		SSL_CTX_set_ciphersuites(ctx, suites);
	ssl = SSL_new(ctx);
	SSL_set_fd(ssl, ends.client.fd);
	for (unsigned step = 0; step < STEPS_MAX && err == -EAGAIN; step++) {
		SSL_connect(ssl);
		err = transport_handshake(&ends.server);
	}
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	part(&ends);
	return err;
}

/* What a client with the right key once said is said again. */
static void test_replay(void)
{
	static uint8_t recorded[RECORDED_MAX], byte[RECORDED_MAX];
	struct transport_security *client;
	char error[TRANSPORT_ERROR_MAX];
	struct transport ends[2];
	size_t len = 0;
	int near[2], far[2], errs[2] = {-EAGAIN, -EAGAIN};

	UNIT_CASE("a recorded handshake is not taken again") {
		client = transport_security_client(&right, error);
		socket_pair(near);
		socket_pair(far);
		transport_init(&ends[0], near[0], client);
		transport_init(&ends[1], far[0], server_keys);
		for (unsigned step = 0; step < STEPS_MAX; step++) {
			for (unsigned i = 0; i < 2; i++)
				if (errs[i] == -EAGAIN)
					errs[i] = transport_handshake(&ends[i]);
			if (!errs[0] && !errs[1] && step < STEPS_MAX / 2)
				put_text(&ends[0], "hello");
			ssize_t got = read(near[1], recorded + len, sizeof recorded - len);
			if (got > 0 && write(far[1], recorded + len, (size_t)got) == got)
				len += (size_t)got;
			got = read(far[1], byte, sizeof byte);
			if (got > 0 && write(near[1], byte, (size_t)got) != got)
				UNIT_FAIL("the relay is full");
		}
		UNIT_EQ(errs[0], 0);
		UNIT_EQ(errs[1], 0);
		for (unsigned i = 0; i < 2; i++)
			transport_close(&ends[i]);
		close(near[1]);
		close(far[1]);
		transport_security_free(client);

		socket_pair(far);
		transport_init(&ends[1], far[0], server_keys);
		UNIT_EQ(write(far[1], recorded, len), len);
		errs[1] = -EAGAIN;
		for (unsigned step = 0; step < STEPS_MAX && errs[1] == -EAGAIN; step++)
			errs[1] = transport_handshake(&ends[1]);
		UNIT_EQ(errs[1], -EPROTO);
		transport_close(&ends[1]);
		close(far[1]);
	}
	UNIT_CASE("a client of TLS 1.3 without a key")
		UNIT_EQ(stock_client(NULL, 0), -EPROTO);
	UNIT_CASE("a client of TLS 1.2")
		UNIT_EQ(stock_client(NULL, TLS1_2_VERSION), -EPROTO);
	UNIT_CASE("a client with another cipher suite")
		UNIT_EQ(stock_client("TLS_AES_256_GCM_SHA384", 0), -EPROTO);
}

/* --- Transfer ----------------------------------------------------------------------------------------------------- */

/* Byte n of what travels. */
static uint8_t pattern(uint64_t n)
{
	return (uint8_t)(n * 2654435761U >> 13 ^ n >> 3);
}

/* Random slices of a buffer of random length; their total. */
static size_t cut(uint64_t *random, uint8_t *buffer, size_t size, struct iovec slices[SLICES], unsigned *count)
{
	size_t total = 0;

	*count = 1 + (unsigned)unit_below(random, SLICES);
	for (unsigned i = 0; i < *count; i++) {
		static const size_t scales[] = {1, 20, 3000, 20000};
		size_t len = 1 + (size_t)unit_below(random, scales[unit_below(random, 4)]);
		if (len > size - total)
			len = size - total;
		slices[i] = (struct iovec){buffer + total, len};
		total += len;
	}
	return total;
}

/* As stripe_io reads: until a read takes less than it was offered. Bytes, or the error. */
static ssize_t drain(uint64_t *random, struct transport *transport, uint64_t *offset, bool *intact)
{
	static uint8_t buffer[SLICES * 20000];
	struct iovec slices[SLICES];
	unsigned count, reads = 0;
	ssize_t got, total = 0;
	size_t asked;

	do {
		transport_hold(transport, ++reads > 3);
		asked = cut(random, buffer, sizeof buffer, slices, &count);
		got = transport_read(transport, slices, count);
		for (ssize_t i = 0; i < got; i++)
			*intact &= buffer[i] == pattern((*offset)++);
		total += got > 0 ? got : 0;
	} while (got == (ssize_t)asked || (got > 0 && transport_has_more(transport)));
	transport_hold(transport, false);
	return total ? total : got;
}

/* `bytes` each way at once; reads only when poll says so, which finds bytes that were forgotten inside. */
static void transfer(struct ends *ends, uint64_t bytes, uint64_t seed)
{
	static uint8_t buffer[SLICES * 20000];
	uint64_t random = seed;
	struct transport *at[2] = {&ends->client, &ends->server};
	uint64_t sent[2] = {0}, received[2] = {0};
	bool intact = true;
	unsigned idle = 0;

	while ((received[0] < bytes || received[1] < bytes) && intact && idle < 1000) {
		bool moved = false;
		for (unsigned i = 0; i < 2; i++) {
			struct pollfd ready = {.fd = at[i]->fd, .events = POLLIN};
			struct iovec slices[SLICES];
			unsigned count;
			size_t len = cut(&random, buffer, sizeof buffer, slices, &count);
			if (transport_flush(at[i]) == 0 && sent[i] < bytes && unit_below(&random, 3)) {
				for (size_t n = 0; n < len; n++)
					buffer[n] = pattern(sent[i] + n);
				ssize_t put = transport_write(at[i], slices, count);
				if (put > 0)
					sent[i] += (uint64_t)put;
				moved |= put > 0;
			}
			if (unit_below(&random, 2) && poll(&ready, 1, 0) == 1)
				moved |= drain(&random, at[i], &received[i], &intact) > 0;
		}
		idle = moved ? 0 : idle + 1;
		/* The kernel may be waiting for an acknowledgement that is delayed. */
		if (idle > 100)
			usleep(1000);
	}
	UNIT_TRUE(intact);
	UNIT_TRUE(received[0] >= bytes && received[1] >= bytes);
}

static void shrink(struct ends *ends)
{
	int small = 4096;

	setsockopt(ends->client.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
	setsockopt(ends->server.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
}

static void test_transfer(void)
{
	for (uint64_t seed = 1; seed <= 6; seed++)
		UNIT_CASE("8 MiB each way in random pieces, seed %d", (int)seed) {
			struct ends ends = meet(&right, server_keys, seed % 2 ? socket_pair : tcp_pair);
			if (seed > 2)
				shrink(&ends);
			transfer(&ends, 8 << 20, seed);
			part(&ends);
		}
	UNIT_CASE("plain: 8 MiB each way in random pieces") {
		struct ends ends = meet(NULL, NULL, socket_pair);
		transfer(&ends, 8 << 20, 1);
		part(&ends);
	}
	UNIT_CASE("keys are renewed while bytes travel") {
		struct ends ends = meet(&right, server_keys, socket_pair);
		transport_tls_set_key_records(ends.client.tls, 5);
		transport_tls_set_key_records(ends.server.tls, 17);
		transfer(&ends, 4 << 20, 3);
		part(&ends);
	}
}

/* --- The end ------------------------------------------------------------------------------------------------------ */

static void test_end(void)
{
	char text[64];
	struct ends ends;

	UNIT_CASE("close_notify is the end, after what came before") {
		ends = meet(&right, server_keys, tcp_pair);
		put_text(&ends.client, "last");
		transport_close(&ends.client);
		UNIT_EQ(get_text(&ends.server, text), 4);
		UNIT_TRUE(transport_has_more(&ends.server));
		UNIT_EQ(get_text(&ends.server, text), 0);
		UNIT_EQ(get_text(&ends.server, text), 0);
		transport_close(&ends.server);
	}
	UNIT_CASE("FIN without close_notify is no end") {
		ends = meet(&right, server_keys, tcp_pair);
		put_text(&ends.client, "last");
		shutdown(ends.client.fd, SHUT_WR);
		UNIT_EQ(get_text(&ends.server, text), 4);
		UNIT_EQ(get_text(&ends.server, text), -ECONNABORTED);
		UNIT_STR(transport_reason(&ends.server), "closed without close_notify");
		part(&ends);
	}
	UNIT_CASE("RST") {
		ends = meet(&right, server_keys, tcp_pair);
		transport_reset(&ends.client);
		UNIT_EQ(get_text(&ends.server, text), -ECONNRESET);
		transport_close(&ends.server);
	}
	UNIT_CASE("bytes that somebody puts in") {
		ends = meet(&right, server_keys, tcp_pair);
		put_text(&ends.client, "good");
		UNIT_EQ(write(ends.client.fd, "\x17\x03\x03\x00\x15garbage garbage 12345", 26), 26);
		UNIT_EQ(get_text(&ends.server, text), 4);
		UNIT_EQ(get_text(&ends.server, text), -EPROTO);
		UNIT_TRUE(transport_reason(&ends.server) != NULL);
		part(&ends);
	}
	UNIT_CASE("writing to who has gone") {
		ssize_t put = 0;

		ends = meet(&right, server_keys, tcp_pair);
		transport_reset(&ends.server);
		for (unsigned i = 0; i < 3 && put >= 0; i++)
			put = put_text(&ends.client, "anybody?");
		UNIT_TRUE(put == -EPIPE || put == -ECONNRESET);
		transport_close(&ends.client);
	}
}

int main(void)
{
	static const char *const files[] = {"key", "key2", "bad"};
	char error[TRANSPORT_ERROR_MAX] = "";

	if (!mkdtemp(dir)) {
		perror(dir);
		return 1;
	}
	for (size_t i = 0; i < 3; i++) {
		char path[CONF_FILE_MAX];
		key_file(path, files[i]);
		psk_make(path);
	}
	right = key("tx1", "key");
	wrong = key("tx1", "bad");
	unknown = key("nobody", "key");
	other = key("tx2", "key2");
	struct conf_key keys[] = {right, other};
	server_keys = transport_security_server(keys, 2, error);
	UNIT_CASE("key files are read")
		UNIT_STR(error, "");
	if (server_keys) {
		test_admission();
		test_replay();
		test_transfer();
		test_end();
	}
	transport_security_free(server_keys);
	for (size_t i = 0; i < 3; i++)
		forget(files[i]);
	rmdir(dir);
	return unit_exit();
}
