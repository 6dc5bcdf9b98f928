/* SPDX-License-Identifier: MIT */

/*
 * redis-server over its Unix socket, by hiredis; batches are pipelined. The variants:
 *
 *	blmove  LPUSH; BLMOVE to a list of the consumer's own; LREM from it
 *	stream  XADD; XREADGROUP; XACK (entries stay until MAXLEN removes them)
 *	brpop   LPUSH; BRPOP. Not safe: what a consumer holds when it ends is lost
 *
 * Who only puts needs none of them: LPUSH.
 */

#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <hiredis/hiredis.h>

struct conn {
	redisContext *redis;
	char own[32]; /* this consumer's list, or its name in the group */
	unsigned long long n_put;
};

static int hello(void)
{
	char answer[7]; /* while it loads it says "-LOADING ..." */
	int fd = dial(opt.address);

	if (fd >= 0 && write_all(fd, "PING\r\n", 6) &&
	    read_all(fd, answer, sizeof(answer)) && !memcmp(answer, "+PONG\r\n", 7))
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

static bool is_variant(const char *name)
{
	return !strcmp(opt.variant, name);
}

static redisReply *hear(redisContext *redis)
{
	void *reply;

	if (redisGetReply(redis, &reply) != REDIS_OK)
		die("redis: %s", redis->errstr);
	if (((redisReply *)reply)->type == REDIS_REPLY_ERROR)
		die("redis: %s", ((redisReply *)reply)->str);
	return reply;
}

static void hear_and_drop(redisContext *redis, unsigned int n)
{
	while (n--)
		freeReplyObject(hear(redis));
}

static void *open_conn(void)
{
	struct conn *conn = calloc(1, sizeof(*conn));

	must(conn);
	conn->redis = redisConnectUnix(opt.address);
	if (!conn->redis || conn->redis->err)
		die("redis: %s", conn->redis ? conn->redis->errstr : "no memory");
	snprintf(conn->own, sizeof(conn->own), "c%d", getpid());
	return conn;
}

static void prepare(void)
{
	struct conn *conn = open_conn();

	if (!is_variant("stream"))
		return;
	redisAppendCommand(conn->redis, "XGROUP CREATE s g $ MKSTREAM");
	hear_and_drop(conn->redis, 1);
}

static void put(void *arg, unsigned int n)
{
	struct conn *conn = arg;
	char number[32];

	for (unsigned int i = 0; i < n; i++) {
		/* LREM looks for the body: each must be another */
		int size = snprintf(number, sizeof(number), "%s.%llu", conn->own,
				    conn->n_put++);

		memcpy(opt.body, number,
		       (size_t)size < opt.size ? (size_t)size : opt.size);
		if (is_variant("stream"))
			redisAppendCommand(conn->redis, "XADD s MAXLEN ~ 200000 * d %b",
					   opt.body, opt.size);
		else
			redisAppendCommand(conn->redis, "LPUSH q %b", opt.body, opt.size);
	}
	hear_and_drop(conn->redis, n);
}

static unsigned int take_stream(struct conn *conn, unsigned int max)
{
	const char *command[3 + BATCH_MAX] = { "XACK", "s", "g" };
	redisReply *reply, *entries, *acked;
	unsigned int n;

	redisAppendCommand(conn->redis,
			   "XREADGROUP GROUP g %s COUNT %u BLOCK 0 STREAMS s >",
			   conn->own, max);
	reply = hear(conn->redis);
	must(reply->type == REDIS_REPLY_ARRAY);
	entries = reply->element[0]->element[1];
	n = (unsigned int)entries->elements;
	for (unsigned int i = 0; i < n; i++)
		command[3 + i] = entries->element[i]->element[0]->str;
	redisAppendCommandArgv(conn->redis, (int)(3 + n), command, NULL);
	acked = hear(conn->redis);
	must(acked->integer == n);
	freeReplyObject(acked);
	freeReplyObject(reply);
	return n;
}

static unsigned int take_brpop(struct conn *conn, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		redisAppendCommand(conn->redis, "BRPOP q 0");
	hear_and_drop(conn->redis, n);
	return n;
}

static unsigned int take_blmove(struct conn *conn, unsigned int n)
{
	redisReply *jobs[BATCH_MAX];

	for (unsigned int i = 0; i < n; i++)
		redisAppendCommand(conn->redis, "BLMOVE q %s RIGHT LEFT 0", conn->own);
	for (unsigned int i = 0; i < n; i++)
		jobs[i] = hear(conn->redis);
	for (unsigned int i = 0; i < n; i++) /* the oldest is the last of the list */
		redisAppendCommand(conn->redis, "LREM %s -1 %b", conn->own, jobs[i]->str,
				   jobs[i]->len);
	for (unsigned int i = 0; i < n; i++) {
		redisReply *removed = hear(conn->redis);

		must(removed->integer == 1);
		freeReplyObject(removed);
		freeReplyObject(jobs[i]);
	}
	return n;
}

static unsigned int take(void *arg, unsigned int n)
{
	if (is_variant("stream"))
		return take_stream(arg, n);
	return is_variant("brpop") ? take_brpop(arg, n) : take_blmove(arg, n);
}

static uint64_t left(void)
{
	struct conn *conn = open_conn();
	redisReply *length;
	uint64_t n;

	redisAppendCommand(conn->redis, "LLEN q");
	length = hear(conn->redis);
	n = (uint64_t)length->integer;
	freeReplyObject(length);
	redisFree(conn->redis);
	free(conn);
	return n;
}

int main(int argc, char **argv)
{
	static const struct driver driver = {
		.hello = hello,
		.prepare = prepare,
		.open = open_conn,
		.put = put,
		.take = take,
		.left = left,
		.takes_whole_batches = true,
	};

	return bench_main(argc, argv, &driver, NULL);
}
