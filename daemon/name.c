/* SPDX-License-Identifier: MIT */

#include "name.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"

/* No process is in it, chown(2). Not the overflow group: in that are all the groups that a
 * container does not map. */
#define NO_GROUP ((gid_t)-1)

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

bool name_is_anybody(const struct broker *broker, uid_t uid)
{
	return uid == broker->overflow_uid && !name_may_all(broker, uid);
}

/* The three bits that count for who, shifted down. */
static unsigned int bits_for(const struct broker *broker, uid_t owner, gid_t gid,
			     unsigned int mode, const struct credentials *who)
{
	if (name_may_all(broker, who->uid))
		return 07;
	/* all users that a container does not map look the same: they own nothing */
	if (who->uid == owner && who->uid != broker->overflow_uid)
		return mode >> 6 & 07;
	/* the groups are asked for only if they make a difference */
	if ((mode >> 3 & 07) != (mode & 07) && gid != broker->overflow_gid &&
	    who->has_group(who, gid))
		return mode >> 3 & 07;
	return mode & 07;
}

bool policy_may(const struct broker *broker, const struct name_policy *policy,
		const struct credentials *who, enum right right)
{
	unsigned int bits =
		bits_for(broker, policy->owner, policy->gid, policy->mode, who);

	return (bits & (unsigned int)right) == (unsigned int)right;
}

bool name_may(const struct name *name, const struct credentials *who, enum right right)
{
	unsigned int bits =
		bits_for(name->broker, name->owner->uid, name->gid, name->mode, who);

	return (bits & (unsigned int)right) == (unsigned int)right;
}

bool name_is_owner(const struct name *name, const struct credentials *who)
{
	return name_may_all(name->broker, who->uid) ||
	       (who->uid == name->owner->uid && who->uid != name->broker->overflow_uid);
}

bool name_is_shown(const struct name *name, const struct credentials *who)
{
	return name_may(name, who, RIGHT_READ) || name_may(name, who, RIGHT_WRITE) ||
	       name_is_owner(name, who);
}

/* Would "@user" and the rest be read as a name of this user? The name service has users
 * "john.doe" and "2001", too. */
static bool reads_back(const char *user, const char *rest)
{
	bool is_number = !user[strspn(user, "0123456789")];

	for (const char *c = user; *c; c++)
		if (!is_name_char(*c))
			return false;
	return !is_number && 1 + strlen(user) + strlen(rest) <= LIMIT_NAME_MAX;
}

/* "@1000.x" as "@ann.x". By the uid in it, not by the owner: they may differ. */
static int append_display(const struct broker *broker, const char *text, struct buf *out)
{
	const char *rest = strchrnul(text, '.');
	struct user *user;
	int r;

	if (text[0] != '@')
		return err_trace(buf_append_string(out, text));
	r = user_get(broker->users, (uid_t)strtoul(text + 1, NULL, 10), &user);
	if (r < 0)
		return err_trace(r);
	r = reads_back(user->name, rest) ? buf_printf(out, "@%s%s", user->name, rest)
					 : buf_append_string(out, text);
	user_unref(user);
	return err_trace(r);
}

/* For error texts: in out, or as it is where memory lacks. */
static const char *display_text(const struct broker *broker, const char *text,
				struct buf *out)
{
	if (append_display(broker, text, out) < 0 || buf_terminate(out) < 0)
		return text;
	return out->data;
}

int name_append_display(const struct name *name, struct buf *out)
{
	return err_trace(append_display(name->broker, name->text, out));
}

int name_ref_append_display(const struct broker *broker, const struct name_ref *ref,
			    struct buf *out)
{
	return err_trace(append_display(broker, ref->text, out));
}

const char *name_source_text(enum name_source source, const char *where)
{
	return source == NAME_BY_SET ? "set for this name"
	       : where		     ? where
				     : "no rule for it";
}

/* What decides is said: mode, owner, and where that comes from. */
static int refuse(const struct broker *broker, const char *text, const struct user *owner,
		  unsigned int mode, const char *where, const struct credentials *who,
		  const char *verb, struct fault *fault)
{
	_cleanup_buf_ struct buf shown = BUF_INIT;

	return fault_set(fault, FAULT_DENIED,
			 "%s may not %s %s (mode %04o, owner %s; %s)", who->user->name,
			 verb, display_text(broker, text, &shown), mode, owner->name,
			 where);
}

int name_check(const struct name *name, const struct credentials *who, enum right right,
	       const char *verb, struct fault *fault)
{
	_cleanup_buf_ struct buf shown = BUF_INIT;

	if (name_may(name, who, right))
		return 0;
	if (!name_is_shown(name, who))
		return fault_set(fault, FAULT_DENIED, "%s may not %s %s", who->user->name,
				 verb, display_text(name->broker, name->text, &shown));
	return refuse(name->broker, name->text, name->owner, name->mode,
		      name_source_text(name->source, name->where), who, verb, fault);
}

int policy_check(const struct broker *broker, const struct name_ref *ref,
		 const struct name_policy *policy, const struct credentials *who,
		 enum right right, const char *verb, struct fault *fault)
{
	struct user *owner;
	int r;

	if (policy_may(broker, policy, who, right))
		return 0;
	r = user_get(broker->users, policy->owner, &owner);
	if (r < 0)
		return err_trace(r);
	r = refuse(broker, ref->text, owner, policy->mode,
		   name_source_text(policy->source,
				    policy->rule ? policy->rule->where : NULL),
		   who, verb, fault);
	user_unref(owner);
	return r;
}

int name_refuse_unknown(const struct broker *broker, const struct name_ref *ref,
			struct fault *fault)
{
	_cleanup_buf_ struct buf shown = BUF_INIT;

	return fault_set(fault, FAULT_NOT_FOUND, "there is no name %s",
			 display_text(broker, ref->text, &shown));
}

/* ---- new names ---- */

static bool is_of_daemon(const struct name_ref *ref)
{
	return !strcmp(ref->text, "ipcd") || !strncmp(ref->text, "ipcd.", 5);
}

static bool is_own(const struct broker *broker, const struct name_ref *ref, uid_t uid)
{
	return ref->of_user && ref->uid == uid && uid != broker->overflow_uid;
}

void policy_follow(struct name_policy *policy, const struct rule *rule)
{
	policy->rule = rule;
	policy->source = rule ? NAME_BY_RULE : NAME_BY_DEFAULT;
	if (rule && rule->has_owner && rule->owner != policy->owner) {
		policy->owner = rule->owner;
		policy->gid = NO_GROUP;
	}
	if (rule && rule->has_group)
		policy->gid = rule->group;
	if (rule && rule->has_mode)
		policy->mode = rule->mode;
}

void name_decide(const struct broker *broker, const struct name_ref *ref,
		 const struct credentials *who, struct name_policy *ret_policy)
{
	const struct rule *rule = rules_find(broker->rules, ref->text);
	struct name_policy p = {
		.owner = ref->of_user ? ref->uid : who->uid,
		.gid = who->gid,
		.mode = broker->system_mode && ref->inbox ? 0622 : 0600,
		.maker = who->uid,
	};

	if (!broker->system_mode)
		p.owner = broker->owner_uid;
	else if (rule && !ref->of_user && !name_may_all(broker, who->uid))
		p.owner =
			broker->owner_uid; /* made by use: it does not become the user's */
	if (p.owner != who->uid)
		p.gid = NO_GROUP; /* the maker's group has no right on what is another's */
	p.plain_owner = p.owner;
	p.plain_gid = p.gid;
	policy_follow(&p, rule);
	*ret_policy = p;
}

int name_check_create(const struct broker *broker, const struct name_ref *ref,
		      const struct name_policy *policy, const struct credentials *who,
		      struct fault *fault)
{
	_cleanup_buf_ struct buf shown = BUF_INIT, own = BUF_INIT;
	char inbox[16];

	if (is_of_daemon(ref))
		return fault_set(fault, FAULT_DENIED,
				 "names under \"ipcd\" are the daemon's");
	if (name_may_all(broker, who->uid))
		return 0;
	if (!broker->system_mode && !policy->rule)
		return fault_set(fault, FAULT_DENIED,
				 "this is the daemon of another user (uid %u)",
				 broker->owner_uid);
	if (!policy->rule && !is_own(broker, ref, who->uid) &&
	    (!ref->inbox || ref->uid == broker->overflow_uid)) {
		snprintf(inbox, sizeof(inbox), "@%u", who->uid);
		return fault_set(
			fault, FAULT_DENIED,
			"%s may not create %s: without a rule only root creates names, "
			"and each user below %s.",
			who->user->name, display_text(broker, ref->text, &shown),
			display_text(broker, inbox, &own));
	}
	if (policy_may(broker, policy, who, RIGHT_READ))
		return 0;
	return err_trace(
		policy_check(broker, ref, policy, who, RIGHT_WRITE, "use", fault));
}

/* ---- life ---- */

/* fault NULL: whatever the maker has already. */
static int charge_maker(struct name *name, uid_t uid, struct fault *fault)
{
	struct broker *broker = name->broker;
	struct user *maker;
	int r = user_get(broker->users, uid, &maker);

	if (r < 0)
		return err_trace(r);
	if (fault && maker->usage.names >= broker->limits->names_per_user && uid != 0) {
		user_unref(maker);
		return fault_set(fault, FAULT_QUOTA,
				 "user %u has made %llu names already (names_per_user)",
				 uid, (unsigned long long)broker->limits->names_per_user);
	}
	maker->usage.names++;
	name->maker = maker;
	return 0;
}

static void uncharge_maker(struct name *name)
{
	if (name->maker)
		name->maker->usage.names--;
	name->maker = user_unref(name->maker);
}

static int set_owner(struct name *name, uid_t uid)
{
	struct user *owner;
	int r = user_get(name->broker->users, uid, &owner);

	if (r < 0)
		return err_trace(r);
	user_unref(name->owner);
	name->owner = owner;
	return 0;
}

int name_apply(struct name *name, const struct name_policy *policy)
{
	char *where = NULL;
	int r;

	if (policy->rule) {
		where = strdup(policy->rule->where);
		if (!where)
			return err_origin(-ENOMEM);
	}
	r = set_owner(name, policy->owner);
	if (r < 0) {
		free(where);
		return err_trace(r);
	}
	free(name->where);
	name->where = where;
	name->gid = policy->gid;
	name->mode = policy->mode;
	name->source = policy->source;
	return 0;
}

int name_init(struct name *name, struct broker *broker, const struct name_ref *ref,
	      const struct name_policy *policy, struct fault *fault)
{
	int r = map_reserve(&broker->names);

	if (r < 0)
		return err_trace(r);
	*name = (struct name){ .broker = broker,
			       .plain_owner = policy->plain_owner,
			       .plain_gid = policy->plain_gid,
			       .size = ref->size };
	name->text = strndup(ref->text, ref->size);
	r = name->text ? charge_maker(name, fault ? policy->maker : policy->owner, fault)
		       : -ENOMEM;
	if (r == 0)
		r = name_apply(name, policy);
	if (r) {
		uncharge_maker(name);
		user_unref(name->owner);
		free(name->text);
		return err_trace(r);
	}
	map_add(&broker->names, &name->node,
		hash_bytes(&broker->name_key, ref->text, ref->size));
	list_add_tail(&broker->all_names, &name->link);
	return 0;
}

void name_deinit(struct name *name)
{
	map_remove(&name->broker->names, &name->node);
	list_remove(&name->link);
	uncharge_maker(name);
	user_unref(name->owner);
	free(name->where);
	free(name->text);
}
