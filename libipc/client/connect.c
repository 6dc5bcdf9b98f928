/* SPDX-License-Identifier: MIT */

#include "client/connect.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "client/autostart.h"
#include "client/place.h"

enum { CONNECT_TIMEOUT_MAX_MS = 86400000 };

/* ---- whom to trust ---- */

char *connect_directory_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	if (!slash)
		return strdup(".");
	while (slash > path && slash[-1] == '/')
		slash--;
	return slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}

static int distrust(const char *path, struct client_error *error, const char *why)
{
	return client_error_set(error, err_origin(-EPERM), "%s %s: not trusted", path,
				why);
}

int connect_check_directory(const char *path, struct client_error *error)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return client_error_set(error, err_origin(-errno), "%s: %s", path,
					strerror(errno));
	if (S_ISLNK(st.st_mode))
		return distrust(path, error, "is a symbolic link");
	if (!S_ISDIR(st.st_mode))
		return client_error_set(error, err_origin(-ENOTDIR), "%s is no directory",
					path);
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return client_error_set(
			error, err_origin(-EPERM),
			"%s belongs to uid %llu, neither to root nor to uid "
			"%llu: not trusted",
			path, (unsigned long long)st.st_uid,
			(unsigned long long)geteuid());
	if (st.st_mode & (S_IWGRP | S_IWOTH))
		return client_error_set(
			error, err_origin(-EPERM),
			"%s is writable by others (mode %04o): not trusted", path,
			(unsigned int)st.st_mode & 07777);
	return 0;
}

/* Did root set this socket up for the one who listens? */
static bool is_appointed(const char *path, uid_t listener)
{
	_cleanup_free_ char *directory = connect_directory_of(path);
	struct stat st;

	return directory && lstat(directory, &st) == 0 && st.st_uid == 0 &&
	       lstat(path, &st) == 0 && S_ISSOCK(st.st_mode) && st.st_uid == listener;
}

/* SO_PEERCRED is the one who called listen(2), unix(7). */
static int check_listener(int fd, const char *path, struct client_error *error)
{
	struct ucred listener;
	socklen_t size = sizeof(listener);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &listener, &size) < 0)
		return client_error_set(error, err_origin(-errno),
					"%s: cannot find out who listens: %s", path,
					strerror(errno));
	if (listener.uid == 0 || listener.uid == geteuid() ||
	    is_appointed(path, listener.uid))
		return 0;
	return client_error_set(
		error, err_origin(-EPERM),
		"at %s listens uid %llu, which is neither root, nor uid %llu, nor "
		"its owner in a directory of root's: not trusted",
		path, (unsigned long long)listener.uid, (unsigned long long)geteuid());
}

/* ---- connecting ---- */

static int set_send_timeout(int fd, uint64_t deadline_ns)
{
	uint64_t now = clock_ns(CLOCK_MONOTONIC), ms;
	struct timeval t;

	if (deadline_ns <= now)
		return err_origin(-ETIMEDOUT);
	ms = min_u64((deadline_ns - now + NS_PER_MS - 1) / NS_PER_MS,
		     CONNECT_TIMEOUT_MAX_MS);
	t = (struct timeval){ .tv_sec = (time_t)(ms / 1000),
			      .tv_usec = (suseconds_t)(ms % 1000 * 1000) };
	return setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t)) < 0
		       ? err_origin(-errno)
		       : 0;
}

/* connect(2) waits while the listener's backlog is full, at most SO_SNDTIMEO. */
static int connect_waiting(int fd, const struct sockaddr_un *address,
			   uint64_t deadline_ns)
{
	int r;

	for (;;) {
		r = set_send_timeout(fd, deadline_ns);
		if (r < 0)
			return err_trace(r);
		if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0)
			return 0;
		if (errno != EINTR && errno != EAGAIN)
			return err_origin(-errno);
	}
}

static bool is_other_file(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && !S_ISSOCK(st.st_mode);
}

static int connect_failed(const char *path, struct client_error *error, int r)
{
	/* connect(2) says the same of a socket that nobody serves */
	if (r == -ECONNREFUSED && is_other_file(path))
		return client_error_set(error, err_origin(-ENOTSOCK),
					"%s is not a socket", path);
	if (r == -ENOENT || r == -ECONNREFUSED)
		return client_error_set(error, r, "no daemon at %s: %s", path,
					strerror(-r));
	return client_error_set(error, r, "cannot connect to %s: %s", path, strerror(-r));
}

/* A program may have closed its standard descriptors, and whoever writes to them all the same,
 * as IPC_DEBUG does, must not write to the daemon. */
static int new_socket(void)
{
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int above;

	if (fd < 0)
		return err_origin(-errno);
	if (fd > STDERR_FILENO)
		return TAKE_FD(fd);
	above = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	return above < 0 ? err_origin(-errno) : above;
}

int connect_path(const char *path, uint64_t deadline_ns, struct client_error *error,
		 int *ret_fd)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	_cleanup_free_ char *directory = connect_directory_of(path);
	_cleanup_fd_ int fd = -1;
	int r;

	if (!*path) /* would be an abstract name, which anybody can take, unix(7) */
		return connect_failed(path, error, err_origin(-ENOENT));
	if (strlen(path) >= sizeof(address.sun_path))
		return client_error_set(
			error, err_origin(-ENAMETOOLONG),
			"a socket's path has at most %zu bytes, not %zu: %s",
			sizeof(address.sun_path) - 1, strlen(path), path);
	if (!directory)
		return client_error_set(error, err_origin(-ENOMEM), "no memory");
	r = connect_check_directory(directory, error);
	if (r == -ENOENT)
		return connect_failed(path, error, r);
	if (r < 0)
		return err_trace(r);
	memcpy(address.sun_path, path, strlen(path));
	fd = new_socket();
	r = fd < 0 ? fd : connect_waiting(fd, &address, deadline_ns);
	if (r < 0)
		return connect_failed(path, error, err_trace(r));
	r = check_listener(fd, path, error);
	if (r < 0)
		return err_trace(r);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* ---- which daemon ---- */

/* su(1) may keep XDG_RUNTIME_DIR, and then it is another user's. */
static int check_runtime_dir(const struct place *place, struct client_error *error)
{
	struct client_error why;
	int r = connect_check_directory(place->runtime_dir, &why);

	if (r < 0)
		client_error_set(error, r, "%s (is XDG_RUNTIME_DIR another user's?)",
				 why.text);
	return err_trace(r);
}

int connect_by_state(const struct place_env *env, struct place *place,
		     uint64_t deadline_ns, int *ret_fd)
{
	_cleanup_free_ char *path = NULL;
	struct client_error error;
	int r = place_of_state(env, &path);

	if (r == -ENOENT || (!r && !strcmp(path, place->path)))
		r = err_origin(-ESRCH);
	if (!r)
		r = connect_path(path, deadline_ns, &error, ret_fd);
	if (r < 0)
		return err_trace(r);
	free(place->path);
	place->path = TAKE_PTR(path);
	return 0;
}

static int connect_place(const struct place_env *env, struct place *place,
			 unsigned int flags, uint64_t deadline_ns,
			 struct client_error *error, int *ret_fd)
{
	int r = 0;

	if (place->runtime_dir)
		r = check_runtime_dir(place, error);
	if (!r)
		r = connect_path(place->path, deadline_ns, error, ret_fd);
	if ((r != -ENOENT && r != -ECONNREFUSED) || place->kind != PLACE_USER)
		return err_trace(r);
	if (connect_by_state(env, place, deadline_ns, ret_fd) == 0)
		return 0;
	if (flags & IPC_OPEN_AUTOSTART)
		r = autostart(env, place, deadline_ns, error, ret_fd);
	return err_trace(r);
}

static int check_flags(unsigned int flags, struct client_error *error)
{
	if (flags & ~(unsigned int)(IPC_OPEN_SYSTEM | IPC_OPEN_USER | IPC_OPEN_AUTOSTART))
		return client_error_set(error, err_origin(-EINVAL), "unknown flags 0x%x",
					flags);
	if ((flags & IPC_OPEN_SYSTEM) && (flags & IPC_OPEN_USER))
		return client_error_set(error, err_origin(-EINVAL),
					"either the system's daemon or the user's");
	return 0;
}

int connect_daemon(const char *socket, unsigned int flags, uint64_t deadline_ns,
		   struct client_error *error, char **ret_path, int *ret_fd)
{
	_cleanup_place_env_ struct place_env env = { 0 };
	_cleanup_place_ struct place place = { 0 };
	int r;

	if (socket) {
		*ret_path = strdup(socket);
		if (!*ret_path)
			return client_error_set(error, err_origin(-ENOMEM), "no memory");
		return err_trace(connect_path(socket, deadline_ns, error, ret_fd));
	}
	r = check_flags(flags, error);
	if (r < 0)
		return err_trace(r);
	place_env_init(&env);
	r = place_find(&env, flags, &place);
	if (r < 0)
		return client_error_set(error, err_trace(r), "%s",
					r == -ENOENT
						? "no place for a socket: neither "
						  "XDG_RUNTIME_DIR nor a home directory"
						: strerror(-r));
	r = connect_place(&env, &place, flags, deadline_ns, error, ret_fd);
	*ret_path = TAKE_PTR(place.path);
	return err_trace(r);
}
