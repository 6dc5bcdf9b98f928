/* SPDX-License-Identifier: MIT */

/*
 * beanstalkd, by its text protocol over its Unix socket: put, reserve, delete, each of
 * them answered. A batch is written in one piece and then its answers are read.
 */

#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct conn {
	int fd;
	size_t begin, end; /* of what is read and not used */
	size_t out_size;
	char in[1 << 17], out[1 << 17];
};

static int hello(void)
{
	static const char command[] = "list-tube-used\r\n";
	int fd = dial(opt.address);

	if (fd >= 0 && write_all(fd, command, strlen(command)) &&
	    read_until(fd, "USING default\r\n"))
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

static void *open_conn(void)
{
	struct conn *conn = malloc(sizeof(*conn));

	must(conn);
	conn->begin = conn->end = conn->out_size = 0;
	conn->fd = dial(opt.address);
	must(conn->fd >= 0);
	return conn;
}

/* ---- output ---- */

static void flush(struct conn *conn)
{
	must(write_all(conn->fd, conn->out, conn->out_size));
	conn->out_size = 0;
}

static void add(struct conn *conn, const char *data, size_t size)
{
	must(size <= sizeof(conn->out));
	if (conn->out_size + size > sizeof(conn->out))
		flush(conn);
	memcpy(conn->out + conn->out_size, data, size);
	conn->out_size += size;
}

static void add_command(struct conn *conn, const char *command, unsigned long long number)
{
	char line[64];

	add(conn, line,
	    (size_t)snprintf(line, sizeof(line), "%s %llu\r\n", command, number));
}

/* ---- input ---- */

static void fill(struct conn *conn)
{
	ssize_t n;

	memmove(conn->in, conn->in + conn->begin, conn->end - conn->begin);
	conn->end -= conn->begin;
	conn->begin = 0;
	n = read(conn->fd, conn->in + conn->end, sizeof(conn->in) - conn->end);
	must(n > 0);
	conn->end += (size_t)n;
}

static char *hear_line(struct conn *conn)
{
	char *line, *newline;

	while (!(newline = memchr(conn->in + conn->begin, '\n', conn->end - conn->begin)))
		fill(conn);
	*newline = '\0';
	line = conn->in + conn->begin;
	conn->begin = (size_t)(newline + 1 - conn->in);
	return line;
}

static void expect(struct conn *conn, const char *word)
{
	const char *line = hear_line(conn);

	if (strncmp(line, word, strlen(word)) != 0)
		die("beanstalkd: not %s but %s", word, line);
}

static unsigned long long hear_job(struct conn *conn)
{
	unsigned long long id;
	size_t size;
	const char *line = hear_line(conn);

	if (sscanf(line, "RESERVED %llu %zu", &id, &size) != 2)
		die("beanstalkd: not RESERVED but %s", line);
	while (conn->end - conn->begin < size + 2)
		fill(conn);
	conn->begin += size + 2;
	return id;
}

/* ---- jobs ---- */

static void put(void *arg, unsigned int n)
{
	struct conn *conn = arg;

	for (unsigned int i = 0; i < n; i++) {
		add_command(conn, "put 0 0 60", opt.size);
		add(conn, opt.body, opt.size);
		add(conn, "\r\n", 2);
	}
	flush(conn);
	for (unsigned int i = 0; i < n; i++)
		expect(conn, "INSERTED");
}

static unsigned int take(void *arg, unsigned int n)
{
	unsigned long long jobs[BATCH_MAX];
	struct conn *conn = arg;

	for (unsigned int i = 0; i < n; i++)
		add(conn, "reserve\r\n", strlen("reserve\r\n"));
	flush(conn);
	for (unsigned int i = 0; i < n; i++)
		jobs[i] = hear_job(conn);
	for (unsigned int i = 0; i < n; i++)
		add_command(conn, "delete", jobs[i]);
	flush(conn);
	for (unsigned int i = 0; i < n; i++)
		expect(conn, "DELETED");
	return n;
}

static uint64_t left(void)
{
	struct conn *conn = open_conn();
	unsigned long long n;

	add(conn, "stats-tube default\r\n", strlen("stats-tube default\r\n"));
	flush(conn);
	expect(conn, "OK");
	while (sscanf(hear_line(conn), "current-jobs-ready: %llu", &n) != 1)
		;
	close(conn->fd);
	free(conn);
	return n;
}

int main(int argc, char **argv)
{
	static const struct driver driver = {
		.hello = hello,
		.open = open_conn,
		.put = put,
		.take = take,
		.left = left,
		.takes_whole_batches = true,
	};

	return bench_main(argc, argv, &driver, NULL);
}
