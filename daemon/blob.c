/* SPDX-License-Identifier: MIT */

#include "blob.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "state.h"
#include "worker.h"

enum { GENERATION_SHIFT = 32 };

void blobs_init(struct blobs *blobs, struct workers *workers)
{
	*blobs = (struct blobs){ .workers = workers, .directory = -1, .next_id = 1 };
}

int blobs_open(struct blobs *blobs, const char *state)
{
	int fd;

	blobs->state = strdup(state);
	fd = blobs->state ? state_open_spool(state) : -ENOMEM;
	if (fd < 0)
		return err_trace(fd);
	blobs->directory = fd;
	return 0;
}

/* Workers go on with the same number. */
int blobs_open_again(struct blobs *blobs)
{
	_cleanup_fd_ int fd = state_open_spool(blobs->state);

	if (fd < 0)
		return err_trace(fd);
	return dup3(fd, blobs->directory, O_CLOEXEC) < 0 ? err_origin(-errno) : 0;
}

void blobs_begin(struct blobs *blobs, uint64_t generation)
{
	blobs->next_id = (generation << GENERATION_SHIFT) + 1;
}

void blobs_deinit(struct blobs *blobs)
{
	fd_close(blobs->directory);
	blobs->directory = -1;
	free(blobs->state);
	blobs->state = NULL;
}

/* ---- life ---- */

static struct blob *make(struct blobs *blobs)
{
	struct blob *b = malloc(sizeof(*b));

	if (b)
		*b = (struct blob){
			.blobs = blobs, .refs = 1, .fd = -1, .uid = (uid_t)-1
		};
	return b;
}

struct blob *blob_new(struct blobs *blobs)
{
	struct blob *b = make(blobs);

	if (b && blobs->directory >= 0)
		b->id = blobs->next_id++;
	return b;
}

struct blob *blob_new_stored(struct blobs *blobs, uint64_t id, uint64_t size,
			     uint64_t disk)
{
	struct blob *b = make(blobs);

	if (b) {
		b->id = id;
		b->size = size;
		b->disk = disk;
		b->made = b->synced = true;
	}
	return b;
}

struct blob *blob_new_fd(struct blobs *blobs, uid_t uid, int fd, uint64_t size,
			 uint64_t disk, bool live, bool quick)
{
	struct blob *b = make(blobs);

	if (b) {
		b->uid = uid;
		b->fd = fd;
		b->size = size;
		b->disk = disk;
		b->live = live;
		b->quick = quick;
	}
	return b;
}

void blob_name(struct blob *b)
{
	if (b->id || b->blobs->directory < 0)
		return;
	b->id = b->blobs->next_id++;
	b->made = true; /* by the store */
}

static void name_file(char name[static 24], uint64_t id)
{
	snprintf(name, 24, "%" PRIu64, id);
}

/* ---- the end: unlinking a large file takes its time ---- */

struct unlink_job {
	struct job job;
	int directory;
	uint64_t id;
};

static void unlink_run(struct job *job)
{
	struct unlink_job *u = CONTAINER_OF(job, struct unlink_job, job);
	char name[24];

	name_file(name, u->id);
	(void)!unlinkat(u->directory, name,
			0); /* what stays is found at the next start */
}

static void unlink_done(struct job *job)
{
	free(CONTAINER_OF(job, struct unlink_job, job));
}

static void unlink_file(const struct blobs *blobs, uint64_t id)
{
	struct unlink_job *u = malloc(sizeof(*u)), here;

	if (!u) {
		here = (struct unlink_job){ .directory = blobs->directory, .id = id };
		unlink_run(&here.job);
		return;
	}
	*u = (struct unlink_job){
		.job = { .uid = (uid_t)-1, .run = unlink_run, .done = unlink_done },
		.directory = blobs->directory,
		.id = id,
	};
	workers_submit(blobs->workers, &u->job);
}

struct blob *blob_unref(struct blob *b)
{
	if (!b || --b->refs)
		return NULL;
	if (b->made && !b->blobs->keep)
		unlink_file(b->blobs, b->id);
	if (b->live && !b->quick) /* a foreign one: closing it may block */
		workers_close_fd(b->uid, b->fd);
	else
		fd_close(b->fd);
	free(b);
	return NULL;
}

/* ---- content ---- */

int blob_create(struct blob *b)
{
	char name[24];
	int fd;

	if (b->id) {
		name_file(name, b->id);
		fd = openat(b->blobs->directory, name,
			    O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
		b->made = fd >= 0;
		b->gone = fd < 0 && errno == ENOENT;
	} else {
		fd = memfd_create("ipcd-body", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	}
	return fd < 0 ? err_origin(-errno) : fd;
}

void blob_adopt_take(struct blob *b, int fd, uint64_t size, uint64_t disk)
{
	b->size = size;
	b->disk = disk;
	if (b->id) {
		fd_close(fd);
		return;
	}
	/* whoever gets it cannot change it for the others */
	(void)!fcntl(fd, F_ADD_SEALS,
		     F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
	b->fd = fd;
}

int blob_open(const struct blob *b)
{
	char name[24];
	int fd;

	if (b->fd >= 0)
		return err_trace(fd_reopen(b->fd, O_RDONLY));
	name_file(name, b->id);
	fd = openat(b->blobs->directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? err_origin(-errno) : fd;
}
