/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_LOG_LIMIT_H
#define DAEMON_LOG_LIMIT_H

/*
 * Log lines that users cause: a few of each uid in a second, then one that tells how many
 * more there were. So nobody can fill the log and push out of it what the daemon says.
 */

#include "base/map.h"
#include "loop.h"

struct log_limit {
	struct loop *loop;
	struct map shares; /* of who caused lines in this second, by uid */
	struct timer end;
};

void log_limit_init(struct log_limit *limit, struct loop *loop);

/* Before the loop's; tells what is left to tell. */
void log_limit_deinit(struct log_limit *limit);

/* May one more line be written that this uid has caused? */
bool log_limit_admits(struct log_limit *limit, uid_t uid);

#endif
