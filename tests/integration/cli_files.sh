#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Files with ipc send and ipc receive -o: names, what is kept of a file, targets that are
# there already, streams of any size, live descriptors. Directories are in cli_archive,
# what is shown while it takes long in cli_progress.

. "$(dirname "$0")/lib_cli.sh"
start --limit lost_delay=0
mkdir from to
pattern() { seq 20000000 | head -c "$1"; }

# back QUEUE TEXT: it comes to that after a message was given back
back() {
	wait_for counts "$1" "$2"
}

# arrived NAME [MODE]: only that is in to/, equal to from/NAME; it is removed
arrived() {
	cmp "from/$1" "to/$1" || fail "$1 is another one"
	[ "$(find to -mindepth 1 -printf x)" = x ] || fail "more is in to/: $(ls -A to)"
	[ $# = 1 ] || [ "$(stat -c %a "to/$1")" = "$2" ] || fail "mode of $1"
	rm -f "to/$1"
}

# ---- one file, of any size ----

umask 022
for size in 0 1 65536 65537 262144 262145 5000000 40000000; do
	pattern $size >from/file
	run 0 send q from/file
	out_is ''
	err_is ''
	run 0 receive q -o to
	out_is to/file
	err_is ''
	arrived file 644
done

# Mode and time are the file's own, but no set-user-ID bit.
echo x >from/script
chmod 4751 from/script
touch -d '1999-12-31 23:59:59.123456789' from/script
for size in 1 300000; do
	pattern $size >from/script
	chmod 4751 from/script
	touch -d '1999-12-31 23:59:59.123456789' from/script
	run 0 send q from/script
	run 0 receive q -o to
	[ "$(stat -c '%a %y' to/script)" = "751 $(stat -c %y from/script)" ] ||
		fail "mode and time: $(stat -c '%a %y' to/script)"
	rm to/script
done
(umask 077 && ipc send q from/script && ipc receive q -o to >/dev/null)
arrived script 700

# Many, and their order; the path that is printed can be used.
for i in 1 2 3; do echo "$i" >"from/$i"; done
run 0 send q from/3 from/1 from/2
run 0 receive q -n 3 -o to/.
out_is $'to/./3\nto/./1\nto/./2'
for i in 1 2 3; do cmp "from/$i" "to/$i" || fail "$i"; done
rm to/?
run 3 -q receive q -w 0 -o to
err_is ''

# A file that is not there, or has no bytes to send.
run 1 send q from/none
one_error 'from/none'
err_has 'No such file'
run 1 send q /dev/null/x
if [ "$(id -u)" != 0 ]; then
	chmod 0 from/1
	run 1 send q from/1
	one_error 'from/1'
fi
rm -f from/?
run 3 -q receive q -w 0

# Holes stay holes.
truncate -s 256M from/sparse
printf x | dd of=from/sparse bs=1 seek=100M conv=notrunc status=none
run 0 send q from/sparse
run 0 receive q -o to
[ "$(du -k to/sparse | cut -f 1)" -lt 1024 ] || fail "$(du -k to/sparse): no holes"
arrived sparse
rm from/sparse

# ---- names ----

long=$(printf 'n%.0s' {1..255})
# shellcheck disable=SC2016,SC1003 # that is what they are called
for name in ' ' 'a b' '"quoted"' "it's" '*' '$(touch evil)' '`x`' '\' 'a;b' -rf --json \
	.hidden $'new\nline' $'esc\e[31m\a' $'tab\t' 'ä€😀' "$long" ... '%s' \
	'message-1' 'x (1)' '~'; do
	echo "$name" >"from/$name"
	run 0 send q -- "from/$name"
	run 0 receive q -o to
	out_is "to/$name"
	arrived "$name"
	run 0 send q -- "from/$name"
	run 0 receive q -o to --json
	[ "$(wc -l <out)" = 1 ] || fail "not one line: $(cat out)"
	cat out >>events
	printf '%s\0' "$name" >>names
	arrived "$name"
	rm "from/$name"
done

python3 -c 'import json
events = [json.loads(line) for line in open("events")]
names = open("names").read().split("\0")[:-1]
assert len(events) == len(names) > 0
for e, name in zip(events, names):
    wanted = ["saved", "to/" + name, len(name.encode()) + 1]
    assert [e["event"], e["path"], e["file_size"]] == wanted, (e, name)
' || fail 'what --json tells of names'
rm events names

# Not UTF-8: refused by name, and another name helps.
echo x >$'from/bad\xff'
run 1 send q $'from/bad\xff'
one_error UTF-8
grep -q $'\xff' err && fail 'an error that is no text'
run 0 send q $'from/bad\xff' --as good
run 0 receive q -o to
out_is to/good
rm to/good $'from/bad\xff'
for name in a/b . .. '' "${long}n"; do
	run 1 send q --as "$name" -m x
	run 1 send q --as "$name" /dev/null
	one_error '--as needs a name'
	run 1 send q --as "$name" - </dev/null
	one_error 'send q: standard input: --as needs a name'
done
# Of a directory also what is left of it without ".tar", as all names in the archive begin so.
for name in . .. ..tar ...tar; do
	run 1 send q --as "$name" from
	one_error '--as needs a name'
done

# On a terminal a name cannot drive it.
if command -v script >/dev/null; then
	echo x >$'from/\e[31mred'
	run 0 send q $'from/\e[31mred'
	script -qec "$IPC receive q -o to" /dev/null </dev/null >out
	grep -q $'\e\[31mred' out && fail "escape codes: $(od -c out)"
	grep -q 'red' out || fail "no name: $(cat out)"
	rm to/* from/*
fi

# ---- the target ----

echo old >to/x
touch -d 2001-01-01 to/x
before=$(stat -c '%i %y %z' to/x)
echo new >from/x
run 0 send q from/x
run 1 receive q -o to
one_error 'to/x exists'
err_has --force
err_has --rename
[ "$(stat -c '%i %y %z' to/x) $(cat to/x)" = "$before old" ] || fail 'x was touched'
[ "$(ls -A to)" = x ] || fail "left in to/: $(ls -A to)"
back q 'ready 1'
run 0 receive q --peek --json
out_has '"attempt":0'
run 0 receive q -o to --rename
out_is 'to/x (1)'
cmp 'to/x (1)' from/x || fail 'x (1)'
run 0 send q from/x
run 0 receive q -o to --rename
out_is 'to/x (2)'
[ "$(cat to/x)" = old ] || fail 'x was replaced'
run 0 send q from/x
run 0 receive q -o to --force
out_is to/x
rm to/x\ *
arrived x
echo text >from/a.tar.gz
cp from/a.tar.gz to/
run 0 send q from/a.tar.gz
run 1 receive q -o to
err_has "--rename saves as 'a (1).tar.gz'"
back q 'ready 1'
run 0 receive q -o to --rename
out_is 'to/a (1).tar.gz'
cmp from/a.tar.gz "$(cat out)" || fail "$(cat out)"
rm to/*
run 1 receive q -o to --rename --force
one_error ''

# A link at the target is a name as any: what it leads to stays.
echo precious >precious
ln -s ../precious to/x
run 0 send q from/x
run 1 receive q -o to
back q 'ready 1'
run 0 receive q -o to --force
[ "$(cat precious)" = precious ] || fail 'written through a link'
[ ! -L to/x ] || fail 'still a link'
rm to/x
mkdir to/x
run 0 send q from/x
run 1 receive q -o to
run 1 receive q -o to --force -w 10s
[ -d to/x ] || fail 'the directory is gone'
rmdir to/x
back q 'ready 1'

# Nowhere to write to: given back.
run 1 receive q -o nowhere
one_error nowhere
back q 'ready 1'
run 1 receive q -o from/x
one_error from/x
back q 'ready 1'
# small COMMAND...: with a full disk at small/, which only this command sees
# shellcheck disable=SC2016 # for the shell inside
small() {
	unshare -m bash -c 'mount -t tmpfs -o size=64k none small || exit 99
		"$@"; status=$?; ls -A small >left; exit $status' bash "$@"
}
mkdir small
if small true 2>/dev/null; then
	run 0 receive q -o to
	arrived x
	pattern 300000 >from/y
	run 0 send q from/y
	small timeout "$DEADLINE" "$IPC" receive q -o small >out 2>err
	[ $? = 1 ] || fail "on a full disk: $(cat err)"
	one_error 'No space'
	[ ! -s left ] || fail "left on the full disk: $(cat left)"
	back q 'ready 1'
	run 0 receive q -o to
	out_is to/y
	arrived y
	run 0 send q from/x
fi
run 0 receive q -o to
arrived x

# ---- bodies without a name ----

run 0 send q -m text
run 0 receive q -o to
[[ $(<out) =~ ^to/message-[0-9]+$ ]] || fail "$(cat out)"
[ "$(cat "$(cat out)")" = text ] || fail 'text'
rm to/*
pattern 300000 >from/y
run 0 send q <from/y
run 0 receive q -o to
cmp from/y "$(cat out)" || fail 'a large body without a name'
rm to/*
run 0 send q --as y - <from/y
run 0 receive q -o to
arrived y

# Without -o the bytes are printed, with or without a name.
run 0 send q from/y
run 0 receive q
cmp out from/y || fail 'printed'
run 0 send q from/x
run 0 receive q --json
out_has '"filename":"x"'
out_has '"file_size":4'

# Who looks at a queue does not get all of its files.
run 0 send q from/y
run 0 send q from/x
run 0 receive q --peek --json
[ "$(wc -c <out)" -lt 2000 ] || fail "--peek printed $(wc -c <out) bytes"
out_has '"body":"new'
run 0 receive q --peek -n 1
cmp out from/y || fail 'looked at'
run 0 receive q --json
[ "$(wc -c <out)" -gt 300000 ] || fail "only $(wc -c <out) bytes"
run 0 receive q

# ---- streams ----

pattern 60000000 >big
for how in '<big' '< <(cat big)'; do
	eval "run 0 send q --as big $how"
	run 0 receive q -o to
	cmp big to/big || fail "$how"
	rm to/big
	eval "run 0 send q - $how"
	ipc receive q | cmp - big || fail "$how"
done
mkfifo pipe
cat big >pipe &
run 0 send q pipe
wait $!
run 0 receive q -o to
cmp big to/pipe || fail 'a named pipe'
rm to/pipe pipe

# ---- digests ----

for digest in xxh3 sha256 md5; do
	run 0 send q from/y --digest $digest
	run 0 receive q --peek --json
	grep -q "\"$digest\":\"[0-9a-f]\{32,64\}\"" out || fail "no $digest: $(cut -c 1-500 out)"
	[ $digest = xxh3 ] || out_has "$(${digest}sum <from/y | cut -d ' ' -f 1)"
	run 0 receive q -o to
	arrived y
done
run 1 send q from/y --digest crc32
one_error digest

# A byte that has changed on the daemon's disk is found, whatever is done with the body: nothing
# is saved, unpacked, printed or given to a command, and the message is dead.
mkdir one
cp from/y one/
run 0 send q - --as y < <(cat from/y)
run 0 send q one
run 0 send q - < <(cat from/y)
run 0 send q - < <(cat from/y)
stop
for file in state/spool/[0-9]*; do
	printf '\377' | dd of="$file" bs=1 seek=200000 conv=notrunc status=none
done
start --limit lost_delay=0
run 2 receive q -o to -w 10s -n 2
[ "$(grep -c 'its size or digest is not what the sender said' err)" = 2 ] ||
	fail "two are damaged: $(cat err)"
[ -z "$(ls -A to)" ] || fail "left in to/: $(ls -A to)"
run 2 receive q
one_error 'its size or digest'
out_is ''
# That there was only one of them is the lesser news.
run 2 receive q -n 2 -w 0 --exec sh -c 'echo it was run; cat'
err_has 'its size or digest'
err_has 'only 1 of 2 messages came'
out_is ''
counts q 'dead 4' || fail "$(ipc status q)"
rm -r one
run 0 name delete -f q

# ---- live ----

run 0 name create m durable=false
run 0 send m --live - < <(printf 'live bytes')
run 0 receive m -w 10s
out_is 'live bytes'
run 0 send m --live --as log - < <(printf 'live bytes')
# It goes from hand to hand: who only looks is told so.
for options in '' '-o to'; do
	# shellcheck disable=SC2086 # it is a list
	run 0 receive m --peek $options
	out_is ''
	one_error 'is live: there is nothing to look at'
done
run 0 receive m --peek --json
out_has '"live":true'
err_is ''
# Its contents do not go into JSON, and so it is not taken.
for options in --json '--json --no-ack' '--json -f -W 2'; do
	# shellcheck disable=SC2086 # it is a list
	run 1 receive m $options
	out_is ''
	one_error 'is live, and its contents do not go into JSON: leave out --json'
	back m 'ready 1'
done
# What is given back does not come again to the one who has given it back, and is lost with it.
touch to/log
run 1 receive m -f -W 2 -o to
one_error 'to/log exists'
back m 'ready 1'
rm to/log
run 0 receive m -o to
out_is to/log
[ "$(cat to/log)" = 'live bytes' ] || fail 'to/log'
rm to/log
run 0 send m --live from/y
run 0 receive m -o to
cmp from/y to/y || fail 'a live file'
rm to/y
# It flows while the sender is gone, until the writer ends.
mkfifo flow
exec 5<>flow
run 0 send m --live - <flow
start_ipc receive m 5>&-
echo one >&5
wait_for grep -q one later_out
echo two >&5
wait_for grep -q two later_out
exec 5>&-
end_ipc 0
out_is $'one\ntwo'
run 2 send durable --live - < <(printf x)
one_error durable
run 1 send m --live from
one_error 'from: a directory cannot be handed over live'
rm flow

# ---- what is left when it is stopped in the middle ----

for signal in INT TERM KILL; do
	mkfifo flow
	exec 5<>flow
	run 0 send m --live --as x - <flow
	echo begin >&5
	start_ipc receive m -o to 5>&-
	wait_for counts m 'leased 1'
	kill -$signal "$waiting_pid"
	wait "$waiting_pid" 2>/dev/null
	waiting_pid=
	[ ! -e to/x ] || fail "half a file after SIG$signal"
	[ $signal = KILL ] || [ -z "$(ls -A to)" ] || fail "SIG$signal: $(ls -A to)"
	if [ $signal = KILL ]; then # nobody knows how far it was read
		wait_for counts m 'ready 0, delayed 0, leased 0'
		exec 5>&-
	else
		back m 'ready 1'
		exec 5>&-
		run 0 receive m -o to
		out_is to/x
	fi
	rm -rf flow to
	mkdir to
done

# The same of one who sends: nothing is in the queue, nor on any disk.
# shellcheck disable=SC2317 # called by wait_for
spooled() { [ "$(find state/spool -type f -printf x)" = "$1" ]; }
mkdir tmp
for signal in INT TERM KILL; do
	mkfifo flow
	exec 5<>flow # so that its end does not come
	input=flow TMPDIR=$DIR/tmp start_ipc send half --as x - 5>&-
	timeout "$DEADLINE" head -c 3000000 big >&5
	wait_for spooled x
	kill -$signal "$waiting_pid"
	wait "$waiting_pid" 2>/dev/null
	waiting_pid=
	exec 5>&-
	wait_for spooled ''
	run 3 -q receive half -w 0
	[ -z "$(ls -A tmp)" ] || fail "SIG$signal left in tmp: $(ls -A tmp)"
	rm flow
done
rm -r tmp big

# ---- quiet ----

run 0 -q send q from/y
run 0 -q receive q -o to
out_is ''
err_is ''
arrived y

[ ! -e evil ] || fail 'a name was run'
wait_for spooled ''
finish
