# SPDX-License-Identifier: MIT
"""The servers that are measured: what they need, how they are started, what they use."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
BUILD = os.environ.get("BUILD_DIR") or os.path.join(TOP, "build", "release")
IPCD = os.environ.get("IPC_TEST_DAEMON") or os.path.join(BUILD, "ipcd")
IPC = os.environ.get("IPC_TEST_CLI") or os.path.join(BUILD, "ipc")
DRIVERS = os.path.join(BUILD, "bench")
CC = (os.environ.get("CC") or "cc").split()

PATH = os.environ["PATH"] + ":/usr/sbin:/sbin"


def find(program):
    return shutil.which(program, path=PATH)


# ---- drivers ---------------------------------------------------------------------------

LIBIPC = ["-I" + TOP + "/libipc/include", "-L" + BUILD, "-lipc", "-Wl,-rpath," + BUILD]

# What a driver includes and is linked with, beyond libc.
LIBRARIES = {
    "floor": (None, []),
    "sqlite": ("sqlite3.h", ["-lsqlite3"]),
    "ipc": (None, LIBIPC),
    "files": (None, LIBIPC),
    "beanstalk": (None, []),
    "redis": ("hiredis/hiredis.h", ["-lhiredis"]),
    "nats": ("nats/nats.h", ["-lnats"]),
    "mosquitto": (None, []),
    "dbus": ("systemd/sd-bus.h", ["-lsystemd"]),
    "dbusctl": ("systemd/sd-bus.h", ["-lsystemd"]),
}


def has_header(header):
    source = f"#include <{header}>\n".encode()
    r = subprocess.run(CC + ["-E", "-"], input=source, capture_output=True)
    return r.returncode == 0


def driver(name):
    return os.path.join(DRIVERS, name)


def build_driver(name):
    """Compile it if it is older than its sources; CalledProcessError if that fails."""
    sources = [f"{HERE}/drv/{s}.c" for s in (name, "bench", "roles", "socket")]
    inputs = sources + [f"{HERE}/drv/bench.h", f"{TOP}/libipc/include/ipc/ipc.h"]
    out = driver(name)
    if os.path.exists(out) and os.path.getmtime(out) > max(map(os.path.getmtime, inputs)):
        return
    os.makedirs(DRIVERS, exist_ok=True)
    flags = ["-std=gnu11", "-D_GNU_SOURCE", "-O2", "-g", "-Wall", "-Wextra"]
    subprocess.run(CC + flags + ["-o", out] + sources + LIBRARIES[name][1], check=True)


# ---- kinds of servers ------------------------------------------------------------------

class Kind:
    """One server: `command(directory, state, sync)` gives its arguments and its address.
    It keeps what it is sent in the directory `state`, on disk before it answers if
    `sync`; in memory if state is None. No command: it works in the client's process.
    No driver: it is a program of its own."""

    def __init__(self, name, driver, command, config, program, packages="", version=None,
                 durable="", files=False):
        self.name, self.driver, self.command = name, driver, command
        self.config, self.program, self.packages = config, program, packages
        self.version_command = version
        self.durable = durable  # how it is configured with a state; "" if it has none
        self.files = files  # whether it hands over files or descriptors

    def drivers(self):
        """What has to be built."""
        with_it = ["dbusctl"] if self.name == "dbus-broker" else []
        return ([self.driver] if self.driver else []) + with_it

    def missing(self):
        """What it lacks here, in words; "" if it can be measured."""
        header = LIBRARIES[self.driver][0] if self.driver else None
        lacks = []
        if self.program and not find(self.program):
            lacks.append(self.program)
        if header and not has_header(header):
            lacks.append(f"<{header}>")
        return " and ".join(lacks)

    def version(self):
        command = self.version_command or [self.program, "--version"]
        try:
            r = subprocess.run(command, capture_output=True, text=True, check=False)
            return (r.stdout + r.stderr).strip().splitlines()[0]
        except (OSError, IndexError):
            return "?"


def write(path, text):
    with open(path, "w") as f:
        f.write(text)
    return path


# Nobody takes what durable sends put there.
IPCD_ROOM = {"queue_messages": 10 ** 9, "user_messages": 10 ** 9,
             "queue_bytes": 10 ** 12, "user_bytes": 10 ** 12}


def ipcd(name="ipcd", program=IPCD):
    """A build without --volatile has no queues on disk, one without file_max no files."""
    def says(option, word):
        r = subprocess.run([program, option], capture_output=True, text=True, check=False)
        return word in r.stdout

    durable = says("--help", "--volatile")
    room = [word for limit, value in IPCD_ROOM.items()
            for word in ("--limit", f"{limit}={value}")]

    def command(d, state=None, sync=True):
        kept = ["--volatile"] if durable else []
        if state:
            kept = ["--state", state] + room
        return [program, "--user", "--socket", d + "/s"] + kept, d + "/s"

    config = "--user, Unix socket" + (", --volatile" if durable else "")
    return Kind(name, "ipc", command, config, program,
                durable="--state, limits raised" if durable else "",
                files=says("--limits", "file_max"))


def redis_command(d, state=None, sync=True):
    kept = ["--appendonly", "no"]
    if state:
        kept = ["--appendonly", "yes", "--appendfsync", "always" if sync else "no",
                "--auto-aof-rewrite-percentage", "0"]
    return ["redis-server", "--port", "0", "--unixsocket", d + "/s", "--dir", state or d,
            "--save", "", "--maxclients", "12000"] + kept, d + "/s"


def beanstalkd_command(d, state=None, sync=True):
    kept = ["-b", state] + (["-f", "0"] if sync else ["-F"]) if state else []
    return ["beanstalkd", "-l", "unix:" + d + "/s"] + kept, d + "/s"


def nats_command(d, state=None, sync=True):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        address = "127.0.0.1:%d" % s.getsockname()[1]
    config = f'listen: "{address}"\njetstream {{ store_dir: "{state or d}/js" }}\n'
    return ["nats-server", "-c", write(d + "/config", config)], address


def mosquitto_command(d, state=None, sync=True):
    # as root it would become another user, who may not create the socket
    config = "user root\n" if os.geteuid() == 0 else ""
    config += (f"listener 0 {d}/s\nallow_anonymous true\npersistence false\n"
               "log_dest stderr\nlog_type error\n")
    return ["mosquitto", "-c", write(d + "/config", config)], d + "/s"


DBUS_CONFIG = """<!DOCTYPE busconfig PUBLIC
 "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path=%s</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow send_destination="*" eavesdrop="true"/>
<allow eavesdrop="true"/><allow own="*"/></policy>%s</busconfig>"""
DBUS_LIMITS = "".join(f'<limit name="{name}">{value}</limit>' for name, value in (
    ("max_completed_connections", 100000), ("max_incomplete_connections", 10000),
    ("max_connections_per_user", 100000)))


def dbus_daemon_command(d, state=None, sync=True):
    config = write(d + "/config", DBUS_CONFIG % (d + "/s", DBUS_LIMITS))
    return ["dbus-daemon", "--nofork", "--nopidfile", "--config-file", config], d + "/s"


def dbus_broker_command(d, state=None, sync=True):
    return [driver("dbusctl"), d + "/s"], d + "/s"


def package_version(package):
    return ["dpkg-query", "-f", "${Version}", "-W", package]


SQLITE = Kind("sqlite", "sqlite", None, "in the producer's process", None,
              "libsqlite3-dev", package_version("libsqlite3-0"),
              durable="WAL, synchronous=FULL, locking_mode=EXCLUSIVE")

SOCAT = Kind("socat", None, None, "-u -b 1048576, Unix socket, from file to file",
             "socat", "socat", package_version("socat"), files=True)

PEERS = [
    Kind("redis", "redis", redis_command,
         "Unix socket, no snapshots, no append-only file",
         "redis-server", "redis-server redis-tools libhiredis-dev",
         durable="appendonly yes, appendfsync always, never rewritten"),
    Kind("beanstalkd", "beanstalk", beanstalkd_command, "Unix socket, no binlog",
         "beanstalkd", "beanstalkd", package_version("beanstalkd"),
         durable="-b DIR -f 0"),
    Kind("nats", "nats", nats_command, "127.0.0.1 (it has no Unix sockets), JetStream",
         "nats-server", "nats-server libnats-dev",
         durable="stream in files, which it syncs every two minutes"),
    Kind("mosquitto", "mosquitto", mosquitto_command, "Unix socket, no persistence",
         "mosquitto", "mosquitto mosquitto-clients", package_version("mosquitto")),
    Kind("dbus-daemon", "dbus", dbus_daemon_command,
         "session type, all allowed, limits raised, Unix socket",
         "dbus-daemon", "dbus-daemon dbus-bin libsystemd-dev", files=True),
    Kind("dbus-broker", "dbus", dbus_broker_command,
         "own controller (not counted), all allowed, Unix socket",
         "dbus-broker", "dbus-broker libsystemd-dev", package_version("dbus-broker"),
         files=True),
]
OTHERS = [SQLITE, SOCAT]

CPUCLOCK_SCHED = 2  # with a process's number: its clock, as clock_getcpuclockid(3) says


# ---- a running one ---------------------------------------------------------------------

class Server:
    """Started afresh in a directory of its own; start_ms until its first answer. With a
    parent for its state it is durable."""

    def __init__(self, kind, parent, state_parent=None, sync=True):
        self.kind, self.process, self.pid = kind, None, None
        self.dir = tempfile.mkdtemp(prefix="server-", dir=parent)
        self.state, self.sync = None, sync
        try:
            if state_parent:
                self.state = tempfile.mkdtemp(prefix="state-", dir=state_parent)
            self._start()
        except Exception:
            self.stop()
            raise

    def _start(self):
        argv, self.address = self.kind.command(self.dir, self.state, self.sync)
        hello = subprocess.Popen([driver(self.kind.driver), "hello", "-a", self.address],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE)
        env = dict(os.environ, PATH=PATH)
        with open(self.dir + "/log", "w") as log:
            self.begin_ns = time.monotonic_ns()
            # close_fds=False: posix_spawn, so that Python costs the same and little
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, close_fds=False, env=env)
        hello.stdin.write(b"g")
        hello.stdin.flush()
        out = self._hear(hello)
        if hello.returncode or self.process.poll() is not None:
            raise RuntimeError(f"{self.kind.name} did not start: {self.log()}")
        self.start_ms = (json.loads(out)["at"] - self.begin_ns) / 1e6
        self.pid = self.process.pid
        if self.kind.name == "dbus-broker":
            self.pid = self._broker_pid()

    def _hear(self, hello):
        """Its answer; b"" at once if there is nobody to answer any more."""
        while True:
            try:
                return hello.communicate(timeout=0.5)[0]
            except subprocess.TimeoutExpired:
                if self.process.poll() is not None:
                    hello.kill()

    def _broker_pid(self):
        """Its controller says it, maybe after the broker's first answer."""
        for _ in range(1000):
            words = self.log().split()
            if words:
                return int(words[0])
            time.sleep(0.001)
        raise RuntimeError("dbus-broker's controller does not say its pid")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def log(self):
        with open(self.dir + "/log") as f:
            return f.read()[-300:]

    def pin(self, cpu):
        for thread in os.listdir(f"/proc/{self.pid}/task"):
            os.sched_setaffinity(int(thread), {cpu})

    def memory(self):
        """KiB: resident, and what is its own alone."""
        with open(f"/proc/{self.pid}/smaps_rollup") as f:
            lines = [line.split() for line in f if line.endswith("kB\n")]
        kib = {words[0]: int(words[1]) for words in lines}
        private = kib["Private_Clean:"] + kib["Private_Dirty:"]
        return {"rss": kib["Rss:"], "private": private, "pss": kib["Pss:"]}

    def cpu_seconds(self):
        """Of all its threads, those that have ended included."""
        return time.clock_gettime(~self.pid << 3 | CPUCLOCK_SCHED)

    def kill(self):
        """Only what was started here. dbus-broker ends with its controller."""
        if self.process:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def restart(self):
        """With the state that it had when it was killed."""
        self.kill()
        self._start()

    def stop(self):
        self.kill()
        for directory in filter(None, (self.dir, self.state)):
            shutil.rmtree(directory, ignore_errors=True)


# ---- installing ------------------------------------------------------------------------

TOOLS = ["btrfs-progs"]  # a file system whose files can share blocks
SERVICES = ("redis-server beanstalkd nats-server mosquitto").split()
POLICY = "/usr/sbin/policy-rc.d"


def install():
    """Debian's packages of all peers; none of their services is started or enabled."""
    packages = sorted({p for kind in PEERS + OTHERS for p in kind.packages.split()})
    apt = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300"]
    env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    before = {s for s in SERVICES if is_enabled(s)}
    forbid = not os.path.exists(POLICY)
    if forbid:
        write(POLICY, "#!/bin/sh\nexit 101\n")
        os.chmod(POLICY, 0o755)
    try:
        subprocess.run(apt + ["update"], check=True, env=env)
        subprocess.run(apt + ["install", "--no-install-recommends"] + packages + TOOLS,
                       check=True, env=env)
    finally:
        if forbid:
            os.unlink(POLICY)
    for service in SERVICES:
        if service not in before and is_enabled(service):
            subprocess.run(["systemctl", "-q", "disable", service], check=False)


def is_enabled(service):
    if not find("systemctl"):
        return False
    r = subprocess.run(["systemctl", "-q", "is-enabled", service], capture_output=True)
    return r.returncode == 0
