/* SPDX-License-Identifier: MIT */

/*
 * The moment the power goes, see powercut_disk.c. A forked process stops the program, so that
 * no thread sees or says anything of what follows, undoes what the disk has lost, and kills
 * the program: who waits for its end finds the disk as it is after the cut.
 */

#include "integration/powercut_disk.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { STOP_TRIES = 100000, STOP_TRY_US = 100 };

/* One cut. */
static struct {
	uint64_t seed;
	int loss;
	uint64_t moment; /* LOSS_ORDERED: the change under way */
} cut;

/* ---- the program stands still ---- */

static bool is_stopped(pid_t pid, const char *task)
{
	char path[64], text[512];
	const char *state;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/task/%.16s/stat", (int)pid, task);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	if (n <= 0)
		return true; /* it ended */
	text[n] = '\0';
	state = strrchr(text, ')');
	return state && strchr("TtZX", state[2]);
}

static bool all_stopped(pid_t pid)
{
	struct dirent *entry;
	bool stopped = true;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir)))
		if (entry->d_name[0] != '.' && !is_stopped(pid, entry->d_name))
			stopped = false;
	if (dir)
		closedir(dir);
	return stopped;
}

static void stop_program(pid_t pid)
{
	struct timespec pause = { 0, STOP_TRY_US * 1000L };

	kill(pid, SIGSTOP);
	for (int i = 0; i < STOP_TRIES; i++) {
		if (all_stopped(pid))
			return;
		nanosleep(&pause, NULL);
	}
	disk_break("the program does not stop");
}

/* ---- drawing ---- */

/* p in 256. */
static bool chance(unsigned int p, uint64_t a, uint64_t b)
{
	return (disk_hash(cut.seed, a, b) & 255) < p;
}

static int draw_loss(const struct disk_file *f)
{
	static const int losses[] = { LOSS_ALL,	    LOSS_NONE,	  LOSS_WRITES,
				      LOSS_SECTORS, LOSS_SECTORS, LOSS_WRITES };

	if (cut.loss != LOSS_DRAWN)
		return cut.loss;
	return losses[disk_hash(cut.seed, f->ino, 'f') % ARRAY_SIZE(losses)];
}

static void draw_moment(void)
{
	uint64_t first = disk.change + 1;

	LIST_FOREACH(link, &disk.files) {
		struct disk_file *f = LIST_ENTRY(link, struct disk_file, link);
		struct undo *u = LIST_FIRST(&f->undo, struct undo, link);

		if (u && u->change < first)
			first = u->change;
	}
	if (!list_is_empty(&disk.names)) {
		struct name_undo *u = LIST_FIRST(&disk.names, struct name_undo, link);

		if (u->change < first)
			first = u->change;
	}
	cut.moment = first + disk_hash(cut.seed, 'm', 0) % (disk.change + 2 - first);
}

static void draw(void)
{
	cut.seed = disk_hash(disk.control->seed, disk.change,
			     (uint64_t)disk.control->changes);
	cut.loss = disk.control->loss;
	if (cut.loss == LOSS_DRAWN && chance(64, 'l', 'o'))
		cut.loss = LOSS_ORDERED;
	draw_moment();
}

static bool is_lost(int loss, const struct disk_file *f, uint64_t change, uint64_t sector)
{
	/* most disks lose most of it, or little */
	unsigned int p = 32u + 48 * (disk_hash(cut.seed, f->ino, 'p') & 3);

	switch (loss) {
	case LOSS_ALL:
		return true;
	case LOSS_WRITES:
		return chance(p, f->ino, change);
	case LOSS_SECTORS:
		return chance(p, change, sector);
	case LOSS_ORDERED:
		return change == cut.moment ? chance(128, change, sector)
					    : change > cut.moment;
	default:
		return false;
	}
}

/* ---- a file ---- */

/* How the undoing of one file goes on, from the newest change to the oldest. What was kept
 * of a sector or of the size is not touched by undoing what is older. */
struct undoing {
	struct disk_file *file;
	int fd, loss;
	unsigned char *kept; /* a bit for each sector */
	size_t kept_size;
	off_t size;
	bool size_kept;
	uint64_t undone_resize; /* the change */
};

static void undo_size(struct undoing *d, const struct undo *u)
{
	if (d->size_kept || !is_lost(d->loss, d->file, u->change, UINT64_MAX)) {
		d->size_kept = true;
		return;
	}
	d->size = u->offset;
	d->undone_resize = u->change;
}

/* What a shorter size cut off comes back only with the size. */
static bool is_part_lost(const struct undoing *d, const struct undo *u, uint64_t sector)
{
	if (u->doomed)
		return true;
	if (u->kind == UNDO_TAIL)
		return d->undone_resize == u->change;
	return is_lost(d->loss, d->file, u->change, sector);
}

static void undo_bytes(struct undoing *d, const struct undo *u)
{
	off_t at = u->offset, end = u->offset + (off_t)u->size;

	while (at < end) {
		off_t sector = at / SECTOR, next = (sector + 1) * SECTOR;
		unsigned char *byte = d->kept + sector / 8, bit = 1u << sector % 8;
		size_t size = (size_t)((next < end ? next : end) - at);

		if (!(*byte & bit) && is_part_lost(d, u, (uint64_t)sector)) {
			if (pwrite(d->fd, u->old + (at - u->offset), size, at) !=
			    (ssize_t)size)
				disk_break("undo a write");
			disk.control->lost_sectors++;
		} else {
			*byte |= bit;
			disk.control->kept_sectors++;
		}
		at = next;
	}
}

static size_t count_sectors(const struct disk_file *f)
{
	off_t end = 0;

	LIST_FOREACH(link, &f->undo) {
		const struct undo *u = LIST_ENTRY(link, struct undo, link);

		if (u->offset + (off_t)u->size > end)
			end = u->offset + (off_t)u->size;
	}
	return (size_t)end / SECTOR + 1;
}

static void undo_changes(struct undoing *d)
{
	for (struct list *link = d->file->undo.prev; link != &d->file->undo;
	     link = link->prev) {
		const struct undo *u = LIST_ENTRY(link, struct undo, link);

		if (u->kind == UNDO_SIZE)
			undo_size(d, u);
		else
			undo_bytes(d, u);
	}
}

static void undo_file(struct disk_file *f)
{
	struct undoing d = { .file = f, .loss = draw_loss(f) };
	struct stat st;

	if (list_is_empty(&f->undo))
		return;
	d.fd = open(f->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	d.kept_size = count_sectors(f) / 8 + 1;
	d.kept = calloc(1, d.kept_size);
	if (d.fd < 0 || fstat(d.fd, &st) < 0 || st.st_ino != f->ino || !d.kept) {
		disk_break(f->path);
		return;
	}
	d.size = st.st_size;
	undo_changes(&d);
	if (ftruncate(d.fd, d.size) < 0)
		disk_break("undo a size");
	free(d.kept);
	close(d.fd);
}

/* ---- names ---- */

/* The oldest change of this directory that is lost. */
static uint64_t draw_first_lost(const struct name_undo *of)
{
	uint64_t n = 0, i = 0, from;

	if (cut.loss == LOSS_ORDERED)
		return cut.moment;
	if (cut.loss == LOSS_ALL)
		return 0;
	if (cut.loss == LOSS_NONE)
		return UINT64_MAX;
	LIST_FOREACH(link, &disk.names)
		n += LIST_ENTRY(link, struct name_undo, link)->ino == of->ino;
	from = disk_hash(cut.seed, of->ino, 'd') % (n + 1);
	LIST_FOREACH(link, &disk.names) {
		const struct name_undo *u = LIST_ENTRY(link, struct name_undo, link);

		if (u->ino == of->ino && i++ == from)
			return u->change;
	}
	return UINT64_MAX;
}

static void undo_name(const struct name_undo *u)
{
	char away[PATH_MAX];
	int r = 0;

	switch (u->kind) {
	case NAME_MADE:
		disk_new_path(away);
		r = rename(u->path, away);
		break;
	case NAME_REMOVED:
		r = u->grave[0] ? rename(u->grave, u->path) : mkdir(u->path, 0700);
		break;
	case NAME_RENAMED:
		r = rename(u->to, u->path);
		if (r == 0 && u->grave[0])
			r = rename(u->grave, u->to);
		break;
	}
	if (r < 0)
		disk_break(u->path);
}

static void undo_names(void)
{
	for (struct list *link = disk.names.prev; link != &disk.names;
	     link = link->prev) {
		const struct name_undo *u = LIST_ENTRY(link, struct name_undo, link);

		if (u->change >= draw_first_lost(u)) {
			undo_name(u);
			disk.control->lost_names++;
		} else {
			disk.control->kept_names++;
		}
	}
}

/* ---- the cut ---- */

static void carry_out(pid_t pid)
{
	disk.active = false;
	/* also the program's locks and sockets, which must end with it */
	close_range(0, ~0u, 0);
	stop_program(pid);
	if (disk.control->process_only) {
		disk_keep();
	} else {
		draw();
		LIST_FOREACH(link, &disk.files)
			undo_file(LIST_ENTRY(link, struct disk_file, link));
		undo_names();
	}
	kill(pid, SIGKILL);
	_exit(0);
}

void disk_cut(void)
{
	pid_t pid = getpid(), cutter;
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	disk.control->now = 0;
	disk.control->changes_to_cut = disk.control->syncs_to_cut = 0;
	cutter = fork();
	if (cutter == 0)
		carry_out(pid);
	if (cutter < 0) {
		disk_break("fork");
		kill(pid, SIGKILL);
	}
	disk.control->cutter = cutter;
	for (;;)
		pause();
}
