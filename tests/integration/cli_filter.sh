#!/bin/bash
# SPDX-License-Identifier: MIT
#
# --filter of receive --peek, name purge and name move.

. "$(dirname "$0")/lib_cli.sh"
start

run 0 send q -m a --meta '{"kind":"thumb","n":1}'
run 0 send q -m b --meta '{"kind":"thumb","n":2}' -p 0
run 0 send q -m c --meta '{"kind":"two words"}' -p 7
run 0 send q -m d

# shows TEXT EXPR: the bodies that a peek with this filter shows
shows() {
	run 0 receive q --peek --lines --filter "$2"
	out_is "$1"
}

shows $'a\nb\nc\nd' 'age<1h'
run 3 receive q --peek --filter 'age>1h'
shows $'a\nb' meta.kind=thumb
shows b 'meta.kind=thumb, meta.n=2'
shows c 'meta.kind="two words"'
shows c 'priority>4'
shows $'a\nd' 'priority=4'
shows $'a\nb\nc\nd' "sender=$(id -un)"
run 3 receive q --peek --filter 'sender=4000001'
run 3 receive q --peek --filter 'attempt>=1'
run 0 receive q --peek -n 1 --filter 'priority=4'
out_is a

# a mistake is told by its word, and is no matter of the daemon's
run 1 receive q --peek --filter 'age>1h colour=red'
one_error "filter: 'colour=red': unknown; there are age>T"
[[ $(<err) != *"$DIR/socket"* ]] || fail "the daemon has no part in it: $(cat err)"
run 1 name purge q --filter ''
one_error 'the filter is empty'
run 1 name move q --filter 'sender=nobody-has-this-name'
one_error 'there is no such user'
run 1 receive q --filter 'age>1h'
err_has "--filter is for --peek"
shows $'a\nb\nc\nd' 'age<1h'

# ---- dead ----

run 3 receive q --dead
one_error 'receive q: there is nothing'
run 0 send q -m e --meta '{"kind":"dead"}'
run 0 send q -m f
run 0 receive q -n 5 --no-ack --json
while read -r line; do
	number=$(sed 's/.*"message":\([0-9]*\).*/\1/' <<<"$line")
	lease=$(sed 's/.*"lease":"\([^"]*\)".*/\1/' <<<"$line")
	case $line in
	*'"body":"e"'*) ipc reject "$number" "$lease" --reason 'no picture' ;;
	*) ipc nack "$number" "$lease" --delay 0 --no-count ;;
	esac || fail "cannot settle $line"
done <out
run 0 receive q --dead --lines
out_is e
run 0 receive q --dead --json
out_has '"state":"dead","reason":"no picture","history":[{"attempt":1,"at_ms":'
run 3 receive q --dead --filter 'meta.kind=thumb'
run 0 receive q --dead --lines --filter 'meta.kind=dead attempt=1'
out_is e
run 1 receive q --dead -f
err_has '--dead does not go together with -f'
run 1 receive q --dead --no-ack
err_has '--dead does not go together with --no-ack'
run 0 name move q --filter 'meta.kind=dead'
out_is 'moved 1'
run 3 receive q --dead
run 0 name purge q --filter 'meta.kind=dead'
out_is 'purged 1'
run 0 receive q --peek --lines --filter 'priority=4'
out_is $'a\nd\nf'

# ---- move, purge ----

run 0 name move q --state ready --to r --filter 'meta.kind=thumb priority<4'
out_is 'moved 1'
run 0 receive r
out_is b
run 0 name purge q --filter 'meta.kind="two words"' --json
out_is '{"purged":1}'
shows $'a\nd\nf' 'age<1h'

finish
