#!/usr/bin/env python3
# SPDX-License-Identifier: MIT

"""The Python client in ipc-protocol(7) works as it is printed.

It is taken from the page's source, compared with the page as man(1) shows it, and run on
a real ipcd. Then its own put() and get() are used to ask the daemon whether all was done.
"""

import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap

DEADLINE_S = 60
PAGE = os.path.join(os.environ["BUILD_DIR"], "libipc/man/ipc-protocol.7")


def fail(text):
    print(text)
    sys.exit(1)


def expect(what, got, wanted):
    if got != wanted:
        fail(f"{what}:\n{got!r}\nis not\n{wanted!r}")


# ---- the page


def read_example():
    with open(PAGE, encoding="utf-8") as f:
        block = re.search(r'^\.\\" begin python\n(.*?)^\.\\" end python$', f.read(),
                          re.MULTILINE | re.DOTALL)
    if not block:
        fail(f"{PAGE}: there is no example between the marks")
    lines = [line for line in block[1].splitlines() if line not in (".EX", ".EE")]
    for line in lines:
        # What roff(7) would show in another way has no place in it.
        if re.search(r"^[.']|[\\`^~'-]", line):
            fail(f"{PAGE}: roff changes this line: {line}")
    return "\n".join(lines) + "\n"


def format_page():
    environment = dict(os.environ, LC_ALL="C.UTF-8", MANWIDTH="80", MANROFFSEQ="")
    page = subprocess.run(["man", "-E", "UTF-8", "-l", "-Tutf8", PAGE], env=environment,
                          check=True, capture_output=True, timeout=DEADLINE_S)
    return re.sub(r"\x1b\[[0-9;]*m|.\x08", "", page.stdout.decode())


def check_formatted(example):
    lines = format_page().splitlines()
    first = example.splitlines()[0]
    start = next((i for i, line in enumerate(lines) if line.strip() == first), None)
    if start is None:
        fail(f"{PAGE}: as man(1) shows it, there is no example")
    shown = lines[start:start + len(example.splitlines())]
    expect("the example as man(1) shows it", textwrap.dedent("\n".join(shown)) + "\n",
           example)


# ---- the daemon


def start(directory):
    path = os.path.join(directory, "socket")
    ready, writer = os.pipe()
    daemon = subprocess.Popen(
        [os.environ["IPC_TEST_DAEMON"], "--user", "--volatile", "--socket", path,
         "--ready-fd", str(writer)], pass_fds=[writer])
    os.close(writer)
    with os.fdopen(ready, "rb") as f:
        if f.read() != b"READY\n":
            fail("ipcd does not start")
    return daemon, path


def user_name():
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def check_output(example, path):
    done = subprocess.run([sys.executable, "-c", example, path], stdout=subprocess.PIPE,
                          timeout=DEADLINE_S)
    expect("exit status", done.returncode, 0)
    expect("output", done.stdout.decode(),
           "{'re': 1, 'message': 1}\n"
           f"{user_name()} buy milk\n"
           "{'re': 2, 'end': 'max'}\n"
           "{'re': 3}\n")


def check_queue(example, path):
    """All but what is specific to the example is used for one more request."""
    functions, connect = example.split("\ns = ", 1)
    program = {"path": path}
    exec(functions, program)
    exec("s = " + connect.split("\n\n")[0].replace("sys.argv[1]", "path"), program)
    program["put"](program["f"], op="names", id=1, name="notes")
    header, body = program["get"](program["f"])
    expect("answer to names", header, {"re": 1, "size": len(body)})
    queue = json.loads(body)
    expect("acknowledged", (queue["acked"], queue["bytes"]), (1, 0))


def main():
    example = read_example()
    if shutil.which("man"):
        check_formatted(example)
    with tempfile.TemporaryDirectory(prefix="ipcd-test-") as directory:
        daemon, path = start(directory)
        try:
            check_output(example, path)
            check_queue(example, path)
        finally:
            daemon.terminate()
            status = daemon.wait(DEADLINE_S)
        expect("exit status of ipcd", status, 0)


main()
