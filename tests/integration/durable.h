/* SPDX-License-Identifier: MIT */
#ifndef INTEGRATION_DURABLE_H
#define INTEGRATION_DURABLE_H

/* For tests of what outlives the daemon: the two ways it can end, and start again. */

#include "integration/harness.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

enum ending { ORDERLY, CRASH, N_ENDINGS };

static inline const char *ending_name(enum ending how)
{
	return how == ORDERLY ? "after an orderly stop" : "after kill -9";
}

static inline void end_by(struct place at, enum ending how)
{
	pid_t pid = server.pid;
	int status;

	if (how == ORDERLY) {
		server_stop(at);
		return;
	}
	kill(pid, SIGKILL);
	status = wait_exit_at(at, pid);
	server.pid = 0;
	if (status != 256 + SIGKILL)
		fail_at(at, "ipcd ended with status %d before it was killed", status);
}

/* With the same options; nothing may be missing or damaged then. */
#define restart(how, ...)     \
	restart_at(HERE, how, \
		   (const char *const[]){ "--log-level", "info", ##__VA_ARGS__, NULL })
static inline void restart_at(struct place at, enum ending how,
			      const char *const *options)
{
	end_by(at, how);
	server_start(at, options);
	if (log_count("is damaged"))
		fail_at(at, "%s: %s", ending_name(how), server_read_log());
}

/* What kill -9 has interrupted is due at once, not only after lost_delay. */
#define AT_ONCE "--limit", "lost_delay=0"

/* All that a look at the queue shows, one line for each message: header and size. */
static inline char *describe_queue(const char *queue)
{
	struct client *c = client_connect();
	char *all = keep_printf("%s", "");
	struct frame *f;

	say(c, "{'op':'receive','id':1,'queue':'%s','max':0,'peek':true}", queue);
	while (!json_has((f = hear_reply(c, 1))->header, "end"))
		all = keep_printf("%s%s %.20s\n", all, f->header, f->body);
	client_close(c);
	return all;
}

/* A queue whose messages end with the daemon. */
static inline void set_durable(struct client *c, const char *queue, bool durable)
{
	say(c, "{'op':'set','id':1,'name':'%s','durable':%s}", queue,
	    durable ? "true" : "false");
	hear_reply(c, 1);
}

static inline void create_volatile(struct client *c, const char *queue)
{
	say(c, "{'op':'create','id':1,'name':'%s','durable':false}", queue);
	hear_reply(c, 1);
}

#endif
