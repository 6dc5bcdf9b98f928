#!/bin/bash
# SPDX-License-Identifier: MIT
#
# What is shown while a transfer takes long: on a terminal in the foreground one line that is
# drawn again and again, for programs an event now and then, else nothing.

. "$(dirname "$0")/lib_cli.sh"
start --limit lost_delay=0
mkdir to

# A transfer lasts as long as its pipe is open for writing, which it is for this shell only:
# so it is opened when all that read are there.
mkfifo a b c d e f g h

# ---- for programs ----

input=a start_ipc send q --json --as name
exec 5>a
head -c 10000 /dev/zero >&5
wait_for grep -q '"event":"progress"' later_out
exec 5>&-
end_ipc 0
err_is ''
grep '"event":"progress"' out | head -n 1 >first
for text in '"filename":"name"' '"done":10000'; do
	grep -qF "$text" first || fail "$text is not in $(cat first)"
done
tail -n 1 out | grep -q '"message":' || fail "the last line is no answer: $(tail -n 1 out)"
python3 -c 'import json; [json.loads(line) for line in open("out")]' || fail 'no JSON'

# ---- not a terminal: silent; how long is known from one that is a terminal ----

if ! command -v script >/dev/null; then
	finish
fi

"$IPC" send q --as silent <b >silent_out 2>silent_err &
silent=$!
"$IPC" -q send q --as quiet <c >quiet_out 2>quiet_err &
quiet=$!
# a job in the background of a terminal
script -qefc "bash -c 'set -m; \"$IPC\" send q --as background <d & wait'" /dev/null \
	</dev/null >background &
background=$!
script -qefc "$IPC send q --as shown <e" /dev/null </dev/null >shown &
shown=$!
# what somebody types
script -qefc "$IPC send q --as typed -" /dev/null <g >typed &
typed=$!
exec 5>b 6>c 7>d 8>e 9>g
for fd in 5 6 7 8; do head -c 10000 /dev/zero >&$fd; done
echo 'a line' >&9
wait_for grep -aq 'shown' shown
wait_for grep -aq $'shown.*\r.*shown' shown # drawn again, on the same line
wait_for grep -aq 'a line' typed
exec 5>&- 6>&- 7>&- 8>&- 9>&-
for pid in $silent $quiet $background $shown $typed; do
	wait "$pid" || fail "a send ended with status $?"
done
for file in silent_out silent_err quiet_out quiet_err; do
	[ ! -s $file ] || fail "$file: $(cat $file)"
done
grep -aq 'background.*\r' background && fail "in the background: $(cat -v background)"
grep -aqE 'shown +9\.8K' shown || fail "no bytes: $(cat -v shown)"
grep -aq 'typed' typed && fail "drawn over what was typed: $(cat -v typed)"
run 0 receive q -f -w 0 -o to
[ "$(cat to/typed)" = 'a line' ] || fail "typed: $(cat -A to/typed)"
[ "$(wc -l <out)" = 6 ] || fail "$(cat out)"

# The window is made smaller meanwhile: the line never goes over its edge, and on.
script -qefc "bash -c 'tty >pts; exec $IPC send q --as a-name-that-takes-some-room <h'" \
	/dev/null </dev/null >resized &
resized=$!
exec 5>h
head -c 10000 /dev/zero >&5
wait_for grep -aq $'a-name-that.*\r.*a-name-that' resized
stty -F "$(cat pts)" cols 30
begun=$(stat -c %s resized)
grown() { [ "$(stat -c %s resized)" -gt $((begun + $1)) ]; }
wait_for grown 400
exec 5>&-
wait $resized || fail "a send ended with status $?"
# one line may have been under way
tail -c +$((begun + 200)) resized | tr '\r' '\n' | sed 1d | grep -a '.\{30\}' &&
	fail "wider than the window: $(cat -v resized)"
tail -c 200 resized | grep -aqF 'a-name-that-take...' ||
	fail "not shortened: $(cat -v resized)"

# A name cannot drive the terminal.
script -qefc "$IPC send q --as $'\\e[31mred' <f" /dev/null </dev/null >shown2 &
shown=$!
exec 5>f
head -c 10000 /dev/zero >&5
wait_for grep -aq 'red' shown2
exec 5>&-
wait $shown || fail "a send ended with status $?"
grep -aq $'\e\[31mred' shown2 && fail "escape codes: $(cat -v shown2)"

finish
