/* SPDX-License-Identifier: MIT */

/* The command line, and the verbs that are built on a struct driver. */

#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum {
	ANSWER_SECONDS = 30,
	DRAIN_MS = 1000, /* without progress, and what is missing is lost */
};

struct options opt = {
	.address = "",
	.variant = "",
	.directory = ".",
	.size = 100,
	.n_clients = 1,
	.batch = 1,
	.n = 1,
	.window = 2000,
	.seconds = 1,
	.warm_up = 0.2,
};

static const struct driver *driver;

/* ---- small things ---- */

const char *last_error(void)
{
	return errno ? strerror(errno) : "failed";
}

void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("driver: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	_exit(3);
}

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void nap(unsigned int us)
{
	struct timespec t = { us / 1000000, us % 1000000 * 1000L };

	nanosleep(&t, NULL);
}

void say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
}

/* False at the end of stdin: the runner is gone, or wants no more. */
static bool wait_for_word(void)
{
	char c;

	return read(STDIN_FILENO, &c, 1) == 1;
}

/* ---- the verbs queue and roundtrip ---- */

/* A producer's brake: at most about opt.window jobs are put and not acknowledged. The
 * shared counters are looked at only when the own credit is used up, then until half
 * of the window is free. The other half keeps the consumers at work for longer than a
 * nap. */
static void pace(void)
{
	static uint64_t credit;

	if (credit) {
		credit--;
		return;
	}
	while (!producers_should_stop()) {
		/* done first: it may be ahead of put, whose producer has yet to count */
		uint64_t done = total_done(), put = total_put();
		uint64_t under_way = put > done ? put - done : 0;

		if (under_way <= opt.window / 2) {
			credit = (opt.window - under_way) / opt.batch / opt.n_clients;
			return;
		}
		nap(1000);
	}
}

static void producer(unsigned int index)
{
	void *conn = driver->open();

	role_ready();
	for (;;) {
		pace();
		if (producers_should_stop())
			break;
		driver->put(conn, opt.batch);
		count_put(index, opt.batch);
	}
	for (;;)
		pause();
}

static void consumer(unsigned int index)
{
	void *conn = driver->open();

	role_ready();
	for (;;)
		count_done(index, driver->take(conn, opt.batch));
}

static void client(unsigned int index)
{
	void *conn = driver->open();

	role_ready();
	for (;;) {
		uint64_t begin = now_ns();

		driver->put(conn, 1);
		must(driver->take(conn, 1) == 1);
		count_latency(begin);
		count_done(index, 1);
	}
}

/* The producers stop, the consumers go on: do they get all that was put? How many jobs
 * are missing; doubles count as well. */
static uint64_t drain(void)
{
	uint64_t kept = 0, done, put, last = 0, since = now_ns();

	producers_stop();
	if (driver->takes_whole_batches)
		kept = (uint64_t)opt.n_clients * opt.batch;
	for (;;) {
		done = total_done();
		put = total_put();
		if (done != last)
			since = now_ns();
		last = done;
		if (now_ns() - since > (done == put ? 20 : DRAIN_MS) * 1000000ull)
			break;
		nap(1000);
	}
	if (done > put)
		return done - put;
	return put - done > kept ? put - done : 0;
}

/* An acknowledgement may still be on its way. */
static uint64_t left_in_server(void)
{
	uint64_t left = 0;

	for (int i = 0; driver->left && (left = driver->left()) && i < 100; i++)
		nap(10000);
	return left;
}

static void verb_queue(void)
{
	struct sample begin, end;
	uint64_t lost;

	if (driver->prepare)
		run_apart(driver->prepare);
	for (unsigned int i = 0; i < opt.n_clients; i++) {
		role_start(consumer, i);
		role_start(producer, i);
	}
	measure(&begin, &end);
	lost = drain();
	if (!driver->takes_whole_batches)
		lost += left_in_server();
	roles_end();
	report(&begin, &end, lost);
}

static void verb_roundtrip(void)
{
	if (driver->prepare)
		run_apart(driver->prepare);
	role_start(client, 0);
	measure_and_report();
}

/* ---- the verbs send and left ---- */

static void sender(unsigned int index)
{
	void *conn = driver->open();

	role_ready();
	for (;;) {
		uint64_t begin = now_ns();

		driver->put(conn, opt.batch);
		count_latency(begin);
		count_done(index, opt.batch);
	}
}

static void verb_send(void)
{
	if (driver->prepare)
		run_apart(driver->prepare);
	for (unsigned int i = 0; i < opt.n_clients; i++)
		role_start(sender, i);
	measure_and_report();
}

static void verb_left(void)
{
	uint64_t left, last = 0, since = now_ns();

	must(driver->left);
	while ((left = driver->left()) < opt.n &&
	       now_ns() - since < DRAIN_MS * 1000000ull) {
		if (left != last)
			since = now_ns();
		last = left;
		nap(1000);
	}
	say("{\"left\":%llu,\"at\":%llu}", (unsigned long long)left,
	    (unsigned long long)now_ns());
}

/* ---- the verb handover ---- */

/* From the giver's call until the taker has the descriptor. Then it says so, and the
 * giver pauses, so that the taker waits when the next one comes. */
enum { PAUSE_US = 200 };

static struct handover {
	_Atomic uint64_t begin_ns;
	int taken[2]; /* a pipe, from the taker */
} * handover;

static void giver(unsigned int index)
{
	void *conn = driver->open();
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	char c;

	(void)index;
	must(fd >= 0);
	role_ready();
	for (;;) {
		nap(PAUSE_US);
		handover->begin_ns = now_ns();
		driver->give(conn, fd);
		must(read(handover->taken[0], &c, 1) == 1);
	}
}

static void getter(unsigned int index)
{
	void *conn = driver->open_getter ? driver->open_getter() : driver->open();

	role_ready();
	for (;;) {
		int fd = driver->get(conn);

		count_latency(handover->begin_ns);
		count_done(index, 1);
		must(fcntl(fd, F_GETFD) >= 0);
		must(write(handover->taken[1], "", 1) == 1);
	}
}

static void verb_handover(void)
{
	must(driver->give && driver->get);
	handover = mmap(NULL, sizeof(*handover), PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(handover != MAP_FAILED && !pipe2(handover->taken, O_CLOEXEC));
	role_start(getter, 0);
	role_start(giver, 1);
	measure_and_report();
}

void bench_handover(const struct driver *by)
{
	driver = by;
	verb_handover();
}

/* ---- the verbs flood, idle and hello ---- */

static void verb_flood(void)
{
	unsigned int n, batch = opt.batch;
	void *conn;

	if (driver->prepare)
		run_apart(driver->prepare);
	conn = driver->open();
	for (n = 0; n < opt.n; n += batch) {
		batch = opt.n - n < batch ? opt.n - n : batch;
		driver->put(conn, batch);
	}
	say("{\"put\":%u}", n);
	if (!wait_for_word())
		return;
	for (n = 0; n < opt.n;)
		n += driver->take(conn, opt.n - n < batch ? opt.n - n : batch);
	if (left_in_server())
		die("there are jobs left");
	say("{\"taken\":%u}", n);
	wait_for_word();
}

static void verb_idle(void)
{
	unsigned int n = 0;

	while (n < opt.n_clients && driver->hello() >= 0)
		n++;
	say("{\"open\":%u}", n);
	wait_for_word();
}

static void verb_hello(void)
{
	uint64_t begin;

	if (!wait_for_word())
		return;
	for (begin = now_ns(); driver->hello() < 0; nap(100))
		if (now_ns() - begin > ANSWER_SECONDS * 1000000000ull)
			die("no answer in %d s", ANSWER_SECONDS);
	say("{\"at\":%llu}", (unsigned long long)now_ns());
}

/* ---- the command line ---- */

static const struct verb driver_verbs[] = {
	{ "hello", verb_hello },
	{ "idle", verb_idle },
	{ "queue", verb_queue },
	{ "roundtrip", verb_roundtrip },
	{ "send", verb_send },
	{ "left", verb_left },
	{ "flood", verb_flood },
	{ "handover", verb_handover },
	{ 0 },
};

static void pin_to_cpu(unsigned long cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	must(!sched_setaffinity(0, sizeof(set), &set));
}

static void parse_servers(char *list)
{
	for (char *save, *p = strtok_r(list, ",", &save); p;
	     p = strtok_r(NULL, ",", &save)) {
		must(opt.n_servers < sizeof(opt.servers) / sizeof(opt.servers[0]));
		opt.servers[opt.n_servers++] = (pid_t)strtol(p, NULL, 10);
	}
}

static bool set_option(int option, char *value)
{
	unsigned long number = strtoul(value, NULL, 10);

	switch (option) {
	case 'a':
		opt.address = value;
		break;
	case 'v':
		opt.variant = value;
		break;
	case 's':
		opt.size = number;
		break;
	case 'c':
		opt.n_clients = (unsigned int)number;
		break;
	case 'p':
		opt.batch = (unsigned int)number;
		break;
	case 'n':
		opt.n = (unsigned int)number;
		break;
	case 'w':
		opt.window = number;
		break;
	case 't':
		opt.seconds = strtod(value, NULL);
		break;
	case 'W':
		opt.warm_up = strtod(value, NULL);
		break;
	case 'P':
		parse_servers(value);
		break;
	case 'D':
		opt.directory = value;
		break;
	case 'C': /* everything on one CPU */
		pin_to_cpu(number);
		break;
	default:
		return false;
	}
	return true;
}

static void set_up(void)
{
	struct rlimit files;

	must(opt.batch && opt.batch <= BATCH_MAX && opt.n_clients);
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_TIMERSLACK, 1000);
	opt.body = malloc(opt.size + 1);
	must(opt.body);
	memset(opt.body, 'x', opt.size);
	roles_init();
}

static bool run_verb(const struct verb *verbs, const char *name)
{
	for (; verbs && verbs->name; verbs++)
		if (!strcmp(verbs->name, name)) {
			verbs->run();
			return true;
		}
	return false;
}

int bench_main(int argc, char **argv, const struct driver *of, const struct verb *verbs)
{
	if (argc < 2) {
		fprintf(stderr, "usage: %s VERB [OPTION]...\n", argv[0]);
		return 2;
	}
	for (int o; (o = getopt(argc - 1, argv + 1, "+a:v:s:c:p:n:w:t:W:P:D:C:")) != -1;)
		if (o == '?' || !set_option(o, optarg))
			return 2;
	opt.arguments = argv + 1 + optind;
	driver = of;
	set_up();
	if (run_verb(verbs, argv[1]) || (driver && run_verb(driver_verbs, argv[1])))
		return 0;
	fprintf(stderr, "%s: there is no verb %s\n", argv[0], argv[1]);
	return 2;
}
