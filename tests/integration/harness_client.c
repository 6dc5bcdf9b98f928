/* SPDX-License-Identifier: MIT */

/* Connections and frames of the tests, see harness.h. Nothing here trusts the daemon: the
 * form of each frame it sends is checked to the letter. */

#include "integration/harness.h"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "integration/harness_internal.h"
#include "wire/limits.h"

/* What one recvmsg(2) brought, until a frame takes it. */
struct batch {
	int fds[LIMIT_FDS_MAX];
	unsigned int n;
};

struct client {
	int fd;
	struct buf in;
	struct batch batches[4];
	unsigned int n_batches;
	bool eof;
	uint64_t next_id;
	struct client *next;
};

static struct client *clients;

/* ---- connecting ---- */

/* The kernel notes the effective ids of the moment, unix(7) SO_PEERCRED. */
static int connect_with_ids(int fd, const struct sockaddr_un *address, uid_t uid)
{
	gid_t group = (gid_t)uid;
	int r;

	if (uid == geteuid())
		return connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0
			       ? -errno
			       : 0;
	if (setgroups(1, &group) < 0 || setegid(group) < 0 || seteuid(uid) < 0)
		fail_at(HERE, "become uid %u: %s", (unsigned int)uid, strerror(errno));
	r = connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno
										: 0;
	if (seteuid(0) < 0 || setegid(0) < 0 || setgroups(0, NULL) < 0)
		fail_at(HERE, "become root again: %s", strerror(errno));
	return r;
}

int client_try_connect(uid_t uid, struct client **ret_client)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct timeval patience = { .tv_sec = DEADLINE_MS / 1000 };
	struct client *c;
	int fd, r;

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", server.socket);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		fail_at(HERE, "socket: %s", strerror(errno));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	r = connect_with_ids(fd, &address, uid);
	if (r < 0) {
		close(fd);
		return r;
	}
	c = calloc(1, sizeof(*c));
	if (!c)
		fail_at(HERE, "no memory");
	*c = (struct client){ .fd = fd, .next_id = 1000000, .next = clients };
	clients = c;
	*ret_client = c;
	return 0;
}

struct client *client_connect(void)
{
	struct client *c = NULL;
	int r = client_try_connect(geteuid(), &c);

	if (r < 0)
		fail_at(HERE, "connect %s: %s", server.socket, strerror(-r));
	return c;
}

void skip_unless_root(void)
{
	if (geteuid() == 0)
		return;
	print_message("skipped: only root can connect as other users\n");
	skip();
}

struct client *client_connect_as(uid_t uid)
{
	struct client *c = NULL;
	int r = client_try_connect(uid, &c);

	if (r < 0)
		fail_at(HERE, "connect as uid %u: %s", (unsigned int)uid, strerror(-r));
	return c;
}

int client_fd(const struct client *c)
{
	return c->fd;
}

uint64_t client_next_id(struct client *c)
{
	return c->next_id++;
}

void client_close(struct client *c)
{
	struct client **at = &clients;

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	close(c->fd);
	for (unsigned int i = 0; i < c->n_batches; i++)
		for (unsigned int j = 0; j < c->batches[i].n; j++)
			close(c->batches[i].fds[j]);
	buf_deinit(&c->in);
	free(c);
}

void clients_close_all(void)
{
	while (clients)
		client_close(clients);
}

/* ---- to the daemon ---- */

static void append(struct buf *out, const void *data, size_t size)
{
	if (buf_append(out, data, size) < 0)
		fail_at(HERE, "no memory");
}

char *with_quotes(const char *text)
{
	char *copy = keep(strdup(text));

	for (char *p = copy; (p = strchr(p, '\'')); p++)
		*p = '"';
	return copy;
}

/* The header with its length in front; "size" goes in where the object ends. */
static void append_header(struct buf *out, char *header, bool with_size, size_t body_size)
{
	char length[4];
	uint32_t size;

	if (with_size) {
		char *end = strrchr(header, '}');

		*end = '\0';
		header = keep_printf("%s%s\"size\":%zu}", header,
				     end > header && end[-1] != '{' ? "," : "",
				     body_size);
	}
	size = (uint32_t)strlen(header);
	for (int i = 0; i < 4; i++)
		length[i] = (char)(size >> 8 * i);
	append(out, length, sizeof(length));
	append(out, header, size);
}

static void append_frame(struct buf *out, const void *body, size_t size,
			 const char *format, va_list args)
	__attribute__((format(printf, 4, 0)));

static void append_frame(struct buf *out, const void *body, size_t size,
			 const char *format, va_list args)
{
	char *header = NULL;

	if (vasprintf(&header, format, args) < 0)
		fail_at(HERE, "no memory");
	append_header(out, keep(header), body != NULL, size);
	if (size)
		append(out, body, size);
}

/* The format has been through with_quotes(), so it is no literal any more. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"

char *frame_encode(size_t *ret_size, const void *body, size_t size, const char *format,
		   ...)
{
	struct buf out = BUF_INIT;
	va_list args;

	va_start(args, format);
	append_frame(&out, body, size, with_quotes(format), args);
	va_end(args);
	*ret_size = out.size;
	return keep(buf_steal(&out));
}

void client_say(struct place at, struct client *c, const void *body, size_t size,
		const char *format, ...)
{
	struct buf out = BUF_INIT;
	va_list args;
	char *data;
	size_t n;

	va_start(args, format);
	append_frame(&out, body, size, with_quotes(format), args);
	va_end(args);
	n = out.size;
	data = keep(buf_steal(&out));
	client_say_bytes(at, c, data, n);
}

#pragma GCC diagnostic pop

void client_say_bytes(struct place at, struct client *c, const void *data, size_t size)
{
	const char *p = data;

	while (size) {
		ssize_t n = send(c->fd, p, size, MSG_NOSIGNAL);

		if (n < 0)
			fail_at(at, "send: %s", strerror(errno));
		p += n;
		size -= (size_t)n;
	}
}

void client_say_bytes_fds(struct place at, struct client *c, const void *data,
			  size_t size, const int *fds, unsigned int n)
{
	size_t space = CMSG_SPACE(n * sizeof(int));
	struct iovec iov = { (void *)(uintptr_t)data, size };
	struct msghdr message = { .msg_iov = &iov,
				  .msg_iovlen = 1,
				  .msg_control = keep(calloc(1, space)),
				  .msg_controllen = space };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(header), fds, n * sizeof(int));
	if (sendmsg(c->fd, &message, MSG_NOSIGNAL) != (ssize_t)size)
		fail_at(at, "sendmsg: %s", strerror(errno));
}

/* ---- from the daemon ---- */

static void take_batch(struct place at, struct client *c, const struct cmsghdr *header)
{
	struct batch *b = &c->batches[c->n_batches];

	if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
		fail_at(at, "a control message of type %d", header->cmsg_type);
	if (c->n_batches == ARRAY_SIZE(c->batches))
		fail_at(at, "ipcd sends descriptors without a frame");
	b->n = (unsigned int)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
	memcpy(b->fds, CMSG_DATA(header), b->n * sizeof(int));
	c->n_batches++;
}

static ssize_t receive(struct place at, struct client *c, void *buffer, size_t size)
{
	char control[CMSG_SPACE(LIMIT_FDS_MAX * sizeof(int))];
	struct iovec iov = { buffer, size };
	struct msghdr message = { .msg_iov = &iov,
				  .msg_iovlen = 1,
				  .msg_control = control,
				  .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(c->fd, &message, MSG_CMSG_CLOEXEC);
	struct cmsghdr *header = n >= 0 ? CMSG_FIRSTHDR(&message) : NULL;

	if (header)
		take_batch(at, c, header);
	if (n >= 0 && message.msg_flags & MSG_CTRUNC)
		fail_at(at, "descriptors of ipcd's are lost");
	return n;
}

/* The descriptor of a frame with this header, or -1. */
static int cut_fd(struct place at, struct client *c, const char *header)
{
	int fd = c->batches[0].fds[0];

	if (!json_has(header, "fds"))
		return -1;
	if (json_int(header, "fds") != 1 || !c->n_batches || c->batches[0].n != 1)
		fail_at(at, "not the one descriptor that was promised: %s", header);
	c->n_batches--;
	memmove(&c->batches[0], &c->batches[1], c->n_batches * sizeof(c->batches[0]));
	return keep_fd_at(at, fd);
}

/* More bytes into c->in. False at the end of the stream. */
static bool read_more(struct place at, struct client *c, uint64_t end)
{
	struct pollfd pollfd = { .fd = c->fd, .events = POLLIN };
	ssize_t n;

	if (c->eof)
		return false;
	if (buf_reserve(&c->in, 65536) < 0)
		fail_at(at, "no memory");
	if (poll(&pollfd, 1, wait_left_ms(end)) != 1)
		fail_at(at, "nothing to hear after %d ms (%zu bytes of a frame)",
			DEADLINE_MS, c->in.size);
	n = receive(at, c, c->in.data + c->in.size, 65536);
	if (n > 0)
		c->in.size += (size_t)n;
	c->eof = n <= 0; /* a reset is an end too: we had said more than was read */
	return !c->eof;
}

static uint32_t decode_length(const char *bytes)
{
	const unsigned char *b = (const unsigned char *)bytes;

	return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 |
	       (uint32_t)b[3] << 24;
}

static char *keep_bytes(const char *data, size_t size)
{
	char *copy = keep(malloc(size + 1));

	memcpy(copy, data, size);
	copy[size] = '\0';
	return copy;
}

/* A header out of c->in, or NULL. */
static struct frame *cut_header(struct place at, struct client *c)
{
	struct frame *f;
	size_t length;

	if (c->in.size < 4)
		return NULL;
	length = decode_length(c->in.data);
	if (length < LIMIT_HEADER_MIN || length > LIMIT_HEADER_MAX)
		fail_at(at, "ipcd wrote a header of %zu bytes", length);
	if (c->in.size < 4 + length)
		return NULL;
	f = keep(malloc(sizeof(*f)));
	*f = (struct frame){ .header = keep_bytes(c->in.data + 4, length), .fd = -1 };
	if (json_has(f->header, "size"))
		f->body_size = (size_t)json_int(f->header, "size");
	return f;
}

static void consume_header(struct place at, struct client *c, struct frame *f)
{
	buf_consume(&c->in, 4 + strlen(f->header));
	f->fd = cut_fd(at, c, f->header);
	if (!c->in.size && c->n_batches)
		fail_at(at, "ipcd sent descriptors that it did not announce: %s",
			f->header);
}

/* A whole frame out of c->in, or NULL. */
static struct frame *cut_frame(struct place at, struct client *c)
{
	size_t mark = keep_mark();
	struct frame *f = cut_header(at, c);

	if (!f || c->in.size < 4 + strlen(f->header) + f->body_size) {
		keep_release(mark);
		return NULL;
	}
	f->body = keep_bytes(c->in.data + 4 + strlen(f->header), f->body_size);
	consume_header(at, c, f);
	buf_consume(&c->in, f->body_size);
	return f;
}

struct frame *client_hear_header(struct place at, struct client *c)
{
	uint64_t end = wait_deadline();
	struct frame *f;

	while (!(f = cut_header(at, c)))
		if (!read_more(at, c, end))
			fail_at(at, "the connection was closed");
	consume_header(at, c, f);
	return f;
}

void client_read(struct place at, struct client *c, void *buffer, size_t size)
{
	char *p = buffer;

	while (size) {
		size_t n = size < c->in.size ? size : c->in.size;

		if (n) /* else there may be no memory yet */
			memcpy(p, c->in.data, n);
		buf_consume(&c->in, n);
		p += n;
		size -= n;
		if (size && !read_more(at, c, wait_deadline()))
			fail_at(at, "%zu bytes of a body, then the end", size);
	}
}

struct frame *client_hear_or_eof(struct place at, struct client *c)
{
	uint64_t end = wait_deadline();
	struct frame *f = cut_frame(at, c);

	while (!f) {
		if (!read_more(at, c, end)) {
			if (c->in.size)
				fail_at(at, "%zu bytes of a frame, then the end",
					c->in.size);
			return NULL;
		}
		f = cut_frame(at, c);
	}
	return f;
}

struct frame *client_hear_now(struct client *c)
{
	struct pollfd pollfd = { .fd = c->fd, .events = POLLIN };
	struct frame *f = cut_frame(HERE, c);

	while (!f && !c->eof && poll(&pollfd, 1, 0) == 1) {
		read_more(HERE, c, wait_deadline());
		f = cut_frame(HERE, c);
	}
	return f;
}

bool client_has_ended(const struct client *c)
{
	return c->eof;
}

struct frame *client_hear(struct place at, struct client *c)
{
	struct frame *f = client_hear_or_eof(at, c);

	if (!f)
		fail_at(at, "the connection was closed");
	return f;
}

void client_hear_eof(struct place at, struct client *c)
{
	struct frame *f = client_hear_or_eof(at, c);

	if (f)
		fail_at(at, "instead of the end came %s", f->header);
}
