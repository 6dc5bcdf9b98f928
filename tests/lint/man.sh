#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The manual pages, written and generated ones, are formatted without a warning. man exits
# 0 even when it warns. Each function of the library has its prototype in one of them. And
# ipc-protocol(7) has every operation of the daemon's table.

command -v man >/dev/null || { echo "skipped: there is no man"; exit 77; }

build=${BUILD_DIR:-build/release}
status=0 pages=0
for page in {,"$build"/}{cli,daemon,libipc/man}/*.[1-8]; do
	[ -e "$page" ] || continue
	pages=$((pages + 1))
	# A page that only points to another (".so man3/ipc.3") finds it once installed.
	head -n 1 "$page" | grep -q '^\.so ' && continue
	warnings=$(LC_ALL=C.UTF-8 MANROFFSEQ='' MANWIDTH=80 \
		man --warnings -E UTF-8 -l -Tutf8 -Z "$page" 2>&1 >/dev/null)
	[ -z "$warnings" ] && continue
	echo "$page: $warnings"
	status=1
done

prototypes=$(cat "$build"/libipc/man/*.3 | grep '^\\fB.*;\\fP$')
while IFS=$'\t' read -r name _; do
	grep -q "[ *]$name(" <<<"$prototypes" && continue
	echo "libipc/man: no prototype of $name in a SYNOPSIS"
	status=1
done < <(perl tests/lint/public.pl libipc/include/ipc/ipc.h)

protocol=libipc/man/ipc-protocol.7.in
ops=$(sed -n 's/^\t{ "\([a-z]*\)", op_.*/\1/p' daemon/dispatch.c)
[ "$ops" ] || { echo "daemon/dispatch.c: no table of operations found"; status=1; }
for op in $ops; do
	grep -q "^\.SS \(.*, \)\?$op\(,.*\)\?$" "$protocol" && continue
	echo "$protocol: the operation $op is missing"
	status=1
done

[ $pages != 0 ] || { echo "skipped: there are no manual pages"; exit 77; }
exit $status
