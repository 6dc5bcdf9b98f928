#!/bin/bash
# SPDX-License-Identifier: MIT
#
# run-test.sh LOG cmocka|script COMMAND...
#
# Runs one test with a time limit. Its output goes to LOG.log and is shown only if it
# failed; LOG.result gets "PASSED FAILED SKIPPED". A cmocka program counts as many tests
# as its summary says, a script is one test: exit 0 passed, 77 skipped.

log=$1 kind=$2
shift 2
name=${log#*/log/}
mkdir -p "${log%/*}"

export ASAN_OPTIONS=detect_leaks=1${ASAN_OPTIONS:+:$ASAN_OPTIONS}
export UBSAN_OPTIONS=print_stacktrace=1${UBSAN_OPTIONS:+:$UBSAN_OPTIONS}
export CMOCKA_MESSAGE_OUTPUT=STDOUT
export LC_ALL=C.UTF-8
ulimit -c 0

# The braces keep bash's own word about a crash off the terminal.
{
	timeout --kill-after=5 "${TEST_TIMEOUT:=120}" "$@" >"$log.log" 2>&1 </dev/null
} 2>/dev/null
status=$?
[ $status = 124 ] && echo "run-test.sh: ended after $TEST_TIMEOUT s" >>"$log.log"

# count WORD: the sum of the numbers in cmocka's lines "[  WORD  ] 12 test(s)"
count() {
	sed -n "s/.*\[ *$1 *\] \([0-9][0-9]*\) test(s).*/\1/p" "$log.log" |
		awk '{ n += $1 } END { print n + 0 }'
}

passed=0 failed=0 skipped=0
if [ "$kind" = script ]; then
	case $status in
	0) passed=1 ;;
	77) skipped=1 ;;
	*) failed=1 ;;
	esac
else
	passed=$(count PASSED) failed=$(count FAILED) skipped=$(count SKIPPED)
	# A crash or a leak at exit is in no summary, nor is a program without any test.
	if [ $status != 0 ] || [ $((passed + failed + skipped)) = 0 ]; then
		[ "$failed" = 0 ] && failed=1
	fi
fi
echo "$passed $failed $skipped" >"$log.result"

if [ "$failed" != 0 ]; then
	echo "  FAIL    $name (exit status $status), $log.log:"
	sed 's/^/    | /' "$log.log"
elif [ "$skipped" != 0 ]; then
	echo "  SKIP    $name: $passed passed, $skipped skipped, see $log.log"
else
	echo "  PASS    $name: $passed passed"
fi
exit 0
