/* SPDX-License-Identifier: MIT */

#include "filling.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "log.h"

enum { TELL_NO_SPACE_MS = 60000 };

/* ---- digests ---- */

static const enum header_key digest_keys[DIGEST_N] = {
	[DIGEST_XXH3] = KEY_XXH3,
	[DIGEST_SHA256] = KEY_SHA256,
	[DIGEST_MD5] = KEY_MD5,
};

static int get_one(const struct header *h, enum digest_kind kind, struct digests *d,
		   struct fault *fault)
{
	const struct json_value *v = json_at(h->json, h->at[digest_keys[kind]]);
	const char *text;

	d->claimed[kind][0] = '\0';
	d->wanted |= 1u << kind;
	if (v->type == JSON_TRUE)
		return 0;
	text = v->type == JSON_STRING ? json_text(h->json, v) : "";
	if (v->type != JSON_STRING || !digest_hex_is_valid(kind, text, v->size))
		return fault_set(fault, FAULT_BAD_REQUEST,
				 "\"%s\" must be true or %zu hexadecimal digits",
				 digest_name(kind), digest_hex_size(kind));
	memcpy(d->claimed[kind], text, v->size);
	d->claimed[kind][v->size] = '\0';
	return 0;
}

int digests_get(const struct header *h, struct digests *d, struct fault *fault)
{
	for (unsigned int kind = 0; kind < DIGEST_N; kind++)
		if (header_has(h, digest_keys[kind]) && get_one(h, kind, d, fault))
			return FAULT;
	return 0;
}

void digests_add(struct digests *d, const struct digests *more)
{
	for (unsigned int kind = 0; kind < DIGEST_N; kind++)
		if (more->wanted & 1u << kind)
			memcpy(d->claimed[kind], more->claimed[kind],
			       sizeof(d->claimed[kind]));
	d->wanted |= more->wanted;
}

int digests_check(const struct digests *d, enum digest_kind kind, const char *hex,
		  struct fault *fault)
{
	const char *claimed = d->claimed[kind];

	if (!*claimed || digest_hex_is_equal(claimed, hex, digest_hex_size(kind)))
		return 0;
	return fault_set(
		fault, FAULT_INTEGRITY,
		"the body that arrived has %s %s, and not %s as the header says; "
		"send it again",
		digest_name(kind), hex, claimed);
}

/* ---- life ---- */

void filling_init(struct filling *f, struct blobs *blobs, struct user *user,
		  const struct limits *limits)
{
	*f = (struct filling){
		.blobs = blobs, .user = user_ref(user), .limits = limits, .fd = -1
	};
	user->usage.bodies++;
}

void filling_deinit(struct filling *f)
{
	filling_uncharge(f);
	f->user->usage.bodies--;
	fd_close(f->fd);
	blob_unref(f->blob);
	bytes_unref(f->block);
	digest_free(f->digest);
	user_unref(f->user);
}

static bool uses_disk(const struct filling *f)
{
	return f->blobs->directory >= 0;
}

static uint64_t *counter(const struct filling *f)
{
	return uses_disk(f) ? &f->user->usage.file_bytes : &f->user->usage.bytes;
}

int filling_charge(struct filling *f, uint64_t size, struct fault *fault)
{
	uint64_t max = uses_disk(f) ? f->limits->user_file_bytes : f->limits->user_bytes;
	uint64_t *counted = counter(f);
	/* what waits to get into a queue is on the disk, too */
	uint64_t others = *counted - f->charged + f->user->usage.held_bytes;

	if (size <= f->charged)
		return 0;
	if (size > max || others > max - size)
		return fault_set(fault, FAULT_QUOTA,
				 "this user has too much in queues: %llu of %llu bytes "
				 "(%s), and this body takes %llu; wait until some is "
				 "received",
				 (unsigned long long)others, (unsigned long long)max,
				 uses_disk(f) ? "user_file_bytes" : "user_bytes",
				 (unsigned long long)size);
	*counted += size - f->charged;
	f->charged = size;
	return 0;
}

void filling_uncharge(struct filling *f)
{
	*counter(f) -= f->charged;
	f->charged = 0;
}

/* ---- failures ---- */

bool filling_fail(struct filling *f, enum fault_word word, const char *format, ...)
{
	char text[512];
	va_list args;

	if (f->failed)
		return false;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	f->failed = true;
	fault_set(&f->fault, word, "%s", text);
	return false;
}

bool filling_fail_errno(struct filling *f, int error, const char *what)
{
	if (error == ENOSPC || error == EDQUOT)
		return filling_fail(f, FAULT_NO_SPACE,
				    "no space for the body on the disk of ipcd's state "
				    "directory: the message was not taken");
	if (error == EMFILE || error == ENFILE)
		return filling_fail(f, FAULT_FULL,
				    "%s: the daemon has no free descriptors "
				    "(RLIMIT_NOFILE); the message was not taken, try "
				    "again later",
				    what);
	if (error == ENOMEM)
		return filling_fail(f, FAULT_INTERNAL,
				    "%s: %s; the message was not taken, try again later",
				    what, strerror(error));
	return filling_fail(f, FAULT_INTERNAL, "%s: %s; the message was not taken", what,
			    strerror(error));
}

static void tell_no_space(const struct filling *f)
{
	uint64_t now = clock_ns(CLOCK_MONOTONIC);

	if (now < f->blobs->no_space_ns)
		return;
	f->blobs->no_space_ns = deadline_after(now, TELL_NO_SPACE_MS);
	log_error("a message of uid %u was refused: no space for its body on the disk of "
		  "the state directory",
		  f->user->uid);
}

int filling_check(const struct filling *f, struct fault *fault)
{
	if (!f->failed)
		return 0;
	if (f->fault.word == FAULT_NO_SPACE)
		tell_no_space(f);
	if (f->blob && f->blob->gone && f->blobs->gone)
		f->blobs->gone(f->blobs);
	*fault = f->fault;
	return FAULT;
}

/* ---- work ---- */

/* A full disk is told before the bytes come; and to write into what is there already takes a
 * third less time. */
static bool reserve(struct filling *f)
{
	if (!f->expected || !f->blob->id ||
	    fallocate(f->fd, 0, 0, (off_t)f->expected) == 0)
		return true;
	return errno == ENOSPC || errno == EDQUOT
		       ? filling_fail_errno(f, errno, "the body cannot be kept")
		       : true; /* not every file system can */
}

bool filling_begin(struct filling *f, unsigned int kinds)
{
	int r;

	f->digest = digest_free(f->digest); /* it was small at first */
	r = kinds ? digest_new(kinds, &f->digest) : 0;
	if (r < 0)
		return filling_fail_errno(f, -r, "the digest cannot be made");
	f->kinds = kinds;
	f->fd = blob_create(f->blob);
	if (f->fd < 0)
		return filling_fail_errno(f, -f->fd, "the body cannot be kept");
	return reserve(f);
}

bool filling_write(struct filling *f, const char *data, size_t size)
{
	if (f->digest)
		digest_update(f->digest, data, size);
	while (size) {
		ssize_t n = write(f->fd, data, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return filling_fail_errno(f, n < 0 ? errno : EIO,
						  "the body cannot be kept");
		data += n;
		size -= (size_t)n;
		f->size += (uint64_t)n;
		f->written += (uint64_t)n;
	}
	return true;
}

bool filling_restart(struct filling *f)
{
	int r = 0;

	f->digest = digest_free(f->digest);
	if (f->kinds)
		r = digest_new(f->kinds, &f->digest);
	if (r < 0)
		return filling_fail_errno(f, -r, "the digest cannot be made");
	if (ftruncate(f->fd, 0) < 0 || lseek(f->fd, 0, SEEK_SET) < 0)
		return filling_fail_errno(f, errno, "the body cannot be kept");
	f->size = f->written = 0;
	return true;
}

/* For digests that were asked for behind the body. */
static bool read_back(struct filling *f, struct digest *digest)
{
	enum { BUFFER_BYTES = 262144 };
	char *buffer = malloc(BUFFER_BYTES);
	uint64_t at = 0;
	ssize_t n = 1;

	while (buffer && at < f->size && n > 0) {
		n = pread(f->fd, buffer, BUFFER_BYTES, (off_t)at);
		if (n > 0)
			digest_update(digest, buffer, (size_t)n);
		at += n > 0 ? (uint64_t)n : 0;
	}
	free(buffer);
	if (at == f->size)
		return true;
	return filling_fail_errno(f,
				  !buffer ? ENOMEM
				  : n < 0 ? errno
					  : EIO,
				  "the body cannot be read back");
}

static void note_digests(struct filling *f, struct digest *digest, unsigned int kinds)
{
	for (unsigned int kind = 0; kind < DIGEST_N; kind++)
		if (kinds & 1u << kind)
			digest_final(digest, kind, f->hex[kind]);
}

static bool make_late_digests(struct filling *f)
{
	unsigned int kinds = f->late_kinds & ~f->kinds;
	_cleanup_digest_ struct digest *digest = NULL;
	int r = kinds ? digest_new(kinds, &digest) : 0;

	if (r < 0)
		return filling_fail_errno(f, -r, "the digest cannot be made");
	if (kinds && !read_back(f, digest))
		return false;
	note_digests(f, digest, kinds);
	return true;
}

/* Some file systems know that only later, as zfs does. */
static uint64_t count_disk(const struct filling *f, const struct stat *st)
{
	return min_u64(f->size, max_u64((uint64_t)st->st_blocks * 512, f->written));
}

bool filling_end(struct filling *f, bool durable)
{
	struct stat st;

	if (f->digest)
		note_digests(f, f->digest, f->kinds);
	if (f->block)
		return true;
	if (!make_late_digests(f))
		return false;
	if (f->expected > f->size && ftruncate(f->fd, (off_t)f->size) < 0)
		return filling_fail_errno(f, errno, "the body cannot be kept");
	if (fstat(f->fd, &st) < 0)
		return filling_fail_errno(f, errno, "the body cannot be kept");
	f->disk = count_disk(f, &st);
	if (!durable || !f->blob->id)
		return true;
	if (fdatasync(f->fd) < 0)
		return filling_fail_errno(f, errno, "the body cannot be kept");
	f->blob->synced = true; /* read by the loop, after this job */
	return true;
}
