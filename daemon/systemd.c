/* SPDX-License-Identifier: MIT */

#include "systemd.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "log.h"

enum {
	FDS_START = 3, /* SD_LISTEN_FDS_START */
	TICK_MS = 10000,
	RETRY_MS = 100, /* when the manager's queue was full */
};

/* A number out of the environment: false if it is not there or none. */
static bool env_u64(const char *name, uint64_t max, uint64_t *ret_value)
{
	const char *text = getenv(name);

	if (!text)
		return false;
	if (parse_u64(text, max, ret_value))
		return true;
	log_warning("$%s is ignored: \"%s\" is no number", name, text);
	return false;
}

/* Variables are inherited: this one tells for whom the others were meant. */
static bool is_for_us(const char *name, bool if_missing)
{
	uint64_t pid;

	if (!getenv(name))
		return if_missing;
	return env_u64(name, INT_MAX, &pid) && (pid_t)pid == getpid();
}

/* ---- sockets made by the manager ---- */

static const char *file_kind(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return "a regular file";
	case S_IFDIR:
		return "a directory";
	case S_IFIFO:
		return "a FIFO or pipe";
	case S_IFCHR:
	case S_IFBLK:
		return "a device";
	default:
		return "no socket";
	}
}

static const char *domain_name(int domain)
{
	switch (domain) {
	case AF_UNIX:
		return "a Unix";
	case AF_INET:
		return "an IPv4";
	case AF_INET6:
		return "an IPv6";
	case AF_NETLINK:
		return "a netlink";
	default:
		return "a foreign";
	}
}

static const char *type_name(int type)
{
	switch (type) {
	case SOCK_STREAM:
		return "stream";
	case SOCK_DGRAM:
		return "datagram";
	case SOCK_SEQPACKET:
		return "sequential-packet";
	default:
		return "raw";
	}
}

static bool get_option(int fd, int option, int *ret_value)
{
	socklen_t size = sizeof(*ret_value);

	return getsockopt(fd, SOL_SOCKET, option, ret_value, &size) == 0;
}

/* True if we can serve it, else what it is instead. */
static bool is_servable(int fd, char *what, size_t size)
{
	int domain, type, listens;
	struct stat st;

	if (fstat(fd, &st) < 0)
		snprintf(what, size, "not open (%s)", strerror(errno));
	else if (!get_option(fd, SO_DOMAIN, &domain) || !get_option(fd, SO_TYPE, &type) ||
		 !get_option(fd, SO_ACCEPTCONN, &listens))
		snprintf(what, size, "%s", file_kind(st.st_mode));
	else if (domain != AF_UNIX || type != SOCK_STREAM)
		snprintf(what, size, "%s %s socket", domain_name(domain),
			 type_name(type));
	else if (!listens)
		snprintf(what, size, "a Unix stream socket that does not listen");
	else
		return true;
	return false;
}

static char *bound_path(int fd)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	socklen_t size = sizeof(a), head = offsetof(struct sockaddr_un, sun_path);
	bool abstract;
	char *path;

	if (getsockname(fd, (struct sockaddr *)&a, &size) < 0 || size <= head)
		return strdup("(unnamed)");
	abstract = !a.sun_path[0];
	/* a path that fills sun_path has no NUL at its end, unix(7) */
	if (asprintf(&path, "%s%.*s", abstract ? "@" : "",
		     (int)min_size(size - head, sizeof(a.sun_path)) - abstract,
		     a.sun_path + abstract) < 0)
		return NULL;
	return path;
}

static int add_socket(struct activation *a, int fd, const char *name)
{
	struct activated_socket *grown = realloc(a->sockets, (a->n + 1) * sizeof(*grown));
	struct activated_socket socket = { .fd = fd };

	if (!grown)
		return err_origin(-ENOMEM);
	a->sockets = grown;
	socket.name = strdup(name);
	socket.path = bound_path(fd);
	if (!socket.name || !socket.path) {
		free(socket.name);
		free(socket.path);
		return err_origin(-ENOMEM);
	}
	a->sockets[a->n++] = socket;
	return 0;
}

static int take_socket(struct activation *a, int fd, const char *name)
{
	char what[96];

	if (!is_servable(fd, what, sizeof(what))) {
		log_error(
			"the service manager passed \"%s\" (descriptor %d), %s; it must be "
			"a listening Unix stream socket: ListenStream=/path, Accept=no",
			name, fd, what);
		return err_origin(-EINVAL);
	}
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		return err_origin(-errno);
	return err_trace(add_socket(a, fd, name));
}

static int take_sockets(struct activation *a, uint64_t n, char *names)
{
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < n; i++) {
		const char *name = names ? strsep(&names, ":") : NULL;

		r = take_socket(a, FDS_START + (int)i, name && *name ? name : "unknown");
	}
	return err_trace(r);
}

int activation_take(struct activation *ret_activation)
{
	struct activation a = { NULL, 0 };
	const char *names = getenv("LISTEN_FDNAMES");
	_cleanup_free_ char *copy = names ? strdup(names) : NULL;
	uint64_t n;
	int r = names && !copy ? err_origin(-ENOMEM) : 0;

	if (r == 0 && is_for_us("LISTEN_PID", false) &&
	    env_u64("LISTEN_FDS", INT_MAX - FDS_START, &n))
		r = take_sockets(&a, n, copy);
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	if (r < 0) {
		activation_deinit(&a);
		return err_trace(r);
	}
	*ret_activation = a;
	return 0;
}

void activation_deinit(struct activation *a)
{
	for (size_t i = 0; i < a->n; i++) {
		fd_close(a->sockets[i].fd);
		free(a->sockets[i].name);
		free(a->sockets[i].path);
	}
	free(a->sockets);
	*a = (struct activation){ NULL, 0 };
}

const char *activation_choose(const struct activation *a, const char *configured)
{
	if (!a->n)
		return NULL;
	for (size_t i = 0; configured && i < a->n; i++)
		if (!strcmp(a->sockets[i].path, configured))
			return configured;
	if (configured)
		log_warning(
			"%s, as configured, is not served: the service manager passed %s "
			"(%s), and that wins",
			configured, a->sockets[0].path, a->sockets[0].name);
	return a->sockets[0].path;
}

/* ---- what the manager is told ---- */

/* 0 or -errno, which most callers need not know. */
static int tell(struct notifier *n, const char *text)
{
	if (n->fd < 0)
		return 0;
	if (sendto(n->fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL,
		   (const struct sockaddr *)&n->address, n->address_size) < 0) {
		int r = -errno;

		log_debug("cannot tell the service manager \"%s\": %s", text,
			  strerror(-r));
		return r;
	}
	return 0;
}

static void tell_status(struct notifier *n)
{
	char status[sizeof(n->status)], text[sizeof(status) + 8];

	n->describe(n, status, sizeof(status));
	if (!strcmp(status, n->status))
		return;
	snprintf(text, sizeof(text), "STATUS=%s", status);
	if (tell(n, text) == 0)
		memcpy(n->status, status, sizeof(status));
}

static void tell_ready(struct notifier *n)
{
	int r = tell(n, "READY=1");

	n->ready_owed = r == -EAGAIN || r == -ENOBUFS;
}

static void set_tick(struct notifier *n)
{
	uint64_t interval_ns = ms_to_ns(TICK_MS), at;

	if (n->watchdog_ns)
		interval_ns = min_u64(interval_ns, n->watchdog_ns / 2);
	if (n->ready_owed)
		interval_ns = min_u64(interval_ns, ms_to_ns(RETRY_MS));
	at = add_saturating(n->loop->now_ns, interval_ns);
	if (timer_set(n->loop, &n->tick, at) < 0)
		log_warning("no memory for the watchdog's timer");
}

static void on_tick(struct timer *timer)
{
	struct notifier *n = CONTAINER_OF(timer, struct notifier, tick);

	if (n->watchdog_ns)
		tell(n, "WATCHDOG=1");
	if (n->ready_owed)
		tell_ready(n);
	if (!n->stopping)
		tell_status(n);
	set_tick(n);
}

/* A path, or "@name" for an abstract one; other kinds come from virtual machines. */
static bool set_address(struct notifier *n, const char *text)
{
	size_t size = strlen(text);

	if ((text[0] != '/' && text[0] != '@') || size >= sizeof(n->address.sun_path)) {
		log_warning(
			"$NOTIFY_SOCKET is ignored: %s is neither a path nor an abstract "
			"address of a Unix socket",
			text);
		return false;
	}
	n->address.sun_family = AF_UNIX;
	memcpy(n->address.sun_path, text, size + 1);
	if (text[0] == '@')
		n->address.sun_path[0] = '\0';
	n->address_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size +
				      (text[0] == '/'));
	return true;
}

void notifier_init(struct notifier *n, struct loop *loop,
		   void (*describe)(struct notifier *, char *, size_t))
{
	const char *address = getenv("NOTIFY_SOCKET");
	uint64_t usec;

	*n = (struct notifier){ .fd = -1, .loop = loop, .describe = describe };
	timer_init(&n->tick, TIMER_MONOTONIC, on_tick);
	if (address && set_address(n, address))
		n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (n->fd >= 0 && is_for_us("WATCHDOG_PID", true) &&
	    env_u64("WATCHDOG_USEC", UINT64_MAX / 1000, &usec))
		n->watchdog_ns = usec * 1000;
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_PID");
	unsetenv("WATCHDOG_USEC");
}

void notifier_deinit(struct notifier *n)
{
	timer_cancel(n->loop, &n->tick);
	n->fd = fd_close(n->fd);
}

void notifier_ready(struct notifier *n)
{
	if (n->fd < 0 || n->stopping)
		return;
	tell_ready(n);
	on_tick(&n->tick);
}

void notifier_reloading(struct notifier *n)
{
	char text[64];

	if (n->fd < 0 || n->stopping)
		return;
	n->ready_owed = false;
	snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%llu",
		 (unsigned long long)(clock_ns(CLOCK_MONOTONIC) / 1000));
	tell(n, text);
}

void notifier_stopping(struct notifier *n)
{
	n->ready_owed = false;
	n->stopping = true;
	tell(n, "STOPPING=1");
}
