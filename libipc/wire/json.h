/* SPDX-License-Identifier: MIT */
#ifndef WIRE_JSON_H
#define WIRE_JSON_H

/*
 * Strict JSON on yajl; only json.c and json_writer.c know yajl.
 *
 * Reading: one object (and white space around it), valid UTF-8, no NUL (also \u0000), no
 * lone surrogates, no duplicate keys (compared decoded), bounded depth. The parser is made
 * once and used again; a parse leaves a flat tape of values: a container is followed by
 * its children (in objects: key, value, key, value …), `next` leads past them. The tape
 * points into the text, so it is valid until the text changes or the next parse.
 *
 * yajl does not check its allocations, so it gets them from an arena that is large enough
 * for any text up to text_max; what can fail is ours and is checked.
 *
 * Writing: json_writer_begin() starts an object in a buf, the json_put_*() add members
 * (key NULL inside an array), json_writer_end() reports whether memory ran out anywhere.
 */

#include "base/buf.h"

enum json_type {
	JSON_NULL,
	JSON_FALSE,
	JSON_TRUE,
	JSON_INTEGER, /* no fraction, no exponent, exact in int64 */
	JSON_NUMBER,  /* any other number: syntax only */
	JSON_STRING,
	JSON_OBJECT,
	JSON_ARRAY,
};

struct json_value {
	uint8_t type;
	bool decoded;	 /* the string had escapes: it lies in the parser's own buffer */
	uint32_t next;	 /* index of the value after this one and its children */
	uint32_t offset; /* where it lies; containers and numbers: the raw text */
	uint32_t size;
	union {
		int64_t integer;
		uint32_t n_members; /* pairs or elements */
	};
};

struct json;

/* allow_comments: also C comments, for configuration files. */
int json_new(struct json **ret_json, size_t text_max, bool allow_comments) MUST_CHECK;
struct json *json_free(struct json *j);
DEFINE_CLEANUP(struct json *, json_free);

/* 0, -EBADMSG (json_error() says why) or -ENOMEM. */
int json_parse(struct json *j, const char *text, size_t size) MUST_CHECK;
const char *json_error(const struct json *j);

/* For people: the line (from 1; 0: unknown) where the parse stopped, or of value i. */
size_t json_error_line(const struct json *j);
size_t json_line(const struct json *j, uint32_t i);

/* Value i of the tape; 0 is the root object. */
const struct json_value *json_at(const struct json *j, uint32_t i);

/* Bytes of a string (decoded, not NUL-ended) or raw text of a container or number. */
const char *json_text(const struct json *j, const struct json_value *v);

/* Index of the member's value in the object at index `object`, or 0. */
uint32_t json_member(const struct json *j, uint32_t object, const char *key);

/* "a string", "an integer" … for error texts. */
const char *json_type_name(enum json_type type);

struct json_writer;

int json_writer_new(struct json_writer **ret_writer) MUST_CHECK;
struct json_writer *json_writer_free(struct json_writer *w);
DEFINE_CLEANUP(struct json_writer *, json_writer_free);

/* Appends to out, which must live until json_writer_end(). */
void json_writer_begin(struct json_writer *w, struct buf *out);
int json_writer_end(struct json_writer *w) MUST_CHECK;

/* Ends without the closing brace and with a comma, to be followed by more members. */
int json_writer_end_open(struct json_writer *w) MUST_CHECK;

/* text must be valid UTF-8. */
void json_put_string(struct json_writer *w, const char *key, const char *text,
		     size_t size);
void json_put_text(struct json_writer *w, const char *key, const char *text);
void json_put_u64(struct json_writer *w, const char *key, uint64_t value);
void json_put_i64(struct json_writer *w, const char *key, int64_t value);
void json_put_bool(struct json_writer *w, const char *key, bool value);

/* raw must be JSON already. */
void json_put_raw(struct json_writer *w, const char *key, const char *raw, size_t size);
void json_put_object(struct json_writer *w, const char *key);
void json_put_array(struct json_writer *w, const char *key);
void json_put_end(struct json_writer *w); /* of the innermost object or array */

#endif
