/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_SETTINGS_H
#define CLIENT_SETTINGS_H

/*
 * Settings of names, from "key=value" to members of a request. All of them are read before
 * the request is begun, since that may wait for the name service, and fail.
 */

#include "client/client_internal.h"

enum { SETTINGS_MAX = 16 };

struct setting {
	const char *key;
	char *json; /* its value */
	size_t size;
};

struct settings {
	struct setting all[SETTINGS_MAX];
	size_t n;
};

/* texts are "key=value". 0, or -errno with an error that names the key. */
int settings_parse(struct settings *settings, const char *const *texts, size_t n_texts,
		   struct client_error *error) MUST_CHECK;
void settings_put(const struct settings *settings, struct json_writer *w);
void settings_deinit(struct settings *settings);
#define _cleanup_settings_ CLEANUP(settings_deinit)

struct settings_user {
	uid_t uid;
	gid_t gid;  /* only with a name */
	char *name; /* NULL: a number that is nobody's */
};

/* By name, or by decimal uid. 0, -ENOENT, or why the database cannot be asked. */
int settings_find_user(const char *text, struct settings_user *ret_user) MUST_CHECK;
void settings_user_deinit(struct settings_user *user);
#define _cleanup_settings_user_ CLEANUP(settings_user_deinit)

#endif
