/* SPDX-License-Identifier: MIT */

#include "user.h"

#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/utf8.h"

enum {
	CACHE_S = 60,	    /* a name is asked again after this */
	LOOKUPS_MAX = 4096, /* cached names; more are forgotten */
	PASSWD_MAX = 65536, /* one entry of the name service */
};

/* ---- asking the name service ---- */

struct name_job {
	struct job job;
	struct users *users;
	bool by_name;
	uid_t uid;
	char *name;
	bool found;
};

/* The name service takes any bytes; a name of ours is text of one line. */
static bool is_text(const char *name)
{
	for (const char *c = name; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			return false;
	return utf8_is_valid(name, strlen(name));
}

static void name_run(struct job *job)
{
	struct name_job *n = CONTAINER_OF(job, struct name_job, job);
	_cleanup_free_ char *space = malloc(PASSWD_MAX);
	struct passwd pw, *result = NULL;
	char *name;

	if (!space)
		return;
	if (n->by_name) {
		n->found = getpwnam_r(n->name, &pw, space, PASSWD_MAX, &result) == 0 &&
			   result;
		n->uid = n->found ? pw.pw_uid : 0;
		return;
	}
	if (getpwuid_r(n->uid, &pw, space, PASSWD_MAX, &result) != 0 || !result ||
	    !is_text(pw.pw_name))
		return;
	name = strdup(pw.pw_name);
	n->found = name != NULL;
	n->name = name;
}

static void wake(struct list *waiters)
{
	struct list woken = LIST_INIT(woken);
	struct user_waiter *waiter;

	list_splice_tail(&woken, waiters);
	while ((waiter = LIST_FIRST(&woken, struct user_waiter, link))) {
		list_remove(&waiter->link);
		waiter->known(waiter);
	}
}

static int submit(struct users *users, uid_t asker, uid_t uid, const char *name,
		  size_t size, void (*done)(struct job *))
{
	struct name_job *n = calloc(1, sizeof(*n));

	if (n && name)
		n->name = strndup(name, size);
	if (!n || (name && !n->name)) {
		free(n);
		return err_origin(-ENOMEM);
	}
	n->job = (struct job){ .uid = asker, .run = name_run, .done = done };
	n->users = users;
	n->by_name = name != NULL;
	n->uid = uid;
	workers_submit(users->workers, &n->job);
	return 0;
}

/* ---- users ---- */

int users_init(struct users *users, struct loop *loop, struct workers *workers)
{
	*users = (struct users){ .loop = loop, .workers = workers };
	map_init(&users->by_uid);
	map_init(&users->lookups);
	return err_trace(hash_key_random(&users->hash_key));
}

static struct user *find_user(const struct users *users, uid_t uid)
{
	struct map_node *node = map_find(&users->by_uid, map_u64(uid));

	return node ? CONTAINER_OF(node, struct user, by_uid) : NULL;
}

static void on_line(struct source *source, uint32_t events)
{
	struct user *user = CONTAINER_OF(source, struct user, line_source);
	struct user_turn *turn = LIST_FIRST(&user->line, struct user_turn, link);

	(void)events;
	if (!turn)
		return;
	list_remove(&turn->link);
	if (user_has_line(user))
		loop_defer(user->users->loop, &user->line_on);
	turn->run(turn);
}

/* Not sooner: a part takes longer than a turn of others, who are asked for once between two. */
static void on_line_on(struct deferred *deferred)
{
	source_again(&CONTAINER_OF(deferred, struct user, line_on)->line_source);
}

void user_line_up(struct user *user, struct user_turn *turn)
{
	list_add_tail(&user->line, &turn->link);
	loop_defer(user->users->loop, &user->line_on);
}

void user_go_on(struct user *user, struct user_turn *turn)
{
	list_add_head(&user->line, &turn->link);
	loop_defer(user->users->loop, &user->line_on);
}

int user_get(struct users *users, uid_t uid, struct user **ret_user)
{
	struct user *user = find_user(users, uid);
	char decimal[16];
	int r;

	if (user) {
		*ret_user = user_ref(user);
		return 0;
	}
	r = map_reserve(&users->by_uid);
	if (r < 0)
		return err_trace(r);
	user = calloc(1, sizeof(*user));
	snprintf(decimal, sizeof(decimal), "%u", uid);
	if (user)
		user->name = strdup(decimal);
	if (!user || !user->name) {
		free(user);
		return err_origin(-ENOMEM);
	}
	user->users = users;
	user->refs = 1;
	user->uid = uid;
	list_init(&user->name_waiters);
	list_init(&user->waiting);
	source_group_init(&user->turns);
	source_init(&user->line_source, users->loop, &user->turns, on_line);
	list_init(&user->line);
	deferred_init(&user->line_on, on_line_on);
	map_add(&users->by_uid, &user->by_uid, map_u64(uid));
	*ret_user = user;
	return 0;
}

struct user *user_unref(struct user *user)
{
	if (user && --user->refs == 0) {
		map_remove(&user->users->by_uid, &user->by_uid);
		source_remove(&user->line_source);
		deferred_cancel(&user->line_on);
		free(user->name);
		free(user);
	}
	return NULL;
}

static void user_name_done(struct job *job)
{
	struct name_job *n = CONTAINER_OF(job, struct name_job, job);
	struct user *user = find_user(n->users, n->uid);

	if (user) {
		if (n->found) {
			free(user->name);
			user->name = TAKE_PTR(n->name);
		}
		user->name_known = true;
		user->name_asked = false;
		wake(&user->name_waiters);
	}
	free(n->name);
	free(n);
}

bool user_name_wait(struct user *user, struct user_waiter *waiter)
{
	uint64_t now = user->users->loop->now_ns;

	if (!user->name_asked &&
	    (!user->name_known ||
	     now - user->name_asked_ns > CACHE_S * (uint64_t)NS_PER_S)) {
		user->name_asked_ns = now;
		user->name_asked = submit(user->users, user->uid, user->uid, NULL, 0,
					  user_name_done) == 0;
		if (!user->name_asked)
			user->name_known = true; /* no memory: it stays decimal for now */
	}
	if (user->name_known)
		return true;
	list_add_tail(&user->name_waiters, &waiter->link);
	return false;
}

void user_charge_waiting(struct user *user, const struct waiting_charge *charge)
{
	user->usage.waiting_bytes += charge->bytes;
	user->usage.live_waiting += charge->live;
}

void user_uncharge_waiting(struct user *user, struct waiting_charge *charge)
{
	user->usage.waiting_bytes -= charge->bytes;
	user->usage.live_waiting -= charge->live;
	*charge = (struct waiting_charge){ 0 };
}

void user_resolve(struct user *user)
{
	struct name_job *n;

	if (user->name_known)
		return;
	n = calloc(1, sizeof(*n));
	if (!n)
		return;
	n->users = user->users;
	n->uid = user->uid;
	user->name_asked_ns = user->users->loop->now_ns;
	name_run(&n->job);
	user_name_done(&n->job);
}

/* ---- from name to uid ---- */

struct lookup {
	struct map_node node;
	bool answered, found, asked;
	uid_t uid, asker; /* asker: on whose behalf last */
	uint64_t asked_ns;
	struct list waiters;
	size_t size;
	char name[];
};

static struct lookup *find_lookup(struct users *users, const char *name, size_t size)
{
	uint64_t hash = hash_bytes(&users->hash_key, name, size);

	for (struct map_node *node = map_find(&users->lookups, hash); node;
	     node = map_next(node)) {
		struct lookup *l = CONTAINER_OF(node, struct lookup, node);

		if (l->size == size && !memcmp(l->name, name, size))
			return l;
	}
	return NULL;
}

static void forget_lookups(struct users *users, bool all)
{
	struct map_node *node = map_first(&users->lookups), *next;

	for (; node; node = next) {
		struct lookup *l = CONTAINER_OF(node, struct lookup, node);

		next = map_after(&users->lookups, node);
		if (l->asked && !all)
			continue;
		map_remove(&users->lookups, node);
		free(l);
		next = map_first(&users->lookups);
		if (!all)
			return; /* one place is enough */
	}
}

static struct lookup *add_lookup(struct users *users, const char *name, size_t size)
{
	struct lookup *l;

	if (users->lookups.n >= LOOKUPS_MAX)
		forget_lookups(users, false);
	if (map_reserve(&users->lookups) < 0)
		return NULL;
	l = calloc(1, sizeof(*l) + size);
	if (!l)
		return NULL;
	list_init(&l->waiters);
	l->size = size;
	memcpy(l->name, name, size);
	map_add(&users->lookups, &l->node, hash_bytes(&users->hash_key, name, size));
	return l;
}

static void lookup_done(struct job *job)
{
	struct name_job *n = CONTAINER_OF(job, struct name_job, job);
	struct lookup *l = find_lookup(n->users, n->name, strlen(n->name));

	if (l && l->asked) { /* else another asker's job was faster */
		l->answered = true;
		l->asked = false;
		l->found = n->found;
		l->uid = n->uid;
		wake(&l->waiters);
	}
	free(n->name);
	free(n);
}

static bool parse_uid(const char *name, size_t size, uid_t *ret_uid)
{
	char text[16];
	uint64_t uid;

	if (!size || size >= sizeof(text))
		return false;
	memcpy(text, name, size);
	text[size] = '\0';
	if (!parse_u64(text, UINT32_MAX - 1, &uid)) /* (uid_t)-1 is nobody, setuid(2) */
		return false;
	*ret_uid = (uid_t)uid;
	return true;
}

/* Who waits has a job of its own uid: it need not wait until it is the turn of another's. */
static bool must_ask(const struct users *users, const struct lookup *l, uid_t asker)
{
	if (l->asked)
		return !l->answered && l->asker != asker;
	return !l->answered ||
	       users->loop->now_ns - l->asked_ns > CACHE_S * (uint64_t)NS_PER_S;
}

int user_lookup(struct users *users, const char *name, size_t size, uid_t asker,
		struct user_waiter *waiter, uid_t *ret_uid)
{
	struct lookup *l;
	int r;

	if (parse_uid(name, size, ret_uid))
		return USER_FOUND;
	l = find_lookup(users, name, size);
	if (!l)
		l = add_lookup(users, name, size);
	if (!l)
		return err_origin(-ENOMEM);
	if (must_ask(users, l, asker)) {
		l->asked_ns = users->loop->now_ns;
		r = submit(users, asker, 0, name, size, lookup_done);
		if (r < 0)
			return err_trace(r);
		l->asked = true;
		l->asker = asker;
	}
	if (!l->answered) {
		list_add_tail(&l->waiters, &waiter->link);
		return USER_WAIT;
	}
	*ret_uid = l->uid;
	return l->found ? USER_FOUND : USER_UNKNOWN;
}

void users_deinit(struct users *users)
{
	forget_lookups(users, true);
	map_deinit(&users->lookups);
	map_deinit(&users->by_uid);
}
