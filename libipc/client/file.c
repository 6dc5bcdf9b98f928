/* SPDX-License-Identifier: MIT */

/* Messages that carry files: what the program sets, and what it can ask of one. */

#include "client/file.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "base/err.h"
#include "base/utf8.h"

enum {
	DIGEST_FLAGS = IPC_FILE_XXH3 | IPC_FILE_SHA256 | IPC_FILE_MD5,
};

struct message_file *message_file_new(void)
{
	struct message_file *file = calloc(1, sizeof(*file));

	if (!file)
		return NULL;
	file->fd = -1;
	file->mode = -1;
	file->size = FILE_SIZE_UNKNOWN;
	return file;
}

static void release(struct message_file *file)
{
	if (file->map)
		munmap(file->map, (size_t)file->size);
	if (file->fd_is_owned)
		fd_close(file->fd);
}

struct message_file *message_file_free(struct message_file *file)
{
	if (file)
		release(file);
	free(file);
	return NULL;
}

bool filename_is_valid(const char *name, size_t size)
{
	return size && size <= FILE_NAME_MAX && utf8_is_valid(name, size) &&
	       !memchr(name, '/', size) && !memchr(name, '\0', size) &&
	       !(size == 1 && name[0] == '.') && !(size == 2 && !memcmp(name, "..", 2));
}

/* ---- to be sent ---- */

static int check_filename(const char *filename)
{
	size_t size = filename ? strlen(filename) : 0;

	if (!filename || filename_is_valid(filename, size))
		return 0;
	return err_origin(size > FILE_NAME_MAX ? -EMSGSIZE : -EINVAL);
}

/* Puts what the message's body comes from now in the place of what it came from. An archive
 * it stays. */
static int set_source(struct ipc_message *message, enum file_source source,
		      const char *filename, unsigned int flags)
{
	struct message_file *file = message_file_new();

	if (!file)
		return err_origin(-ENOMEM);
	file->source = source;
	file->flags = flags;
	file->live = flags & IPC_FILE_LIVE;
	if (filename)
		memcpy(file->name, filename, strlen(filename));
	if (message->file)
		file->archive = message->file->archive;
	message_file_free(message->file);
	message->file = file;
	message->body = "";
	message->body_size = 0;
	return 0;
}

void ipc_message_set_body(struct ipc_message *message, const void *data, size_t size)
{
	struct message_file *file = message->file;

	if (file && file->archive) {
		release(file);
		*file = (struct message_file){
			.fd = -1, .archive = true, .mode = -1, .size = FILE_SIZE_UNKNOWN
		};
	} else {
		message->file = message_file_free(file);
	}
	message->body = size ? data : "";
	message->body_size = size;
}

/* O_PATH is asked for because fstat(2) takes it, and reading does not. */
static int check_fd(int fd, unsigned int flags)
{
	struct stat st;
	int mode = fcntl(fd, F_GETFL);

	if (mode < 0 || fstat(fd, &st) < 0)
		return err_origin(-errno);
	if (S_ISDIR(st.st_mode))
		return err_origin(-EISDIR);
	if (mode & O_PATH)
		return err_origin(-EBADF);
	if (!(flags & IPC_FILE_LIVE) && (mode & O_ACCMODE) == O_WRONLY)
		return err_origin(-EBADF);
	return 0;
}

int ipc_message_set_file(struct ipc_message *message, int fd, const char *filename,
			 unsigned int flags)
{
	int r = check_filename(filename);

	if (flags != IPC_FILE_LIVE && flags & ~(unsigned int)DIGEST_FLAGS)
		r = err_origin(-EINVAL);
	if (!r)
		r = check_fd(fd, flags);
	if (!r)
		r = set_source(message, FILE_IN_FD, filename, flags);
	if (r < 0)
		return err_trace(r);
	message->file->fd = fd;
	return 0;
}

int ipc_message_set_reader(struct ipc_message *message, ipc_read_fn reader,
			   void *userdata, const char *filename, unsigned int flags)
{
	int r = check_filename(filename);

	if (!reader || flags & ~(unsigned int)DIGEST_FLAGS)
		r = err_origin(-EINVAL);
	if (!r)
		r = set_source(message, FILE_IN_READER, filename, flags);
	if (r < 0)
		return err_trace(r);
	message->file->reader = reader;
	message->file->userdata = userdata;
	return 0;
}

int ipc_message_set_archive(struct ipc_message *message, const char *format)
{
	if (format && strcmp(format, "tar") != 0)
		return err_origin(-EINVAL);
	if (format && !message->file)
		message->file = message_file_new();
	if (format && !message->file)
		return err_origin(-ENOMEM);
	if (message->file)
		message->file->archive = format;
	return 0;
}

void ipc_message_set_progress(struct ipc_message *message, ipc_progress_fn progress,
			      void *userdata)
{
	message->progress = progress;
	message->progress_userdata = userdata;
}

/* ---- received ---- */

const char *ipc_message_get_filename(const struct ipc_message *message)
{
	return message->file && *message->file->name ? message->file->name : NULL;
}

uint64_t ipc_message_get_size(const struct ipc_message *message)
{
	if (message->file && message->file->source != FILE_IN_MEMORY)
		return message->file->size;
	return message->body_size;
}

int ipc_message_get_mode(const struct ipc_message *message)
{
	return message->file ? message->file->mode : -1;
}

bool ipc_message_get_mtime(const struct ipc_message *message, struct timespec *ret_mtime)
{
	if (!message->file || !message->file->has_mtime)
		return false;
	if (ret_mtime)
		*ret_mtime = message->file->mtime;
	return true;
}

const char *ipc_message_get_digest(const struct ipc_message *message,
				   const char *algorithm)
{
	enum digest_kind kind = digest_of_name(algorithm);

	if (!message->file || kind == DIGEST_N || !*message->file->digests[kind])
		return NULL;
	return message->file->digests[kind];
}

const char *ipc_message_get_archive(const struct ipc_message *message)
{
	return message->file && message->file->archive ? "tar" : NULL;
}

bool ipc_message_is_live(const struct ipc_message *message)
{
	return message_is_live(message);
}

int ipc_message_get_fd(const struct ipc_message *message)
{
	return message_has_fd(message) && message->file->fd_is_owned ? message->file->fd
								     : -1;
}

int ipc_message_steal_fd(struct ipc_message *message)
{
	if (!message_has_fd(message) || !message->file->fd_is_owned)
		return -1;
	return TAKE_FD(message->file->fd);
}

/* ---- the body of a descriptor ---- */

static int map_body(struct message_file *file)
{
	struct stat st;
	void *map;

	if (file->live)
		return err_origin(-EOPNOTSUPP);
	if (!file->fd_is_owned || file->fd < 0)
		return err_origin(-EBADF);
	if (fstat(file->fd, &st) < 0)
		return err_origin(-errno);
	/* what is mapped behind a file's end is SIGBUS */
	if (st.st_size < 0 || (uint64_t)st.st_size != file->size)
		return err_origin(-EBADMSG);
	if (file->size > SIZE_MAX)
		return err_origin(-EFBIG);
	if (!file->size)
		return 0;
	map = mmap(NULL, (size_t)file->size, PROT_READ, MAP_PRIVATE, file->fd, 0);
	if (map == MAP_FAILED)
		return err_origin(-errno);
	file->map = map;
	return 0;
}

const void *ipc_message_get_body(const struct ipc_message *message, size_t *ret_size)
{
	struct message_file *file = message->file;
	int r = 0;

	if (ret_size)
		*ret_size = message->body_size;
	if (!file || file->source == FILE_IN_MEMORY)
		return message->body;
	if (!file->map)
		r = map_body(file);
	if (r < 0) {
		errno = -r;
		return NULL;
	}
	if (ret_size)
		*ret_size = (size_t)file->size;
	return file->map ? file->map : "";
}
