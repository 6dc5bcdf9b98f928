/* SPDX-License-Identifier: MIT */

/*
 * Producers and consumers at random: acks, nacks, touches, connections that break with
 * leases and unread deliveries; once with short leases and late acks,
 * once with a queue so narrow that every send waits. Each message is delivered at least
 * once, none is lost, none comes again after its ack was confirmed, each is acked exactly
 * once in the daemon's books.
 *
 * IPC_TEST_SEED repeats a run, as far as our side of it goes.
 */

#include "integration/harness.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"

enum {
	N_MESSAGES = 20000,
	N_PRODUCERS = 4,
	N_CONSUMERS = 4,
	UNDER_WAY_MAX = 64, /* of one producer */
	WINDOW = 16,
	N_LATE = 8,
	PATIENCE_MS = 20,
	RECEIVE_ID = 1,
	FIRST_SEND_ID = 1000,
	FIRST_ACK_ID = 1000,
};

struct producer {
	struct client *client;
	int n_under_way;
};

struct consumer {
	struct client *client;
	unsigned char acking[N_MESSAGES]; /* acks without a reply so far */
	int n_acks;
	const struct frame *late[N_LATE]; /* deliveries to be acked some time */
};

static struct {
	unsigned int seed;
	int ack_wait_ms; /* -1: none */
	int n_messages;
	bool acked[N_MESSAGES]; /* the reply was heard */
	bool delivered[N_MESSAGES];
	int n_said, n_stored, n_acked, n_lost_connections, n_lost_leases;
	struct producer producers[N_PRODUCERS];
	struct consumer consumers[N_CONSUMERS];
} run;

static unsigned int below(unsigned int n)
{
	return (unsigned int)rand_r(&run.seed) % n;
}

static void produce(struct producer *p)
{
	struct frame *f;

	while ((f = client_hear_now(p->client))) {
		assert_false(json_has(f->header, "error"));
		p->n_under_way--;
		run.n_stored++;
	}
	while (p->n_under_way < UNDER_WAY_MAX && run.n_said < run.n_messages) {
		say_text(
			p->client, keep_printf("%d", run.n_said),
			"{'op':'send','id':%d,'queue':'jobs','priority':%u,'wait_ms':-1}",
			FIRST_SEND_ID + run.n_said, below(10));
		p->n_under_way++;
		run.n_said++;
	}
}

static void consumer_connect(struct consumer *c)
{
	memset(c, 0, sizeof(*c));
	c->client = client_connect();
	say(c->client,
	    "{'op':'receive','id':%d,'queue':'jobs','max':0,'window':%d,'wait_ms':-1,"
	    "'ack_wait_ms':%d}",
	    RECEIVE_ID, WINDOW, run.ack_wait_ms);
}

/* The acks whose replies were not heard may count or not. */
static void consumer_break(struct consumer *c)
{
	client_close(c->client);
	consumer_connect(c);
	run.n_lost_connections++;
}

static void say_verdict(struct consumer *c, const char *op, const struct frame *f,
			const char *keys)
{
	say(c->client, "{'op':'%s','message':%" PRId64 ",'lease':'%s'%s}", op,
	    json_int(f->header, "message"), json_string(f->header, "lease"),
	    with_quotes(keys));
}

static void say_ack(struct consumer *c, const struct frame *f)
{
	int i = atoi(f->body);

	/* the same message may be acknowledged again before the first reply is there */
	say_verdict(c, "ack", f,
		    keep_printf(",'id':%d",
				FIRST_ACK_ID + i + c->n_acks++ * run.n_messages));
	c->acking[i]++;
}

static void consumer_settle(struct consumer *c, const struct frame *f)
{
	unsigned int dice = below(100);

	if (dice < 10) {
		say_verdict(c, "nack", f, keep_printf(",'delay_ms':%u", below(3)));
	} else if (dice < 20 && run.ack_wait_ms > 0) {
		const struct frame **late = &c->late[below(N_LATE)];

		if (*late)
			say_ack(c, *late);
		*late = f;
	} else {
		if (dice < 25)
			say_verdict(c, "touch", f, "");
		say_ack(c, f);
	}
}

static void consumer_take(struct consumer *c, const struct frame *f)
{
	int i = atoi(f->body);

	assert_in_range(i, 0, run.n_messages - 1);
	/* one whose lease ended unread may still come, but its ack must not count */
	assert_true(!run.acked[i] || run.ack_wait_ms > 0);
	run.delivered[i] = true;
	consumer_settle(c, f);
}

static void check_lease_lost(const struct frame *f)
{
	assert_string_equal(json_string(f->header, "error"), "lease-lost");
	assert_true(run.ack_wait_ms > 0);
	run.n_lost_leases++;
}

static void hear_ack_reply(struct consumer *c, const struct frame *f, int64_t i)
{
	assert_true(c->acking[i]--);
	if (json_has(f->header, "error")) {
		check_lease_lost(f);
		return;
	}
	assert_false(run.acked[i]);
	run.acked[i] = true;
	run.n_acked++;
}

static void consume(struct consumer *c)
{
	struct frame *f;

	while ((f = client_hear_now(c->client))) {
		if (!json_has(f->header, "re")) /* a nack or touch, too late */
			check_lease_lost(f);
		else if (json_int(f->header, "re") != RECEIVE_ID)
			hear_ack_reply(c, f,
				       (json_int(f->header, "re") - FIRST_ACK_ID) %
					       run.n_messages);
		else
			consumer_take(c, f);
		if (!below(500)) {
			consumer_break(c);
			return;
		}
	}
}

/* False when nothing has come for a moment. */
static bool wait_for_any(void)
{
	struct pollfd pollfds[N_PRODUCERS + N_CONSUMERS];
	nfds_t n = 0;

	for (int i = 0; i < N_PRODUCERS; i++)
		pollfds[n++] =
			(struct pollfd){ client_fd(run.producers[i].client), POLLIN, 0 };
	for (int i = 0; i < N_CONSUMERS; i++)
		pollfds[n++] =
			(struct pollfd){ client_fd(run.consumers[i].client), POLLIN, 0 };
	return poll(pollfds, n, PATIENCE_MS) > 0;
}

static bool is_finished(void)
{
	return run.n_stored == run.n_messages &&
	       queue_count("jobs", "acked") == run.n_messages;
}

static void check_books(void)
{
	for (int i = 0; i < run.n_messages; i++)
		assert_true(run.delivered[i]);
	assert_int_equal(stats_count("messages"), 0);
	assert_int_equal(queue_count("jobs", "bytes"), 0);
	assert_int_equal(queue_count("jobs", "leased"), 0);
	assert_int_equal(queue_count("jobs", "dead"), 0);
	print_message("%d connections broken, %d leases lost, %d acks confirmed\n",
		      run.n_lost_connections, run.n_lost_leases, run.n_acked);
}

static void run_all(int n_messages, int ack_wait_ms, const char *queue_messages)
{
	const char *seed = getenv("IPC_TEST_SEED");
	uint64_t end = wait_deadline();

	memset(&run, 0, sizeof(run));
	run.n_messages = n_messages;
	run.ack_wait_ms = ack_wait_ms;
	run.seed = seed ? (unsigned int)strtoul(seed, NULL, 10) : (unsigned int)getpid();
	print_message("IPC_TEST_SEED=%u\n", run.seed);
	start("--limit", "lost_delay=5", "--limit", "max_attempts=1000000", "--log-level",
	      "warning", "--limit", queue_messages);
	for (int i = 0; i < N_PRODUCERS; i++)
		run.producers[i].client = client_connect();
	for (int i = 0; i < N_CONSUMERS; i++)
		consumer_connect(&run.consumers[i]);
	for (bool idle = false; !idle || !is_finished(); idle = !wait_for_any()) {
		for (int i = 0; i < N_PRODUCERS; i++)
			produce(&run.producers[i]);
		for (int i = 0; i < N_CONSUMERS; i++)
			consume(&run.consumers[i]);
		if (clock_ns(CLOCK_MONOTONIC) > end)
			fail_msg("too slow, or stuck: %d said, %d stored, %d acked",
				 run.n_said, run.n_stored, run.n_acked);
	}
	check_books();
}

static void test_none_lost_none_twice(void **state)
{
	run_all(N_MESSAGES, -1, "queue_messages=1000000");
}

static void test_short_leases(void **state)
{
	run_all(N_MESSAGES / 4, 20, "queue_messages=1000000");
}

static void test_a_narrow_queue(void **state)
{
	run_all(N_MESSAGES, -1, "queue_messages=20");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_none_lost_none_twice),
		it(test_short_leases),
		it(test_a_narrow_queue),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
