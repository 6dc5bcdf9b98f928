#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The daemon that ipc starts: it is the user's, with the user's configuration.

. "$(dirname "$0")/lib_cli.sh"
unset IPC_SOCKET IPC_AUTOSTART
export XDG_RUNTIME_DIR=$DIR/run IPC_DAEMON=$IPCD
mkdir run

# end_daemon: what was started ends, so that finish sees its log
end_daemon() {
	local pid
	pid=$(ipc --user status --json | sed 's/.*"pid":\([0-9]*\).*/\1/')
	kill "$pid" && wait_for test ! -e "/proc/$pid"
}

# keeps_in DIRECTORY: a message is sent, and that is where it is kept
keeps_in() {
	run 0 --user send notes -m milk
	run 0 --user status
	out_has "$1"
	[ -e "$1/lock" ] || fail "no lock in $1"
	end_daemon
	cat "$2" >>log
}

keeps_in "$DIR/.local/state/ipcd" .local/state/ipcd/log
export XDG_STATE_HOME=$DIR/state
keeps_in "$DIR/state/ipcd" state/ipcd/log
mkdir -p config/ipcd
echo "{ \"state\": \"$DIR/elsewhere\" }" >config/ipcd/ipcd.conf
export XDG_CONFIG_HOME=$DIR/config
keeps_in "$DIR/elsewhere" state/ipcd/log

finish
