/* SPDX-License-Identifier: MIT */

#include "client/place.h"

#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"

#include <ipc/ipc.h>

enum {
	PASSWD_TEXT_MAX = 65536,
	SOCKET_PATH_MAX = 107, /* unix(7), without the NUL */
};

/* ---- what it depends on ---- */

static char *home_of(uid_t uid)
{
	_cleanup_free_ char *text = malloc(PASSWD_TEXT_MAX);
	struct passwd entry, *found = NULL;

	if (!text || getpwuid_r(uid, &entry, text, PASSWD_TEXT_MAX, &found) || !found)
		return NULL;
	return strdup(found->pw_dir);
}

/* Set, not empty, and no relative path, which would mean another place each time. */
static const char *env_path(const char *name)
{
	const char *value = secure_getenv(name);

	return value && *value == '/' ? value : NULL;
}

/* sudo(8) may keep another user's HOME. */
static const char *own_home(uid_t uid)
{
	const char *home = env_path("HOME");
	struct stat st;

	return home && stat(home, &st) == 0 && st.st_uid == uid ? home : NULL;
}

/* Nor are these another user's; but they need not be there yet. */
static const char *own_directory(const char *name, uid_t uid)
{
	const char *path = env_path(name);
	struct stat st;

	if (path && stat(path, &st) < 0)
		return errno == ENOENT ? path : NULL;
	return path && st.st_uid == uid ? path : NULL;
}

void place_env_init(struct place_env *env)
{
	const char *socket = secure_getenv("IPC_SOCKET");

	*env = (struct place_env){
		.uid = geteuid(),
		.socket = socket && *socket ? socket : NULL,
		.runtime_dir = env_path("XDG_RUNTIME_DIR"),
		.home = own_home(geteuid()),
		.state_home = own_directory("XDG_STATE_HOME", geteuid()),
		.config_home = own_directory("XDG_CONFIG_HOME", geteuid()),
		.system_socket = "/run/ipcd/socket",
		.run_user = "/run/user",
	};
	if (!env->home)
		env->home = env->database_home = home_of(env->uid);
}

void place_env_deinit(struct place_env *env)
{
	free(env->database_home);
	env->database_home = NULL;
}

void place_deinit(struct place *place)
{
	free(place->path);
	free(place->runtime_dir);
	*place = (struct place){ 0 };
}

/* ---- the choice ---- */

static bool is_directory(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static int join(char **ret_path, const char *directory, const char *rest)
{
	_cleanup_buf_ struct buf path = BUF_INIT;
	int r = buf_printf(&path, "%s%s", directory, rest);

	if (!r)
		r = buf_terminate(&path);
	if (r < 0)
		return err_trace(r);
	*ret_path = buf_steal(&path);
	return 0;
}

int place_state_dir(const struct place_env *env, char **ret_path)
{
	if (env->state_home)
		return err_trace(join(ret_path, env->state_home, "/ipcd"));
	if (!env->home || *env->home != '/')
		return err_origin(-ENOENT);
	return err_trace(join(ret_path, env->home, "/.local/state/ipcd"));
}

/* The first line of a file of the user's own; -ENOENT if it is not the path of a socket. */
static int read_socket_path(const char *name, uid_t uid, char **ret_path)
{
	_cleanup_fd_ int fd = open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	char line[SOCKET_PATH_MAX + 2];
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != uid)
		return err_origin(-ENOENT);
	n = pread(fd, line, sizeof(line) - 1, 0);
	line[n > 0 ? n : 0] = '\0';
	if (*line != '/' || !strchr(line, '\n'))
		return err_origin(-ENOENT);
	*strchr(line, '\n') = '\0';
	*ret_path = strdup(line);
	return *ret_path ? 0 : err_origin(-ENOMEM);
}

int place_of_state(const struct place_env *env, char **ret_socket)
{
	_cleanup_free_ char *directory = NULL, *lock = NULL;
	int r = place_state_dir(env, &directory);

	if (!r)
		r = join(&lock, directory, "/lock");
	return err_trace(r < 0 ? r : read_socket_path(lock, env->uid, ret_socket));
}

static int in_runtime_dir(const char *directory, struct place *place)
{
	int r = join(&place->runtime_dir, directory, "");

	return err_trace(r < 0 ? r : join(&place->path, directory, "/ipcd/socket"));
}

static int find_user(const struct place_env *env, struct place *place)
{
	_cleanup_free_ char *directory = NULL;
	char uid[32];
	int r;

	place->kind = PLACE_USER;
	if (env->runtime_dir && is_directory(env->runtime_dir))
		return err_trace(in_runtime_dir(env->runtime_dir, place));
	snprintf(uid, sizeof(uid), "/%llu", (unsigned long long)env->uid);
	r = join(&directory, env->run_user, uid);
	if (r < 0)
		return err_trace(r);
	if (is_directory(directory))
		return err_trace(in_runtime_dir(directory, place));
	free(directory);
	directory = NULL;
	r = place_state_dir(env, &directory);
	return err_trace(r < 0 ? r : join(&place->path, directory, "/socket"));
}

static int find_at(enum place_kind kind, const char *path, struct place *place)
{
	place->kind = kind;
	return err_trace(join(&place->path, path, ""));
}

static int find(const struct place_env *env, unsigned int flags, struct place *place)
{
	struct stat st;

	if ((flags & IPC_OPEN_SYSTEM) && (flags & IPC_OPEN_USER))
		return err_origin(-EINVAL);
	if (flags & IPC_OPEN_USER)
		return err_trace(find_user(env, place));
	if (flags & IPC_OPEN_SYSTEM)
		return err_trace(find_at(PLACE_SYSTEM, env->system_socket, place));
	if (env->socket)
		return err_trace(find_at(PLACE_GIVEN, env->socket, place));
	/* the system's, if it is there: that it does not answer is an error then */
	if (lstat(env->system_socket, &st) == 0)
		return err_trace(find_at(PLACE_SYSTEM, env->system_socket, place));
	return err_trace(find_user(env, place));
}

int place_find(const struct place_env *env, unsigned int flags, struct place *ret_place)
{
	_cleanup_place_ struct place place = { 0 };
	int r = find(env, flags, &place);

	if (r < 0)
		return err_trace(r);
	*ret_place = place;
	place = (struct place){ 0 };
	return 0;
}

int ipc_socket_path(unsigned int flags, char **ret_path)
{
	_cleanup_place_env_ struct place_env env;
	_cleanup_place_ struct place place = { 0 };
	int r;

	place_env_init(&env);
	r = place_find(&env, flags, &place);
	if (r < 0)
		return err_trace(r);
	*ret_path = TAKE_PTR(place.path);
	return 0;
}
