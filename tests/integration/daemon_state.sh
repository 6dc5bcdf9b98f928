#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The state directory as an administrator treats it: moved, put back from a backup, with other
# owners and modes, and made under any umask and limit.

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

# ---- made by somebody else, so that others can enter ----

: >log
chmod 711 state
start
grep -qF "$DIR/state has mode 0711" log || fail "$(cat log)"
stop
: >log
chmod 700 state
start
! grep 'has mode' log || fail 'a mode that is right'

# ---- moved away under a daemon that runs ----

mv state moved
run 2 doctor
out_has "disk: the state directory $DIR/state is not where it was; if it was moved put it back"
run 0 status
out_has 'disk        unknown: the state directory is not where it was'
mv moved state
ipc doctor >out 2>err
! grep 'where it was' out || fail 'it is there again'
stop

# ---- of another version: what the log advises leads to a store without damage ----

cp -a state newer
printf '\0\0\0\143' | dd of=newer/ipcd.db bs=1 seek=60 conv=notrunc 2>/dev/null
refuses "in format 99; this one has format 2." "$IPCD" --socket "$DIR/socket" --state newer
err_has 'move newer away, whole'
mv newer away
start --state newer
ipc doctor >out 2>err
! grep damage out || fail "$(cat out)"
stop

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

# ---- whatever the umask is ----

rm -rf state socket.lock
umask 0777
chmod 755 .
start
umask 022
run 0 send jobs -m x
for file in state state/lock state/reserve state/spool socket.lock; do
	case $(stat -c %a "$file") in
	600 | 700) ;;
	*) fail "$file has mode $(stat -c %a "$file")" ;;
	esac
done
stop

# the system's socket is for all, also where root's files are root's alone
in_private_run() {
	mount -t tmpfs none /run || exit 99
	mkfifo /run/ready
	(umask 077; exec "$IPCD" --system --volatile --ready-fd 3 3>/run/ready 2>>log) &
	daemon_pid=$!
	read -r -t "$DEADLINE" _ <>/run/ready
	stat -c '%a %U' /run/ipcd
	kill "$daemon_pid"
	wait "$daemon_pid"
}
export -f in_private_run
export IPCD DEADLINE
if [ "$(id -u)" = 0 ] && unshare -m true 2>/dev/null; then
	unshare -m bash -c in_private_run >out
	[ $? = 99 ] || out_is '755 root'
else
	echo 'not done: the directory of the system'\''s socket (needs root)'
fi

# ---- a limit of the size of files is no reason to die ----

rm -rf state
ulimit -S -f 4096
start
ulimit -S -f unlimited
run 0 send jobs -m x
head -c 5000000 /dev/zero | ipc send jobs 2>err && fail 'more than the limit was taken'
err_has 'File too large; the message was not taken'
run 0 receive jobs
out_is x
stop

finish
