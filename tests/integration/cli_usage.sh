#!/bin/bash
# SPDX-License-Identifier: MIT
#
# What ipc says when it is used wrongly, or asked for help, or finds no daemon.

. "$(dirname "$0")/lib_cli.sh"

# ---- help goes to standard output, and names each command ----

commands=(send receive ack nack reject touch ping status 'name ls' 'name create' 'name set'
	'name delete' 'name purge' 'name move' 'name explain' peers disconnect)
run 0 --help
for word in "${commands[@]}"; do
	out_has "  $word "
done
for word in "${commands[@]}"; do
	# shellcheck disable=SC2086 # one command is two words
	{
		run 0 $word --help
		out_has "usage: ipc $word"
		run 0 $word -h
		run 0 help $word
		run 0 --socket /nowhere $word --help
		run 1 $word --nonsense
	}
	one_error "see 'ipc $word --help'"
done
run 0 --version
out_has 'ipc '

# ---- wrong usage: status 1, one line ----

wrong() {
	local text=$1
	shift
	run 1 "$@"
	out_is ''
	one_error "$text"
}

wrong 'a command is missing'
wrong "did you mean 'send'?" sned x
wrong "did you mean 'receive'?" rec
wrong "a command is missing after 'name'" name
wrong "a command is missing after 'name'" name --json
wrong "no command 'xyzzy'" xyzzy
wrong "did you mean 'name ls'?" name sl
wrong "did you mean 'name delete'?" name dleete
wrong "did you mean 'name ls'?" help name sl
for words in 'name --help' 'name -h' 'help name'; do
	run 0 $words
	out_has 'usage: ipc [OPTION...] name COMMAND'
	out_has '  name purge   '
	! grep -q '  send ' out || fail "$words tells of other commands"
done
wrong "'--json' takes no value" --json=1 send
wrong "'--quiet' takes no value" send --quiet=1
wrong "'--socket' needs a value" send a -m b --socket
wrong "'-m' needs a value" send a -m
wrong "option '-Z'" send a -Z
wrong "'--wai'" send a --wai 1
wrong 'do not go together' --user send a -m b --system
wrong 'does not go together' --user --socket x send a -m b
wrong 'needs a path' --socket '' send a -m b

wrong 'a NAME to send to is missing' send -m x
wrong "'-' is one argument too many" send a -m x -
wrong "'c' is one argument too many" send a -m x c
wrong "'c' is one argument too many" send a --lines - c
wrong "'c' is one argument too many" send a --lines c
wrong 'more than one -m' send a -m x --message y
for pair in '-m x --lines' '-m x --live' '-m x --digest md5' '-m x --as f' '--lines --live' \
	'--lines --digest md5' '--lines --as f' '--live --digest md5' '--as f x y'; do
	# shellcheck disable=SC2086 # options, one a word
	wrong 'does not go together' send a $pair
done
wrong "not 'sha1'" send a x --digest sha1
for priority in 10 -1 x ''; do
	wrong 'the priority is 0' send a -m x -p "$priority"
done
for time in '' x 1x -1 1.s 1e3 ' 1' 1ss 1001y; do
	wrong 'needs a time' send a -m x --delay="$time"
	wrong 'needs a time' receive a -w "$time"
done
for time in 365001d 31536000000.001 99999999999999999999; do
	wrong "--delay is at most 365000d, not '$time'" send a -m x --delay $time
	wrong "--ack-wait is at most 365000d, not '$time'" receive a --ack-wait $time
done
wrong 'cannot be' send a -m x --ttl 0
for meta in '{' '{"a":1,"a":2}' '{"a":"\u0000"}'; do
	wrong 'needs a JSON object' send a -m x --meta "$meta"
	err_has 'without NUL (\u0000) and with no key twice'
done
deep=$(printf '{"a":%.0s' {1..32})1$(printf '}%.0s' {1..32})
wrong 'of at most 31 levels' send a -m x --meta "$deep"
wrong 'too large' send a -m x --meta "{\"a\":\"$(printf '%033000d' 0)\"}"

for number in 0 x -1 ''; do
	wrong '-n needs a number' receive a -n "$number"
	wrong '-j needs a number' receive a -j "$number" --exec true
done
wrong '-n needs a number from 1 to 9007199254740991' receive a -n 99999999999999999999
wrong 'from 1 to 65536' receive a -W 65537
wrong 'a command is missing after --exec' receive a --exec
wrong '-j is for --exec' receive a -j 2
for pair in '-f -n2' '--peek -f' '--peek -w1' '--peek --no-ack' '--peek --exec' \
	'--no-ack -f' '--no-ack --exec' '--json --exec' '--lines --json' '-W2 --exec' \
	'-o . --lines' '-o . --exec' '-o . --force --rename'; do
	# shellcheck disable=SC2086 # options, one a word
	wrong 'does not go together' receive a $pair true
done
wrong 'needs more than' receive a --ack-wait 0
wrong '-o needs a directory' receive a -o ''
for option in --force --rename --no-unpack; do
	wrong "$option is for -o" receive a $option
done
run 1 receive a -o nowhere
one_error 'receive a: -o nowhere: there is no such directory'
touch file
run 1 receive a -o file
one_error 'receive a: -o file: Not a directory'

wrong 'number and its lease are needed' ack 1
wrong 'is no number of a message' ack x y
wrong 'is no number of a message' ack 0 y
wrong 'one argument too many' ack 1 y z
wrong "'--reason'" ack 1 y --reason x
for verb in create delete purge move explain; do
	wrong 'an argument is missing' name $verb
done
wrong 'one more argument is missing' name set a
wrong 'one argument too many' name purge a b
wrong 'one argument too many' name explain a b c
wrong "not 'leased'" name purge a --state leased
wrong "not ''" name move a --state ''
wrong "'--to'" name purge a --to b
wrong 'needs a number' ping -c 0
wrong "a number from 1 to 4294967295, not '4294967296'" ping -c 4294967296
wrong 'human or json' status --format xml
wrong 'one argument too many' status a b
wrong 'an argument is missing' disconnect
wrong 'not the number of a peer' disconnect x
wrong 'one argument too many' peers x

# ---- what others have written is harmless, and one line ----

run 1 receive a -o $'no\e[31mdir\n'
err_is 'ipc: receive a: -o no\x1b[31mdir\x0a: there is no such directory; make it first'
wrong "no command 'a\x0ab'" $'a\nb'

# ---- no daemon: status 5, and where it was looked for ----

for line in 'send a -m x' 'send a --lines' 'receive a' 'ack 1 y' 'ping' 'status' 'status a' \
	'name ls' 'name create a' 'name set a mode=0600' 'name delete a b' 'name purge a' \
	'name move a' 'name explain a' 'peers' 'disconnect 1'; do
	# shellcheck disable=SC2086 # a command line
	run 5 $line </dev/null
	one_error "$DIR/socket"
done
run 5 --socket /nonexistent/x ping
one_error /nonexistent/x
touch regular
run 5 --socket "$DIR/regular" ping
err_is "ipc: ping: $DIR/regular is not a socket"
run 1 --socket "/$(printf '%0200d' 0)" ping
run 5 ping --user
one_error "$DIR/.local/state/ipcd/socket"

# ---- output that cannot be written is an error; nothing takes its place ----

ipc --help >/dev/full 2>err
[ $? = 1 ] || fail 'help to a full disk'
one_error 'cannot write'
ipc --help >&- 2>err
[ $? = 1 ] || fail 'help to nowhere'

finish
