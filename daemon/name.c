/* SPDX-License-Identifier: MIT */

#include "name.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"

static bool is_name_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c >= '0' && c <= '9') || c == '_' || c == '-';
}

/* Non-empty tokens joined by dots. */
static bool is_dotted(const char *text, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		bool at_start = i == 0 || text[i - 1] == '.';
		bool at_end = i + 1 == size || text[i + 1] == '.';

		if (text[i] == '.' ? (at_start || at_end) : !is_name_char(text[i]))
			return false;
	}
	return size > 0;
}

static int bad_name(struct fault *fault, const char *text, size_t size)
{
	return fault_set(
		fault, FAULT_BAD_NAME,
		"a name has 1 to %d bytes of A-Z a-z 0-9 _ - in tokens joined by single "
		"dots, or is @USER or @USER.NAME, unlike \"%.*s\"",
		LIMIT_NAME_MAX, (int)min_size(size, LIMIT_NAME_MAX), text);
}

static int parse_user_name(struct broker *broker, const char *text, size_t size,
			   uid_t asker, struct user_waiter *waiter, struct name_ref *ref,
			   struct fault *fault)
{
	const char *dot = memchr(text, '.', size);
	size_t user_size = dot ? (size_t)(dot - text) : size;
	int n, r = user_lookup(broker->users, text + 1, user_size - 1, asker, waiter,
			       &ref->uid);

	if (r < 0 || r == USER_WAIT)
		return err_trace(r);
	if (r == USER_UNKNOWN)
		return fault_set(fault, FAULT_NOT_FOUND, "there is no user \"%.*s\"",
				 (int)user_size - 1, text + 1);
	ref->of_user = true;
	ref->inbox = !dot;
	n = snprintf(ref->text, sizeof(ref->text), "@%u%.*s", ref->uid,
		     (int)(size - user_size), text + user_size);
	ref->size = (size_t)n;
	return 0;
}

int name_parse(struct broker *broker, const char *text, size_t size, uid_t asker,
	       struct user_waiter *waiter, struct name_ref *ret_ref, struct fault *fault)
{
	bool of_user = size && text[0] == '@';

	if (size > LIMIT_NAME_MAX || !is_dotted(text + of_user, size - of_user))
		return bad_name(fault, text, size);
	*ret_ref = (struct name_ref){ .size = size };
	if (of_user)
		return parse_user_name(broker, text, size, asker, waiter, ret_ref, fault);
	memcpy(ret_ref->text, text, size);
	return 0;
}

struct name *name_find(const struct broker *broker, const struct name_ref *ref)
{
	uint64_t hash = hash_bytes(&broker->name_key, ref->text, ref->size);

	for (struct map_node *node = map_find(&broker->names, hash); node;
	     node = map_next(node)) {
		struct name *name = CONTAINER_OF(node, struct name, node);

		if (name->size == ref->size && !memcmp(name->text, ref->text, ref->size))
			return name;
	}
	return NULL;
}

/* ---- rights ---- */

bool name_may_all(const struct broker *broker, uid_t uid)
{
	return uid == 0 || uid == broker->owner_uid;
}

bool name_may(const struct name *name, const struct credentials *who, enum right right)
{
	unsigned int bits = (unsigned int)right;

	if (name_may_all(name->broker, who->uid))
		return true;
	/* all users that a container does not map look the same: they own nothing */
	if (who->uid == name->owner->uid && who->uid != name->broker->overflow_uid)
		return (name->mode >> 6 & bits) == bits;
	if ((name->mode >> 3 & bits) != (name->mode & bits) &&
	    who->has_group(who, name->gid))
		return (name->mode >> 3 & bits) == bits;
	return (name->mode & bits) == bits;
}

int name_check(const struct name *name, const struct credentials *who, enum right right,
	       const char *verb, struct fault *fault)
{
	if (name_may(name, who, right))
		return 0;
	return fault_set(fault, FAULT_DENIED, "%s may not %s %s (mode %04o, owner %s)",
			 who->user->name, verb, name->text, name->mode,
			 name->owner->name);
}

static bool is_of_daemon(const struct name_ref *ref)
{
	return !strcmp(ref->text, "ipcd") || !strncmp(ref->text, "ipcd.", 5);
}

/* Owner and mode of a new name; closed where nothing opens it. */
static int decide_new(const struct broker *broker, const struct name_ref *ref,
		      const struct credentials *who, uid_t *ret_owner,
		      unsigned int *ret_mode, struct fault *fault)
{
	bool all = name_may_all(broker, who->uid);
	bool own = ref->of_user && ref->uid == who->uid &&
		   who->uid != broker->overflow_uid;

	if (is_of_daemon(ref))
		return fault_set(fault, FAULT_DENIED,
				 "names under \"ipcd\" are the daemon's");
	if (!broker->system_mode) {
		if (!all)
			return fault_set(fault, FAULT_DENIED,
					 "this is the daemon of another user (uid %u)",
					 broker->owner_uid);
		*ret_owner = broker->owner_uid;
		*ret_mode = 0600;
		return 0;
	}
	if (ref->inbox && ref->uid != broker->overflow_uid) {
		*ret_owner = ref->uid;
		*ret_mode = 0622;
		return 0;
	}
	if (!all && !own)
		return fault_set(
			fault, FAULT_DENIED,
			"%s may not create %s: without a rule only root creates names, "
			"and each user below @%s.",
			who->user->name, ref->text, who->user->name);
	*ret_owner = ref->of_user ? ref->uid : who->uid;
	*ret_mode = 0600;
	return 0;
}

/* ---- life ---- */

int name_init(struct name *name, struct broker *broker, const struct name_ref *ref,
	      const struct credentials *who, struct fault *fault)
{
	struct user *owner;
	uid_t uid = 0;
	int r;

	*name = (struct name){ .broker = broker, .gid = who->gid };
	r = decide_new(broker, ref, who, &uid, &name->mode, fault);
	if (r)
		return r;
	r = map_reserve(&broker->names);
	if (r == 0)
		r = user_get(broker->users, uid, &owner);
	if (r < 0)
		return err_trace(r);
	if (owner->usage.names >= broker->limits->names_per_user && uid != 0) {
		user_unref(owner);
		return fault_set(fault, FAULT_QUOTA,
				 "user %u owns %llu names already (names_per_user)", uid,
				 (unsigned long long)broker->limits->names_per_user);
	}
	name->text = strndup(ref->text, ref->size);
	if (!name->text) {
		user_unref(owner);
		return err_origin(-ENOMEM);
	}
	owner->usage.names++;
	name->owner = owner;
	name->size = ref->size;
	map_add(&broker->names, &name->node,
		hash_bytes(&broker->name_key, ref->text, ref->size));
	list_add_tail(&broker->all_names, &name->link);
	return 0;
}

void name_deinit(struct name *name)
{
	map_remove(&name->broker->names, &name->node);
	list_remove(&name->link);
	name->owner->usage.names--;
	user_unref(name->owner);
	free(name->text);
}

int name_append_display(const struct name *name, struct buf *out)
{
	const char *dot;
	int r;

	if (name->text[0] != '@')
		return err_trace(buf_append(out, name->text, name->size));
	dot = strchr(name->text, '.');
	r = buf_printf(out, "@%s", name->owner->name);
	return err_trace(r < 0 || !dot ? r : buf_append_string(out, dot));
}
