#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The public header is complete in itself, plain C11 and C++, also C99 and nothing else, and
# goes together with <sys/ipc.h> in either order, whose IPC_ names are not ours.

status=0

# compile COMPILER... (the source is on stdin)
compile() {
	"$@" -pedantic -Wall -Wextra -Wundef -Werror -D_XOPEN_SOURCE=700 \
		-Ilibipc/include -fsyntax-only - || { echo "^ $*"; status=1; }
}

try() {
	local line source=
	for line; do source+="#include <$line>"$'\n'; done
	# shellcheck disable=SC2086 # CC may be several words
	compile ${CC:-cc} -std=c11 -x c <<<"$source"
	for cxx in c++ g++ clang++; do
		command -v $cxx >/dev/null || continue
		compile $cxx -std=c++11 -x c++ <<<"$source"
		return
	done
	echo "no C++ compiler, tried in C only"
}

try ipc/ipc.h
try ipc/ipc.h ipc/ipc.h
try ipc/ipc.h sys/ipc.h
try sys/ipc.h ipc/ipc.h
# shellcheck disable=SC2086
compile ${CC:-cc} -std=c99 -U_XOPEN_SOURCE -x c <<<'#include <ipc/ipc.h>'
exit $status
