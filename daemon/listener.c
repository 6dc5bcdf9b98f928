/* SPDX-License-Identifier: MIT */

#include "listener.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "log.h"
#include "wire/stream.h"

enum {
	BACKLOG = 4096,
	ACCEPTS_PER_TURN = 64,
	PAUSE_MS = 100, /* when not even the reserve helps */
	SAY_AGAIN_S = 60,
};

static int take_lock(const char *path, int *ret_fd)
{
	_cleanup_free_ char *lock_path = NULL;
	_cleanup_fd_ int fd = -1;

	if (asprintf(&lock_path, "%s.lock", path) < 0) {
		lock_path = NULL;
		return err_origin(-ENOMEM);
	}
	fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		int r = -errno;

		log_error("cannot open the lock file %s: %s", lock_path, strerror(-r));
		return err_origin(r);
	}
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		log_error(
			"another ipcd serves %s (it holds %s.lock); stop it first, or choose "
			"another --socket",
			path, path);
		return err_origin(-EADDRINUSE);
	}
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* A daemon without our lock may still be listening there. */
static bool is_alive(const struct sockaddr_un *address)
{
	_cleanup_fd_ int fd =
		socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd >= 0 &&
	       (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 ||
		errno == EAGAIN);
}

static int clear_path(const struct sockaddr_un *address)
{
	struct stat st;

	if (lstat(address->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : err_origin(-errno);
	if (!S_ISSOCK(st.st_mode)) {
		log_error("%s exists and is no socket; it is left alone",
			  address->sun_path);
		return err_origin(-EEXIST);
	}
	if (is_alive(address)) {
		log_error("somebody listens on %s already", address->sun_path);
		return err_origin(-EADDRINUSE);
	}
	log_info("replacing the stale socket %s", address->sun_path);
	return unlink(address->sun_path) < 0 ? err_origin(-errno) : 0;
}

static int bind_socket(const char *path, mode_t mode, int *ret_fd)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	_cleanup_fd_ int fd = -1;
	mode_t before;
	int r;

	memcpy(address.sun_path, path, strlen(path) + 1);
	r = clear_path(&address);
	if (r < 0)
		return err_trace(r);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_origin(-errno);
	before = umask(0777 & ~mode);
	r = bind(fd, (struct sockaddr *)&address, sizeof(address));
	umask(before);
	if (r < 0 || listen(fd, BACKLOG) < 0) {
		r = -errno;
		log_error("cannot listen on %s: %s", path, strerror(-r));
		return err_origin(r);
	}
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* ---- without free descriptors ---- */

static bool out_of_descriptors(int error)
{
	return error == EMFILE || error == ENFILE;
}

static bool out_of_resources(int error)
{
	return out_of_descriptors(error) || error == ENOMEM || error == ENOBUFS;
}

/* A file of its own, so that giving it up helps against ENFILE, too. */
static void open_reserve(struct listener *l)
{
	if (l->reserve_fd < 0)
		l->reserve_fd = eventfd(0, EFD_CLOEXEC);
}

/* Once for many connections, also when descriptors come and go all the time. */
static void say_once(struct listener *l, int error)
{
	uint64_t now = clock_ns(CLOCK_MONOTONIC);

	if (l->said_ns && now - l->said_ns < SAY_AGAIN_S * (uint64_t)NS_PER_S)
		return;
	log_warning("connections are refused or have to wait: %s", strerror(error));
	l->refusing_said = true;
	l->said_ns = now;
}

static void say_over(struct listener *l)
{
	if (l->refusing_said)
		log_notice("accepting connections again");
	l->refusing_said = false;
}

static void tell_full(int fd)
{
	static const char text[] =
		"{\"error\":\"full\",\"message\":\"the daemon has no free descriptors "
		"(RLIMIT_NOFILE); try again later\"}";
	char frame[4 + sizeof(text) - 1];

	frame_encode_length(frame, sizeof(frame) - 4);
	memcpy(frame + 4, text, sizeof(frame) - 4);
	(void)!send(fd, frame, sizeof(frame), MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Takes one and refuses it. 0 or -errno; -EAGAIN: there is none, which accept(2) does not
 * say without a free descriptor. */
static int refuse_one(struct listener *l)
{
	int fd, r;

	if (l->reserve_fd < 0)
		return -EMFILE;
	l->reserve_fd = fd_close(l->reserve_fd);
	fd = accept4(l->source.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	r = fd < 0 ? -errno : 0;
	if (fd >= 0)
		tell_full(fd);
	fd_close(fd);
	open_reserve(l);
	return r;
}

/* Who wants to connect waits in the kernel's queue until descriptors are free again. */
static void pause_accepting(struct listener *l, struct loop *loop)
{
	struct epoll_event none = { .events = 0, .data.ptr = &l->source };
	uint64_t at = deadline_after(clock_ns(CLOCK_MONOTONIC), PAUSE_MS);

	if (timer_set(loop, &l->resume, at) < 0)
		return; /* then the next pass tries again */
	epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, l->source.fd, &none);
}

/* False: no more in this turn. */
static bool handle_failure(struct listener *l, int error)
{
	int r = out_of_descriptors(error) ? refuse_one(l) : -error;

	if (r == -ECONNABORTED || r == -EINTR)
		return true;
	if (r < 0 && !out_of_resources(-r))
		return false;
	say_once(l, error);
	if (r < 0)
		pause_accepting(l, l->source.loop);
	return r == 0;
}

static void on_resume(struct timer *timer)
{
	struct listener *l = CONTAINER_OF(timer, struct listener, resume);
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = &l->source };

	open_reserve(l);
	epoll_ctl(l->source.loop->epoll_fd, EPOLL_CTL_MOD, l->source.fd, &event);
}

/* ---- connections ---- */

static void on_connections(struct source *source, uint32_t events)
{
	struct listener *l = CONTAINER_OF(source, struct listener, source);

	(void)events;
	for (int i = 0; i < ACCEPTS_PER_TURN && source->loop; i++) {
		int fd = accept4(source->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0) {
			if (!handle_failure(l, errno))
				return;
			continue;
		}
		open_reserve(l); /* if it was lost, it goes before what this brings */
		say_over(l);
		l->accepted(l->owner, fd);
	}
}

void listener_init(struct listener *l, void (*accepted)(void *owner, int fd), void *owner)
{
	*l = (struct listener){
		.lock_fd = -1, .reserve_fd = -1, .accepted = accepted, .owner = owner
	};
	timer_init(&l->resume, TIMER_MONOTONIC, on_resume);
}

int listener_adopt(struct listener *l, struct loop *loop, int fd)
{
	int r = source_add(&l->source, loop, NULL, fd, EPOLLIN, on_connections);

	if (r == 0)
		open_reserve(l); /* without one they wait */
	return err_trace(r);
}

int listener_open(struct listener *l, struct loop *loop, const char *path, mode_t mode)
{
	_cleanup_fd_ int fd = -1, lock_fd = -1;
	_cleanup_free_ char *copy = strdup(path);
	int r;

	if (!copy)
		return err_origin(-ENOMEM);
	if (strlen(path) > SOCKET_PATH_MAX) {
		log_error(
			"the socket's path has %zu bytes, the kernel takes %d at most: %s",
			strlen(path), SOCKET_PATH_MAX, path);
		return err_origin(-ENAMETOOLONG);
	}
	r = take_lock(path, &lock_fd);
	if (r == 0)
		r = bind_socket(path, mode, &fd);
	if (r == 0)
		r = listener_adopt(l, loop, fd);
	if (r < 0)
		return err_trace(r);
	TAKE_FD(fd);
	l->lock_fd = TAKE_FD(lock_fd);
	l->path = TAKE_PTR(copy);
	return 0;
}

void listener_close(struct listener *l)
{
	struct loop *loop = l->source.loop;

	if (!loop)
		return;
	timer_cancel(loop, &l->resume);
	source_remove(&l->source);
	if (l->path)
		unlink(l->path);
	fd_close(l->source.fd);
	l->reserve_fd = fd_close(l->reserve_fd);
	/* The lock file stays: to remove it would let two daemons lock two files. */
	l->lock_fd = fd_close(l->lock_fd);
	free(l->path);
	l->path = NULL;
}
