/* SPDX-License-Identifier: MIT */
#ifndef UNIT_COUNT_FDS_H
#define UNIT_COUNT_FDS_H

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Open descriptors of this process, without the one that counts them. */
static __attribute__((unused)) int count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n - 3; /* ".", ".." and d itself */
}

#endif
