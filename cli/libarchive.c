/* SPDX-License-Identifier: MIT */

#include "libarchive.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define SONAME "libarchive.so.13"

struct libarchive la;

static const struct {
	const char *name;
	size_t at; /* of the pointer in it */
} functions[] = {
#define X(function) { #function, offsetof(struct libarchive, function) },
	LIBARCHIVE_FUNCTIONS(X)
#undef X
};

const char *libarchive_load(void)
{
	static bool loaded;
	void *handle, *function;

	if (loaded)
		return NULL;
	handle = dlopen(SONAME, RTLD_NOW | RTLD_LOCAL);
	if (!handle)
		return dlerror();
	for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
		function = dlsym(handle, functions[i].name);
		if (!function)
			return dlerror();
		memcpy((char *)&la + functions[i].at, &function, sizeof(function));
	}
	loaded = true;
	return NULL;
}
