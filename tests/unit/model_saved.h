/* SPDX-License-Identifier: MIT */
#ifndef UNIT_MODEL_SAVED_H
#define UNIT_MODEL_SAVED_H

/*
 * What the model of test_model.c expects in the store: what the journal was told, and what
 * of it the last commit has brought to the disk; and the ids of sends.
 */

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/clock.h"

enum { SAVED_MAX = 200, IDS_MAX = 400, DEDUP_WINDOW_MS = 300 };

/* A message as its row has it. */
struct saved {
	uint64_t number; /* 0: a free place */
	int queue, user, priority;
	bool dead, in_hand;
	uint64_t attempts, deliveries;
	uint64_t due_ns, expires_ns; /* due 0: at once; expires UINT64_MAX: never */
};

struct saved_id {
	uint64_t number; /* of the message; 0: a free place */
	int queue, user, id;
	uint64_t sent_ms;
	bool stored;
};

struct saved_world {
	struct saved messages[SAVED_MAX];
	struct saved_id ids[IDS_MAX];
};

/* journal: what was told; disk: what of it is there. */
static struct saved_world saved_journal, saved_disk;

static struct saved *saved_find(uint64_t number)
{
	for (int i = 0; i < SAVED_MAX; i++)
		if (saved_journal.messages[i].number == number)
			return &saved_journal.messages[i];
	return NULL;
}

static void saved_drop(uint64_t number)
{
	struct saved *s = saved_find(number);

	if (s)
		s->number = 0;
}

/* The id in this queue of this user, if it is known. */
static struct saved_id *id_find(int queue, int user, int id)
{
	for (int i = 0; i < IDS_MAX; i++) {
		struct saved_id *s = &saved_journal.ids[i];

		if (s->number && s->queue == queue && s->user == user && s->id == id)
			return s;
	}
	return NULL;
}

static bool id_add(int queue, int user, int id, uint64_t number, uint64_t sent_ms,
		   bool stored)
{
	for (int i = 0; i < IDS_MAX; i++) {
		if (saved_journal.ids[i].number)
			continue;
		saved_journal.ids[i] =
			(struct saved_id){ number, queue, user, id, sent_ms, stored };
		return true;
	}
	return false;
}

static void ids_forget_old(uint64_t now_ms)
{
	for (int i = 0; i < IDS_MAX; i++) {
		struct saved_id *s = &saved_journal.ids[i];

		if (s->number && now_ms - s->sent_ms >= DEDUP_WINDOW_MS)
			s->number = 0;
	}
}

/* A commit. */
static void saved_commit(void)
{
	saved_disk = saved_journal;
}

/* The end without order: the rest is lost, and so are the ids that are in memory only. */
static void saved_crash(void)
{
	saved_journal = saved_disk;
	for (int i = 0; i < IDS_MAX; i++)
		if (!saved_journal.ids[i].stored)
			saved_journal.ids[i].number = 0;
}

#endif
