#!/bin/bash
# SPDX-License-Identifier: MIT
#
# clang-tidy, with the checks that .clang-tidy names, among them clang's own warnings, as
# $WARNINGS asks for them. The benchmark's drivers need headers of other servers, which are
# not required for anything else.

tool=$(command -v clang-tidy-14 || command -v clang-tidy) ||
	{ echo "skipped: there is no clang-tidy"; exit 77; }

# What is wrong is on stdout; stderr only counts the warnings that are not shown.
find cli daemon libipc tests -name '*.c' ! -path 'tests/bench/drv/*' -print0 |
	xargs -0 -I '{}' -P "$(nproc)" "$tool" --quiet '{}' -- -std=gnu11 -D_GNU_SOURCE \
		$WARNINGS \
		-DIPCD_VERSION='"0"' -I. -Ilibipc -Ilibipc/include -Idaemon -Itests \
		2>/dev/null
