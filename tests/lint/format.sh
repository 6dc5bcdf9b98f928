#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The C code is formatted as .clang-format says. Versions of clang-format differ in
# details; the one meant is 14.

tool=$(command -v clang-format-14 || command -v clang-format) ||
	{ echo "skipped: there is no clang-format"; exit 77; }
! find cli daemon libipc tests -name '*.[ch]' -print0 |
	xargs -0 "$tool" --dry-run --Werror 2>&1 | grep -a ': error: '
