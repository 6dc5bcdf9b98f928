/* SPDX-License-Identifier: MIT */

/* What makes the modelled disk safe, and when its power goes; see powercut_disk.c. */

#include "integration/powercut_disk.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>

/* True if this is the one that the countdown was for. */
static bool is_due(_Atomic long *countdown)
{
	return *countdown > 0 && --*countdown == 0;
}

void disk_changed(void)
{
	disk.control->changes++;
	if (is_due(&disk.control->changes_to_cut))
		disk_cut();
}

static void forget_changes(struct disk_file *f, uint64_t until)
{
	struct list *next;

	for (struct list *link = f->undo.next; link != &f->undo; link = next) {
		struct undo *u = LIST_ENTRY(link, struct undo, link);

		next = link->next;
		if (u->change <= until && !u->doomed)
			disk_forget(f, u);
	}
}

/* The size is not in a page, so the next sync brings it. */
static void doom_changes(struct disk_file *f, uint64_t until)
{
	LIST_FOREACH(link, &f->undo) {
		struct undo *u = LIST_ENTRY(link, struct undo, link);

		if (u->change <= until && u->kind != UNDO_SIZE)
			u->doomed = f->has_doomed = true;
	}
}

static bool next_fails(void)
{
	struct powercut_control *c = disk.control;

	if (c->syncs_to_error != 1) {
		is_due(&c->syncs_to_error);
		return false;
	}
	if (c->errors_left > 1)
		c->errors_left--;
	else
		c->errors_left = c->syncs_to_error = 0;
	c->errors++;
	return true;
}

/* Unlocked: what others write meanwhile is not part of this sync. */
static void take_time(void)
{
	long us = disk.control->sync_us;
	struct timespec t = { us / 1000000, us % 1000000 * 1000 };

	disk_unlock();
	if (us)
		nanosleep(&t, NULL);
	disk_lock();
}

int disk_sync(int fd)
{
	uint64_t until = disk.change;
	bool cut, late, fails;
	struct stat st;
	struct disk_file *f;

	if (fstat(fd, &st) < 0)
		return -1;
	disk.control->syncs++;
	cut = is_due(&disk.control->syncs_to_cut);
	late = disk_hash(disk.control->seed, until, 'l') & 1;
	fails = next_fails();
	take_time();
	if (cut && !late)
		disk_cut();
	/* it may have gone meanwhile */
	f = disk_find_stat(&st);
	if (fails) {
		if (f)
			doom_changes(f, until);
		errno = EIO;
		return -1;
	}
	if (f)
		forget_changes(f, until);
	if (S_ISDIR(st.st_mode))
		disk_forget_names(st.st_dev, st.st_ino, until);
	if (cut)
		disk_cut();
	return 0;
}

void disk_sync_all(void)
{
	uint64_t until = disk.change;

	disk.control->syncs++;
	take_time();
	LIST_FOREACH(link, &disk.files)
		forget_changes(LIST_ENTRY(link, struct disk_file, link), until);
	while (!list_is_empty(&disk.names)) {
		struct name_undo *u = LIST_FIRST(&disk.names, struct name_undo, link);

		disk_forget_names(u->dev, u->ino, UINT64_MAX);
	}
}
