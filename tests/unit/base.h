/* SPDX-License-Identifier: MIT */
#ifndef UNIT_BASE_H
#define UNIT_BASE_H

/* What every unit test of libipc's lower layers includes. */

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

#include "base/util.h"
#include "unit/count_fds.h"

#define UNUSED __attribute__((unused))

/* A small random source that is the same in each run. */
static UNUSED uint32_t next_random(uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	return *state >> 8;
}

#endif
