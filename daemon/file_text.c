/* SPDX-License-Identifier: MIT */

#include "file_text.h"

#include <string.h>

#include "base/err.h"

enum { FILENAME_MAX_BYTES = 255, MODE_MAX = 0777, NS_MAX = 999999999 };

static int get_filename(const struct header *h, struct json_writer *w,
			struct fault *fault)
{
	const char *name = "";
	size_t size;
	int r = header_get_string(h, KEY_FILENAME, 1, FILENAME_MAX_BYTES, &name, &size,
				  fault);

	if (r <= 0)
		return r < 0 ? FAULT : 0;
	if (memchr(name, '/', size) || (size == 1 && name[0] == '.') ||
	    (size == 2 && !memcmp(name, "..", 2)))
		return fault_set(fault, FAULT_BAD_REQUEST,
				 "\"filename\" must be the name of a file without its "
				 "directory: no '/', not \".\" and not \"..\"");
	json_put_string(w, "filename", name, size);
	return 0;
}

/* Seconds may be negative. */
static int get_mtime(const struct header *h, struct json_writer *w, struct fault *fault)
{
	const struct json_value *v = json_at(h->json, h->at[KEY_MTIME]);
	uint64_t ns = 0;
	int r = header_get_u64(h, KEY_MTIME_NS, 0, NS_MAX, &ns, fault);

	if (r < 0)
		return FAULT;
	if (!header_has(h, KEY_MTIME))
		return r ? fault_set(fault, FAULT_BAD_REQUEST,
				     "\"mtime_ns\" goes with \"mtime\"")
			 : 0;
	if (v->type != JSON_INTEGER)
		return fault_set(fault, FAULT_BAD_REQUEST,
				 "\"mtime\" must be an integer: seconds since 1970");
	json_put_i64(w, "mtime", v->integer);
	if (ns)
		json_put_u64(w, "mtime_ns", ns);
	return 0;
}

static int get_archive(const struct header *h, struct json_writer *w, struct fault *fault)
{
	const char *format;
	size_t size;
	int r = header_get_string(h, KEY_ARCHIVE, 1, 16, &format, &size, fault);

	if (r <= 0)
		return r < 0 ? FAULT : 0;
	if (size != 3 || memcmp(format, "tar", 3) != 0)
		return fault_set(fault, FAULT_BAD_REQUEST, "\"archive\" must be \"tar\"");
	json_put_text(w, "archive", "tar");
	return 0;
}

static int get_members(const struct header *h, struct json_writer *w, struct fault *fault)
{
	uint64_t mode;
	int r = get_filename(h, w, fault);

	if (r == 0) {
		r = header_get_u64(h, KEY_MODE, 0, MODE_MAX, &mode, fault);
		if (r == 1)
			json_put_u64(w, "mode", mode);
		r = r < 0 ? FAULT : 0;
	}
	if (r == 0)
		r = get_mtime(h, w, fault);
	return r ? r : get_archive(h, w, fault);
}

/* Only what is between the braces. */
static void strip(struct buf *out)
{
	out->size -= 2;
	memmove(out->data, out->data + 1, out->size);
}

int file_text_get(const struct header *h, struct json_writer *w, struct buf *out,
		  struct fault *fault)
{
	int r, end;

	if (!header_has(h, KEY_FILENAME) && !header_has(h, KEY_MODE) &&
	    !header_has(h, KEY_MTIME) && !header_has(h, KEY_MTIME_NS) &&
	    !header_has(h, KEY_ARCHIVE))
		return 0;
	json_writer_begin(w, out);
	r = get_members(h, w, fault);
	end = json_writer_end(w);
	if (r || end < 0)
		return r ? r : err_trace(end);
	strip(out);
	return 0;
}

int file_text_complete(struct json_writer *w, const struct buf *said, uint64_t size,
		       char (*hex)[DIGEST_HEX_MAX + 1], bool live, struct buf *out)
{
	int r;

	json_writer_begin(w, out);
	if (size != UINT64_MAX)
		json_put_u64(w, "file_size", size);
	for (unsigned int kind = 0; hex && kind < DIGEST_N; kind++)
		if (hex[kind][0])
			json_put_text(w, digest_name(kind), hex[kind]);
	if (live)
		json_put_bool(w, "live", true);
	r = json_writer_end(w);
	if (r < 0)
		return err_trace(r);
	strip(out);
	if (said->size && out->size)
		r = buf_append(out, ",", 1);
	if (r == 0 && said->size)
		r = buf_append(out, said->data, said->size);
	return err_trace(r);
}
