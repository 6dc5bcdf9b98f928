#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Directories with ipc send and ipc receive -o: all that is in them, and tars that somebody
# has made to reach out of the directory they are unpacked into.

. "$(dirname "$0")/lib_cli.sh"
start --limit lost_delay=0
mkdir to
umask 022

# shown DIR: all that is in it; times are kept in whole seconds
shown() {
	(cd "$1" && find . -mindepth 1 \( -type l -printf '%p -> %l\n' -o -type d -printf \
		'%p/ %m\n' -o -printf '%p %m %s %TY-%Tm-%Td %TT\n' \) |
		sed 's/\.[0-9]*$//' | sort)
}

# ---- one of each ----

mkdir -p tree/empty tree/deep/er/still 'tree/a b' tree/private
echo one >tree/one
echo two >'tree/a b/it'"'"'s *'
echo esc >$'tree/new\nline\e[31m'
head -c 700000 /dev/urandom >tree/deep/er/large
: >tree/deep/nothing
ln -s one tree/link
ln -s /etc/passwd tree/out
ln -s nowhere tree/dangling
chmod 750 tree/one
chmod 4755 tree/deep/nothing
chmod 700 tree/private
touch -d '2001-02-03 04:05:06' tree/one tree/deep/nothing
shown tree | sed 's/ 4755 / 755 /' >wanted

run 0 send q tree
out_is ''
err_is ''
run 0 receive q --peek --json
out_has '"filename":"tree.tar"'
out_has '"archive":"tar"'
run 0 receive q -o to
out_is to/tree
err_is ''
shown to/tree >got
diff wanted got || fail 'another tree'
diff -r --no-dereference tree to/tree || fail 'other contents'
[ "$(ls -A to)" = tree ] || fail "left in to/: $(ls -A to)"

# Taken already: not touched, not mixed.
echo mine >to/tree/one
run 0 send q tree/
run 1 receive q -o to
one_error 'to/tree exists'
[ "$(cat to/tree/one)" = mine ] || fail 'touched'
[ "$(ls -A to)" = tree ] || fail "left in to/: $(ls -A to)"
wait_for counts q 'ready 1'
run 0 receive q -o to --rename
out_is 'to/tree (1)'
diff -r --no-dereference tree 'to/tree (1)' || fail 'renamed'

# --force replaces a directory only if it is empty, and nothing else by one.
run 0 send q tree
run 1 receive q -o to --force
one_error 'to/tree is a directory with something in it'
err_has "--rename saves as 'tree (1)'"
[ "$(cat to/tree/one)" = mine ] || fail 'touched with --force'
rm -r to/*
echo file >to/tree
wait_for counts q 'ready 1'
run 1 receive q -o to
one_error "to/tree exists; --rename saves as 'tree (1)'"
wait_for counts q 'ready 1'
run 1 receive q -o to --force
one_error 'to/tree is not a directory'
[ "$(cat to/tree)" = file ] || fail 'a file was replaced by a directory'
rm to/tree
mkdir to/tree
wait_for counts q 'ready 1'
run 1 receive q -o to
one_error 'to/tree exists; --force replaces it'
wait_for counts q 'ready 1'
run 0 receive q -o to --force
out_is to/tree
diff -r --no-dereference tree to/tree || fail 'replaced'
[ "$(ls -A to)" = tree ] || fail "left in to/: $(ls -A to)"
rm -r to/*

# The tar itself.
run 0 send q tree
run 0 receive q -o to --no-unpack
out_is to/tree.tar
tar -C to -xf to/tree.tar || fail 'tar cannot read it'
diff -r --no-dereference tree to/tree || fail 'tar makes another tree'
[ "$(ls to)" = $'tree\ntree.tar' ] || fail "tar has made $(ls to)"
run 0 send q tree
run 0 receive q
tar -tf out >/dev/null || fail 'printed it is no tar'
rm -r to/*

# An empty one; one with sparse files.
mkdir void
run 0 send q void
run 0 receive q -o to
rmdir to/void || fail 'not empty'
mkdir sparse
truncate -s 200M sparse/holes
run 0 send q sparse
run 0 receive q -o to
[ "$(stat -c %s to/sparse/holes)" = $((200 << 20)) ] || fail 'size of holes'
[ "$(du -k to/sparse/holes | cut -f 1)" -lt 1024 ] || fail 'no holes'
rm -r to/sparse sparse

# One with very many files: in memory, if there is such a file system, as ext4 takes long to
# make a file when many have been deleted within the last minutes.
many=$DIR number=5000
if [ "$(stat -f -c %T /dev/shm 2>/dev/null)" = tmpfs ] && [ -w /dev/shm ]; then
	many=$(mktemp -d /dev/shm/ipc-test-XXXXXX) || exit 1
	trap 'clean_up; rm -rf "$many"' EXIT
	number=100000
fi
mkdir "$many/many" "$many/made"
seq -f "$many/many/file %.0f" $number | tr '\n' '\0' | xargs -0 touch
run 0 send q "$many/many"
rm -r "$many/many"
run 0 receive q -o "$many/made" --json
out_has "\"path\":\"$many/made/many\""
[ "$(find "$many/made/many" -type f | wc -l)" = $number ] || fail "not $number files"
rm -r "$many/made"

# A link to a directory is followed where it is named, as with cp; never inside.
ln -s tree named
run 0 send q named/
run 0 receive q -o to
[ -L "$(cat out)/link" ] || fail 'a link inside was followed'
rm -r to/*

# What cannot be read: said, and nothing is sent.
if can_be_other; then
	mkdir -m 755 others
	echo x >others/x
	chmod 600 others/x
	as_other send "@$OTHER" others
	[ $status = 1 ] || fail "status $status: $(cat err)"
	err_has others/x
	as_other receive -w 0
	[ $status = 3 ] || fail 'half of it was sent'

	# It need not be where it may be, as after sudo(8).
	mkdir others_in closed
	chown "$OTHER" others_in
	chmod 700 closed
	run 0 send "@$OTHER" tree
	cd closed
	timeout -k 5 "$DEADLINE" \
		setpriv --reuid "$OTHER" --regid "$OTHER" --clear-groups \
		"$DIR/other/ipc" receive -o "$DIR/others_in" >"$DIR/out" 2>"$DIR/err" ||
		fail "where it may not be: $(cat "$DIR/err")"
	cd ..
	out_is "$DIR/others_in/tree"
	[ -d others_in/tree/deep ] || fail 'not unpacked'
fi
mkdir odd
mkfifo odd/pipe
timeout 10 "$IPC" send q odd >out 2>err
[ $? != 124 ] || fail 'hangs on a named pipe'
err_is 'ipc: send q: odd/pipe is a pipe and left out'
run 0 name delete -f q

# ---- made by somebody with intentions ----

cat >evil.py <<'PYTHON'
"""evil.py SOCKET KIND: sends such a tar as if ipc had made it."""
import io, json, socket, struct, sys, tarfile

def member(name, kind=tarfile.REGTYPE, data=b"", **keys):
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(data)
    for key, value in keys.items():
        setattr(info, key, value)
    tar.addfile(info, io.BytesIO(data))

def fill(kind):
    member("t", tarfile.DIRTYPE, mode=0o755)
    member("t/good", data=b"good")
    if kind == "parent":
        member("t/../../evil", data=b"evil")
    elif kind == "absolute":
        member(sys.argv[3] + "/evil", data=b"evil")
    elif kind == "link":
        member("t/l", tarfile.SYMTYPE, linkname="../..")
        member("t/l/evil", data=b"evil")
    elif kind == "links":
        member("t/a", tarfile.SYMTYPE, linkname=".")
        member("t/a/b", tarfile.SYMTYPE, linkname="../..")
        member("t/b/evil", data=b"evil")
    elif kind == "hardlink":
        member("t/h", tarfile.LNKTYPE, linkname="../../precious")
        member("t/h", data=b"evil")
    elif kind == "outside":
        member("evil", data=b"evil")
    elif kind == "device":
        member("t/null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
    elif kind == "setuid":
        member("t/s", data=b"s", mode=0o6777, uid=1, gid=1)
    elif kind == "cut":
        member("t/long", data=b"x" * 100000)

buffer = io.BytesIO()
tar = tarfile.open(fileobj=buffer, mode="w")
fill(sys.argv[2])
tar.close()
data = buffer.getvalue()
if sys.argv[2] == "cut":
    data = data[:50000]
if sys.argv[2] == "rubbish":
    data = b"this is no tar" * 1000
header = json.dumps({"op": "send", "id": 1, "queue": "e", "size": len(data),
                     "filename": "t.tar", "archive": "tar"}).encode()
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(struct.pack("<I", len(header)) + header + data)
length, = struct.unpack("<I", s.recv(4, socket.MSG_WAITALL))
sys.exit("error" in json.loads(s.recv(length, socket.MSG_WAITALL)))
PYTHON

echo precious >precious
for kind in parent absolute link links hardlink outside cut rubbish; do
	python3 evil.py "$DIR/socket" $kind "$DIR" || fail "$kind was not sent"
	ipc receive e -o to >out 2>err
	status=$?
	[ $status = 1 ] || [ $status = 2 ] || fail "$kind: status $status"
	[ "$(wc -l <err)" = 1 ] || fail "$kind: $(cat err)"
	[ -z "$(ls -A to)" ] || fail "$kind: left in to/: $(ls -A to)"
	for place in evil to/evil ../evil; do
		[ ! -e $place ] || fail "$kind: reached out to $place"
	done
	[ "$(cat precious)" = precious ] || fail "$kind: precious"
	ipc name delete -f e >/dev/null || fail "$kind: delete"
done

# Bits that a file must not bring along.
python3 evil.py "$DIR/socket" setuid || fail 'setuid was not sent'
run 0 receive e -o to
[ "$(stat -c '%a %u' to/t/s)" = "755 $(id -u)" ] || fail "$(stat -c '%a %u' to/t/s)"
rm -r to/t
python3 evil.py "$DIR/socket" device || fail 'device was not sent'
ipc receive e -o to >out 2>err
[ ! -c to/t/null ] || fail 'a device was made'
rm -rf to/t

# ---- without libarchive ----

# It is loaded for directories alone: with what it brings along it would make each start of
# ipc take twice as long.
readelf -d "$IPC" | grep -q 'NEEDED.*libarchive' && fail 'ipc is linked with libarchive'
mkdir lib
echo 'no library' >lib/libarchive.so.13
run 0 send a tree/one
run 0 send a tree
LD_LIBRARY_PATH=$DIR/lib run 0 send a -m text
LD_LIBRARY_PATH=$DIR/lib run 1 send a tree
one_error "tree: $DIR/lib/libarchive.so.13: "
LD_LIBRARY_PATH=$DIR/lib run 0 receive a -o to
LD_LIBRARY_PATH=$DIR/lib run 1 receive a -o to
one_error 'libarchive.so.13'
[ "$(ls -A to)" = one ] || fail "left in to/: $(ls -A to)"
wait_for counts a 'ready 2'
run 0 receive a -o to
out_is to/tree

finish
