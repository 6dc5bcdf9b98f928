#!/bin/bash
# SPDX-License-Identifier: MIT
#
# ipc ping, status, name ls, peers and disconnect.

. "$(dirname "$0")/lib_cli.sh"
start

# line HEAD: what stands behind this head in `ipc status`
line() {
	sed -n "s/^$1 *//p" out
}

# ---- ping ----

run 0 ping
grep -qE "^ipcd [^ ]+ at $DIR/socket: [0-9]+\.[0-9]{3} ms$" out || fail "$(cat out)"
run 0 ping -c 3
[ "$(wc -l <out)" = 4 ] || fail "$(cat out)"
out_has '3 times: least '
run 0 ping -c 2 --json
[ "$(sed 's/[0-9]*}/N}/' out)" = $'{"ping":1,"time_us":N}\n{"ping":2,"time_us":N}' ] ||
	fail "$(cat out)"
IPC_SOCKET=/nonexistent run 0 --socket socket ping -q
out_is ''

# ---- status ----

run 0 status
[ "$(line socket)" = "$DIR/socket" ] || fail "$(cat out)"
[ "$(line state)" = "$DIR/state" ] || fail "$(cat out)"
case $(line process) in
"$daemon_pid, user $(id -un) ("*) ;;
*) fail "$(cat out)" ;;
esac
[ "$(line now)" = 'peers 1, names 0, messages 0' ] || fail "$(cat out)"
[[ $(line store) =~ ^works,\ on\ [a-z0-9]+ ]] || fail "$(cat out)"
[[ $(line commits) =~ ^[0-9]+,\ the\ last\ in\ [0-9.]+\ ms,\ the\ longest\ in\ [0-9.]+\ ms$ ]] ||
	fail "$(cat out)"
[[ $(line disk) =~ ^file\ [0-9.]+[KM],\ log\ [0-9.KM]+,\ free\ [0-9.]+[KMGT]$ ]] || fail "$(cat out)"
run 0 status --json
[ "$(wc -l <out)" = 1 ] || fail "$(cat out)"
out_has "\"pid\":$daemon_pid,"
run 0 status --format json
out_has "\"pid\":$daemon_pid,"
run 0 status --json --format human
out_has "socket "
run 2 status jobs
one_error "$DIR/socket"

for i in 1 2 3; do run 0 send jobs -m $i; done
run 0 receive jobs
run 0 status jobs
[ "$(line messages)" = 'ready 2, delayed 0, leased 0, dead 0' ] || fail "$(cat out)"
[ "$(line 'since start')" = 'sent 3, acknowledged 1' ] || fail "$(cat out)"
case $(line owner) in
"$(id -un), mode 0600, group "*) ;;
*) fail "$(cat out)" ;;
esac
[[ $(line oldest) =~ ^[0-9.]+s$ ]] || fail "$(cat out)"
[[ $(line 'last minute') =~ ^sent\ 0.0[0-9]/s,\ acknowledged\ 0.0[0-9]/s$ ]] || fail "$(cat out)"
run 0 status jobs --json
out_has '"ready":2,'
out_has '"oldest_ms":'
out_has '"sent_rate":0.0'
run 0 status
[ "$(line now)" = 'peers 1, names 1, messages 2' ] || fail "$(cat out)"
[ "$(line 'since start')" = 'sent 3, delivered 1, acknowledged 1' ] || fail "$(cat out)"

# ---- name ls ----

run 0 send more.jobs -m x
run 0 name ls
out_is $'jobs\nmore.jobs'
run 0 name create a
run 0 name ls
out_is $'a\njobs\nmore.jobs'
run 0 name ls -l
[ "$(awk 'NR > 1 { print $NF }' out)" = $'a\njobs\nmore.jobs' ] || fail "$(cat out)"
run 0 name delete a
run 0 name ls jobs
out_is jobs
run 2 name ls nope jobs
out_is jobs
one_error 'nope'
run 0 name ls -l jobs
[ "$(head -1 out | tr -s ' ')" = \
	'MODE OWNER GROUP READY DELAYED LEASED DEAD BYTES FILES OLDEST RECEIVERS KEPT NAME' ] ||
	fail "$(cat out)"
tail -1 out | tr -s ' ' |
	grep -qE "^qrw------- $(id -un) [^ ]+ 2 0 0 0 [0-9.K]+ 0 [0-9.]+s 0 disk jobs$" ||
	fail "$(cat out)"
run 0 name create empty mode=0642 durable=false
run 0 name ls -l empty
tail -1 out | tr -s ' ' |
	grep -qE "^qrw-r---w- $(id -un) [^ ]+ 0 0 0 0 0 0 - 0 memory empty$" || fail "$(cat out)"
run 0 name delete empty
run 0 --json name ls -l
[ "$(grep -c '"name":"' out)" = 2 ] || fail "$(cat out)"

# ---- peers, disconnect ----

start_ipc receive idle -f
wait_for counts idle 'receivers 1'
run 0 peers
head -1 out | grep -q '^PEER *USER *PID *SINCE ' || fail "$(cat out)"
[ "$(wc -l <out)" = 3 ] || fail "$(cat out)"
read -r peer _ < <(grep " $waiting_pid " out)
run 0 peers --json
out_has "\"peer\":$peer,"
run 0 disconnect "$peer"
out_is ''
end_ipc 5
one_error 'receive idle: '
# A label is whatever its owner says, and makes no line that looks like another connection's.
(exec -a $'ipc\n   1  root\e[1m' "$IPC" peers) >out
[ "$(wc -l <out)" = 2 ] || fail "$(cat out)"
out_has '  ipc\x0a   1  root\x1b[1m'
run 2 disconnect "$peer"
one_error "disconnect $peer: "

# ---- without a store ----

stop
start --volatile
run 0 status
[ "$(line state)" = 'none: what is here ends with the daemon' ] || fail "$(cat out)"
[ -z "$(line store)" ] || fail "$(cat out)"
run 0 send mem -m x
run 0 name ls -l mem
tail -1 out | tr -s ' ' | grep -q ' memory mem$' || fail "$(cat out)"
run 2 name set mem durable=true
one_error '--volatile'
stop
start

# ---- what others may not, and may not see ----

if can_be_other; then
	as_other send jobs -m x
	[ $status = 4 ] || fail "denied is status 4, not $status: $(cat err)"
	one_error 'send jobs: '
	as_other status jobs
	[ $status = 2 ] || fail "another's queue: status $status"
	as_other name ls
	out_is ''
	as_other send @root -m 'to root'
	[ $status = 0 ] || fail "to an inbox: status $status: $(cat err)"
	run 0 receive --json
	out_has '"uid":4000001,'
fi

finish
