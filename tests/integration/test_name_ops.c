/* SPDX-License-Identifier: MIT */

/* create set delete purge move explain: who may, and what becomes of messages, receivers and
 * senders. */

#include "integration/harness.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

enum { OVERFLOW_UID = 65534, MANY = 5000 };

static struct client *root, *ann, *bob;

/* ann and bob are strangers 0 and 1; in the text @A and @B stand for their uids. */
static char *with_users(const char *text)
{
	char *out = keep_printf("%s", text), *at;

	while ((at = strstr(out, "@A")))
		out = keep_printf("%.*s@%u%s", (int)(at - out), out, stranger(0), at + 2);
	while ((at = strstr(out, "@B")))
		out = keep_printf("%.*s@%u%s", (int)(at - out), out, stranger(1), at + 2);
	return with_quotes(out);
}

/* What ids there are in rules: ann's as a number. */
static void begin(const char *rules)
{
	char *file = keep_printf("%s/ipcd.conf", server.dir);
	FILE *f = fopen(file, "we");

	assert_non_null(f);
	fprintf(f, "{\n\"rules\": [\n%s\n] }\n", with_users(rules));
	assert_int_equal(fclose(f), 0);
	start("--system", "--config", file);
	root = client_connect();
	ann = client_connect_as(stranger(0));
	bob = client_connect_as(stranger(1));
}

/* word NULL: it succeeds. Returns the answer. */
#define ask(c, word, request) ask_at(HERE, c, word, request)
static struct frame *ask_at(struct place at, struct client *c, const char *word,
			    const char *request)
{
	client_say(at, c, NULL, 0, "%s", with_users(request));
	return word ? client_hear_error(at, c, 1, word) : client_hear_reply(at, c, 1);
}

static const char *name_line(const char *name)
{
	return frame_line(ask(root, NULL,
			      keep_printf("{'op':'names','id':1,'name':'%s'}", name)),
			  0);
}

static void test_create(void **state)
{
	const char *line;

	skip_unless_root();
	begin("");
	ask(root, NULL, "{'op':'create','id':1,'name':'a'}");
	line = name_line("a");
	assert_string_equal(json_string(line, "mode"), "0600");
	assert_int_equal(json_int(line, "owner_uid"), 0);
	assert_int_equal(json_int(line, "max_attempts"), 5);
	assert_int_equal(json_int(line, "lost_delay"), 5000);
	assert_non_null(strstr(line, "\"backoff\":[1000,5000,30000,300000],"));
	ask(root, "exists", "{'op':'create','id':1,'name':'a'}");
	ask(root, NULL,
	    "{'op':'create','id':1,'name':'b','mode':'0642','owner':4000001,'group':7,"
	    "'queue_messages':2,'max_attempts':1,'backoff':[0]}");
	line = name_line("b");
	assert_string_equal(json_string(line, "mode"), "0642");
	assert_int_equal(json_int(line, "owner_uid"), stranger(0));
	assert_int_equal(json_int(line, "group"), 7);
	assert_int_equal(json_int(line, "queue_messages"), 2);
	assert_int_equal(json_int(line, "max_attempts"), 1);
	assert_non_null(strstr(line, "\"backoff\":[0],"));
	send_text(bob, "b", "1");
	send_text(bob, "b", "2");
	ask(bob, "full", "{'op':'send','id':1,'queue':'b'}");
	settle(ann, "nack", take(ann, "b", "1"), "");
	assert_int_equal(queue_count("b", "dead"), 1);
	/* it was ann's, so she may delete it, but not make it again */
	ask(ann, NULL, "{'op':'delete','id':1,'name':'b'}");
	ask(ann, "denied", "{'op':'create','id':1,'name':'b'}");
	ask(ann, NULL, "{'op':'create','id':1,'name':'@A.x','mode':'0666'}");
	ask(bob, "denied", "{'op':'create','id':1,'name':'@A.y'}");
}

static void test_wrong_requests(void **state)
{
	static const char *const requests[] = {
		"{'op':'create','id':1}",
		"{'op':'create','id':1,'name':5}",
		"{'op':'create','id':1,'name':'a','mode':'0700'}",
		"{'op':'create','id':1,'name':'a','mode':'0688'}",
		"{'op':'create','id':1,'name':'a','mode':'60'}",
		"{'op':'create','id':1,'name':'a','mode':600}",
		"{'op':'create','id':1,'name':'a','owner':-1}",
		"{'op':'create','id':1,'name':'a','owner':4294967295}",
		"{'op':'create','id':1,'name':'a','owner':'root'}",
		"{'op':'create','id':1,'name':'a','group':4294967295}",
		"{'op':'create','id':1,'name':'a','queue_messages':0}",
		"{'op':'create','id':1,'name':'a','backoff':[]}",
		"{'op':'create','id':1,'name':'a','backoff':[-1]}",
		"{'op':'create','id':1,'name':'a','backoff':['1']}",
		"{'op':'create','id':1,'name':'a','backoff':[[1]]}",
		("{'op':'create','id':1,'name':'a','backoff':"
		 "[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}"),
		"{'op':'purge','id':1,'name':'q','state':'leased'}",
		"{'op':'purge','id':1,'name':'q','state':'new'}",
		"{'op':'purge','id':1,'name':'q','state':''}",
		"{'op':'move','id':1,'name':'q','state':7}",
		"{'op':'explain','id':1}",
		"{'op':'explain','id':1,'name':'q','uid':-1}",
		"{'op':'explain','id':1,'name':'q','gids':5}",
	};

	start();
	root = client_connect();
	send_text(root, "q", "x");
	for (size_t i = 0; i < ARRAY_SIZE(requests); i++)
		ask(root, "bad-request", requests[i]);
	ask(root, "bad-name", "{'op':'create','id':1,'name':'a..b'}");
	ask(root, "bad-name", "{'op':'move','id':1,'name':'q','to':'**'}");
	ask(root, "denied", "{'op':'create','id':1,'name':'ipcd.x'}");
	ask(root, "not-found", "{'op':'set','id':1,'name':'a'}");
	assert_int_equal(stats_count("names"), 1);
	assert_int_equal(queue_count("q", "ready"), 1);
}

static void test_set(void **state)
{
	const char *line;

	skip_unless_root();
	begin("");
	send_text(ann, with_users("@A.x"), "1");
	/* hidden as if it were not there; visible, but not his */
	ask(bob, "not-found", "{'op':'set','id':1,'name':'@A.x','mode':'0666'}");
	ask(ann, NULL, "{'op':'set','id':1,'name':'@A.x','mode':'0622'}");
	ask(bob, "denied", "{'op':'set','id':1,'name':'@A.x','mode':'0666'}");
	ask(bob, "denied", "{'op':'delete','id':1,'name':'@A.x'}");
	ask(bob, "denied", "{'op':'purge','id':1,'name':'@A.x'}");
	ask(bob, "denied", "{'op':'move','id':1,'name':'@A.x'}");
	send_text(bob, with_users("@A.x"), "2");
	/* as chown(2) */
	ask(ann, "denied", "{'op':'set','id':1,'name':'@A.x','owner':4000002}");
	ask(ann, "denied", "{'op':'set','id':1,'name':'@A.x','group':4000002}");
	ask(ann, "denied", "{'op':'set','id':1,'name':'@A.x','group':0,'mode':'0666'}");
	line = name_line(with_users("@A.x"));
	assert_string_equal(json_string(line, "mode"), "0622");
	ask(ann, NULL,
	    "{'op':'set','id':1,'name':'@A.x','group':4000001,'owner':4000001}");
	ask(ann, NULL, "{'op':'set','id':1,'name':'@A.x','queue_messages':2}");
	ask(ann, "full", "{'op':'send','id':1,'queue':'@A.x'}");
	ask(root, NULL, "{'op':'set','id':1,'name':'@A.x','owner':4000002,'group':9}");
	ask(ann, "denied", "{'op':'set','id':1,'name':'@A.x','mode':'0600'}");
	take(bob, with_users("@A.x"), "1");
	/* the name still shows whose it was made as, not its owner */
	assert_non_null(strstr(name_line(with_users("@A.x")), with_users("@A.x")));
}

/* More room lets in who waits; less right ends who may no longer. */
static void test_set_is_felt_at_once(void **state)
{
	skip_unless_root();
	begin("{ 'names': 'q', 'mode': '0666' }");
	ask(root, NULL, "{'op':'create','id':1,'name':'in','queue_messages':1}");
	ask(root, NULL, "{'op':'send','id':1,'queue':'in'}");
	say(root, "{'op':'send','id':2,'queue':'in','wait_ms':-1}");
	ask(client_connect(), NULL, "{'op':'set','id':1,'name':'in','queue_messages':2}");
	hear_reply(root, 2);
	say(bob, "{'op':'receive','id':3,'queue':'q','wait_ms':-1}");
	say(ann, "%s",
	    with_users("{'op':'receive','id':3,'queues':['@A','q'],'wait_ms':-1}"));
	hear_nothing(ann);
	hear_nothing(bob);
	ask(root, NULL, "{'op':'set','id':1,'name':'q','mode':'0622'}");
	hear_error(bob, 3, "denied");
	hear_error(ann, 3, "denied");
	assert_int_equal(queue_count("q", "receivers"), 0);
}

static void test_delete(void **state)
{
	struct frame *leased;
	struct client *waiting, *confirming;

	skip_unless_root();
	begin("");
	waiting = client_connect();
	confirming = client_connect();
	ask(root, NULL, "{'op':'create','id':1,'name':'q','queue_messages':2}");
	say_text(confirming, "1", "{'op':'send','id':5,'queue':'q','confirm':'acked'}");
	hear_nothing(confirming);
	leased = take(root, "q", "1");
	say_text(confirming, "2", "{'op':'send','id':6,'queue':'q','confirm':'acked'}");
	hear_nothing(confirming);
	say(waiting, "{'op':'send','id':7,'queue':'q','wait_ms':-1}");
	say(waiting, "{'op':'send','id':8,'queue':'q','wait_ms':-1,'confirm':'acked'}");
	hear_nothing(waiting);
	ask(client_connect(), NULL, "{'op':'delete','id':1,'name':'q'}");
	hear_error(waiting, 7, "not-found");
	hear_error(waiting, 8, "not-found");
	for (uint64_t id = 5; id <= 6; id++)
		assert_string_equal(json_string(hear_reply(confirming, id)->header,
						"outcome"),
				    "deleted");
	settle_fails(root, "ack", leased, "lease-lost");
	assert_int_equal(stats_count("names"), 0);
	assert_int_equal(stats_count("messages"), 0);
	assert_int_equal(stats_count("bytes"), 0);
	take_nothing(root, "q"); /* a new one */
}

/* One of many queues goes: the receive lives on with the others. */
static void test_delete_with_receivers(void **state)
{
	struct client *one, *both;

	start();
	root = client_connect();
	one = client_connect();
	both = client_connect();
	say(one, "{'op':'receive','id':3,'queue':'a','max':0,'window':3,'wait_ms':-1}");
	hear_nothing(one); /* it is the first in line */
	say(both,
	    "{'op':'receive','id':3,'queues':['a','b'],'max':0,'window':3,'wait_ms':-1}");
	hear_nothing(both);
	send_text(root, "a", "x");
	hear_delivery(one, 3, "x");
	ask(root, NULL, "{'op':'delete','id':1,'name':'a'}");
	hear_end(one, 3, "deleted");
	hear_nothing(both);
	send_text(root, "b", "y");
	hear_delivery(both, 3, "y");
	ask(root, NULL, "{'op':'delete','id':1,'name':'b'}");
	hear_end(both, 3, "deleted");
}

/* Ownership lasts until delete, not until empty. */
static void test_an_empty_name_keeps_its_owner(void **state)
{
	skip_unless_root();
	begin("");
	ask(root, NULL,
	    "{'op':'create','id':1,'name':'q','owner':4000001,'mode':'0666'}");
	send_text(bob, "q", "x");
	settle(bob, "ack", take(bob, "q", "x"), "");
	assert_int_equal(json_int(name_line("q"), "owner_uid"), stranger(0));
	client_close(ann);
	wait_for(stats_count("peers") == 3);
	assert_int_equal(json_int(name_line("q"), "owner_uid"), stranger(0));
	ask(bob, "denied", "{'op':'delete','id':1,'name':'q'}");
}

/* A ready, a delayed, a dead and a leased one. */
static struct frame *fill_states(const char *queue)
{
	struct frame *leased;

	send_text(root, queue, "dead");
	settle(root, "reject", take(root, queue, "dead"), "");
	send_text(root, queue, "leased");
	leased = take(root, queue, "leased");
	send_text(root, queue, "ready");
	say_text(root, "x", "{'op':'send','id':1,'queue':'%s','delay_ms':3600000}",
		 queue);
	hear_reply(root, 1);
	return leased;
}

static void assert_states(const char *queue, int ready, int delayed, int dead)
{
	assert_int_equal(queue_count(queue, "ready"), ready);
	assert_int_equal(queue_count(queue, "delayed"), delayed);
	assert_int_equal(queue_count(queue, "dead"), dead);
	assert_int_equal(queue_count(queue, "leased"), 1);
}

static void test_purge_by_state(void **state)
{
	static const struct {
		const char *keys;
		int purged, ready, delayed, dead;
	} rows[] = {
		{ "", 2, 0, 0, 1 },
		{ ",'state':'ready'", 1, 0, 1, 1 },
		{ ",'state':'delayed'", 1, 1, 0, 1 },
		{ ",'state':'dead'", 1, 1, 1, 0 },
		{ ",'state':'all'", 3, 0, 0, 0 },
	};

	start();
	root = client_connect();
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char *queue = keep_printf("q%zu", i);
		struct frame *f, *leased = fill_states(queue);

		f = ask(root, NULL,
			keep_printf("{'op':'purge','id':1,'name':'%s'%s}", queue,
				    rows[i].keys));
		assert_int_equal(json_int(f->header, "purged"), rows[i].purged);
		assert_states(queue, rows[i].ready, rows[i].delayed, rows[i].dead);
		settle(root, "ack", leased, "");
	}
}

static void test_move_by_state(void **state)
{
	struct frame *f, *leased;

	start();
	root = client_connect();
	leased = fill_states("q");
	f = ask(root, NULL, "{'op':'move','id':1,'name':'q'}");
	assert_int_equal(json_int(f->header, "moved"), 1);
	assert_states("q", 2, 1, 0);
	f = ask(root, NULL, "{'op':'move','id':1,'name':'q','state':'ready'}");
	assert_int_equal(json_int(f->header, "moved"), 2);
	assert_states("q", 2, 1, 0);
	f = ask(root, NULL, "{'op':'move','id':1,'name':'q','state':'all','to':'r'}");
	assert_int_equal(json_int(f->header, "moved"), 3);
	assert_states("q", 0, 0, 0);
	/* in the order they were sent, with all attempts ahead of them */
	f = take(root, "r", "dead");
	assert_int_equal(json_int(f->header, "attempt"), 1);
	assert_string_equal(json_string(f->header, "queue"), "r");
	settle(root, "ack", f, "");
	settle(root, "ack", take(root, "r", "ready"), "");
	settle(root, "ack", take(root, "r", "x"), "");
	settle(root, "ack", leased, "");
	assert_int_equal(stats_count("messages"), 0);
	assert_int_equal(stats_count("bytes"), 0);
}

static void test_move_into_a_full_queue(void **state)
{
	struct frame *f;

	start();
	root = client_connect();
	ask(root, NULL, "{'op':'create','id':1,'name':'r','queue_messages':2}");
	for (int i = 0; i < 4; i++)
		send_text(root, "q", "x");
	f = ask(root, "full", "{'op':'move','id':1,'name':'q','to':'r','state':'ready'}");
	assert_int_equal(json_int(f->header, "moved"), 2);
	assert_int_equal(queue_count("q", "ready"), 2);
	assert_int_equal(queue_count("r", "ready"), 2);
	/* what is full already can still take its own back */
	settle(root, "reject", take(root, "r", "x"), "");
	ask(root, NULL, "{'op':'move','id':1,'name':'r'}");
	assert_int_equal(queue_count("r", "ready"), 2);
}

static void test_rights_to_move(void **state)
{
	skip_unless_root();
	begin("{ 'names': 'drop', 'mode': '0622' }");
	send_text(root, "jobs", "x");
	send_text(ann, with_users("@A.x"), "x");
	ask(ann, "denied",
	    "{'op':'move','id':1,'name':'@A.x','to':'jobs','state':'ready'}");
	ask(ann, "denied",
	    "{'op':'move','id':1,'name':'@A.x','to':'new','state':'ready'}");
	ask(ann, "not-found", "{'op':'move','id':1,'name':'jobs','to':'@A.x'}");
	assert_int_equal(queue_count(with_users("@A.x"), "ready"), 1);
	ask(ann, NULL, "{'op':'move','id':1,'name':'@A.x','to':'drop','state':'ready'}");
	ask(ann, "denied",
	    "{'op':'move','id':1,'name':'drop','to':'@A.x','state':'all'}");
	take(root, "drop", "x");
}

/* More than is done at once: others are answered in between, and all is done. */
static void sweep_many(const char *request, const char *key, int expected)
{
	struct client *other = client_connect();
	struct frame *f;

	hear_nothing(other);
	say(root, "%s", with_quotes(request));
	say(other, "{'op':'ping','id':9}");
	hear_reply(other, 9);
	f = hear_reply(root, 1);
	assert_int_equal(json_int(f->header, key), expected);
	client_close(other);
}

static void send_many(const char *queue)
{
	for (int i = 0; i < MANY; i++) {
		say(root, "{'op':'send','queue':'%s'}", queue);
		if (i % 500 == 499)
			hear_nothing(root);
	}
}

static void test_many_messages(void **state)
{
	start();
	root = client_connect();
	send_many("old");
	send_many("q"); /* younger ones first, then older ones come to them */
	sweep_many("{'op':'move','id':1,'name':'old','to':'q','state':'ready'}", "moved",
		   MANY);
	assert_int_equal(queue_count("q", "ready"), 2 * MANY);
	sweep_many("{'op':'move','id':1,'name':'q','state':'all'}", "moved", 2 * MANY);
	sweep_many("{'op':'purge','id':1,'name':'q'}", "purged", 2 * MANY);
	assert_int_equal(stats_count("messages"), 0);
}

/* Both are read at once, so that the second is handled in the middle of the first. */
static void say_both(struct client *c, const char *first, const char *second)
{
	size_t size, size2;
	char *a = frame_encode(&size, NULL, 0, "%s", with_quotes(first));
	char *b = frame_encode(&size2, NULL, 0, "%s", with_quotes(second));
	char *both = keep(malloc(size + size2));

	memcpy(both, a, size);
	memcpy(both + size, b, size2);
	say_bytes(c, both, size + size2);
}

/* ann's move is under way, or over already, when she may send to its end no longer. */
static struct frame *move_and_lose_the_right(const char *own)
{
	ask(root, NULL, "{'op':'set','id':1,'name':'pub','mode':'0622'}");
	say(ann, "{'op':'move','id':1,'name':'%s','to':'pub','state':'all'}", own);
	do {
		say(root, "{'op':'names','id':1,'name':'pub'}");
	} while (json_int(frame_line(hear_reply(root, 1), 0), "ready") == 0);
	ask(root, NULL, "{'op':'set','id':1,'name':'pub','mode':'0600'}");
	return hear(ann);
}

static void test_less_right_during_a_move(void **state)
{
	char *own = keep_printf("@%u.big", stranger(1));
	struct frame *f = NULL;

	skip_unless_root();
	start("--system");
	root = client_connect();
	ann = client_connect_as(stranger(1));
	ask(root, NULL, "{'op':'create','id':1,'name':'pub'}");
	for (int i = 0; i < 20 * MANY; i++) {
		say(ann, "{'op':'send','queue':'%s'}", own);
		if (i % 500 == 499)
			hear_nothing(ann);
	}
	for (int tries = 0; tries < 10; tries++) { /* where it was over: once more */
		f = move_and_lose_the_right(own);
		if (json_has(f->header, "error"))
			break;
		say(root, "{'op':'move','id':1,'name':'pub','to':'%s','state':'all'}",
		    own);
		hear_reply(root, 1);
	}
	assert_string_equal(json_string(f->header, "error"), "denied");
	assert_int_equal(json_int(f->header, "moved"), queue_count("pub", "ready"));
}

/* The queue, or who asked, goes in the middle. */
static void test_a_sweep_that_is_cut_short(void **state)
{
	struct client *other;

	start();
	root = client_connect();
	other = client_connect();
	send_many("q");
	say_both(other, "{'op':'purge','id':1,'name':'q'}",
		 "{'op':'delete','id':2,'name':'q'}");
	hear_reply(other, 2);
	hear_error(other, 1, "not-found");
	send_many("q");
	say_both(other, "{'op':'purge','id':1,'name':'q'}",
		 "{'op':'cancel','id':2,'request':1}");
	assert_true(json_int(hear_error(other, 1, "timeout")->header, "purged") < MANY);
	hear_reply(other, 2);
	say(other, "{'op':'move','id':1,'name':'q','to':'r','state':'ready'}");
	client_close(other);
	wait_for(stats_count("peers") == 2);
	send_many("q");
	say_both(root, "{'op':'purge','id':1,'name':'q'}",
		 "{'op':'disconnect','id':2,'peer':1}");
	while (hear_or_eof(root))
		;
}

/* It ends at once, before the answer to cancel, and does no more. */
static void test_a_cancelled_sweep_of_what_is_durable(void **state)
{
	enum { TURN = 2000 };
	struct client *other;
	int64_t purged;

	start_durable();
	root = client_connect();
	other = client_connect();
	for (int i = 0; i < 5; i++) {
		send_many("q");
		wait_queue_count("q", "ready", MANY);
		say_both(other, "{'op':'purge','id':1,'name':'q'}",
			 "{'op':'cancel','id':2,'request':1}");
		purged = json_int(hear_error(other, 1, "timeout")->header, "purged");
		hear_reply(other, 2);
		assert_in_range(purged, 1, TURN);
		say(other, "{'op':'purge','id':1,'name':'q'}");
		assert_int_equal(json_int(hear_reply(other, 1)->header, "purged"),
				 MANY - purged);
	}
}

/* ---- explain ---- */

static void test_explain(void **state)
{
	const char *line;
	struct frame *f;

	skip_unless_root();
	begin("{ 'names': 'jobs.*', 'owner': '4000001', 'mode': '0620',\n"
	      "  'group': '4000002' },\n{ 'names': 'open', 'mode': '0666' }");
	line = frame_line(ask(bob, NULL, "{'op':'explain','id':1,'name':'jobs.a'}"), 0);
	assert_string_equal(json_string(line, "rule"), "ipcd.conf:3");
	assert_string_equal(json_string(line, "mode"), "0620");
	assert_int_equal(json_int(line, "owner_uid"), stranger(0));
	assert_int_equal(json_int(line, "group"), stranger(1));
	assert_int_equal(json_int(line, "uid"), stranger(1));
	assert_non_null(strstr(line, "\"exists\":false"));
	assert_non_null(strstr(line, "\"read\":false"));
	assert_non_null(strstr(line, "\"write\":true"));
	assert_non_null(strstr(line, "\"create\":true"));
	/* explaining makes nothing */
	assert_int_equal(stats_count("names"), 0);
	send_text(bob, "jobs.a", "x");
	take(ann, "jobs.a", "x");
	line = frame_line(ask(bob, NULL, "{'op':'explain','id':1,'name':'open'}"), 0);
	assert_string_equal(json_string(line, "rule"), "ipcd.conf:5");
	line = frame_line(ask(bob, NULL, "{'op':'explain','id':1,'name':'x'}"), 0);
	assert_string_equal(json_string(line, "rule"), "no rule for it");
	assert_non_null(strstr(line, "\"create\":false"));
	/* about others only root, who says their groups */
	f = ask(bob, "denied", "{'op':'explain','id':1,'name':'open','uid':0}");
	assert_string_equal(json_string(f->header, "message"),
			    "only root may ask about other users than oneself");
	ask(bob, "denied", "{'op':'explain','id':1,'name':'open','uid':4000001}");
	ask(bob, NULL, "{'op':'explain','id':1,'name':'open','uid':4000002}");
	line = frame_line(ask(root, NULL,
			      "{'op':'explain','id':1,'name':'jobs.b','uid':4000009}"),
			  0);
	assert_non_null(strstr(line, "\"write\":false"));
	line = frame_line(ask(root, NULL,
			      "{'op':'explain','id':1,'name':'jobs.b',"
			      "'uid':4000009,'gids':[1,4000002]}"),
			  0);
	assert_non_null(strstr(line, "\"write\":true"));
	ask(root, NULL, "{'op':'set','id':1,'name':'jobs.a','mode':'0600'}");
	line = frame_line(ask(ann, NULL, "{'op':'explain','id':1,'name':'jobs.a'}"), 0);
	assert_string_equal(json_string(line, "rule"), "set for this name");
	/* a denied send tells the rule that decides */
	f = ask(client_connect_as(stranger(5)), "denied",
		"{'op':'send','id':1,'queue':'jobs.c'}");
	assert_non_null(strstr(json_string(f->header, "message"), "ipcd.conf:3"));
	assert_non_null(strstr(json_string(f->header, "message"), "0620"));
}

/* ---- names made by use ---- */

/* A rule lets all make it; who does gets nothing more by that. */
static void test_who_makes_a_name_of_another(void **state)
{
	const char *line;

	skip_unless_root();
	begin("{ 'names': 'auth', 'mode': '0622' }, { 'names': 'team.*', 'mode': '0660' },"
	      "{ 'names': '@*.drop', 'mode': '0662' }");
	send_text(bob, "auth", "mine?");
	line = name_line("auth");
	assert_int_equal(json_int(line, "owner_uid"), 0);
	ask(bob, "denied", "{'op':'receive','id':1,'queue':'auth'}");
	ask(bob, "denied", "{'op':'set','id':1,'name':'auth','mode':'0666'}");
	ask(bob, "denied", "{'op':'delete','id':1,'name':'auth'}");
	ask(root, NULL, "{'op':'delete','id':1,'name':'auth'}");
	ask(bob, "denied", "{'op':'create','id':1,'name':'auth','mode':'0666'}");
	ask(bob, "denied", "{'op':'create','id':1,'name':'auth','queue_messages':1}");
	ask(bob, "denied", "{'op':'create','id':1,'name':'auth','group':4000002}");
	ask(bob, "denied", "{'op':'create','id':1,'name':'auth','owner':4000002}");
	ask(bob, NULL, "{'op':'create','id':1,'name':'auth'}");
	/* his group has no right on what is not his */
	ask(bob, "denied", "{'op':'send','id':1,'queue':'team.x'}");
	send_text(bob, with_users("@A.drop"), "hello");
	line = name_line(with_users("@A.drop"));
	assert_int_equal(json_int(line, "owner_uid"), stranger(0));
	assert_int_not_equal(json_int(line, "group"), stranger(1));
	ask(bob, "denied", "{'op':'receive','id':1,'queue':'@A.drop'}");
	take(ann, with_users("@A.drop"), "hello");
	/* one's own keeps one's group */
	send_text(bob, with_users("@B.drop"), "x");
	assert_int_equal(json_int(name_line(with_users("@B.drop")), "group"),
			 stranger(1));
	send_text(bob, with_users("@A"), "x");
	assert_int_not_equal(json_int(name_line(with_users("@A")), "group"), stranger(1));
}

/* Nor do two of them share anything: who is who cannot be told. */
static void test_nobody_shares_nothing(void **state)
{
	struct client *one, *two;
	struct frame *f;

	skip_unless_root();
	begin("{ 'names': 'open.*', 'mode': '0666' },"
	      "{ 'names': 'group', 'mode': '0060', 'group': '65534' }");
	one = client_connect_as(OVERFLOW_UID);
	two = client_connect_as(OVERFLOW_UID);
	ask(one, "denied", "{'op':'send','id':1,'queue':'open.x','dedup_id':'k'}");
	send_text(one, "open.x", "x");
	f = take(one, "open.x", "x");
	settle_fails(two, "ack", f, "lease-lost");
	settle(one, "ack", f, "");
	send_text(root, "group", "x");
	ask(one, "denied", "{'op':'receive','id':1,'queue':'group'}");
}

static void test_nobody_owns_nothing(void **state)
{
	static const char *const denied[] = {
		"{'op':'create','id':1,'name':'@65534.x'}",
		"{'op':'create','id':1,'name':'@65534'}",
		"{'op':'create','id':1,'name':'open.y','mode':'0600'}",
		"{'op':'create','id':1,'name':'theirs','mode':'0600'}",
		"{'op':'send','id':1,'queue':'theirs'}",
		"{'op':'set','id':1,'name':'open.x','mode':'0600'}",
		"{'op':'delete','id':1,'name':'open.x'}",
		"{'op':'purge','id':1,'name':'open.x'}",
		"{'op':'move','id':1,'name':'open.x'}",
	};
	struct client *nobody;

	skip_unless_root();
	begin("{ 'names': 'open.*', 'mode': '0666', 'owner': '65534' },"
	      "{ 'names': 'theirs', 'mode': '0600', 'owner': '65534' }");
	nobody = client_connect_as(OVERFLOW_UID);
	send_text(root, "open.x", "x");
	for (size_t i = 0; i < ARRAY_SIZE(denied); i++)
		ask(nobody, "denied", denied[i]);
	take(nobody, "open.x", "x");
	ask(nobody, "denied", "{'op':'explain','id':1,'name':'open.x','uid':0}");
}

/* "@1000" is how the daemon keeps it, not how people call it. */
static void test_refusals_show_user_names(void **state)
{
	struct frame *f;

	skip_unless_root();
	begin("");
	send_text(root, "@root.x", "x");
	list(root, "peers");
	f = ask(bob, "denied", "{'op':'receive','id':1,'queue':'@0.x'}");
	assert_non_null(strstr(json_string(f->header, "message"), "@root.x"));
	f = ask(bob, "denied", "{'op':'send','id':1,'queue':'@0.y'}");
	assert_non_null(strstr(json_string(f->header, "message"), "@root.y"));
	f = ask(bob, NULL, "{'op':'explain','id':1,'name':'@0.z'}");
	assert_string_equal(json_string(frame_line(f, 0), "name"), "@root.z");
	f = ask(root, "not-found", "{'op':'names','id':1,'name':'@root.none'}");
	assert_non_null(strstr(json_string(f->header, "message"), "@root.none"));
	f = ask(root, "not-found", "{'op':'delete','id':1,'name':'@root.none'}");
	assert_non_null(strstr(json_string(f->header, "message"), "@root.none"));
}

static void test_not_shown(void **state)
{
	static const char *const ops[] = { "set", "delete", "purge", "move", "names" };

	skip_unless_root();
	begin("");
	send_text(root, "secret", "x");
	send_text(ann, with_users("@A.secret"), "x");
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		ask(bob, "not-found",
		    keep_printf("{'op':'%s','id':1,'name':'secret'}", ops[i]));
		ask(bob, "not-found",
		    keep_printf("{'op':'%s','id':1,'name':'@A.secret'}", ops[i]));
		/* no other answer than for what is not there */
		ask(bob, "not-found",
		    keep_printf("{'op':'%s','id':1,'name':'nothing'}", ops[i]));
	}
	assert_null(frame_line(list(bob, "names"), 0));
	assert_null(frame_line(list(bob, "peers"), 1));
	assert_null(strstr(list(bob, "stats")->body, "secret"));
	assert_int_equal(queue_count("secret", "ready"), 1);
}

/* Else it could be neither found nor opened again. */
static void test_one_sees_ones_own_closed_names(void **state)
{
	skip_unless_root();
	begin("");
	ask(ann, NULL, "{'op':'create','id':1,'name':'@A.shut','mode':'0000'}");
	assert_non_null(frame_line(list(ann, "names"), 0));
	ask(ann, NULL, "{'op':'names','id':1,'name':'@A.shut'}");
	assert_null(frame_line(list(bob, "names"), 0));
}

/* What c is told of a name, with "NAME" in place of it. */
static char *told(struct client *c, const char *format, const char *name)
{
	char *request = keep_printf("%s", format), *at = strstr(request, "NAME"), *text;
	struct frame *f;

	say(c, "%s",
	    with_users(
		    keep_printf("%.*s%s%s", (int)(at - request), request, name, at + 4)));
	f = hear(c);
	text = keep_printf("%s%s", f->header, f->body);
	name = with_users(name);
	while ((at = strstr(text, name)))
		text = keep_printf("%.*sNAME%s", (int)(at - text), text,
				   at + strlen(name));
	return text;
}

/* Of each two names the first is there. What bob does to it makes none either. */
static void test_refused_as_if_not_there(void **state)
{
	static const char *const names[][2] = { { "secret", "nothin" },
						{ "jobs.a", "jobs.b" },
						{ "@A.secret", "@A.nothin" } };
	static const char *const requests[] = {
		"{'op':'explain','id':1,'name':'NAME'}",
		"{'op':'explain','id':1,'name':'NAME','gids':[0,7]}",
		"{'op':'send','id':1,'queue':'NAME'}",
		"{'op':'receive','id':1,'queue':'NAME'}",
		"{'op':'receive','id':1,'queue':'NAME','peek':true}",
		"{'op':'create','id':1,'name':'NAME'}",
		"{'op':'names','id':1,'name':'NAME'}",
		"{'op':'set','id':1,'name':'NAME'}",
	};

	skip_unless_root();
	begin("{ 'names': 'jobs.*', 'mode': '0660', 'group': '7' }");
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		const char *name = with_users(names[i][0]);

		ask(root, NULL,
		    keep_printf("{'op':'create','id':1,'name':'%s','mode':'0660',"
				"'owner':4000001}",
				name));
		for (size_t j = 0; j < ARRAY_SIZE(requests); j++)
			assert_string_equal(told(bob, requests[j], names[i][0]),
					    told(bob, requests[j], names[i][1]));
	}
	assert_int_equal(stats_count("names"), ARRAY_SIZE(names));
}

/* Who could make it, if it were not there, sees that it is; but not whose and why. */
static void test_denied_what_one_could_make(void **state)
{
	static const char *const names[] = { "open", "@A" };

	skip_unless_root();
	begin("{ 'names': 'open', 'mode': '0666' }");
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char *name = with_users(names[i]);
		const char *line;
		struct frame *f;

		ask(root, NULL,
		    keep_printf("{'op':'create','id':1,'name':'%s','mode':'0600'}",
				name));
		f = ask(bob, "denied",
			keep_printf("{'op':'send','id':1,'queue':'%s'}", name));
		assert_string_equal(json_string(f->header, "message"),
				    keep_printf("%u may not send to %s", stranger(1),
						name));
		line = frame_line(
			ask(bob, NULL,
			    keep_printf("{'op':'explain','id':1,'name':'%s'}", name)),
			0);
		assert_non_null(strstr(line, "\"exists\":true"));
		assert_non_null(strstr(line, "\"write\":false"));
		assert_non_null(strstr(line, "\"create\":false"));
		assert_false(json_has(line, "owner_uid"));
		assert_false(json_has(line, "mode"));
		assert_false(json_has(line, "rule"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_create),
		it(test_wrong_requests),
		it(test_set),
		it(test_set_is_felt_at_once),
		it(test_delete),
		it(test_delete_with_receivers),
		it(test_an_empty_name_keeps_its_owner),
		it(test_purge_by_state),
		it(test_move_by_state),
		it(test_move_into_a_full_queue),
		it(test_rights_to_move),
		it(test_many_messages),
		it(test_a_sweep_that_is_cut_short),
		it(test_a_cancelled_sweep_of_what_is_durable),
		it(test_less_right_during_a_move),
		it(test_explain),
		it(test_who_makes_a_name_of_another),
		it(test_nobody_owns_nothing),
		it(test_nobody_shares_nothing),
		it(test_refusals_show_user_names),
		it(test_not_shown),
		it(test_one_sees_ones_own_closed_names),
		it(test_refused_as_if_not_there),
		it(test_denied_what_one_could_make),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
