/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_FILTER_H
#define CLIENT_FILTER_H

/*
 * Filters, from what people write (ipc(1), FILTERS) to the JSON of a request. As with
 * settings, all is read before the request is begun: users are looked up.
 */

#include "client/client_internal.h"

/* Appends the object to json. 0; -EINVAL, -ENOENT (no such user) or why the user database
 * cannot be asked, with an error that names the word; -ENOMEM. */
int filter_to_json(const char *text, struct buf *json,
		   struct client_error *error) MUST_CHECK;

#endif
