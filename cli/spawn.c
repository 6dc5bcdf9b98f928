/* SPDX-License-Identifier: MIT */

#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/un.h>

/* ---- the body ---- */

static int write_body(int fd, const char *data, size_t size)
{
	while (size > 0) {
		ssize_t n = write(fd, data, size);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			data += n;
			size -= (size_t)n;
		}
	}
	return 0;
}

/* That of a live message is as its giver has it. */
static int copy_fd(int from, int *ret_fd)
{
	int fd = fcntl(from, F_DUPFD_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

/* A descriptor at the body's start that nobody can write to. */
static int write_memfd(const struct ipc_message *message, int *ret_fd)
{
	const int seals = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
	size_t size;
	const void *body = ipc_message_get_body(message, &size);
	int fd = memfd_create("ipc-message", MFD_CLOEXEC | MFD_ALLOW_SEALING), r;

	if (fd < 0)
		return -errno;
	r = write_body(fd, body, size);
	if (r == 0 && (fcntl(fd, F_ADD_SEALS, seals) < 0 || lseek(fd, 0, SEEK_SET) < 0))
		r = -errno;
	if (r < 0) {
		close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

static int open_body(const struct ipc_message *message, int *ret_fd)
{
	int fd = ipc_message_get_fd(message);

	return fd >= 0 ? copy_fd(fd, ret_fd) : write_memfd(message, ret_fd);
}

/* ---- the environment: ours, with the message's variables ---- */

enum variable {
	FROM_UID,
	FROM_USER,
	QUEUE,
	MESSAGE,
	ATTEMPT,
	LEASE,
	META,
	SOCKET,
	FILENAME,
	N_VARIABLES
};

static const char *const variable_names[N_VARIABLES] = {
	[FROM_UID] = "IPC_FROM_UID", [FROM_USER] = "IPC_FROM_USER",
	[QUEUE] = "IPC_QUEUE",	     [MESSAGE] = "IPC_MESSAGE",
	[ATTEMPT] = "IPC_ATTEMPT",   [LEASE] = "IPC_LEASE",
	[META] = "IPC_META",	     [SOCKET] = "IPC_SOCKET",
	[FILENAME] = "IPC_FILE",
};

/* The first ones are the message's and freed, the rest is borrowed from environ. */
struct environment {
	char **entries;
	size_t n_own;
};

static void environment_deinit(struct environment *environment)
{
	for (size_t i = 0; i < environment->n_own; i++)
		free(environment->entries[i]);
	free(environment->entries);
}

static int set_text(struct environment *environment, enum variable which,
		    const char *value)
{
	char **entry = &environment->entries[environment->n_own];

	if (asprintf(entry, "%s=%s", variable_names[which], value) < 0)
		return -ENOMEM;
	environment->n_own++;
	return 0;
}

static int set_number(struct environment *environment, enum variable which,
		      uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	return set_text(environment, which, text);
}

/* The command may go to another directory. What would be too long for connect(2) stays. */
static int set_socket(struct environment *environment, const char *socket)
{
	_cleanup_free_ char *here = *socket == '/' ? NULL : get_current_dir_name();
	_cleanup_free_ char *path = NULL;

	if (here && asprintf(&path, "%s/%s", here, socket) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	if (path && strlen(path) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
		return set_text(environment, SOCKET, socket);
	return set_text(environment, SOCKET, path ? path : socket);
}

static int set_message(struct environment *environment, const struct ipc_message *message)
{
	const char *meta = ipc_message_get_meta(message);
	uid_t uid;
	const char *user = ipc_message_get_from(message, &uid, NULL, NULL);
	int r = set_number(environment, FROM_UID, uid);

	if (r == 0)
		r = set_text(environment, FROM_USER, user);
	if (r == 0)
		r = set_text(environment, QUEUE, ipc_message_get_queue(message));
	if (r == 0)
		r = set_number(environment, MESSAGE, ipc_message_get_number(message));
	if (r == 0)
		r = set_number(environment, ATTEMPT, ipc_message_get_attempt(message));
	if (r == 0)
		r = set_text(environment, LEASE, ipc_message_get_lease(message));
	if (r == 0 && meta)
		r = set_text(environment, META, meta);
	return r;
}

/* One of ours, perhaps of a message that another `ipc receive --exec` has handed to us. */
static bool is_own(const char *entry)
{
	size_t length = strcspn(entry, "=");

	for (size_t i = 0; i < N_VARIABLES; i++)
		if (strncmp(entry, variable_names[i], length) == 0 &&
		    !variable_names[i][length])
			return true;
	return false;
}

static int environment_init(struct environment *environment,
			    const struct ipc_message *message, const char *socket,
			    const char *file)
{
	size_t n = 0;
	int r;

	while (environ && environ[n])
		n++;
	environment->n_own = 0;
	environment->entries = calloc(n + N_VARIABLES + 1, sizeof(char *));
	if (!environment->entries)
		return -ENOMEM;
	r = set_message(environment, message);
	if (r == 0)
		r = set_socket(environment, socket);
	if (r == 0 && file)
		r = set_text(environment, FILENAME, file);
	if (r < 0)
		return r;
	for (size_t i = 0, to = environment->n_own; i < n; i++)
		if (!is_own(environ[i]))
			environment->entries[to++] = environ[i];
	return 0;
}

/* ---- the command ---- */

static int set_attributes(posix_spawnattr_t *attributes, const struct spawn *spawn)
{
	short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
	sigset_t defaults;
	int r;

	sigemptyset(&defaults);
	sigaddset(&defaults, SIGPIPE);
	sigaddset(&defaults, SIGCHLD);
	if (spawn->own_group)
		flags |= POSIX_SPAWN_SETPGROUP;
	r = posix_spawnattr_setflags(attributes, flags);
	if (r == 0)
		r = posix_spawnattr_setsigmask(attributes, &spawn->mask);
	if (r == 0)
		r = posix_spawnattr_setsigdefault(attributes, &defaults);
	if (r == 0)
		r = posix_spawnattr_setpgroup(attributes, 0);
	return r;
}

/* As posix_spawn(3), a positive errno. */
static int start(const struct spawn *spawn, int body_fd, char **environment,
		 pid_t *ret_pid)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	int r = posix_spawn_file_actions_init(&actions);

	if (r != 0)
		return r;
	r = posix_spawnattr_init(&attributes);
	if (r != 0) {
		posix_spawn_file_actions_destroy(&actions);
		return r;
	}
	r = set_attributes(&attributes, spawn);
	if (r == 0)
		r = posix_spawn_file_actions_adddup2(&actions, body_fd, STDIN_FILENO);
	if (r == 0)
		r = posix_spawnp(ret_pid, spawn->command[0], &actions, &attributes,
				 spawn->command, environment);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	return r;
}

int spawn_command(const struct spawn *spawn, const struct ipc_message *message,
		  const char *file, pid_t *ret_pid)
{
	struct environment environment;
	int fd = -1, r = open_body(message, &fd);

	if (r < 0)
		return r;
	r = environment_init(&environment, message, spawn->socket, file);
	if (r == 0)
		r = -start(spawn, fd, environment.entries, ret_pid);
	environment_deinit(&environment);
	close(fd);
	return r;
}
