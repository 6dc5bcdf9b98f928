#!/bin/bash
# SPDX-License-Identifier: MIT
#
# ipc name create, set, delete, purge, move and explain, with a configuration that has rules.

. "$(dirname "$0")/lib_cli.sh"

me=$(id -un)
cat >ipcd.conf <<-END
	{
		"rules": [
			{ "names": "jobs", "owner": "$(id -u)", "mode": "0600" },
			{ "names": "in.*", "owner": "$(id -u)", "mode": "0622" },
			{ "names": "open.**", "owner": "$OTHER", "mode": "0666" }
		]
	}
END
start --system --config "$DIR/ipcd.conf"

# column HEAD: what stands below it in `ipc name ls -l` of one name
column() {
	awk -v head="$1" 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == head) n = i }
			  NR == 2 { print $n }' out
}

# ls_is NAME HEAD TEXT
ls_is() {
	run 0 name ls -l "$1"
	[ "$(column "$2")" = "$3" ] || fail "$2 of $1 is '$(column "$2")', not '$3'"
}

# ---- create, set ----

run 0 name create made mode=0640 owner="$me" group="$(id -g)" queue_messages=2 backoff=0,5000
out_is ''
ls_is made MODE qrw-r-----
run 0 send made -m 1
run 0 send made -m 2
run 2 send made -m 3
one_error 'send made: '
run 2 name create made
one_error 'name create made: '
run 0 name set made mode=0660 queue_messages=3
ls_is made MODE qrw-rw----
run 0 send made -m 3

run 0 name set made max_attempts=3 backoff=7,8 lost_delay=9
run 0 name ls --json made
out_has '"max_attempts":3,"lost_delay":9,"backoff":[7,8],'

run 2 name set nope mode=0600
one_error 'name set nope: '
run 1 name set made colour=red
one_error 'unknown setting colour'
run 1 name set made mode=rw
one_error 'an octal mode'
run 1 name set made mode
one_error 'KEY=VALUE is expected'
run 1 name create new owner=nobody-has-this-name
one_error 'there is no such user'
run 1 name create new backoff=1,,2
one_error 'milliseconds'
run 1 name create new durable=yes
one_error 'durable=yes: true or false is expected'
run 1 name create q4 queue_messages=99999999999999999999
one_error 'queue_messages=99999999999999999999: out of range: it is at most 9007199254740991'
run 1 name create q4 backoff=1,9007199254740992
one_error 'out of range'
run 2 name create 'no..name'
one_error 'name create no..name: '
run 2 name ls new

# the daemon has not seen this user, whose name the command looks up
run 0 name create theirs owner=daemon group=daemon
ls_is theirs OWNER daemon
ls_is theirs GROUP daemon
run 0 status theirs
grep -qE '^owner +daemon, mode 0600, group daemon$' out || fail "$(cat out)"
run 0 name set theirs owner=4000009 group=4000009
ls_is theirs OWNER 4000009
run 0 status theirs
grep -qE '^owner +4000009, mode 0600, group 4000009$' out || fail "$(cat out)"
run 0 name delete theirs

# ---- purge ----

# the queue is full: what is delayed counts, too
run 2 send made -m later --delay 1h
run 0 name purge made --state delayed
out_is 'purged 0'
run 0 name purge made
out_is 'purged 3'
ls_is made READY 0
run 0 name purge made --json
out_is '{"purged":0}'
run 2 name purge nope
one_error 'name purge nope: '
out_is ''

# ---- move ----

kill_one() {
	local number lease
	run 0 receive made -w 0 --no-ack --json
	number=$(sed 's/.*"message":\([0-9]*\).*/\1/' out)
	lease=$(sed 's/.*"lease":"\([^"]*\)".*/\1/' out)
	run 0 reject "$number" "$lease"
}
run 0 send made -m a
run 0 send made -m b
kill_one
kill_one
ls_is made DEAD 2
run 0 name move made
out_is 'moved 2'
ls_is made READY 2
run 0 name move made --to in.other --json
out_is '{"moved":0}'
run 0 name move made --to in.other --state all --json
out_is '{"moved":2}'
run 0 receive in.other -n 2 --lines
out_is $'a\nb'
run 0 name set made queue_messages=1
run 0 send in.other -m 1
run 0 send in.other -m 2
run 2 name move in.other --to made --state ready
out_is 'moved 1'
one_error 'name move made: the queue is full: '

# ---- delete ----

run 1 name delete made
one_error 'name delete made: there is 1 message in it; --force deletes it, too'
run 0 name delete --force made
run 2 name delete made
one_error 'name delete made: '
run 0 name purge in.other
run 2 name delete nope in.other
one_error 'name delete nope: '
run 2 name ls in.other

# ---- explain ----

run 0 name explain jobs
out_is "allowed: $me may send to jobs (mode 0600, owner $me; ipcd.conf:3)
allowed: $me may receive from jobs (mode 0600, owner $me; ipcd.conf:3)
jobs does not exist; $me may make it"
run 2 name ls jobs
run 0 name create jobs
run 0 name explain jobs "$me"
out_is "allowed: $me may send to jobs (mode 0600, owner $me; ipcd.conf:3)
allowed: $me may receive from jobs (mode 0600, owner $me; ipcd.conf:3)"
run 0 name explain jobs --json
[ "$(wc -l <out)" = 1 ] || fail "$(cat out)"
out_has '"name":"jobs"'
out_has '"rule":"ipcd.conf:3"'
run 1 name explain jobs nobody-has-this-name
one_error 'there is no such user'
[[ $(<err) != *"$DIR/socket"* ]] || fail "the daemon has no part in it: $(cat err)"

# ---- another user ----

if can_be_other; then
	run 0 name explain jobs "$OTHER"
	out_is "denied: $OTHER may not send to jobs (mode 0600, owner root; ipcd.conf:3)
denied: $OTHER may not receive from jobs (mode 0600, owner root; ipcd.conf:3)"
	as_other name explain in.x
	[ $status = 0 ] || fail "explain: status $status: $(cat err)"
	out_is "allowed: $OTHER may send to in.x (mode 0622, owner root; ipcd.conf:4)
denied: $OTHER may not receive from in.x (mode 0622, owner root; ipcd.conf:4)
in.x does not exist; $OTHER may make it"
	as_other name explain elsewhere
	out_is "denied: $OTHER may not send to elsewhere ($OTHER may not make it; no rule for it)
denied: $OTHER may not receive from elsewhere ($OTHER may not make it; no rule for it)
elsewhere does not exist; $OTHER may not make it"
	run 0 send elsewhere -m x
	as_other name explain elsewhere
	out_is "denied: $OTHER may not send to elsewhere ($OTHER may not make it; no rule for it)
denied: $OTHER may not receive from elsewhere ($OTHER may not make it; no rule for it)
elsewhere does not exist; $OTHER may not make it"
	run 0 name delete --force elsewhere
	run 0 name create @root mode=0600
	as_other name explain @root
	out_is "denied: $OTHER may not send to @root
denied: $OTHER may not receive from @root"
	run 0 name delete @root
	as_other name explain jobs root
	[ $status = 4 ] || fail "about root: status $status"
	one_error 'name explain jobs: '

	run 0 name create in.x
	for line in 'set in.x mode=0666' 'delete in.x' 'purge in.x' 'move in.x'; do
		# shellcheck disable=SC2086 # a command line
		as_other name $line
		[ $status = 4 ] || fail "$line: status $status: $(cat err)"
		one_error "name ${line%% *} in.x: "
	done
	run 0 send in.x -m x
	as_other name delete in.x
	[ $status = 1 ] || fail "delete: status $status: $(cat err)"
	err_is 'ipc: name delete in.x: there is 1 message in it, and it belongs to root'
	as_other name create elsewhere
	[ $status = 4 ] || fail "create: status $status: $(cat err)"
	as_other name create "@$OTHER.mine" mode=0600
	[ $status = 0 ] || fail "one's own: status $status: $(cat err)"
	as_other name delete "@$OTHER.mine"
	[ $status = 0 ] || fail "delete one's own: status $status: $(cat err)"
fi

finish
