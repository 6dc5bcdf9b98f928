/* SPDX-License-Identifier: MIT */

/*
 * create set delete explain: what the owner of a name does with it (purge and move are in
 * op_sweep.c). Users and groups are numbers here: the client asks the name service, not the
 * daemon.
 */

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "journal.h"
#include "op_name.h"
#include "ops.h"

/* ---- what all of them need ---- */

int op_name_get(struct call *call, enum header_key key, struct name_ref *ret_ref)
{
	const char *text;
	size_t size;
	/* one that is too long is told the limit of names, not that of strings */
	int r = header_get_string(call->header, key, 0, LIMIT_HEADER_MAX, &text, &size,
				  call->fault);

	if (r < 0)
		return FAULT;
	if (r == 0)
		return call_missing(call, key);
	return err_trace(call_parse_name(call, text, size, ret_ref));
}

/* A name that who may not see is not found, as one that is not there. */
static int find_name(struct call *call, enum header_key key, struct name **ret_name)
{
	struct name_ref ref;
	struct name *name;
	int r = op_name_get(call, key, &ref);

	if (r)
		return err_trace(r);
	name = name_find(&call->server->broker, &ref);
	if (!name || !name_is_shown(name, &call->peer->who))
		return name_refuse_unknown(&call->server->broker, &ref, call->fault);
	*ret_name = name;
	return 0;
}

int op_name_find_own(struct call *call, struct name **ret_name)
{
	struct name *name = NULL;
	int r = find_name(call, KEY_NAME, &name);

	if (r)
		return err_trace(r);
	if (!name_is_owner(name, &call->peer->who))
		return fault_set(call->fault, FAULT_DENIED,
				 "%s may not %s %s: it belongs to %s",
				 call->peer->user->name, call->op->name, name->text,
				 name->owner->name);
	*ret_name = name;
	return 0;
}

/* ---- owner, group, mode, settings ---- */

static int get_mode(struct call *call, struct name_policy *policy, bool *changed)
{
	unsigned int mode = 0;
	const char *text;
	size_t size;
	int r = header_get_string(call->header, KEY_MODE, 3, 4, &text, &size,
				  call->fault);

	if (r <= 0)
		return r < 0 ? FAULT : 0;
	for (size_t i = 0; i < size; i++) {
		if (text[i] < '0' || text[i] > '7')
			return fault_set(call->fault, FAULT_BAD_REQUEST,
					 "\"mode\" must be octal, as \"0660\"");
		mode = mode << 3 | (unsigned int)(text[i] - '0');
	}
	if (mode > 0777 || mode & 0111)
		return fault_set(call->fault, FAULT_BAD_REQUEST,
				 "\"mode\" %04o: names have r (4) and w (2) only", mode);
	policy->mode = mode;
	*changed = true;
	return 0;
}

/* As chown(2): only who may do all gives away, only to one's own groups otherwise. */
static int get_ids(struct call *call, struct name_policy *policy, bool *changed)
{
	const struct credentials *who = &call->peer->who;
	bool all = name_may_all(&call->server->broker, who->uid);
	uint64_t uid = policy->owner, gid = policy->gid;
	int has_uid = header_get_u64(call->header, KEY_OWNER, 0, UINT32_MAX - 1, &uid,
				     call->fault);
	int has_gid = header_get_u64(call->header, KEY_GROUP, 0, UINT32_MAX - 1, &gid,
				     call->fault);

	if (has_uid < 0 || has_gid < 0)
		return FAULT;
	if (!all && uid != policy->owner)
		return fault_set(call->fault, FAULT_DENIED,
				 "only root may give a name away");
	if (!all && gid != policy->gid && !who->has_group(who, (gid_t)gid))
		return fault_set(call->fault, FAULT_DENIED, "%s is not in group %llu",
				 who->user->name, (unsigned long long)gid);
	*changed |= has_uid || has_gid;
	policy->owner = (uid_t)uid;
	policy->gid = (gid_t)gid;
	return 0;
}

static int get_backoff(struct call *call, struct queue_settings *s)
{
	const struct json *json = call->header->json;
	uint32_t at, n;
	int r = header_get_array(call->header, KEY_BACKOFF, BACKOFF_STEPS_MAX, &at, &n,
				 call->fault);

	if (r <= 0)
		return r < 0 ? FAULT : 0;
	for (uint32_t i = 0; i < n; i++, at = json_at(json, at)->next) {
		const struct json_value *v = json_at(json, at);

		if (v->type != JSON_INTEGER || v->integer < 0 ||
		    v->integer > (int64_t)LIMIT_WAIT_MAX)
			return fault_set(call->fault, FAULT_BAD_REQUEST,
					 "\"backoff\" must have times in ms, 0 to %lld",
					 (long long)LIMIT_WAIT_MAX);
		s->backoff_ms[i] = (uint64_t)v->integer;
	}
	s->n_backoff = n;
	s->set |= SETTING_BACKOFF;
	return 0;
}

static int get_setting(struct call *call, enum header_key key, enum queue_setting bit,
		       uint64_t *value, struct queue_settings *s)
{
	const struct limit_info *info = limits_find(header_key_name(key));
	int r = header_get_u64(call->header, key, info->min, info->max, value,
			       call->fault);

	if (r < 0)
		return FAULT;
	if (r == 1)
		s->set |= bit;
	return 0;
}

static int get_durable(struct call *call, struct queue_settings *s)
{
	int r = header_get_bool(call->header, KEY_DURABLE, &s->durable, call->fault);

	if (r < 0)
		return FAULT;
	if (r && s->durable && !call->server->broker.store)
		return fault_set(call->fault, FAULT_BAD_REQUEST,
				 "\"durable\": this ipcd keeps nothing on disk (it runs "
				 "with --volatile)");
	s->set |= r ? SETTING_DURABLE : 0;
	return 0;
}

/* *own becomes true if there is any. */
static int get_settings(struct call *call, struct queue_settings *s, bool *own)
{
	unsigned int before = s->set;
	int r;

	s->set = 0;
	r = get_setting(call, KEY_QUEUE_MESSAGES, SETTING_MAX_MESSAGES, &s->max_messages,
			s);

	if (r == 0)
		r = get_setting(call, KEY_QUEUE_BYTES, SETTING_MAX_BYTES, &s->max_bytes,
				s);
	if (r == 0)
		r = get_setting(call, KEY_QUEUE_FILE_BYTES, SETTING_MAX_FILE_BYTES,
				&s->max_file_bytes, s);
	if (r == 0)
		r = get_setting(call, KEY_MAX_ATTEMPTS, SETTING_MAX_ATTEMPTS,
				&s->max_attempts, s);
	if (r == 0)
		r = get_setting(call, KEY_LOST_DELAY, SETTING_LOST_DELAY,
				&s->lost_delay_ms, s);
	if (r == 0)
		r = get_backoff(call, s);
	if (r == 0)
		r = get_durable(call, s);
	*own |= s->set != 0;
	s->set |= before;
	return r;
}

/* ---- create, set ---- */

/* Who makes a name for somebody else, as an inbox, gets it as the rules say. */
static int check_choice(struct call *call, const struct name_ref *ref,
			const struct name_policy *policy)
{
	const struct credentials *who = &call->peer->who;
	const struct broker *broker = &call->server->broker;

	if (name_may_all(broker, who->uid) ||
	    (policy->owner == who->uid && who->uid != broker->overflow_uid))
		return 0;
	return fault_set(
		call->fault, FAULT_DENIED,
		"%s may not choose group, mode and settings of %s: it will belong "
		"to user %u",
		who->user->name, ref->text, policy->owner);
}

int op_create(struct call *call)
{
	struct broker *broker = &call->server->broker;
	struct name_policy policy;
	struct queue_settings settings;
	struct name_ref ref;
	struct queue *queue;
	bool changed = false, own_settings = false;
	int r = op_name_get(call, KEY_NAME, &ref);

	if (r)
		return err_trace(r);
	name_decide(broker, &ref, &call->peer->who, &policy);
	r = name_check_create(broker, &ref, &policy, &call->peer->who, call->fault);
	if (r)
		return r;
	if (name_find(broker, &ref))
		return fault_set(call->fault, FAULT_EXISTS, "%s exists already",
				 ref.text);
	settings = policy.rule ? policy.rule->settings : (struct queue_settings){ 0 };
	r = get_mode(call, &policy, &changed);
	if (r == 0)
		r = get_ids(call, &policy, &changed);
	if (r == 0)
		r = get_settings(call, &settings, &own_settings);
	if (r == 0 && (changed || own_settings))
		r = check_choice(call, &ref, &policy);
	if (r)
		return r;
	if (changed)
		policy.source = NAME_BY_SET;
	r = queue_new(broker, &ref, &policy, &queue, call->fault);
	if (r)
		return err_trace(r);
	queue->settings = settings;
	queue->has_own_settings = own_settings;
	journal_name(queue);
	return call_done(call);
}

int op_set(struct call *call)
{
	struct name_policy policy;
	struct queue_settings settings;
	struct queue *queue;
	struct name *name;
	bool changed = false, own_settings;
	int r = op_name_find_own(call, &name);

	if (r)
		return err_trace(r);
	queue = queue_of_name(name);
	own_settings = queue->has_own_settings;
	settings = queue->settings;
	policy = (struct name_policy){ .owner = name->owner->uid,
				       .gid = name->gid,
				       .mode = name->mode,
				       .source = NAME_BY_SET };
	r = get_mode(call, &policy, &changed);
	if (r == 0)
		r = get_ids(call, &policy, &changed);
	if (r == 0)
		r = get_settings(call, &settings, &own_settings);
	if (r == 0 && changed)
		r = name_apply(name, &policy);
	if (r)
		return err_trace(r);
	queue->settings = settings;
	queue->has_own_settings = own_settings;
	journal_name(queue);
	if (changed)
		queue_recheck(queue);
	loop_defer(&call->server->loop, &queue->work); /* there may be more room now */
	return call_done(call);
}

/* ---- delete ---- */

int op_delete(struct call *call)
{
	struct name *name;
	int r = op_name_find_own(call, &name);

	if (r)
		return err_trace(r);
	queue_delete(queue_of_name(name));
	return call_done(call);
}

/* ---- explain ---- */

/* Who is asked about: oneself, or for who may do all anybody, with the groups given. */
struct subject {
	struct credentials who;
	const struct call *call;
	uint32_t at, n_gids;
	struct credentials *self;
};

static bool subject_has_group(const struct credentials *who, gid_t gid)
{
	const struct subject *s =
		CONTAINER_OF((struct credentials *)(uintptr_t)who, struct subject, who);
	const struct json *json = s->call->header->json;
	uint32_t at = s->at;

	if (s->self)
		return s->self->has_group(s->self, gid);
	for (uint32_t i = 0; i < s->n_gids; i++, at = json_at(json, at)->next)
		if (json_at(json, at)->type == JSON_INTEGER &&
		    json_at(json, at)->integer == gid)
			return true;
	return false;
}

static int get_subject(struct call *call, struct subject *s)
{
	struct peer *peer = call->peer;
	uint64_t uid = peer->who.uid;
	int r = header_get_u64(call->header, KEY_UID, 0, UINT32_MAX - 1, &uid,
			       call->fault);

	*s = (struct subject){ .call = call };
	if (r < 0 || header_get_array(call->header, KEY_GIDS, LIMIT_HEADER_MAX, &s->at,
				      &s->n_gids, call->fault) < 0)
		return FAULT;
	if (uid != peer->who.uid && !name_may_all(&call->server->broker, peer->who.uid))
		return fault_set(call->fault, FAULT_DENIED,
				 "only root may ask about other users than oneself");
	s->who = (struct credentials){ (uid_t)uid, (gid_t)-1, NULL, subject_has_group };
	if (uid == peer->who.uid && !s->n_gids) {
		s->self = &peer->who;
		s->who.gid = peer->who.gid;
	}
	return 0;
}

struct explanation {
	bool exists, create;
	const struct name_policy *policy; /* NULL: it is none of the asker's business */
	const char *where;
};

static void put_policy(struct json_writer *w, const struct explanation *e)
{
	char mode[8];

	snprintf(mode, sizeof(mode), "%04o", e->policy->mode);
	json_put_u64(w, "owner_uid", e->policy->owner);
	json_put_u64(w, "group", e->policy->gid);
	json_put_text(w, "mode", mode);
	json_put_text(w, "rule", name_source_text(e->policy->source, e->where));
}

static int put_explanation(const struct subject *s, const struct name_ref *ref,
			   const struct explanation *e, struct buf *out)
{
	const struct broker *broker = &s->call->server->broker;
	struct json_writer *w = s->call->server->writer;
	bool usable = e->policy && (e->exists || e->create);
	_cleanup_buf_ struct buf shown = BUF_INIT;
	int r = name_ref_append_display(broker, ref, &shown);

	if (r < 0)
		return err_trace(r);
	json_writer_begin(w, out);
	json_put_string(w, "name", shown.data, shown.size);
	json_put_bool(w, "exists", e->exists);
	json_put_u64(w, "uid", s->who.uid);
	json_put_bool(w, "read",
		      usable && policy_may(broker, e->policy, &s->who, RIGHT_READ));
	json_put_bool(w, "write",
		      usable && policy_may(broker, e->policy, &s->who, RIGHT_WRITE));
	json_put_bool(w, "create", e->create);
	if (e->policy)
		put_policy(w, e);
	r = json_writer_end(w);
	return err_trace(r < 0 ? r : buf_append(out, "\n", 1));
}

/* Oneself, whatever groups one has said. */
static bool may_make(const struct call *call, const struct name_ref *ref)
{
	const struct broker *broker = &call->server->broker;
	const struct credentials *who = &call->peer->who;
	struct name_policy policy;

	name_decide(broker, ref, who, &policy);
	return name_check_create(broker, ref, &policy, who, call->fault) == 0;
}

/* One that is not shown is explained as if it were not there. Only to who could make it that
 * would be a lie: that one is told that it is there, and no more. */
static void explain(const struct subject *s, const struct name_ref *ref,
		    struct name_policy *policy, struct explanation *ret_explanation)
{
	const struct call *call = s->call;
	const struct broker *broker = &call->server->broker;
	const struct name *name = name_find(broker, ref);
	struct explanation e = { .policy = policy };

	name_decide(broker, ref, &s->who, policy);
	e.create = name_check_create(broker, ref, policy, &s->who, call->fault) == 0;
	e.where = policy->rule ? policy->rule->where : NULL;
	if (name && name_is_shown(name, &call->peer->who)) {
		*policy = (struct name_policy){ .owner = name->owner->uid,
						.gid = name->gid,
						.mode = name->mode,
						.source = name->source };
		e = (struct explanation){ true, false, policy, name->where };
	} else if (name && may_make(call, ref)) {
		e = (struct explanation){ .exists = true };
	}
	*ret_explanation = e;
}

int op_explain(struct call *call)
{
	_cleanup_buf_ struct buf out = BUF_INIT;
	struct explanation e;
	struct name_policy policy;
	struct name_ref ref;
	struct subject s;
	int r = op_name_get(call, KEY_NAME, &ref);

	if (r == 0)
		r = get_subject(call, &s);
	if (r)
		return err_trace(r);
	s.who.user = call->peer->user;
	explain(&s, &ref, &policy, &e);
	r = put_explanation(&s, &ref, &e, &out);
	return r < 0 ? err_trace(r) : call_reply_body(call, &out);
}
