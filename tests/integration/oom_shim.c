/* SPDX-License-Identifier: MIT */

/*
 * To be preloaded into ipcd: makes the n-th allocation from now fail, as told through the
 * mapped file. It stands before glibc's malloc, whose own functions have a second name each
 * (malloc(3) may be replaced: "Replacing malloc" in the glibc manual).
 */

#include "integration/oom_shim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *block, size_t size);

static struct oom_control *control;

__attribute__((constructor)) static void map_control(void)
{
	const char *path = getenv(OOM_FILE_VARIABLE);
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *map;

	if (fd < 0)
		return;
	map = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (map != MAP_FAILED)
		control = map;
}

static bool fails(void)
{
	long left;

	if (!control)
		return false;
	control->seen++;
	left = control->countdown;
	while (left > 0 &&
	       !atomic_compare_exchange_weak(&control->countdown, &left, left - 1))
		;
	if (left != 1)
		return false;
	if (control->all_after)
		control->countdown = 1;
	control->failed++;
	errno = ENOMEM;
	return true;
}

void *malloc(size_t size)
{
	return fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
	return fails() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *block, size_t size)
{
	return fails() ? NULL : __libc_realloc(block, size);
}
