/* SPDX-License-Identifier: MIT */

/*
 * The whole daemon, in this process: a few connections over socket pairs, the input chooses
 * who says what. Most of it becomes well-formed operations on a handful of names, ids and
 * message numbers, so that deep states are reached; some of it goes raw onto the wire.
 * What comes back must be frames. At the end of each input all connections close and all
 * queues are deleted: nothing may be left charged to anybody.
 */

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "log.h"
#include "peer.h"
#include "queue.h"
#include "server.h"

enum { PEERS = 3, PASSES_AT_END = 1000, BODY_MAX = 70000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define must(condition)                                                                 \
	do {                                                                            \
		if (!(condition)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			abort();                                                        \
		}                                                                       \
	} while (0)

struct client {
	bool open;
	struct stream stream;
	char lease[17];
	uint64_t message;
};

static struct server *server;
static struct reader *reader;
static struct timer awake;
static struct client clients[PEERS];
static char body[BODY_MAX];

static struct {
	const uint8_t *data;
	size_t size;
} input;

/* The input is a source of choices; when it is used up all choices are 0. */
static unsigned int choose(unsigned int below)
{
	unsigned int value;

	if (!input.size)
		return 0;
	value = input.data[0];
	input.data++;
	input.size--;
	return value % below;
}

/* ---- the daemon ---- */

static void on_awake(struct timer *timer)
{
	(void)timer;
}

static void on_known(struct user_waiter *waiter)
{
	(void)waiter;
}

static void pass(void)
{
	must(timer_set(&server->loop, &awake, 1) == 0); /* due: the pass does not wait */
	must(loop_pass(&server->loop) == 0);
}

/* The name of our own user comes from a worker: once, and kept by a reference. */
static void learn_user_name(void)
{
	static struct user_waiter waiter;
	struct user *user;

	list_init(&waiter.link);
	waiter.known = on_known;
	must(user_get(&server->users, geteuid(), &user) == 0);
	if (user_name_wait(user, &waiter))
		return;
	while (!user->name_known) {
		usleep(1000);
		pass();
	}
}

static void start_daemon(void)
{
	static char directory[] = "/tmp/ipcd-fuzz.XXXXXX", socket_path[64];
	static struct server_config config = { .ready_fd = -1,
					       .system_mode = true,
					       .limits = { 0 } };

	must(mkdtemp(directory));
	snprintf(socket_path, sizeof(socket_path), "%s/s", directory);
	config.socket = socket_path;
	config.limits = limits_default;
	config.limits.queue_messages = 20;
	config.limits.user_messages = 50;
	config.limits.max_attempts = 3;
	config.limits.lost_delay = 0;
	config.limits.body_max = 65536;
	config.limits.buffer_per_connection = 65536;
	log_set_level(LEVEL_ERROR);
	must(server_new(&server, &config) == 0);
	must(reader_new(&reader) == 0);
	timer_init(&awake, TIMER_MONOTONIC, on_awake);
	learn_user_name();
	unlink(socket_path);
	strcat(socket_path, ".lock");
	unlink(socket_path);
	rmdir(directory);
}

/* ---- the clients ---- */

static void client_close(struct client *c)
{
	if (c->open)
		stream_deinit(&c->stream);
	*c = (struct client){ .open = false };
}

static void client_open(struct client *c)
{
	int fds[2];

	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) ==
	     0);
	peer_accept(server, fds[1]);
	stream_init(&c->stream, fds[0], UINT32_MAX);
	c->open = true;
}

static void note_frame(struct client *c, const struct frame *frame)
{
	struct fault fault;
	const char *lease;
	size_t size;
	uint64_t number;

	if (header_get_string(frame->header, KEY_LEASE, 16, 16, &lease, &size, &fault) ==
	    1)
		memcpy(c->lease, lease, 16);
	if (header_get_u64(frame->header, KEY_MESSAGE, 1, LIMIT_NUMBER_MAX, &number,
			   &fault) == 1)
		c->message = number;
}

/* Whatever comes from the daemon is a frame with a strict header. */
static void client_read(struct client *c)
{
	struct frame frame;
	struct fault fault;
	bool drained;
	int r;

	while (c->open) {
		r = stream_read(&c->stream, reader, MSG_DONTWAIT, &drained);
		if (r == STREAM_E_AGAIN)
			return;
		if (r) {
			client_close(c);
			return;
		}
		while ((r = stream_next(&c->stream, reader, &frame, &fault)) ==
		       STREAM_E_FRAME)
			note_frame(c, &frame);
		must(r == 0);
	}
}

static void client_send(struct client *c, const void *data, size_t size)
{
	if (size)
		(void)!send(c->stream.fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* ---- what is said ---- */

static void say(struct client *c, size_t body_size, const char *format, ...)
	PRINTF_LIKE(3, 4);
static void say(struct client *c, size_t body_size, const char *format, ...)
{
	char frame[2048];
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(frame + 4, sizeof(frame) - 4, format, args);
	va_end(args);
	frame_encode_length(frame, (size_t)n);
	client_send(c, frame, (size_t)n + 4);
	client_send(c, body, body_size);
}

static const char *some_name(void)
{
	static const char *const names[] = { "a",    "b",     "c.d",	"@0",
					     "@0.x", "@1000", "ipcd.x", "" };

	return names[choose(ARRAY_SIZE(names))];
}

static unsigned int some_size(void)
{
	static const unsigned int sizes[] = { 0, 1, 100, 5000, 32768, 65536, 65537 };

	return sizes[choose(ARRAY_SIZE(sizes))];
}

static uint64_t some_message(const struct client *c)
{
	uint64_t back = choose(8);

	return c->message > back ? c->message - back : 1;
}

static void say_send(struct client *c)
{
	unsigned int size = some_size(), kind = choose(8);

	say(c, size,
	    "{\"op\":\"send\",\"id\":%u,\"queue\":\"%s\",\"size\":%u,\"priority\":%u,"
	    "\"wait_ms\":%d,\"delay_ms\":%u,\"ttl_ms\":%u,\"confirm\":\"%s\"%s}",
	    choose(16), some_name(), size, choose(11), (int)choose(3) - 1,
	    kind == 1 ? 1 : 0, kind == 2 ? 1 : 100000, kind == 3 ? "acked" : "stored",
	    kind == 4	? ",\"more\":true"
	    : kind == 5 ? ",\"meta\":{\"k\":1}"
			: "");
}

static const char *some_filter(void)
{
	static const char *const filters[] = {
		"",
		",\"filter\":{}",
		",\"filter\":{\"older_ms\":0,\"attempt_max\":1}",
		",\"filter\":{\"newer_ms\":10000,\"priority_min\":3,\"uid\":0}",
		",\"filter\":{\"meta\":{\"k\":1}}",
		",\"filter\":{\"meta\":{\"k\":[]}}",
		",\"filter\":{\"x\":1}",
	};

	return filters[choose(ARRAY_SIZE(filters))];
}

static void say_receive(struct client *c)
{
	say(c, 0,
	    "{\"op\":\"receive\",\"id\":%u,\"queues\":[\"%s\",\"%s\"],\"max\":%u,\"window\":%u,"
	    "\"wait_ms\":%d,\"ack_wait_ms\":%d,\"peek\":%s,\"dead\":%s%s}",
	    choose(16), some_name(), some_name(), choose(5), 1 + choose(6),
	    (int)choose(4) - 1, choose(2) ? -1 : 1, choose(6) ? "false" : "true",
	    choose(6) ? "false" : "true", choose(4) ? "" : some_filter());
}

static void say_verdict(struct client *c)
{
	static const char *const ops[] = { "ack", "nack", "reject", "touch" };
	const char *op = ops[choose(4)];

	switch (choose(3)) {
	case 0:
		say(c, 0, "{\"op\":\"%s\",\"message\":%llu,\"delay_ms\":%u}", op,
		    (unsigned long long)some_message(c), choose(2));
		break;
	case 1:
		say(c, 0,
		    "{\"op\":\"%s\",\"id\":%u,\"message\":%llu,\"lease\":\"%s\",\"count\":%s}",
		    op, choose(16), (unsigned long long)some_message(c),
		    clients[choose(PEERS)].lease, choose(2) ? "true" : "false");
		break;
	default:
		say(c, 0,
		    "{\"op\":\"%s\",\"id\":%u,\"messages\":[%llu,%llu],\"reason\":\"no\"}",
		    op, choose(16), (unsigned long long)some_message(c),
		    (unsigned long long)some_message(c));
	}
}

static void say_name(struct client *c)
{
	static const char *const ops[] = { "create", "set",	"delete", "purge",
					   "move",   "explain", "names" };
	static const char *const modes[] = { "0600", "0666", "0000", "0622" };
	static const char *const states[] = { "all", "dead", "ready", "delayed",
					      "leased" };

	say(c, 0,
	    "{\"op\":\"%s\",\"id\":%u,\"name\":\"%s\",\"mode\":\"%s\",\"state\":\"%s\","
	    "\"queue_messages\":%u,\"max_attempts\":%u,\"backoff\":[0,%u]%s%s}",
	    ops[choose(ARRAY_SIZE(ops))], choose(16), some_name(), modes[choose(4)],
	    states[choose(5)], 1 + choose(30), 1 + choose(3), choose(4),
	    choose(2) ? ",\"to\":\"b\"" : "", some_filter());
}

static void say_other(struct client *c)
{
	switch (choose(7)) {
	case 0:
		say(c, 0, "{\"op\":\"hello\",\"id\":%u,\"pieces\":%s}", choose(16),
		    choose(2) ? "true" : "false");
		break;
	case 1:
		say(c, 0, "{\"op\":\"cancel\",\"id\":%u,\"request\":%u}", choose(16),
		    choose(16));
		break;
	case 2:
		say(c, 100, "{\"id\":%u,\"size\":100%s}", choose(16),
		    choose(2) ? ",\"more\":true" : "");
		break;
	case 3:
		say(c, 0, "{\"id\":%u,\"abort\":\"x\"}", choose(16));
		break;
	case 4:
		say(c, 0, "{\"op\":\"stats\",\"id\":%u}", choose(16));
		break;
	case 5:
		say(c, 0, "{\"op\":\"peers\",\"id\":%u}", choose(16));
		break;
	default:
		say(c, 50, "{\"op\":\"ping\",\"id\":%u,\"size\":50}", choose(16));
	}
}

static void say_raw(struct client *c)
{
	size_t size = choose(64);

	size = min_size(size, input.size);
	client_send(c, input.data, size);
	input.data += size;
	input.size -= size;
}

static void one_step(void)
{
	struct client *c = &clients[choose(PEERS)];

	if (!c->open)
		client_open(c);
	switch (choose(16)) {
	case 0 ... 3:
		say_send(c);
		break;
	case 4 ... 6:
		say_receive(c);
		break;
	case 7 ... 9:
		say_verdict(c);
		break;
	case 10:
		say_name(c);
		break;
	case 11:
		say_other(c);
		break;
	case 12:
		say_raw(c);
		break;
	case 13:
		client_close(c);
		break;
	case 14:
		shutdown(c->stream.fd, SHUT_WR);
		break;
	default:
		client_read(c);
	}
	if (choose(3))
		pass();
}

/* ---- one input ---- */

static void tear_down(void)
{
	struct name *name;
	struct map_node *node;

	for (int i = 0; i < PEERS; i++)
		client_close(&clients[i]);
	for (int i = 0; i < PASSES_AT_END && server->n_peers; i++)
		pass();
	must(server->n_peers == 0);
	while ((name = LIST_FIRST(&server->broker.all_names, struct name, link)))
		queue_delete(queue_of_name(name));
	must(server->broker.messages.n == 0 && server->broker.message_bytes == 0);
	must(server->broker.confirms.n == 0 && server->broker.names.n == 0);
	for (node = map_first(&server->users.by_uid); node;
	     node = map_after(&server->users.by_uid, node)) {
		const struct usage *u = &CONTAINER_OF(node, struct user, by_uid)->usage;

		must(!u->messages && !u->bytes && !u->names && !u->connections &&
		     !u->buffer_bytes && !u->waiting_bytes && !u->held_bytes);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!server)
		start_daemon();
	input.data = data;
	input.size = size;
	while (input.size)
		one_step();
	tear_down();
	return 0;
}
