#!/bin/bash
# SPDX-License-Identifier: MIT
#
# summary.sh LOG_DIRECTORY NAME...
#
# Adds up the results of the named tests; the last line is the total. A test without a
# result did not build, and so has failed.

dir=$1
shift

passed=0 failed=0 skipped=0
for name; do
	p=0 f=1 s=0
	if [ -e "$dir/$name.result" ]; then
		read -r p f s <"$dir/$name.result"
		[ "$f" = 0 ] || echo "failed: $name ($dir/$name.log)"
	else
		echo "failed: $name (it did not build, or there is no such test)"
	fi
	((passed += p, failed += f, skipped += s))
done

total="$passed passed, $failed failed"
[ $skipped = 0 ] || total+=", $skipped skipped"
echo "$total"
[ $failed = 0 ]
