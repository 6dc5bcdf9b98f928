/* SPDX-License-Identifier: MIT */

/*
 * For each request, for every n: the n-th allocation in ipcd fails while it serves the
 * request, until the request needs fewer. The peer gets its reply, an error, or is cut;
 * the daemon lives, another peer is served as ever, and what the peer was told is true:
 * a success has its whole effect, an error none. Once with all in memory, and once with a
 * store, where the storage thread's allocations fail, too.
 */

#include "integration/harness.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "integration/oom_shim.h"

enum { N_MAX = 1000, LARGE = 300000 };

static struct oom_control *control;

static char *shim_path(void)
{
	char exe[4096];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	assert_true(n > 0);
	exe[n] = '\0';
	*strrchr(exe, '/') = '\0';
	return keep_printf("%s/oom_shim.so", exe);
}

static void skip_where_impossible(void)
{
	if (server_is_sanitized() || access(shim_path(), R_OK) < 0) {
		print_message("skipped: %s\n", server_is_sanitized()
						       ? "a sanitizer has its own malloc"
						       : "oom_shim.so is not there");
		skip();
	}
}

/* ipcd with the shim in it, and the control mapped. */
static void start_with_shim(bool durable)
{
	char *path = keep_printf("%s/oom", server.dir);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_int_equal(ftruncate(fd, sizeof(*control)), 0);
	control = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	assert_true(control != MAP_FAILED);
	setenv(OOM_FILE_VARIABLE, path, 1);
	setenv("LD_PRELOAD", shim_path(), 1);
	start_durable("--limit", "lost_delay=0", "--limit", "max_attempts=1000000",
		      "--limit", "queue_messages=500", "--log-level", "warning",
		      durable ? NULL : "--volatile");
	unsetenv("LD_PRELOAD");
	unsetenv(OOM_FILE_VARIABLE);
	assert_true(control->seen > 0);
}

static void arm(long n, bool all_after)
{
	control->failed = 0;
	control->all_after = all_after;
	control->countdown = n;
}

/* How many allocations have failed. */
static long disarm(void)
{
	control->countdown = 0;
	return control->failed;
}

/* ---- the requests ---- */

struct row {
	const char *name;
	const char *request; /* its id is 1; $ stands for the number of a leased message,
			      * # for one that was not used before */
	const char *body;
	int effect; /* on the number of messages in the daemon */
	int kind;
};

enum { NEW_CONNECTION = 1, LATE /* it is answered much later, or never */ };

static bool with_store;

static char large[LARGE + 1];

static const struct row rows[] = {
	{ "connect", "{'op':'ping','id':1}", "x", 0, NEW_CONNECTION },
	{ "hello", "{'op':'hello','id':1,'label':'a label','pieces':true}", NULL, 0, 0 },
	{ "large ping", "{'op':'ping','id':1}", large, 0, 0 },
	{ "send", "{'op':'send','id':1,'queue':'jobs','meta':{'a':1}}", "body", 1, 0 },
	{ "large send", "{'op':'send','id':1,'queue':'jobs'}", large, 1, 0 },
	{ "delayed send", "{'op':'send','id':1,'queue':'jobs','delay_ms':1}", "x", 1, 0 },
	{ "send with ttl", "{'op':'send','id':1,'queue':'jobs','ttl_ms':10000000}", "x",
	  1, 0 },
	{ "send and confirm", "{'op':'send','id':1,'queue':'jobs','confirm':'acked'}",
	  "x", 1, LATE },
	{ "send to a new queue", "{'op':'send','id':1,'queue':'new#'}", "x", 1, 0 },
	{ "send to a user", "{'op':'send','id':1,'queue':'@0.new#'}", "x", 1, 0 },
	{ "first connection, send", "{'op':'send','id':1,'queue':'jobs'}", "x", 1,
	  NEW_CONNECTION },
	{ "send to a full queue", "{'op':'send','id':1,'queue':'full','wait_ms':-1}", "x",
	  0, LATE },
	{ "receive", "{'op':'receive','id':1,'queue':'jobs','max':3,'window':3}", NULL, 0,
	  0 },
	{ "receive with deadline",
	  "{'op':'receive','id':1,'queue':'jobs','ack_wait_ms':1000000}", NULL, 0, 0 },
	{ "receive for ever", "{'op':'receive','id':1,'queue':'empty','wait_ms':-1}",
	  NULL, 0, LATE },
	{ "receive from a new queue", "{'op':'receive','id':1,'queues':['new#','jobs']}",
	  NULL, 0, 0 },
	{ "peek", "{'op':'receive','id':1,'queue':'jobs','peek':true,'max':0}", NULL, 0,
	  0 },
	{ "ack", "{'op':'ack','id':1,'message':$}", NULL, -1, 0 },
	{ "nack", "{'op':'nack','id':1,'message':$,'delay_ms':1,'reason':'because'}",
	  NULL, 0, 0 },
	{ "nack at once", "{'op':'nack','id':1,'message':$,'delay_ms':0}", NULL, 0, 0 },
	{ "reject", "{'op':'reject','id':1,'message':$,'reason':'because'}", NULL, 0, 0 },
	{ "touch", "{'op':'touch','id':1,'message':$}", NULL, 0, 0 },
	{ "names", "{'op':'names','id':1}", NULL, 0, 0 },
	{ "peers", "{'op':'peers','id':1}", NULL, 0, 0 },
	{ "stats", "{'op':'stats','id':1}", NULL, 0, 0 },
	{ "cancel", "{'op':'cancel','id':1,'request':77}", NULL, 0, 0 },
	{ "a bad request", "{'op':'dance','id':1}", NULL, 0, 0 },
	{ "a first piece", "{'op':'send','id':1,'queue':'jobs','more':true}", "x", 0,
	  LATE },
};

static struct client *helper;

/* Where a record could not be made the store is written anew. */
static bool store_works(void)
{
	const char *stats = list(helper, "stats")->body;

	return !with_store || strstr(stats, "\"state\":\"works\"");
}

/* It may have been on the way to the disk when that file was given up. */
static bool put_ready(void)
{
	say_text(helper, "ready", "{'op':'send','id':1,'queue':'jobs'}");
	return !json_has(hear(helper)->header, "error");
}

/* Three ready messages in jobs, and one full queue: whatever the rows before have left. */
static void prepare_queues(void)
{
	struct frame *f;

	wait_for(store_works());
	say(helper, "{'op':'receive','id':1,'queue':'jobs','max':0,'window':100}");
	while ((f = hear_reply(helper, 1)) && !json_has(f->header, "end"))
		say(helper, "{'op':'ack','message':%" PRId64 "}",
		    json_int(f->header, "message"));
	for (int i = 0; i < 3; i++)
		wait_for(put_ready());
}

static char *fill_in(const struct row *row, int64_t message)
{
	static int n_names;
	char *request = with_quotes(row->request);
	size_t at = strcspn(request, "$#");

	if (!request[at])
		return request;
	return keep_printf("%.*s%" PRId64 "%s", (int)at, request,
			   request[at] == '$' ? message : n_names++, request + at + 1);
}

/* The request and a ping behind it, as far as they are taken: it may be cut meanwhile. */
static void say_request(struct client *c, const char *request, const char *body)
{
	size_t size, ping_size;
	char *bytes = frame_encode(&size, body, body ? strlen(body) : 0, "%s", request);
	char *ping = frame_encode(&ping_size, NULL, 0, "{'op':'ping','id':2}");

	if (send(client_fd(c), bytes, size, MSG_NOSIGNAL) == (ssize_t)size)
		send(client_fd(c), ping, ping_size, MSG_NOSIGNAL);
}

enum outcome { SUCCESS, REFUSED, WAITS, CUT };

/* Hears until the echo of the ping behind the request, or the end; and until the answer, for
 * that may wait for the disk. */
static enum outcome hear_outcome(struct client *c, bool waits)
{
	enum outcome outcome = WAITS;
	bool echoed = false;
	struct frame *f;

	while ((f = hear_or_eof(c))) {
		bool failed = json_has(f->header, "error");

		if (!json_has(f->header, "re"))
			continue; /* last words */
		if (json_int(f->header, "re") == 2)
			echoed = true;
		else
			outcome = failed ? REFUSED : SUCCESS;
		if (echoed && (waits || outcome != WAITS))
			return outcome;
	}
	return CUT;
}

/* One request with the n-th allocation failing. False when it needed fewer. */
static bool try_once(const struct row *row, long n, bool all_after)
{
	struct client *victim = row->kind == NEW_CONNECTION ? NULL : client_connect();
	int64_t message = 0, before, change;
	enum outcome outcome;
	char *request;
	long failed;

	prepare_queues();
	if (victim && strchr(row->request, '$'))
		message = json_int(take(victim, "jobs", "ready")->header, "message");
	if (victim)
		hear_nothing(victim);
	before = stats_count("messages");
	request = fill_in(row, message);

	arm(n, all_after);
	if (!victim)
		victim = client_connect();
	say_request(victim, request, row->body);
	outcome = hear_outcome(victim, row->kind == LATE);
	failed = disarm();

	client_close(victim);
	hear_nothing(helper);
	wait_for(stats_count("peers") == 2); /* the helper, and the one who asks */
	change = stats_count("messages") - before;
	if (outcome == WAITS && with_store) /* it was not yet on the disk */
		assert_true(change == 0 || change == row->effect);
	else if (outcome == SUCCESS || (outcome == WAITS && row->effect))
		assert_int_equal(change, row->effect);
	else if (outcome == REFUSED)
		assert_int_equal(change, 0);
	else
		assert_true(change == 0 || change == row->effect);
	return failed > 0;
}

static void sweep(bool all_after, bool durable)
{
	memset(large, 'l', LARGE);
	with_store = durable;
	start_with_shim(durable);
	helper = client_connect();
	for (int i = 0; i < 500; i++)
		send_text(helper, "full", "x");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		long n = 1;

		while (try_once(&rows[i], n, all_after))
			if (++n > N_MAX)
				fail_msg("%s: never without a failure", rows[i].name);
		print_message("%s: %ld allocations\n", rows[i].name, n - 1);
	}
	helper = NULL;
}

static void test_one_allocation_fails(void **state)
{
	skip_where_impossible();
	sweep(false, false);
}

static void test_one_allocation_fails_with_a_store(void **state)
{
	skip_where_impossible();
	sweep(false, true);
}

static void test_all_further_allocations_fail(void **state)
{
	skip_where_impossible();
	sweep(true, false);
}

static void test_all_further_allocations_fail_with_a_store(void **state)
{
	skip_where_impossible();
	sweep(true, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		it(test_one_allocation_fails),
		it(test_all_further_allocations_fail),
		it(test_one_allocation_fails_with_a_store),
		it(test_all_further_allocations_fail_with_a_store),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
