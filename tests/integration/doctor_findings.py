#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What ipc doctor finds in states that no daemon can be brought into at will: a disk that is
full or fails, SQLite without its options, old messages. A fake daemon tells of them."""

import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading

IPC = os.environ.get("IPC_TEST_CLI", "build/release/ipc")
DAY = 24 * 3600 * 1000

STORE = {
    "state": "works", "file_system": "ext4", "durable": True,
    "options": "journal_mode=wal synchronous=full locking_mode=exclusive",
    "commits": 7, "last_commit_us": 900, "longest_commit_us": 9000,
    "file_bytes": 4096, "log_bytes": 8192, "disk_free_bytes": 1 << 40,
}
STATS = {
    "pid": 1, "uid": 0, "mode": "system", "uptime_ms": 5, "state": "/state", "store": STORE,
    "usage": {"user": "ann", "messages": 1, "bytes": 100, "file_bytes": 0},
    "limits": {"user_messages": 100, "user_bytes": 10000, "user_file_bytes": 20000,
               "body_max": 1 << 24, "queue_messages": 50, "queue_bytes": 5000, "dedup_window": 3600000},
}
QUEUE = {
    "name": "jobs", "kind": "queue", "durable": True, "ready": 1, "delayed": 0, "leased": 0,
    "dead": 0, "bytes": 100, "queue_messages": 50, "queue_bytes": 5000, "receivers": 0,
}


def changed(value, **changes):
    return {**value, **changes}


def store(**changes):
    return changed(STATS, store=changed(STORE, **changes))


def usage(**changes):
    return changed(STATS, usage=changed(STATS["usage"], **changes))


# what stats says, names of queues, and what is worse than ok: level, check, a part of the text
CASES = [
    (STATS, [QUEUE], []),
    (store(state="full", error="no room"), [], [("problem", "store", "no room")]),
    (store(state="broken", error="I/O error"), [], [("problem", "store", "I/O error")]),
    (store(options="journal_mode=delete synchronous=full"), [],
     [("problem", "options", "journal_mode=delete")]),
    (store(options="journal_mode=wal synchronous=normal"), [],
     [("problem", "options", "synchronous=normal")]),
    (store(file_system="unknown"), [], [("note", "durability", "does not know")]),
    (store(durable=False, file_system="nfs", warning="another machine"), [],
     [("warning", "durability", "another machine")]),
    (store(longest_commit_us=2500000), [], [("note", "store", "2500.0 ms")]),
    (store(disk_free_bytes=1 << 20), [], [("problem", "disk", "1.0M are free")]),
    (store(disk_free_bytes=200 << 20), [], [("warning", "disk", "200.0M are free")]),
    (store(disk_free_bytes=1 << 30, file_bytes=2 << 30), [],
     [("warning", "disk", "takes up 2.0G")]),
    (changed(STATS, store={k: v for k, v in STORE.items() if k != "disk_free_bytes"}), [],
     [("problem", "disk", "/state is not where it was")]),
    (store(damage="3 messages are lost", set_aside="/state/bad"), [],
     [("warning", "damage", "3 messages are lost; the damaged file is kept as /state/bad")]),
    (usage(messages=100), [], [("problem", "usage", "100 of 100 messages")]),
    (usage(bytes=8000), [], [("warning", "usage", "7.8K of 9.8K")]),
    (usage(file_bytes=16000), [], [("warning", "usage", "files of 15.6K in queues, of 19.5K")]),
    (usage(file_bytes=20000), [], [("problem", "usage", "files of 19.5K")]),
    (STATS, [changed(QUEUE, oldest_ms=3 * DAY)], [("warning", "queue", "3d 0h")]),
    (STATS, [changed(QUEUE, oldest_ms=3 * DAY, name="@ann")], [("note", "queue", "3d 0h")]),
    (STATS, [changed(QUEUE, oldest_ms=3 * DAY, receivers=1)], []),
    (STATS, [changed(QUEUE, bytes=4970)], [("problem", "queue", "it is full")]),
    (STATS, [changed(QUEUE, leased=20, delayed=19)], [("warning", "queue", "nearly full")]),
    (STATS, [changed(QUEUE, dead=2)], [("warning", "queue", "2 messages are dead")]),
    (STATS, [changed(QUEUE, durable=False)], [("note", "queue", "durable=false")]),
    # an older daemon says less
    ({"pid": 1, "uid": 0}, [{"name": "jobs", "ready": 1}], [("note", "durability", "memory")]),
]


def get(f):
    header = json.loads(f.read(struct.unpack("<I", f.read(4))[0]))
    f.read(header.get("size", 0))
    return header


def put(f, body=b"", **header):
    text = json.dumps({**header, "size": len(body)}).encode()
    f.write(struct.pack("<I", len(text)) + text + body)
    f.flush()


def serve(listener, stats, queues):
    connection, _ = listener.accept()
    with connection, connection.makefile("rwb") as f:
        put(f, re=get(f)["id"], server=VERSION, epoch="0123456789abcdef", peer=1)
        put(f, json.dumps(stats).encode() + b"\n", re=get(f)["id"])
        put(f, b"".join(json.dumps(q).encode() + b"\n" for q in queues), re=get(f)["id"])
        f.read(1)


def examine(directory, stats, queues):
    path = os.path.join(directory, "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        thread = threading.Thread(target=serve, args=(listener, stats, queues), daemon=True)
        thread.start()
        done = subprocess.run([IPC, "doctor", "--json", "--socket", path], timeout=30,
                              capture_output=True, text=True, check=False)
        thread.join(30)
    os.unlink(path)
    return done.returncode, done.stderr, [json.loads(line) for line in done.stdout.splitlines()]


def check(directory, stats, queues, expected):
    status, errors, lines = examine(directory, stats, queues)
    found = [line for line in lines if line["level"] != "ok"]
    wanted = 2 if any(level in ("warning", "problem") for level, _, _ in expected) else 0
    good = status == wanted and not errors and len(found) == len(expected)
    for line, (level, about, text) in zip(found, expected):
        good = good and line["level"] == level and line["check"] == about
        good = good and text in line["text"] and line["help"]
    if not good:
        print(f"expected {expected} and status {wanted}, got status {status}: {found} {errors}")
    return good


VERSION = "ipcd " + subprocess.run([IPC, "--version"], capture_output=True, text=True,
                                   check=True).stdout.split()[1]
with tempfile.TemporaryDirectory() as where:
    results = [check(where, *case) for case in CASES]
sys.exit(0 if all(results) else 1)
