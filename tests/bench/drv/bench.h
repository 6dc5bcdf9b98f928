/* SPDX-License-Identifier: MIT */
#ifndef BENCH_H
#define BENCH_H

/*
 * What all drivers share.
 *
 * A driver is one program, `driver VERB [OPTION]...`, that prints one line of JSON. It
 * forks *roles* (a producer, a consumer, the two ends of a socket), which loop for ever
 * and only count in shared memory what they have done. The parent lets them warm up,
 * looks at the counters and at the CPU clocks, sleeps for the time to measure, looks
 * again, and ends them. So everyone is timed by the same code, and only what happened
 * within the window counts.
 *
 * A driver of a server describes it by a struct driver; the verbs are built on it here:
 *
 *	hello      wait for a byte on stdin, then try until the first answer; says when
 *	idle       open -c connections, say so, hold them until stdin is closed
 *	queue      -c producers and -c consumers, jobs in batches of -p
 *	roundtrip  one client: put a job, take it, acknowledge it; again
 *	flood      put -n jobs, in batches, say so, wait for a byte on stdin, take them
 *	send       -c producers that put batches of -p; nobody takes them
 *	left       wait until the server has -n jobs or gets no more; say how many, and when
 *	handover   one client gives an open descriptor to another one, again and again
 *
 * What cannot be described so (the floors of the kernel) brings verbs of its own.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { BATCH_MAX = 1024 };

struct driver {
	/* Connects and has a first exchange. Its descriptor, or -1: nobody is there yet. */
	int (*hello)(void);
	/* Once, in a process of its own, before any role; may be NULL. */
	void (*prepare)(void);
	/* A connection that can put and take. */
	void *(*open)(void);
	/* Puts n jobs with the same body, and returns when the server has confirmed all. */
	void (*put)(void *conn, unsigned int n);
	/* Waits for a job, takes up to n and acknowledges them; how many it were. */
	unsigned int (*take)(void *conn, unsigned int n);
	/* Jobs that the server still has: to prove that acknowledgements without an answer
	 * have arrived, and that a server started anew has kept what it had. May be NULL. */
	uint64_t (*left)(void);
	/* take() waits until it has all n: after the end of the producers some are kept by
	 * consumers that wait for more. */
	bool takes_whole_batches;

	/* Hands an open descriptor over, in the way that does not wait for the taker.
	 * NULL: the server cannot. */
	void (*give)(void *conn, int fd);
	/* A connection for get(), to which give() leads; NULL: that of open(). */
	void *(*open_getter)(void);
	/* Waits for the next descriptor, which it keeps until it is called again. */
	int (*get)(void *conn);
};

struct verb {
	const char *name;
	void (*run)(void);
};

/* The command line. */
extern struct options {
	const char *address;	 /* -a: /path, or host:port */
	const char *variant;	 /* -v: of the driver's own */
	char *body;		 /* of size bytes */
	size_t size;		 /* -s: bytes of a body */
	unsigned int n_clients;	 /* -c: connections, or producers and as many consumers */
	unsigned int batch;	 /* -p: jobs in a batch */
	unsigned int n;		 /* -n: how often */
	const char *directory;	 /* -D: for files, of what works without a server */
	uint64_t window;	 /* -w: jobs under way, at most; see pace() */
	double seconds, warm_up; /* -t -W */
	pid_t servers[16];	 /* -P: whose CPU time is counted, separated by commas */
	unsigned int n_servers;
	char **arguments; /* what follows the options */
} opt;

int bench_main(int argc, char **argv, const struct driver *driver,
	       const struct verb *verbs);

void die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
#define must(what)                                                                     \
	do {                                                                           \
		if (!(what))                                                           \
			die("%s:%d: %s: %s", __FILE__, __LINE__, #what, last_error()); \
	} while (0)
const char *last_error(void);

uint64_t now_ns(void);
void nap(unsigned int us);

/* The verb handover, for a driver that has no others. */
void bench_handover(const struct driver *driver);

/* One line of the answer. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- roles.c ---- */

void roles_init(void);

/* Forks a role, which gets its index. It calls role_ready() once it is set up, which
 * returns when all begin, and counts from then on what it has done. */
void role_start(void (*run)(unsigned int index), unsigned int index);
void role_ready(void);

/* Its CPU time is the server's. */
void role_is_server(unsigned int index);

/* Nanoseconds, of opt.servers and of the roles that are servers. */
uint64_t cpu_of_servers(void);

/* Runs something in a process of its own and waits for its end. */
void run_apart(void (*run)(void));

void count_done(unsigned int index, uint64_t n);
void count_put(unsigned int index, uint64_t n);
void count_latency(uint64_t since_ns);
uint64_t total_done(void);
uint64_t total_put(void);

void producers_stop(void);
bool producers_should_stop(void);

struct sample {
	uint64_t ns, done, cpu_server, cpu_clients;
};

/* Waits until all roles are ready, then until the window is over. */
void measure(struct sample *ret_begin, struct sample *ret_end);
void report(const struct sample *begin, const struct sample *end, uint64_t lost);
void roles_end(void);

/* All three. */
void measure_and_report(void);

/* ---- socket.c ---- */

/* "/path": a Unix socket; "host:port": TCP on the loopback. -1 if nobody listens. */
int dial(const char *address);
/* All of it, or false. */
bool write_all(int fd, const void *data, size_t size);
bool read_all(int fd, void *data, size_t size);
/* Reads byte by byte until the text was seen. */
bool read_until(int fd, const char *text);

#endif
