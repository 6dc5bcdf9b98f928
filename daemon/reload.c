/* SPDX-License-Identifier: MIT */

#include "reload.h"

#include <string.h>

#include "base/err.h"
#include "config.h"
#include "dedup.h"
#include "log.h"
#include "peer.h"
#include "queue.h"
#include "server.h"

struct reload {
	struct job job;
	struct server *server;
	struct config config;
	struct buf errors;
	int result;
};

static void reload_run(struct job *job)
{
	struct reload *reload = CONTAINER_OF(job, struct reload, job);
	const struct server_config *c = reload->server->config;

	reload->result = config_load(&reload->config, c->config_file,
				     c->config_must_exist, &reload->errors);
}

static void log_errors(struct buf *errors)
{
	char *line, *rest;

	if (!errors->size || buf_terminate(errors) < 0)
		return;
	for (line = strtok_r(errors->data, "\n", &rest); line;
	     line = strtok_r(NULL, "\n", &rest))
		log_error("%s", line);
}

/* Names that were not set by hand follow the rules. */
static void apply_rules(struct server *server)
{
	struct broker *broker = &server->broker;

	LIST_FOREACH(link, &broker->all_names) {
		struct name *name = LIST_ENTRY(link, struct name, link);
		struct queue *queue = queue_of_name(name);

		if (queue_apply_rules(queue) < 0)
			log_error("no memory to apply the new rules to %s", name->text);
		loop_defer(&server->loop, &queue->work);
	}
}

static void warn_if_changed(const char *what, const char *before, const char *now)
{
	if (now && strcmp(before ? before : "", now) != 0)
		log_warning("\"%s\" changes at the next start only", what);
}

static void apply(struct server *server, struct config *config)
{
	const struct server_config *c = server->config;
	const struct limit_info *info;

	for (size_t i = 0; i < c->n_limit_arguments;
	     i++) /* the command line goes first */
		(void)!limits_set(&config->limits, c->limit_arguments[i], &info);
	server->limits = config->limits;
	rules_deinit(&server->rules);
	server->rules = config->rules;
	config->rules = (struct rules){ NULL, 0 };
	if (config->has_level && !c->level_said)
		log_set_level(config->level);
	if (!c->activation.n && !c->socket_said) /* else the file does not say where */
		warn_if_changed("socket", c->socket, config->socket);
	if (!c->state_said)
		warn_if_changed("state", c->state, config->state);
	LIST_FOREACH(link, &server->peers)
		peer_follow_limits(LIST_ENTRY(link, struct peer, link));
	dedup_trim(&server->broker);
	apply_rules(server);
	server_recheck(server);
}

static void reload_done(struct job *job)
{
	struct reload *reload = CONTAINER_OF(job, struct reload, job);
	struct server *server = reload->server;
	bool again = server->reload_again;

	server->reloading = server->reload_again = false;
	if (server->stopping) {
		again = false;
	} else if (reload->result < 0) {
		log_errors(&reload->errors);
		log_error("the configuration is wrong; the old one stays in force");
	} else {
		apply(server, &reload->config);
		log_notice("the configuration was read anew: %zu rules", server->rules.n);
	}
	config_deinit(&reload->config);
	buf_deinit(&reload->errors);
	free(reload);
	notifier_ready(&server->notifier);
	if (again)
		reload_start(server);
}

void reload_start(struct server *server)
{
	struct reload *reload;

	if (server->reloading) {
		server->reload_again = true;
		return;
	}
	reload = calloc(1, sizeof(*reload));
	if (!reload) {
		log_error("no memory to read the configuration");
		return;
	}
	reload->job = (struct job){ .uid = server->broker.owner_uid,
				    .run = reload_run,
				    .done = reload_done };
	reload->server = server;
	config_init(&reload->config);
	server->reloading = true;
	notifier_reloading(&server->notifier);
	workers_submit(server->workers, &reload->job);
}
