#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The installed units on a real systemd, which systemd-in-namespace.sh boots in namespaces
# of its own: nothing outside the test's directory is touched.
#
# The script runs twice: outside it installs into a staging directory and boots, inside
# (with "inside" as first argument) it is the administrator.

LIMIT=100 # seconds for all of it

# ---- outside ----

if [ "$1" != inside ]; then
	sources=$PWD
	# shellcheck source=tests/integration/lib_cli.sh
	. tests/integration/lib_cli.sh
	if ! make -C "$sources" SETUP=no BUILD="$(basename "${BUILD_DIR:-release}")" install \
		DESTDIR="$DIR/stage" >install.log 2>&1; then
		cat install.log
		exit 1
	fi
	mkdir units shared
	cp "$sources/tests/integration/systemd_namespace.sh" shared
	bin=$(find stage -name ipcd -type f -printf '%h')
	cp "$IPCD" "$bin/ipcd"
	timeout -k 5 $LIMIT bash "$sources/tests/systemd-in-namespace.sh" -s stage -b shared \
		units -- bash "$DIR/shared/systemd_namespace.sh" inside "/${bin#stage/}"
	status=$?
	case $status in
	0) exit 0 ;;
	77) exit 77 ;;
	124) echo "ended after $LIMIT s" ;;
	esac
	echo "---- the journal"
	cat shared/journal
	exit 1
fi

# ---- inside: helpers ----

shared=$(dirname "$0") bin=$2 failures=0
cd "$shared" || exit 1
trap 'journalctl --no-pager >journal' EXIT
DEADLINE=30
export LC_ALL=C.UTF-8 IPC_AUTOSTART=0 ASAN_OPTIONS=detect_leaks=0 PATH=$bin:$PATH
unset IPC_SOCKET XDG_RUNTIME_DIR

fail() {
	echo "${FUNCNAME[-2]}: $*"
	failures=$((failures + 1))
}

# must COMMAND...: it succeeds; its output is shown only if it does not
must() {
	timeout $DEADLINE "$@" >out 2>&1 </dev/null && return
	fail "$* (status $?): $(cat out)"
}

must_not() {
	timeout $DEADLINE "$@" >out 2>&1 </dev/null || return
	fail "$* succeeds: $(cat out)"
}

wait_for() {
	local end=$((SECONDS + DEADLINE))
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || { fail "never came true: $*"; return 1; }
		read -r -t 0.02 <>/dev/null || :
	done
}

as_nobody=(setpriv --reuid nobody --regid "$(id -g nobody)" --clear-groups)
as_daemon=(setpriv --reuid daemon --regid daemon --clear-groups)

out_has() { grep -qF -- "$1" out || fail "'$1' is not in: $(cat out)"; }
is() { [ "$1" = "$2" ] || fail "it is '$1', not '$2'"; }
has_state() { [ "$(systemctl show -P "$1" ipcd.service)" = "$2" ]; }
main_pid() { systemctl show -P MainPID ipcd.service; }

# drop_in NAME LINE...: for ipcd.service, of users too
drop_in() {
	local file=ipcd.service.d/$1.conf
	shift
	for directory in /run/systemd/system /run/systemd/user; do
		mkdir -p "$directory/${file%/*}"
		printf '%s\n' "$@" >"$directory/$file"
	done
	systemctl daemon-reload
}

# ---- the test ----

units_are_sound() {
	must systemd-analyze verify --man=no --recursive-errors=no ipcd.socket ipcd.service
	is "$(cat out)" ''
	must env XDG_RUNTIME_DIR=/run systemd-analyze --user verify --man=no --recursive-errors=no ipcd.socket \
		ipcd.service
	must systemd-analyze security --offline=yes --threshold=20 --no-pager \
		"$(systemctl show -P FragmentPath ipcd.service)"
}

socket_activates() {
	must systemctl start ipcd.socket
	has_state ActiveState inactive || fail "the service runs before it is needed"
	is "$(stat -c '%a %U' /run/ipcd) $(stat -c '%a %U' /run/ipcd/socket)" '755 root 666 root'
	must ipc ping
	has_state ActiveState active || fail "the service is not active"
	is "$(stat -c %U "/proc/$(main_pid)")" ipcd
	is "$(stat -c '%a %U' /var/lib/ipcd)" '700 ipcd'
	[[ $(systemctl show -P StatusText ipcd.service) == "peers: "* ]] ||
		fail "the status is '$(systemctl show -P StatusText ipcd.service)'"
}

users_have_their_rights() {
	must ipc send jobs -m hello
	must ipc receive jobs
	is "$(cat out)" hello
	must "${as_nobody[@]}" ipc send @root -m note
	must_not "${as_nobody[@]}" ipc send jobs -m note
	must_not "${as_nobody[@]}" ipc send more-jobs -m note
	out_has 'more-jobs'
	must ipc receive --json @root
	out_has '"user":"nobody"' # the name service answers in the sandbox
}

# The command of another user's process: /proc must not hide it.
peers_have_commands() {
	"${as_daemon[@]}" ipc receive -w $DEADLINE >/dev/null 2>&1 &
	local pid=$!
	wait_for eval "ipc peers --json | grep '\"pid\":$pid,.*\"command\":\"ipc\"'"
	kill $pid
	wait $pid
}

configuration_is_reloaded() {
	must systemctl reload ipcd.service
	mkdir -p /etc/ipcd
	echo '{"rules":' >/etc/ipcd/ipcd.conf
	must_not systemctl reload ipcd.service
	must ipc ping
	echo '{}' >/etc/ipcd/ipcd.conf
	must systemctl reload ipcd.service
	has_state SubState running || fail "not running after a reload"
}

# The next start waits at a gate, and so do those who connect meanwhile.
n_connected() { grep -c ' /run/ipcd/socket$' /proc/net/unix; }
three_wait() { [ "$(n_connected)" = 4 ]; } # with the listening one

restart_refuses_nobody() {
	local pids=() pid
	mkfifo -m 644 /run/gate
	drop_in gate '[Service]' 'ExecStartPre=sh -c "read line </run/gate"'
	must systemctl restart --no-block ipcd.service
	wait_for has_state SubState start-pre
	for i in 1 2 3; do
		timeout $DEADLINE ipc send restarted -m "message $i" &
		pids+=($!)
	done
	wait_for three_wait
	echo open >/run/gate
	for pid in "${pids[@]}"; do
		wait "$pid" || fail "a sender was refused over the restart"
	done
	must ipc receive -n 3 restarted
	drop_in gate
}

# A daemon whose loop is stuck is replaced; the client that waits for it is served.
watchdog_restarts() {
	local before
	drop_in watchdog '[Service]' WatchdogSec=2s
	must systemctl restart ipcd.service
	before=$(main_pid)
	systemctl kill -s STOP ipcd.service
	must ipc ping
	[ "$(main_pid)" != "$before" ] || fail "it is still the one that was stopped"
	is "$(systemctl show -P NRestarts ipcd.service)" 1
	journalctl --no-pager -u ipcd.service | grep -q 'Watchdog timeout' ||
		fail "it was not the watchdog"
	drop_in watchdog
}

crash_restarts() {
	local before
	must systemctl restart ipcd.service
	before=$(main_pid)
	systemctl kill -s KILL ipcd.service
	must ipc ping
	[ "$(main_pid)" != "$before" ] || fail "it is still the one that was killed"
}

stop_leaves_the_socket() {
	must systemctl stop ipcd.service
	[ -S /run/ipcd/socket ] || fail "the socket is gone with the service"
	[ ! -e /run/ipcd/socket.lock ] || fail "there is a lock file"
	must ipc ping
	must systemctl stop ipcd.socket ipcd.service
	[ ! -e /run/ipcd/socket ] || fail "the socket unit has left its socket"
}

# A socket that cannot be served: the reason is in the journal.
wrong_socket_is_named() {
	mkdir -p /run/systemd/system/ipcd.socket.d
	printf '%s\n' '[Socket]' 'ListenSequentialPacket=/run/ipcd/packets' \
		'FileDescriptorName=odd' >/run/systemd/system/ipcd.socket.d/odd.conf
	systemctl daemon-reload
	must_not systemctl start ipcd.service
	journalctl --no-pager -u ipcd.service |
		grep -qF '"odd" (descriptor 4), a Unix sequential-packet socket' ||
		fail "the journal does not name the socket"
	must systemctl stop ipcd.service ipcd.socket
	rm -r /run/systemd/system/ipcd.socket.d
	systemctl daemon-reload
}

# The user units, on the manager of a user who has just logged in.
user_units_work() {
	local uid as_user
	must useradd --create-home tester
	uid=$(id -u tester)
	if ! systemctl start "user@$uid.service" 2>out; then
		echo "the user units are not tested: there is no user manager: $(cat out)"
		return
	fi
	as_user=(setpriv --reuid tester --regid tester --clear-groups
		env HOME=/home/tester XDG_RUNTIME_DIR="/run/user/$uid")
	must "${as_user[@]}" systemctl --user start ipcd.socket
	is "$(stat -c '%a %U' "/run/user/$uid/ipcd/socket")" '600 tester'
	must "${as_user[@]}" ipc --user ping
	must "${as_user[@]}" ipc --user send jobs -m mine
	must "${as_user[@]}" systemctl --user reload ipcd.service
	must "${as_user[@]}" systemctl --user restart ipcd.service
	must "${as_user[@]}" ipc --user ping
	is "$(cat /home/tester/.local/state/ipcd/lock)" "/run/user/$uid/ipcd/socket"
	must systemctl stop "user@$uid.service"
}

must systemd-sysusers
must ldconfig
# Restarts are many here. A sanitized ipcd cannot look for leaks in the sandbox.
drop_in test '[Unit]' StartLimitIntervalSec=0 '[Service]' \
	Environment=ASAN_OPTIONS=detect_leaks=0
units_are_sound
socket_activates
users_have_their_rights
peers_have_commands
configuration_is_reloaded
restart_refuses_nobody
watchdog_restarts
crash_restarts
stop_leaves_the_socket
wrong_socket_is_named
user_units_work

if journalctl --no-pager | grep -aE 'Sanitizer|runtime error'; then
	fail "a sanitizer has spoken"
fi
[ $failures = 0 ] || { echo "$failures failures"; exit 1; }
