/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_RULES_H
#define DAEMON_RULES_H

/*
 * Rules of the configuration: which owner, group, mode and settings the names of a pattern
 * get. In a pattern `*` stands for one token and `**`, at the end, for one or more. The most
 * specific rule wins whole: the one with the first literal token where others have a
 * wildcard, a `*` before a `**`; of equals the one that was read last.
 */

#include "base/util.h"

enum { BACKOFF_STEPS_MAX = 16 };

/* Bits of queue_settings.set. */
enum queue_setting {
	SETTING_MAX_MESSAGES = 1 << 0,
	SETTING_MAX_BYTES = 1 << 1,
	SETTING_MAX_ATTEMPTS = 1 << 2,
	SETTING_LOST_DELAY = 1 << 3,
	SETTING_BACKOFF = 1 << 4,
	SETTING_DURABLE = 1 << 5,
	SETTING_MAX_FILE_BYTES = 1 << 6,
};

/* What a queue has of its own; where a bit is not set the daemon's limit holds. */
struct queue_settings {
	unsigned int set;
	uint64_t max_messages, max_bytes, max_file_bytes, max_attempts, lost_delay_ms;
	bool durable; /* by default, where ipcd has a state directory */
	unsigned int n_backoff;
	uint64_t backoff_ms[BACKOFF_STEPS_MAX];
};

/* Those that are numbers: each has the name and the range of a limit. */
struct setting_number {
	const char *key;
	enum queue_setting bit;
	size_t offset; /* in struct queue_settings, of a uint64_t */
};

enum { N_SETTING_NUMBERS = 5 };
extern const struct setting_number setting_numbers[N_SETTING_NUMBERS];

struct rule {
	char *pattern;
	bool has_owner, has_group, has_mode;
	uid_t owner;
	gid_t group;
	unsigned int mode;
	struct queue_settings settings;
	char *where; /* "ipcd.conf:12" */
};

struct rules {
	struct rule *rules;
	size_t n;
};

void rules_deinit(struct rules *rules);

/* Is text a pattern: a name whose tokens may be `*`, and the last one `**`? */
bool pattern_is_valid(const char *text);
bool pattern_matches(const char *pattern, const char *name);

/* The rule for a name in canonical form (users as numbers), or NULL. */
const struct rule *rules_find(const struct rules *rules, const char *name);

#endif
