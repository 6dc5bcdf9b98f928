#!/bin/bash
# SPDX-License-Identifier: MIT
#
# A store that is no database any more: it is put aside as it is, and the daemon goes on.

. "$(dirname "$0")/lib_cli.sh"

start
run 0 send a -m x
stop
head -c 100 /dev/zero | dd of=state/ipcd.db conv=notrunc 2>/dev/null
cp state/ipcd.db damaged

start
cmp state/ipcd.db.bad damaged || fail 'the damaged file was not kept'
run 0 status --json
out_has '"damage":"'
run 0 send a -m y
run 0 receive a
out_is y
stop
start
run 0 status --json
! grep -q '"damage"' out || fail "still damaged: $(cat out)"
cmp state/ipcd.db.bad damaged || fail 'the damaged file was not kept'

finish
