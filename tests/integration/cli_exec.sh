#!/bin/bash
# SPDX-License-Identifier: MIT
#
# ipc receive --exec: what a command gets, what its end means, several at once, signals.

. "$(dirname "$0")/lib_cli.sh"
# One failure and a message is dead: so it can be seen what counts as one.
start --limit max_attempts=1 --limit lost_delay=0

# ---- what a command gets ----

export IPC_META=stale IPC_QUEUE=stale
run 0 send e -m 'the body' --meta '{"k":"v w"}'
run 0 receive e --exec sh -c 'cat; echo; env | grep ^IPC_ | sort; echo "$#: $*"' sh 'a b' -n --json
lease=$(grep ^IPC_LEASE= out)
out_is "the body
IPC_ATTEMPT=1
IPC_AUTOSTART=0
IPC_FROM_UID=$(id -u)
IPC_FROM_USER=$(id -un)
$lease
IPC_MESSAGE=1
IPC_META={\"k\":\"v w\"}
IPC_QUEUE=e
IPC_SOCKET=$DIR/socket
3: a b -n --json"
[ "$lease" != IPC_LEASE= ] || fail 'no lease'
run 0 send e -m x
# shellcheck disable=SC2016 # for the shell that ipc runs
run 0 receive e --exec sh -c 'echo "${IPC_META-unset}"; ls -l /proc/self/fd | grep -c socket
	echo y 2>/dev/null >&0 || echo "stdin is read only"'
out_is 'unset
0
stdin is read only'
unset IPC_META IPC_QUEUE

# ipc in a command talks to the same daemon, wherever that goes, and may ask for more time.
run 0 send e -m x
# shellcheck disable=SC2016
IPC_SOCKET=/nonexistent run 0 receive --socket socket e --ack-wait 1h --exec \
	sh -c 'cd / && "$1" touch $IPC_MESSAGE $IPC_LEASE && "$1" send answer -m "to $IPC_MESSAGE"' sh "$IPC"
run 0 receive answer -w 0
out_is 'to 3'

# Larger than any pipe: read, not read, and read in part.
head -c 5000000 /dev/urandom >large
for command in 'cmp - large' 'true' 'head -c 10'; do
	run 0 send e <large
	# shellcheck disable=SC2086 # a command line
	run 0 receive e --exec $command
done
counts e 'ready 0, delayed 0, leased 0, dead 0' || fail "left over: $(ipc status e)"

# ---- what its end means ----

run 0 send f -m x
run 1 receive f --exec sh -c 'exit 7'
one_error 'message 8: exit status 7 of sh'
run 0 receive f --peek --json
out_has '"state":"dead"'
out_has '"reason":"exit status 7"'
run 0 send g -m x
# shellcheck disable=SC2016
run 1 receive g --exec sh -c 'kill -KILL $$'
one_error 'message 9: signal KILL of sh'
run 0 receive g --peek --json
out_has '"reason":"signal KILL"'

# That there is no such command is not the message's fault.
run 0 send h -m x
run 1 receive h --exec ./no-such-command
one_error 'cannot run ./no-such-command: No such file or directory'
counts h 'ready 1, delayed 0, leased 0, dead 0' || fail "$(ipc status h)"

# Nor that there is no place for its file; that is not said of the command.
run 0 send files --as name - <<<text
TMPDIR=$DIR/nowhere run 1 receive files --exec cat
one_error "cannot be saved in $DIR/nowhere: No such file or directory"
wait_for counts files 'ready 1, delayed 0, leased 0, dead 0'
run 0 receive files --exec cat
out_is text
run 3 receive none -w 0 --exec true
one_error 'there is nothing'
run 3 receive h -n 2 -w 0 --exec true
one_error 'only 1 of 2 messages came'

# ---- several at once ----

# Each waits until all four run.
cat >together <<'SH'
touch "running.$IPC_MESSAGE"
for ((i = 0; i < 3000; i++)); do
	set -- running.*
	[ $# = 4 ] && exec cat
	read -r -t 0.01 <>never
done
exit 1
SH
run 0 send j --lines < <(seq 4)
run 0 receive j -n 4 -j 4 --exec bash together
[ "$(grep -o . out | sort | tr -d '\n')" = 1234 ] || fail "$(cat out)"

# Never more than that.
cat >count <<'SH'
mkdir "busy.$IPC_MESSAGE"
set -- busy.*
echo $#
rmdir "busy.$IPC_MESSAGE"
SH
run 0 send k --lines < <(seq 60)
run 0 receive k -f -w 0 -j 3 --exec bash count
[ "$(wc -l <out)" = 60 ] || fail 'not 60 commands'
grep -q '[^123]' out && fail "more than three at once: $(sort out | uniq -c)"
counts k 'acknowledged 60' || fail "$(ipc status k)"

# One that fails does not hold up the others.
run 0 send m --lines < <(seq 9)
run 1 receive m -f -w 0 -j 2 --exec grep -v 5
counts m 'dead 1' || fail "$(ipc status m)"
counts m 'acknowledged 8' || fail "$(ipc status m)"

# ---- signals ----

cat >job <<'SH'
[ "$1" != stubborn ] || trap 'touch refused' TERM
touch "started.$IPC_MESSAGE"
for ((i = 0; i < 3000; i++)); do
	[ -e go ] && exec cat
	read -r -t 0.01 <>never
done
exit 1
SH
started() {
	set -- "$1" started.*
	[ -e "$2" ] && [ $(($# - 1)) = "$1" ]
}
stopping() {
	grep -q 'stopping when' later_err
}

# The first: what runs may finish, and no more is taken.
run 0 send s --lines < <(seq 5)
start_ipc receive s -f -j 2 --exec bash job
wait_for started 2
kill -TERM "$waiting_pid"
wait_for stopping
touch go
end_ipc 0
[ "$(grep -o . out | sort | tr -d '\n')" = 12 ] || fail "$(cat out)"
one_error 'stopping when 2 running commands have ended'
counts s 'ready 3' || fail "$(ipc status s)"

# The second ends them, uncounted; the third whoever does not want to.
rm -f go started.*
start_ipc receive s -f -j 2 --exec bash job
wait_for started 2
kill -TERM "$waiting_pid"
wait_for stopping
kill -TERM "$waiting_pid"
end_ipc 1
out_is ''
counts s 'ready 3, delayed 0, leased 0, dead 0' || fail "$(ipc status s)"
rm -f started.*
start_ipc receive s -f --exec bash job stubborn
wait_for started 1
kill -TERM "$waiting_pid"
wait_for stopping
kill -TERM "$waiting_pid"
wait_for test -e refused
kill -TERM "$waiting_pid"
end_ipc 1
counts s "ready 3, delayed 0, leased 0, dead 0" || fail "$(cat err; ipc receive s --peek --json)"

# What was ignored stays ignored: nohup.
rm -f started.*
trap '' HUP
start_ipc receive s --exec bash job
trap - HUP
wait_for started 1
kill -HUP "$waiting_pid"
touch go
end_ipc 0
out_is 3

# While nothing runs the first is enough.
start_ipc receive idle -f --exec true
wait_for counts idle 'receivers 1'
kill -TERM "$waiting_pid"
end_ipc 0
err_is ''

# Without -f something was asked for that has not come.
start_ipc receive idle -n 2 --exec true
wait_for counts idle 'receivers 1'
kill -TERM "$waiting_pid"
end_ipc 1
one_error 'receive idle: stopped by a signal when 0 of 2 messages had come'

# ---- nobody reads what the commands write ----

# It is no fault of the messages.
for i in 1 2 3 4 5; do run 0 send piped -m "$i"$'\n'; done
ipc receive piped -f --exec cat 2>err | head -1 >out
out_is 1
err_is ''
counts piped 'delayed 0, leased 0, dead 0' || fail "$(ipc status piped)"
ipc receive piped --peek -n 5 --json >peeked 2>/dev/null
grep -q '"attempt":0' peeked || fail "none is as it was: $(cat peeked)"
! grep -v '"attempt":0' peeked || fail "an attempt counts: $(cat peeked)"

# ---- the daemon ends while a command runs ----

rm -f go started.*
start_ipc receive s --exec bash job
wait_for started 1
stop
touch go
end_ipc 5
out_is 4

finish
