/* SPDX-License-Identifier: MIT */

/*
 * ack, nack, reject, touch: what becomes of a delivery. A message is settled by the
 * connection that holds its lease, or from any connection of the same uid by the token.
 */

#include <string.h>

#include "base/err.h"
#include "op_receive.h"
#include "ops.h"

struct settlement {
	struct call *call;
	void (*settle)(const struct settlement *s, struct message *m);
	bool needs_holder; /* a lease that has ended cannot be touched */
	uint64_t delay_ms; /* UINT64_MAX: the backoff */
	bool count;
	const char *reason;
	size_t reason_size;
	const char *lease;
	size_t lease_size;
};

/* A lost reason is better than a lost message. */
static char *copy_reason(const struct settlement *s)
{
	return s->reason ? strndup(s->reason, s->reason_size) : NULL;
}

static void settle_ack(const struct settlement *s, struct message *m)
{
	(void)s;
	message_ack(m);
}

static void settle_nack(const struct settlement *s, struct message *m)
{
	message_nack(m, s->delay_ms, s->count, copy_reason(s));
}

static void settle_reject(const struct settlement *s, struct message *m)
{
	message_reject(m, copy_reason(s));
}

static void settle_touch(const struct settlement *s, struct message *m)
{
	(void)s;
	receiver_touch(m->holder, m);
}

/* A token is the MAC, then the delivery it is of. One of a later delivery than we know of
 * was given out before ipcd ended without order. */
static bool is_token(const struct settlement *s, struct message *m, uid_t uid)
{
	uint64_t mac, delivery;

	if (s->lease_size <= 16 || !parse_hex(s->lease, 16, &mac) ||
	    !parse_hex(s->lease + 16, s->lease_size - 16, &delivery))
		return false;
	if (delivery < m->deliveries || mac != message_token(m, delivery, uid))
		return false;
	if (delivery > m->deliveries)
		m->in_hand = true;
	m->deliveries = delivery;
	return true;
}

static bool has_token(const struct settlement *s, struct message *m)
{
	const struct peer *peer = s->call->peer;

	if (name_is_anybody(&peer->server->broker, peer->who.uid) &&
	    !op_receive_holds(peer, m))
		return false;
	return m->state != MESSAGE_DEAD && m->state != MESSAGE_STORING &&
	       is_token(s, m, peer->who.uid);
}

static bool has_lease(const struct settlement *s, struct message *m)
{
	if (s->needs_holder && !op_receive_is_held(m))
		return false;
	return s->lease ? has_token(s, m) : op_receive_holds(s->call->peer, m);
}

/* touch alone: the token is good, but there is nothing to prolong. */
static bool is_ended_lease(const struct settlement *s, uint64_t number)
{
	struct message *m = message_find(&s->call->server->broker, number);

	return m && s->needs_holder && s->lease && !op_receive_is_held(m) &&
	       has_token(s, m);
}

static bool settle_one(const struct settlement *s, uint64_t number)
{
	struct message *m = message_find(&s->call->server->broker, number);

	if (!m || !has_lease(s, m))
		return false;
	s->settle(s, m);
	return true;
}

static int lost(struct call *call, uint64_t number)
{
	return fault_set(
		call->fault, FAULT_LEASE_LOST,
		"message %llu is not leased to you: settled already, handed out anew, "
		"or never yours",
		(unsigned long long)number);
}

/* ---- one or many ---- */

static int get_numbers(struct call *call, uint32_t *ret_at, uint32_t *ret_n)
{
	const struct json *json = call->header->json;
	int r = header_get_array(call->header, KEY_MESSAGES, LIMIT_MESSAGES_MAX, ret_at,
				 ret_n, call->fault);
	uint32_t at = *ret_at;

	if (r <= 0)
		return r < 0 ? FAULT : call_missing(call, KEY_MESSAGE);
	for (uint32_t i = 0; i < *ret_n; i++, at = json_at(json, at)->next) {
		const struct json_value *v = json_at(json, at);

		if (v->type != JSON_INTEGER)
			return fault_set(call->fault, FAULT_BAD_REQUEST,
					 "\"messages\" must have message numbers, not %s",
					 json_type_name(v->type));
		if (v->integer < 1 || (uint64_t)v->integer > LIMIT_NUMBER_MAX)
			return fault_set(
				call->fault, FAULT_BAD_REQUEST,
				"\"messages\" must have numbers from 1 to %llu, not %lld",
				(unsigned long long)LIMIT_NUMBER_MAX,
				(long long)v->integer);
	}
	return 0;
}

enum { SEEN_MAX = 2 * LIMIT_MESSAGES_MAX }; /* there is always a free place */

/* Numbers that have stood in a request before, by hash; 0: a free place. */
struct seen {
	bool is_kept; /* from the first number on that fails */
	uint64_t numbers[SEEN_MAX];
};

/* False: it is there already, so it is done, or has failed. */
static bool see(struct seen *seen, uint64_t number)
{
	uint64_t i = map_u64(number) % SEEN_MAX;

	for (; seen->numbers[i]; i = (i + 1) % SEEN_MAX)
		if (seen->numbers[i] == number)
			return false;
	seen->numbers[i] = number;
	return true;
}

/* The first n of those at `at`. */
static void see_all(struct seen *seen, const struct json *json, uint32_t at, uint32_t n)
{
	if (seen->is_kept)
		return;
	*seen = (struct seen){ .is_kept = true };
	for (uint32_t i = 0; i < n; i++, at = json_at(json, at)->next)
		see(seen, (uint64_t)json_at(json, at)->integer);
}

/* Those that failed are named; the others are done. */
static int settle_many(const struct settlement *s)
{
	struct call *call = s->call;
	const struct json *json = call->header->json;
	uint64_t failed[LIMIT_MESSAGES_MAX];
	uint32_t at = 0, first, n = 0, n_failed = 0;
	struct seen seen;
	struct json_writer *w;
	int r = get_numbers(call, &at, &n);

	if (r)
		return r;
	if (s->lease)
		return fault_set(
			call->fault, FAULT_BAD_REQUEST,
			"\"lease\" goes with one \"message\", not with \"messages\"");
	first = at;
	seen.is_kept = false;
	for (uint32_t i = 0; i < n; i++, at = json_at(json, at)->next) {
		uint64_t number = (uint64_t)json_at(json, at)->integer;
		bool settled = settle_one(s, number);

		if (!settled)
			see_all(&seen, json, first, i);
		if (seen.is_kept && see(&seen, number) && !settled)
			failed[n_failed++] = number;
	}
	if (!n_failed)
		return call_done(call);
	lost(call, failed[0]);
	w = peer_begin(call->peer, call->has_id, call->id);
	json_put_text(w, "error", fault_word_name(call->fault->word));
	if (!call->has_id)
		json_put_text(w, "op", call->op->name);
	json_put_text(w, "message", call->fault->text);
	json_put_array(w, "messages");
	for (uint32_t i = 0; i < n_failed; i++)
		json_put_u64(w, NULL, failed[i]);
	json_put_end(w);
	return err_trace(call_answer(call));
}

static int settle(struct settlement *s)
{
	struct call *call = s->call;
	uint64_t number;
	int r = header_get_string(call->header, KEY_LEASE, 1, 64, &s->lease,
				  &s->lease_size, call->fault);

	if (r >= 0)
		r = header_get_u64(call->header, KEY_MESSAGE, 1, LIMIT_NUMBER_MAX,
				   &number, call->fault);
	if (r < 0)
		return FAULT;
	if (r == 0)
		return settle_many(s);
	if (header_has(call->header, KEY_MESSAGES))
		return fault_set(call->fault, FAULT_BAD_REQUEST,
				 "either \"message\" or \"messages\", not both");
	if (settle_one(s, number))
		return call_done(call);
	if (is_ended_lease(s, number))
		return fault_set(
			call->fault, FAULT_LEASE_LOST,
			"the lease of message %llu has ended, with its connection or "
			"its time: it can be settled until it is handed out anew, but "
			"not be touched",
			(unsigned long long)number);
	return lost(call, number);
}

static int get_reason(struct settlement *s)
{
	return header_get_string(s->call->header, KEY_REASON, 0, LIMIT_REASON_MAX,
				 &s->reason, &s->reason_size, s->call->fault) < 0
		       ? FAULT
		       : 0;
}

int op_ack(struct call *call)
{
	struct settlement s = { .call = call, .settle = settle_ack };

	return settle(&s);
}

int op_nack(struct call *call)
{
	struct settlement s = {
		.call = call, .settle = settle_nack, .delay_ms = UINT64_MAX, .count = true
	};

	if (header_get_ms(call->header, KEY_DELAY_MS, false, &s.delay_ms, call->fault) <
		    0 ||
	    header_get_bool(call->header, KEY_COUNT, &s.count, call->fault) < 0)
		return FAULT;
	return get_reason(&s) ? FAULT : settle(&s);
}

int op_reject(struct call *call)
{
	struct settlement s = { .call = call, .settle = settle_reject };

	return get_reason(&s) ? FAULT : settle(&s);
}

int op_touch(struct call *call)
{
	struct settlement s = { .call = call,
				.settle = settle_touch,
				.needs_holder = true };

	return settle(&s);
}
