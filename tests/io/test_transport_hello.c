/* What a server makes of first words: when a stranger's bytes are worth the state of TLS, and what ClientHellos of
 * another make than ours can get. */
#include "../../common/io/psk.h"
#include "../../common/io/sock.h"
#include "../../common/io/transport.h"
#include "../unit/unit.h"

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

enum { STEPS_MAX = 100, HELLO_MAX = 4096, MOMENT_MS = 20 };

static char key_name[] = "/tmp/pair_hello_XXXXXX";
static struct psk psk;
static struct transport_security *client_keys, *server_keys;

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

static void close_pair(const int fds[2])
{
	close(fds[0]);
	close(fds[1]);
}

static bool readable(int fd, int timeout_ms)
{
	struct pollfd one = {.fd = fd, .events = POLLIN};

	return poll(&one, 1, timeout_ms) == 1;
}

static void say(int fd, const void *bytes, size_t len)
{
	UNIT_EQ(write(fd, bytes, len), len);
}

/* The ClientHello of ours, and its length. */
static size_t client_hello(uint8_t hello[HELLO_MAX])
{
	struct transport client;
	ssize_t got;
	int fds[2];

	tcp_pair(fds);
	UNIT_EQ(transport_init(&client, fds[0], client_keys), 0);
	UNIT_EQ(transport_handshake(&client), -EAGAIN);
	readable(fds[1], 1000);
	got = read(fds[1], hello, HELLO_MAX);
	transport_reset(&client);
	close(fds[1]);
	return got > 0 ? (size_t)got : 0;
}

/* --- Whether it is time ------------------------------------------------------------------------------------------- */

static void test_pieces(void)
{
	uint8_t hello[HELLO_MAX];
	size_t len = client_hello(hello);
	const char *reason;
	int fds[2];

	UNIT_CASE("ClientHello in pieces: no state, and no wakeup, before it is whole") {
		for (size_t first = 1; first < len; first += first < 12 ? 1 : 37) {
			tcp_pair(fds);
			UNIT_EQ(transport_look(fds[1], &reason), -EAGAIN);
			say(fds[0], hello, first);
			UNIT_TRUE(readable(fds[1], 1000));
			UNIT_EQ(transport_look(fds[1], &reason), -EAGAIN);
			/* A second look where the first one could not know the length. */
			if (first >= 9 || !readable(fds[1], 0))
				UNIT_TRUE(!readable(fds[1], 0));
			say(fds[0], hello + first, len - first - 1);
			if (readable(fds[1], first < 9 ? MOMENT_MS : 0))
				UNIT_EQ(transport_look(fds[1], &reason), -EAGAIN);
			UNIT_TRUE(!readable(fds[1], 0));
			say(fds[0], hello + len - 1, 1);
			UNIT_TRUE(readable(fds[1], 1000));
			UNIT_EQ(transport_look(fds[1], &reason), 0);
			close_pair(fds);
		}
	}
	UNIT_CASE("ClientHello: looking takes nothing") {
		struct transport server;

		tcp_pair(fds);
		say(fds[0], hello, len);
		readable(fds[1], 1000);
		for (unsigned i = 0; i < 3; i++)
			UNIT_EQ(transport_look(fds[1], &reason), 0);
		UNIT_EQ(transport_init(&server, fds[1], server_keys), 0);
		UNIT_EQ(transport_handshake(&server), -EAGAIN);
		UNIT_TRUE(transport_shown_key(&server));
		UNIT_TRUE(transport_identity(&server) == NULL);
		/* The socket says again when there is a single byte. */
		say(fds[0], "\x15", 1);
		UNIT_TRUE(readable(fds[1], 1000));
		transport_reset(&server);
		close(fds[0]);
	}
	UNIT_CASE("half a ClientHello, and gone: at once") {
		for (size_t first = 0; first < len; first += 11) {
			tcp_pair(fds);
			say(fds[0], hello, first);
			shutdown(fds[0], SHUT_WR);
			readable(fds[1], 1000);
			UNIT_EQ(transport_look(fds[1], &reason), -ECONNABORTED);
			UNIT_STR(reason, "closed during the TLS handshake");
			close_pair(fds);
		}
	}
	UNIT_CASE("half a ClientHello, and reset") {
		tcp_pair(fds);
		say(fds[0], hello, 100);
		sock_reset(fds[0]);
		UNIT_TRUE(readable(fds[1], 1000));
		UNIT_EQ(transport_look(fds[1], &reason), -ECONNABORTED);
		close(fds[1]);
	}
}

static void test_strangers(void)
{
	static const struct {
		const char *name, *bytes;
		size_t len;
		const char *reason;
	} cases[] = {
	        {"HTTP", "GET / HTTP/1.1\r\n", 16, "not TLS"},
	        {"one letter", "G", 1, "not TLS"},
	        {"SSH", "SSH-2.0-x\r\n", 11, "not TLS"},
	        {"HELLO without TLS", "\x11\x00\x00\x2c\x00\x00\x00\x00Pair", 12, "not TLS"},
	        {"SSL 2", "\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10", 11, "not TLS"},
	        {"another major version", "\x16\x02\x01\x00\x05\x01\x00\x00\x01\x00", 10, "not TLS"},
	        {"application data first", "\x17\x03\x03\x00\x05hello", 10, "not TLS"},
	        {"another message first", "\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00", 10, "ClientHello of one record"},
	        {"a message longer than its record", "\x16\x03\x01\x00\x05\x01\x00\x40\x00\x00", 10,
	         "ClientHello of one record"},
	        {"a message shorter than its record", "\x16\x03\x01\x00\x05\x01\x00\x00\x00\x00", 10,
	         "ClientHello of one record"},
	        {"a record of nothing", "\x16\x03\x01\x00\x00\x16\x03\x01\x00\x00", 10, "ClientHello of one record"},
	        {"a huge one", "\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x00", 10, "ClientHello of one record"},
	};
	const char *reason;
	int fds[2];

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		UNIT_CASE("first words: %s", cases[i].name) {
			tcp_pair(fds);
			say(fds[0], cases[i].bytes, cases[i].len);
			UNIT_TRUE(readable(fds[1], 1000));
			reason = "";
			UNIT_EQ(transport_look(fds[1], &reason), -EPROTO);
			UNIT_HAS(reason, cases[i].reason);
			close_pair(fds);
		}
}

/* --- Clients of another make -------------------------------------------------------------------------------------- */

static int on_use(SSL *ssl, const EVP_MD *md, const unsigned char **identity, size_t *len, SSL_SESSION **session)
{
	static const unsigned char cipher[2] = {0x13, 0x01};

	*session = SSL_SESSION_new();
	SSL_SESSION_set1_master_key(*session, psk.bytes, psk.len_bytes);
	SSL_SESSION_set_cipher(*session, SSL_CIPHER_find(ssl, cipher));
	SSL_SESSION_set_protocol_version(*session, TLS1_3_VERSION);
	SSL_SESSION_set_max_early_data(*session, 16384);
	*identity = (const unsigned char *)"tx1";
	*len = 3;
	return 1;
}

/* A stock client with the right key, or none. */
struct stock {
	SSL_CTX *ctx;
	SSL *ssl;
	struct transport server;
};

static void stock_begin(struct stock *stock, bool has_key)
{
	int fds[2];

	tcp_pair(fds);
	stock->ctx = SSL_CTX_new(TLS_client_method());
	if (has_key)
		SSL_CTX_set_psk_use_session_callback(stock->ctx, on_use);
	stock->ssl = SSL_new(stock->ctx);
	SSL_set_fd(stock->ssl, fds[0]);
	SSL_set_connect_state(stock->ssl);
	UNIT_EQ(transport_init(&stock->server, fds[1], server_keys), 0);
}

/* The server's end of it. */
static int stock_shake(struct stock *stock)
{
	int err = -EAGAIN;

	for (unsigned step = 0; step < STEPS_MAX && err == -EAGAIN; step++) {
		SSL_do_handshake(stock->ssl);
		readable(stock->server.fd, 1);
		err = transport_handshake(&stock->server);
	}
	return err;
}

static void stock_end(struct stock *stock)
{
	int fd = SSL_get_fd(stock->ssl);

	transport_reset(&stock->server);
	SSL_free(stock->ssl);
	SSL_CTX_free(stock->ctx);
	close(fd);
}

static void test_stock(void)
{
	struct stock stock;
	char text[64] = "";
	struct iovec slice = {.iov_base = text, .iov_len = sizeof text - 1};

	UNIT_CASE("a stock client with the key") {
		stock_begin(&stock, true);
		UNIT_EQ(stock_shake(&stock), 0);
		UNIT_EQ(SSL_write(stock.ssl, "hello", 5), 5);
		readable(stock.server.fd, 1000);
		UNIT_EQ(transport_read(&stock.server, &slice, 1), 5);
		stock_end(&stock);
	}
	UNIT_CASE("0-RTT data, which anybody could send again, is never taken") {
		size_t put = 0;

		stock_begin(&stock, true);
		UNIT_EQ(SSL_write_early_data(stock.ssl, "again and again", 15, &put), 1);
		UNIT_EQ(put, 15);
		int err = stock_shake(&stock);
		UNIT_TRUE(err == 0 || err == -EPROTO);
		UNIT_TRUE(SSL_get_early_data_status(stock.ssl) != SSL_EARLY_DATA_ACCEPTED);
		memset(text, 0, sizeof text);
		UNIT_TRUE(transport_read(&stock.server, &slice, 1) < 0);
		UNIT_STR(text, "");
		stock_end(&stock);
	}
	UNIT_CASE("a client without a key that must say its ClientHello again has shown none") {
		stock_begin(&stock, false);
		/* No share that the server takes, but a group that it does: it would be asked to try again. */
		SSL_set1_groups_list(stock.ssl, "X448:P-256");
		SSL_do_handshake(stock.ssl);
		readable(stock.server.fd, 1000);
		int err = transport_handshake(&stock.server);
		UNIT_TRUE(err != 0);
		UNIT_TRUE(!transport_shown_key(&stock.server));
		stock_end(&stock);
	}
	UNIT_CASE("no ticket is given: nothing to come back with but the key") {
		stock_begin(&stock, true);
		UNIT_EQ(stock_shake(&stock), 0);
		struct iovec back = {.iov_base = "x", .iov_len = 1};
		UNIT_EQ(transport_write(&stock.server, &back, 1), 1);
		readable(SSL_get_fd(stock.ssl), 1000);
		UNIT_EQ(SSL_read(stock.ssl, text, sizeof text), 1);
		UNIT_TRUE(!SSL_SESSION_has_ticket(SSL_get_session(stock.ssl)));
		stock_end(&stock);
	}
}

int main(void)
{
	char error[TRANSPORT_ERROR_MAX] = "";
	struct conf_key key = {.identity = "tx1"};
	int fd = mkstemp(key_name);

	close(fd);
	unlink(key_name);
	snprintf(key.key_file, sizeof key.key_file, "%s", key_name);
	UNIT_CASE("keys") {
		UNIT_EQ(psk_make(key_name), 0);
		UNIT_EQ(psk_read(&psk, key_name, error), 0);
		client_keys = transport_security_client(&key, error);
		server_keys = transport_security_server(&key, 1, error);
		UNIT_STR(error, "");
	}
	unlink(key_name);
	if (client_keys && server_keys) {
		test_pieces();
		test_strangers();
		test_stock();
	}
	transport_security_free(client_keys);
	transport_security_free(server_keys);
	return unit_exit();
}
