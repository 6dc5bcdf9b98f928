/* SPDX-License-Identifier: MIT */
#ifndef UNIT_CLI_BASE_H
#define UNIT_CLI_BASE_H

/* What the unit tests of the command include: as it does, without libipc's lower layers. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
