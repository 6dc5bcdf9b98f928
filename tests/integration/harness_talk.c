/* SPDX-License-Identifier: MIT */

/* Expectations about replies, and whole conversations; see harness.h. */

#include "integration/harness.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "integration/harness_internal.h"

static struct frame *hear_re(struct place at, struct client *c, uint64_t id)
{
	struct frame *f = client_hear(at, c);

	if (!json_has(f->header, "re") || json_int(f->header, "re") != (int64_t)id)
		fail_at(at, "not a reply to %" PRIu64 ": %s", id, f->header);
	return f;
}

struct frame *client_hear_reply(struct place at, struct client *c, uint64_t id)
{
	struct frame *f = hear_re(at, c, id);

	if (json_has(f->header, "error"))
		fail_at(at, "failed: %s", f->header);
	return f;
}

static struct frame *check_error(struct place at, struct frame *f, const char *word)
{
	if (!json_has(f->header, "error") ||
	    strcmp(json_string(f->header, "error"), word) != 0)
		fail_at(at, "not the error \"%s\": %s", word, f->header);
	if (!*json_string(f->header, "message"))
		fail_at(at, "an error without a word for people: %s", f->header);
	return f;
}

struct frame *client_hear_error(struct place at, struct client *c, uint64_t id,
				const char *word)
{
	return check_error(at, hear_re(at, c, id), word);
}

struct frame *client_hear_notice(struct place at, struct client *c, const char *word)
{
	struct frame *f = client_hear(at, c);

	if (json_has(f->header, "re"))
		fail_at(at, "a reply where none was asked for: %s", f->header);
	return check_error(at, f, word);
}

struct frame *client_hear_last_words(struct place at, struct client *c, const char *word)
{
	struct frame *f = check_error(at, client_hear(at, c), word);

	client_hear_eof(at, c);
	return f;
}

void client_hear_end(struct place at, struct client *c, uint64_t id, const char *why)
{
	struct frame *f = client_hear_reply(at, c, id);

	if (!json_has(f->header, "end") ||
	    strcmp(json_string(f->header, "end"), why) != 0)
		fail_at(at, "not the end \"%s\": %s", why, f->header);
}

struct frame *client_hear_delivery(struct place at, struct client *c, uint64_t id,
				   const char *text)
{
	struct frame *f = client_hear_reply(at, c, id);

	if (!json_has(f->header, "message") || !json_has(f->header, "queue"))
		fail_at(at, "not a delivery: %s", f->header);
	if (strlen(text) != f->body_size || memcmp(text, f->body, f->body_size) != 0)
		fail_at(at, "the delivery of \"%.60s\" instead of \"%.60s\": %s", f->body,
			text, f->header);
	return f;
}

void client_hear_nothing(struct place at, struct client *c)
{
	uint64_t id = client_next_id(c);

	client_say(at, c, NULL, 0, "{'op':'ping','id':%" PRIu64 "}", id);
	client_hear_reply(at, c, id);
}

uint64_t client_send_text(struct place at, struct client *c, const char *queue,
			  const char *text)
{
	uint64_t id = client_next_id(c);

	client_say(at, c, text, strlen(text),
		   "{'op':'send','id':%" PRIu64 ",'queue':'%s'}", id, queue);
	return (uint64_t)json_int(client_hear_reply(at, c, id)->header, "message");
}

struct frame *client_take(struct place at, struct client *c, const char *queue,
			  const char *text)
{
	uint64_t id = client_next_id(c);
	struct frame *f;

	client_say(at, c, NULL, 0,
		   "{'op':'receive','id':%" PRIu64 ",'queue':'%s','wait_ms':%d}", id,
		   queue, DEADLINE_MS);
	f = client_hear_delivery(at, c, id, text);
	client_hear_end(at, c, id, "max");
	return f;
}

void client_take_nothing(struct place at, struct client *c, const char *queue)
{
	uint64_t id = client_next_id(c);

	client_say(at, c, NULL, 0, "{'op':'receive','id':%" PRIu64 ",'queue':'%s'}", id,
		   queue);
	client_hear_end(at, c, id, "timeout");
}

static uint64_t say_settle(struct place at, struct client *c, const char *op,
			   const struct frame *delivery, const char *keys)
{
	uint64_t id = client_next_id(c);

	client_say(at, c, NULL, 0,
		   "{'op':'%s','id':%" PRIu64 ",'message':%" PRId64 ",'lease':'%s'%s}",
		   op, id, json_int(delivery->header, "message"),
		   json_string(delivery->header, "lease"), with_quotes(keys));
	return id;
}

void client_settle(struct place at, struct client *c, const char *op,
		   const struct frame *delivery, const char *keys)
{
	client_hear_reply(at, c, say_settle(at, c, op, delivery, keys));
}

void client_settle_fails(struct place at, struct client *c, const char *op,
			 const struct frame *delivery, const char *word)
{
	client_hear_error(at, c, say_settle(at, c, op, delivery, ""), word);
}

const char *frame_line(const struct frame *f, unsigned int n)
{
	const char *line = f->body;
	size_t size = strcspn(line, "\n");

	for (; n && *line; n--) {
		line += size + (line[size] == '\n');
		size = strcspn(line, "\n");
	}
	return size ? keep_printf("%.*s", (int)size, line) : NULL;
}

struct frame *client_list(struct place at, struct client *c, const char *op)
{
	uint64_t id = client_next_id(c);

	client_say(at, c, NULL, 0, "{'op':'%s','id':%" PRIu64 "}", op, id);
	return client_hear_reply(at, c, id);
}

int64_t queue_count(const char *queue, const char *key)
{
	struct client *c = client_connect();
	struct frame *f;
	int64_t n;

	say(c, "{'op':'names','id':1,'name':'%s'}", queue);
	f = hear_reply(c, 1);
	n = json_int(frame_line(f, 0), key);
	client_close(c);
	return n;
}

void wait_queue_count(const char *queue, const char *key, int64_t count)
{
	uint64_t deadline = wait_deadline();

	while (queue_count(queue, key) != count)
		if (!wait_again(deadline))
			fail_at(HERE, "%s of %s is not %" PRId64, key, queue, count);
}

int64_t stats_count(const char *key)
{
	struct client *c = client_connect();
	int64_t n = json_int(frame_line(list(c, "stats"), 0), key);

	client_close(c);
	return n;
}
