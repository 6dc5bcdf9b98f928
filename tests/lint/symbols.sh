#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The functions that ipc.h declares, the names in libipc.map and the symbols the library
# exports are the same.

lib=${BUILD_DIR:-build/release}/libipc.so
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT

perl tests/lint/public.pl libipc/include/ipc/ipc.h >"$dir/all" || exit 1
cut -f1 "$dir/all" | sort -u >"$dir/ipc.h"
sed 's|/\*.*\*/||; s|#.*||' libipc/libipc.map |
	awk '/global:/ { on = 1 } /local:/ { on = 0 } on' |
	grep -o '\bipc_[a-z0-9_]*' | sort -u >"$dir/libipc.map"
nm -D --defined-only "$lib" | awk '$2 ~ /[TDBRVWi]/ { sub(/@.*/, "", $3); print $3 }' |
	sort -u >"$dir/libipc.so"

cd "$dir" || exit 1
status=0
diff -u ipc.h libipc.map || status=1
diff -u libipc.map libipc.so || status=1
exit $status
