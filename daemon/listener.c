/* SPDX-License-Identifier: MIT */

#include "listener.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "log.h"

enum {
	BACKLOG = 4096,
	ACCEPTS_PER_TURN = 64,
	PAUSE_MS = 100, /* without free descriptors */
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

static bool out_of_resources(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS;
}

/* Who wants to connect waits in the kernel's queue until descriptors are free again. */
static void pause_accepting(struct listener *l, struct loop *loop, int error)
{
	struct epoll_event none = { .events = 0, .data.ptr = &l->source };
	uint64_t at = deadline_after(clock_ns(CLOCK_MONOTONIC), PAUSE_MS);

	if (timer_set(loop, &l->resume, at) < 0)
		return; /* then the next pass tries again */
	epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, l->source.fd, &none);
	if (!l->paused_said)
		log_warning("cannot accept connections: %s; trying again every %d ms",
			    strerror(error), PAUSE_MS);
	l->paused_said = true;
}

static void on_resume(struct timer *timer)
{
	struct listener *l = CONTAINER_OF(timer, struct listener, resume);
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = &l->source };

	epoll_ctl(l->source.loop->epoll_fd, EPOLL_CTL_MOD, l->source.fd, &event);
}

static void on_connections(struct source *source, uint32_t events)
{
	struct listener *l = CONTAINER_OF(source, struct listener, source);

	(void)events;
	for (int i = 0; i < ACCEPTS_PER_TURN && source->loop; i++) {
		int fd = accept4(source->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0) {
			if (out_of_resources(errno))
				pause_accepting(l, source->loop, errno);
			return;
		}
		if (l->paused_said && !timer_is_set(&l->resume)) {
			log_notice("accepting connections again");
			l->paused_said = false;
		}
		l->accepted(l->owner, fd);
	}
}

void listener_init(struct listener *l, void (*accepted)(void *owner, int fd), void *owner)
{
	*l = (struct listener){ .lock_fd = -1, .accepted = accepted, .owner = owner };
	timer_init(&l->resume, TIMER_MONOTONIC, on_resume);
}

int listener_adopt(struct listener *l, struct loop *loop, int fd)
{
	return err_trace(source_add(&l->source, loop, NULL, fd, EPOLLIN, on_connections));
}

int listener_open(struct listener *l, struct loop *loop, const char *path, mode_t mode)
{
	size_t max = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1;
	_cleanup_fd_ int fd = -1, lock_fd = -1;
	_cleanup_free_ char *copy = strdup(path);
	int r;

	if (!copy)
		return err_origin(-ENOMEM);
	if (strlen(path) > max) {
		log_error(
			"the socket's path has %zu bytes, the kernel takes %zu at most: %s",
			strlen(path), max, path);
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
	/* The lock file stays: to remove it would let two daemons lock two files. */
	l->lock_fd = fd_close(l->lock_fd);
	free(l->path);
	l->path = NULL;
}
