/* SPDX-License-Identifier: MIT */

/* The only file that knows xxHash and libcrypto. */

#include "wire/digest.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>
#include <xxhash.h>
/* Replaces XXH3_128bits_update() by one that takes the widest vectors this processor has. */
#if defined(__x86_64__) && __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h>
#endif

#include "base/err.h"

enum { RAW_MAX = DIGEST_HEX_MAX / 2 };

static const struct {
	const char *name;
	size_t hex_size;
} kinds_of_digests[DIGEST_N] = {
	[DIGEST_XXH3] = { "xxh3", 32 },
	[DIGEST_SHA256] = { "sha256", 64 },
	[DIGEST_MD5] = { "md5", 32 },
};

struct digest {
	XXH3_state_t *xxh3;	   /* or NULL */
	EVP_MD_CTX *evp[DIGEST_N]; /* or NULL */
	bool failed;		   /* libcrypto refused an update */
};

/* ---- making ---- */

static int add_xxh3(struct digest *d)
{
	d->xxh3 = XXH3_createState();
	if (!d->xxh3 || XXH3_128bits_reset(d->xxh3) != XXH_OK)
		return err_origin(-ENOMEM);
	return 0;
}

static int add_evp(struct digest *d, enum digest_kind kind)
{
	d->evp[kind] = EVP_MD_CTX_new();
	if (!d->evp[kind])
		return err_origin(-ENOMEM);
	if (EVP_DigestInit_ex(d->evp[kind], kind == DIGEST_MD5 ? EVP_md5() : EVP_sha256(),
			      NULL) != 1)
		return err_origin(-EOPNOTSUPP);
	return 0;
}

int digest_new(unsigned int kinds, struct digest **ret_digest)
{
	_cleanup_digest_ struct digest *d = calloc(1, sizeof(*d));
	int r = d ? 0 : err_origin(-ENOMEM);

	if (!r && kinds & 1u << DIGEST_XXH3)
		r = add_xxh3(d);
	if (!r && kinds & 1u << DIGEST_SHA256)
		r = add_evp(d, DIGEST_SHA256);
	if (!r && kinds & 1u << DIGEST_MD5)
		r = add_evp(d, DIGEST_MD5);
	if (r < 0)
		return err_trace(r);
	*ret_digest = TAKE_PTR(d);
	return 0;
}

struct digest *digest_free(struct digest *digest)
{
	if (digest) {
		XXH3_freeState(digest->xxh3);
		for (int i = 0; i < DIGEST_N; i++)
			EVP_MD_CTX_free(digest->evp[i]);
		free(digest);
	}
	return NULL;
}

void digest_update(struct digest *digest, const void *data, size_t size)
{
	if (!size)
		return;
	if (digest->xxh3)
		(void)XXH3_128bits_update(digest->xxh3, data, size);
	for (int i = 0; i < DIGEST_N; i++)
		if (digest->evp[i] && EVP_DigestUpdate(digest->evp[i], data, size) != 1)
			digest->failed = true;
}

/* What could not be made is all zeros: that is the digest of nothing. */
void digest_final(struct digest *digest, enum digest_kind kind,
		  char hex[static DIGEST_HEX_MAX + 1])
{
	static const char digits[] = "0123456789abcdef";
	unsigned char raw[RAW_MAX] = { 0 };
	size_t n = kinds_of_digests[kind].hex_size / 2;

	if (kind == DIGEST_XXH3) {
		XXH128_canonical_t canonical;

		XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(digest->xxh3));
		memcpy(raw, canonical.digest, sizeof(canonical.digest));
	} else if (digest->failed ||
		   EVP_DigestFinal_ex(digest->evp[kind], raw, NULL) != 1) {
		memset(raw, 0, sizeof(raw));
	}
	for (size_t i = 0; i < n; i++) {
		hex[2 * i] = digits[raw[i] >> 4];
		hex[2 * i + 1] = digits[raw[i] & 15];
	}
	hex[2 * n] = '\0';
}

/* ---- names and hex ---- */

const char *digest_name(enum digest_kind kind)
{
	return kinds_of_digests[kind].name;
}

enum digest_kind digest_of_name(const char *name)
{
	enum digest_kind kind = 0;

	while (kind < DIGEST_N && strcmp(kinds_of_digests[kind].name, name) != 0)
		kind++;
	return kind;
}

size_t digest_hex_size(enum digest_kind kind)
{
	return kinds_of_digests[kind].hex_size;
}

bool digest_hex_is_valid(enum digest_kind kind, const char *hex, size_t size)
{
	if (size != kinds_of_digests[kind].hex_size)
		return false;
	for (size_t i = 0; i < size; i++)
		if (!memchr("0123456789abcdefABCDEF", hex[i], 22))
			return false;
	return true;
}

/* strncasecmp(3) would follow the program's locale. */
static char lower(char c)
{
	return c >= 'A' && c <= 'F' ? (char)(c - 'A' + 'a') : c;
}

bool digest_hex_is_equal(const char *a, const char *b, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if (lower(a[i]) != lower(b[i]))
			return false;
	return true;
}

void digest_end_thread(void)
{
	OPENSSL_thread_stop();
}
