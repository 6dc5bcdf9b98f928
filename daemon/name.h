/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_NAME_H
#define DAEMON_NAME_H

/*
 * Names and who may use them. A name is 1..LIMIT_NAME_MAX bytes of A-Z a-z 0-9 _ - in
 * non-empty tokens joined by dots; "@ann" and "@ann.x" belong to user ann and are kept by
 * uid ("@1000.x"), so that they follow the uid and not the text. Each has owner, group and
 * mode like a file: r to receive and peek, w to send.
 */

#include "base/buf.h"
#include "broker.h"
#include "rules.h"
#include "wire/fault.h"

enum { NAME_CANONICAL_MAX = LIMIT_NAME_MAX + 16 };

enum right {
	RIGHT_NONE = 0,
	RIGHT_WRITE = 2,
	RIGHT_READ = 4,
};

/* Where owner, group and mode of a name come from. */
enum name_source {
	NAME_BY_DEFAULT, /* no rule is for it */
	NAME_BY_RULE,
	NAME_BY_SET, /* said for this name: no rule changes it any more */
};

/* What a name has, or would have. */
struct name_policy {
	uid_t owner;
	gid_t gid;
	unsigned int mode; /* 0..0777 */
	enum name_source source;
	const struct rule *rule; /* NAME_BY_RULE; valid until the next reload */
	uid_t plain_owner;	 /* what it would have where no rule says it */
	gid_t plain_gid;
	uid_t maker; /* for whom it counts, whoever owns it */
};

struct name {
	struct map_node node;
	struct list link; /* in broker->all_names */
	struct broker *broker;
	struct user *owner;
	struct user *maker; /* after a restart the owner */
	gid_t gid;
	unsigned int mode; /* 0..0777 */
	enum name_source source;
	uid_t plain_owner; /* see name_policy: a later rule starts from these */
	gid_t plain_gid;
	char *where; /* the rule's file and line, NULL without */
	size_t size;
	char *text; /* canonical, NUL-ended */
};

/* Who asks. groups are asked for only when they decide. */
struct credentials {
	uid_t uid;
	gid_t gid;
	struct user *user;
	bool (*has_group)(const struct credentials *who, gid_t gid);
};

/* A name as it was written, checked and made canonical. */
struct name_ref {
	char text[NAME_CANONICAL_MAX + 1];
	size_t size;
	bool of_user; /* begins with @ */
	bool inbox;   /* nothing behind the user */
	uid_t uid;    /* of_user: whose */
};

/* 0; FAULT; USER_WAIT (waiter is called, then ask again); -ENOMEM. */
int name_parse(struct broker *broker, const char *text, size_t size, uid_t asker,
	       struct user_waiter *waiter, struct name_ref *ret_ref,
	       struct fault *fault) MUST_CHECK;

struct name *name_find(const struct broker *broker, const struct name_ref *ref);

/* What a name that does not exist would get if who made it. */
void name_decide(const struct broker *broker, const struct name_ref *ref,
		 const struct credentials *who, struct name_policy *ret_policy);

/* Takes what the rule (or NULL) says over what is there. */
void policy_follow(struct name_policy *policy, const struct rule *rule);

/* 0, or FAULT with the reason. */
int name_check_create(const struct broker *broker, const struct name_ref *ref,
		      const struct name_policy *policy, const struct credentials *who,
		      struct fault *fault) MUST_CHECK;

/* Registers a new name, charged to its owner. 0; FAULT: the owner has too many; -ENOMEM. */
int name_init(struct name *name, struct broker *broker, const struct name_ref *ref,
	      const struct name_policy *policy, struct fault *fault) MUST_CHECK;

/* Gives it another policy; the charge goes to the new owner. 0 or -ENOMEM. */
int name_apply(struct name *name, const struct name_policy *policy) MUST_CHECK;
void name_deinit(struct name *name);

/* For people: "@ann.x" instead of "@1000.x", where ann's name can stand in a name. It needs
 * no escaping. 0 or -ENOMEM. */
int name_append_display(const struct name *name, struct buf *out) MUST_CHECK;
int name_ref_append_display(const struct broker *broker, const struct name_ref *ref,
			    struct buf *out) MUST_CHECK;

bool name_may(const struct name *name, const struct credentials *who, enum right right);
bool policy_may(const struct broker *broker, const struct name_policy *policy,
		const struct credentials *who, enum right right);
bool name_is_owner(const struct name *name, const struct credentials *who);

/* Of others one is not told that they are there. */
bool name_is_shown(const struct name *name, const struct credentials *who);

bool name_may_all(const struct broker *broker, uid_t uid);

/* Whom nobody can tell from others, for a container does not map them, user_namespaces(7)? They
 * own nothing and share nothing. */
bool name_is_anybody(const struct broker *broker, uid_t uid);

/* What gave a name its mode; where: that of its rule, NULL if there is none. */
const char *name_source_text(enum name_source source, const char *where);

/* 0 or FAULT with a sentence that tells mode, owner and rule, if the name is shown to who. */
int name_check(const struct name *name, const struct credentials *who, enum right right,
	       const char *verb, struct fault *fault) MUST_CHECK;

/* The same for a name that is not there and would get this policy; also -ENOMEM. */
int policy_check(const struct broker *broker, const struct name_ref *ref,
		 const struct name_policy *policy, const struct credentials *who,
		 enum right right, const char *verb, struct fault *fault) MUST_CHECK;

/* It is not there, or not to be seen. Returns FAULT. */
int name_refuse_unknown(const struct broker *broker, const struct name_ref *ref,
			struct fault *fault);

#endif
