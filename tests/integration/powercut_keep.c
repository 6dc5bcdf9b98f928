/* SPDX-License-Identifier: MIT */

/* What is not synced stays so when the program is killed: the log goes from one process to
 * the next through a file among the graves. See powercut_disk.c. */

#include "integration/powercut_disk.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum record { RECORD_CHANGE, RECORD_FILE, RECORD_UNDO, RECORD_NAME };

static void log_path(char out[static PATH_MAX])
{
	snprintf(out, PATH_MAX, "%.*s/log", PATH_MAX - 8, disk.graves);
}

/* ---- writing ---- */

static void put(FILE *out, enum record kind, const void *data, size_t size)
{
	if (fwrite(&kind, sizeof(kind), 1, out) != 1 || fwrite(data, size, 1, out) != 1)
		disk_break("write the log");
}

static void put_file(FILE *out, const struct disk_file *f)
{
	put(out, RECORD_FILE, f, sizeof(*f));
	LIST_FOREACH(link, &f->undo) {
		const struct undo *u = LIST_ENTRY(link, struct undo, link);

		put(out, RECORD_UNDO, u, sizeof(*u));
		if (u->size && fwrite(u->old, u->size, 1, out) != 1)
			disk_break("write the log");
	}
}

void disk_keep(void)
{
	char path[PATH_MAX];
	FILE *out;

	log_path(path);
	out = fopen(path, "we");
	if (!out) {
		disk_break(path);
		return;
	}
	put(out, RECORD_CHANGE, &disk.change, sizeof(disk.change));
	LIST_FOREACH(link, &disk.files)
		put_file(out, LIST_ENTRY(link, struct disk_file, link));
	LIST_FOREACH(link, &disk.names)
		put(out, RECORD_NAME, LIST_ENTRY(link, struct name_undo, link),
		    sizeof(struct name_undo));
	if (fclose(out) != 0)
		disk_break(path);
}

/* ---- reading ---- */

static bool get_bytes(FILE *in, void *data, size_t size)
{
	if (!size || fread(data, size, 1, in) == 1)
		return true;
	disk_break("read the log");
	return false;
}

static struct disk_file *get_file(FILE *in)
{
	struct disk_file *f, old;
	struct stat st = { 0 };

	if (!get_bytes(in, &old, sizeof(old)))
		return NULL;
	st.st_dev = old.dev;
	st.st_ino = old.ino;
	f = disk_add(&st, old.path);
	if (f) {
		f->reserved = old.reserved;
		f->has_doomed = old.has_doomed;
	}
	return f;
}

static void get_undo(FILE *in, struct disk_file *f)
{
	struct undo old, *u;

	if (!f || !get_bytes(in, &old, sizeof(old)))
		return;
	u = disk_note(f, old.change, old.size);
	u->kind = old.kind;
	u->doomed = old.doomed;
	u->offset = old.offset;
	get_bytes(in, u->old, u->size);
}

static void get_name(FILE *in)
{
	static struct name_undo old;
	struct name_undo *u;

	if (!get_bytes(in, &old, sizeof(old)))
		return;
	u = disk_note_name(old.change, old.kind);
	old.link = u->link;
	*u = old;
}

void disk_load(void)
{
	struct disk_file *f = NULL;
	char path[PATH_MAX];
	enum record kind;
	FILE *in;

	log_path(path);
	in = fopen(path, "re");
	if (!in)
		return;
	unlink(path);
	while (!disk.control->broken[0] && fread(&kind, sizeof(kind), 1, in) == 1) {
		switch (kind) {
		case RECORD_CHANGE:
			get_bytes(in, &disk.change, sizeof(disk.change));
			break;
		case RECORD_FILE:
			f = get_file(in);
			break;
		case RECORD_UNDO:
			get_undo(in, f);
			break;
		case RECORD_NAME:
			get_name(in);
			break;
		}
	}
	fclose(in);
}
