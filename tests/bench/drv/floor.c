/* SPDX-License-Identifier: MIT */

/*
 * The floors: what the kernel and the disk give without any broker.
 *
 *	pingpong   two processes and a socket pair
 *	relay      the smallest broker between them: epoll, one read and one write a message
 *	handover   a descriptor by a socket pair
 *	spawn      a process from start to end (the arguments after the options)
 *	append     -p records of -s bytes to the end of a file in -D, and one fdatasync().
 *	           Variant "written": over what was written before, so that neither the
 *	           file's size nor its extents change and the file system's journal rests
 *	commit     the smallest broker that stores: -c clients send a record each and wait;
 *	           epoll, a read from each that has sent, one append and one fdatasync() for
 *	           all of them, one write to each. Variant as above
 */

#include "bench.h"

#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	WRITTEN_BYTES = 32 << 20,
	CLIENTS_MAX = 64,
};

static int client_pair[2], service_pair[2];

static void make_pair(int pair[2])
{
	must(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
}

static void echo(int fd)
{
	role_ready();
	while (read_all(fd, opt.body, opt.size) && write_all(fd, opt.body, opt.size))
		;
}

static void echo_to_client(unsigned int index)
{
	(void)index;
	echo(client_pair[1]);
}

static void echo_to_relay(unsigned int index)
{
	(void)index;
	echo(service_pair[1]);
}

static void ping(unsigned int index)
{
	int fd = client_pair[0];

	role_ready();
	for (;;) {
		uint64_t begin = now_ns();

		must(write_all(fd, opt.body, opt.size) &&
		     read_all(fd, opt.body, opt.size));
		count_latency(begin);
		count_done(index, 1);
	}
}

static void forward(int from, int to)
{
	static char data[65536];
	ssize_t n = read(from, data, sizeof(data));

	must(n > 0 && write_all(to, data, (size_t)n));
}

static void relay(unsigned int index)
{
	int ends[2] = { client_pair[1], service_pair[0] };
	int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event events[2];

	(void)index;
	for (unsigned int i = 0; i < 2; i++) {
		events[i] = (struct epoll_event){ .events = EPOLLIN, .data.u32 = i };
		must(!epoll_ctl(epoll_fd, EPOLL_CTL_ADD, ends[i], &events[i]));
	}
	role_ready();
	for (;;) {
		int n = epoll_wait(epoll_fd, events, 2, -1);

		for (int i = 0; i < n; i++)
			forward(ends[events[i].data.u32], ends[1 - events[i].data.u32]);
	}
}

static void verb_pingpong(void)
{
	make_pair(client_pair);
	role_start(echo_to_client, 0);
	role_start(ping, 1);
	measure_and_report();
}

static void verb_relay(void)
{
	make_pair(client_pair);
	make_pair(service_pair);
	role_start(relay, 0);
	role_is_server(0);
	role_start(echo_to_relay, 1);
	role_start(ping, 2);
	measure_and_report();
}

/* ---- a descriptor ---- */

union control {
	char data[CMSG_SPACE(sizeof(int))];
	struct cmsghdr aligned;
};

static void *pair_to_give(void)
{
	return &client_pair[0];
}

static void *pair_to_get(void)
{
	return &client_pair[1];
}

static void give(void *conn, int fd)
{
	struct iovec data = { opt.body, opt.size };
	union control control = { 0 };
	struct msghdr message = {
		.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = control.data,
		.msg_controllen = sizeof(control.data),
	};
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);

	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(head), &fd, sizeof(fd));
	must(sendmsg(*(int *)conn, &message, 0) == (ssize_t)opt.size);
}

static int get(void *conn)
{
	static int fd = -1;
	struct iovec data = { opt.body, opt.size };
	union control control;
	struct msghdr message = {
		.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = control.data,
		.msg_controllen = sizeof(control.data),
	};

	if (fd >= 0)
		close(fd);
	must(recvmsg(*(int *)conn, &message, MSG_CMSG_CLOEXEC) == (ssize_t)opt.size);
	must(CMSG_FIRSTHDR(&message));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
	return fd;
}

static void verb_handover(void)
{
	static const struct driver by_pair = {
		.open = pair_to_give,
		.open_getter = pair_to_get,
		.give = give,
		.get = get,
	};

	make_pair(client_pair);
	bench_handover(&by_pair);
}

/* ---- processes and the disk ---- */

static void spawn_again(unsigned int index)
{
	posix_spawn_file_actions_t actions;
	pid_t pid;
	int status;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", 0, 0);
	posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", 1, 0);
	role_ready();
	for (;;) {
		uint64_t begin = now_ns();

		must(!posix_spawnp(&pid, opt.arguments[0], &actions, NULL, opt.arguments,
				   environ));
		must(waitpid(pid, &status, 0) == pid);
		if (status)
			die("%s has failed with status %d", opt.arguments[0], status);
		count_latency(begin);
		count_done(index, 1);
	}
}

static void verb_spawn(void)
{
	must(opt.arguments[0]);
	role_start(spawn_again, 0);
	measure_and_report();
}

static int open_log(void)
{
	char path[PATH_MAX];
	int fd;

	must(snprintf(path, sizeof(path), "%s/log", opt.directory) < PATH_MAX);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	must(fd >= 0 && !unlink(path));
	return fd;
}

static void write_beforehand(int fd)
{
	static const char zeros[1 << 20];

	for (int i = 0; i < WRITTEN_BYTES / (int)sizeof(zeros); i++)
		must(write_all(fd, zeros, sizeof(zeros)));
	must(!fsync(fd) && !lseek(fd, 0, SEEK_SET));
}

struct log {
	int fd;
	size_t at;
	bool written;
};

static struct log log_new(void)
{
	struct log log = { .fd = open_log(), .written = !strcmp(opt.variant, "written") };

	if (log.written)
		write_beforehand(log.fd);
	return log;
}

static void log_commit(struct log *log, const char *records, size_t size)
{
	if (log->written && log->at + size > WRITTEN_BYTES)
		log->at = (size_t)lseek(log->fd, 0, SEEK_SET);
	must(write_all(log->fd, records, size) && !fdatasync(log->fd));
	log->at += size;
}

static void append(unsigned int index)
{
	size_t size = opt.size * opt.batch;
	char *records = malloc(size);
	struct log log = log_new();

	must(records);
	memset(records, 'r', size);
	role_ready();
	for (;;) {
		uint64_t begin = now_ns();

		log_commit(&log, records, size);
		count_latency(begin);
		count_done(index, opt.batch);
	}
}

static void verb_append(void)
{
	role_start(append, 0);
	measure_and_report();
}

/* ---- many clients and the disk ---- */

static int committing_pairs[CLIENTS_MAX][2];
static const char committed[8]; /* an answer, as short as they are */

static void send_record(unsigned int index)
{
	int fd = committing_pairs[index - 1][0];
	char answer[sizeof(committed)];

	role_ready();
	for (;;) {
		uint64_t begin = now_ns();

		must(write_all(fd, opt.body, opt.size) &&
		     read_all(fd, answer, sizeof(answer)));
		count_latency(begin);
		count_done(index, 1);
	}
}

static void commit(unsigned int index)
{
	struct epoll_event events[CLIENTS_MAX];
	int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	char *records = malloc(opt.size * CLIENTS_MAX);
	struct log log = log_new();

	(void)index;
	must(records);
	for (unsigned int i = 0; i < opt.n_clients; i++) {
		int fd = committing_pairs[i][1];

		events[i] = (struct epoll_event){ .events = EPOLLIN, .data.fd = fd };
		must(!epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &events[i]));
	}
	role_ready();
	for (;;) {
		int n = epoll_wait(epoll_fd, events, CLIENTS_MAX, -1);

		must(n > 0);
		for (int i = 0; i < n; i++)
			must(read_all(events[i].data.fd, records + (size_t)i * opt.size,
				      opt.size));
		log_commit(&log, records, (size_t)n * opt.size);
		for (int i = 0; i < n; i++)
			must(write_all(events[i].data.fd, committed, sizeof(committed)));
	}
}

static void verb_commit(void)
{
	must(opt.n_clients <= CLIENTS_MAX);
	for (unsigned int i = 0; i < opt.n_clients; i++)
		make_pair(committing_pairs[i]);
	role_start(commit, 0);
	role_is_server(0);
	for (unsigned int i = 0; i < opt.n_clients; i++)
		role_start(send_record, i + 1);
	measure_and_report();
}

int main(int argc, char **argv)
{
	static const struct verb verbs[] = {
		{ "pingpong", verb_pingpong },
		{ "relay", verb_relay },
		{ "handover", verb_handover },
		{ "spawn", verb_spawn },
		{ "append", verb_append },
		{ "commit", verb_commit },
		{ 0 },
	};

	return bench_main(argc, argv, NULL, verbs);
}
