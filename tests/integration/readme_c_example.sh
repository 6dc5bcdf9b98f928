#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The C example of README.md compiles without a warning, and does what README.md says.

dir=$(mktemp -d "${TMPDIR:-/tmp}/ipcd-test.XXXXXX") || exit 1
daemon=
clean_up() {
	[ -z "$daemon" ] || kill "$daemon"
	wait
	rm -rf "$dir"
} 2>/dev/null
trap clean_up EXIT

die() {
	echo "$*"
	exit 1
}

# A program that links a library with a sanitizer needs its runtime, too.
flags=()
undefined=$(nm -D --undefined-only "$BUILD_DIR/libipc.so") || exit 1
[[ $undefined != *__asan_init* ]] || flags+=("-fsanitize=address,undefined")
[[ $undefined != *__tsan_init* ]] || flags+=(-fsanitize=thread)

sed -n '/^```c$/,/^```$/p' README.md | sed '1d; $d' >"$dir/example.c"
[ -s "$dir/example.c" ] || die "README.md: there is no C example"
# shellcheck disable=SC2086 # CC may be several words
${CC:-cc} -std=c11 -pedantic -Wall -Wextra -Werror "${flags[@]}" -Ilibipc/include \
	-o "$dir/example" "$dir/example.c" -L"$BUILD_DIR" -lipc \
	-Wl,-rpath,"$BUILD_DIR" || die "README.md: the example does not compile"

# That example's command line needs no other package than ours: those of libipc are linked.
sed 's|@[A-Z]*@|/x|' libipc/libipc.pc.in >"$dir/libipc.pc"
flags=$(PKG_CONFIG_LIBDIR=$dir ${PKG_CONFIG:-pkg-config} --cflags --libs libipc) ||
	die "libipc.pc needs more than libipc"
[ "${flags% }" = '-I/x -L/x -lipc' ] || die "libipc.pc says $flags"

export IPC_SOCKET=$dir/socket IPC_AUTOSTART=0
mkfifo "$dir/ready" || exit 1
"$IPC_TEST_DAEMON" --user --volatile --socket "$IPC_SOCKET" --ready-fd 3 3>"$dir/ready" &
daemon=$!
read -r word <"$dir/ready" && [ "$word" = READY ] || die "ipcd does not start"

output=$("$dir/example") || die "the example's exit status is $?"
[ "$output" = "buy milk" ] || die "the example printed '$output'"
queue=$("$IPC_TEST_CLI" name ls notes --json) || exit 1
[[ $queue == *'"acked":1'* ]] || die "not acknowledged: $queue"

# Without a daemon it says so.
ended=$daemon daemon=
kill "$ended" && wait "$ended" || die "ipcd ended with status $?"
output=$("$dir/example" 2>&1)
[[ $output == *"$IPC_SOCKET"* ]] || die "without a daemon the example printed '$output'"
