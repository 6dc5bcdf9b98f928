/* SPDX-License-Identifier: MIT */

/* The processes that work, what they count in shared memory, and the window in which it
 * is looked at. */

#include "bench.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	ROLES_MAX = 256,
	/* latencies are counted in 64 linear steps for each power of two: 1.6 % */
	STEPS = 64,
	STEPS_BITS = 6,
	HISTOGRAM_SIZE = STEPS * 40,
	READY_SECONDS = 30,
};

struct counter {
	_Alignas(64) _Atomic uint64_t n; /* a cache line of its own */
};

static struct shared {
	_Atomic unsigned int n_ready;
	_Atomic bool go, measure, stop;
	struct counter done[ROLES_MAX], put[ROLES_MAX];
	_Atomic uint32_t histogram[HISTOGRAM_SIZE];
} * shared;

static struct {
	pid_t pid;
	bool is_server;
} roles[ROLES_MAX];
static unsigned int n_roles;

void roles_init(void)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(shared != MAP_FAILED);
}

/* ---- roles ---- */

void role_start(void (*run)(unsigned int index), unsigned int index)
{
	pid_t pid;

	must(n_roles < ROLES_MAX && index < ROLES_MAX);
	pid = fork();
	must(pid >= 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		n_roles = 0;
		run(index);
		_exit(0);
	}
	roles[n_roles++].pid = pid;
}

void role_is_server(unsigned int index)
{
	roles[index].is_server = true;
}

void role_ready(void)
{
	shared->n_ready++;
	while (!shared->go)
		nap(100);
}

static void wait_until_ready(void)
{
	uint64_t begin = now_ns();

	while (shared->n_ready < n_roles) {
		nap(200);
		if (waitpid(-1, NULL, WNOHANG) > 0)
			die("a role has ended before it was ready");
		if (now_ns() - begin > READY_SECONDS * 1000000000ull)
			die("%u of %u roles are ready after %d s", shared->n_ready,
			    n_roles, READY_SECONDS);
	}
}

void roles_end(void)
{
	for (unsigned int i = 0; i < n_roles; i++)
		kill(roles[i].pid, SIGKILL);
	while (waitpid(-1, NULL, 0) > 0)
		;
	n_roles = 0;
}

void run_apart(void (*run)(void))
{
	int status;
	pid_t pid = fork();

	must(pid >= 0);
	if (!pid) {
		run();
		_exit(0);
	}
	must(waitpid(pid, &status, 0) == pid);
	if (status)
		die("the preparation has failed");
}

/* ---- counters ---- */

static void count(struct counter *c, uint64_t n)
{
	atomic_fetch_add_explicit(&c->n, n, memory_order_relaxed);
}

static uint64_t total(const struct counter counters[static ROLES_MAX])
{
	uint64_t sum = 0;

	for (int i = 0; i < ROLES_MAX; i++)
		sum += counters[i].n;
	return sum;
}

void count_done(unsigned int index, uint64_t n)
{
	count(&shared->done[index], n);
}

void count_put(unsigned int index, uint64_t n)
{
	count(&shared->put[index], n);
}

uint64_t total_done(void)
{
	return total(shared->done);
}

uint64_t total_put(void)
{
	return total(shared->put);
}

void producers_stop(void)
{
	shared->stop = true;
}

bool producers_should_stop(void)
{
	return shared->stop;
}

void count_latency(uint64_t since_ns)
{
	uint64_t ns = now_ns() - since_ns;
	unsigned int at = (unsigned int)ns;

	if (!shared->measure)
		return;
	if (ns >= STEPS) {
		unsigned int power = 63 - (unsigned int)__builtin_clzll(ns);

		at = (power - STEPS_BITS + 1) * STEPS +
		     (unsigned int)(ns >> (power - STEPS_BITS) & (STEPS - 1));
	}
	if (at >= HISTOGRAM_SIZE)
		at = HISTOGRAM_SIZE - 1;
	atomic_fetch_add_explicit(&shared->histogram[at], 1, memory_order_relaxed);
}

static double us_of_step(unsigned int at)
{
	if (at < STEPS)
		return at / 1e3;
	return (double)((uint64_t)(at % STEPS + STEPS) << (at / STEPS - 1)) / 1e3;
}

/* In microseconds; -1 if no latency was counted. */
static double quantile(double q)
{
	uint64_t n = 0, below = 0;

	for (unsigned int i = 0; i < HISTOGRAM_SIZE; i++)
		n += shared->histogram[i];
	for (unsigned int i = 0; n && i < HISTOGRAM_SIZE; i++) {
		below += shared->histogram[i];
		if ((double)below > q * (double)n)
			return us_of_step(i);
	}
	return -1;
}

/* ---- CPU clocks ---- */

/* Of all its threads, those that have ended included. */
static uint64_t cpu_of_process(pid_t pid)
{
	struct timespec t;
	clockid_t clock;

	if (clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &t))
		return 0;
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t cpu_of_servers(void)
{
	uint64_t ns = 0;

	for (unsigned int i = 0; i < opt.n_servers; i++)
		ns += cpu_of_process(opt.servers[i]);
	for (unsigned int i = 0; i < n_roles; i++)
		if (roles[i].is_server)
			ns += cpu_of_process(roles[i].pid);
	return ns;
}

static uint64_t cpu_of_clients(void)
{
	uint64_t ns = 0;

	for (unsigned int i = 0; i < n_roles; i++)
		if (!roles[i].is_server)
			ns += cpu_of_process(roles[i].pid);
	return ns;
}

/* ---- the window ---- */

static struct sample take_sample(void)
{
	return (struct sample){ now_ns(), total(shared->done), cpu_of_servers(),
				cpu_of_clients() };
}

void measure(struct sample *ret_begin, struct sample *ret_end)
{
	wait_until_ready();
	shared->go = true;
	nap((unsigned int)(opt.warm_up * 1e6));
	*ret_begin = take_sample();
	shared->measure = true;
	nap((unsigned int)(opt.seconds * 1e6));
	shared->measure = false;
	*ret_end = take_sample();
	if (waitpid(-1, NULL, WNOHANG) > 0)
		die("a role has ended while it was measured");
}

void report(const struct sample *a, const struct sample *b, uint64_t lost)
{
	double n = (double)(b->done - a->done);
	double server = (double)(b->cpu_server - a->cpu_server);
	double clients = (double)(b->cpu_clients - a->cpu_clients);

	say("{\"rate\":%.1f,\"n\":%.0f,\"p50\":%.2f,\"p99\":%.2f,\"cpu_server\":%.4f,"
	    "\"cpu_clients\":%.4f,\"us_server\":%.3f,\"us_clients\":%.3f,\"lost\":%llu,"
	    "\"total\":%llu}",
	    n / ((double)(b->ns - a->ns) / 1e9), n, quantile(.5), quantile(.99),
	    server / 1e9, clients / 1e9, n > 0 ? server / 1e3 / n : 0,
	    n > 0 ? clients / 1e3 / n : 0, (unsigned long long)lost,
	    (unsigned long long)total_done());
}

void measure_and_report(void)
{
	struct sample begin, end;

	measure(&begin, &end);
	roles_end();
	report(&begin, &end, 0);
}
