/* SPDX-License-Identifier: MIT */

/*
 * ipcd, and whole files; and what the kernel needs for the same. Each verb does its work
 * -n times and takes the median. The arguments are the SOURCE, a file in the page cache,
 * and the DIRECTORY to write to.
 *
 *	copy       the floor: copy_file_range() into a new file; variant "synced": and
 *	           fsync()
 *	stream     the floor: as many bytes by a socket pair, 1 MiB at a time, from and to
 *	           memory
 *	snapshot   ipc_send_message() of the file until it is answered; to a queue in
 *	           memory, variant "durable": to one on the disk
 *	save       from ipc_receive() until ipc_message_save() has made a file
 *	streamin   a client that has not said hello sends the bytes in one frame, until
 *	           the answer
 *	streamout  a client that has not said hello receives them in one frame, and writes
 *	           them into a file
 *	beside     pings and short sends for -t seconds; and again while a snapshot and a
 *	           stream go through, each once, until both have ended
 */

#include "bench.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <ipc/ipc.h>

#define QUEUE "files"
#define SMALL_QUEUE "small"

enum {
	CHUNK = 1 << 20,    /* of a stream */
	RANGE = 16 << 20,   /* of copy_file_range(), which can be ended between two */
	HEADER_MAX = 65536, /* of a frame of ipcd's */
	SAMPLES_MAX = 4000000,
	TIMEOUT_MS = 60000,
};

static char chunk[CHUNK];

/* ---- files ---- */

static int open_source(off_t *ret_size)
{
	int fd = open(opt.arguments[0], O_RDONLY | O_CLOEXEC);
	struct stat st;

	must(fd >= 0 && !fstat(fd, &st));
	*ret_size = st.st_size;
	return fd;
}

static int open_directory(void)
{
	int fd = open(opt.arguments[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	must(fd >= 0);
	return fd;
}

static int make_file(int directory)
{
	int fd = openat(directory, "file", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	must(fd >= 0);
	return fd;
}

/* It must be there, with all its bytes. */
static void remove_file(int directory, off_t size)
{
	struct stat st;

	must(!fstatat(directory, "file", &st, 0));
	if (st.st_size != size)
		die("the file has %lld of %lld bytes", (long long)st.st_size,
		    (long long)size);
	must(!unlinkat(directory, "file", 0));
}

/* ---- what is measured ---- */

struct spent {
	uint64_t ns, cpu_server, cpu_clients;
};

static uint64_t ns_of(struct timeval t)
{
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_usec * 1000u;
}

/* Of this process, and of those it has waited for. */
static uint64_t own_cpu(void)
{
	uint64_t ns = 0;

	for (int who = RUSAGE_CHILDREN; who <= RUSAGE_SELF; who++) {
		struct rusage used;

		must(!getrusage(who, &used));
		ns += ns_of(used.ru_utime) + ns_of(used.ru_stime);
	}
	return ns;
}

static struct spent begin(void)
{
	return (struct spent){ now_ns(), cpu_of_servers(), own_cpu() };
}

static struct spent since(struct spent begun)
{
	return (struct spent){ now_ns() - begun.ns, cpu_of_servers() - begun.cpu_server,
			       own_cpu() - begun.cpu_clients };
}

static int compare_spent(const void *a, const void *b)
{
	const struct spent *x = a, *y = b;

	return (x->ns > y->ns) - (x->ns < y->ns);
}

static void report_spent(struct spent *all, off_t size)
{
	struct spent *median = &all[opt.n / 2];

	qsort(all, opt.n, sizeof(*all), compare_spent);
	say("{\"seconds\":%.6f,\"bytes\":%lld,\"rate\":%.4f,\"us_server\":%.0f,"
	    "\"us_clients\":%.0f}",
	    (double)median->ns / 1e9, (long long)size, (double)size / (double)median->ns,
	    (double)median->cpu_server / 1e3, (double)median->cpu_clients / 1e3);
}

/* once() returns what it has spent. */
static void again(struct spent (*once)(void))
{
	struct spent *all = calloc(opt.n, sizeof(*all));
	off_t size;

	must(all && opt.n);
	close(open_source(&size));
	for (unsigned int i = 0; i < opt.n; i++)
		all[i] = once();
	report_spent(all, size);
	free(all);
}

/* ---- the floors ---- */

static struct spent copy(void)
{
	int directory = open_directory(), from, to;
	struct spent spent = begin();
	off_t size;
	ssize_t n;

	from = open_source(&size);
	to = make_file(directory);
	while ((n = copy_file_range(from, NULL, to, NULL, RANGE, 0)) > 0)
		;
	must(n == 0);
	if (!strcmp(opt.variant, "synced"))
		must(!fsync(to));
	must(!close(to) && !close(from));
	spent = since(spent);
	remove_file(directory, size);
	close(directory);
	return spent;
}

static void verb_copy(void)
{
	again(copy);
}

static void read_chunks(int fd, off_t size)
{
	for (; size > 0; size -= CHUNK)
		must(read_all(fd, chunk, size < CHUNK ? (size_t)size : CHUNK));
}

static pid_t start_child(void)
{
	pid_t pid = fork();

	must(pid >= 0);
	if (!pid)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

static void check_child(pid_t pid, int status)
{
	if (status)
		die("process %d has failed", (int)pid);
}

static void wait_for_child(pid_t pid)
{
	int status;

	must(waitpid(pid, &status, 0) == pid);
	check_child(pid, status);
}

static struct spent stream(void)
{
	struct spent spent;
	int pair[2];
	off_t size;
	pid_t pid;

	close(open_source(&size));
	must(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	spent = begin();
	pid = start_child();
	if (!pid) {
		read_chunks(pair[1], size);
		_exit(0);
	}
	for (off_t left = size; left > 0; left -= CHUNK)
		must(write_all(pair[0], chunk, left < CHUNK ? (size_t)left : CHUNK));
	wait_for_child(pid);
	spent = since(spent);
	close(pair[0]);
	close(pair[1]);
	return spent;
}

static void verb_stream(void)
{
	again(stream);
}

/* ---- by libipc ---- */

static void check(const struct ipc_client *client, int r)
{
	if (r < 0)
		die("ipcd: %s", ipc_client_get_error(client));
}

static struct ipc_client *open_client(void)
{
	struct ipc_client *client;

	check(client, ipc_client_open(opt.address, 0, &client));
	check(client, ipc_client_set_timeout(client, TIMEOUT_MS));
	return client;
}

/* Without a state directory all queues are in memory. */
static void make_queue(struct ipc_client *client, const char *name)
{
	const char *setting = strcmp(opt.variant, "durable") ? "durable=false"
							     : "durable=true";
	int r = ipc_name_create(client, name, &setting, 1);

	if (r != -EEXIST)
		check(client, r);
}

static struct ipc_client *open_client_and_queue(void)
{
	struct ipc_client *client = open_client();

	make_queue(client, QUEUE);
	return client;
}

static void send_file(struct ipc_client *client)
{
	struct ipc_message *message;
	off_t size;
	int fd = open_source(&size);

	must(!ipc_message_new(&message) && !ipc_message_set_file(message, fd, "file", 0));
	check(client, ipc_send_message(client, QUEUE, message, 0, 0, NULL));
	ipc_message_free(message);
	close(fd);
}

static void purge(struct ipc_client *client)
{
	uint64_t n;

	check(client, ipc_name_purge(client, QUEUE, NULL, NULL, &n));
	must(n == 1);
}

static struct spent snapshot(void)
{
	struct ipc_client *client = open_client_and_queue();
	struct spent spent = begin();

	send_file(client);
	spent = since(spent);
	purge(client);
	ipc_client_close(client);
	return spent;
}

static void verb_snapshot(void)
{
	again(snapshot);
}

/* What the daemon has written must not burden what comes now. */
static void settle(int directory)
{
	must(!syncfs(directory));
}

static struct spent save(void)
{
	struct ipc_client *client = open_client_and_queue();
	int directory = open_directory();
	struct ipc_message *message;
	struct spent spent;
	off_t size;

	close(open_source(&size));
	send_file(client);
	settle(directory);
	spent = begin();
	check(client, ipc_receive(client, QUEUE, TIMEOUT_MS, &message));
	errno = -ipc_message_save(message, directory, "file", 0, NULL);
	must(!errno);
	spent = since(spent);
	check(client, ipc_ack(client, message));
	ipc_message_free(message);
	ipc_client_close(client);
	remove_file(directory, size);
	close(directory);
	return spent;
}

static void verb_save(void)
{
	again(save);
}

/* ---- without libipc: a program that knows frames and no more ---- */

static int dial_daemon(void)
{
	int fd = dial(opt.address);

	must(fd >= 0);
	return fd;
}

static void write_header(int fd, const char *header)
{
	uint32_t size = htole32((uint32_t)strlen(header));

	must(write_all(fd, &size, sizeof(size)) && write_all(fd, header, strlen(header)));
}

/* Its body is not read yet. */
static char *read_header(int fd)
{
	static char header[HEADER_MAX + 1];
	uint32_t size;

	must(read_all(fd, &size, sizeof(size)));
	size = le32toh(size);
	must(size <= HEADER_MAX && read_all(fd, header, size));
	header[size] = '\0';
	if (strstr(header, "\"error\""))
		die("ipcd: %s", header);
	return header;
}

/* A number of a header; the daemon writes none with blanks. */
static long long number_of(const char *header, const char *key)
{
	const char *at = strstr(header, key);

	must(at);
	return strtoll(at + strlen(key), NULL, 10);
}

static void stream_in(int fd)
{
	char header[256];
	off_t size;
	int from = open_source(&size);

	snprintf(header, sizeof(header),
		 "{\"op\":\"send\",\"id\":1,\"queue\":\"" QUEUE "\",\"size\":%lld}",
		 (long long)size);
	write_header(fd, header);
	for (off_t left = size; left > 0;) {
		ssize_t n = read(from, chunk, left < CHUNK ? (size_t)left : CHUNK);

		must(n > 0 && write_all(fd, chunk, (size_t)n));
		left -= n;
	}
	must(number_of(read_header(fd), "\"message\":") > 0);
	close(from);
}

static struct spent stream_in_once(void)
{
	struct ipc_client *client = open_client_and_queue();
	int fd = dial_daemon();
	struct spent spent = begin();

	stream_in(fd);
	spent = since(spent);
	close(fd);
	purge(client);
	ipc_client_close(client);
	return spent;
}

static void verb_streamin(void)
{
	again(stream_in_once);
}

/* The message's number. */
static long long stream_out(int fd, int directory)
{
	const char *header;
	long long left, message;
	int to = make_file(directory);

	write_header(fd, "{\"op\":\"receive\",\"id\":2,\"queue\":\"" QUEUE "\"}");
	header = read_header(fd);
	message = number_of(header, "\"message\":");
	left = number_of(header, "\"size\":");
	while (left > 0) {
		ssize_t n = read(fd, chunk, left < CHUNK ? (size_t)left : CHUNK);

		must(n > 0 && write_all(to, chunk, (size_t)n));
		left -= n;
	}
	must(!close(to));
	return message;
}

static struct spent stream_out_once(void)
{
	struct ipc_client *client = open_client_and_queue();
	int fd = dial_daemon(), directory = open_directory();
	struct spent spent;
	char ack[128];
	off_t size;

	close(open_source(&size));
	stream_in(fd); /* so that it has a digest, too */
	settle(directory);
	spent = begin();
	snprintf(ack, sizeof(ack), "{\"op\":\"ack\",\"id\":3,\"message\":%lld}",
		 stream_out(fd, directory));
	spent = since(spent);
	write_header(fd, ack);
	while (!strstr(read_header(fd), "\"re\":3")) /* that of receive is "max" */
		;
	close(fd);
	ipc_client_close(client);
	remove_file(directory, size);
	close(directory);
	return spent;
}

static void verb_streamout(void)
{
	again(stream_out_once);
}

/* ---- others meanwhile ---- */

struct samples {
	uint32_t *us10; /* tenths of microseconds */
	size_t n;
};

static void add_sample(struct samples *s, uint64_t since_ns)
{
	must(s->n < SAMPLES_MAX);
	s->us10[s->n++] = (uint32_t)((now_ns() - since_ns) / 100);
}

static int compare_samples(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static double quantile(struct samples *s, unsigned int percent)
{
	must(s->n);
	qsort(s->us10, s->n, sizeof(*s->us10), compare_samples);
	return s->us10[s->n * percent / 100] / 10.0;
}

static struct samples pings[2], sends[2]; /* alone, and beside */

static void probe(struct ipc_client *client, int beside)
{
	uint64_t at = now_ns();

	check(client, ipc_ping(client, NULL, 0));
	add_sample(&pings[beside], at);
	at = now_ns();
	check(client, ipc_send(client, SMALL_QUEUE, opt.body, opt.size, NULL));
	add_sample(&sends[beside], at);
}

static void prepare_samples(void)
{
	struct samples *all[] = { &pings[0], &pings[1], &sends[0], &sends[1] };

	for (int i = 0; i < 4; i++) {
		all[i]->us10 = malloc(SAMPLES_MAX * sizeof(uint32_t));
		must(all[i]->us10);
	}
}

static void snapshot_beside(void)
{
	send_file(open_client());
}

static void stream_beside(void)
{
	stream_in(dial_daemon());
}

static pid_t start(void (*run)(void))
{
	pid_t pid = start_child();

	if (!pid) {
		run();
		_exit(0);
	}
	return pid;
}

static bool has_ended(pid_t *pid)
{
	int status;

	if (*pid && waitpid(*pid, &status, WNOHANG) == *pid) {
		check_child(*pid, status);
		*pid = 0;
	}
	return !*pid;
}

static void report_beside(double snapshot_seconds, double seconds)
{
	double ping[2], send[2];

	for (int i = 0; i < 2; i++) {
		ping[i] = quantile(&pings[i], 50);
		send[i] = quantile(&sends[i], 50);
	}
	say("{\"ping_alone\":%.1f,\"ping_beside\":%.1f,\"ping_factor\":%.3f,"
	    "\"ping_p99_alone\":%.1f,\"ping_p99_beside\":%.1f,"
	    "\"send_alone\":%.1f,\"send_beside\":%.1f,\"send_factor\":%.3f,"
	    "\"send_p99_alone\":%.1f,\"send_p99_beside\":%.1f,"
	    "\"samples\":%zu,\"snapshot_seconds\":%.3f,\"seconds\":%.3f}",
	    ping[0], ping[1], ping[1] / ping[0], quantile(&pings[0], 99),
	    quantile(&pings[1], 99), send[0], send[1], send[1] / send[0],
	    quantile(&sends[0], 99), quantile(&sends[1], 99), pings[1].n,
	    snapshot_seconds, seconds);
}

static void verb_beside(void)
{
	struct ipc_client *client = open_client_and_queue();
	uint64_t at, snapshot_ended = 0;
	pid_t copier, streamer;

	make_queue(client, SMALL_QUEUE);
	prepare_samples();
	for (at = now_ns(); (double)(now_ns() - at) < opt.warm_up * 1e9;)
		probe(client, 0);
	pings[0].n = sends[0].n = 0;
	for (at = now_ns(); (double)(now_ns() - at) < opt.seconds * 1e9;)
		probe(client, 0);
	at = now_ns();
	copier = start(snapshot_beside);
	streamer = start(stream_beside);
	while (!has_ended(&copier) | !has_ended(&streamer)) {
		probe(client, 1);
		if (!copier && !snapshot_ended)
			snapshot_ended = now_ns();
	}
	if (!snapshot_ended)
		snapshot_ended = now_ns();
	report_beside((double)(snapshot_ended - at) / 1e9, (double)(now_ns() - at) / 1e9);
}

int main(int argc, char **argv)
{
	static const struct verb verbs[] = {
		{ "copy", verb_copy },	       { "stream", verb_stream },
		{ "snapshot", verb_snapshot }, { "save", verb_save },
		{ "streamin", verb_streamin }, { "streamout", verb_streamout },
		{ "beside", verb_beside },     { 0 },
	};

	return bench_main(argc, argv, NULL, verbs);
}
