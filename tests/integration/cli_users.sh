#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Names go by uid: a user who is renamed keeps the inbox, john and john.doe are two, and a
# name that begins with a user's is not that user's. The users are of a private /etc/passwd.

if [ -z "$IN_NAMESPACE" ]; then
	[ "$(id -u)" = 0 ] && unshare --mount true 2>/dev/null ||
		{ echo "skipped: needs root and a mount namespace"; exit 77; }
	IN_NAMESPACE=1 exec unshare --mount --propagation private bash "$0" "$@"
fi
. "$(dirname "$0")/lib_cli.sh"

users() {
	cat passwd.orig >passwd # in place: it is mounted
	printf '%s:x:%s:4000001::/:/bin/false\n' "$@" >>passwd
}
cp /etc/passwd passwd.orig
cp /etc/passwd passwd
mount --bind passwd /etc/passwd || exit 77
as() {
	local uid=$1
	shift
	setpriv --reuid "$uid" --regid 4000001 --clear-groups other/ipc "$@" >out 2>err
	status=$?
}
mkdir other && cp "$IPC" "$(dirname "$IPC")"/libipc.so.0 other/ && chmod 755 other

users john 4000001 john-doe 4000002
start --system --limit inbox_messages_per_sender=1
run 0 send @john -m 'for john'
run 0 send @john-doe -m 'for the other'
as 4000002 receive -w 5
out_is 'for the other'
as 4000002 receive @john -w 0
[ $status = 4 ] || fail "another's inbox: status $status"

# "@john.doe" is john's name "doe", not a user "john.doe".
as 4000002 send @john.doe -m x
[ $status = 4 ] || fail "john's name: status $status"
as 4000001 send @john.doe -m x
[ $status = 0 ] || fail "john's own name: status $status: $(cat err)"

# Renamed: what was sent to john is jane's, because it is the uid's.
users jane 4000001 john-doe 4000002
run 0 send @jane -m 'for jane'
as 4000001 receive -n 2 -w 5 --lines
out_is 'for john
for jane'

# Who has too much there waits in vain, though the queue is not full.
as 4000002 send @jane -m one
[ $status = 0 ] || fail "the first message: status $status: $(cat err)"
as 4000002 send @jane -m two --wait 10ms
[ $status = 3 ] || fail "too much in an inbox: status $status: $(cat err)"
grep -q 'this user had too much' err || fail "too much in an inbox: $(cat err)"

finish
