/* SPDX-License-Identifier: MIT */

/*
 * dbusctl SOCKET: the least controller that dbus-broker can run with (its own launcher
 * insists on journald's socket). Starts dbus-broker, hands it one listening socket and a
 * policy that allows everything, and serves nothing else. Prints the broker's pid when it
 * listens, ends when it ends.
 */

#include "bench.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <systemd/sd-bus.h>

/* The policy's signature, as the broker's introspection tells it. A batch is: connect
 * (allowed, priority), own (allowed, priority, prefix, name), send and receive (allowed,
 * priority, name, path, interface, member, type, broadcast, fds from, fds to). There is
 * one for any uid; none for groups, SELinux and AppArmor. */
#define BATCH "bta(btbs)a(btssssuutt)a(btssssuutt)"
#define POLICY "(a(u(" BATCH "))a(buu(" BATCH "))a(ss)bs)"
#define FIRST (uint64_t)1
#define ANY_MESSAGE 1, 1, FIRST, "", "", "", "", 0u, 0u, (uint64_t)0, UINT64_MAX

static int listen_at(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	must(strlen(path) < sizeof(address.sun_path));
	strcpy(address.sun_path, path);
	must(!bind(fd, (struct sockaddr *)&address, sizeof(address)) &&
	     !listen(fd, 4096));
	return fd;
}

static pid_t start_broker(int controller)
{
	char fd[12];
	pid_t pid = fork();

	must(pid >= 0);
	if (pid)
		return pid;
	snprintf(fd, sizeof(fd), "%d", controller);
	fcntl(controller, F_SETFD, 0);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	execlp("dbus-broker", "dbus-broker", "--controller", fd, "--machine-id",
	       "0123456789abcdef0123456789abcdef", "--max-bytes", "1000000000",
	       "--max-fds", "100000", "--max-matches", "1000000", "--max-objects",
	       "10000000", (char *)NULL);
	_exit(127);
}

static void add_listener(sd_bus *bus, int fd)
{
	sd_bus_error error = SD_BUS_ERROR_NULL;
	sd_bus_message *message;

	must(sd_bus_message_new_method_call(bus, &message, NULL, "/org/bus1/DBus/Broker",
					    "org.bus1.DBus.Broker", "AddListener") >= 0);
	must(sd_bus_message_append(message, "ohv", "/org/bus1/DBus/Listener/0", fd,
				   POLICY, 1, UINT32_MAX, 1, FIRST, 1, 1, FIRST, 1, "",
				   ANY_MESSAGE, ANY_MESSAGE, 0, 0, 0, "session") >= 0);
	if (sd_bus_call(bus, message, 0, &error, NULL) < 0)
		die("AddListener: %s", error.message);
	sd_bus_message_unref(message);
}

int main(int argc, char **argv)
{
	int pair[2], listener;
	sd_bus *bus;
	pid_t broker;

	must(argc == 2);
	listener = listen_at(argv[1]);
	must(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair));
	broker = start_broker(pair[1]);
	close(pair[1]);
	must(sd_bus_new(&bus) >= 0 && sd_bus_set_fd(bus, pair[0], pair[0]) >= 0 &&
	     sd_bus_start(bus) >= 0);
	add_listener(bus, listener);
	printf("%d\n", broker);
	fflush(stdout);
	while (waitpid(broker, NULL, WNOHANG) == 0) {
		while (sd_bus_process(bus, NULL) > 0)
			;
		sd_bus_wait(bus, 200000);
	}
	return 0;
}
