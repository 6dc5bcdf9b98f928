# SPDX-License-Identifier: MIT
"""One measurement: a server started afresh, a driver, its numbers."""

import contextlib
import json
import os
import resource
import statistics
import subprocess
import tempfile
import time

import cases
import disk
import servers

FLOOD = 100000  # messages
LOAD = 1000000  # messages
STARTS = 5
SETTLE_SECONDS = 0.2  # before memory is looked at


# ---- drivers ---------------------------------------------------------------------------

def run_driver(argv, server, timeout=90):
    """Its JSON, and `foreign`."""
    with watching(server) as values:
        try:
            r = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True,
                               text=True, timeout=timeout,
                               env=dict(os.environ, PATH=servers.PATH))
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"no result after {timeout} s") from error
    if r.returncode or not r.stdout:
        raise RuntimeError(r.stderr or f"exit status {r.returncode}")
    values.update(json.loads(r.stdout.splitlines()[-1]))
    return values


@contextlib.contextmanager
def watching(server):
    """`foreign`, in the end: the share of the machine that others used meanwhile."""
    values = {}
    busy, begin, own = busy_seconds(), time.monotonic(), own_seconds(server)
    yield values
    others = busy_seconds() - busy - (own_seconds(server) - own)
    machine = (time.monotonic() - begin) * os.cpu_count()
    values["foreign"] = round(max(0, others) / machine, 3)


def busy_seconds():
    """What all processors have worked for, with what the host has stolen."""
    with open("/proc/stat") as f:
        user, nice, system, _, _, irq, soft, steal = map(int, f.readline().split()[1:9])
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")


def own_seconds(server):
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime + (server.cpu_seconds() if server else 0)


class Conversation:
    """A driver that says what it has done and waits for a word to go on."""

    def __init__(self, argv):
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()

    def say(self):
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def hear(self):
        line = self.process.stdout.readline()
        if not line:
            error = self.process.stderr.read().decode()
            raise RuntimeError(error or "the driver has ended")
        return json.loads(line)


# ---- measurements ----------------------------------------------------------------------

class Meter:
    """How long to measure, and how much; one method for each kind of measurement."""

    def __init__(self, quick):
        self.seconds, self.warm_up = (0.3, 0.1) if quick else (0.8, 0.2)
        self.disk_seconds = 0.5 if quick else 1.5
        self.connections = [1000] if quick else [1000, 10000]
        self.flood_messages = FLOOD // 10 if quick else FLOOD
        self.load_messages = LOAD // 10 if quick else LOAD
        self.cpu = min(os.sched_getaffinity(0))
        self.dir = None  # where servers are started
        self.disk = None  # where they keep what is durable
        self.disk_dir = None  # a directory there

    def start(self, kind, durable=False, sync=True):
        return servers.Server(kind, self.dir, self.disk_dir if durable else None, sync)

    def drive(self, server, driver, verb, arguments, seconds=None):
        argv = [servers.driver(driver), verb, "-t", str(seconds or self.seconds), "-W",
                str(self.warm_up)]
        if server:
            argv += ["-a", server.address, "-P", str(server.pid)]
        return run_driver(argv + arguments, server)

    def arguments(self, case):
        pinned = ["-C", str(self.cpu)] if cases.ONE_CPU in case.arguments else []
        return pinned + [a for a in case.arguments if a != cases.ONE_CPU]

    def floor(self, case):
        if case in cases.DISK_FLOORS:
            return self.drive_on_disk("floor", case.verb, case.arguments)
        return self.drive(None, "floor", case.verb, self.arguments(case))

    def drive_on_disk(self, driver, verb, arguments):
        """Without a server; the files in a directory of their own."""
        with tempfile.TemporaryDirectory(dir=self.disk_dir) as directory:
            with self.flushes() as flushes:
                values = self.drive(None, driver, verb, arguments + ["-D", directory],
                                    self.disk_seconds)
        del values["lost"]  # nobody has looked
        return self.with_flushes(values, flushes)

    @contextlib.contextmanager
    def flushes(self):
        """How often the disk has flushed in the end, in a list; none if unknown."""
        result, before = [], self.disk.flushes()
        yield result
        if before is not None:
            result.append(self.disk.flushes() - before)

    @staticmethod
    def with_flushes(values, flushes):
        """For each of all that was answered, also before and after the window."""
        if flushes and values["total"]:
            values["flushes"] = round(flushes[0] / values["total"], 4)
        return values

    def durable_row(self, case, row, kind):
        """The server is killed in the end: what was answered and is not there when it
        has started anew is lost."""
        arguments = case.arguments + variant(row)
        if not kind.command:
            return self.drive_on_disk(kind.driver, case.verb, arguments)
        with self.start(kind, durable=True) as server:
            with self.flushes() as flushes:
                values = self.drive(server, kind.driver, case.verb, arguments,
                                    self.disk_seconds)
            server.restart()
            left = self.left(server, values["total"])["left"]
        values["lost"] = max(0, values["total"] - left)
        return self.with_flushes(values, flushes)

    def left(self, server, n):
        argv = [servers.driver(server.kind.driver), "left", "-a", server.address]
        return run_driver(argv + ["-n", str(n)], server)

    def load(self, row, kind):
        """A durable server with many messages, and its start with them. It is filled
        without waiting for the disk where it can."""
        n = self.load_messages
        with self.start(kind, durable=True, sync=False) as server:
            before = server.memory()["rss"]
            argv = [servers.driver(kind.driver), "flood", "-a", server.address]
            run_driver(argv + ["-n", str(n), "-p", "64"] + variant(row), server)
            full = server.memory()["rss"]
            disk.sync(server.state)
            size = disk.size(server.state)
            server.restart()
            left = self.left(server, n)
            loaded = server.memory()["rss"]
            if left["left"] != n:
                raise RuntimeError(f"{left['left']} of {n} messages after a new start")
            return {"messages": n, "before": before, "full": full, "loaded": loaded,
                    "per_message": (full - before) * 1024 / n,
                    "loaded_per_message": (loaded - before) * 1024 / n,
                    "disk_per_message": size / n,
                    "answer_seconds": server.start_ms / 1e3,
                    "all_seconds": (left["at"] - server.begin_ns) / 1e9}

    def row(self, case, row, kind):
        with self.start(kind) as server:
            if cases.ONE_CPU in case.arguments:
                server.pin(self.cpu)
            arguments = self.arguments(case) + variant(row)
            return self.drive(server, kind.driver, case.verb, arguments)

    def command(self, kind, command):
        """A process from start to end, again and again."""
        if not kind:
            return self.drive(None, "floor", "spawn", ["--"] + command)
        with self.start(kind) as server:
            words = {"address": server.address, "ipc": servers.IPC}
            argv = [word.format(**words) for word in command]
            return self.drive(server, "floor", "spawn", ["--"] + argv)

    def memory(self, kind):
        """Idle, with connections, and the time to start."""
        values = {"start_ms": statistics.median(self.starts(kind))}
        for n in self.connections:
            with self.start(kind) as server:
                idle = server.memory()
                full = self.with_connections(server, n)
            values.update(idle)
            values[f"per_{n}"] = (full["rss"] - idle["rss"]) / n
            values[f"private_per_{n}"] = (full["private"] - idle["private"]) / n
        return values

    def starts(self, kind):
        for _ in range(STARTS):
            with self.start(kind) as server:
                yield server.start_ms

    def with_connections(self, server, n):
        driver = servers.driver(server.kind.driver)
        with Conversation([driver, "idle", "-a", server.address, "-c", str(n)]) as idle:
            got = idle.hear()["open"]
            if got != n:
                raise RuntimeError(f"only {got} of {n} connections")
            time.sleep(SETTLE_SECONDS)
            return server.memory()

    def flood(self, row, kind):
        n = self.flood_messages
        with self.start(kind) as server:
            argv = [servers.driver(kind.driver), "flood", "-a", server.address,
                    "-n", str(n), "-p", "64"] + variant(row)
            values = {"messages": n, "before": server.memory()["private"]}
            with Conversation(argv) as driver:
                driver.hear()
                values["full"] = server.memory()["private"]
                driver.say()
                driver.hear()
                time.sleep(SETTLE_SECONDS)
                values["after"] = server.memory()["private"]
        values["per_message"] = (values["full"] - values["before"]) * 1024 / n
        return values


def variant(row):
    return ["-v", row.variant] if row.variant else []
