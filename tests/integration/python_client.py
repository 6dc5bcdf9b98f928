#!/usr/bin/env python3
# SPDX-License-Identifier: MIT

"""The Python client in ipc-protocol(7) works as it is printed.

Then its own put() and get() are used to ask the daemon whether all was done.
"""

import json
import os
import pwd
import subprocess
import sys

sys.dont_write_bytecode = True
from lib_python import DEADLINE_S, check_formatted, expect, read_example, running


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
    example = read_example("python")
    check_formatted(example)
    with running() as (_, path):
        check_output(example, path)
        check_queue(example, path)


main()
