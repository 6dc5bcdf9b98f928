/* SPDX-License-Identifier: MIT */

#include "wire/header.h"

#include <string.h>

#include "base/err.h"

static const struct {
	const char *text;
	size_t size;
} keys[] = {
#define X(name, key) { key, sizeof(key) - 1 },
	HEADER_KEYS(X)
#undef X
};

/* A perfect hash would be faster still, but must be made again for each new key. This one
 * keeps the chains at two or three. */
enum { SLOTS = 128 };
static int8_t slots[SLOTS], chain[KEY_N];

static unsigned int slot_of(const char *text, size_t size)
{
	unsigned char first = (unsigned char)text[0],
		      last = (unsigned char)text[size - 1],
		      middle = (unsigned char)text[size / 2];

	return (first * 7u + middle * 31u + last * 3u + (unsigned int)size) % SLOTS;
}

__attribute__((constructor)) static void fill_slots(void)
{
	memset(slots, -1, sizeof(slots));
	for (int i = 0; i < KEY_N; i++) {
		int8_t *slot = &slots[slot_of(keys[i].text, keys[i].size)];

		chain[i] = *slot;
		*slot = (int8_t)i;
	}
}

static int find_key(const char *text, size_t size)
{
	if (!size)
		return -1;
	for (int i = slots[slot_of(text, size)]; i >= 0; i = chain[i])
		if (keys[i].size == size && !memcmp(keys[i].text, text, size))
			return i;
	return -1;
}

const char *header_key_name(enum header_key key)
{
	return keys[key].text;
}

int header_parse(struct header *h, struct json *json, const char *text, size_t size)
{
	int r = json_parse(json, text, size);
	uint32_t n, at = 1;

	if (r < 0)
		return err_trace(r);
	memset(h->at, 0, sizeof(h->at));
	h->json = json;
	n = json_at(json, 0)->n_members;
	for (uint32_t i = 0; i < n; i++) {
		const struct json_value *v = json_at(json, at);
		int key = find_key(json_text(json, v), v->size);

		if (key >= 0)
			h->at[key] = at + 1;
		at = json_at(json, at + 1)->next;
	}
	return 0;
}

static int refuse_type(const struct json_value *v, enum header_key key,
		       const char *wanted, struct fault *fault)
{
	fault_set(fault, FAULT_BAD_REQUEST, "\"%s\" must be %s, not %s", keys[key].text,
		  wanted, json_type_name(v->type));
	return -EINVAL;
}

static int refuse_range(enum header_key key, int64_t value, uint64_t min, uint64_t max,
			struct fault *fault)
{
	fault_set(fault, FAULT_BAD_REQUEST, "\"%s\" must be from %llu to %llu, not %lld",
		  keys[key].text, (unsigned long long)min, (unsigned long long)max,
		  (long long)value);
	return -EINVAL;
}

static int refuse_size(enum header_key key, size_t size, size_t min, size_t max,
		       const char *unit, struct fault *fault)
{
	fault_set(fault, FAULT_BAD_REQUEST, "\"%s\" must have %zu to %zu %s, not %zu",
		  keys[key].text, min, max, unit, size);
	return -EINVAL;
}

int header_get_u64(const struct header *h, enum header_key key, uint64_t min,
		   uint64_t max, uint64_t *ret_value, struct fault *fault)
{
	const struct json_value *v;

	if (!h->at[key])
		return 0;
	v = json_at(h->json, h->at[key]);
	if (v->type != JSON_INTEGER)
		return refuse_type(v, key, "an integer", fault);
	if (v->integer < 0 || (uint64_t)v->integer < min || (uint64_t)v->integer > max)
		return refuse_range(key, v->integer, min, max, fault);
	*ret_value = (uint64_t)v->integer;
	return 1;
}

int header_get_ms(const struct header *h, enum header_key key, bool allow_forever,
		  uint64_t *ret_ms, struct fault *fault)
{
	if (allow_forever && h->at[key]) {
		const struct json_value *v = json_at(h->json, h->at[key]);

		if (v->type == JSON_INTEGER && v->integer == -1) {
			*ret_ms = UINT64_MAX;
			return 1;
		}
	}
	return header_get_u64(h, key, 0, LIMIT_WAIT_MAX, ret_ms, fault);
}

int header_get_bool(const struct header *h, enum header_key key, bool *ret_value,
		    struct fault *fault)
{
	const struct json_value *v;

	if (!h->at[key])
		return 0;
	v = json_at(h->json, h->at[key]);
	if (v->type != JSON_TRUE && v->type != JSON_FALSE)
		return refuse_type(v, key, "true or false", fault);
	*ret_value = v->type == JSON_TRUE;
	return 1;
}

int header_get_string(const struct header *h, enum header_key key, size_t min, size_t max,
		      const char **ret_text, size_t *ret_size, struct fault *fault)
{
	const struct json_value *v;

	if (!h->at[key])
		return 0;
	v = json_at(h->json, h->at[key]);
	if (v->type != JSON_STRING)
		return refuse_type(v, key, "a string", fault);
	if (v->size < min || v->size > max)
		return refuse_size(key, v->size, min, max, "bytes", fault);
	*ret_text = json_text(h->json, v);
	*ret_size = v->size;
	return 1;
}

int header_get_object(const struct header *h, enum header_key key, size_t max,
		      const char **ret_text, size_t *ret_size, struct fault *fault)
{
	const struct json_value *v;

	if (!h->at[key])
		return 0;
	v = json_at(h->json, h->at[key]);
	if (v->type != JSON_OBJECT)
		return refuse_type(v, key, "an object", fault);
	if (v->size > max)
		return refuse_size(key, v->size, 2, max, "bytes", fault);
	*ret_text = json_text(h->json, v);
	*ret_size = v->size;
	return 1;
}

int header_get_array(const struct header *h, enum header_key key, size_t max,
		     uint32_t *ret_index, uint32_t *ret_n, struct fault *fault)
{
	const struct json_value *v;

	if (!h->at[key])
		return 0;
	v = json_at(h->json, h->at[key]);
	if (v->type != JSON_ARRAY)
		return refuse_type(v, key, "an array", fault);
	if (v->n_members < 1 || v->n_members > max)
		return refuse_size(key, v->n_members, 1, max, "elements", fault);
	*ret_index = h->at[key] + 1;
	*ret_n = v->n_members;
	return 1;
}
