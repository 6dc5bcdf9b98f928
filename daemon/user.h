/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_USER_H
#define DAEMON_USER_H

/*
 * Users, by uid: name, turn in the loop, what is charged to them. A user exists while
 * somebody holds a reference: connections, queues, shares of queues.
 *
 * Names come from the name service, which may block: a worker asks, the answer is cached.
 * user_lookup() is the other direction, for `@ann`.
 */

#include "base/hash.h"
#include "base/map.h"
#include "wire/limits.h"
#include "worker.h"

struct users {
	struct map by_uid, lookups;
	struct loop *loop;
	struct workers *workers;
	struct hash_key hash_key;
};

/* What is counted for a uid. */
struct usage {
	uint64_t connections, names, messages, bytes, dedups;
	uint64_t file_bytes;	 /* bodies in the spool */
	uint64_t live;		 /* descriptors that are passed on as they are */
	uint64_t bodies;	 /* on their way into blobs: each takes descriptors; and
				   descriptors of frames that are not finished */
	uint64_t outgoing;	 /* files and descriptors in its connections' output */
	uint64_t outgoing_bytes; /* bodies of messages there, in memory */
	uint64_t buffer_bytes;	 /* unfinished input, output not yet read */
	uint64_t live_waiting;	 /* those of sends that wait, as waiting_bytes */
	uint64_t held_bytes;	 /* large bodies of messages that are in no queue yet */
	uint64_t waiting_bytes;	 /* sends that wait for room, or behind a copy */
	uint64_t request_bytes;	 /* other requests that are open, and receives
				   that have ended but for their leases */
};

/* What a send that waits for room, or behind a copy, is charged with meanwhile. */
struct waiting_charge {
	uint64_t bytes;
	bool live;
};

/* Long work of a user that is done in parts, one piece of work after the other. A part is done
 * in each pass of the loop, as a turn among those of the user's connections. */
struct user_turn {
	struct list link; /* user->line */
	void (*run)(struct user_turn *turn);
};

struct user {
	struct map_node by_uid;
	struct users *users;
	unsigned int refs;
	uid_t uid;
	bool name_known, name_asked;
	uint64_t name_asked_ns;
	char *name; /* one line of UTF-8; decimal uid until known, or if it is none */
	struct list name_waiters; /* struct user_waiter */
	struct source_group turns;
	struct source line_source; /* among them, once a pass: of the line */
	struct deferred line_on;   /* to the next pass */
	struct list line;	   /* struct user_turn */
	struct usage usage;
	struct list
		waiting; /* struct share, of all queues that it waits for, see queue.h */
	uint64_t n_waiting;	   /* of those */
	uint64_t n_to_admit;	   /* so many of them are still to be looked at */
	struct deferred admit;	   /* linked only while there are such, and so is … */
	struct user_turn admit_on; /* … for the rest of many */
};

void user_charge_waiting(struct user *user, const struct waiting_charge *charge);
void user_uncharge_waiting(struct user *user, struct waiting_charge *charge);

/* Asks the name service here and now, which may block: at start. */
void user_resolve(struct user *user);

static inline void user_turn_init(struct user_turn *turn, void (*run)(struct user_turn *))
{
	*turn = (struct user_turn){ .run = run };
	list_init(&turn->link);
}

/* Runs once, when its turn has come; to no longer wait, list_remove(&turn->link). */
void user_line_up(struct user *user, struct user_turn *turn);

/* At the head of the line: the next part of what has just had its turn or begun. */
void user_go_on(struct user *user, struct user_turn *turn);
static inline bool user_has_line(const struct user *user)
{
	return !list_is_empty(&user->line);
}

/* Told when a user's name is known, or a lookup has ended. */
struct user_waiter {
	struct list link;
	void (*known)(struct user_waiter *waiter);
};

int users_init(struct users *users, struct loop *loop,
	       struct workers *workers) MUST_CHECK;
void users_deinit(struct users *users);

/* A new reference. 0 or -ENOMEM. */
int user_get(struct users *users, uid_t uid, struct user **ret_user) MUST_CHECK;
struct user *user_unref(struct user *user);
static inline struct user *user_ref(struct user *user)
{
	user->refs++;
	return user;
}

/* True: user->name can be used now. Otherwise waiter->known is called later; to no longer
 * wait, list_remove(&waiter->link). */
bool user_name_wait(struct user *user, struct user_waiter *waiter);

enum user_lookup {
	USER_FOUND = 0,
	USER_UNKNOWN = 1,
	USER_WAIT = 2, /* waiter->known will be called; then ask again */
};

/* The uid of a user name (or of a decimal uid, at once). -ENOMEM or an enum user_lookup. */
int user_lookup(struct users *users, const char *name, size_t size, uid_t asker,
		struct user_waiter *waiter, uid_t *ret_uid) MUST_CHECK;

#endif
