/* SPDX-License-Identifier: MIT */

#include "queue_settings.h"

#include <string.h>

#include "base/err.h"
#include "wire/json.h"

/* ---- writing ---- */

static void put_settings(struct json_writer *w, const struct queue_settings *s)
{
	for (size_t i = 0; i < N_SETTING_NUMBERS; i++) {
		uint64_t value;

		memcpy(&value, (const char *)s + setting_numbers[i].offset,
		       sizeof(value));
		if (s->set & setting_numbers[i].bit)
			json_put_u64(w, setting_numbers[i].key, value);
	}
	if (s->set & SETTING_DURABLE)
		json_put_bool(w, "durable", s->durable);
	if (!(s->set & SETTING_BACKOFF))
		return;
	json_put_array(w, "backoff");
	for (unsigned int i = 0; i < s->n_backoff; i++)
		json_put_u64(w, NULL, s->backoff_ms[i]);
	json_put_end(w);
}

int queue_settings_write(const struct queue *q, struct buf *out)
{
	CLEANUP(json_writer_freep) struct json_writer *w = NULL;
	const struct name *name = &q->name;
	int r = json_writer_new(&w);

	if (r < 0)
		return err_trace(r);
	json_writer_begin(w, out);
	json_put_u64(w, "owner", name->owner->uid);
	json_put_u64(w, "group", name->gid);
	json_put_u64(w, "mode", name->mode);
	json_put_bool(w, "set", name->source == NAME_BY_SET);
	json_put_u64(w, "plain_owner", name->plain_owner);
	json_put_u64(w, "plain_group", name->plain_gid);
	json_put_bool(w, "own", q->has_own_settings);
	put_settings(w, &q->settings);
	return err_trace(json_writer_end(w));
}

/* ---- reading ---- */

static void get_number(const struct json *json, const char *key, uint64_t *value)
{
	uint32_t at = json_member(json, 0, key);
	const struct json_value *v = json_at(json, at);

	if (at && v->type == JSON_INTEGER && v->integer >= 0)
		*value = (uint64_t)v->integer;
}

static void get_bool(const struct json *json, const char *key, bool *value)
{
	uint32_t at = json_member(json, 0, key);
	uint8_t type = at ? json_at(json, at)->type : JSON_NULL;

	if (type == JSON_TRUE || type == JSON_FALSE)
		*value = type == JSON_TRUE;
}

static void get_policy(const struct json *json, struct name_policy *p)
{
	uint64_t owner = p->owner, gid = p->gid, mode = p->mode;
	uint64_t plain_owner = p->plain_owner, plain_gid = p->plain_gid;
	bool set = false;

	get_number(json, "owner", &owner);
	get_number(json, "group", &gid);
	get_number(json, "mode", &mode);
	get_number(json, "plain_owner", &plain_owner);
	get_number(json, "plain_group", &plain_gid);
	get_bool(json, "set", &set);
	p->owner = (uid_t)owner;
	p->gid = (gid_t)gid;
	p->mode = (unsigned int)mode & 0777;
	p->plain_owner = (uid_t)plain_owner;
	p->plain_gid = (gid_t)plain_gid;
	p->source = set ? NAME_BY_SET : NAME_BY_DEFAULT;
}

static void get_settings(const struct json *json, struct queue_settings *s)
{
	uint32_t at = json_member(json, 0, "backoff");

	for (size_t i = 0; i < N_SETTING_NUMBERS; i++) {
		uint64_t value = UINT64_MAX;

		get_number(json, setting_numbers[i].key, &value);
		if (value == UINT64_MAX)
			continue;
		memcpy((char *)s + setting_numbers[i].offset, &value, sizeof(value));
		s->set |= setting_numbers[i].bit;
	}
	if (json_member(json, 0, "durable")) {
		get_bool(json, "durable", &s->durable);
		s->set |= SETTING_DURABLE;
	}
	if (!at || json_at(json, at)->type != JSON_ARRAY)
		return;
	s->n_backoff =
		(unsigned int)min_size(json_at(json, at)->n_members, BACKOFF_STEPS_MAX);
	s->set |= s->n_backoff ? SETTING_BACKOFF : 0;
	at++;
	for (unsigned int i = 0; i < s->n_backoff; i++, at = json_at(json, at)->next)
		s->backoff_ms[i] = (uint64_t)json_at(json, at)->integer;
}

int queue_settings_read(const char *text, size_t size, struct kept_settings *kept)
{
	CLEANUP(json_freep) struct json *json = NULL;
	int r = json_new(&json, size, false);

	if (r == 0)
		r = json_parse(json, text, size);
	if (r < 0)
		return err_trace(r);
	get_policy(json, &kept->policy);
	get_settings(json, &kept->settings);
	get_bool(json, "own", &kept->own);
	return 0;
}
