/* SPDX-License-Identifier: MIT */

#include "record_sum.h"

#include <xxhash.h>

static uint64_t sum_numbers(const uint64_t *numbers, size_t size_bytes)
{
	return XXH3_64bits(numbers, size_bytes);
}

/* No text and an empty one are the same here: a row tells them apart. */
static uint64_t sum_slice(uint64_t sum, struct slice s)
{
	return s.size ? XXH3_64bits_withSeed(s.data, s.size, sum) : sum * 31 + 1;
}

uint64_t record_sum_name(const struct name_record *n)
{
	return sum_slice(sum_slice(sum_numbers(&n->id, sizeof(n->id)), n->name),
			 n->settings);
}

uint64_t record_sum_state(const struct message_record *m)
{
	const uint64_t numbers[] = { m->number,	  m->queue,
				     m->dead,	  message_record_flags(m),
				     m->attempts, m->deliveries,
				     m->due_ms,	  m->expires_ms };

	return sum_slice(sum_slice(sum_numbers(numbers, sizeof(numbers)), m->reason),
			 m->history);
}

uint64_t record_sum_content(const struct message_record *m, uint64_t commit)
{
	const uint64_t numbers[] = { m->number,	   m->uid,  m->priority, m->sent_ms,
				     m->body_size, m->blob, commit };
	uint64_t sum = sum_numbers(numbers, sizeof(numbers));

	sum = sum_slice(sum_slice(sum, m->from), m->meta);
	return sum_slice(sum_slice(sum, m->file), m->body);
}

uint64_t record_sum_dedup(const struct dedup_record *d)
{
	const uint64_t numbers[] = { d->number, d->queue, d->uid, d->sent_ms };

	return sum_slice(sum_numbers(numbers, sizeof(numbers)), d->id);
}
