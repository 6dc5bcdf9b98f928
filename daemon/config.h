/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_CONFIG_H
#define DAEMON_CONFIG_H

/*
 * The configuration, ipcd.conf(5): JSON with comments, and drop-ins (FILE.d, names ending in .conf, in
 * order of their names) whose values replace earlier ones and whose rules are added. Any
 * unknown key, user or group is an error with file and line: it never falls open.
 *
 * Reading it asks the name service and so may block: at start that is fine, a reload reads
 * on a worker.
 */

#include "base/buf.h"
#include "log.h"
#include "rules.h"
#include "wire/limits.h"

struct config {
	char *socket, *state; /* NULL: not said */
	bool has_mode, system_mode;
	bool has_level;
	enum log_level level;
	struct limits limits;
	struct rules rules;
	size_t n_files; /* that were read, drop-ins included */
};

/* Defaults, nothing said. */
void config_init(struct config *config);
void config_deinit(struct config *config);

/* Adds what file (and its drop-ins) say. must_exist: a file that is not there is an error.
 * 0, or -errno with a line for a person in *errors. */
int config_load(struct config *config, const char *file, bool must_exist,
		struct buf *errors) MUST_CHECK;

/* The whole configuration with all its values and their meaning, as a file that can be
 * loaded again. */
int config_dump(const struct config *config, struct buf *out) MUST_CHECK;

#endif
