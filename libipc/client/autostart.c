/* SPDX-License-Identifier: MIT */

/*
 * The user's daemon is started by the first program that needs it, as tmux does. Ten that
 * come at once start one: who holds the lock PATH.start starts it, the others try to
 * connect until somebody listens or the lock is theirs.
 *
 * Not started is it by set-user-ID programs, where IPC_AUTOSTART=0 says so, and inside of
 * services: the daemon would belong to the service, and end with it. systemd sets
 * INVOCATION_ID for services, but terminals and shells of a desktop inherit it from the
 * service that started them; what has a terminal is a person's and no service.
 */

#include "client/autostart.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "client/connect.h"
#include "client/spawn.h"

enum {
	START_TIMEOUT_MS = 10000,
	HOLDER_TIMEOUT_MS = 1000,
	RETRY_MS = 10,	   /* while another program starts the daemon */
	LOG_MAX = 1048576, /* bytes; a longer log is begun anew */
	ENV_MAX = 32,
};

/* ---- may it be started? ---- */

static bool has_terminal(void)
{
	_cleanup_fd_ int fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);

	return fd >= 0;
}

static const char *why_not(void)
{
	const char *wanted = secure_getenv("IPC_AUTOSTART");

	if (getauxval(AT_SECURE) || geteuid() != getuid() || getegid() != getgid())
		return "this program has other rights than its user";
	if (wanted && !strcmp(wanted, "0"))
		return "IPC_AUTOSTART=0";
	if (secure_getenv("INVOCATION_ID") && !has_terminal())
		return "this is a service (INVOCATION_ID is set, and there is no terminal)";
	return NULL;
}

/* ---- directories ---- */

/* mkdir -p, for the user alone. */
static int make_directories(const char *path)
{
	_cleanup_free_ char *part = strdup(path);

	if (!part)
		return err_origin(-ENOMEM);
	for (char *p = part + 1;; p++) {
		char end = *p;

		if (end && end != '/')
			continue;
		*p = '\0';
		if (mkdir(part, 0700) < 0 && errno != EEXIST)
			return err_origin(-errno);
		*p = end;
		if (!end)
			return 0;
	}
}

/* ---- the program ---- */

/* Beside a program in a directory where anybody may put things could be anything. */
static bool is_safe_directory(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 && S_ISDIR(st.st_mode) && !(st.st_mode & S_IWOTH) &&
	       (st.st_uid == 0 || st.st_uid == geteuid());
}

static char *take_if_program(char *path)
{
	struct stat st;

	if (path && stat(path, &st) == 0 && S_ISREG(st.st_mode) &&
	    access(path, X_OK) == 0)
		return path;
	free(path);
	return NULL;
}

static char *in_directory(const char *directory)
{
	char *path;

	if (asprintf(&path, "%s/ipcd", directory) < 0)
		return NULL;
	return take_if_program(path);
}

static char *beside_this_program(void)
{
	_cleanup_free_ char *self = realpath("/proc/self/exe", NULL);
	_cleanup_free_ char *directory = self ? connect_directory_of(self) : NULL;

	return directory && is_safe_directory(directory) ? in_directory(directory) : NULL;
}

static int find_program(struct client_error *error, char **ret_path)
{
	static const char *const directories[] = {
#ifdef BINDIR
		BINDIR,
#endif
		"/usr/local/bin",
		"/usr/bin",
	};
	const char *wanted = secure_getenv("IPC_DAEMON");
	char *path;

	if (wanted && *wanted) {
		path = *wanted == '/' ? take_if_program(strdup(wanted)) : NULL;
		if (!path)
			return client_error_set(
				error, err_origin(-ENOENT),
				"IPC_DAEMON=%s is not the absolute path of a "
				"program",
				wanted);
		*ret_path = path;
		return 0;
	}
	path = beside_this_program();
	for (size_t i = 0; !path && i < ARRAY_SIZE(directories); i++)
		path = in_directory(directories[i]);
	if (!path)
		return client_error_set(error, err_origin(-ENOENT),
					"no daemon runs, and ipcd is not installed");
	*ret_path = path;
	return 0;
}

/* ---- its surroundings ---- */

/* What a daemon may take from the one who happens to start it. */
static bool is_passed(const struct place_env *env, const char *assignment)
{
	const struct {
		const char *name;
		bool passed;
	} names[] = {
		{ "LANG=", true },
		{ "LC_", true },
		{ "TZ=", true },
		{ "XDG_RUNTIME_DIR=", true },
		{ "XDG_CONFIG_HOME=", env->config_home },
		{ "XDG_STATE_HOME=", env->state_home },
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strncmp(assignment, names[i].name, strlen(names[i].name)))
			return names[i].passed;
	return false;
}

/* The strings are the program's own, but for home. */
static void fill_environment(const struct place_env *env, char *home,
			     char *ret_env[static ENV_MAX])
{
	static char path[] =
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	size_t n = 0;

	ret_env[n++] = path;
	if (home)
		ret_env[n++] = home;
	for (char **e = environ; e && *e && n < ENV_MAX - 1; e++)
		if (is_passed(env, *e))
			ret_env[n++] = *e;
	ret_env[n] = NULL;
}

static int open_log_at(const char *path)
{
	_cleanup_fd_ int fd = open(path,
				   O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NOCTTY |
					   O_NONBLOCK | O_CLOEXEC,
				   0600);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_origin(-errno);
	if (!S_ISREG(st.st_mode) || st.st_uid != geteuid())
		return err_origin(-EPERM);
	if (st.st_size > LOG_MAX)
		(void)!ftruncate(fd, 0);
	return TAKE_FD(fd);
}

/* Where what the daemon says goes: beside its state, as a rule; without a home nowhere. */
struct log {
	char *path; /* or that of the directory which cannot be made */
	int fd;	    /* or a negative errno */
};

static void log_deinit(struct log *log)
{
	free(log->path);
	fd_close(log->fd);
}

static void log_init(struct log *log, const struct place_env *env)
{
	_cleanup_free_ char *directory = NULL;
	int r = place_state_dir(env, &directory);

	*log = (struct log){ .fd = r };
	if (r < 0)
		return;
	log->fd = make_directories(directory);
	if (log->fd < 0)
		log->path = TAKE_PTR(directory);
	else if (asprintf(&log->path, "%s/log", directory) < 0)
		*log = (struct log){ .fd = -ENOMEM };
	else
		log->fd = open_log_at(log->path);
}

/* ---- starting ---- */

static int start_failed(const char *program, const struct log *log, int r,
			struct client_error *error)
{
	const char *why = r == -ECHILD	    ? "it ended at once"
			  : r == -ETIMEDOUT ? "it does not get ready"
					    : strerror(-r);

	if (log->fd >= 0)
		return client_error_set(error, err_trace(r),
					"cannot start %s: %s; see %s", program, why,
					log->path);
	if (log->path)
		return client_error_set(
			error, err_trace(r),
			"cannot start %s: %s, and there is no log: %s: %s", program, why,
			log->path, strerror(-log->fd));
	return client_error_set(error, err_trace(r), "cannot start %s: %s", program, why);
}

static int run(const struct place_env *env, const char *program, char *socket, char *home,
	       int log_fd, uint64_t deadline_ns)
{
	char name[] = "ipcd", user[] = "--user", at[] = "--socket", tell[] = "--ready-fd",
	     ready_fd[] = { '0' + SPAWN_READY_FD, '\0' };
	char *argv[] = { name, user, at, socket, tell, ready_fd, NULL };
	char *envp[ENV_MAX];
	struct spawn spawn = {
		.program = program, .argv = argv, .envp = envp, .log_fd = log_fd
	};
	_cleanup_fd_ int pipe_fd = -1;
	int r;

	fill_environment(env, home, envp);
	r = spawn_daemon(&spawn, &pipe_fd);
	return err_trace(r < 0 ? r : spawn_wait_ready(pipe_fd, deadline_ns));
}

static int start(const struct place_env *env, const char *path, uint64_t deadline_ns,
		 struct client_error *error)
{
	CLEANUP(log_deinit) struct log log;
	_cleanup_free_ char *program = NULL, *home = NULL, *socket = strdup(path);
	int r;

	log_init(&log, env);
	r = find_program(error, &program);
	if (r < 0)
		return err_trace(r);
	if (env->home && asprintf(&home, "HOME=%s", env->home) < 0)
		home = NULL;
	if (!socket || (env->home && !home))
		return client_error_set(error, err_origin(-ENOMEM), "no memory");
	r = run(env, program, socket, home, log.fd, deadline_ns);
	return r < 0 ? start_failed(program, &log, r, error) : 0;
}

static bool is_nobody(int r)
{
	return r == -ENOENT || r == -ECONNREFUSED;
}

/* It ended at once: another one may hold the state, and not listen yet. */
static int connect_to_holder(const struct place_env *env, struct place *place,
			     int *ret_fd)
{
	uint64_t deadline_ns =
		deadline_after(clock_ns(CLOCK_MONOTONIC), HOLDER_TIMEOUT_MS);
	int r;

	while (is_nobody(r = connect_by_state(env, place, deadline_ns, ret_fd)) &&
	       clock_ns(CLOCK_MONOTONIC) < deadline_ns)
		poll(NULL, 0, RETRY_MS);
	return err_trace(r);
}

/* Holding the lock: if nobody was faster, starts it. One that was started for another
 * place does not let a second one begin: then that is the daemon. */
static int start_and_connect(const struct place_env *env, struct place *place,
			     uint64_t deadline_ns, struct client_error *error,
			     int *ret_fd)
{
	int r = connect_path(place->path, deadline_ns, error, ret_fd);

	if (!is_nobody(r))
		return err_trace(r);
	if (connect_by_state(env, place, deadline_ns, ret_fd) == 0)
		return 0;
	r = start(env, place->path, deadline_ns, error);
	if (r == -ECHILD && connect_to_holder(env, place, ret_fd) == 0)
		return 0;
	return err_trace(r < 0 ? r
			       : connect_path(place->path, deadline_ns, error, ret_fd));
}

static int start_or_wait(const struct place_env *env, struct place *place, int lock,
			 uint64_t deadline_ns, struct client_error *error, int *ret_fd)
{
	int r;

	for (;;) {
		if (flock(lock, LOCK_EX | LOCK_NB) == 0)
			return err_trace(start_and_connect(env, place, deadline_ns, error,
							   ret_fd));
		if (errno != EWOULDBLOCK && errno != EINTR)
			return client_error_set(error, err_origin(-errno),
						"%s.start: cannot lock: %s", place->path,
						strerror(errno));
		if (clock_ns(CLOCK_MONOTONIC) >= deadline_ns)
			return client_error_set(
				error, err_origin(-ETIMEDOUT),
				"another program is starting the daemon at %s, "
				"and does not come to an end",
				place->path);
		poll(NULL, 0, RETRY_MS);
		r = connect_path(place->path, deadline_ns, error, ret_fd);
		if (!is_nobody(r))
			return err_trace(r);
	}
}

static int open_lock(const char *path, struct client_error *error)
{
	_cleanup_free_ char *name = NULL;
	int fd;

	if (asprintf(&name, "%s.start", path) < 0) {
		name = NULL;
		return client_error_set(error, err_origin(-ENOMEM), "no memory");
	}
	fd = open(name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return client_error_set(error, err_origin(-errno), "%s: %s", name,
					strerror(errno));
	return fd;
}

static int prepare_directory(const char *path, struct client_error *error)
{
	_cleanup_free_ char *directory = connect_directory_of(path);
	int r = directory ? make_directories(directory) : err_origin(-ENOMEM);

	if (r < 0)
		return client_error_set(error, err_trace(r), "cannot make %s: %s",
					directory ? directory : path, strerror(-r));
	return err_trace(connect_check_directory(directory, error));
}

int autostart(const struct place_env *env, struct place *place, uint64_t deadline_ns,
	      struct client_error *error, int *ret_fd)
{
	uint64_t latest = deadline_after(clock_ns(CLOCK_MONOTONIC), START_TIMEOUT_MS);
	_cleanup_fd_ int lock = -1;
	const char *reason = why_not();
	int r;

	if (reason)
		return client_error_set(error, err_origin(-ENOENT),
					"no daemon at %s, and none is started: %s",
					place->path, reason);
	r = prepare_directory(place->path, error);
	if (r < 0)
		return err_trace(r);
	lock = open_lock(place->path, error);
	if (lock < 0)
		return err_trace(lock);
	return err_trace(start_or_wait(env, place, lock, min_u64(deadline_ns, latest),
				       error, ret_fd));
}
