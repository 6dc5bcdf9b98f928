#!/bin/bash
# SPDX-License-Identifier: MIT
#
# ipc doctor: healthy, without a store, on a tmpfs, damaged, nearly full.

. "$(dirname "$0")/lib_cli.sh"

# healthy: nothing is worse than a note, but that the test's directory may lie in memory, or on
# a disk that is nearly full
healthy() {
	grep -vE '^(ok|note) ' out >findings
	! grep -vE "^[a-z]+ +(durability: $DIR/state is on|disk: )" findings
}

# says LEVEL TEXT: there is a line of this level with the text
says() {
	grep "^$1 " out | grep -qF -- "$2" || fail "no $1 with '$2' in: $(cat out)"
}

examine() {
	ipc doctor >out 2>err
	status=$?
	[ ! -s err ] || fail "$(cat err)"
}

# ---- no daemon ----

run 5 doctor
one_error 'is ipcd running?'
says problem 'daemon: none could be asked'

# ---- all is well ----

start
run 0 send jobs -m x
examine
healthy || fail "$(cat out)"
[ $status = "$([ -s findings ] && echo 2 || echo 0)" ] || fail "status $status: $(cat out)"
says ok "answers at $DIR/socket: a"
says ok 'options: SQLite says it writes with journal_mode=wal synchronous=full'
says ok 'store: it works: '
says ok "usage: $(id -un) has 1 of 4000000 messages"
says ok 'queues: 1 can be seen'
says ok 'limits: a message has at most 1.0T, '
ipc doctor --json >out 2>err
[ "$(grep -c '^{"level":"[a-z]*","check":"[a-z]*",.*"text":".*"}$' out)" = "$(wc -l <out)" ] ||
	fail "$(cat out)"
out_has '"check":"queues","text":"1 can be seen'
# Whatever is in a path, a line stays an object.
ln -s socket $'so"c\\k\te\xfft\xc2\x85'
ipc doctor --json --socket $'so"c\\k\te\xfft\xc2\x85' >out 2>err
out_has 'so\"c\\k\u0009e\ufffdt\u0085: a'
run 1 doctor jobs
one_error 'one argument too many'

# ---- queues ----

run 0 name create small queue_messages=10 max_attempts=1 durable=false
run 0 send small --lines < <(seq 8)
examine
[ $status = 2 ] || fail "status $status"
says warning 'queue small: it is nearly full: 8 of 10 messages'
says note 'queue small: it is kept in memory (durable=false)'
run 0 send small --lines < <(seq 2)
examine
says problem 'queue small: it is full: 10 of 10 messages'
run 1 receive small --exec false
examine
says warning 'queue small: 1 message is dead'
run 0 name purge small --state all
run 0 name set small durable=true queue_bytes=20000
head -c 17000 /dev/zero | ipc send small || fail 'send small'
examine
says warning 'of 19.5K'
run 0 name delete small --force

# ---- limits of the user ----

stop
start --limit user_messages=10
run 0 send jobs --lines < <(seq 8)
examine
says warning "usage: $(id -un) has 9 of 10 messages"
run 0 name purge jobs

# ---- damage ----

run 0 send jobs --lines < <(yes 'something to be found in the file' | head -9)
stop
at=$(grep -obUa 'something to be found' state/ipcd.db | tail -1 | cut -d: -f1)
printf X | dd of=state/ipcd.db bs=1 seek="$at" conv=notrunc 2>/dev/null
start
examine
[ $status = 2 ] || fail "status $status"
says warning 'damage: the store was damaged when ipcd started: 1 of 9 messages are lost'
says warning "the damaged file is kept as $DIR/state/ipcd.db.bad"
run 0 status
out_has "set aside   $DIR/state/ipcd.db.bad"
run 0 receive jobs -n 8 --lines
crash
start
examine
says note "a damaged file of an earlier start is kept as $DIR/state/ipcd.db.bad"
healthy || fail "$(cat out)"
stop

# ---- without a store ----

start --volatile
run 0 send jobs -m x
run 0 doctor
says note 'this daemon keeps all queues in memory'
! grep -q durable=false out || fail "$(cat out)"
stop

# ---- on a tmpfs ----

mkdir tmpfs
if [ "$(id -u)" = 0 ] && mount -t tmpfs -o size=64m ipcd-test tmpfs 2>/dev/null; then
	trap 'umount -l "$DIR/tmpfs" 2>/dev/null; clean_up' EXIT
	start --state "$DIR/tmpfs/state"
	run 0 send jobs -m x --json
	out_has '"durable":false'
	run 2 doctor
	says warning "$DIR/tmpfs/state is on tmpfs (memory: what is there ends with the machine)"
	says warning 'disk: '
	run 0 status
	out_has 'store       works, on tmpfs, which keeps no promises'
	stop
	umount tmpfs
else
	echo 'not done: a tmpfs (needs root, and mount(2))'
fi

finish
