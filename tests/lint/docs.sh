#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Every public function has a comment directly before its declaration, which says what it
# returns and since when it is there.

header=libipc/include/ipc/ipc.h

public=$(perl tests/lint/public.pl $header) || exit 1
[ "$public" ] || { echo "$header: declares nothing"; exit 1; }
awk -F '\t' '
	$2 !~ /^\/\*\*/  { print $1 ": no /** comment directly before it"; bad = 1; next }
	$2 !~ /Returns/  { print $1 ": the comment has no Returns"; bad = 1 }
	$2 !~ /Since/    { print $1 ": the comment has no Since"; bad = 1 }
	END { exit bad }' <<<"$public"
