#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Each folder includes only what is below it:
#
#	cli -> <ipc/ipc.h>      client -> wire -> base      daemon -> wire -> base
#
# and only wire/json*.c know the JSON library.

status=0

# forbid WHY PATTERN PATH...: no #include in these matches the pattern
forbid() {
	local why=$1 pattern="^[[:space:]]*#[[:space:]]*include[[:space:]]*[<\"]($2)"
	shift 2
	grep -rEn --include='*.[ch]' "$pattern" "$@" || return 0
	echo "^ $why"
	status=1
}

up='(\.\./|libipc/)'
forbid 'a path out of the folder' "$up" cli daemon libipc
forbid 'cli knows only <ipc/ipc.h>' '(base|wire|client|daemon)/' cli
forbid 'the daemon never uses the client side' '(client|ipc)/' daemon
forbid 'base is the lowest layer' '(wire|client|daemon|ipc)/' libipc/base
forbid 'wire is below client and daemon' '(client|daemon|ipc)/' libipc/wire
forbid 'the library knows no daemon' 'daemon/' libipc
mapfile -t all_but_json < <(find libipc -name '*.[ch]' ! -path 'libipc/wire/json*')
forbid 'only libipc/wire/json*.c use yajl' 'yajl' cli daemon "${all_but_json[@]}"
exit $status
