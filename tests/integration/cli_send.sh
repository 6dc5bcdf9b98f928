#!/bin/bash
# SPDX-License-Identifier: MIT
#
# ipc send: bodies, options, --lines, a full queue.

. "$(dirname "$0")/lib_cli.sh"
start --limit queue_messages=100 --limit file_max=16777216

# take QUEUE: all that is there, as JSON
take() {
	ipc receive "$1" -f -w 0 --json
}

# ---- one message ----

run 0 send a -m hello
out_is ''
err_is ''
run 0 receive a
out_is hello
run 0 send a -m ''
run 0 receive a --json
out_has '"size":0'
run 0 -q send --json a -m x
as_kept
out_is '{"message":3}'
run 0 send -v -m y a
out_is 4
run 0 receive a -n 2
out_is xy

head -c 1000000 /dev/urandom >binary
run 0 send a <binary
run 0 receive a
cmp out binary || fail 'a binary body'
run 0 send a - <binary
run 0 receive a
cmp out binary || fail 'a binary body, with -'
run 0 send a </dev/null
run 0 receive a
out_is ''

# A line break is no message's end, and -m adds none.
run 0 send a < <(printf 'two\nlines\n')
run 0 receive a
[ "$(wc -c <out)" = 10 ] || fail 'newlines of a body'

head -c 17000000 /dev/zero >large
run 2 send a <large
one_error '16777216'
one_error '(file_max)'
run 2 send 'no name' -m x
one_error 'send no name: '

# ---- options ----

run 0 send a -m low -p 9
run 0 send a -m middle
run 0 send a -m high -p 0 --meta '{"k": [1, "v"]}'
run 0 receive a --json
out_has '"body":"high"'
out_has '"meta":{"k": [1, "v"]}'
out_has '"priority":0'
run 0 receive a -n 2 --lines
out_is $'middle\nlow'

deep=$(printf '{"a":%.0s' {1..31})1$(printf '}%.0s' {1..31})
run 0 send deep -m x --meta "$deep"
run 0 receive deep --json
out_has "\"meta\":$deep"

run 0 send a -m late --delay 1h
run 3 receive a -w 0
run 0 receive a --peek --json
out_has '"state":"delayed"'
run 0 send b -m gone --ttl 1ms
wait_for counts b 'ready 0'
run 0 send c -m soon --delay 0.05
run 0 receive c -w 10s
out_is soon

# ---- --dedup ----

run 0 send e -m once --dedup 'x "1"'
run 0 send e -m once --dedup 'x "1"'
out_is ''
run 0 send e -m once --dedup 'x "1"' --json
as_kept
[[ $(<out) =~ ^'{"message":'[0-9]+',"duplicate":true}'$ ]] || fail "$(cat out)"
run 0 send e -m once --dedup 'x "1"' -v
[[ $(<out) =~ ^[0-9]+\ duplicate$ ]] || fail "$(cat out)"
run 0 send e -m twice --dedup x2 -v
[[ $(<out) =~ ^[0-9]+$ ]] || fail "$(cat out)"
run 0 receive e -n 2 --lines
out_is $'once\ntwice'
run 2 send e -m once --dedup x2 --wait-ack
one_error 'whether it was acknowledged is not known'

# Each line has an id of its own, so that a file can be sent once more from its beginning.
run 0 send e --lines --dedup log < <(seq 3)
run 0 send e --lines --dedup log --json < <(seq 5)
as_kept
[ "$(sed 's/"message":[0-9]*/M/' out | tr '\n' ' ')" = \
	'{"line":1,M,"duplicate":true} {"line":2,M,"duplicate":true} {"line":3,M,"duplicate":true} {"line":4,M} {"line":5,M} ' ] ||
	fail "$(cat out)"
run 0 receive e -n 5 --lines
out_is "$(seq 5)"
run 3 receive e -w 0 -q

long=$(printf 'x%.0s' {1..256})
run 1 send e -m x --dedup "$long"
one_error '--dedup is too long'
run 0 send e -m x --dedup "${long:1}"
run 1 send e --lines --dedup "${long:21}" < <(seq 1)
one_error '--dedup is too long'
run 0 send e --lines --dedup "${long:22}" < <(seq 1)
run 1 send e -m x --dedup ''
one_error '--dedup needs a text'
run 1 send e -m x --dedup $'\xff'
one_error '--dedup needs a text'

# ---- --wait-ack ----

start_ipc send d -m x --wait-ack
wait_for counts d 'ready 1'
ipc receive d >/dev/null || fail 'receive d'
end_ipc 0
start_ipc send d -m x --wait-ack
wait_for counts d 'ready 1'
ipc receive d --no-ack --json >received || fail 'receive d'
kill -0 "$waiting_pid" || fail '--wait-ack has ended without an ack'
message=$(grep -o '"message":[0-9]*' received) lease=$(grep -o '"lease":"[^"]*' received)
run 0 reject "${message#*:}" "${lease##*\"}" --reason why
end_ipc 2
run 2 send d -m x --wait-ack --ttl 1ms

# ---- --lines ----

run 0 send l --lines < <(seq 50)
out_is ''
run 0 receive l -f -w 0 --lines
out_is "$(seq 50)"

# Every byte but the newline; empty lines; no newline at the end.
run 0 send l --lines < <(printf '\0\r\xff\n\n a \nlast')
run 0 receive l -n 4 --lines
[ "$(od -An -c out)" = "$(printf '\0\r\xff\n\n a \nlast\n' | od -An -c)" ] ||
	fail "bytes of lines: $(od -c out)"
run 0 send l --lines </dev/null
run 3 -q receive l -w 0
err_is ''

# Lines longer than any buffer, also by one byte.
for n in 65535 65536 65537 200000 3000000; do
	head -c $n /dev/zero | tr '\0' x
	echo
done >long
run 0 send l --lines <long
run 0 receive l -n 5 --lines
cmp out long || fail 'long lines'

run 0 send l --lines --json < <(seq 3)
as_kept
[ "$(sed 's/"message":[0-9]*/M/' out | tr '\n' ' ')" = \
	'{"line":1,M} {"line":2,M} {"line":3,M} ' ] || fail "$(cat out)"
run 0 receive l -n 3

# A line is sent when it is there, not when the input has ended.
mkfifo slow
input=slow start_ipc send l --lines
exec 5>slow
for i in 1 2 3; do
	echo "line $i" >&5
	run 0 receive l -w 10s
	out_is "line $i"
done
exec 5>&-
end_ipc 0

# ---- failures of a line ----

run 2 send full --lines < <(seq 150)
one_error 'line 101: '
err_has '(sent: 100 before it, 0 after it)'
run 2 send full -m x
one_error 'send full: '
run 0 receive full -n 100 --lines
out_is "$(seq 100)"
run 2 send 'no name' --lines < <(printf 'a\nb\n')
one_error 'line 1: '
err_has '(sent: 0 before it, 0 after it)'
cat large >>long
run 2 send l --lines <long
one_error 'line 6: '
run 0 receive l -n 5
run 1 send l --lines </
one_error 'line 1: Is a directory'
run 1 send l </
one_error 'cannot read standard input: Is a directory'
# One that is closed is no empty one.
for arguments in '' '-' '--live -'; do
	# shellcheck disable=SC2086 # a list
	run 1 send l $arguments <&-
	one_error 'cannot read standard input: Bad file descriptor'
done
run 1 send l --lines <&-
one_error 'line 1: Bad file descriptor'
counts l 'ready 0' || fail 'an empty message was sent'

# With --wait it goes on when there is room again, in order.
seq 150 >numbers
input=numbers start_ipc send full --lines --wait 20s
wait_for counts full 'ready 100'
ipc receive full -n 150 --lines | cmp - numbers || fail 'waiting for room'
end_ipc 0
run 0 send full --lines < <(seq 100)
run 3 send full -m x --wait 10ms
one_error 'send full: '

# What is told of them cannot be written: the rest is not sent, and that is said.
ipc send told --lines -v < <(seq 1000) >/dev/full 2>err
[ $? = 1 ] || fail 'told to a full disk'
one_error 'send told: cannot write: No space left on device (lines sent: '
n=$(sed 's/.*sent: \([0-9]*\))$/\1/' err)
counts told "ready $n," || fail "$(cat err; ipc status told)"
ipc send told -v numbers numbers numbers >/dev/full 2>err
[ $? = 1 ] || fail 'told to a full disk'
err_is $'ipc: send told: cannot write: No space left on device
ipc: send told: 2 more files were not sent'

# The daemon goes away: which lines are safe is said, the rest is open.
mkfifo slow2
input=slow2 start_ipc send gone --lines
exec 5>slow2
echo one >&5
wait_for counts gone 'ready 1'
stop
end_ipc 5
one_error 'line 2: '
err_has '(sent: 1 before it, 0 after it)'
exec 5>&-

finish
