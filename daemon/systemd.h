/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_SYSTEMD_H
#define DAEMON_SYSTEMD_H

/*
 * What a service manager hands over and wants to hear, by interfaces that are documented and
 * promised to stay: sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3). Each is some
 * environment variables and a Unix socket, so no library is needed, and any manager that
 * keeps to them will do. Variables are removed from the environment once they are read.
 */

#include <sys/socket.h>
#include <sys/un.h>

#include "loop.h"

/* ---- sockets made by the manager ---- */

struct activated_socket {
	int fd;
	char *name; /* FileDescriptorName=, "unknown" without */
	char *path; /* as bound; "@name" if it is abstract */
};

struct activation {
	struct activated_socket *sockets;
	size_t n; /* 0: the daemon was started without sockets */
};

/* Takes the sockets passed to this process, close-on-exec and non-blocking. One that is no
 * listening AF_UNIX stream socket is an error: to ignore it would leave clients unserved.
 * 0 or -errno, the reason is in the log. */
int activation_take(struct activation *ret_activation) MUST_CHECK;
void activation_deinit(struct activation *activation);

/* The path to tell others, given the configured one (or NULL): the sockets that were passed
 * win, and the log says so where they differ. NULL without sockets. Borrowed. */
const char *activation_choose(const struct activation *activation,
			      const char *configured);

/* ---- what the manager is told ---- */

/*
 * Nothing here blocks or fails: a manager that does not listen is none of our clients'
 * business. Only READY=1 is repeated until it is taken, because the manager waits for it.
 * One timer tells that the loop turns (WATCHDOG=1, at least twice in the manager's interval:
 * a loop that is stuck misses it and the daemon is restarted) and what goes on (STATUS=, if
 * it has changed).
 */
struct notifier {
	int fd; /* -1: nobody wants to hear */
	struct sockaddr_un address;
	socklen_t address_size;
	struct loop *loop;
	struct timer tick;
	uint64_t watchdog_ns; /* 0: not asked for */
	bool ready_owed, stopping;
	char status[128];
	/* Writes the status, one line of text. */
	void (*describe)(struct notifier *notifier, char *out, size_t size);
};

/* Reads the environment, so before there are threads. Sends nothing yet. */
void notifier_init(struct notifier *n, struct loop *loop,
		   void (*describe)(struct notifier *, char *, size_t));
void notifier_deinit(struct notifier *n);

void notifier_ready(struct notifier *n);     /* serves, or has reloaded */
void notifier_reloading(struct notifier *n); /* until notifier_ready() */
void notifier_stopping(struct notifier *n);  /* the last word */

#endif
