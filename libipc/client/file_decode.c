/* SPDX-License-Identifier: MIT */

/* What a delivery says of the file it carries. The daemon is believed, but not to the point
 * that a name of its could lead out of a directory. */

#include "client/file.h"

#include <string.h>

#include "base/err.h"

static const enum header_key digest_keys[DIGEST_N] = {
	[DIGEST_XXH3] = KEY_XXH3,
	[DIGEST_SHA256] = KEY_SHA256,
	[DIGEST_MD5] = KEY_MD5,
};

static bool tells_of_file(const struct header *h)
{
	return header_has(h, KEY_FILENAME) || header_has(h, KEY_FILE_SIZE) ||
	       header_has(h, KEY_MODE) || header_has(h, KEY_MTIME) ||
	       header_has(h, KEY_ARCHIVE) || header_has(h, KEY_LIVE) ||
	       header_has(h, KEY_XXH3) || header_has(h, KEY_SHA256) ||
	       header_has(h, KEY_MD5);
}

static int get_name(const struct header *h, struct message_file *file,
		    struct fault *fault)
{
	const char *name;
	size_t size;
	int r = header_get_string(h, KEY_FILENAME, 1, FILE_NAME_MAX, &name, &size, fault);

	if (r <= 0)
		return r;
	if (!filename_is_valid(name, size)) {
		fault_set(fault, FAULT_BAD_REQUEST, "\"filename\" is no plain name");
		return err_origin(-EINVAL);
	}
	memcpy(file->name, name, size);
	return 0;
}

/* May be negative, which no other number of the protocol is. */
static int get_seconds(const struct header *h, struct message_file *file,
		       struct fault *fault)
{
	const struct json_value *v = json_at(h->json, h->at[KEY_MTIME]);

	if (!header_has(h, KEY_MTIME))
		return 0;
	if (v->type != JSON_INTEGER) {
		fault_set(fault, FAULT_BAD_REQUEST, "\"mtime\" must be an integer");
		return err_origin(-EINVAL);
	}
	file->mtime.tv_sec = (time_t)v->integer;
	file->has_mtime = true;
	return 0;
}

static int get_numbers(const struct header *h, struct message_file *file,
		       struct fault *fault)
{
	uint64_t mode = 0, ns = 0;
	int has_mode = header_get_u64(h, KEY_MODE, 0, FILE_MODE_MASK, &mode, fault);
	int r = has_mode < 0 ? has_mode
			     : header_get_u64(h, KEY_MTIME_NS, 0, 999999999, &ns, fault);

	if (r >= 0)
		r = header_get_u64(h, KEY_FILE_SIZE, 0, INT64_MAX, &file->size, fault);
	if (r < 0)
		return err_trace(r);
	if (has_mode)
		file->mode = (int)mode;
	file->mtime.tv_nsec = (long)ns;
	return err_trace(get_seconds(h, file, fault));
}

static int get_digest(const struct header *h, enum digest_kind kind,
		      struct message_file *file, struct fault *fault)
{
	const char *hex;
	size_t size;
	int r = header_get_string(h, digest_keys[kind], 0, DIGEST_HEX_MAX, &hex, &size,
				  fault);

	if (r <= 0)
		return r;
	if (!digest_hex_is_valid(kind, hex, size)) {
		fault_set(fault, FAULT_BAD_REQUEST, "\"%s\" is no digest",
			  digest_name(kind));
		return err_origin(-EINVAL);
	}
	for (size_t i = 0; i < size; i++)
		file->digests[kind][i] = (char)(hex[i] >= 'A' && hex[i] <= 'F'
							? hex[i] - 'A' + 'a'
							: hex[i]);
	return 0;
}

/* Another format than the one that is known is as good as none. */
static int get_kind(const struct header *h, struct message_file *file,
		    struct fault *fault)
{
	const char *format = "";
	size_t size = 0;
	int r = header_get_string(h, KEY_ARCHIVE, 0, LIMIT_HEADER_MAX, &format, &size,
				  fault);

	if (r >= 0)
		r = header_get_bool(h, KEY_LIVE, &file->live, fault);
	if (r < 0)
		return err_trace(r);
	file->archive = size == strlen("tar") && !memcmp(format, "tar", size);
	return 0;
}

int message_file_decode(const struct frame *frame, struct message_file **ret_file,
			struct fault *fault)
{
	_cleanup_message_file_ struct message_file *file = NULL;
	const struct header *h = frame->header;
	int r;

	*ret_file = NULL;
	if (!frame->fds && !frame->fds_lost && !tells_of_file(h))
		return 0;
	file = message_file_new();
	if (!file)
		return err_origin(-ENOMEM);
	r = get_name(h, file, fault);
	if (r >= 0)
		r = get_numbers(h, file, fault);
	for (enum digest_kind kind = 0; r >= 0 && kind < DIGEST_N; kind++)
		r = get_digest(h, kind, file, fault);
	if (r >= 0)
		r = get_kind(h, file, fault);
	if (r < 0)
		return err_trace(r);
	if (frame->fds || frame->fds_lost || file->live)
		file->source = FILE_IN_FD;
	*ret_file = TAKE_PTR(file);
	return 0;
}
