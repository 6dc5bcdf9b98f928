/* SPDX-License-Identifier: MIT */

/*
 * A message becomes a file, of which nobody sees a half: it is made without a name
 * (O_TMPFILE), or where the file system knows no such thing under one of its own, and gets
 * its name when it is whole and on the disk.
 *
 *	linkat(2)	refuses a name that is taken
 *	renameat(2)	replaces it; what has no name gets one of its own before
 *	renameat2(2)	with RENAME_NOREPLACE: for what has one of its own
 */

#include "client/file.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/err.h"
#include "base/utf8.h"

enum {
	TEMP_TRIES = 100,
	RENAME_MAX = 9999,   /* as in "x (9999).txt" */
	DEFAULT_MODE = 0666, /* minus the umask */
};

struct save {
	const struct ipc_message *message;
	int dirfd;
	unsigned int flags;
	const char *wanted;
	char name[NAME_MAX + 1]; /* that it gets */
	int fd;
	char temp[32]; /* its own name; empty: it has none */
};

static void save_deinit(struct save *s)
{
	if (*s->temp)
		unlinkat(s->dirfd, s->temp, 0);
	fd_close(s->fd);
}
#define _cleanup_save_ CLEANUP(save_deinit)

/* ---- names ---- */

static bool is_plain(const char *name)
{
	return *name && !strchr(name, '/') && strcmp(name, ".") != 0 &&
	       strcmp(name, "..") != 0;
}

/* What comes behind the number: ".txt", ".tar.gz", and of ".profile" nothing. */
static const char *extension_of(const char *name)
{
	const char *dot = strrchr(name, '.');

	if (!dot || dot == name)
		return name + strlen(name);
	if (dot - name > 4 && !memcmp(dot - 4, ".tar", 4))
		return dot - 4;
	return dot;
}

/* A name that would be too long loses the end of what is before the number. */
static void number_name(const char *name, unsigned int n, char out[static NAME_MAX + 1])
{
	const char *extension = extension_of(name);
	size_t stem = (size_t)(extension - name), room;
	char number[16];

	snprintf(number, sizeof(number), " (%u)", n);
	if (strlen(number) + strlen(extension) >= NAME_MAX)
		extension = "";
	room = NAME_MAX - strlen(number) - strlen(extension);
	if (stem > room) {
		bool is_text = utf8_is_valid(name, stem);

		for (stem = room; is_text && stem && !utf8_is_valid(name, stem);)
			stem--;
	}
	snprintf(out, NAME_MAX + 1, "%.*s%s%s", (int)stem, name, number, extension);
}

/* ---- the file ---- */

static void random_name(char out[static 32])
{
	uint64_t number = 0;
	char hex[16];

	if (getrandom(&number, sizeof(number), GRND_NONBLOCK) < 0)
		number = map_u64((uint64_t)getpid() ^ (uintptr_t)out);
	format_hex64(hex, number);
	snprintf(out, 32, ".ipc-%.16s", hex);
}

static int open_named(struct save *s, mode_t mode)
{
	for (int i = 0; i < TEMP_TRIES; i++) {
		random_name(s->temp);
		s->fd = openat(s->dirfd, s->temp,
			       O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
			       mode);
		if (s->fd >= 0)
			return 0;
		*s->temp = '\0';
		if (errno != EEXIST)
			break;
	}
	return err_origin(-errno);
}

/* What has no name gets one by way of /proc, open(2). */
static void proc_path(int fd, char out[static 32])
{
	snprintf(out, 32, "/proc/self/fd/%d", fd);
}

static bool can_be_linked(int fd)
{
	char path[32];

	proc_path(fd, path);
	return faccessat(AT_FDCWD, path, F_OK, 0) == 0;
}

/* The umask is minded by open(2). */
static int open_file(struct save *s)
{
	int sent = s->message->file ? s->message->file->mode : -1;
	mode_t mode = sent < 0 ? DEFAULT_MODE : (mode_t)sent;

	s->fd = openat(s->dirfd, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, mode);
	if (s->fd >= 0 && can_be_linked(s->fd))
		return 0;
	s->fd = fd_close(s->fd);
	return err_trace(open_named(s, mode));
}

/* File systems that cannot hold the time are no reason to fail. */
static void set_time(const struct save *s)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT } };

	if (ipc_message_get_mtime(s->message, &times[1]))
		(void)!futimens(s->fd, times);
}

static int write_file(struct save *s)
{
	int r = open_file(s);

	if (!r)
		r = message_copy(s->message, s->fd);
	if (r < 0)
		return err_trace(r);
	set_time(s);
	return fsync(s->fd) < 0 ? err_origin(-errno) : 0;
}

/* ---- its name ---- */

static int link_to(const struct save *s, const char *name)
{
	char path[32];
	int r;

	proc_path(s->fd, path);
	if (*s->temp)
		r = linkat(s->dirfd, s->temp, s->dirfd, name, 0);
	else
		r = linkat(AT_FDCWD, path, s->dirfd, name, AT_SYMLINK_FOLLOW);
	return r < 0 ? err_origin(-errno) : 0;
}

/* Not every file system knows RENAME_NOREPLACE, nor each has links: one of the two. */
static int place_new(struct save *s, const char *name)
{
	if (!*s->temp)
		return err_trace(link_to(s, name));
	if (renameat2(s->dirfd, s->temp, s->dirfd, name, RENAME_NOREPLACE) == 0) {
		*s->temp = '\0';
		return 0;
	}
	if (errno != EINVAL && errno != ENOSYS)
		return err_origin(-errno);
	return err_trace(link_to(s, name)); /* the other name goes in the end */
}

static int name_temp(struct save *s)
{
	char name[32];
	int r = -EEXIST;

	for (int i = 0; r == -EEXIST && i < TEMP_TRIES; i++) {
		random_name(name);
		r = link_to(s, name);
	}
	if (!r)
		memcpy(s->temp, name, sizeof(name));
	return err_trace(r);
}

static int place_replacing(struct save *s)
{
	int r = place_new(s, s->wanted);

	if (r != -EEXIST)
		return err_trace(r);
	r = *s->temp ? 0 : name_temp(s);
	if (!r && renameat(s->dirfd, s->temp, s->dirfd, s->wanted) < 0)
		r = err_origin(-errno);
	if (!r)
		*s->temp = '\0';
	return err_trace(r);
}

static int place_renaming(struct save *s)
{
	int r = place_new(s, s->wanted);

	for (unsigned int n = 1; r == -EEXIST && n <= RENAME_MAX; n++) {
		number_name(s->wanted, n, s->name);
		r = place_new(s, s->name);
	}
	return err_trace(r);
}

static int place(struct save *s)
{
	if (s->flags & IPC_SAVE_REPLACE)
		return err_trace(place_replacing(s));
	if (s->flags & IPC_SAVE_RENAME)
		return err_trace(place_renaming(s));
	return err_trace(place_new(s, s->wanted));
}

/* A directory into which one may write but not look cannot be opened for this: then all of
 * its file system. */
static int sync_directory(const struct save *s)
{
	_cleanup_fd_ int fd = openat(s->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = fd < 0 ? syncfs(s->fd) : fsync(fd);

	/* some file systems of others know no such thing as writing a directory */
	return r < 0 && errno != EINVAL ? err_origin(-errno) : 0;
}

/* ---- the whole ---- */

static int check(const struct ipc_message *message, const char *name, unsigned int flags)
{
	if (!message_can_be_copied(message) || !name || !is_plain(name))
		return err_origin(-EINVAL);
	if (flags & ~(unsigned int)(IPC_SAVE_REPLACE | IPC_SAVE_RENAME) ||
	    flags == (IPC_SAVE_REPLACE | IPC_SAVE_RENAME))
		return err_origin(-EINVAL);
	return strlen(name) > NAME_MAX ? err_origin(-ENAMETOOLONG) : 0;
}

/* Before the work, since mostly it is there already if it is there in the end. */
static int check_free(const struct save *s)
{
	struct stat st;

	if (s->flags || fstatat(s->dirfd, s->wanted, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	return err_origin(-EEXIST);
}

int ipc_message_save(struct ipc_message *message, int dirfd, const char *name,
		     unsigned int flags, char **ret_name)
{
	_cleanup_save_ struct save s = {
		.message = message,
		.dirfd = dirfd,
		.flags = flags,
		.wanted = name ? name : ipc_message_get_filename(message),
		.fd = -1,
	};
	_cleanup_free_ char *got = NULL;
	int r = check(message, s.wanted, flags);

	if (r < 0)
		return err_trace(r);
	strcpy(s.name, s.wanted);
	got = malloc(NAME_MAX + 1);
	r = got ? check_free(&s) : err_origin(-ENOMEM);
	if (!r)
		r = write_file(&s);
	if (!r)
		r = place(&s);
	if (!r)
		r = sync_directory(&s);
	if (r < 0)
		return err_trace(r);
	strcpy(got, s.name);
	if (ret_name)
		*ret_name = TAKE_PTR(got);
	return 0;
}
