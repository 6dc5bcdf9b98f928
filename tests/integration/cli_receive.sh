#!/bin/bash
# SPDX-License-Identifier: MIT
#
# ipc receive: what is printed, when it is acknowledged, what becomes of what was not.

. "$(dirname "$0")/lib_cli.sh"
start --limit lost_delay=0

# ---- how many, how long ----

run 0 send a --lines < <(seq 5)
run 0 receive a
out_is 1
run 0 receive a -n 2 --lines
out_is $'2\n3'
run 3 receive a -n 9 -w 0 --lines
out_is $'4\n5'
one_error 'only 2 of 9 messages came'
run 3 receive a -w 0
one_error 'there is nothing'
run 3 receive a -w 20ms
one_error 'nothing came in 20ms'
run 3 receive a -f -w 0
run 3 -q receive a -w 0
err_is ''
run 2 receive 'no name' -w 0
counts a 'acknowledged 5' || fail 'not all are acknowledged'

# ---- several queues, in order of preference; the inbox ----

run 0 send b -m b
run 0 send c -m c
run 0 receive none c b -n 2 --lines
out_is $'c\nb'
run 0 send "@$(id -u)" -m mail
run 0 receive
out_is mail
# shellcheck disable=SC2046 # numbers
run 1 receive $(seq -f 'q%g' 65)
one_error 'at most 64'

# It waits for what comes later.
start_ipc receive later -n 2 --lines
wait_for counts later 'receivers 1'
run 0 send later -m one
run 0 send later -m two
end_ipc 0
out_is $'one\ntwo'

# ---- windows ----

seq 5000 >numbers
run 0 send a --lines <numbers
run 0 receive a -f -w 0 --lines -W 100
cmp out numbers || fail '-W 100'
counts a 'leased 0' || fail '-W left something'
run 0 send a --lines <numbers
run 0 receive a -n 7 --lines -W 100
out_is "$(seq 7)"
counts a 'ready 4993' || fail 'what came too many is not back'
run 0 receive a -f -w 0 --lines -W 65536
out_is "$(seq 8 5000)"

# ---- JSON ----

run 0 send j --meta $'{"a":\n1}' < <(printf 'text "\n')
run 0 send j < <(printf '\xff\0')
run 0 receive j -n 2 --json
[ "$(wc -l <out)" = 2 ] || fail 'one line for each message'
head -1 out | grep -qF '"body":"text \"\n"' || fail "body: $(cat out)"
out_has '"body_base64":"/wA="'
out_has "\"from\":{\"uid\":$(id -u),"

# ---- --peek leaves it, --no-ack leaves it leased ----

run 0 send p --lines < <(seq 3)
run 0 receive p --peek --lines
out_is $'1\n2\n3'
run 0 receive p --peek --lines -n 2
out_is $'1\n2'
run 0 receive p --peek --lines -n 4 # no more than that, not: that many
out_is $'1\n2\n3'
err_is ''
run 3 receive none --peek
one_error 'there is nothing'
run 3 receive none --peek -n 4
one_error 'there is nothing'
counts p 'ready 3' || fail '--peek took something'

run 0 receive p --no-ack -n 2
out_is 12
[ "$(wc -l <err)" = 2 ] || fail "no leases: $(cat err)"
read -r _ _ _ _ message _ _ lease <err
run 0 ack "$message" "$lease"
run 2 ack "$message" "$lease"
one_error "ack $message: "
read -r _ _ _ _ message _ _ lease < <(tail -1 err)
# A lease that is told nowhere is of no use.
for options in '' '--json -o .'; do
	# shellcheck disable=SC2086 # a list
	run 1 -q receive p --no-ack $options
	one_error 'does not go together with -q'
done
run 0 -q receive p --no-ack --json
out_has '"lease":"'
run 0 receive p --no-ack --json
read -r message lease < <(sed 's/.*"message":\([0-9]*\).*"lease":"\([^"]*\).*/\1 \2/' out)
run 0 nack "$message" "$lease" --delay 1h --no-count --reason because
counts p 'delayed 1' || fail 'nack --delay'
run 0 receive p --no-ack --json
read -r message lease < <(sed 's/.*"message":\([0-9]*\).*"lease":"\([^"]*\).*/\1 \2/' out)
run 2 touch "$message" "$lease"
one_error "touch $message: "
run 0 reject "$message" "$lease" --reason 'of no use'
counts p 'dead 1' || fail 'reject'
run 0 receive p --peek --json
out_has '"reason":"of no use"'

# ---- what cannot be written is not acknowledged ----

run 0 send w -m precious
ipc receive w >/dev/full 2>err
[ $? = 1 ] || fail 'written to a full disk'
one_error 'cannot write: No space left on device; the message stays in the queue'
ipc receive w -w 5s >&- 2>err
[ $? = 1 ] || fail 'written to nowhere'
head -c 9000 /dev/zero >large
run 0 send w <large
(ulimit -f 1 && trap '' XFSZ && ipc receive w -n 2 -w 5s >file 2>/dev/null)
[ $? = 1 ] || fail 'written beyond a limit'
run 0 receive w -n 2 -w 5s --json
out_has '"body":"precious"'
out_has '"attempt":1,'
out_has '"size":9000'

ipc send w -m file
ipc receive w -w 5s >file || fail 'written to a file'
[ "$(cat file)" = file ] || fail 'a file has it'

# The reader goes away: quietly, and the next message is still there.
run 0 send r --lines < <(seq 100)
ipc receive r -f --lines 2>err | read -r _
err_is ''
run 0 receive r -w 5s
# shellcheck disable=SC2216 # true reads nothing, that is the point
ipc receive empty -f --lines 2>err | true
err_is ''

# ---- --ack-wait; other ends ----

run 0 send t -m twice
start_ipc receive t --no-ack --ack-wait 10ms -n 2 --json
end_ipc 0
grep -q '"attempt":2' out || fail "not handed out again: $(cat out)"

# What is printed late is still acknowledged if nobody else was given it, with a window, too.
head -c 40000 /dev/zero >part # two of them are more than a pipe holds
both_came_back() {
	[ "$(ipc receive late --peek -n 2 --json | grep -c '"attempt":1,.*"state":"ready"')" = 2 ]
}
mkfifo slow
for taken in 0 1; do
	run 0 send late part part
	"$IPC" receive late -n 2 -W 2 --ack-wait 10ms >slow 2>later_err &
	waiting_pid=$!
	exec 5<slow
	wait_for both_came_back
	[ $taken = 0 ] || run 0 receive late -w 0
	cat <&5 >later_out
	exec 5<&-
	end_ipc $((2 * taken))
	[ "$(wc -c <out)" = 80000 ] || fail 'not all was printed'
	counts late 'ready 0, delayed 0, leased 0, dead 0' || fail 'printed, but not acknowledged'
done
one_error 'is not leased to you'

start_ipc receive stop -f
wait_for counts stop 'receivers 1'
peer=$(ipc peers --json | grep '"requests":1' | sed 's/.*"peer":\([0-9]*\).*/\1/')
run 0 disconnect "$peer"
end_ipc 5
one_error "$DIR/socket"
start_ipc receive stop -f
wait_for counts stop 'receivers 1'
stop
end_ipc 5
one_error 'receive stop: '

# ---- a terminal gets no control characters ----

if command -v script >/dev/null; then
	start
	run 0 send tty < <(printf 'a\033[1m\x9b\xc2\x9b\x7f\xc3\xa4')
	script -qec "$IPC receive tty" /dev/null </dev/null | tr -d '\r' >out
	out_is 'a\x1b[1m\x9b\xc2\x9b\x7fä'
	[ "$(wc -l <out)" = 1 ] || fail 'a terminal needs a newline at the end'
	run 0 send tty < <(printf 'a\x7f\xc2\x9b')
	script -qec "$IPC receive tty --json" /dev/null </dev/null >out
	out_has '"body":"a\u007f\u009b"'
fi

finish
