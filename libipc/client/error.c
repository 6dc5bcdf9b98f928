/* SPDX-License-Identifier: MIT */

/* What went wrong last: kept in the client, so that telling it needs no memory. */

#include "client/client_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

void client_make_line(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			*text = ' ';
}

/* One line of whole characters, whatever names and paths were quoted. */
static void tidy_text(char *text)
{
	size_t size = strlen(text);

	/* only the last character can have been cut; a path need not be UTF-8 at all */
	for (size_t cut = 0; size == CLIENT_ERROR_MAX && cut < 4; cut++) {
		if (utf8_is_valid(text, size - cut)) {
			text[size - cut] = '\0';
			break;
		}
	}
	client_make_line(text);
}

int client_error_set(struct client_error *error, int r, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(error->text, sizeof(error->text), format, args);
	va_end(args);
	tidy_text(error->text);
	error->word[0] = '\0';
	return r;
}

void client_error_set_answer(struct client_error *error, const char *word,
			     const char *text)
{
	client_copy_word(error->word, word, strlen(word));
	snprintf(error->text, sizeof(error->text), "%s", text);
	tidy_text(error->text);
}

void client_copy_word(char out[static CLIENT_WORD_MAX + 1], const char *word, size_t size)
{
	size = min_size(size, CLIENT_WORD_MAX);
	memcpy(out, word, size);
	out[size] = '\0';
}

int client_check_text(struct ipc_client *client, const char *what, const char *text,
		      size_t max)
{
	size_t size = strlen(text);

	if (size > max)
		return client_error_set(&client->error, -EINVAL,
					"%s has %zu bytes, the limit is %zu", what, size,
					max);
	if (!utf8_is_valid(text, size))
		return client_error_set(&client->error, -EINVAL, "%s is not valid UTF-8",
					what);
	return 0;
}

int client_check_wait(struct ipc_client *client, int64_t wait_ms)
{
	if (wait_ms == IPC_FOREVER || client_ms_is_valid(wait_ms))
		return 0;
	return client_error_set(
		&client->error, -EINVAL,
		"a time must be from 0 to %lld ms, or -1 for ever, not %lld",
		(long long)LIMIT_WAIT_MAX, (long long)wait_ms);
}

const char *ipc_client_get_error(const struct ipc_client *client)
{
	return client ? client->error.text : "no memory";
}

const char *ipc_client_get_error_word(const struct ipc_client *client)
{
	return client ? client->error.word : "";
}
