/* SPDX-License-Identifier: MIT */

#include "server.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "journal.h"
#include "log.h"
#include "op_receive.h"
#include "peer.h"
#include "reload.h"
#include "restore.h"
#include "send_request.h"
#include "store.h"

enum {
	WORKERS_WAIT_MS = 1000, /* at the end, for jobs under way */
	MODE_SYSTEM = 0666,	/* who may what is decided by name */
	MODE_USER = 0600,
};

/* ---- signals ---- */

static void change_level(int step)
{
	int level = (int)log_get_level() + step;

	if (level < LEVEL_ERROR || level > LEVEL_DEBUG)
		return;
	log_set_level((enum log_level)level);
	log_print(level > LEVEL_NOTICE ? LEVEL_NOTICE : (enum log_level)level,
		  "log level is now %s", log_level_name((enum log_level)level));
}

static void on_signal(struct source *source, uint32_t events)
{
	struct server *server = CONTAINER_OF(source, struct server, signals);
	struct signalfd_siginfo info;

	(void)events;
	while (read(source->fd, &info, sizeof(info)) == sizeof(info)) {
		switch (info.ssi_signo) {
		case SIGHUP:
			reload_start(server);
			break;
		case SIGUSR1:
			change_level(1);
			break;
		case SIGUSR2:
			change_level(-1);
			break;
		default:
			log_notice("%s: stopping", strsignal((int)info.ssi_signo));
			server_stop(server);
		}
	}
}

static int watch_signals(struct server *server)
{
	_cleanup_fd_ int fd = -1;
	sigset_t mask;
	int r;

	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGHUP);
	sigaddset(&mask, SIGUSR1);
	sigaddset(&mask, SIGUSR2);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	signal(SIGPIPE, SIG_IGN); /* a log nobody reads any more */
	signal(SIGXFSZ, SIG_IGN); /* RLIMIT_FSIZE is one more full disk */
	fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return err_origin(-errno);
	r = source_add(&server->signals, &server->loop, NULL, fd, EPOLLIN, on_signal);
	if (r == 0)
		TAKE_FD(fd);
	return err_trace(r);
}

/* ---- start ---- */

static void on_accepted(void *owner, int fd)
{
	peer_accept(owner, fd);
}

static int adopt_sockets(struct server *server, struct activation *activation)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < activation->n; i++) {
		struct activated_socket *s = &activation->sockets[i];

		r = listener_adopt(&server->listeners[i], &server->loop, s->fd);
		if (r == 0) {
			s->fd = -1;
			log_info("serving %s, passed as %s", s->path, s->name);
		}
	}
	return err_trace(r);
}

static int listen_all(struct server *server, struct server_config *config)
{
	size_t n = config->activation.n ? config->activation.n : 1;

	server->listeners = calloc(n, sizeof(*server->listeners));
	if (!server->listeners)
		return err_origin(-ENOMEM);
	server->n_listeners = n;
	for (size_t i = 0; i < n; i++)
		listener_init(&server->listeners[i], on_accepted, server);
	if (config->activation.n)
		return err_trace(adopt_sockets(server, &config->activation));
	return err_trace(listener_open(server->listeners, &server->loop, config->socket,
				       config->system_mode ? MODE_SYSTEM : MODE_USER));
}

static void listen_no_more(struct server *server)
{
	for (size_t i = 0; i < server->n_listeners; i++)
		listener_close(&server->listeners[i]);
}

static int random_epoch(uint64_t *ret_epoch)
{
	struct hash_key key;
	int r = hash_key_random(&key);

	if (r == 0)
		*ret_epoch = key.k0;
	return err_trace(r);
}

static int find_own_device(struct server *server)
{
	int fd = server->broker.blobs.directory;
	struct stat st;

	if ((fd >= 0 ? fstat(fd, &st) : stat("/", &st)) < 0)
		return err_origin(-errno);
	server->own_device = st.st_dev;
	return 0;
}

static int server_init(struct server *server, struct server_config *config)
{
	int r;

	r = loop_init(&server->loop);
	if (r == 0)
		r = watch_signals(server);
	if (r == 0)
		r = workers_new(&server->workers, &server->loop);
	if (r == 0)
		workers_set_close_stall(server->workers,
					(uint32_t)server->limits.fd_deadline);
	if (r == 0)
		r = users_init(&server->users, &server->loop, server->workers);
	if (r == 0)
		r = broker_init(&server->broker, &server->loop, &server->users,
				&server->limits, &server->rules, config->system_mode);
	if (r == 0 && config->state)
		r = restore(&server->broker, config->state);
	if (r == 0 && config->state)
		store_set_lock(server->broker.store, config->state_lock_fd);
	if (r == 0)
		r = find_own_device(server);
	if (r == 0)
		r = reader_new(&server->reader);
	if (r == 0)
		r = json_writer_new(&server->writer);
	if (r == 0)
		r = random_epoch(&server->epoch);
	if (r == 0)
		r = listen_all(server, config);
	return err_trace(r);
}

static void on_stop_deadline(struct timer *timer);

/* `systemctl status` shows it. */
static void describe(struct notifier *notifier, char *out, size_t size)
{
	struct server *server = CONTAINER_OF(notifier, struct server, notifier);

	snprintf(out, size, "peers: %u, names: %zu, messages: %zu", server->n_peers,
		 server->broker.names.n, server->broker.messages.n);
}

int server_new(struct server **ret_server, struct server_config *config)
{
	struct server *server = calloc(1, sizeof(*server));
	int r;

	if (!server)
		return err_origin(-ENOMEM);
	server->config = config;
	server->limits = config->limits;
	server->rules = config->rules;
	config->rules = (struct rules){ NULL, 0 };
	server->next_peer = 1;
	server->started_ns = clock_ns(CLOCK_MONOTONIC);
	server->signals.fd = -1;
	server->loop.epoll_fd = -1;
	server->loop.boottime_source.fd = -1;
	list_init(&server->peers);
	map_init(&server->peers_by_number);
	timer_init(&server->stop_timer, TIMER_MONOTONIC, on_stop_deadline);
	notifier_init(&server->notifier, &server->loop, describe);
	log_limit_init(&server->log_limit, &server->loop);
	r = server_init(server, config);
	if (r < 0) {
		server_free(server);
		return err_trace(r);
	}
	*ret_server = server;
	return 0;
}

static void say_ready(struct server *server)
{
	int fd = server->config->ready_fd;

	notifier_ready(&server->notifier);
	log_notice("ipcd %s serves %s (%s rules)", IPCD_VERSION, server->config->socket,
		   server->config->system_mode ? "system" : "user");
	if (fd < 0)
		return;
	if (write(fd, "READY\n", 6) != 6)
		log_warning("nobody reads --ready-fd %d", fd);
	fd_close(fd);
}

int server_run(struct server *server)
{
	server->served = true;
	say_ready(server);
	return err_trace(loop_run(&server->loop));
}

/* ---- the end ---- */

static void on_stop_deadline(struct timer *timer)
{
	loop_stop(&CONTAINER_OF(timer, struct server, stop_timer)->loop);
}

void server_peer_gone(struct server *server)
{
	if (server->stopping && !server->n_peers)
		loop_stop(&server->loop);
}

void server_recheck(struct server *server)
{
	LIST_FOREACH(link, &server->broker.all_names)
		queue_recheck(queue_of_name(LIST_ENTRY(link, struct name, link)));
}

void server_stop(struct server *server)
{
	uint64_t at =
		deadline_after(server->loop.now_ns, server->limits.shutdown_deadline);

	if (server->stopping)
		return;
	server->stopping = server->broker.stopping = true;
	notifier_stopping(&server->notifier);
	listen_no_more(server);
	if (server->broker.store) /* who waits for the disk gets the answer */
		store_flush(server->broker.store, server->limits.shutdown_deadline);
	LIST_FOREACH(link, &server->peers)
		peer_say_goodbye(LIST_ENTRY(link, struct peer, link));
	if (!server->n_peers || timer_set(&server->loop, &server->stop_timer, at) < 0)
		loop_stop(&server->loop);
}

/* Is it known what was leased? */
static bool ends_in_order(const struct server *server)
{
	const struct broker *broker = &server->broker;

	/* one that never got to serve anybody leaves all as it was */
	if (!server->served)
		return store_found_clean(broker->store);
	return server->stopping && clock_ns(CLOCK_MONOTONIC) >= broker->held_until_ns;
}

/* What is in memory only is kept for the next start. */
static void close_store(struct server *server)
{
	struct broker *broker = &server->broker;

	if (!broker->store)
		return;
	if (server->stopping || !server->served)
		journal_keep_all(broker);
	broker->blobs.keep = true; /* what is left over is dropped at the next start */
	broker->store = store_close(broker->store, ends_in_order(server));
}

static void drop_peers(struct server *server)
{
	struct peer *peer;

	while ((peer = LIST_FIRST(&server->peers, struct peer, link)))
		peer_drop(peer);
}

struct server *server_free(struct server *server)
{
	if (!server)
		return NULL;
	listen_no_more(server);
	free(server->listeners);
	drop_peers(server);
	close_store(server);
	if (server->broker.loop)
		broker_deinit(&server->broker);
	server->workers = workers_free(server->workers, WORKERS_WAIT_MS);
	if (server->broker.loop) /* a job may have made a file until then */
		blobs_deinit(&server->broker.blobs);
	if (server->users.loop)
		users_deinit(&server->users);
	timer_cancel(&server->loop, &server->stop_timer);
	notifier_deinit(&server->notifier);
	source_remove(&server->signals);
	fd_close(server->signals.fd);
	rules_deinit(&server->rules);
	map_deinit(&server->peers_by_number);
	send_requests_drop_spare(server);
	reader_free(server->reader);
	json_writer_free(server->writer);
	buf_deinit(&server->header);
	log_limit_deinit(&server->log_limit);
	loop_deinit(&server->loop);
	free(server);
	return NULL;
}
