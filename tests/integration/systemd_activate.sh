#!/bin/bash
# SPDX-License-Identifier: MIT
#
# ipcd started by systemd-socket-activate(1), which is systemd's own side of the sockets
# without a manager: the first connection starts the daemon, which serves both sockets.

command -v systemd-socket-activate >/dev/null || {
	echo "skipped: there is no systemd-socket-activate (package systemd)"
	exit 77
}
# shellcheck source=tests/integration/lib_cli.sh
. tests/integration/lib_cli.sh

mkfifo ready
systemd-socket-activate --listen="$DIR/socket" --listen="$DIR/side" --fdname=main:side \
	"$IPCD" --state state --ready-fd 1 >ready 2>>log &
daemon_pid=$!
exec 3<>ready # so that the daemon does not wait for a reader
wait_for test -S side

# This connection comes before the daemon does.
run 0 --socket "$DIR/side" ping
read -r -t "$DEADLINE" line <&3
[ "$line" = READY ] || fail "ipcd said '$line', not READY"
run 0 send greetings -m hello
run 0 --socket "$DIR/side" receive greetings
out_is hello
grep -qF "$DIR/socket, passed as main" log || fail "the first socket is not in the log"
grep -qF "$DIR/side, passed as side" log || fail "the second socket is not in the log"

stop
for file in socket side; do
	[ -S $file ] || fail "$file is not left to who made it"
	[ ! -e $file.lock ] || fail "there is a lock for $file, which ipcd has not made"
done

# What is no stream socket is refused by its name.
rm -f side
systemd-socket-activate --listen="$DIR/side" --datagram --fdname=letters \
	"$IPCD" --state state >/dev/null 2>err &
daemon_pid=$!
wait_for test -S side
python3 -c 'import socket, sys
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"x", sys.argv[1])' "$DIR/side"
wait "$daemon_pid"
status=$? daemon_pid=
[ $status = 1 ] || fail "ipcd ended with status $status, not 1"
err_has '"letters" (descriptor 3), a Unix datagram socket'

finish
