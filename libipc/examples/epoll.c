/* SPDX-License-Identifier: MIT */

/*
 * epoll QUEUE: prints the messages of a queue, one a line, until one says "quit".
 *
 * The client is one of several things in an epoll(7) loop, here with a signalfd(2). It
 * outlives the daemon: when the connection is lost the client makes another, whose
 * descriptor has to be registered.
 */

#include <ipc/ipc.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

struct program {
	struct ipc_client *client;
	int epoll, signals;
	int registered;	     /* the client's descriptor, or negative */
	unsigned int events; /* for which it is */
	bool quit;
};

static void on_message(struct ipc_client *client, struct ipc_receiver *receiver,
		       struct ipc_message *message, void *userdata)
{
	struct program *program = userdata;
	size_t size;
	const char *body;

	if (!message) {
		fprintf(stderr, "ended: %s\n", ipc_receiver_get_end(receiver));
		program->quit = true;
		return;
	}
	body = ipc_message_get_body(message, &size);
	program->quit = size == 4 && !memcmp(body, "quit", 4);
	printf("%.*s\n", (int)size, body);
	fflush(stdout);
	if (ipc_ack(client, message) < 0) /* then it comes again */
		fprintf(stderr, "ack: %s\n", ipc_client_get_error(client));
	ipc_message_free(message);
}

static void on_reconnect(struct ipc_client *client, bool restarted, uint64_t n_held,
			 void *userdata)
{
	(void)userdata;
	printf("connected again: %s, %s, %llu held\n", ipc_client_get_server(client),
	       restarted ? "another daemon" : "the same daemon",
	       (unsigned long long)n_held);
	fflush(stdout);
}

/* Before each epoll_wait(2). A closed descriptor has left the epoll set by itself. */
static int update(struct program *program)
{
	int fd = ipc_client_get_fd(program->client);
	int wanted = ipc_client_get_events(program->client);
	struct epoll_event event = {
		.events = EPOLLIN | (wanted & POLLOUT ? EPOLLOUT : 0), .data.fd = fd
	};
	bool is_new = fd != program->registered;

	if (is_new && program->registered >= 0)
		epoll_ctl(program->epoll, EPOLL_CTL_DEL, program->registered, NULL);
	program->registered = fd;
	if (fd < 0 || (!is_new && program->events == event.events))
		return 0;
	program->events = event.events;
	return epoll_ctl(program->epoll, is_new ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd,
			 &event);
}

static int run(struct program *program)
{
	struct epoll_event event;
	int n, r = 0;

	while (!program->quit && r >= 0) {
		if (update(program) < 0)
			return -errno;
		n = epoll_wait(program->epoll, &event, 1,
			       ipc_client_get_timeout(program->client));
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0 && event.data.fd == program->signals)
			program->quit = true;
		else
			r = ipc_client_process(program->client);
	}
	return r < 0 ? r : ipc_client_flush(program->client);
}

static int start(struct program *program, const char *queue)
{
	struct ipc_receiver *receiver; /* ends with the client */
	int r = ipc_client_set_reconnect(program->client, on_reconnect, program);

	if (!r)
		r = ipc_receiver_new(program->client, &receiver);
	if (!r)
		r = ipc_receiver_add_queue(receiver, queue);
	if (!r)
		r = ipc_receiver_set_callback(receiver, on_message, program);
	if (!r)
		r = ipc_receiver_start(receiver);
	return r;
}

static int watch_signals(struct program *program)
{
	struct epoll_event event = { .events = EPOLLIN };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	program->epoll = epoll_create1(EPOLL_CLOEXEC);
	program->signals = signalfd(-1, &set, SFD_CLOEXEC);
	event.data.fd = program->signals;
	return epoll_ctl(program->epoll, EPOLL_CTL_ADD, program->signals, &event);
}

int main(int argc, char **argv)
{
	struct program program = { .registered = -1 };
	int r;

	if (argc != 2 || watch_signals(&program) < 0) {
		fprintf(stderr, "usage: epoll QUEUE\n");
		return 1;
	}
	r = ipc_client_open(NULL, 0, &program.client);
	if (!r)
		r = start(&program, argv[1]);
	if (!r)
		r = run(&program);
	if (r < 0)
		fprintf(stderr, "epoll: %s\n", ipc_client_get_error(program.client));
	ipc_client_close(program.client);
	close(program.signals);
	close(program.epoll);
	return r < 0 ? 2 : 0;
}
