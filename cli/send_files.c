/* SPDX-License-Identifier: MIT */

/*
 * ipc send FILE...: one message after the other, as each FILE is opened, handed over and
 * closed in its turn. What is wrong with one of them is told, and the others are sent all the
 * same, as cp(1) does; when the queue does not take more, or nobody is there, it ends.
 *
 * A regular file goes as a descriptor, of which the daemon makes its copy, and a pipe is read
 * to its end: that is the library's. A directory becomes a tar here, as it is read.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "out.h"
#include "libarchive.h"
#include "pack.h"
#include "send.h"

struct source {
	const struct send *send;
	const char *argument;
	char *filename; /* that the receiver is told; NULL: none */
	int fd;
	struct stat st;
	struct pack *pack; /* of a directory */
	int error;	   /* of read_rest() */
};

struct files {
	const struct send *send;
	struct ipc_client *client;
	struct progress *progress;
	int status; /* of the first failure */
	bool ended; /* nothing more is to be sent */
};

static bool is_standard_input(const struct source *source)
{
	return strcmp(source->argument, "-") == 0;
}

static const char *shown_name(const struct source *source)
{
	if (source->filename)
		return source->filename;
	return is_standard_input(source) ? "standard input" : source->argument;
}

/* A path in a directory, as one would write it. NULL: no memory. */
static char *join(const struct source *source, const char *path)
{
	size_t n = strlen(source->argument);
	char *both;

	if (asprintf(&both, "%s%s%s", source->argument,
		     !*path || source->argument[n - 1] == '/' ? "" : "/", path) < 0)
		return NULL;
	return both;
}

/* ---- failures ---- */

/* One that another FILE may not have. */
static int fail_with(struct files *files, const char *what, const char *why)
{
	cli_say(files->send->cli, files->send->name, "%s: %s", what, why);
	if (files->status == STATUS_OK)
		files->status = STATUS_LOCAL;
	return -1;
}

/* It cannot be read. */
static int fail(struct files *files, const struct source *source, const char *why)
{
	return fail_with(files,
			 is_standard_input(source) ? "cannot read standard input"
						   : source->argument,
			 why);
}

/* Is it the end for those that follow, too? */
static bool is_final(int error)
{
	switch (error) {
	case -EAGAIN: /* the queue is full */
	case -EACCES:
	case -ETIMEDOUT:
	case -ECONNRESET:
	case -EPROTO:
	case -ESHUTDOWN:
	case -EOPNOTSUPP:
		return true;
	default:
		return false;
	}
}

/* Could it not be read, where that was done here? */
static bool is_unreadable(struct files *files, const struct source *source)
{
	const char *path = "", *why = NULL;
	_cleanup_free_ char *both = NULL;
	struct source part = *source;

	if (source->pack)
		why = pack_get_error(source->pack, &path);
	else if (source->error)
		why = strerror(-source->error);
	if (!why)
		return false;
	both = join(source, path);
	if (both)
		part.argument = both;
	fail(files, &part, why);
	return true;
}

/* What the daemon, or the library, has against it. */
static int refused(const struct files *files, const struct source *source, int error)
{
	const struct send *send = files->send;
	_cleanup_free_ char *both = NULL;
	const char *subject = send->name;

	if (send->n_files > 1 &&
	    asprintf(&both, "%s: %s", send->name, source->argument) >= 0)
		subject = both;
	if (!send_in_vain(send, error))
		return cli_fail_ipc(send->cli, subject, files->client, error);
	cli_say(send->cli, subject, "%s",
		send_why_in_vain(error, ipc_client_get_error(files->client)));
	return STATUS_TIMEOUT;
}

/* It ends here, after so many. */
static void end(struct files *files, size_t index)
{
	const struct send *send = files->send;
	size_t left = send->n_files - index;

	files->ended = true;
	if (left > 0)
		cli_say(send->cli, send->name, "%zu more %s not sent", left,
			left == 1 ? "file was" : "files were");
}

static void not_sent(struct files *files, const struct source *source, size_t index,
		     int error)
{
	int status;

	if (is_unreadable(files, source))
		return;
	status = refused(files, source, error);
	if (files->status == STATUS_OK)
		files->status = status;
	if (is_final(error) || send_in_vain(files->send, error))
		end(files, index);
}

/* ---- names ---- */

/* The last part of the path; of "." and the like, what that directory is called. */
static char *last_part(const char *path)
{
	_cleanup_free_ char *real = NULL;
	size_t end = strlen(path), begin;

	while (end > 0 && path[end - 1] == '/')
		end--;
	for (begin = end; begin > 0 && path[begin - 1] != '/'; begin--)
		;
	if (end - begin > 2 || (path[begin] != '.' && end > begin) ||
	    (end - begin == 2 && path[begin + 1] != '.'))
		return strndup(path + begin, end - begin);
	real = realpath(path, NULL);
	if (!real || strcmp(real, "/") == 0)
		return strdup("");
	return strdup(strrchr(real, '/') + 1);
}

static bool has_tar(const char *name)
{
	size_t n = strlen(name);

	return n > 4 && strcmp(name + n - 4, ".tar") == 0;
}

static char *with_tar(char *name)
{
	char *grown;

	if (asprintf(&grown, "%s.tar", name) < 0)
		grown = NULL;
	free(name);
	return grown;
}

static int name_source(struct files *files, struct source *source)
{
	const char *as = files->send->filename;

	if (!as && is_standard_input(source))
		return 0;
	source->filename = as ? strdup(as) : last_part(source->argument);
	if (source->filename && *source->filename && S_ISDIR(source->st.st_mode) &&
	    !(as && has_tar(as)))
		source->filename = with_tar(source->filename);
	return source->filename ? 0 : fail(files, source, "no memory");
}

/* ---- sources ---- */

/* One that was closed has main()'s /dev/null in its place. */
static bool is_write_only(int fd)
{
	return (fcntl(fd, F_GETFL) & O_ACCMODE) == O_WRONLY;
}

static int open_source(struct files *files, struct source *source)
{
	if (is_standard_input(source))
		source->fd = STDIN_FILENO;
	else
		source->fd = open(source->argument, O_RDONLY | O_NOCTTY | O_CLOEXEC);
	if (source->fd < 0 || fstat(source->fd, &source->st) < 0)
		return fail(files, source, strerror(errno));
	if (is_standard_input(source) && is_write_only(source->fd))
		return fail(files, source, strerror(EBADF));
	if (!S_ISDIR(source->st.st_mode))
		return 0;
	if (is_standard_input(source))
		return fail(files, source, strerror(EISDIR));
	if (files->send->file_flags & IPC_FILE_LIVE)
		return fail(files, source, "a directory cannot be handed over live");
	return 0;
}

static void close_source(struct source *source)
{
	pack_free(source->pack);
	free(source->filename);
	if (source->fd >= 0 && !is_standard_input(source))
		close(source->fd);
}

/* Standard input that somebody has read a part of already: the rest of it. */
static ssize_t read_rest(void *buffer, size_t size, void *userdata)
{
	struct source *source = userdata;
	ssize_t n = TEMP_FAILURE_RETRY(read(source->fd, buffer, size));

	source->error = n < 0 ? -errno : 0;
	return n < 0 ? source->error : n;
}

static bool is_read_in_part(const struct source *source)
{
	return is_standard_input(source) && S_ISREG(source->st.st_mode) &&
	       lseek(source->fd, 0, SEEK_CUR) > 0;
}

static void on_left_out(const char *path, const char *what, void *userdata)
{
	const struct source *source = userdata;
	const struct send *send = source->send;
	_cleanup_free_ char *both = join(source, path);

	if (!send->cli->quiet)
		cli_say(send->cli, send->name, "%s is %s and left out",
			both ? both : path, what);
}

/* All names in it begin with its filename without ".tar", as --as may have given it: receivers
 * refuse one that leads out. */
static int set_directory(const struct send *send, struct source *source)
{
	const size_t n = strlen(source->filename), end = n > 4 ? n - 4 : n;
	_cleanup_free_ char *name = strndup(source->filename, end);
	int r;

	if (name && (strcmp(name, ".") == 0 || strcmp(name, "..") == 0))
		return -EINVAL;
	r = name ? pack_new(source->fd, name, on_left_out, source, &source->pack)
		 : -ENOMEM;
	if (r == 0)
		r = ipc_message_set_reader(send->message, pack_read, source->pack,
					   source->filename, send->file_flags);
	return r < 0 ? r : ipc_message_set_archive(send->message, "tar");
}

static int set_source(const struct send *send, struct source *source)
{
	int r = ipc_message_set_archive(send->message, NULL);

	if (r < 0)
		return r;
	if (S_ISDIR(source->st.st_mode))
		return set_directory(send, source);
	if (is_read_in_part(source) && !(send->file_flags & IPC_FILE_LIVE))
		return ipc_message_set_reader(send->message, read_rest, source,
					      source->filename, send->file_flags);
	return ipc_message_set_file(send->message, source->fd, source->filename,
				    send->file_flags);
}

static const char *why_not_set(int error, const struct source *source)
{
	if (error == -ELIBACC)
		return libarchive_load();
	if (source->send->filename && (error == -EINVAL || error == -EMSGSIZE))
		return "--as needs a name of 1 to 255 bytes of UTF-8, without '/', and "
		       "not '.' or '..'";
	switch (error) {
	case -EINVAL:
		return !source->filename || *source->filename
			       ? "its name cannot be that of a file, in UTF-8; --as gives "
				 "another"
			       : "it has no name; --as gives one";
	case -EMSGSIZE:
		return "its name is longer than 255 bytes; --as gives another";
	default:
		return strerror(-error);
	}
}

static int prepare(struct files *files, struct source *source, size_t index)
{
	const struct send *send = files->send;
	int r = open_source(files, source);

	if (r == 0)
		r = name_source(files, source);
	if (r < 0)
		return r;
	r = set_source(send, source);
	if (r < 0)
		return fail_with(files,
				 is_standard_input(source) ? "standard input"
							   : source->argument,
				 why_not_set(r, source));
	r = send_set_dedup(send, index);
	return r < 0 ? fail(files, source, strerror(-r)) : 0;
}

/* ---- sending ---- */

/* As after reading, whoever goes on with this standard input finds its end. */
static void skip_to_end(const struct send *send, const struct source *source)
{
	if (is_standard_input(source) && S_ISREG(source->st.st_mode) &&
	    !(send->file_flags & IPC_FILE_LIVE))
		lseek(source->fd, 0, SEEK_END);
}

static void send_source(struct files *files, struct source *source, size_t index)
{
	const struct send *send = files->send;
	uint64_t number;
	int r;

	/* Who is typing sees how far it is, and wants no line drawn over that. */
	if (isatty(source->fd)) {
		ipc_message_set_progress(send->message, NULL, NULL);
	} else {
		ipc_message_set_progress(send->message, progress_update, files->progress);
		progress_begin(files->progress, shown_name(source), index, send->n_files);
	}
	r = ipc_send_message(files->client, send->name, send->message, send->wait_ms,
			     send->flags | IPC_SEND_TELL, &number);
	progress_end(files->progress);
	if (r < 0) {
		not_sent(files, source, index, r);
		return;
	}
	skip_to_end(send, source);
	send_tell(send, 0, source->filename, number, (unsigned int)r);
}

static void send_file(struct files *files, size_t index)
{
	struct source source = {
		.send = files->send,
		.argument = files->send->files[index - 1],
		.fd = -1,
	};

	if (prepare(files, &source, index) == 0)
		send_source(files, &source, index);
	/* It is borrowed no longer. */
	ipc_message_set_body(files->send->message, NULL, 0);
	close_source(&source);
}

/* What is told of each, at once: who reads it may wait for it. */
static void flush(struct files *files, size_t index)
{
	const struct send *send = files->send;
	int r = send->cli->json || send->verbose ? out_flush(false) : 0;

	if (r == 0)
		return;
	if (files->status == STATUS_OK)
		files->status = STATUS_LOCAL;
	files->ended = true;
	if (r == -EPIPE)
		return;
	cli_say(send->cli, send->name, "cannot write: %s", strerror(-r));
	end(files, index);
}

int send_files(const struct send *send)
{
	struct files files = { .send = send };
	int status = cli_connect(send->cli, &files.client);

	if (status != STATUS_OK)
		return status;
	files.progress = progress_new(send->cli);
	for (size_t i = 1; i <= send->n_files && !files.ended; i++) {
		send_file(&files, i);
		flush(&files, i);
	}
	progress_free(files.progress);
	ipc_client_close(files.client);
	return files.status;
}
