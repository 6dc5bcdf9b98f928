/* SPDX-License-Identifier: MIT */

/*
 * In which way a body goes.
 *
 *	bytes	what is in memory, up to a piece; small files
 *	a descriptor	larger files, and anything live; large bodies, as a sealed memfd, so
 *		that they pass the socket without being copied into it and out again
 *	pieces	what must be read to its end to know how much it is; large bodies where there
 *		is no memfd, or RLIMIT_FSIZE forbids one of that size
 *
 * Only who waits for the answer can send pieces. A large body sent without waiting goes as
 * one frame: so it is counted as what waits to be written.
 */

#include "client/file.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/err.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U /* Linux 6.3 */
#endif

enum {
	SMALL_READS_MAX = 3, /* of a small file that is being changed */
};

static int fail(struct ipc_client *client, int r, const char *what)
{
	return client_error_set(&client->error, r, "%s: %s", what, strerror(-r));
}

void payload_deinit(struct payload *payload)
{
	free(payload->own_data);
	payload->own_data = NULL;
	payload->fds = fdset_free(payload->fds);
}

/* ---- as a descriptor ---- */

static int put_fd(struct payload *p, int *fd)
{
	p->fds = fdset_new(fd, 1);
	if (!p->fds)
		return err_origin(-ENOMEM);
	*fd = -1;
	p->kind = PAYLOAD_FD;
	return 0;
}

static int prepare_fd(struct ipc_client *client, struct payload *p, int fd)
{
	_cleanup_fd_ int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	int r = copy < 0 ? err_origin(-errno) : put_fd(p, &copy);

	return r < 0 ? fail(client, r, "the file cannot be sent") : 0;
}

/* Where executables in memory are forbidden, only one that says it is none is allowed; older
 * kernels do not know that flag. memfd_create(2). */
static int new_memfd(void)
{
	unsigned int flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	int fd = memfd_create("ipc", flags | MFD_NOEXEC_SEAL);

	return fd < 0 && errno == EINVAL ? memfd_create("ipc", flags) : fd;
}

/* A memfd is under RLIMIT_FSIZE as any file, and SIGXFSZ would end the program. */
static bool may_be_file(size_t size)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_FSIZE, &limit) == 0 && size <= limit.rlim_cur;
}

/* False where it cannot be, for whatever reason: then there are other ways. */
static bool prepare_memfd(struct payload *p)
{
	_cleanup_fd_ int fd = may_be_file(p->size) ? new_memfd() : -1;

	if (fd < 0 || file_write_all(fd, p->data, p->size) < 0 ||
	    fcntl(fd, F_ADD_SEALS,
		  F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
		return false;
	return put_fd(p, &fd) == 0;
}

/* ---- in pieces ---- */

static void prepare_stream(struct payload *p, ipc_read_fn reader, void *userdata)
{
	p->kind = PAYLOAD_STREAM;
	p->read = reader;
	p->userdata = userdata;
}

static ssize_t read_memory(void *buffer, size_t size, void *userdata)
{
	struct payload *p = userdata;
	size_t n = min_size(size, p->size - (size_t)p->offset);

	memcpy(buffer, p->data + p->offset, n);
	p->offset += n;
	return (ssize_t)n;
}

/* Of a file that is longer than it says, such as those of proc(5). */
static ssize_t read_at(void *buffer, size_t size, void *userdata)
{
	struct payload *p = userdata;
	ssize_t n;

	do
		n = pread(p->message->file->fd, buffer, size, (off_t)p->offset);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_origin(-errno);
	p->offset += (uint64_t)n;
	return n;
}

/* A descriptor may be of those that do not wait, so it is polled first in any case; whoever
 * sends the pieces has done so already, and then this costs nothing. */
static ssize_t read_fd(void *buffer, size_t size, void *userdata)
{
	struct payload *p = userdata;
	struct pollfd pollfd = { .fd = p->fd, .events = POLLIN };
	ssize_t n;

	while ((n = read(p->fd, buffer, size)) < 0) {
		if (errno == EAGAIN)
			(void)poll(&pollfd, 1, -1);
		else if (errno != EINTR)
			return err_origin(-errno);
	}
	return n;
}

/* ---- a file ---- */

/* Files that the kernel makes up have no size, and perhaps no time either. */
static bool is_same(const struct stat *a, const struct stat *b)
{
	return a->st_size == b->st_size &&
	       (!a->st_size || (a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
				a->st_mtim.tv_nsec == b->st_mtim.tv_nsec));
}

/* From the start, at most size bytes. */
static ssize_t read_start(int fd, char *buffer, size_t size)
{
	size_t have = 0;

	while (have < size) {
		ssize_t n = pread(fd, buffer + have, size - have, (off_t)have);

		if (n < 0 && errno != EINTR)
			return err_origin(-errno);
		if (!n)
			break;
		if (n > 0)
			have += (size_t)n;
	}
	return (ssize_t)have;
}

/* Those that the kernel makes up say 0, or as in sysfs a page, whatever is in them. */
static bool is_whole(const struct stat *st, ssize_t size)
{
	return size == st->st_size || !st->st_size ||
	       (!st->st_blocks && size < st->st_size);
}

/* Reads it, and again if it was changed meanwhile. *st is what it was then. */
static ssize_t read_unchanged(int fd, char *buffer, size_t size, struct stat *st)
{
	struct stat after;

	for (int i = 0; i < SMALL_READS_MAX; i++) {
		ssize_t n = read_start(fd, buffer, size);

		if (n < 0)
			return err_trace((int)n);
		if (fstat(fd, &after) < 0)
			return err_origin(-errno);
		if (is_same(st, &after) && is_whole(&after, n))
			return n;
		*st = after;
		if (st->st_size >= (off_t)size)
			return (ssize_t)size;
	}
	return err_origin(-EBUSY);
}

static void note_file(struct payload *p, const struct stat *st)
{
	p->file_size = (uint64_t)st->st_size;
	p->mode = (int)(st->st_mode & FILE_MODE_MASK);
	p->mtime = st->st_mtim;
	p->has_mtime = true;
}

static int prepare_small(struct ipc_client *client, struct payload *p, struct stat *st)
{
	int fd = p->message->file->fd;
	ssize_t n;

	p->own_data = malloc(FILE_READ_MAX + 1);
	if (!p->own_data)
		return fail(client, err_origin(-ENOMEM), "the file cannot be read");
	n = read_unchanged(fd, p->own_data, FILE_READ_MAX + 1, st);
	/* O_DIRECT may not read to any place in memory, open(2): the daemon knows how to */
	if (n == -EINVAL)
		return err_trace(prepare_fd(client, p, fd));
	if (n < 0)
		return fail(client, err_trace((int)n), "the file cannot be read");
	note_file(p, st);
	p->file_size = (uint64_t)n;
	p->data = p->own_data;
	p->size = (size_t)n;
	if (n <= FILE_READ_MAX)
		return 0;
	p->file_size = FILE_SIZE_UNKNOWN;
	if (st->st_size)
		return err_trace(prepare_fd(client, p, fd));
	p->size = 0;
	prepare_stream(p, read_at, p);
	return 0;
}

static int prepare_regular(struct ipc_client *client, struct payload *p, struct stat *st)
{
	note_file(p, st);
	if (st->st_size <= FILE_READ_MAX)
		return err_trace(prepare_small(client, p, st));
	return err_trace(prepare_fd(client, p, p->message->file->fd));
}

/* What was received and is sent on, as it was. */
static int prepare_received(struct ipc_client *client, struct payload *p)
{
	const struct message_file *file = p->message->file;

	p->file_size = file->live ? FILE_SIZE_UNKNOWN : file->size;
	p->mode = file->mode;
	p->mtime = file->mtime;
	p->has_mtime = file->has_mtime;
	if (file->source == FILE_IN_MEMORY)
		return 0;
	return err_trace(prepare_fd(client, p, file->fd));
}

static int prepare_file(struct ipc_client *client, struct payload *p)
{
	const struct message_file *file = p->message->file;
	struct stat st;
	int r;

	if (fstat(file->fd, &st) < 0)
		return fail(client, err_origin(-errno), "the file cannot be sent");
	if (S_ISREG(st.st_mode) && !file->live)
		return err_trace(prepare_regular(client, p, &st));
	if (file->live) {
		if (S_ISREG(st.st_mode))
			note_file(p, &st);
		p->file_size = FILE_SIZE_UNKNOWN;
		r = prepare_fd(client, p, file->fd);
		return err_trace(r);
	}
	p->fd = file->fd;
	p->once = true;
	prepare_stream(p, read_fd, p);
	return 0;
}

/* ---- a body ---- */

static void prepare_body(struct ipc_client *client, struct payload *p)
{
	if (p->size <= LIMIT_PIECE_MAX || !p->may_block || !client->takes_files)
		return;
	if (!prepare_memfd(p))
		prepare_stream(p, read_memory, p);
}

static int prepare_source(struct ipc_client *client, struct payload *p)
{
	const struct message_file *file = p->message->file;

	if (file->source == FILE_IN_READER) {
		p->once = true;
		prepare_stream(p, file->reader, file->userdata);
		return 0;
	}
	if (file->source == FILE_IN_FD && !file->fd_is_owned)
		return err_trace(prepare_file(client, p));
	return err_trace(prepare_received(client, p));
}

int payload_prepare(struct ipc_client *client, const struct ipc_message *message,
		    bool may_block, struct payload *ret_payload)
{
	struct payload *p = ret_payload;
	int r = 0;

	*p = (struct payload){
		.message = message,
		.may_block = may_block,
		.data = message->body,
		.size = message->body_size,
		.fd = -1,
		.file_size = FILE_SIZE_UNKNOWN,
		.mode = -1,
	};
	if (message->file && !client->takes_files)
		return client_error_set(&client->error, err_origin(-EOPNOTSUPP),
					"%s takes no files", client->server);
	if (message->file)
		r = prepare_source(client, p);
	if (r < 0)
		return err_trace(r);
	if (p->kind == PAYLOAD_BYTES)
		prepare_body(client, p);
	if (p->kind == PAYLOAD_STREAM && !may_block)
		return client_error_set(&client->error, err_origin(-EOPNOTSUPP),
					"what must be read to its end cannot be sent "
					"without waiting");
	return 0;
}

/* ---- what is said of it ---- */

static void put_digests(const struct message_file *file, struct json_writer *w)
{
	static const unsigned int flags[DIGEST_N] = {
		[DIGEST_XXH3] = IPC_FILE_XXH3,
		[DIGEST_SHA256] = IPC_FILE_SHA256,
		[DIGEST_MD5] = IPC_FILE_MD5,
	};

	for (enum digest_kind kind = 0; kind < DIGEST_N; kind++) {
		if (*file->digests[kind])
			json_put_text(w, digest_name(kind), file->digests[kind]);
		else if (file->flags & flags[kind])
			json_put_bool(w, digest_name(kind), true);
	}
}

static void put_file(const struct payload *p, struct json_writer *w)
{
	const struct message_file *file = p->message->file;

	if (*file->name)
		json_put_text(w, "filename", file->name);
	if (p->file_size != FILE_SIZE_UNKNOWN)
		json_put_u64(w, "file_size", p->file_size);
	if (p->mode >= 0)
		json_put_i64(w, "mode", p->mode);
	if (p->has_mtime)
		json_put_i64(w, "mtime", p->mtime.tv_sec);
	if (p->has_mtime && p->mtime.tv_nsec)
		json_put_i64(w, "mtime_ns", p->mtime.tv_nsec);
	put_digests(file, w);
	if (file->archive)
		json_put_text(w, "archive", "tar");
	if (file->live)
		json_put_bool(w, "live", true);
}

void payload_put_keys(const struct payload *payload, struct json_writer *w)
{
	if (payload->message->file)
		put_file(payload, w);
	/* its answers also tell that the daemon is still at it */
	if (payload->kind != PAYLOAD_BYTES && payload->may_block &&
	    !message_is_live(payload->message))
		json_put_bool(w, "progress", true);
	if (payload->kind == PAYLOAD_FD)
		json_put_u64(w, "fds", 1);
}
