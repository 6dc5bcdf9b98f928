#!/bin/bash
# SPDX-License-Identifier: MIT
#
# What `make demo` runs: a daemon of its own in a temporary directory, and real work with
# it, shown command by command. The centre is the hand-over of every line of this source
# from one process to two, of which one is killed on the way. It fails if a line is lost.

cd "$(dirname "$0")/.." || exit 1
exec 2>&1
export LC_ALL=C IPC_AUTOSTART=0

dir=$(mktemp -d "${TMPDIR:-/tmp}/ipcd-demo.XXXXXX") || exit 1

clean_up() {
	local running
	running=$(jobs -pr)
	# shellcheck disable=SC2086 # one word for each process
	[ -z "$running" ] || kill -KILL $running
	wait
	rm -rf "$dir"
} 2>/dev/null
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

mkdir "$dir/bin" && mkfifo "$dir/ready" "$dir/never" || exit 1
ln -s "${IPC_TEST_DAEMON:?run this with make demo}" "$dir/bin/ipcd"
ln -s "${IPC_TEST_CLI:?run this with make demo}" "$dir/bin/ipc"
PATH=$dir/bin:$PATH
exec 9<>"$dir/never"

if [ -t 1 ]; then
	bold=$'\e[1m' green=$'\e[32m' plain=$'\e[0m'
else
	bold='' green='' plain=''
fi

# ---- what shows and what waits --------------------------------------------------------

say() {
	echo
	printf "$green# %s$plain\n" "$@"
}

show() { printf '%s$ %s%s\n' "$bold" "$1" "$plain"; }

die() {
	printf '\n%sFAILED: %s%s\n' "$bold" "$*" "$plain"
	[ ! -s "$dir/log" ] || sed 's/^/    ipcd: /' "$dir/log"
	exit 1
}

# Shows a command and runs it.
run() {
	show "$1"
	eval "$1" || die "exit status $?"
}

# The same for one that has to be refused, with this exit status.
run_refused() {
	local wanted=$1 status
	show "$2"
	eval "$2"
	status=$?
	[ $status = "$wanted" ] || die "exit status $status, expected $wanted"
	echo "(exit status $status)"
}

# wait_until WHAT COMMAND...: until the command succeeds, for at most 30 seconds
wait_until() {
	local what=$1 end=$((SECONDS + 30))
	shift
	until "$@" 2>/dev/null; do
		((SECONDS < end)) || die "waited in vain for $what"
		read -r -t 0.01 -u 9 # nobody writes to it
	done
}

lines_in() { wc -l <"$dir/$1"; }

# Takes a message from "jobs" and notes its number and lease.
take_job() {
	run 'ipc receive jobs --no-ack --json >$dir/job; cat $dir/job'
	read -r message lease < <(sed \
		's/.*"message":\([0-9]*\).*"lease":"\([^"]*\)".*/\1 \2/' "$dir/job")
}

# field KEY: a number of the queue "lines"
field() { ipc name ls lines --json | sed "s/.*\"$1\":\([0-9]*\).*/\1/"; }

has_receivers() { [ "$(field receivers)" = "$1" ]; }
has_lines() { [ "$(lines_in "$1")" -ge "$2" ]; }
is_empty() { [[ $(ipc name ls lines --json) == *'"ready":0,"delayed":0,"leased":0,'* ]]; }

microseconds() { echo "${EPOCHREALTIME/[.,]/}"; }

# ---- a first look ---------------------------------------------------------------------

say 'A daemon of our own. (At home the first `ipc` starts yours.)'
show 'dir=$(mktemp -d)'
run 'export IPC_SOCKET=$dir/socket'
run 'ipcd --user --socket $IPC_SOCKET --state $dir/state --limit queue_messages=1000 --limit lost_delay=500 \
       --ready-fd 3 3>$dir/ready 2>$dir/log &'
daemon=$!
read -r word <"$dir/ready" && [ "$word" = READY ] || die 'ipcd does not start'

say 'Send, and receive. The two need not run at the same time.'
run "ipc send greetings -m 'hello, world'"
run 'ipc receive greetings --lines'

say 'Who has sent it is the word of the kernel, not of the sender.'
run "ipc send greetings -m 'hello again' --meta '{\"colour\":\"blue\"}'"
run 'ipc receive greetings --json'

say 'A message is gone only when it was acknowledged. Take one, and give it back.'
run "ipc send jobs -m 'resize cat.png'"
take_job
run "ipc nack $message $lease --delay 300ms"
run 'ipc receive jobs --peek --json'

say 'A worker: a command for each message, which is acknowledged if that exits with 0.'
run "ipc receive jobs --exec sh -c 'echo \"attempt \$IPC_ATTEMPT: \$(cat)\"'"

say 'What nobody can do is put aside, with the reason.'
run "ipc send jobs -m 'resize cat.exe'"
take_job
run "ipc reject $message $lease --reason 'no picture'"
run 'ipc receive jobs --peek --json'

say 'Files and directories go the same way. A digest tells that each came as it was sent.'
run "ipc send files \$(readlink -f \$dir/bin/ipcd) cli README.md --digest sha256"
run 'ipc name ls -l files'
run 'mkdir $dir/incoming && ipc receive files -n 3 -o $dir/incoming'
run 'diff -r cli $dir/incoming/cli && cmp README.md $dir/incoming/README.md &&
       cmp $dir/bin/ipcd $dir/incoming/ipcd && echo all the same'

say 'Nothing that is there is touched, unless one says so.'
run 'ipc send files README.md'
run_refused 1 'ipc receive files -o $dir/incoming'
run 'ipc receive files -o $dir/incoming --rename'

say 'Holes stay holes: a gigabyte of nothing takes no time and no space.'
run 'truncate -s 1G $dir/large && ipc send files $dir/large && ipc receive files -o $dir/incoming &&
       ls -lsh $dir/incoming/large'

say 'A pipe can be handed over as it is: then the two talk without ipcd.'
run 'ipc name create fast durable=false'
run '{ echo through the pipe | ipc send fast --live -; } && ipc receive fast'

say 'What cannot be is refused, and why.'
run_refused 4 'ipc send ipcd.secret -m x'
run_refused 1 'ipc send jobs -m x --meta []'
run_refused 3 'ipc receive jobs -w 0'

# ---- the hand-over --------------------------------------------------------------------

say 'Every line of the C code here becomes a message. Two receivers share them.' \
	'The queue holds 1000: the sender waits when it is full.'
run "grep -rn '' --include='*.[ch]' cli daemon libipc tests >\$dir/sent"
run 'wc -l <$dir/sent'
n_sent=$(lines_in sent)
run 'ipc receive lines -f -W 128 --lines >$dir/a &'
a=$!
run 'ipc receive lines -f -W 128 --lines >$dir/b &'
b=$!
wait_until 'the receivers' has_receivers 2
begin=$(microseconds)
run 'ipc send lines --lines --wait 20s <$dir/sent &'
sender=$!
wait_until 'receiver a' has_lines a $((n_sent / 5))

say 'In the middle of it receiver a is killed. What it had in hand is kept back.'
show 'kill -KILL $a'
{ kill -KILL $a && wait $a; } 2>/dev/null
run 'ipc name ls -l lines'
wait $sender || die 'the sender failed'

say 'Half a second later (lost_delay) receiver b gets that too.'
wait_until 'the queue to be empty' is_empty
end=$(microseconds)
again=$(field lost)
run 'ipc name ls -l lines'
run 'ipc status'
show 'kill $b $daemon'
{ kill $b && wait $b; } 2>/dev/null
kill $daemon && wait $daemon || die "ipcd ended with status $?"

# ---- the account ----------------------------------------------------------------------

say 'Each line begins with its file and number, so none is like another. Is one missing?'
# A line that the kill has cut is no line; it was not acknowledged, and b has it.
n_a=$(lines_in a) n_b=$(lines_in b)
head -n "$n_a" "$dir/a" >"$dir/a.whole"
sort "$dir/sent" >"$dir/want"
sort -u "$dir/a.whole" "$dir/b" >"$dir/got"
run 'comm -3 $dir/want $dir/got'
n_lost=$(comm -23 "$dir/want" "$dir/got" | wc -l)
n_foreign=$(comm -13 "$dir/want" "$dir/got" | wc -l)
ms=$(((end - begin) / 1000))

cat <<END

    lines sent by one process      $n_sent
    received by a, then killed     $n_a
    received by b                  $n_b
    handed out again after that    $again
    received twice                 $((n_a + n_b - $(lines_in got)))
    lost                           $n_lost
    rate                           $((n_sent * 1000 / ms)) lines a second ($ms ms for all)
END
((n_lost == 0)) || die "$n_lost lines are lost"
((n_foreign == 0)) || die "$n_foreign lines were never sent"
