#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The state directory as an administrator treats it: moved, put back from a backup, with
# other owners and modes.

. "$(dirname "$0")/lib_cli.sh"

# refuses TEXT ARGUMENT...: the daemon does not start, and the log says this
refuses() {
	local text=$1
	shift
	timeout -k 5 "$DEADLINE" "$@" </dev/null >out 2>err
	status=$?
	[ $status = 1 ] || fail "status $status"
	err_has "$text"
	! grep -q 'Input/output' err || fail "no disk has failed: $(cat err)"
}

# ---- on another disk, with a symbolic link where it was ----

start
run 0 send jobs -m x
head -c 400000 /dev/zero | ipc send large || fail 'send large'
stop
mkdir disk
mv state disk/moved
ln -s disk/moved state
start
run 0 receive jobs
out_is x
run 0 receive large
[ "$(wc -c <out)" = 400000 ] || fail "$(wc -c <out) bytes"
run 0 send jobs -m y
stop

# the same further up
ln -s disk link
IPC_SOCKET=$DIR/socket
start --state "$DIR/link/moved"
run 0 receive jobs
out_is y
stop
rm state
mv disk/moved state

# ---- a backup that was put back, but not as the daemon's user ----

if can_be_other; then
	cp "$IPCD" other/
	mkdir theirs
	mv state theirs/state
	chown -R "$OTHER:$OTHER" theirs
	daemon=(setpriv --reuid "$OTHER" --regid "$OTHER" --clear-groups other/"${IPCD##*/}"
		--user --socket theirs/socket --state "$DIR/theirs/state")
	for name in ipcd.db commits spool; do
		chown root: "theirs/state/$name"
		refuses "theirs/state/$name: Permission denied" "${daemon[@]}"
		chown "$OTHER:$OTHER" "theirs/state/$name"
		chmod 500 "theirs/state/$name"
		refuses "cannot read and write $DIR/theirs/state/$name: Permission" \
			"${daemon[@]}"
		chmod 700 "theirs/state/$name"
	done
	chmod 500 theirs/state
	refuses "cannot read and write $DIR/theirs/state/: Permission denied" "${daemon[@]}"
	rm -r theirs
else
	echo 'not done: a wrong owner (needs root)'
fi

finish
