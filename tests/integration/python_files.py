#!/usr/bin/env python3
# SPDX-License-Identifier: MIT

"""The Python client for files in ipc-protocol(7) works as it is printed, and together with
ipc(1): files of all sizes, an md5 that is wrong, what remains afterwards.
"""

import hashlib
import json
import os
import random
import socket
import subprocess
import sys

sys.dont_write_bytecode = True
from lib_python import (DEADLINE_S, check_formatted, expect, fail, read_example,
                        running, wait_until)

KIB, MIB = 1 << 10, 1 << 20
SIZES = [0, 1, KIB, KIB + 1, 300 * KIB, 5 * MIB, 40 * MIB]


class World:
    def __init__(self, example, directory, path):
        self.example, self.path = example, path
        self.source, self.target = (os.path.join(directory, d) for d in ("from", "to"))
        self.spool = os.path.join(directory, "state", "spool")
        os.mkdir(self.source)
        os.mkdir(self.target)

    def make(self, name, size):
        path = os.path.join(self.source, name)
        with open(path, "wb") as f:
            f.write(random.Random(size).randbytes(size))
        return path

    def client(self, *arguments, status=0):
        done = subprocess.run([sys.executable, "-c", self.example, self.path, *arguments],
                              capture_output=True, timeout=DEADLINE_S)
        if done.returncode != status:
            fail(f"{arguments}: status {done.returncode}: {done.stderr.decode()}")
        return done.stdout.decode(), done.stderr.decode()

    def ipc(self, *arguments, status=0):
        environment = dict(os.environ, IPC_SOCKET=self.path, IPC_AUTOSTART="0")
        done = subprocess.run([os.environ["IPC_TEST_CLI"], *arguments],
                              env=environment, capture_output=True, timeout=DEADLINE_S)
        if done.returncode != status:
            fail(f"ipc {arguments}: status {done.returncode}: {done.stderr.decode()}")
        return done.stdout.decode()

    def has_arrived(self, path):
        """The file is there, the same, and nothing else is; it goes away again."""
        name = os.path.basename(path)
        expect("files in the target", os.listdir(self.target), [name])
        target = os.path.join(self.target, name)
        with open(path, "rb") as a, open(target, "rb") as b:
            if a.read() != b.read():
                fail(f"{name} has changed on its way")
        os.unlink(target)

    def is_empty(self, queue):
        line = self.program_list(queue)
        counts = {key: line[key] for key in ("ready", "leased", "delayed", "bytes")}
        expect(f"what is in {queue}", set(counts.values()), {0})

    def program(self):
        """The example's functions, connected."""
        program = {}
        exec(self.example.split("\ns = ", 1)[0], program)
        program["s"] = socket.socket(socket.AF_UNIX)
        program["s"].connect(self.path)
        return program

    def program_list(self, queue):
        program = self.program()
        program["put"](op="names", id=1, name=queue)
        body = b"".join(program["parts"](program["get"]()["size"]))
        program["s"].close()
        return json.loads(body)


def check_python_to_python(world):
    for size in SIZES:
        path = world.make(f"file of {size}", size)
        out, _ = world.client("send", path, "files")
        if size >= KIB and not out.split("\r")[-2].strip() == "100 %":
            fail(f"the progress does not end at 100 %: {out!r}")
        out, _ = world.client("fetch", "files", world.target)
        expect("the last line", out.split("\r")[-1].strip(),
               os.path.join(world.target, os.path.basename(path)))
        world.has_arrived(path)
    world.is_empty("files")


def check_wrong_md5(world):
    """Refused by name; the connection lives, and nothing is in the queue."""
    for size in (0, KIB, 300 * KIB, 5 * MIB):
        program, body = world.program(), random.Random(size).randbytes(size)
        header = {"op": "send", "id": 1, "queue": "wrong", "size": size,
                  "filename": "x", "file_size": size}
        program["put"](**header, md5=hashlib.md5(body + b"!").hexdigest())
        program["s"].sendall(body)
        try:
            program["get"]()
            fail("a wrong md5 was taken")
        except SystemExit as error:
            expect("the error", str(error).split(":")[0], "integrity")
        program["put"](**header, md5=hashlib.md5(body).hexdigest())
        program["s"].sendall(body)
        message = program["get"]()["message"]
        program["put"](op="purge", id=2, name="wrong")
        expect("purged", program["get"]()["purged"], 1)
        program["s"].close()
        if message < 1:
            fail("no number")
        world.is_empty("wrong")


def check_with_ipc(world):
    for size in SIZES:
        path = world.make(f"file.{size}", size)
        world.client("send", path, "mixed")
        expect("what ipc prints", world.ipc("receive", "mixed", "-o", world.target),
               os.path.join(world.target, os.path.basename(path)) + "\n")
        world.has_arrived(path)
        world.ipc("send", "mixed", path, "--digest", "md5")
        world.client("fetch", "mixed", world.target)
        world.has_arrived(path)
    world.is_empty("mixed")


def check_nothing(world):
    world.client("send", "/dev/null", "empty")
    world.client("fetch", "empty", world.target)
    os.unlink(os.path.join(world.target, "null"))
    _, error = world.client("send", world.make("x", 1), "no name", status=1)
    expect("the error", error.split(":")[0], "bad-name")


def main():
    example = read_example("python files")
    check_formatted(example)
    with running(durable=True) as (directory, path):
        world = World(example, directory, path)
        check_nothing(world)
        check_python_to_python(world)
        check_wrong_md5(world)
        check_with_ipc(world)
        wait_until("the spool is empty", lambda: not os.listdir(world.spool))


main()
