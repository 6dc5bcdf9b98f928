/* SPDX-License-Identifier: MIT */

#include "history.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "receiver.h"
#include "share.h"
#include "wire/json.h"

/* What stands between two entries. In a string it cannot stand: a quote is escaped there. */
static const char between[] = "},{\"";

/* Where the next entry after offset begins; size if there is none. */
static size_t next_entry(const char *text, size_t size, size_t offset)
{
	const char *at =
		memmem(text + offset, size - offset, between, sizeof(between) - 1);

	return at ? (size_t)(at - text) + strlen("},") : size;
}

/* Where those begin that are kept beside a new one of so many bytes. */
static size_t first_kept(const char *text, size_t size, size_t new_size)
{
	size_t from = 0, n = 0;

	for (size_t at = 0; at < size; at = next_entry(text, size, at))
		n++;
	for (; from < size; n--) {
		if (n < HISTORY_ENTRIES_MAX &&
		    size - from + strlen(",") + new_size <= HISTORY_SIZE_MAX)
			break;
		from = next_entry(text, size, from);
	}
	return from;
}

static int write_entry(struct buf *out, struct json_writer *w,
		       const struct history_entry *entry)
{
	json_writer_begin(w, out);
	json_put_u64(w, "attempt", entry->attempt);
	json_put_u64(w, "at_ms", entry->at_ms);
	if (entry->has_uid)
		json_put_u64(w, "uid", entry->uid);
	json_put_u64(w, "pid", (uint64_t)entry->pid);
	json_put_text(w, "reason", entry->reason ? entry->reason : "");
	return err_trace(json_writer_end(w));
}

int history_append(char **text, size_t *size, struct json_writer *writer,
		   const struct history_entry *entry)
{
	_cleanup_buf_ struct buf one = BUF_INIT;
	size_t from, kept;
	char *joined;
	int r = write_entry(&one, writer, entry);

	if (r < 0)
		return err_trace(r);
	from = *size ? first_kept(*text, *size, one.size) : 0;
	kept = *size - from;
	joined = malloc(kept + strlen(",") + one.size);
	if (!joined)
		return err_origin(-ENOMEM);
	if (kept) {
		memcpy(joined, *text + from, kept);
		joined[kept++] = ',';
	}
	memcpy(joined + kept, one.data, one.size);
	free(*text);
	*text = joined;
	*size = kept + one.size;
	return 0;
}

/* Without the newest entry, if that is of this attempt. */
static void drop_newest(const char *text, size_t *size, uint64_t attempt)
{
	char start[48];
	int n = snprintf(start, sizeof(start), "{\"attempt\":%" PRIu64 ",", attempt);
	size_t last = 0;

	for (size_t at = 0; at < *size; at = next_entry(text, *size, at))
		last = at;
	if (*size - last > (size_t)n && !memcmp(text + last, start, (size_t)n))
		*size = last ? last - strlen(",") : 0;
}

/* ---- of a message ---- */

/* Who settles a lease that has ended is of the uid that had it. */
static void take_holder(const struct message *m, struct message_more *more)
{
	if (!m->holder)
		return;
	more->holder_known = true;
	more->holder_uid = m->holder->uid;
	more->holder_pid = m->holder->pid;
}

static struct json_writer *get_writer(struct broker *broker)
{
	if (!broker->history_writer && json_writer_new(&broker->history_writer) < 0)
		return NULL;
	return broker->history_writer;
}

/* What an entry takes at most. */
static uint64_t most_of(const char *reason)
{
	return 128 + 6 * (uint64_t)(reason ? strlen(reason) : 0);
}

void history_note(struct message *m, struct message_more *more, const char *reason,
		  bool noted)
{
	struct json_writer *writer = get_writer(m->share->queue->broker);
	struct history_entry entry = {
		.attempt = m->attempts,
		.at_ms = clock_ns(CLOCK_REALTIME_COARSE) / NS_PER_MS,
		.reason = reason,
	};
	uint64_t cost = message_cost(m);

	if (!writer || !share_has_room_for_more(m, most_of(reason)))
		return;
	if (noted && more->history)
		drop_newest(more->history, &more->history_size, m->attempts);
	take_holder(m, more);
	entry.has_uid = more->holder_known;
	entry.uid = more->holder_uid;
	entry.pid = more->holder_pid;
	if (history_append(&more->history, &more->history_size, writer, &entry) == 0)
		share_recharge(m, cost);
}
