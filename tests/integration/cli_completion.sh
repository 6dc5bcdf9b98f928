#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The completion of ipc for bash.

completion=$(realpath cli/completion/ipc)
. "$(dirname "$0")/lib_cli.sh"
start
PATH=${IPC%/*}:$PATH
# shellcheck source=../../cli/completion/ipc
. "$completion"
unset -f ipc

compopt() { :; } # there is no completion going on

# completes WORD... : the last is what is to be completed; the answers go to standard output
completes() {
	COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
	_ipc
	echo "${COMPREPLY[*]}"
}

# is TEXT WORD...
is() {
	local wanted=$1 got
	shift
	got=$(completes "$@")
	[ "$got" = "$wanted" ] || fail "$*: '$got', not '$wanted'"
}

"$IPC" send jobs -m x
"$IPC" send jokes -m x

is send ipc se
is 'receive reject' ipc re
is 'ls create set delete purge move explain' ipc name ''
is 'delete' ipc name d
is '' ipc frobnicate ''
is 'jobs jokes' ipc send jo
is 'jobs jokes' ipc receive -n 2 jo
is jokes ipc --socket socket send jok
is jokes ipc --socket = socket send jok
is '' ipc --socket /nonexistent send jok
is jobs ipc status job
is jobs ipc name ls job
is jobs ipc name delete job
is 'jobs jokes' ipc name purge jo
is 'jobs jokes' ipc name move jobs --to jo
is dead ipc name move jobs --state dea
is '' ipc name create jo
is 'jobs jokes' ipc name set jo
is 'max_attempts=' ipc name set jobs max
is root ipc name create jobs owner = roo
is 'true false' ipc name set jobs durable = ''
is doctor ipc do
is root ipc name set owner owner = roo
is jobs ipc name explain job
is root ipc name explain jobs roo
is '--lines --live' ipc send --li
is log ipc send jobs lo
is log ipc send --as x jobs lo
is 'sha256' ipc send jobs x --digest s
is state ipc receive jobs -o st
is '--lines' ipc receive --li
is '--long' ipc name ls --lo
is '--socket --system' ipc --s
is '' ipc send jobs -m jo
is 'human' ipc status --format h
[[ " $(completes ipc receive jobs --exec tru) " == *' true '* ]] || fail 'no commands'
is '' ipc receive jobs --exec true jo
[ "$(completes ipc disconnect '')" ] || fail 'no peers'

# Every option that a command's help has is offered.
for command in send receive nack reject ping 'name ls' 'name delete' 'name purge' \
	'name move' status; do
	# shellcheck disable=SC2086 # one command is two words
	{
		offered=" $(completes ipc $command --) "
		options=$("$IPC" $command --help |
			grep -oE '^  .{4}--[a-z-]+' | grep -oE -- '--.*')
	}
	for option in $options; do
		[[ $offered == *" $option "* ]] || fail "$command: $option is not offered"
	done
done

# An inbox: bash takes "@" for a word of its own.
user=$(id -un)
"$IPC" send "@$user" -m x
is "@$user" ipc send @ "${user:0:2}"
is "@$user" ipc send @
is "@$user" ipc name move jobs --to @ "$user"
is log ipc send @ "$user" lo
is 'max_attempts=' ipc name set @ "$user" max
is 'true false' ipc name set @ "$user" durable = ''

finish
