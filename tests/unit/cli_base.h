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

#include "unit/count_fds.h"

#endif
