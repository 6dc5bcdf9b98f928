#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The examples of libipc compile without a warning as a user would compile them, and do
# what their heads say; epoll over a restart of the daemon.

[ "$BUILD_DIR" ] || { echo "skipped: make sets BUILD_DIR"; exit 77; }
sources=$PWD
# shellcheck source=tests/integration/lib_cli.sh
. "${BASH_SOURCE[0]%/*}/lib_cli.sh"

# A program that links a library with a sanitizer needs its runtime, too.
flags=()
undefined=$(nm -D --undefined-only "$BUILD_DIR/libipc.so") || exit 1
[[ $undefined != *__asan_init* ]] || flags+=("-fsanitize=address,undefined")
[[ $undefined != *__tsan_init* ]] || flags+=(-fsanitize=thread)

for name in poll epoll loop files; do
	# shellcheck disable=SC2086 # CC may be several words
	${CC:-cc} -std=c11 -D_GNU_SOURCE -Wall -Wextra -Wshadow -Werror "${flags[@]}" \
		-I"$sources/libipc/include" -o $name "$sources/libipc/examples/$name.c" \
		-L"$BUILD_DIR" -lipc -Wl,-rpath,"$BUILD_DIR" || exit 1
done

start

# ---- loop: more lines than may be unanswered at once ----

seq 5000 | ./loop numbers >out || fail "loop ended with status $?"
out_is "5000 sent, 0 failed"
run 0 send quiet -m x
: | ./loop numbers >out || fail "loop without input ended with status $?"
out_is "0 sent, 0 failed"

# ---- poll: all of them go on, in order ----

timeout "$DEADLINE" ./poll numbers passed 5000 || fail "poll ended with status $?"
run 0 receive passed -n 5000 --lines
cmp -s out <(seq 5000) || fail "the messages are others: $(head -n 3 out)"
run 3 receive numbers -w 0
run 3 receive passed -w 0

# ---- files: small and large ones, whose names are taken or not ----

if "$IPC_TEST_DAEMON" --limits | grep -q file_max; then
	mkdir sent saved
	seq 10 >sent/small
	seq 1000000 >sent/large.txt
	chmod 640 sent/small
	touch -d '2001-02-03 04:05:06.789' sent/large.txt
	./files send files sent/small sent/large.txt sent/small 2>/dev/null ||
		fail "files send ended with status $?"
	./files receive files saved >out || fail "files receive ended with status $?"
	out_is "small
large.txt
small (1)"
	cmp sent/small saved/small || fail "the small file is another"
	cmp sent/large.txt saved/large.txt || fail "the large file is another"
	[ "$(stat -c %a:%y sent/*)" = "$(stat -c %a:%y saved/large.txt saved/small)" ] ||
		fail "mode or time are others"
	run 3 receive files -w 0
	echo x >$'sent/a\e[31m\n'
	./files send files $'sent/a\e[31m\n' 2>/dev/null || fail 'a name was not sent'
	./files receive files saved >out || fail "files receive ended with status $?"
	out_is 'a?[31m?'
	[ -f $'saved/a\e[31m\n' ] || fail 'saved with another name'
fi

# ---- epoll: the daemon is restarted under it ----

mkfifo printed
./epoll words >printed 2>later_err &
waiting_pid=$!
exec 5<printed
# expect PATTERN: the next line that epoll prints
expect() {
	local line
	read -r -t "$DEADLINE" -u 5 line || fail "nothing was printed, not '$1'"
	# shellcheck disable=SC2053 # a pattern
	[[ $line == $1 ]] || fail "'$line' was printed, not '$1'"
}
run 0 send words -m one
expect one
stop
start
expect 'connected again: ipcd *, another daemon, 0 held'
run 0 send words -m two
expect two
"$IPC" peers --json >out
peer=$(sed -n 's/.*"peer":\([0-9]*\).*"label":"epoll".*/\1/p' out)
run 0 disconnect "$peer"
expect 'connected again: ipcd *, the same daemon, 0 held'
run 0 send words -m quit
expect quit
wait "$waiting_pid" || fail "epoll ended with status $?: $(cat later_err)"
waiting_pid=
exec 5<&-
run 3 receive words -w 0

finish
