/* SPDX-License-Identifier: MIT */

/* Receipts: each is sent once and whole, or not at all, and then the loop knows. */

#include "unit/base.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "batch.h"

enum { PEERS = 2 };

static struct {
	struct batch batch;
	struct outlet *outlet[PEERS];
	int ours[PEERS], theirs[PEERS];
} o;

static int setup(void **state)
{
	(void)state;
	memset(&o, 0, sizeof(o));
	batch_init(&o.batch);
	for (int i = 0; i < PEERS; i++) {
		int pair[2];

		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) < 0)
			return -1;
		o.ours[i] = pair[0];
		o.theirs[i] = pair[1];
		o.outlet[i] = outlet_new(o.ours[i], false);
	}
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	batch_deinit(&o.batch);
	for (int i = 0; i < PEERS; i++) {
		outlet_unref(o.outlet[i]);
		close(o.ours[i]);
		if (o.theirs[i] >= 0)
			close(o.theirs[i]);
	}
	return 0;
}

static struct receipt *add(int peer, const char *header)
{
	struct receipt *r = batch_add_receipt(&o.batch, o.outlet[peer],
					      (struct slice){ header, strlen(header) });

	assert_non_null(r);
	return r;
}

/* The headers of the frames that have come, each with its length before it. */
static void check_came(int peer, const char *headers)
{
	char data[100], text[200] = "";
	ssize_t n = recv(o.theirs[peer], data, sizeof(data), 0);

	for (ssize_t at = 0; at + 4 <= n;) {
		int size = data[at];

		assert_true(at + 4 + size <= n);
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%.*s ", size,
			 data + at + 4);
		at += 4 + size;
	}
	assert_string_equal(text, headers);
}

static void test_each_to_its_peer_in_order(void **state)
{
	struct receipt *a = add(0, "{1}"), *b = add(0, "{22}"), *c = add(1, "{333}"),
		       *d = add(0, "{4}");

	assert_false(receipt_is_sent(a));
	receipts_send(o.batch.receipts);
	check_came(0, "{1} {22} {4} ");
	check_came(1, "{333} ");
	assert_true(receipt_is_sent(a) && receipt_is_sent(b) && receipt_is_sent(c) &&
		    receipt_is_sent(d));
	assert_int_equal(outlet_n_sent(o.outlet[0]), 3);
	receipts_send(o.batch.receipts); /* once */
	check_came(0, "");
}

static void test_revoked(void **state)
{
	struct receipt *a = add(0, "{1}"), *b = add(0, "{2}");

	add(0, "{3}");
	assert_true(receipt_revoke(b));
	receipts_send(o.batch.receipts);
	check_came(0, "{1} {3} ");
	assert_false(receipt_is_sent(b));
	assert_false(receipt_revoke(a)); /* too late: it is counted no longer */
	assert_int_equal(outlet_n_sent(o.outlet[0]), 1);
}

static void test_only_revoked(void **state)
{
	assert_true(receipt_revoke(add(0, "{1}")));
	receipts_send(o.batch.receipts);
	check_came(0, "");
}

/* The loop has something for one of the peers. */
static void test_taken(void **state)
{
	struct receipt *a = add(0, "{1}");

	add(1, "{2}");
	outlet_take(o.outlet[0]);
	receipts_send(o.batch.receipts);
	check_came(0, "");
	check_came(1, "{2} ");
	assert_false(receipt_is_sent(a));
	outlet_give(o.outlet[0]);
	receipts_send(o.batch.receipts);
	check_came(0, "{1} ");
}

static void test_taken_from_the_start(void **state)
{
	outlet_unref(o.outlet[0]);
	o.outlet[0] = outlet_new(o.ours[0], true);
	add(0, "{1}");
	receipts_send(o.batch.receipts);
	check_came(0, "");
}

/* The peer is gone, the batch is not: the descriptor may be another one's by now. */
static void test_closed(void **state)
{
	struct receipt *a = add(0, "{1}");

	outlet_close(o.outlet[0]);
	o.outlet[0] = outlet_unref(o.outlet[0]);
	receipts_send(o.batch.receipts);
	check_came(0, "");
	assert_true(receipt_revoke(a));
}

static void test_who_has_hung_up(void **state)
{
	struct receipt *a = add(0, "{1}");

	close(o.theirs[0]);
	o.theirs[0] = -1;
	receipts_send(o.batch.receipts); /* no SIGPIPE */
	assert_true(receipt_revoke(a));
}

static void test_who_does_not_read(void **state)
{
	static const char much[65536];
	struct receipt *a = add(0, "{1}");

	while (send(o.ours[0], much, sizeof(much), 0) > 0)
		;
	receipts_send(o.batch.receipts);
	assert_true(receipt_revoke(a));
}

/* Far more than go into one write, of sizes that fill it in different ways. */
static void test_many(void **state)
{
	static char header[RECEIPT_MAX], got[RECEIPT_MAX];
	size_t size, n = 0;

	for (size = 1; size + 4 <= RECEIPT_MAX; size = size * 3 / 2 + 1, n++) {
		memset(header, 'a' + (int)n, size);
		for (int i = 0; i < 3; i++)
			batch_add_receipt(&o.batch, o.outlet[0],
					  (struct slice){ header, size });
	}
	size = RECEIPT_MAX - 4;
	memset(header, 'a' + (int)n, size);
	batch_add_receipt(&o.batch, o.outlet[0], (struct slice){ header, size });
	receipts_send(o.batch.receipts);
	for (const struct receipt *r = o.batch.receipts; r; r = r->next) {
		assert_int_equal(recv(o.theirs[0], got, r->size, 0), r->size);
		assert_memory_equal(got, r->frame, r->size);
	}
	check_came(0, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_each_to_its_peer_in_order, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_revoked, setup, teardown),
		cmocka_unit_test_setup_teardown(test_only_revoked, setup, teardown),
		cmocka_unit_test_setup_teardown(test_taken, setup, teardown),
		cmocka_unit_test_setup_teardown(test_taken_from_the_start, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_closed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_who_has_hung_up, setup, teardown),
		cmocka_unit_test_setup_teardown(test_who_does_not_read, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
