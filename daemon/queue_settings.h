/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_QUEUE_SETTINGS_H
#define DAEMON_QUEUE_SETTINGS_H

/* Owner, group, mode and settings of a name as a JSON object, which the store keeps. */

#include "queue.h"

/* Appends. 0 or -ENOMEM. */
int queue_settings_write(const struct queue *queue, struct buf *out) MUST_CHECK;

struct kept_settings {
	struct name_policy policy; /* without rule */
	struct queue_settings settings;
	bool own; /* set for it, not by a rule */
};

/* What is not in text, or is no value of its kind, stays as it is in *kept. 0, -EBADMSG or
 * -ENOMEM. */
int queue_settings_read(const char *text, size_t size,
			struct kept_settings *kept) MUST_CHECK;

#endif
