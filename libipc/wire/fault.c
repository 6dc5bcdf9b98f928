/* SPDX-License-Identifier: MIT */

#include "wire/fault.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

static const struct {
	const char *word;
	int errnum;
} words[] = {
#define X(name, word, errnum) { word, errnum },
	FAULT_WORDS(X)
#undef X
};

const char *fault_word_name(enum fault_word word)
{
	return words[word].word;
}

int fault_word_errno(const char *word, size_t length)
{
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strlen(words[i].word) == length &&
		    !memcmp(words[i].word, word, length))
			return words[i].errnum;
	return EPROTO;
}

int fault_set(struct fault *fault, enum fault_word word, const char *format, ...)
{
	size_t size;
	va_list args;

	va_start(args, format);
	vsnprintf(fault->text, sizeof(fault->text), format, args);
	va_end(args);
	fault->word = word;

	/* a cut in the middle of a character must not make the reply bad UTF-8 */
	size = strlen(fault->text);
	while (size && !utf8_is_valid(fault->text, size))
		size--;
	fault->text[size] = '\0';
	return FAULT;
}
