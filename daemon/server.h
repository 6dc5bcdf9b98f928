/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_SERVER_H
#define DAEMON_SERVER_H

/* The daemon as one object: the loop, what peers share, the broker with all the nouns. */

#include "broker.h"
#include "listener.h"
#include "log_limit.h"
#include "systemd.h"
#include "wire/stream.h"
#include "worker.h"

struct server_config {
	const char *socket;	      /* absolute path */
	struct activation activation; /* the server takes its descriptors */
	const char *state;	      /* a directory, or NULL: nothing is kept */
	int state_lock_fd;	      /* its, see state.h; stays the caller's */
	bool system_mode;
	int ready_fd; /* -1: none */
	const char *config_file;
	bool config_must_exist;
	char **limit_arguments; /* of the command line: they go before the file's */
	size_t n_limit_arguments;
	bool level_said, socket_said, state_said; /* on the command line, as well */
	struct limits limits;
	struct rules rules; /* the server takes them */
};

struct server {
	const struct server_config *config;
	struct limits limits;
	struct rules rules;
	bool reloading, reload_again;
	struct loop loop;
	struct workers *workers;
	struct users users;
	struct broker broker;
	struct listener *listeners; /* one, or as many as the service manager has passed */
	size_t n_listeners;
	struct notifier notifier;
	struct log_limit log_limit;
	struct source signals;
	uint64_t epoch; /* this instance of the daemon */
	uint64_t started_ns;
	dev_t own_device; /* of the state directory's file system, or of / */

	/* shared by all peers, used within one turn */
	struct reader *reader;
	struct json_writer *writer;
	struct buf header; /* of the frame being written */
	struct fault fault;

	struct send_request *spare_sends; /* see send_request.c */
	unsigned int n_spare_sends;

	struct list peers;
	struct map peers_by_number;
	unsigned int n_peers;
	uint64_t next_peer;

	bool served, stopping;
	struct timer stop_timer;
};

int server_new(struct server **ret_server, struct server_config *config) MUST_CHECK;

/* Serves until told to stop. 0 after an orderly stop, -errno. */
int server_run(struct server *server) MUST_CHECK;
struct server *server_free(struct server *server);

/* Tells all peers, gives them shutdown_deadline to read it, then ends. */
void server_stop(struct server *server);

/* Rights have changed: who receives or waits to send without right is told. */
void server_recheck(struct server *server);

/* A peer has gone: when stopping, the last one ends the loop. */
void server_peer_gone(struct server *server);

#endif
