#!/bin/bash
# SPDX-License-Identifier: MIT
#
# ipc name create, set, delete, purge, move and explain.

. "$(dirname "$0")/lib_cli.sh"

cat >conf <<'CONF'
{ "rules": [ { "names": "open.**", "mode": "0666" },
             { "names": "open.closed", "mode": "0600" } ] }
CONF
chmod 644 conf
start --system --config "$PWD/conf"

# ---- create and set ----

run 0 name create jobs mode=0640 queue_messages=2 backoff=10,20
out_is ''
run 2 name create jobs
one_error 'name create jobs: '
run 1 name create j2 colour=red
run 0 name ls -l jobs
out_has '0640'
run 0 send jobs -m 1
run 0 send jobs -m 2
run 2 send jobs -m 3
one_error 'send jobs: '
run 0 name set jobs queue_messages=3 mode=0600
run 0 send jobs -m 3
run 0 name ls -l jobs
out_has '0600'
run 1 name set jobs
run 2 name set nothing mode=0600

# ---- purge and move ----

run 0 name purge jobs
out_is 'purged 3'
run 0 send jobs -m dead
run 0 receive jobs --json --no-ack
number=$(sed 's/.*"message":\([0-9]*\),.*/\1/' out)
lease=$(sed 's/.*"lease":"\([0-9a-f]*\)".*/\1/' out)
run 0 reject "$number" "$lease"
run 0 name ls --json jobs
out_has '"dead":1'
run 0 name move --json jobs
out_is '{"moved":1}'
run 0 send other -m x
run 0 name move --state all --to other jobs
out_is 'moved 1'
run 0 receive other -n 2 --lines
out_is 'dead
x'
run 1 name purge --state red jobs

# ---- explain ----

run 0 name explain jobs 4000001
out_has 'denied: 4000001 may not send to jobs (mode 0600, owner '
run 0 name explain open.x 4000001
out_has 'allowed: 4000001 may send to open.x (mode 0666, '
out_has '; conf:1)'
out_has 'open.x does not exist; 4000001 may make it'
run 0 name explain open.closed 4000001
out_has 'denied: 4000001 may not receive from open.closed (mode 0600, '
out_has '; conf:2)'
run 0 name explain jobs --json
out_has '"read":true'

# ---- delete ----

run 0 send jobs -m last
run 1 name delete jobs
one_error 'name delete jobs: '
run 0 name delete --force jobs
run 2 name delete jobs
run 0 name delete other
run 0 name ls
out_is ''

finish
