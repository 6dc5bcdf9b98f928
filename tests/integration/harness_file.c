/* SPDX-License-Identifier: MIT */

/* See harness_file.h. */

#include "integration/harness_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "integration/harness_internal.h"

void pattern_fill(void *data, size_t size, uint64_t offset)
{
	unsigned char *p = data;

	for (size_t i = 0; i < size; i++)
		p[i] = (unsigned char)((uint32_t)(offset + i) * 2654435761u >> 24);
}

const char *pattern(size_t size)
{
	char *data = keep(malloc(size + 1));

	pattern_fill(data, size, 0);
	data[size] = '\0';
	return data;
}

static bool is_pattern(const char *data, size_t size, uint64_t offset)
{
	static char wanted[65536];
	size_t n;

	for (; size; data += n, size -= n, offset += n) {
		n = size < sizeof(wanted) ? size : sizeof(wanted);
		pattern_fill(wanted, n, offset);
		if (memcmp(data, wanted, n) != 0)
			return false;
	}
	return true;
}

bool fd_has_pattern(int fd, size_t size)
{
	static char got[65536];
	size_t at = 0;
	ssize_t n;

	while ((n = pread(fd, got, sizeof(got), (off_t)at)) > 0) {
		if (!is_pattern(got, (size_t)n, at))
			return false;
		at += (size_t)n;
	}
	return n == 0 && at == size;
}

const char *digest_of(const char *algorithm, size_t size)
{
	if (!strcmp(algorithm, "md5"))
		return size == SMALL ? "41e1fb4692bdfcb83b4a5e0d49b7c96d"
				     : "14a1802113ce2773fe316b5a05dd3645";
	if (!strcmp(algorithm, "sha256"))
		return size == SMALL ? "16b1bff42ae6a3b4cf47df4bb14a2659"
				       "d0ff87c341821c539d89eacfcb3c21d0"
				     : "136f334d647619879743ff33fde1ac65"
				       "47f40e314692441f2a125e087cad47c9";
	return size == SMALL ? "0c2dde1f77ef0655144433f809b778c9"
			     : "f725637f4283c98ab0d5097518f13a2a";
}

/* ---- files of a test ---- */

static void fill_file(int fd, size_t size)
{
	static char data[65536];

	for (size_t at = 0; at < size;) {
		size_t n = size - at < sizeof(data) ? size - at : sizeof(data);

		pattern_fill(data, n, at);
		assert_int_equal(write(fd, data, n), n);
		at += n;
	}
}

static int make_empty(void)
{
	char *path = keep_printf("%s/file.XXXXXX", server.dir);

	return keep_fd(mkostemp(path, O_CLOEXEC));
}

int make_file(size_t size)
{
	int fd = make_empty();

	fill_file(fd, size);
	return fd;
}

int make_sparse(size_t size)
{
	int fd = make_empty();

	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}

int make_memfd(size_t size, bool sealed)
{
	int fd = keep_fd(memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));

	fill_file(fd, size);
	if (sealed)
		assert_int_equal(fcntl(fd, F_ADD_SEALS,
				       F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW |
					       F_SEAL_WRITE),
				 0);
	return fd;
}

struct pipe_ends make_pipe(void)
{
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	return (struct pipe_ends){ keep_fd(ends[0]), keep_fd(ends[1]) };
}

int reopen(int fd, int flags)
{
	return keep_fd(open(keep_printf("/proc/self/fd/%d", fd), flags | O_CLOEXEC));
}

int spool_count(void)
{
	DIR *dir = opendir(keep_printf("%s/spool", server.state));
	struct dirent *entry;
	int n = 0;

	while (dir && (entry = readdir(dir)))
		n += entry->d_name[0] != '.';
	if (dir)
		closedir(dir);
	return n;
}

void check_nothing_remains(void)
{
	struct client *c = client_connect();

	wait_for(spool_count() == 0);
	assert_null(frame_line(list(c, "names"), 0));
	assert_int_equal(stats_count("bytes"), 0);
	client_close(c);
}

/* ---- requests ---- */

static struct client *connect_with(const char *key)
{
	struct client *c = client_connect();
	uint64_t id = client_next_id(c);

	say(c, "{'op':'hello','id':%" PRIu64 ",'%s':true}", id, key);
	hear_reply(c, id);
	return c;
}

struct client *connect_with_fds(void)
{
	return connect_with("fds");
}

struct client *connect_with_pieces(void)
{
	return connect_with("pieces");
}

const char *way_name(enum way way)
{
	static const char *const names[] = { "a descriptor", "a frame", "pieces" };

	return names[way];
}

struct client *connect_for(enum way way)
{
	return way == BY_FD	 ? connect_with_fds()
	       : way == BY_FRAME ? client_connect()
				 : connect_with_pieces();
}

static void say_header_fd(struct place at, struct client *c, int fd, const char *header)
{
	size_t size;
	char *bytes = frame_encode(&size, NULL, 0, "%s", header);

	client_say_bytes_fds(at, c, bytes, size, &fd, 1);
}

/* The format has been through with_quotes(), so it is no literal any more. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"

void client_say_fd(struct place at, struct client *c, int fd, const char *format, ...)
{
	char *header = NULL;
	va_list args;

	va_start(args, format);
	if (vasprintf(&header, with_quotes(format), args) < 0)
		fail_at(at, "no memory");
	va_end(args);
	say_header_fd(at, c, fd, keep(header));
}

#pragma GCC diagnostic pop

static void say_send_fd(struct place at, struct client *c, uint64_t id, int fd,
			const char *keys)
{
	client_say_fd(at, c, fd, "{'op':'send','id':%" PRIu64 ",'fds':1,%s}", id,
		      with_quotes(keys));
}

void client_say_file(struct place at, struct client *c, uint64_t id, enum way way,
		     size_t size, const char *keys)
{
	const char *more = way == BY_PIECES ? ",\"more\":true" : "";
	size_t first = way == BY_PIECES ? size / 2 : size;
	size_t mark = keep_mark();
	const char *data;

	keys = with_quotes(keys);
	if (way == BY_FD) {
		int fd = make_file(size);

		say_send_fd(at, c, id, fd, keys);
		close_kept(fd);
		return;
	}
	data = pattern(size);
	client_say(at, c, data, first, "{'op':'send','id':%" PRIu64 ",%s%s}", id, keys,
		   more);
	if (way == BY_PIECES) {
		size_t second = size > first ? size - first - 1 : 0;

		client_say(at, c, data + first, second, "{'id':%" PRIu64 ",'more':true}",
			   id);
		client_say(at, c, data + first + second, size - first - second,
			   "{'id':%" PRIu64 "}", id);
	}
	keep_release(mark);
}

uint64_t client_send_file(struct place at, struct client *c, enum way way, size_t size,
			  const char *keys)
{
	uint64_t id = client_next_id(c);

	client_say_file(at, c, id, way, size, keys);
	return (uint64_t)json_int(client_hear_reply(at, c, id)->header, "message");
}

struct frame *client_send_file_fails(struct place at, struct client *c, enum way way,
				     size_t size, const char *keys, const char *word)
{
	uint64_t id = client_next_id(c);

	client_say_file(at, c, id, way, size, keys);
	return client_hear_error(at, c, id, word);
}

uint64_t client_send_fd(struct place at, struct client *c, int fd, const char *keys)
{
	uint64_t id = client_next_id(c);

	say_send_fd(at, c, id, fd, keys);
	return (uint64_t)json_int(client_hear_reply(at, c, id)->header, "message");
}

struct frame *client_send_fd_fails(struct place at, struct client *c, int fd,
				   const char *keys, const char *word)
{
	uint64_t id = client_next_id(c);

	say_send_fd(at, c, id, fd, keys);
	return client_hear_error(at, c, id, word);
}

/* ---- deliveries ---- */

/* The rest of a body in pieces, compared as it comes. */
static size_t hear_more(struct place at, struct client *c, uint64_t id, size_t got)
{
	size_t mark = keep_mark();
	struct frame *f;
	bool more;

	do {
		f = client_hear_reply(at, c, id);
		if (!is_pattern(f->body, f->body_size, got))
			fail_at(at, "another body behind byte %zu", got);
		got += f->body_size;
		more = json_has(f->header, "more");
		if (json_has(f->header, "abort"))
			fail_at(at, "given up: %s", f->header);
		keep_release(mark);
	} while (more);
	return got;
}

static void check_form(struct place at, const struct frame *f)
{
	if (!json_has(f->header, "message") || !json_has(f->header, "queue"))
		fail_at(at, "not a delivery: %s", f->header);
	if (json_has(f->header, "fds") == json_has(f->header, "size"))
		fail_at(at, "neither or both of fds and size: %s", f->header);
}

struct frame *client_hear_file(struct place at, struct client *c, uint64_t id,
			       size_t size)
{
	struct frame *f = client_hear_reply(at, c, id);
	size_t got = f->body_size;

	check_form(at, f);
	if (json_has(f->header, "file_size") &&
	    json_int(f->header, "file_size") != (int64_t)size)
		fail_at(at, "file_size is not %zu: %s", size, f->header);
	if (f->fd >= 0) {
		if (!fd_has_pattern(f->fd, size))
			fail_at(at, "another file than was sent: %s", f->header);
		return f;
	}
	if (got > size || !is_pattern(f->body, got, 0))
		fail_at(at, "another body than was sent: %s", f->header);
	if (json_has(f->header, "more"))
		got = hear_more(at, c, id, got);
	if (got != size)
		fail_at(at, "%zu bytes instead of %zu: %s", got, size, f->header);
	return f;
}

static uint64_t say_receive(struct place at, struct client *c, const char *queue)
{
	uint64_t id = client_next_id(c);

	client_say(at, c, NULL, 0,
		   "{'op':'receive','id':%" PRIu64 ",'queue':'%s','wait_ms':%d}", id,
		   queue, DEADLINE_MS);
	return id;
}

struct frame *client_take_file(struct place at, struct client *c, const char *queue,
			       size_t size)
{
	uint64_t id = say_receive(at, c, queue);
	struct frame *f = client_hear_file(at, c, id, size);

	client_hear_end(at, c, id, "max");
	return f;
}

struct frame *client_take_live(struct place at, struct client *c, const char *queue)
{
	uint64_t id = say_receive(at, c, queue);
	struct frame *f = client_hear_reply(at, c, id);

	check_form(at, f);
	if (f->fd < 0 || !json_has(f->header, "live"))
		fail_at(at, "not a live message: %s", f->header);
	client_hear_end(at, c, id, "max");
	return f;
}
