#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The manual pages are formatted without a warning. man exits 0 even when it warns.

command -v man >/dev/null || { echo "skipped: there is no man"; exit 77; }

status=0 pages=0
for page in cli/*.[1-8] daemon/*.[1-8] libipc/man/*.[1-8]; do
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
[ $pages != 0 ] || { echo "skipped: there are no manual pages"; exit 77; }
exit $status
