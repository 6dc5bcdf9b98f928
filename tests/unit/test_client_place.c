/* SPDX-License-Identifier: MIT */

/* Which socket a client takes, and whom it trusts there. */

#include "unit/client_fake.h"

#include <sys/wait.h>

#include "client/place.h"

static char *dir_of_test(void)
{
	char *dir = strdup("/tmp/ipc-test-XXXXXX");

	assert_non_null(mkdtemp(dir));
	return dir;
}

static void make(const char *dir, const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	assert_int_equal(mkdir(path, 0700), 0);
}

/* ---- the choice ---- */

struct paths {
	char *dir;
	char home[128], runtime[128], run_user[128], system[128], expected[256];
	struct place_env env;
};

static int paths_setup(void **state)
{
	struct paths *p = calloc(1, sizeof(*p));

	p->dir = dir_of_test();
	snprintf(p->home, sizeof(p->home), "%s/home", p->dir);
	snprintf(p->runtime, sizeof(p->runtime), "%s/runtime", p->dir);
	snprintf(p->run_user, sizeof(p->run_user), "%s/run", p->dir);
	snprintf(p->system, sizeof(p->system), "%s/system", p->dir);
	p->env = (struct place_env){ .uid = 1234,
				     .home = p->home,
				     .runtime_dir = p->runtime,
				     .run_user = p->run_user,
				     .system_socket = p->system };
	*state = p;
	return 0;
}

static int paths_teardown(void **state)
{
	static const char *const names[] = { "/runtime", "/run/1234", "/run", "/system",
					     "" };
	struct paths *p = *state;
	char path[256];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s%s", p->dir, names[i]);
		remove(path);
	}
	free(p->dir);
	free(p);
	return 0;
}

static void expect(struct paths *p, unsigned int flags, enum place_kind kind,
		   const char *dir, const char *rest)
{
	struct place place;

	snprintf(p->expected, sizeof(p->expected), "%s%s", dir, rest);
	assert_int_equal(place_find(&p->env, flags, &place), 0);
	assert_string_equal(place.path, p->expected);
	assert_int_equal(place.kind, kind);
	place_deinit(&place);
}

static void test_choice(void **state)
{
	struct paths *p = *state;
	struct place place;

	/* nothing is there: beside the state */
	expect(p, 0, PLACE_USER, p->home, "/.local/state/ipcd/socket");
	p->env.state_home = "/s";
	expect(p, 0, PLACE_USER, "/s", "/ipcd/socket");
	make(p->dir, "run");
	make(p->dir, "run/1234");
	expect(p, 0, PLACE_USER, p->run_user, "/1234/ipcd/socket");
	make(p->dir, "runtime");
	expect(p, 0, PLACE_USER, p->runtime, "/ipcd/socket");
	expect(p, IPC_OPEN_SYSTEM, PLACE_SYSTEM, p->system, "");

	/* the system's is there */
	make(p->dir, "system");
	expect(p, 0, PLACE_SYSTEM, p->system, "");
	expect(p, IPC_OPEN_USER, PLACE_USER, p->runtime, "/ipcd/socket");

	p->env.socket = "given";
	expect(p, 0, PLACE_GIVEN, "given", "");
	expect(p, IPC_OPEN_USER, PLACE_USER, p->runtime, "/ipcd/socket");
	expect(p, IPC_OPEN_SYSTEM, PLACE_SYSTEM, p->system, "");
	assert_int_equal(place_find(&p->env, IPC_OPEN_USER | IPC_OPEN_SYSTEM, &place),
			 -EINVAL);
}

static void test_nowhere(void **state)
{
	struct paths *p = *state;
	struct place place;

	p->env.home = NULL;
	assert_int_equal(place_find(&p->env, 0, &place), -ENOENT);
	p->env.home = "relative";
	assert_int_equal(place_find(&p->env, 0, &place), -ENOENT);
	p->env.home = "/h";
	p->env.runtime_dir = "/dev/null"; /* no directory */
	expect(p, 0, PLACE_USER, "/h", "/.local/state/ipcd/socket");
}

static void test_environment(void **state)
{
	char *home = dir_of_test(), *path;
	struct place_env env;

	(void)state;
	setenv("IPC_SOCKET", "/given/socket", 1);
	setenv("XDG_RUNTIME_DIR", "relative", 1);
	setenv("HOME", home, 1);
	setenv("XDG_STATE_HOME", home, 1);
	setenv("XDG_CONFIG_HOME", "/nobody/has/made/this", 1);
	place_env_init(&env);
	assert_int_equal(env.uid, geteuid());
	assert_string_equal(env.socket, "/given/socket");
	assert_null(env.runtime_dir);
	assert_string_equal(env.home, home);
	assert_string_equal(env.state_home, home);
	assert_string_equal(env.config_home, "/nobody/has/made/this");
	assert_string_equal(env.system_socket, "/run/ipcd/socket");
	place_env_deinit(&env);
	assert_int_equal(ipc_socket_path(0, &path), 0);
	assert_string_equal(path, "/given/socket");
	free(path);
	assert_int_equal(ipc_socket_path(IPC_OPEN_SYSTEM, &path), 0);
	assert_string_equal(path, "/run/ipcd/socket");
	free(path);
	assert_int_equal(ipc_socket_path(IPC_OPEN_SYSTEM | IPC_OPEN_USER, &path),
			 -EINVAL);

	setenv("IPC_SOCKET", "", 1);
	unsetenv("HOME");
	place_env_init(&env);
	assert_null(env.socket);
	assert_true(!env.home || *env.home == '/'); /* from the user database */
	place_env_deinit(&env);
	setenv("HOME", geteuid() ? "/" : home, 1);
	setenv("XDG_STATE_HOME", getenv("HOME"), 1);
	setenv("XDG_CONFIG_HOME", "relative", 1);
	if (geteuid() == 0)
		assert_int_equal(chown(home, 1234, 1234), 0);
	place_env_init(&env);
	assert_true(!env.home || strcmp(env.home, getenv("HOME")) != 0);
	assert_null(env.state_home);
	assert_null(env.config_home);
	place_env_deinit(&env);
	rmdir(home);
	free(home);
}

/* ---- trust ---- */

static void refuse(const char *path, int error, const char *why)
{
	struct ipc_client *client;

	assert_int_equal(ipc_client_open(path, 0, &client), error);
	assert_non_null(strstr(ipc_client_get_error(client), why));
	assert_string_equal(ipc_client_get_socket(client), path);
	assert_int_equal(ipc_client_get_fd(client), -ECONNRESET);
	assert_int_equal(ipc_send(client, "q", NULL, 0, NULL), -ECONNRESET);
	ipc_client_close(client);
}

static void test_nobody(void **state)
{
	char *dir = dir_of_test(), path[256], long_path[256];

	(void)state;
	snprintf(path, sizeof(path), "%s/socket", dir);
	refuse(path, -ENOENT, path);
	close(fake_bind(path));
	refuse(path, -ECONNREFUSED, path);
	unlink(path);
	close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	refuse(path, -ENOTSOCK, "socket is not a socket");
	unlink(path);
	snprintf(long_path, sizeof(long_path), "%s/%0107d", dir, 1);
	refuse(long_path, -ENAMETOOLONG, "at most 107 bytes");
	snprintf(path, sizeof(path), "%s/none/socket", dir);
	refuse(path, -ENOENT, path);
	refuse("", -ENOENT, "no daemon at");
	rmdir(dir);
	free(dir);
}

static void test_bad_flags(void **state)
{
	struct ipc_client *client;

	(void)state;
	assert_int_equal(ipc_client_open(NULL, IPC_OPEN_USER | IPC_OPEN_SYSTEM, &client),
			 -EINVAL);
	ipc_client_close(client);
	assert_int_equal(ipc_client_open(NULL, 64, &client), -EINVAL);
	assert_string_equal(ipc_client_get_error(client), "unknown flags 0x40");
	ipc_client_close(client);
	assert_string_equal(ipc_client_get_error(NULL), "no memory");
	assert_string_equal(ipc_client_get_error_word(NULL), "");
}

/* A daemon is there each time; where it is makes it not to be trusted. */
static void test_directories(void **state)
{
	char *dir = dir_of_test(), inner[128], link[128], path[256], by_link[256];
	int fd;

	(void)state;
	snprintf(inner, sizeof(inner), "%s/inner", dir);
	snprintf(link, sizeof(link), "%s/link", dir);
	snprintf(path, sizeof(path), "%s/socket", inner);
	snprintf(by_link, sizeof(by_link), "%s/socket", link);
	make(dir, "inner");
	assert_int_equal(symlink("inner", link), 0);
	fd = fake_bind(path);

	refuse(by_link, -EPERM, "is a symbolic link: not trusted");
	assert_int_equal(chmod(inner, 01777), 0);
	refuse(path, -EPERM, "is writable by others (mode 1777): not trusted");
	assert_int_equal(chmod(inner, 0770), 0);
	refuse(path, -EPERM, "is writable by others (mode 0770): not trusted");
	snprintf(by_link, sizeof(by_link), "%s/socket/x", inner);
	refuse(by_link, -ENOTDIR, "socket is no directory");
	assert_int_equal(chmod(inner, 0700), 0);
	if (geteuid() == 0) {
		assert_int_equal(chown(inner, 1234, 1234), 0);
		refuse(path, -EPERM, "belongs to uid 1234");
	}
	close(fd);
	unlink(path);
	rmdir(inner);
	unlink(link);
	rmdir(dir);
	free(dir);
}

/* SO_PEERCRED names the one who called listen(2): another user does here. */
static pid_t listen_as(int fd, uid_t uid)
{
	int ready[2];
	pid_t pid;
	char byte;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (!pid) {
		struct fake f = { .listener = fd };

		if (setuid(uid) == 0 && listen(fd, 8) == 0)
			(void)!write(ready[1], "x", 1);
		alarm(20);
		fake_greet(&f);
		_exit(0);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return pid;
}

static void test_listeners(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char *dir = dir_of_test();
	struct ipc_client *client;
	pid_t pid;
	int fd;

	(void)state;
	if (geteuid() != 0) {
		rmdir(dir);
		free(dir);
		skip();
	}
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket", dir);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(chmod(address.sun_path, 0666), 0);

	pid = listen_as(fd, 1234);
	refuse(address.sun_path, -EPERM, "listens uid 1234");
	waitpid(pid, NULL, 0);

	/* root has given the socket to the one who listens */
	assert_int_equal(chown(address.sun_path, 1234, 1234), 0);
	pid = listen_as(fd, 1234);
	assert_int_equal(ipc_client_open(address.sun_path, 0, &client), 0);
	ipc_client_close(client);
	waitpid(pid, NULL, 0);

	close(fd);
	unlink(address.sun_path);
	rmdir(dir);
	free(dir);
}

/* su(1) and sudo(8) may keep another user's XDG_RUNTIME_DIR. */
static void test_foreign_runtime_dir(void **state)
{
	char *dir = dir_of_test();
	struct ipc_client *client;

	(void)state;
	setenv("XDG_RUNTIME_DIR", dir, 1);
	if (geteuid() == 0)
		assert_int_equal(chown(dir, 1234, 1234), 0);
	else
		assert_int_equal(chmod(dir, 0777), 0);
	assert_int_equal(ipc_client_open(NULL, IPC_OPEN_USER | IPC_OPEN_AUTOSTART,
					 &client),
			 -EPERM);
	assert_non_null(strstr(ipc_client_get_error(client), dir));
	ipc_client_close(client);
	assert_int_equal(rmdir(dir), 0); /* and nothing was made there */
	free(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_choice, paths_setup, paths_teardown),
		cmocka_unit_test_setup_teardown(test_nowhere, paths_setup,
						paths_teardown),
		cmocka_unit_test(test_environment),
		cmocka_unit_test(test_nobody),
		cmocka_unit_test(test_bad_flags),
		cmocka_unit_test(test_directories),
		cmocka_unit_test(test_listeners),
		cmocka_unit_test(test_foreign_runtime_dir),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
