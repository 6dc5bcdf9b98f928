# SPDX-License-Identifier: MIT

"""For the tests of the programs in ipc-protocol(7).

They are taken from the page's source, compared with the page as man(1) shows it, and run on
a real ipcd.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time

DEADLINE_S = 60
PAGE = os.path.join(os.environ["BUILD_DIR"], "libipc/man/ipc-protocol.7")


def fail(text):
    print(text)
    sys.exit(1)


def expect(what, got, wanted):
    if got != wanted:
        fail(f"{what}:\n{got!r}\nis not\n{wanted!r}")


def wait_until(what, condition):
    end = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > end:
            fail(f"never came true: {what}")
        time.sleep(0.005)


# ---- the page


def read_example(mark):
    """What stands between the comments "begin MARK" and "end MARK"."""
    with open(PAGE, encoding="utf-8") as f:
        block = re.search(rf'^\.\\" begin {mark}\n(.*?)^\.\\" end {mark}$', f.read(),
                          re.MULTILINE | re.DOTALL)
    if not block:
        fail(f"{PAGE}: there is no example between the marks of {mark}")
    lines = [line for line in block[1].splitlines() if line not in (".EX", ".EE")]
    for line in lines:
        # What roff(7) would show in another way has no place in it, but a minus sign.
        if re.search(r"^[.']|[\\`^~'-]", line.replace(r"\-", "")):
            fail(f"{PAGE}: roff changes this line: {line}")
    return "\n".join(lines).replace(r"\-", "-") + "\n"


def format_page():
    environment = dict(os.environ, LC_ALL="C.UTF-8", MANWIDTH="80", MANROFFSEQ="")
    page = subprocess.run(["man", "-E", "UTF-8", "-l", "-Tutf8", PAGE], env=environment,
                          check=True, capture_output=True, timeout=DEADLINE_S)
    return re.sub(r"\x1b\[[0-9;]*m|.\x08", "", page.stdout.decode())


def check_formatted(example):
    """The page shows the example as it is, wherever there is a man(1) to ask."""
    if not shutil.which("man"):
        return
    lines = format_page().splitlines()
    first = example.splitlines()[0]
    start = next((i for i, line in enumerate(lines) if line.strip() == first), None)
    if start is None:
        fail(f"{PAGE}: as man(1) shows it, there is no example")
    shown = lines[start:start + len(example.splitlines())]
    expect("the example as man(1) shows it", textwrap.dedent("\n".join(shown)) + "\n",
           example)


# ---- the daemon


def start(directory, options):
    path = os.path.join(directory, "socket")
    ready, writer = os.pipe()
    daemon = subprocess.Popen(
        [os.environ["IPC_TEST_DAEMON"], "--user", "--socket", path, "--ready-fd",
         str(writer), *options], pass_fds=[writer])
    os.close(writer)
    with os.fdopen(ready, "rb") as f:
        if f.read() != b"READY\n":
            fail("ipcd does not start")
    return daemon, path


@contextlib.contextmanager
def running(durable=False):
    """An ipcd in a directory of its own; both go away. Gives the directory and the socket;
    a durable one has its state directory there, too."""
    with tempfile.TemporaryDirectory(prefix="ipcd-test-") as directory:
        state = ["--state", os.path.join(directory, "state")]
        daemon, path = start(directory, state if durable else ["--volatile"])
        try:
            yield directory, path
        finally:
            daemon.terminate()
            status = daemon.wait(DEADLINE_S)
        expect("exit status of ipcd", status, 0)
