/* SPDX-License-Identifier: MIT */

#include "rules.h"

#include <string.h>

#include "wire/limits.h"

const struct setting_number setting_numbers[N_SETTING_NUMBERS] = {
	{ "queue_messages", SETTING_MAX_MESSAGES,
	  offsetof(struct queue_settings, max_messages) },
	{ "queue_bytes", SETTING_MAX_BYTES, offsetof(struct queue_settings, max_bytes) },
	{ "queue_file_bytes", SETTING_MAX_FILE_BYTES,
	  offsetof(struct queue_settings, max_file_bytes) },
	{ "max_attempts", SETTING_MAX_ATTEMPTS,
	  offsetof(struct queue_settings, max_attempts) },
	{ "lost_delay", SETTING_LOST_DELAY,
	  offsetof(struct queue_settings, lost_delay_ms) },
};

void rules_deinit(struct rules *rules)
{
	for (size_t i = 0; i < rules->n; i++) {
		free(rules->rules[i].pattern);
		free(rules->rules[i].where);
	}
	free(rules->rules);
	*rules = (struct rules){ NULL, 0 };
}

static size_t token_size(const char *text)
{
	return strcspn(text, ".");
}

static bool is_token(const char *text, const char *token)
{
	size_t size = token_size(text);

	return size == strlen(token) && !memcmp(text, token, size);
}

static bool token_is_valid(const char *token, size_t size, bool last)
{
	if (size == 1 && token[0] == '*')
		return true;
	if (size == 2 && !memcmp(token, "**", 2))
		return last;
	for (size_t i = 0; i < size; i++)
		if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-",
			    token[i]))
			return false;
	return size > 0;
}

bool pattern_is_valid(const char *text)
{
	if (strlen(text) > LIMIT_NAME_MAX)
		return false;
	text += text[0] == '@';
	for (;;) {
		size_t size = token_size(text);
		bool last = !text[size];

		if (!token_is_valid(text, size, last))
			return false;
		if (last)
			return true;
		text += size + 1;
	}
}

bool pattern_matches(const char *pattern, const char *name)
{
	if ((pattern[0] == '@') != (name[0] == '@'))
		return false;
	pattern += pattern[0] == '@';
	name += name[0] == '@';
	for (;;) {
		size_t p = token_size(pattern), n = token_size(name);

		if (is_token(pattern, "**"))
			return true;
		if (!is_token(pattern, "*") && (p != n || memcmp(pattern, name, p) != 0))
			return false;
		if (!pattern[p] || !name[n])
			return !pattern[p] && !name[n];
		pattern += p + 1;
		name += n + 1;
	}
}

static int token_rank(const char *token)
{
	if (is_token(token, "**"))
		return 0;
	return is_token(token, "*") ? 1 : 2;
}

/* Both match the same name, so they have the same tokens where both are literal. */
static bool is_more_specific(const char *a, const char *b)
{
	a += a[0] == '@';
	b += b[0] == '@';
	for (;;) {
		int rank_a = token_rank(a), rank_b = token_rank(b);

		if (rank_a != rank_b)
			return rank_a > rank_b;
		a += token_size(a);
		b += token_size(b);
		if (!*a || !*b)
			return false;
		a++;
		b++;
	}
}

const struct rule *rules_find(const struct rules *rules, const char *name)
{
	const struct rule *best = NULL;

	for (size_t i = 0; i < rules->n; i++) {
		const struct rule *rule = &rules->rules[i];

		if (pattern_matches(rule->pattern, name) &&
		    (!best || !is_more_specific(best->pattern, rule->pattern)))
			best = rule;
	}
	return best;
}
