/* SPDX-License-Identifier: MIT */

/* Filters: which messages peek, move and purge are about. */

#include "integration/harness.h"

#include <stdio.h>

static struct client *c;

static void send_with(const char *text, const char *keys)
{
	say_text(c, text, "{'op':'send','id':1,'queue':'q'%s}", with_quotes(keys));
	hear_reply(c, 1);
}

/* The bodies that a peek shows, joined by blanks. */
static const char *peek(const char *filter)
{
	char *all = keep_printf("%s", "");
	struct frame *f;

	say(c, "{'op':'receive','id':1,'queue':'q','max':0,'peek':true,'filter':%s}",
	    with_quotes(filter));
	for (;;) {
		f = hear_reply(c, 1);
		if (json_has(f->header, "end"))
			return all;
		all = keep_printf("%s%s%s", all, *all ? " " : "", f->body);
	}
}

static void test_each_condition(void **state)
{
	static const struct {
		const char *filter, *shown;
	} rows[] = {
		{ "{}", "a b c d" },
		{ "{'older_ms':3600000}", "" },
		{ "{'newer_ms':3600000}", "a b c d" },
		{ "{'newer_ms':0}", "" },
		{ "{'uid':4000009}", "" },
		{ "{'attempt_min':1}", "a" },
		{ "{'attempt_max':0}", "b c d" },
		{ "{'priority_min':5}", "c" },
		{ "{'priority_max':0}", "b" },
		{ "{'priority_min':1,'priority_max':4}", "a d" },
		{ "{'meta':{}}", "a b c d" },
		{ "{'meta':{'kind':'thumb'}}", "b c" },
		{ "{'meta':{'kind':'thumb','n':3}}", "c" },
		{ "{'meta':{'n':-9007199254740993}}", "b" },
		{ "{'meta':{'n':3}}", "c" },
		{ "{'meta':{'n':'3'}}", "d" },
		{ "{'meta':{'yes':true}}", "d" },
		{ "{'meta':{'yes':false}}", "" },
		{ "{'meta':{'no':null}}", "d" },
		{ "{'meta':{'none':null}}", "" },
		{ "{'meta':{'inner':1}}", "" },
		{ "{'meta':{'\\u006bind':'th\\u0075mb'}}", "b c" },
		{ "{'priority_max':4,'meta':{'kind':'thumb'}}", "b" },
	};

	struct frame *f;

	start();
	c = client_connect();
	send_with("a", "");
	send_with("b", ",'priority':0,'meta':{'kind':'thumb','n':-9007199254740993}");
	send_with("c", ",'priority':7,'meta':{ 'n' : 3, 'kind':'\\u0074humb'}");
	send_with("d", ",'meta':{'n':'3','yes':true,'no':null,'o':{'inner':1}}");
	say(c, "{'op':'receive','id':1,'queue':'q','max':2,'window':2}");
	hear_delivery(c, 1, "b");
	f = hear_delivery(c, 1, "a");
	hear_end(c, 1, "max");
	settle(c, "nack", f, ",'delay_ms':0");
	say(c, "{'op':'nack','message':2,'count':false,'delay_ms':0}");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_string_equal(peek(rows[i].filter), rows[i].shown);
}

static void test_wrong_filters(void **state)
{
	static const struct {
		const char *filter, *named;
	} rows[] = {
		{ "5", "\"filter\" must be an object" },
		{ "[]", "\"filter\" must be an object" },
		{ "{'colour':'red'}", "unknown member \"colour\"" },
		{ "{'older':1}", "unknown member \"older\"" },
		{ "{'':1}", "unknown member \"\"" },
		{ "{'older_ms':-1}", "\"older_ms\" of \"filter\" must be from 0" },
		{ "{'older_ms':'1h'}", "\"older_ms\" of \"filter\" must be an integer" },
		{ "{'newer_ms':1.5}", "\"newer_ms\" of" },
		{ "{'newer_ms':31536000000001}", "\"newer_ms\" of" },
		{ "{'uid':4294967295}", "\"uid\" of" },
		{ "{'uid':'ann'}", "\"uid\" of" },
		{ "{'attempt_min':-1}", "\"attempt_min\" of" },
		{ "{'priority_min':10}",
		  "\"priority_min\" of \"filter\" must be from 0 to 9" },
		{ "{'meta':1}", "\"meta\" of \"filter\" must be an object" },
		{ "{'meta':{'a':[]}}",
		  "\"a\" in \"meta\" of \"filter\" must be a string" },
		{ "{'meta':{'a':{}}}", "\"a\" in \"meta\"" },
		{ "{'meta':{'a':1.5}}", "\"a\" in \"meta\"" },
		{ "{'meta':{'1':1,'2':1,'3':1,'4':1,'5':1,'6':1,'7':1,'8':1,'9':1,'a':1,"
		  "'b':1,'c':1,'d':1,'e':1,'f':1,'g':1,'h':1}}",
		  "filter_meta_max" },
	};
	static const char *const requests[] = {
		"{'op':'receive','id':1,'queue':'q','peek':true,'filter':%s}",
		"{'op':'purge','id':1,'name':'q','filter':%s}",
		"{'op':'move','id':1,'name':'q','state':'all','filter':%s}",
	};

	start();
	c = client_connect();
	send_with("x", "");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		for (size_t k = 0; k < ARRAY_SIZE(requests); k++) {
			const char *at = strstr(requests[k], "%s"), *text;

			say(c, "%.*s%s}", (int)(at - requests[k]),
			    with_quotes(requests[k]), with_quotes(rows[i].filter));
			text = json_string(hear_error(c, 1, "bad-request")->header,
					   "message");
			if (!strstr(text, rows[i].named))
				fail_msg("%s: %s", rows[i].filter, text);
		}
	}
	assert_string_equal(peek("{}"), "x");
}

/* Messages are taken in their order. */
static void test_a_plain_receive_takes_no_filter(void **state)
{
	const char *text;

	start();
	c = client_connect();
	send_with("x", "");
	say(c, "{'op':'receive','id':1,'queue':'q','filter':{}}");
	text = json_string(hear_error(c, 1, "bad-request")->header, "message");
	assert_non_null(strstr(text, "\"filter\""));
	assert_non_null(strstr(text, "\"peek\""));
	assert_non_null(strstr(text, "move"));
	take(c, "q", "x");
}

/* Who sent it is the kernel's word, and stays with what is moved. */
static void test_senders(void **state)
{
	struct client *ann;
	struct frame *f;

	skip_unless_root();
	start("--system");
	c = client_connect();
	say(c, "{'op':'create','id':1,'name':'q','mode':'0622'}");
	hear_reply(c, 1);
	ann = client_connect_as(stranger(0));
	send_with("root's", "");
	send_text(ann, "q", "ann's");
	say(c,
	    "{'op':'move','id':1,'name':'q','to':'r','state':'all','filter':{'uid':%u}}",
	    stranger(0));
	f = hear_reply(c, 1);
	assert_int_equal(json_int(f->header, "moved"), 1);
	assert_string_equal(peek("{}"), "root's");
	f = take(c, "r", "ann's");
	assert_int_equal(json_int(f->header, "from.uid"), stranger(0));
	assert_string_equal(peek("{'uid':0}"), "root's");
}

static void test_purge_some(void **state)
{
	struct frame *f;

	start();
	c = client_connect();
	for (int i = 0; i < 10; i++)
		send_with(keep_printf("%d", i),
			  keep_printf(",'priority':%d,'meta':{'odd':%s}", i,
				      i % 2 ? "true" : "false"));
	say(c, "{'op':'purge','id':1,'name':'q','filter':{'meta':{'odd':true}}}");
	f = hear_reply(c, 1);
	assert_int_equal(json_int(f->header, "purged"), 5);
	assert_string_equal(peek("{}"), "0 2 4 6 8");
	say(c, "{'op':'purge','id':1,'name':'q','state':'dead','filter':{}}");
	assert_int_equal(json_int(hear_reply(c, 1)->header, "purged"), 0);
	say(c, "{'op':'purge','id':1,'name':'q','filter':{'priority_min':5}}");
	assert_int_equal(json_int(hear_reply(c, 1)->header, "purged"), 2);
	assert_string_equal(peek("{}"), "0 2 4");
}

/* ---- while the queue is in use ---- */

enum { MESSAGES = 20000, CHUNK = 500 };

struct flow {
	struct client *sender, *taker;
	int sent, taken;
	uint8_t seen[MESSAGES]; /* how often each came out, of either queue */
};

/* Every third is to go elsewhere. */
static void send_some(struct flow *flow)
{
	for (int i = 0; i < CHUNK && flow->sent < MESSAGES; i++, flow->sent++)
		say_text(flow->sender, keep_printf("%d", flow->sent),
			 "{'op':'send','queue':'q','meta':{'n':%d,'kind':'%s'}}",
			 flow->sent, flow->sent % 3 ? "stay" : "go");
	hear_nothing(flow->sender);
}

static void note(struct flow *flow, const struct frame *f)
{
	int n = atoi(f->body);

	assert_in_range(n, 0, MESSAGES - 1);
	assert_int_equal(flow->seen[n]++, 0);
}

/* Takes and acknowledges what is there, at most so many. */
static int take_some(struct flow *flow, const char *queue, int max)
{
	struct client *taker = flow->taker;
	int n = 0;

	say(taker, "{'op':'receive','id':7,'queue':'%s','max':%d,'window':%d}", queue,
	    max, max);
	for (;; n++) {
		struct frame *f = hear_reply(taker, 7);

		if (json_has(f->header, "end"))
			return n;
		note(flow, f);
		say(taker, "{'op':'ack','message':%lld}",
		    (long long)json_int(f->header, "message"));
	}
}

/* Moves go on under sends and receives: only what the filter says is moved, and each message
 * comes out once, of one of the two. */
static void test_moving_while_in_use(void **state)
{
	struct flow *flow = keep(calloc(1, sizeof(*flow)));
	int64_t moved = 0;
	int taken = 0;

	start();
	c = client_connect();
	flow->sender = client_connect();
	flow->taker = client_connect();
	for (int i = 0; i < 20; i++)
		send_some(flow);
	while (flow->sent < MESSAGES) {
		say(c, "{'op':'move','id':1,'name':'q','to':'r','state':'all',"
		       "'filter':{'meta':{'kind':'go'}}}");
		send_some(flow);
		taken += take_some(flow, "q", CHUNK / 2);
		moved += json_int(hear_reply(c, 1)->header, "moved");
	}
	say(c, "{'op':'move','id':1,'name':'q','to':'r','state':'all',"
	       "'filter':{'meta':{'kind':'go'}}}");
	moved += json_int(hear_reply(c, 1)->header, "moved");
	assert_int_equal(queue_count("q", "leased"), 0);
	say(c, "{'op':'receive','id':1,'queue':'q','peek':true,"
	       "'filter':{'meta':{'kind':'go'}}}");
	hear_end(c, 1, "peeked");
	say(c, "{'op':'receive','id':1,'queue':'r','peek':true,"
	       "'filter':{'meta':{'kind':'stay'}}}");
	hear_end(c, 1, "peeked");
	assert_int_equal(queue_count("r", "ready"), moved);
	taken += take_some(flow, "q", 65536);
	taken += take_some(flow, "r", 65536);
	assert_int_equal(taken, MESSAGES);
	assert_int_equal(stats_count("messages"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_each_condition),
		it(test_wrong_filters),
		it(test_a_plain_receive_takes_no_filter),
		it(test_senders),
		it(test_purge_some),
		it(test_moving_while_in_use),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
