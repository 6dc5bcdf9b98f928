/* SPDX-License-Identifier: MIT */

/* A message as one line of JSON, for `ipc receive --json` and for logs. */

#include "client/file.h"

#include <string.h>

#include "base/err.h"
#include "base/utf8.h"

/* RFC 4648, section 4. out has room for 4 * ((size + 2) / 3) bytes. */
static void encode_base64(const unsigned char *data, size_t size, char *out)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < size; i += 3, out += 4) {
		size_t n = min_size(size - i, 3);
		unsigned int group = (unsigned int)data[i] << 16;

		if (n > 1)
			group |= (unsigned int)data[i + 1] << 8;
		if (n > 2)
			group |= data[i + 2];
		out[0] = digits[group >> 18];
		out[1] = digits[group >> 12 & 63];
		out[2] = '=';
		out[3] = '=';
		if (n > 1)
			out[2] = digits[group >> 6 & 63];
		if (n > 2)
			out[3] = digits[group & 63];
	}
}

static int put_base64(struct json_writer *w, const char *data, size_t size)
{
	size_t n = (size + 2) / 3 * 4;
	_cleanup_free_ char *text = malloc(n);

	if (!text)
		return err_origin(-ENOMEM);
	encode_base64((const unsigned char *)data, size, text);
	json_put_string(w, "body_base64", text, n);
	return 0;
}

static int put_body(struct json_writer *w, const struct ipc_message *m)
{
	size_t size;
	const char *body = ipc_message_get_body(m, &size);

	if (!body)
		return err_origin(-errno);
	if (utf8_is_valid(body, size) && !(size && memchr(body, '\0', size))) {
		json_put_string(w, "body", body, size);
		return 0;
	}
	return err_trace(put_base64(w, body, size));
}

/* As in the delivery. */
static void put_file(struct json_writer *w, const struct message_file *file)
{
	if (*file->name)
		json_put_text(w, "filename", file->name);
	if (file->size != FILE_SIZE_UNKNOWN)
		json_put_u64(w, "file_size", file->size);
	if (file->mode >= 0)
		json_put_i64(w, "mode", file->mode);
	if (file->has_mtime) {
		json_put_i64(w, "mtime", file->mtime.tv_sec);
		json_put_i64(w, "mtime_ns", file->mtime.tv_nsec);
	}
	for (enum digest_kind kind = 0; kind < DIGEST_N; kind++)
		if (*file->digests[kind])
			json_put_text(w, digest_name(kind), file->digests[kind]);
	if (file->archive)
		json_put_text(w, "archive", "tar");
	if (file->live)
		json_put_bool(w, "live", true);
}

static void put_from(struct json_writer *w, const struct ipc_message *m)
{
	json_put_object(w, "from");
	json_put_u64(w, "uid", m->uid);
	json_put_u64(w, "gid", m->gid);
	json_put_i64(w, "pid", m->pid);
	json_put_text(w, "user", m->user);
	json_put_end(w);
}

static void put_header(struct json_writer *w, const struct ipc_message *m)
{
	json_put_u64(w, "message", m->number);
	json_put_text(w, "queue", m->queue);
	if (*m->lease)
		json_put_text(w, "lease", m->lease);
	json_put_u64(w, "attempt", m->attempt);
	json_put_u64(w, "priority", m->priority);
	if (*m->state)
		json_put_text(w, "state", m->state);
	if (*m->reason)
		json_put_text(w, "reason", m->reason);
	if (m->history)
		json_put_raw(w, "history", m->history, strlen(m->history));
	put_from(w, m);
	if (m->meta)
		json_put_raw(w, "meta", m->meta, strlen(m->meta));
	if (m->file)
		put_file(w, m->file);
	if (ipc_message_get_size(m) != FILE_SIZE_UNKNOWN)
		json_put_u64(w, "size", ipc_message_get_size(m));
}

/* White space between JSON values may be a newline, in meta; the result is one line. */
static void join_lines(char *json)
{
	for (; *json; json++)
		if (*json == '\n' || *json == '\r')
			*json = ' ';
}

int ipc_message_to_json(const struct ipc_message *message, bool with_body,
			char **ret_json)
{
	CLEANUP(json_writer_freep) struct json_writer *w = NULL;
	_cleanup_buf_ struct buf out = BUF_INIT;
	int r = json_writer_new(&w);

	if (r < 0)
		return err_trace(r);
	json_writer_begin(w, &out);
	put_header(w, message);
	if (with_body && !message_is_live(message))
		r = put_body(w, message);
	if (!r)
		r = json_writer_end(w);
	if (!r)
		r = buf_terminate(&out);
	if (r < 0)
		return err_trace(r);
	join_lines(out.data);
	*ret_json = buf_steal(&out);
	return 0;
}
