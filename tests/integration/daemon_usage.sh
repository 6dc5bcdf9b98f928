#!/bin/bash
# SPDX-License-Identifier: MIT
#
# What ipcd says when it is used wrongly, or asked something, and where it says it.

. "$(dirname "$0")/lib_cli.sh"
unset XDG_CONFIG_HOME

# ipcd STATUS ARGUMENT...: must end so; what it prints is in the files out and err
ipcd() {
	local wanted=$1
	shift
	timeout -k 5 "$DEADLINE" "$IPCD" "$@" >out 2>err
	status=$?
	[ $status = "$wanted" ] && return
	fail "ipcd $*: status $status, not $wanted"
	sed 's/^/    /' out err
}

# wrong TEXT ARGUMENT...: status 1, nothing printed, one line with the text on standard error
wrong() {
	local text=$1
	shift
	ipcd 1 "$@"
	out_is ''
	[[ $(wc -l <err) = 1 && $(<err) = 'ipcd: '* ]] || fail "not one line: $(cat err)"
	err_has "$text"
}

# ---- text of others cannot drive the terminal ----

esc=$'\e[31m'
shown='\x1b[31m'
wrong "unexpected argument \"$shown\"" "$esc"
wrong "unknown or ambiguous option '--$shown'" "--$esc=1"
wrong "unknown or ambiguous option '-$shown'" "-$esc"
wrong "option '--system' takes no value" --system=1
wrong "option '--socket' needs a value" --socket
wrong "--limit $shown:" --limit "$esc"
wrong "--log-level $shown:" --log-level "$esc"
wrong "--ready-fd $shown:" --ready-fd "$esc"
wrong "nowhere/$shown: No such file" --check-config --config "nowhere/$esc"
echo '{"\u001b[31mkey":1}' >key.conf
wrong "key.conf:1: unknown key \"${shown}key\"" --check-config --config key.conf
echo '{"mode":"a\nb"}' >mode.conf
echo '{}' >empty.conf
wrong 'not "a\nb"' --config mode.conf

wrong '--system and --user do not go together' --check-config --user --system
wrong '--system and --user do not go together' --check-config --system --user --user
ipcd 0 --user --user --check-config --config empty.conf

wrong '--ready-fd 2: the log goes there' --check-config --ready-fd 2
wrong '--ready-fd 999: Bad file descriptor' --check-config --ready-fd 999

export JOURNAL_STREAM=8:1
ipcd 1 --config mode.conf
[[ $(<err) = '<3>ipcd: mode.conf:1: '* ]] || fail "no error for the journal: $(cat err)"
unset JOURNAL_STREAM

# ---- an empty path would be an abstract socket, which everybody can reach ----

for option in socket state config limit log-level ready-fd; do
	wrong "--$option must not be empty" --check-config --$option ''
	wrong "--$option must not be empty" --$option= --help
done

# ---- a path is one, whatever it begins with ----

for path in @abstract relative; do
	IPC_SOCKET=$PWD/$path
	"$IPCD" --volatile --user --socket $path 2>>log &
	daemon_pid=$!
	wait_for ipc ping -q
	stop
done
IPC_SOCKET=$DIR/socket

# ---- a file that need not be there ----

ipcd 0 --user --check-config
out_is "$DIR/.config/ipcd/ipcd.conf is not there: the defaults hold"
mkdir -p .config/ipcd/ipcd.conf.d
echo '{"rules":[{"names":"a"}]}' >.config/ipcd/ipcd.conf.d/a.conf
ipcd 0 --user --check-config
out_is "$DIR/.config/ipcd/ipcd.conf: 1 rules, no mistake found"

# ---- what cannot be written is an error ----

for option in --help --version --limits --check-config --dump-config; do
	"$IPCD" $option --config empty.conf >/dev/full 2>err
	[ $? = 1 ] || fail "$option to a full disk"
	[ "$(cat err)" = 'ipcd: cannot write: No space left on device' ] || fail "$(cat err)"
	"$IPCD" $option --config empty.conf >&- 2>err
	[ $? = 1 ] || fail "$option to nowhere"
	[ "$(cat err)" = 'ipcd: cannot write: Bad file descriptor' ] || fail "$(cat err)"
done
cp empty.conf "$esc"
ipcd 0 --check-config --config "$esc"
out_is "$shown: 0 rules, no mistake found"

# ---- nothing takes the place of a standard stream ----

mkfifo ready
"$IPCD" --socket "$DIR/socket" --state state --log-level debug --ready-fd 3 \
	3>ready <&- >&- 2>&- &
daemon_pid=$!
read -r -t "$DEADLINE" line <>ready
rm ready
[ "$line" = READY ] || fail "ipcd said '$line', not READY"
run 0 send jobs -m x
for fd in 0 1 2; do
	file=$(readlink "/proc/$daemon_pid/fd/$fd")
	[ "$file" = /dev/null ] || fail "descriptor $fd is $file"
done
run 0 receive jobs
out_is x
stop
"$IPCD" --nonsense <&- >&- 2>&-
[ $? = 1 ] || fail 'a mistake that nobody is told of'

# ---- at a reload, what the command line says is nothing that the file changes ----

reload() {
	: >log
	kill -HUP "$daemon_pid"
	wait_for grep -q 'read anew' log
}

echo "{ \"socket\": \"$DIR/elsewhere\", \"state\": \"$DIR/elsewhere\" }" >places.conf
start --config places.conf
reload
! grep 'next start' log || fail 'options of the command line are said to end'
stop
start --config places.conf --volatile
reload
! grep 'next start' log || fail '--volatile is said to end'
stop
echo "{ \"socket\": \"$DIR/socket\", \"state\": \"$DIR/state\" }" >places.conf
mkfifo ready
"$IPCD" --config places.conf --ready-fd 3 3>ready 2>>log &
daemon_pid=$!
read -r -t "$DEADLINE" _ <>ready
rm ready
echo "{ \"socket\": \"$DIR/elsewhere\", \"state\": \"$DIR/elsewhere\" }" >places.conf
reload
[ "$(grep -c 'changes at the next start only' log)" = 2 ] || fail "$(cat log)"
stop

# ---- when the log has no room its lines are dropped whole ----

: >log
ulimit -S -f 1
start --volatile --log-level debug
ulimit -S -f unlimited
for _ in {1..20}; do
	run 0 ping -q
done
[ "$(stat -c %s log)" = 1024 ] || fail "the log has $(stat -c %s log) bytes"
prlimit --pid "$daemon_pid" --fsize=unlimited:unlimited
run 0 ping
dropped=$(sed -n 's/^<4>.*Z \([0-9]*\) log lines were dropped: .* no room$/\1/p' log)
[ "$dropped" = $((20 - $(head -c 1024 log | grep -c 'connected$'))) ] || fail "$(cat log)"
stop

finish
