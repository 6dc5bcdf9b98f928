/* SPDX-License-Identifier: MIT */

/* What becomes of a file in a queue: moved, revived, sent again, expired; what it counts and
 * who gets that back; and that nothing of it is left when its message has ended. */

#include "integration/harness_file.h"

#include "integration/durable.h"

static void request(struct client *c, const char *text)
{
	say(c, "%s", with_quotes(text));
	hear_reply(c, 1);
}

/* ---- its end ---- */

/* Each way in which a message ends takes the file with it. */
static void test_ends(void **state)
{
	static const char *const requests[] = {
		"{'op':'purge','id':1,'name':'q'}",
		"{'op':'delete','id':1,'name':'q'}",
	};
	struct client *c;

	start_durable();
	c = client_connect();
	for (enum way in = 0; in < N_WAYS; in++) {
		for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
			send_file(c, in, LARGE, "'queue':'q'");
			assert_int_equal(spool_count(), 1);
			request(c, requests[i]);
			wait_for(spool_count() == 0);
		}
		send_file(c, in, LARGE, "'queue':'q'");
		settle(c, "ack", take_file(c, "q", LARGE), "");
		wait_for(spool_count() == 0);
	}
}

/* A dead one is kept, and goes with the purge. */
static void test_dead(void **state)
{
	struct client *c;
	struct frame *f;

	start_durable("--limit", "max_attempts=2");
	c = connect_with_fds();
	send_file(c, BY_FD, LARGE, "'queue':'q','filename':'x'");
	settle(c, "nack", take_file(c, "q", LARGE), ",'delay_ms':0");
	settle(c, "nack", take_file(c, "q", LARGE), ",'delay_ms':0,'reason':'no'");
	take_nothing(c, "q");
	say(c, "{'op':'receive','id':1,'queue':'q','dead':true}");
	f = hear_file(c, 1, LARGE);
	hear_end(c, 1, "peeked");
	assert_string_equal(json_string(f->header, "state"), "dead");
	assert_string_equal(json_string(f->header, "filename"), "x");
	request(c, "{'op':'move','id':1,'name':'q'}");
	settle(c, "reject", take_file(c, "q", LARGE), "");
	assert_int_equal(spool_count(), 1);
	request(c, "{'op':'purge','id':1,'name':'q','state':'dead'}");
	wait_for(spool_count() == 0);
}

static void test_time_to_live(void **state)
{
	struct client *c;

	start_durable();
	c = client_connect();
	for (enum way in = 0; in < N_WAYS; in++) {
		send_file(c, in, LARGE, "'queue':'q','ttl_ms':1");
		wait_for(spool_count() == 0);
		take_nothing(c, "q");
	}
}

static void test_delay_and_priority(void **state)
{
	struct client *c;

	start_durable();
	c = client_connect();
	send_file(c, BY_FD, LARGE, "'queue':'q','delay_ms':20");
	send_file(c, BY_FD, LARGE + 1, "'queue':'q','priority':9");
	send_file(c, BY_FD, LARGE + 2, "'queue':'q','priority':0");
	settle(c, "ack", take_file(c, "q", LARGE + 2), "");
	wait_queue_count("q", "ready", 2);
	settle(c, "ack", take_file(c, "q", LARGE), "");
	settle(c, "ack", take_file(c, "q", LARGE + 1), "");
}

/* ---- from queue to queue ---- */

static void test_move(void **state)
{
	static const char *const queues[][2] = {
		{ "durable", "memory" },
		{ "memory", "durable" },
		{ "durable", "durable2" },
		{ "memory", "memory2" },
	};
	struct client *c, *receiver;

	start_durable(AT_ONCE);
	c = client_connect();
	create_volatile(c, "memory");
	create_volatile(c, "memory2");
	for (size_t i = 0; i < ARRAY_SIZE(queues); i++)
		for (enum way in = 0; in < N_WAYS; in++) {
			struct frame *f;

			receiver = connect_with_fds();
			send_file(c, in, LARGE,
				  keep_printf("'queue':'%s','filename':'x'",
					      queues[i][0]));
			request(c, keep_printf("{'op':'move','id':1,'name':'%s',"
					       "'to':'%s','state':'all'}",
					       queues[i][0], queues[i][1]));
			take_nothing(c, queues[i][0]);
			f = take_file(receiver, queues[i][1], LARGE);
			assert_string_equal(json_string(f->header, "filename"), "x");
			settle(receiver, "ack", f, "");
			client_close(receiver);
			wait_for(spool_count() == 0);
		}
}

/* A sealed memfd was not copied; what is to outlive the daemon is. */
static void test_a_memfd_becomes_durable(void **state)
{
	struct client *c;

	start_durable(AT_ONCE);
	c = client_connect();
	create_volatile(c, "memory");
	send_fd(c, make_memfd(LARGE, true), "'queue':'memory'");
	request(c, "{'op':'move','id':1,'name':'memory','to':'q','state':'all'}");
	restart(CRASH, AT_ONCE);
	c = client_connect();
	settle(c, "ack", take_file(c, "q", LARGE), "");
	wait_for(spool_count() == 0);
}

/* ---- sending ---- */

static void test_sent_again(void **state)
{
	struct client *c;
	uint64_t first;

	start_durable();
	c = client_connect();
	for (enum way in = 0; in < N_WAYS; in++) {
		const char *keys = keep_printf("'queue':'q','dedup_id':'%d'", in);

		first = send_file(c, in, LARGE, keys);
		assert_int_equal(send_file(c, in, LARGE, keys), first);
		assert_int_equal(queue_count("q", "ready"), 1);
		wait_for(spool_count() == 1);
		settle(c, "ack", take_file(c, "q", LARGE), "");
		assert_int_equal(send_file(c, in, LARGE, keys), first);
		wait_for(spool_count() == 0);
	}
}

/* Both are being copied at once: one of them counts. */
static void test_sent_twice_at_once(void **state)
{
	struct client *a, *b;
	int64_t n;

	start_durable();
	a = client_connect();
	b = client_connect();
	say_file(a, 1, BY_FD, 2 << 20, "'queue':'q','dedup_id':'x'");
	say_file(b, 1, BY_FD, 2 << 20, "'queue':'q','dedup_id':'x'");
	n = json_int(hear_reply(a, 1)->header, "message");
	assert_int_equal(json_int(hear_reply(b, 1)->header, "message"), n);
	assert_int_equal(queue_count("q", "ready"), 1);
	wait_for(spool_count() == 1);
}

static void test_confirm_acked(void **state)
{
	struct client *c, *receiver;

	start_durable();
	c = client_connect();
	receiver = connect_with_fds();
	for (enum way in = 0; in < N_WAYS; in++) {
		struct frame *f;

		say_file(c, 1, in, LARGE, "'queue':'q','confirm':'acked'");
		f = take_file(receiver, "q", LARGE);
		hear_nothing(c);
		settle(receiver, "ack", f, "");
		assert_string_equal(json_string(hear_reply(c, 1)->header, "outcome"),
				    "acked");
	}
}

/* Without room it waits with its file; the order stays. */
static void test_waits_for_room(void **state)
{
	struct client *c, *receiver;

	start_durable("--limit", "queue_messages=1");
	c = client_connect();
	receiver = client_connect();
	send_text(c, "q", "first");
	for (enum way in = 0; in < N_WAYS; in++)
		say_file(c, in, in, LARGE + in, "'queue':'q','wait_ms':-1");
	hear_nothing(c);
	settle(receiver, "ack", take(receiver, "q", "first"), "");
	for (enum way in = 0; in < N_WAYS; in++) {
		hear_reply(c, in);
		settle(receiver, "ack", take_file(receiver, "q", LARGE + in), "");
	}
	wait_for(spool_count() == 0);
}

/* Its file takes room of its sender's while it waits. */
static void test_waiting_files_are_counted(void **state)
{
	struct client *c, *receiver;

	start_durable("--limit", "queue_messages=1", "--limit",
		      "user_file_bytes=1000000");
	receiver = client_connect();
	for (enum way in = 0; in < N_WAYS; in++) {
		c = client_connect();
		send_text(c, "q", "first");
		for (int i = 1; i <= 3; i++)
			say_file(c, i, in, LARGE, "'queue':'q','wait_ms':-1");
		wait_for(queue_count("q", "waiting") == 3);
		say_file(c, 4, in, LARGE, "'queue':'q','wait_ms':-1");
		hear_error(c, 4, "quota");
		settle(receiver, "ack", take(receiver, "q", "first"), "");
		for (int i = 1; i <= 3; i++) {
			hear_reply(c, i);
			settle(receiver, "ack", take_file(receiver, "q", LARGE), "");
		}
		send_file(c, in, (size_t)3 * LARGE, "'queue':'q'");
		settle(receiver, "ack", take_file(receiver, "q", (size_t)3 * LARGE), "");
		client_close(c);
	}
	wait_for(spool_count() == 0);
}

/* What waits and is cancelled, times out or loses its sender leaves nothing behind. */
static void test_waits_in_vain(void **state)
{
	struct client *c, *sender;

	start_durable("--limit", "queue_messages=1");
	c = client_connect();
	send_text(c, "q", "first");
	for (enum way in = 0; in < N_WAYS; in++) {
		sender = client_connect();
		send_file_fails(sender, in, LARGE, "'queue':'q','wait_ms':20", "full");
		say_file(sender, 1, in, LARGE, "'queue':'q','wait_ms':-1");
		say(sender, "{'op':'cancel','id':2,'request':1}");
		hear_error(sender, 1, "timeout");
		hear_reply(sender, 2);
		say_file(sender, 3, in, LARGE, "'queue':'q','wait_ms':-1");
		wait_queue_count("q", "waiting", 1);
		client_close(sender);
		wait_queue_count("q", "waiting", 0);
	}
	wait_for(spool_count() == 0);
	settle(c, "ack", take(c, "q", "first"), "");
	take_nothing(c, "q");
}

static void test_send_and_close(void **state)
{
	struct client *c, *receiver;

	start_durable();
	receiver = client_connect();
	for (enum way in = 0; in < N_WAYS; in++) {
		c = client_connect();
		say_file(c, 1, in, 2 << 20, "'queue':'q'");
		client_close(c);
		settle(receiver, "ack", take_file(receiver, "q", 2 << 20), "");
	}
}

/* ---- room ---- */

static void test_file_max(void **state)
{
	struct client *c;

	start_durable("--limit", "file_max=300000", "--limit", "body_max=1024");
	c = client_connect();
	for (enum way in = 0; in < N_WAYS; in++) {
		struct frame *f;

		f = send_file_fails(c, in, LARGE + 1, "'queue':'q'", "too-large");
		assert_non_null(strstr(json_string(f->header, "message"), "file_max"));
		assert_non_null(strstr(json_string(f->header, "message"), "300000"));
		send_file(c, in, LARGE, "'queue':'q'");
		settle(c, "ack", take_file(c, "q", LARGE), "");
	}
	wait_for(spool_count() == 0);
	say_body(c, pattern(1025), 1025, "{'op':'ping','id':1}");
	hear_error(c, 1, "too-large");
}

/* A sparse file counts as what it takes. */
static void test_room_of_a_queue(void **state)
{
	struct client *c;

	start_durable("--limit", "queue_file_bytes=1000000");
	c = client_connect();
	for (enum way in = 0; in < N_WAYS; in++) {
		for (int i = 0; i < 3; i++)
			send_file(c, in, LARGE, "'queue':'q'");
		for (int i = 0; i < 5; i++)
			send_file_fails(c, in, LARGE, "'queue':'q'", "full");
		send_file_fails(c, in, 2000000, "'queue':'q'", "too-large");
		settle(c, "ack", take_file(c, "q", LARGE), "");
		send_file(c, in, LARGE, "'queue':'q'");
		send_file_fails(c, in, LARGE, "'queue':'q'", "full");
		for (int i = 0; i < 3; i++)
			settle(c, "ack", take_file(c, "q", LARGE), "");
		wait_for(spool_count() == 0);
	}
	send_fd(c, make_sparse(2000000), "'queue':'q'");
}

/* Who sends again what a full queue has already is told that, as with a small body. */
static void test_sent_again_to_a_full_queue(void **state)
{
	struct client *c;

	start_durable("--limit", "queue_file_bytes=1000000");
	c = client_connect();
	for (enum way in = 0; in < N_WAYS; in++) {
		const char *keys = keep_printf("'queue':'q','dedup_id':'%d'", in);
		uint64_t first = send_file(c, in, LARGE, keys);

		for (int i = 0; i < 2; i++)
			send_file(c, in, LARGE, "'queue':'q'");
		send_file_fails(c, in, LARGE, "'queue':'q','dedup_id':'new'", "full");
		assert_int_equal(send_file(c, in, LARGE, keys), first);
		for (int i = 0; i < 3; i++)
			settle(c, "ack", take_file(c, "q", LARGE), "");
		wait_for(spool_count() == 0);
	}
}

static void test_room_of_a_user(void **state)
{
	const char *queue = keep_printf("'queue':'@%u.q'", stranger(1));
	struct client *ann;

	skip_unless_root();
	start_durable("--system", "--limit", "user_file_bytes=1000000");
	ann = client_connect_as(stranger(1));
	for (enum way in = 0; in < N_WAYS; in++) {
		for (int i = 0; i < 3; i++)
			send_file(ann, in, LARGE, queue);
		for (int i = 0; i < 5; i++)
			send_file_fails(ann, in, LARGE, queue, "quota");
		say(ann, "{'op':'purge','id':1,'name':'@%u.q'}", stranger(1));
		hear_reply(ann, 1);
		wait_for(spool_count() == 0);
	}
}

/* Files whose copies are under way have taken their room already. */
static void test_room_for_many_at_once(void **state)
{
	enum { N = 12 };
	struct client *c[N];
	int taken = 0;

	start_durable("--limit", "queue_file_bytes=10000000");
	for (int i = 0; i < N; i++) {
		c[i] = client_connect();
		say_file(c[i], 1, i % 2 ? BY_FD : BY_PIECES, 3 << 20, "'queue':'q'");
	}
	for (int i = 0; i < N; i++) {
		struct frame *f = hear(c[i]);

		if (json_has(f->header, "message") && !json_has(f->header, "error"))
			taken++;
		else
			assert_string_equal(json_string(f->header, "error"), "full");
	}
	assert_int_equal(taken, 3);
	assert_int_equal(queue_count("q", "ready"), 3);
	wait_for(spool_count() == 3);
}

/* A sender's share of someone else's inbox. */
static void test_room_in_an_inbox(void **state)
{
	const char *keys = keep_printf("'queue':'@%u'", stranger(9));
	struct client *ann, *owner;

	skip_unless_root();
	start_durable("--system", "--limit", "inbox_file_bytes_per_sender=400000");
	ann = client_connect_as(stranger(1));
	owner = client_connect_as(stranger(9));
	for (enum way in = 0; in < N_WAYS; in++) {
		send_file(ann, in, LARGE, keys);
		send_file_fails(ann, in, LARGE, keys, "quota");
		settle(owner, "ack",
		       take_file(owner, keep_printf("@%u", stranger(9)), LARGE), "");
	}
	wait_for(spool_count() == 0);
}

/* A refusal that needs no byte of the file is given without one, and the id is free again
 * behind the rest of the pieces. */
static void test_refused_early(void **state)
{
	struct client *c;

	start_durable();
	c = client_connect();
	for (enum way in = 0; in < N_WAYS; in++) {
		say_file(c, 1, in, LARGE, "'queue':'no name'");
		hear_error(c, 1, "bad-name");
		say(c, "{'op':'ping','id':1}");
		hear_reply(c, 1);
	}
	wait_for(spool_count() == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_ends),
		it(test_dead),
		it(test_time_to_live),
		it(test_delay_and_priority),
		it(test_move),
		it(test_a_memfd_becomes_durable),
		it(test_sent_again),
		it(test_sent_twice_at_once),
		it(test_confirm_acked),
		it(test_waits_for_room),
		it(test_waiting_files_are_counted),
		it(test_waits_in_vain),
		it(test_send_and_close),
		it(test_file_max),
		it(test_room_of_a_queue),
		it(test_sent_again_to_a_full_queue),
		it(test_room_of_a_user),
		it(test_room_for_many_at_once),
		it(test_room_in_an_inbox),
		it(test_refused_early),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
