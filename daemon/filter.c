/* SPDX-License-Identifier: MIT */

#include "filter.h"

#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "queue.h"

/* A member that the message's meta must have. Its texts lie behind the filter. */
struct wanted {
	const char *key; /* NUL-ended */
	const char *text;
	size_t text_size;
	int64_t integer;
	enum json_type type;
};

struct filter {
	size_t size; /* of all of it */
	uint64_t now_ms;
	uint64_t older_ms, newer_ms; /* UINT64_MAX: any age */
	uint64_t uid;		     /* UINT64_MAX: any */
	uint64_t attempt_min, attempt_max;
	uint64_t priority_min, priority_max;
	unsigned int n_wanted;
	struct wanted wanted[];
};

/* What yajl takes for a text, be it as short as it may, and for 32 bytes more. */
enum { COST_PARSE = 4, COST_BYTES = 32 };

static const struct {
	const char *key;
	size_t offset;
	uint64_t max;
} members[] = {
	{ "older_ms", offsetof(struct filter, older_ms), LIMIT_WAIT_MAX },
	{ "newer_ms", offsetof(struct filter, newer_ms), LIMIT_WAIT_MAX },
	{ "uid", offsetof(struct filter, uid), UINT32_MAX - 1 },
	{ "attempt_min", offsetof(struct filter, attempt_min), LIMIT_NUMBER_MAX },
	{ "attempt_max", offsetof(struct filter, attempt_max), LIMIT_NUMBER_MAX },
	{ "priority_min", offsetof(struct filter, priority_min), LIMIT_PRIORITY_MAX },
	{ "priority_max", offsetof(struct filter, priority_max), LIMIT_PRIORITY_MAX },
};

/* ---- reading a request ---- */

static int get_number(const struct json_value *v, size_t i, struct filter *f,
		      struct fault *fault)
{
	uint64_t value;

	if (v->type != JSON_INTEGER)
		return fault_set(fault, FAULT_BAD_REQUEST,
				 "\"%s\" of \"filter\" must be an integer, not %s",
				 members[i].key, json_type_name(v->type));
	if (v->integer < 0 || (uint64_t)v->integer > members[i].max)
		return fault_set(fault, FAULT_BAD_REQUEST,
				 "\"%s\" of \"filter\" must be from 0 to %llu, not %lld",
				 members[i].key, (unsigned long long)members[i].max,
				 (long long)v->integer);
	value = (uint64_t)v->integer;
	memcpy((char *)f + members[i].offset, &value, sizeof(value));
	return 0;
}

static bool is_comparable(enum json_type type)
{
	return type != JSON_NUMBER && type != JSON_OBJECT && type != JSON_ARRAY;
}

/* Copies size bytes to *p with a NUL behind them, and moves *p on. */
static const char *keep_text(char **p, const char *text, size_t size)
{
	char *at = *p;

	memcpy(at, text, size);
	at[size] = '\0';
	*p += size + 1;
	return at;
}

static int get_wanted(const struct json *json, uint32_t at, struct wanted *wanted,
		      char **texts, struct fault *fault)
{
	const struct json_value *key = json_at(json, at), *v = json_at(json, at + 1);

	if (!is_comparable(v->type))
		return fault_set(
			fault, FAULT_BAD_REQUEST,
			"\"%.*s\" in \"meta\" of \"filter\" must be a string, an "
			"integer, true, false or null, not %s",
			(int)min_size(key->size, 100), json_text(json, key),
			json_type_name(v->type));
	*wanted = (struct wanted){ .type = v->type, .integer = v->integer };
	wanted->key = keep_text(texts, json_text(json, key), key->size);
	if (v->type == JSON_STRING) {
		wanted->text = keep_text(texts, json_text(json, v), v->size);
		wanted->text_size = v->size;
	}
	return 0;
}

/* texts: where there is room for all of them. */
static int get_meta(const struct json *json, uint32_t object, struct filter *f,
		    char *texts, struct fault *fault)
{
	uint32_t at = object + 1;
	int r = 0;

	for (uint32_t n = json_at(json, object)->n_members; n && !r; n--) {
		r = get_wanted(json, at, &f->wanted[f->n_wanted++], &texts, fault);
		at = json_at(json, at + 1)->next;
	}
	return r;
}

static int check_meta(const struct json *json, uint32_t at, struct fault *fault)
{
	const struct json_value *v = json_at(json, at);

	if (at && v->type != JSON_OBJECT)
		return fault_set(fault, FAULT_BAD_REQUEST,
				 "\"meta\" of \"filter\" must be an object, not %s",
				 json_type_name(v->type));
	if (at && v->n_members > LIMIT_FILTER_META_MAX)
		return fault_set(fault, FAULT_BAD_REQUEST,
				 "\"meta\" of \"filter\" has %u members, the limit is %d "
				 "(filter_meta_max)",
				 v->n_members, LIMIT_FILTER_META_MAX);
	return 0;
}

/* Room for the members of meta, and for their texts, which lose two quotes each. */
static struct filter *filter_new(const struct json *json, uint32_t meta, char **ret_texts)
{
	size_t n = meta ? json_at(json, meta)->n_members : 0;
	size_t texts_at = sizeof(struct filter) + n * sizeof(struct wanted);
	size_t size = texts_at + (meta ? json_at(json, meta)->size : 0);
	struct filter *f = malloc(size);

	if (!f)
		return NULL;
	*f = (struct filter){
		.size = size,
		.now_ms = clock_ns(CLOCK_REALTIME) / NS_PER_MS,
		.older_ms = UINT64_MAX,
		.newer_ms = UINT64_MAX,
		.uid = UINT64_MAX,
		.attempt_max = UINT64_MAX,
		.priority_max = UINT64_MAX,
	};
	*ret_texts = (char *)f + texts_at;
	return f;
}

static int get_member(const struct json *json, uint32_t at, struct filter *f,
		      struct fault *fault)
{
	const struct json_value *key = json_at(json, at);
	const char *text = json_text(json, key);

	for (size_t i = 0; i < ARRAY_SIZE(members); i++)
		if (strlen(members[i].key) == key->size &&
		    !memcmp(members[i].key, text, key->size))
			return get_number(json_at(json, at + 1), i, f, fault);
	if (key->size == strlen("meta") && !memcmp(text, "meta", key->size))
		return 0;
	return fault_set(fault, FAULT_BAD_REQUEST,
			 "\"filter\" has an unknown member \"%.*s\"; there are older_ms, "
			 "newer_ms, uid, attempt_min, attempt_max, priority_min, "
			 "priority_max and meta",
			 (int)min_size(key->size, 100), text);
}

static int filter_parse(const struct json *json, uint32_t object,
			struct filter **ret_filter, struct fault *fault)
{
	CLEANUP(filter_freep) struct filter *f = NULL;
	uint32_t meta = json_member(json, object, "meta"), at = object + 1;
	char *texts;
	int r = check_meta(json, meta, fault);

	if (r)
		return r;
	f = filter_new(json, meta, &texts);
	if (!f)
		return err_origin(-ENOMEM);
	for (uint32_t n = json_at(json, object)->n_members; n && !r; n--) {
		r = get_member(json, at, f, fault);
		at = json_at(json, at + 1)->next;
	}
	if (!r && meta)
		r = get_meta(json, meta, f, texts, fault);
	if (!r)
		*ret_filter = TAKE_PTR(f);
	return r;
}

int filter_get(const struct header *h, struct filter **ret_filter, struct fault *fault)
{
	const char *text;
	size_t size;
	int r = header_get_object(h, KEY_FILTER, LIMIT_HEADER_MAX, &text, &size, fault);

	*ret_filter = NULL;
	if (r <= 0)
		return r < 0 ? FAULT : 0;
	return filter_parse(h->json, h->at[KEY_FILTER], ret_filter, fault);
}

size_t filter_size(const struct filter *f)
{
	return f ? f->size : 0;
}

struct filter *filter_free(struct filter *filter)
{
	free(filter);
	return NULL;
}

/* ---- messages ---- */

static bool is_equal(const struct json *json, uint32_t at, const struct wanted *wanted)
{
	const struct json_value *v = json_at(json, at);

	if (!at || v->type != wanted->type)
		return false;
	if (v->type == JSON_INTEGER)
		return v->integer == wanted->integer;
	return v->type != JSON_STRING ||
	       (v->size == wanted->text_size &&
		!memcmp(json_text(json, v), wanted->text, v->size));
}

/* What is no JSON object cannot have come in; were it there, it would not match. */
static int parse_meta(const struct message *m, struct json **ret_json)
{
	struct broker *broker = m->share->queue->broker;
	int r = 0;

	if (!broker->meta_parser)
		r = json_new(&broker->meta_parser, LIMIT_META_MAX, false);
	if (r == 0)
		r = json_parse(broker->meta_parser, m->data, m->meta_size);
	if (r < 0)
		return r == -EBADMSG ? 0 : err_trace(r);
	*ret_json = broker->meta_parser;
	return 1;
}

static int meta_matches(const struct filter *f, const struct message *m)
{
	struct json *json = NULL;
	int r = m->meta_size ? parse_meta(m, &json) : 0;

	if (r <= 0)
		return err_trace(r);
	for (unsigned int i = 0; i < f->n_wanted; i++)
		if (!is_equal(json, json_member(json, 0, f->wanted[i].key),
			      &f->wanted[i]))
			return 0;
	return 1;
}

int filter_matches(const struct filter *f, const struct message *m)
{
	uint64_t age_ms;

	if (!f)
		return 1;
	/* the clock may have been set back */
	age_ms = f->now_ms > m->sent_ms ? f->now_ms - m->sent_ms : 0;
	if ((f->older_ms != UINT64_MAX && age_ms <= f->older_ms) ||
	    age_ms >= f->newer_ms ||
	    (f->uid != UINT64_MAX && m->share->user->uid != f->uid) ||
	    m->attempts < f->attempt_min || m->attempts > f->attempt_max ||
	    m->priority < f->priority_min || m->priority > f->priority_max)
		return 0;
	return f->n_wanted ? err_trace(meta_matches(f, m)) : 1;
}

unsigned int filter_cost(const struct filter *f, const struct message *m)
{
	return f && f->n_wanted ? COST_PARSE + m->meta_size / COST_BYTES : 0;
}
