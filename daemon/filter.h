/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_FILTER_H
#define DAEMON_FILTER_H

/*
 * Which messages of a queue an operation is about: conditions that must all hold, out of the
 * "filter" of a request. A filter keeps what it needs of the request, and takes ages from the
 * time at which it was made: so what it lets through does not change while it is at work.
 */

#include "message.h"
#include "wire/header.h"

struct filter;

/* The request's, or NULL if it has none. 0; FAULT, naming the member; -ENOMEM. */
int filter_get(const struct header *header, struct filter **ret_filter,
	       struct fault *fault) MUST_CHECK;
struct filter *filter_free(struct filter *filter);

/* In bytes; of none 0. */
size_t filter_size(const struct filter *filter);
DEFINE_CLEANUP(struct filter *, filter_free);

/* Does it let the message through? 1, 0, or -ENOMEM. filter NULL: all. */
int filter_matches(const struct filter *filter, const struct message *m) MUST_CHECK;

/* What it takes to know, as a number of messages that are only looked at. */
unsigned int filter_cost(const struct filter *filter, const struct message *m);

#endif
