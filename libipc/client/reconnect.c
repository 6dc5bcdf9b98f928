/* SPDX-License-Identifier: MIT */

/*
 * A lost connection that comes again, for programs that have asked for it.
 *
 *	alive ──client_die()──► lost ──time has come──► connecting ──hello answered──► told
 *	                          ▲                          │
 *	                          └────refused, lost again───┘
 *
 * client_die() fails all open requests, as ever. Attempts are made by whoever processes the
 * client or waits for it. Once connected, hello, what nobody has fetched, and the receivers
 * that ran are put into the output at once, before anything new of the program's; the
 * answer to hello says whether the daemon is still the same, and the program is told.
 */

#include "client/client_internal.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "client/connect.h"

enum {
	DELAY_MIN_MS = 50,
	DELAY_MAX_MS = 5000,
	DELAY_DOUBLINGS = 7,
	CONNECT_MIN_MS = 10, /* connect(2) waits only for a full backlog, unix(7) */
};

/* ---- when ---- */

/* Not quite the same for all clients of a daemon that is coming back. */
static uint64_t spread_ms(uint64_t ms, uint64_t now_ns)
{
	uint64_t any = map_u64(now_ns ^ (uint64_t)getpid());

	return ms - any % (ms / 4 + 1);
}

static uint64_t delay_ms(const struct reconnect *reconnect, uint64_t now_ns)
{
	unsigned int n = reconnect->n_failed;

	if (!n)
		return 0;
	n = n > DELAY_DOUBLINGS ? DELAY_DOUBLINGS : n - 1;
	return spread_ms(min_u64((uint64_t)DELAY_MIN_MS << n, DELAY_MAX_MS), now_ns);
}

/* The number stays taken, by something that nothing ever happens to: so the connection is
 * closed, and has left epoll sets, which it would wake as long as nobody is there. */
static int keep_number(int fd)
{
	_cleanup_fd_ int silent = eventfd(0, EFD_CLOEXEC);

	return silent < 0 || dup3(silent, fd, O_CLOEXEC) < 0 ? fd_close(fd) : fd;
}

void reconnect_prepare(struct ipc_client *client)
{
	struct reconnect *reconnect = &client->reconnect;
	uint64_t now = clock_ns(CLOCK_MONOTONIC);

	/* one that is lost again at once must not become a busy loop */
	if (now - reconnect->connected_ns >= ms_to_ns(DELAY_MAX_MS))
		reconnect->n_failed = 0;
	reconnect->next_ns = deadline_after(now, delay_ms(reconnect, now));
	reconnect->n_held += reconnect->leases.n_held;
	leases_deinit(&reconnect->leases);
	shutdown(client->stream.fd, SHUT_RDWR);
	reconnect->old_fd = keep_number(TAKE_FD(client->stream.fd));
	client_suspend_receivers(client);
}

/* ---- connecting ---- */

/* userdata: the connection that was to be greeted. */
static void on_hello(struct ipc_client *client, const struct ipc_reply *reply,
		     void *userdata)
{
	struct reconnect *reconnect = &client->reconnect;
	bool restarted = reconnect->restarted;
	uint64_t n_held = reconnect->n_held;

	if (client->failure)
		return; /* lost again, or closed, and that is known */
	if ((uintptr_t)userdata != client->connection)
		return; /* a call has made the next one, which has its own greeting */
	if (reply->error) {
		client_die(client, -ECONNRESET, "the daemon did not greet: %s",
			   ipc_reply_get_error_text(reply));
		return;
	}
	reconnect->restarted = false;
	reconnect->n_held = 0;
	reconnect->callback(client, restarted, n_held, reconnect->userdata);
}

/* Its timeout may be none at all, since that is of calls that wait: so at least as long as the
 * pause was, which grows where that is too short. */
static int64_t greeting_ms(const struct ipc_client *client)
{
	uint64_t ms = delay_ms(&client->reconnect, clock_ns(CLOCK_MONOTONIC));

	if (client->timeout_ms == IPC_FOREVER)
		return IPC_FOREVER;
	return (int64_t)max_u64((uint64_t)client->timeout_ms, ms);
}

static int put_hello(struct ipc_client *client)
{
	_cleanup_request_ptr_ struct ipc_request *request = NULL;
	struct ipc_request *open;
	int r = request_new(client, on_hello, (void *)(uintptr_t)client->connection,
			    &request);

	if (!r)
		r = client_put_hello(request);
	if (!r)
		r = request_put_async(&request, NULL, 0, &open);
	return err_trace(r < 0 ? r : ipc_request_set_timeout(open, greeting_ms(client)));
}

static int give_back(struct ipc_client *client)
{
	struct list *messages = &client->reconnect.given_back;
	struct ipc_message *message;
	int r = 0;

	while (!r && (message = LIST_FIRST(messages, struct ipc_message, link))) {
		r = client_give_back(client, message);
		ipc_message_free(message);
	}
	return err_trace(r);
}

static void begin_connection(struct ipc_client *client, int fd)
{
	client_init_stream(client, fd);
	client->reconnect.old_fd = fd_close(client->reconnect.old_fd);
	client->reconnect.connected_ns = clock_ns(CLOCK_MONOTONIC);
	client->connection++;
	client->failure = 0;
	client->parted = false;
	client->output_broken = false;
	client->write_failed = false;
	client->write_tried_at = 0;
	client->waits_with_fds = false;
}

/* The descriptor, or -errno. old_fd keeps the number of one connection: calls may have lost
 * several since the program has asked, and it compares with what it was told. */
static int connect_elsewhere(struct ipc_client *client, uint64_t deadline_ns)
{
	_cleanup_fd_ int fd = -1;
	int other, r = connect_path(client->socket, deadline_ns, &client->last, &fd);

	if (r < 0)
		return err_trace(r);
	if (fd != client->told_fd)
		return TAKE_FD(fd);
	other = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	if (other < 0)
		return client_error_set(&client->last, err_origin(-EMFILE),
					"cannot connect to %s: %s", client->socket,
					strerror(EMFILE));
	return other;
}

static void connect_again(struct ipc_client *client, uint64_t deadline_ns)
{
	struct reconnect *reconnect = &client->reconnect;
	uint64_t now = clock_ns(CLOCK_MONOTONIC);
	int fd, r;

	reconnect->n_failed++;
	fd = connect_elsewhere(client,
			       max_u64(deadline_ns, deadline_after(now, CONNECT_MIN_MS)));
	if (fd < 0) {
		reconnect->next_ns = deadline_after(now, delay_ms(reconnect, now));
		return;
	}
	begin_connection(client, fd);
	r = put_hello(client);
	if (!r)
		r = give_back(client);
	if (!r)
		r = client_resume_receivers(client);
	if (!r)
		r = client_write(client);
	if (r < 0)
		client_die(client, r, "no memory to connect again");
}

int reconnect_step(struct ipc_client *client, uint64_t deadline_ns)
{
	uint64_t next = client->reconnect.next_ns;
	uint64_t ms;

	if (!client_reconnects(client))
		return err_trace(client_check(client));
	if (!client_ms_until(next)) {
		connect_again(client, deadline_ns);
		return 0;
	}
	if (!client_ms_until(deadline_ns))
		return -ETIMEDOUT;
	ms = client_ms_until(min_u64(next, deadline_ns));
	poll(NULL, 0, ms > INT_MAX ? INT_MAX : (int)ms); /* a signal makes it shorter */
	return 0;
}

void reconnect_try(struct ipc_client *client)
{
	if (client->failure && client_reconnects(client) &&
	    !client_ms_until(client->reconnect.next_ns))
		connect_again(client, 0);
}

int client_await(struct ipc_client *client, uint64_t deadline_ns)
{
	int r = 0;

	while (client->failure && !r)
		r = reconnect_step(client, deadline_ns);
	return err_trace(client_check(client));
}

/* ---- the program's side ---- */

int ipc_client_set_reconnect(struct ipc_client *client, ipc_reconnect_fn callback,
			     void *userdata)
{
	int r = client_check(client);

	if (!r && !callback)
		r = client_error_set(&client->error, err_origin(-EINVAL),
				     "nobody to be told of a new connection");
	if (r < 0)
		return err_trace(r);
	client->reconnect.callback = callback;
	client->reconnect.userdata = userdata;
	return 0;
}

void reconnect_deinit(struct ipc_client *client)
{
	struct reconnect *reconnect = &client->reconnect;
	struct ipc_message *message;

	while ((message = LIST_FIRST(&reconnect->given_back, struct ipc_message, link)))
		ipc_message_free(message);
	leases_deinit(&reconnect->leases);
	reconnect->old_fd = fd_close(reconnect->old_fd);
}
