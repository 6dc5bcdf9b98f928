# SPDX-License-Identifier: MIT
"""Files handed over: one transfer at a time, of a file that is in the page cache."""

import mmap
import os
import resource
import statistics
import subprocess
import tempfile
import time

import disk
import measure
import servers

MIB = 1 << 20
GIB = 1 << 30
SMALL_CLONE = 64 * MIB
SPACE = 6  # times the size, at most, are on the disk at once
TOUCH = 6  # times the size: more than is in memory at once
CLONES = 11  # snapshots of which the median counts
CHUNK = "1048576"
SOCAT_SECONDS = 60
SETTLE_SECONDS = 120


class Files:
    """Where the source lies, and one method for each kind of measurement."""

    def __init__(self, meter, quick):
        self.meter = meter
        self.size = GIB // 4 if quick else GIB
        self.path = None

    def has_space(self):
        status = os.statvfs(self.meter.disk.path)
        return status.f_bavail * status.f_frsize >= SPACE * self.size

    def source(self):
        """Made once, in the directory that is removed in the end."""
        if not self.path:
            path = os.path.join(self.meter.disk_dir, "source")
            make_file(path, self.size)
            self.path = path
        return self.path

    def directory(self):
        return tempfile.TemporaryDirectory(dir=self.meter.disk_dir)

    def settle(self):
        """What was written before is on the disk, and the source in the page cache. A
        virtual machine may get the memory that the copies will need only at its first
        touch, and give it back when it was free for a while: nobody is to pay for that
        within a measurement."""
        source = self.source()
        touch(min(TOUCH * self.size, available_memory() // 2))
        subprocess.run(["sync", "-f", self.meter.disk_dir], check=False,
                       timeout=SETTLE_SECONDS)
        read_file(source)

    def drive(self, verb, directory, arguments, server=None, source=None):
        argv = [servers.driver("files"), verb] + arguments
        if server:
            argv += ["-a", server.address, "-P", str(server.pid)]
        argv += ["--", source or self.source(), directory]
        return measure.run_driver(argv, server)

    def floor(self, case):
        with self.directory() as directory:
            self.settle()
            return self.drive(case.verb, directory, case.arguments)

    def row(self, case, row, kind):
        if kind is servers.SOCAT:
            return self.socat()
        with self.directory() as directory, self.meter.start(kind, True) as server:
            self.settle()
            return self.drive(case.verb, directory, case.arguments, server)

    def socat(self):
        """From file to file, by one socket; begun when the receiver is there."""
        socat = ["socat", "-u", "-b", CHUNK]
        source, size = self.source(), self.size
        with self.directory() as directory:
            address, copy = directory + "/s", directory + "/copy"
            self.settle()
            with measure.watching(None) as values:
                receiver = subprocess.Popen(
                    socat + ["UNIX-LISTEN:" + address, "CREATE:" + copy],
                    stdin=subprocess.DEVNULL)
                try:
                    wait_for_path(address, receiver)
                    used, begin = children_seconds(), time.monotonic()
                    subprocess.run(
                        socat + ["FILE:" + source,
                                 f"UNIX-CONNECT:{address},retry=100,interval=0.01"],
                        stdin=subprocess.DEVNULL, check=True, timeout=SOCAT_SECONDS)
                    receiver.wait(SOCAT_SECONDS)
                    seconds = time.monotonic() - begin
                    used = children_seconds() - used
                finally:
                    receiver.kill()
                    receiver.wait()
            if os.path.getsize(copy) != size:
                raise RuntimeError("socat has not copied all")
        values.update(seconds=seconds, rate=size / seconds / 1e9, bytes=size,
                      us_server=0, us_clients=used * 1e6)
        return values

    def beside(self, kind):
        """Pings and short sends, alone and while large ones go through."""
        with self.directory() as directory, self.meter.start(kind, True) as server:
            self.settle()
            seconds = ["-t", str(self.meter.seconds), "-W", str(self.meter.warm_up)]
            return self.drive("beside", directory, seconds, server)

    def reflink(self, kind):
        """Snapshots of a small and of a large file, where files can share blocks."""
        with disk.Loop(self.meter.disk_dir, 2 * self.size + GIB) as mount:
            sources = {"small": SMALL_CLONE, "large": self.size}
            for name, size in sources.items():
                make_file(f"{mount}/{name}", size)
            seconds = {}
            with servers.Server(kind, self.meter.dir, mount) as server:
                for name in sources:
                    values = self.drive("snapshot", mount, ["-n", str(CLONES)], server,
                                        f"{mount}/{name}")
                    seconds[name] = values["seconds"]
        return {"small_bytes": SMALL_CLONE, "large_bytes": self.size,
                "small_ms": seconds["small"] * 1e3, "large_ms": seconds["large"] * 1e3,
                "ratio": seconds["large"] / seconds["small"]}


def make_file(path, size):
    """Written to the disk, and no hole."""
    block = os.urandom(MIB)
    with open(path, "wb") as f:
        for _ in range(size // MIB):
            f.write(block)
        f.flush()
        os.fsync(f.fileno())


def touch(size):
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
    mmap.mmap(-1, size, flags=flags).close()


def available_memory():
    with open("/proc/meminfo") as f:
        return next(int(line.split()[1]) * 1024 for line in f
                    if line.startswith("MemAvailable:"))


def read_file(path):
    buffer = bytearray(MIB)
    with open(path, "rb", buffering=0) as f:
        while f.readinto(buffer):
            pass


def wait_for_path(path, process):
    for _ in range(1000):
        if os.path.exists(path):
            return
        if process.poll() is not None:
            break
        time.sleep(0.005)
    raise RuntimeError("socat does not listen")


def children_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
