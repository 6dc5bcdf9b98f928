# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# For the tests of the command ipc: a daemon in a private directory, and what ipc prints.
#
# A test sources this file in the directory of the sources. It stands in the directory then,
# has a daemon where it has called start, and calls finish at its end. Nothing sleeps: what
# is to happen is waited for, up to DEADLINE seconds.

DEADLINE=30
OTHER=4000001
IPCD=${IPC_TEST_DAEMON:-build/release/ipcd}
IPC=${IPC_TEST_CLI:-build/release/ipc}
[ -x "$IPCD" ] || { echo "skipped: there is no $IPCD"; exit 77; }
[ -x "$IPC" ] || { echo "skipped: there is no $IPC"; exit 77; }
IPCD=$(realpath "$IPCD") IPC=$(realpath "$IPC")
unset IPC_TEST_DAEMON IPC_TEST_CLI

DIR=$(mktemp -d) || exit 1
cd "$DIR" || exit 1
chmod 755 .
mkfifo never # nothing ever comes out of it: what a pause is made of
unset XDG_RUNTIME_DIR XDG_STATE_HOME XDG_CONFIG_HOME
export HOME=$DIR IPC_SOCKET=$DIR/socket IPC_AUTOSTART=0
status=0 failures=0 daemon_pid='' waiting_pid=''

clean_up() {
	[ -z "$daemon_pid" ] || kill -KILL "$daemon_pid"
	[ -z "$waiting_pid" ] || kill -KILL "$waiting_pid"
	rm -rf "$DIR"
} 2>/dev/null
trap clean_up EXIT

ipc() {
	timeout -k 5 "$DEADLINE" "$IPC" "$@"
}

# start OPTION...: the daemon, with further options; returns when it serves
start() {
	local line state=(--state "$DIR/state")
	[[ " $* " == *' --volatile '* ]] && state=()
	mkfifo ready
	"$IPCD" --socket "$DIR/socket" "${state[@]}" --ready-fd 3 "$@" 3>ready 2>>log &
	daemon_pid=$!
	read -r -t "$DEADLINE" line <>ready
	rm ready
	[ "$line" = READY ] || { echo "ipcd does not start:"; cat log; exit 1; }
}

stop() {
	kill "$daemon_pid"
	wait "$daemon_pid" || fail "ipcd ended with status $?"
	daemon_pid=
}

# crash: what a power cut leaves to this process
crash() {
	kill -KILL "$daemon_pid"
	wait "$daemon_pid" 2>/dev/null
	daemon_pid=
}

# as_kept: takes from out what `send --json` says where the test's directory is on no disk
as_kept() {
	sed -i 's/,"durable":false//' out
}

# fail TEXT...: notes a failure; the test goes on
fail() {
	echo "${BASH_SOURCE[-1]##*/}:${BASH_LINENO[-2]}: $*"
	failures=$((failures + 1))
}

# run STATUS ARGUMENT...: ipc with these arguments must end so; what it prints is in the
# files out and err
run() {
	local wanted=$1
	shift
	ipc "$@" >out 2>err
	status=$?
	[ $status = "$wanted" ] && return
	fail "ipc $*: status $status, not $wanted"
	sed 's/^/    /' out err
}

# out_is TEXT, err_is TEXT: just this, newlines at the end aside
out_is() {
	[ "$(tr -d '\0' <out)" = "$1" ] || fail "out is '$(cat out)', not '$1'"
}

err_is() {
	[ "$(cat err)" = "$1" ] || fail "err is '$(cat err)', not '$1'"
}

# out_has TEXT, err_has TEXT: somewhere in it
out_has() {
	grep -qF -- "$1" out || fail "'$1' is not in: $(cat out)"
}

err_has() {
	grep -qF -- "$1" err || fail "'$1' is not in: $(cat err)"
}

# one_error TEXT: err is one line, which begins with "ipc: " and has the text
one_error() {
	[[ $(wc -l <err) = 1 && $(<err) = 'ipc: '* ]] || fail "not one line: $(cat err)"
	err_has "$1"
}

# wait_for COMMAND...: until it succeeds
wait_for() {
	local end=$((SECONDS + DEADLINE))
	until "$@" 2>/dev/null; do
		[ $SECONDS -lt $end ] || { fail "never came true: $*"; return 1; }
		read -r -t 0.01 <>never || :
	done
}

# counts QUEUE TEXT: does `ipc status QUEUE` show this?
counts() {
	ipc status "$1" | grep -qF -- "$2"
}

# start_ipc ARGUMENT...: ipc in the background, with the file $input as standard input, its
# number in waiting_pid; end_ipc STATUS waits for its end, what it has printed is in out and
# err then. A shell without job control has SIGINT ignored by what it starts so.
start_ipc() {
	env --default-signal=INT "$IPC" "$@" <"${input:-/dev/null}" >later_out 2>later_err &
	waiting_pid=$!
}

end_ipc() {
	wait "$waiting_pid"
	status=$?
	waiting_pid=
	mv later_out out
	mv later_err err
	[ $status = "$1" ] || fail "ipc ended with status $status, not $1: $(cat err)"
}

# can_be_other: is this root, who can run ipc as another user? as_other ARGUMENT...: does that,
# as a user whom nobody knows; status, out and err as with run
can_be_other() {
	[ "$(id -u)" = 0 ] && setpriv --reuid "$OTHER" --clear-groups true 2>/dev/null ||
		return 1
	# the build tree may lie where others may not go
	mkdir other && cp "$IPC" "$(dirname "$IPC")"/libipc.so.0 other/ && chmod 755 other
}

as_other() {
	timeout -k 5 "$DEADLINE" \
		setpriv --reuid "$OTHER" --regid "$OTHER" --clear-groups other/ipc "$@" \
		>out 2>err
	status=$?
}

finish() {
	[ -z "$daemon_pid" ] || stop
	if grep -aE 'Sanitizer|runtime error' log err 2>/dev/null; then
		fail "a sanitizer has spoken"
	fi
	[ $failures = 0 ] || { echo "$failures failures"; exit 1; }
	exit 0
}
