/* SPDX-License-Identifier: MIT */

/*
 * Starting the user's daemon. The daemon is this program: called with `--user` it notes in
 * ~/starts how it was started, listens, and ends when its last client has gone.
 */

#include "unit/client_fake.h"

#include <dirent.h>
#include <ftw.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

/* ---- the daemon ---- */

static void note_start(const char *arguments)
{
	mode_t mask = umask(077);
	char cwd[PATH_MAX], path[PATH_MAX];
	struct sigaction action;
	sigset_t blocked;
	FILE *notes;

	snprintf(path, sizeof(path), "%s/starts", getenv("HOME"));
	notes = fopen(path, "a");
	if (!notes || !getcwd(cwd, sizeof(cwd)) ||
	    sigaction(SIGUSR1, NULL, &action) < 0 ||
	    sigprocmask(SIG_SETMASK, NULL, &blocked) < 0)
		_exit(9);
	fprintf(notes,
		"%s cwd %s umask %03o fds %d leader %d session %d secret %d usr1 %d %d\n",
		arguments, cwd, (unsigned int)mask, count_fds() - 1,
		getsid(0) == getpid(), getsid(0) != getppid(), getenv("SECRET") != NULL,
		action.sa_handler == SIG_DFL, sigismember(&blocked, SIGUSR1));
	fclose(notes);
}

static bool mode_is(const char *mode)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/mode-%s", getenv("HOME"), mode);
	return access(path, F_OK) == 0;
}

/* Greets all that come; ends when there were some and all have gone. */
static void serve(int listener)
{
	struct pollfd fds[32] = { { .fd = listener, .events = POLLIN } };
	nfds_t n = 1;

	do {
		if (poll(fds, n, 20000) <= 0)
			return;
		for (nfds_t i = n - 1; i > 0; i--) {
			if (!fds[i].revents)
				continue;
			close(fds[i].fd);
			fds[i] = fds[--n];
		}
		if (fds[0].revents && n < 32) {
			struct fake f = { .listener = listener };

			fake_greet(&f);
			free(f.body);
			fds[n++] = (struct pollfd){ .fd = f.fd, .events = POLLIN };
		}
	} while (n > 1);
}

/* Another daemon, at runtime/ipcd, has the lock of the state. */
static int lose(void)
{
	const char *home = getenv("HOME");
	char path[PATH_MAX];
	FILE *lock;

	snprintf(path, sizeof(path), "%s/.local/state/ipcd/lock", home);
	lock = fopen(path, "w");
	if (lock) {
		fprintf(lock, "%.*s/runtime/ipcd/socket\n",
			(int)(strrchr(home, '/') - home), home);
		fclose(lock);
	}
	return 1;
}

static int be_daemon(int argc, char **argv)
{
	const char *state = getenv("XDG_STATE_HOME"), *config = getenv("XDG_CONFIG_HOME");
	char arguments[64] = "other";
	int listener;

	if (argc == 6 && !strcmp(argv[1], "--user") && !strcmp(argv[2], "--socket") &&
	    !strcmp(argv[4], "--ready-fd"))
		snprintf(arguments, sizeof(arguments), "%s ready-fd %s", argv[0],
			 argv[5]);
	note_start(arguments);
	if (mode_is("loses"))
		return lose();
	fprintf(stderr, "to the log%s%s\n", state ? strrchr(state, '/') : "",
		config ? strrchr(config, '/') : "");
	alarm(30);
	unlink(argv[3]);
	listener = fake_bind(argv[3]);
	if (dprintf(atoi(argv[5]), "READY\n") != 6)
		return 1;
	close(atoi(argv[5]));
	serve(listener);
	unlink(argv[3]);
	return 0;
}

/* ---- where it is started ---- */

struct place_of_test {
	char dir[32], home[48], runtime[48], socket[80];
};

static int setup(void **state)
{
	struct place_of_test *t = calloc(1, sizeof(*t));
	char self[PATH_MAX] = { 0 };

	snprintf(t->dir, sizeof(t->dir), "/tmp/ipc-test-XXXXXX");
	assert_non_null(mkdtemp(t->dir));
	snprintf(t->home, sizeof(t->home), "%s/home", t->dir);
	snprintf(t->runtime, sizeof(t->runtime), "%s/runtime", t->dir);
	snprintf(t->socket, sizeof(t->socket), "%s/ipcd/socket", t->runtime);
	assert_int_equal(mkdir(t->home, 0700), 0);
	assert_int_equal(mkdir(t->runtime, 0700), 0);
	assert_true(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	setenv("HOME", t->home, 1);
	setenv("XDG_RUNTIME_DIR", t->runtime, 1);
	setenv("IPC_DAEMON", self, 1);
	setenv("SECRET", "1", 1);
	unsetenv("INVOCATION_ID");
	unsetenv("IPC_AUTOSTART");
	unsetenv("XDG_STATE_HOME");
	unsetenv("XDG_CONFIG_HOME");
	*state = t;
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	(void)!remove(path); /* the daemon may be removing its socket just now */
	return 0;
}

static int teardown(void **state)
{
	struct place_of_test *t = *state;

	nftw(t->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(t);
	return 0;
}

static struct ipc_client *start(int error)
{
	struct ipc_client *client;

	assert_int_equal(ipc_client_open(NULL, IPC_OPEN_USER | IPC_OPEN_AUTOSTART,
					 &client),
			 error);
	return client;
}

/* The lines of a file below home; NULL if it is not there. */
static char *contents(const struct place_of_test *t, const char *name)
{
	static char text[4096];
	char path[128];
	size_t n;
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", t->home, name);
	file = fopen(path, "r");
	if (!file)
		return NULL;
	n = fread(text, 1, sizeof(text) - 1, file);
	text[n] = '\0';
	fclose(file);
	return text;
}

static void assert_mode(const char *path, mode_t mode)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, mode);
}

/* ---- tests ---- */

static volatile sig_atomic_t n_children;

static void on_child(int signal)
{
	(void)signal;
	n_children++;
}

/* A program that has no idea: signals blocked and handled, low descriptors closed. */
static void test_start(void **state)
{
	struct sigaction child = { .sa_handler = on_child },
			 ignore = { .sa_handler = SIG_IGN };
	struct place_of_test *t = *state;
	struct ipc_client *client;
	char path[128];

	sigaction(SIGCHLD, &child, NULL);
	sigaction(SIGUSR1, &ignore, NULL);
	client = start(0);
	assert_string_equal(ipc_client_get_server(client), "fake 1.0");
	assert_string_equal(ipc_client_get_socket(client), t->socket);
	assert_string_equal(
		contents(t, "starts"),
		"ipcd ready-fd 3 cwd / umask 077 fds 4 leader 0 session 1 secret 0 "
		"usr1 1 0\n");
	assert_int_equal(waitpid(-1, NULL, WNOHANG | __WALL), -1); /* no child was left */
	assert_int_equal(errno, ECHILD);
	assert_int_equal(n_children, 0);
	assert_string_equal(contents(t, ".local/state/ipcd/log"), "to the log\n");
	snprintf(path, sizeof(path), "%s/.local/state/ipcd/log", t->home);
	assert_mode(path, 0600);
	snprintf(path, sizeof(path), "%s/ipcd", t->runtime);
	assert_mode(path, 0700);
	ipc_client_close(client);
	signal(SIGCHLD, SIG_DFL);
	signal(SIGUSR1, SIG_DFL);
}

static void test_running_is_taken(void **state)
{
	struct place_of_test *t = *state;
	struct ipc_client *first = start(0), *second = start(0);

	assert_string_equal(strchr(contents(t, "starts"), '\n'), "\n");
	ipc_client_close(first);
	ipc_client_close(second);
}

/* A socket that nobody serves any more. */
static void test_stale_socket(void **state)
{
	struct place_of_test *t = *state;
	char path[128];

	snprintf(path, sizeof(path), "%s/ipcd", t->runtime);
	assert_int_equal(mkdir(path, 0700), 0);
	close(fake_bind(t->socket));
	ipc_client_close(start(0));
}

static void come_with_others(int here, int go)
{
	struct ipc_client *client;
	char byte;

	if (ipc_client_open(NULL, IPC_OPEN_USER | IPC_OPEN_AUTOSTART, &client) < 0)
		_exit(1);
	/* nobody goes before all have come, or the daemon would end */
	if (write(here, "x", 1) != 1 || read(go, &byte, 1) != 0)
		_exit(2);
	ipc_client_close(client);
	_exit(0);
}

static void test_ten_start_one(void **state)
{
	enum { N = 10 };
	struct place_of_test *t = *state;
	int here[2], go[2], status;
	pid_t pids[N];
	char byte;

	assert_int_equal(pipe(here), 0);
	assert_int_equal(pipe(go), 0);
	for (int i = 0; i < N; i++) {
		pids[i] = fork();
		if (!pids[i]) {
			close(go[1]);
			come_with_others(here[1], go[0]);
		}
	}
	close(here[1]);
	for (int i = 0; i < N; i++)
		assert_int_equal(read(here[0], &byte, 1), 1);
	close(go[1]);
	for (int i = 0; i < N; i++) {
		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
	}
	close(here[0]);
	close(go[0]);
	assert_string_equal(strchr(contents(t, "starts"), '\n'), "\n");
}

static void assert_refused(int error, const char *why)
{
	struct ipc_client *client = start(error);

	assert_non_null(strstr(ipc_client_get_error(client), why));
	ipc_client_close(client);
}

static void test_forbidden(void **state)
{
	struct place_of_test *t = *state;
	struct ipc_client *client;

	setenv("IPC_AUTOSTART", "0", 1);
	assert_refused(-ENOENT, "none is started: IPC_AUTOSTART=0");
	unsetenv("IPC_AUTOSTART");

	/* not without being asked to, and not for another place */
	assert_int_equal(ipc_client_open(NULL, IPC_OPEN_USER, &client), -ENOENT);
	ipc_client_close(client);
	assert_int_equal(ipc_client_open(t->socket, IPC_OPEN_AUTOSTART, &client),
			 -ENOENT);
	ipc_client_close(client);
	setenv("IPC_SOCKET", t->socket, 1);
	assert_int_equal(ipc_client_open(NULL, IPC_OPEN_AUTOSTART, &client), -ENOENT);
	ipc_client_close(client);
	unsetenv("IPC_SOCKET");
	assert_null(contents(t, "starts"));
}

static void test_not_in_services(void **state)
{
	struct place_of_test *t = *state;
	int status;
	pid_t pid = fork();

	if (!pid) {
		struct ipc_client *client;
		int r;

		setsid(); /* no terminal */
		setenv("INVOCATION_ID", "0123456789abcdef0123456789abcdef", 1);
		r = ipc_client_open(NULL, IPC_OPEN_USER | IPC_OPEN_AUTOSTART, &client);
		if (r != -ENOENT ||
		    !strstr(ipc_client_get_error(client), "this is a service"))
			_exit(1);
		ipc_client_close(client);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_null(contents(t, "starts"));
}

static void test_failing(void **state)
{
	struct place_of_test *t = *state;
	char path[128], log[128];
	FILE *file;

	setenv("IPC_DAEMON", "/nowhere/ipcd", 1);
	assert_refused(-ENOENT,
		       "IPC_DAEMON=/nowhere/ipcd is not the absolute path of a program");
	setenv("IPC_DAEMON", "ipcd", 1);
	assert_refused(-ENOENT, "IPC_DAEMON=ipcd is not the absolute path");

	snprintf(path, sizeof(path), "%s/script", t->home);
	file = fopen(path, "w");
	fprintf(file, "#!/nowhere/interpreter\n");
	fclose(file);
	assert_int_equal(chmod(path, 0700), 0);
	setenv("IPC_DAEMON", path, 1);
	assert_refused(-ENOENT, "script: No such file or directory; see ");

	file = fopen(path, "w");
	fprintf(file, "#!/bin/sh\necho no luck >&2\nexit 1\n");
	fclose(file);
	assert_refused(-ECHILD, "script: it ended at once; see ");
	assert_string_equal(contents(t, ".local/state/ipcd/log"), "no luck\n");

	/* why it says nothing is the reason it has ended, as a rule */
	snprintf(log, sizeof(log), "%s/.local/state/ipcd/log", t->home);
	assert_int_equal(unlink(log), 0);
	assert_int_equal(mkdir(log, 0700), 0);
	assert_refused(-ECHILD, "/.local/state/ipcd/log: Is a directory");
	setenv("XDG_STATE_HOME", path, 1);
	assert_refused(-ECHILD, "it ended at once, and there is no log: ");
	assert_refused(-ECHILD, "/script/ipcd: Not a directory");
}

/* The user's, and so where the log and the lock are. */
static void test_state_home(void **state)
{
	struct place_of_test *t = *state;
	struct ipc_client *client;
	char state_home[64], config_home[64];

	snprintf(state_home, sizeof(state_home), "%s/new/s", t->home);
	snprintf(config_home, sizeof(config_home), "%s/c", t->home);
	assert_int_equal(mkdir(config_home, 0700), 0);
	setenv("XDG_STATE_HOME", state_home, 1);
	setenv("XDG_CONFIG_HOME", config_home, 1);
	client = start(0);
	assert_string_equal(contents(t, "new/s/ipcd/log"), "to the log/s/c\n");
	assert_null(contents(t, ".local/state/ipcd/log"));
	ipc_client_close(client);
}

/* What sudo(8) has kept, or means another place each time, is not passed on. */
static void test_foreign_homes(void **state)
{
	struct place_of_test *t = *state;
	char path[64];

	snprintf(path, sizeof(path), "%s/foreign", t->dir);
	assert_int_equal(mkdir(path, 0700), 0);
	if (geteuid() == 0)
		assert_int_equal(chown(path, 1234, 1234), 0);
	setenv("XDG_STATE_HOME", geteuid() ? "/" : path, 1);
	setenv("XDG_CONFIG_HOME", "relative/c", 1);
	ipc_client_close(start(0));
	assert_string_equal(contents(t, ".local/state/ipcd/log"), "to the log\n");
}

/* Without a place for a log the daemon is started all the same. */
static void test_no_log(void **state)
{
	struct place_of_test *t = *state;
	char path[128];

	snprintf(path, sizeof(path), "%s/.local", t->home);
	close(open(path, O_CREAT | O_WRONLY,
		   0600)); /* a file where a directory should be */
	ipc_client_close(start(0));
	assert_int_equal(strncmp(contents(t, "starts"), "ipcd ready-fd 3 cwd ", 20), 0);
}

/* The lock of the state, as a daemon leaves it. */
static void name_in_lock(const struct place_of_test *t, const char *text)
{
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "%s/.local/state/ipcd/lock", t->home);
	file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

/* A user has one daemon: at another place, where the lock of its state says. */
static void test_daemon_at_another_place(void **state)
{
	static const char *const useless[] = { "", "/", "/no/newline", "relative\n",
					       "/nobody/there\n" };
	struct place_of_test *t = *state;
	struct ipc_client *first = start(0), *second;
	char other[48], mode[64], line[96];

	snprintf(line, sizeof(line), "%s\n", t->socket);
	name_in_lock(t, line);
	snprintf(other, sizeof(other), "%s/other", t->dir);
	assert_int_equal(mkdir(other, 0700), 0);
	setenv("XDG_RUNTIME_DIR", other, 1);
	second = start(0);
	assert_string_equal(ipc_client_get_socket(second), t->socket);
	ipc_client_close(second);
	for (size_t i = 0; i < sizeof(useless) / sizeof(useless[0]); i++) {
		name_in_lock(t, useless[i]);
		assert_int_equal(ipc_client_open(NULL, IPC_OPEN_USER, &second), -ENOENT);
		assert_non_null(strstr(ipc_client_get_error(second), other));
		ipc_client_close(second);
	}

	/* one that was started in the same moment */
	snprintf(mode, sizeof(mode), "%s/mode-loses", t->home);
	close(open(mode, O_CREAT | O_WRONLY, 0600));
	second = start(0);
	assert_string_equal(ipc_client_get_socket(second), t->socket);
	ipc_client_close(second);
	ipc_client_close(first);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_start, setup, teardown),
		cmocka_unit_test_setup_teardown(test_running_is_taken, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stale_socket, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ten_start_one, setup, teardown),
		cmocka_unit_test_setup_teardown(test_forbidden, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_in_services, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_state_home, setup, teardown),
		cmocka_unit_test_setup_teardown(test_foreign_homes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_log, setup, teardown),
		cmocka_unit_test_setup_teardown(test_daemon_at_another_place, setup,
						teardown),
	};

	if (argc > 1 && !strcmp(argv[1], "--user"))
		_exit(be_daemon(argc, argv));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
