/* SPDX-License-Identifier: MIT */

/* Any text as ipcd.conf: refused with a line that says why, or loaded, and then what is
 * dumped loads again. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define must(condition)                                                                 \
	do {                                                                            \
		if (!(condition)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			abort();                                                        \
		}                                                                       \
	} while (0)

static int load(struct config *config, const void *text, size_t size, struct buf *errors)
{
	int fd = memfd_create("config", MFD_CLOEXEC), r;
	char path[32];

	must(fd >= 0 && write(fd, text, size) == (ssize_t)size);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	r = config_load(config, path, true, errors);
	close(fd);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_buf_ struct buf errors = BUF_INIT, dump = BUF_INIT;
	struct config config, again;

	config_init(&config);
	if (load(&config, data, size, &errors) < 0) {
		must(errors.size && errors.data[errors.size - 1] == '\n');
	} else {
		must(errors.size == 0);
		must(config_dump(&config, &dump) == 0);
		config_init(&again);
		must(load(&again, dump.data, dump.size, &errors) == 0);
		must(again.rules.n == config.rules.n);
		must(!memcmp(&again.limits, &config.limits, sizeof(config.limits)));
		config_deinit(&again);
	}
	config_deinit(&config);
	return 0;
}
