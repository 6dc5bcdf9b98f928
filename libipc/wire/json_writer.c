/* SPDX-License-Identifier: MIT */

/* The writing half of json.h, on yajl_gen. A writer that is used wrongly (a member without
 * key, an end too many) is a bug of ours: asserted, not reported. */

#include "wire/json.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <yajl/yajl_gen.h>

#include "base/err.h"
#include "wire/json_arena.h"

enum { WRITER_ARENA = 4096 };

struct json_writer {
	yajl_gen yajl;
	struct arena arena;
	struct buf *out;
	int failure; /* -ENOMEM of out, once it happened */
	unsigned int depth;
	uint64_t arrays; /* bit d: depth d is an array */
};

static void expect(yajl_gen_status status)
{
	(void)status;
	assert(status == yajl_gen_status_ok);
}

static void on_print(void *ctx, const char *text, size_t size)
{
	struct json_writer *w = ctx;
	struct buf *out = w->out;

	/* yajl prints each quote and comma by itself, so this is where writing takes its
	 * time: mostly there is room, and half of the pieces are a single byte */
	if (w->failure >= 0 && out->capacity - out->size >= size) {
		if (size == 1)
			out->data[out->size] = *text;
		else
			memcpy(out->data + out->size, text, size);
		out->size += size;
	} else if (w->failure >= 0) {
		w->failure = buf_append(out, text, size);
	}
}

int json_writer_new(struct json_writer **ret_writer)
{
	struct json_writer *w = malloc(sizeof(*w) + WRITER_ARENA);
	yajl_alloc_funcs funcs;

	if (!w)
		return err_origin(-ENOMEM);
	*w = (struct json_writer){ .arena = { (char *)(w + 1), WRITER_ARENA, 0 } };
	funcs = arena_funcs(&w->arena);
	w->yajl = yajl_gen_alloc(&funcs);
	yajl_gen_config(w->yajl, yajl_gen_print_callback, on_print, w);
	*ret_writer = w;
	return 0;
}

struct json_writer *json_writer_free(struct json_writer *w)
{
	free(w);
	return NULL;
}

void json_writer_begin(struct json_writer *w, struct buf *out)
{
	yajl_gen_reset(w->yajl, NULL);
	w->out = out;
	w->failure = 0;
	w->depth = 1;
	w->arrays = 0;
	expect(yajl_gen_map_open(w->yajl));
}

int json_writer_end(struct json_writer *w)
{
	assert(w->depth == 1);
	json_put_end(w);
	return w->failure < 0 ? err_trace(w->failure) : 0;
}

int json_writer_end_open(struct json_writer *w)
{
	assert(w->depth == 1);
	on_print(w, ",", 1);
	return w->failure < 0 ? err_trace(w->failure) : 0;
}

static void put_key(struct json_writer *w, const char *key)
{
	if (key)
		expect(yajl_gen_string(w->yajl, (const unsigned char *)key, strlen(key)));
}

void json_put_string(struct json_writer *w, const char *key, const char *text,
		     size_t size)
{
	put_key(w, key);
	expect(yajl_gen_string(w->yajl, (const unsigned char *)text, size));
}

void json_put_text(struct json_writer *w, const char *key, const char *text)
{
	json_put_string(w, key, text, strlen(text));
}

void json_put_u64(struct json_writer *w, const char *key, uint64_t value)
{
	char digits[20];

	put_key(w, key);
	expect(yajl_gen_number(w->yajl, digits, format_u64(digits, value)));
}

void json_put_i64(struct json_writer *w, const char *key, int64_t value)
{
	char digits[24];
	int n = snprintf(digits, sizeof(digits), "%lld", (long long)value);

	put_key(w, key);
	expect(yajl_gen_number(w->yajl, digits, (size_t)n));
}

void json_put_bool(struct json_writer *w, const char *key, bool value)
{
	put_key(w, key);
	expect(yajl_gen_bool(w->yajl, value));
}

void json_put_raw(struct json_writer *w, const char *key, const char *raw, size_t size)
{
	put_key(w, key);
	/* prints it as it is, with its separators */
	expect(yajl_gen_number(w->yajl, raw, size));
}

static void put_open(struct json_writer *w, const char *key, bool array)
{
	assert(w->depth < 64);
	put_key(w, key);
	w->arrays = (w->arrays & ~(1ull << w->depth)) | (uint64_t)array << w->depth;
	w->depth++;
	if (array)
		expect(yajl_gen_array_open(w->yajl));
	else
		expect(yajl_gen_map_open(w->yajl));
}

void json_put_object(struct json_writer *w, const char *key)
{
	put_open(w, key, false);
}

void json_put_array(struct json_writer *w, const char *key)
{
	put_open(w, key, true);
}

void json_put_end(struct json_writer *w)
{
	w->depth--;
	if (w->arrays >> w->depth & 1)
		expect(yajl_gen_array_close(w->yajl));
	else
		expect(yajl_gen_map_close(w->yajl));
}
