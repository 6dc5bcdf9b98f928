#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The example of ipcd.conf(5) is a configuration that ipcd accepts, and so is what it dumps
# of it; with a mistake in it, it is refused by file and line.

page=$BUILD_DIR/daemon/ipcd.conf.5
dir=$(mktemp -d "${TMPDIR:-/tmp}/ipcd-test.XXXXXX") || exit 1
trap 'rm -rf "$dir"' EXIT

die() {
	echo "$*"
	exit 1
}

check() {
	"$IPC_TEST_DAEMON" --check-config --config "$1" 2>&1
}

sed -n '/^\.\\" begin example$/,/^\.\\" end example$/{ /^\./d; s/\\-/-/g; p }' "$page" \
	>"$dir/ipcd.conf"
rules=$(grep -c '"names"' "$dir/ipcd.conf")
[ "$rules" != 0 ] || die "$page: there is no example"

output=$(check "$dir/ipcd.conf") || die "the example is refused: $output"
[[ $output == *": $rules rules, no mistake found" ]] || die "of $rules rules: $output"

"$IPC_TEST_DAEMON" --dump-config --config "$dir/ipcd.conf" >"$dir/dump.conf" ||
	die "the example cannot be dumped"
output=$(check "$dir/dump.conf") || die "what is dumped is refused: $output"
grep -q '"queue_messages": 100000$\|"queue_messages": 100000,' "$dir/dump.conf" ||
	die "the dump has not the example's limit"
# What a rule does not say must not be in the dump: it would change what the rule means.
grep -q '{ "names": "@0" }' "$dir/dump.conf" || die "the dump says more than the rule"

sed 's/"max_attempts"/"max_attempt"/' "$dir/ipcd.conf" >"$dir/wrong.conf"
line=$(grep -n '"max_attempt"' "$dir/wrong.conf" | cut -d: -f1)
output=$(check "$dir/wrong.conf") && die "a mistake is accepted: $output"
[[ $output == *"$dir/wrong.conf:$line: "*max_attempt* ]] || die "the mistake: $output"
