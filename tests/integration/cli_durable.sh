#!/bin/bash
# SPDX-License-Identifier: MIT
#
# What is there after a stop, and after a crash.

. "$(dirname "$0")/lib_cli.sh"
start --limit lost_delay=10

# ---- durable queues, by default ----

run 0 send jobs -m kept
run 0 send jobs -m 'sent again' --dedup 1
crash
start --limit lost_delay=10
run 0 send jobs -m 'sent again' --dedup 1
run 0 receive jobs -n 2 --lines
out_is $'kept\nsent again'
run 3 -q receive jobs -w 0
run 0 send jobs -m 'sent again' --dedup 1 # also where the first one has been acknowledged
crash
start --limit lost_delay=10
run 3 -q receive jobs -w 0

# An acknowledgement is on the disk when the command has ended, and a lease outlives a crash.
run 0 send jobs -m x
run 0 receive jobs --no-ack --json
message=$(grep -o '"message":[0-9]*' out) lease=$(grep -o '"lease":"[^"]*' out)
crash
start --limit lost_delay=10
run 0 ack "${message#*:}" "${lease##*\"}"
crash
start --limit lost_delay=10
run 3 -q receive jobs -w 0
run 0 status jobs
out_has 'messages    ready 0, delayed 0, leased 0, dead 0'

# ---- in memory ----

run 0 name create fast durable=false
run 0 send fast -m 'saved at the stop'
stop
start --limit lost_delay=10
run 0 receive fast
out_is 'saved at the stop'
run 0 name ls -l fast
out_has ' memory  fast'
run 0 send fast -m 'lost in the crash'
crash
start --limit lost_delay=10
run 3 -q receive fast -w 0

# From now on, for what is sent from now on.
run 0 send fast -m lost
run 0 name set fast durable=true
run 0 send fast -m kept
crash
start --limit lost_delay=10
run 0 receive fast -w 10s
out_is kept
run 3 -q receive fast -w 0

finish
