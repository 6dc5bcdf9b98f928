# SPDX-License-Identifier: MIT
"""What is measured, and by which numbers it is judged."""

from collections import namedtuple

# One table of the report. verb and arguments go to the driver; metric is what counts;
# floor names a row of M0 and its metric; rows say who takes part.
Case = namedtuple("Case", "workload name verb arguments metric unit floor rows")
# variant goes to the driver; a row that is no fair peer is shown, but is not "the best".
Row = namedtuple("Row", "label server variant fair")

ONE_CPU = "one CPU"

SEND_1 = "durable sends, 1 producer, one at a time"
SEND_32 = "durable sends, 32 producers, one at a time"
SEND_64 = "durable sends, 1 producer, batches of 64"

HANDOVER = "a live descriptor, from client to client"
HANDOVER_ONE_CPU = "a live descriptor, all on one CPU"
SNAPSHOT = "a copy to a queue in memory"
SNAPSHOT_DURABLE = "a copy to a durable queue"
SAVE = "receive and save"
STREAM_IN = "send without descriptors"
STREAM_OUT = "receive without descriptors"
BESIDE = "pings and short sends beside a copy and a stream"
REFLINK = "copies that share blocks"


def row(label, server, variant="", fair=True):
    return Row(label, server, variant, fair)


QUEUES = [
    row("redis BLMOVE+LREM", "redis", "blmove"),
    row("redis streams", "redis", "stream"),
    row("redis BRPOP (unsafe)", "redis", "brpop", fair=False),
    row("beanstalkd", "beanstalkd"),
    row("nats-js memory", "nats"),
]

# They answer a send when it is on disk, except for nats.
STORES = [
    row("redis LPUSH", "redis"),
    row("beanstalkd", "beanstalkd"),
    row("nats-js file (not synced)", "nats", "file", fair=False),
]
IN_PROCESS = row("sqlite in process", "sqlite", fair=False)

BUSES = [row("dbus-broker", "dbus-broker"), row("dbus-daemon", "dbus-daemon")]
SOCAT = row("socat", "socat")

PEERS = QUEUES + STORES + BUSES + [SOCAT]

# A record is a body of 100 bytes and what a store keeps beside it.
RECORD = ["-s", "256"]
APPEND, APPEND_64 = "append and fdatasync", "append 64 and fdatasync"
COMMIT_32 = "smallest broker that stores, 32 clients"
DISK_FLOORS = [
    Case("M0", APPEND, "append", RECORD, "rate", "records/s", None, []),
    Case("M0", APPEND_64, "append", RECORD + ["-p", "64"], "rate", "records/s", None, []),
    Case("M0", "overwrite and fdatasync", "append", RECORD + ["-v", "written"],
         "rate", "records/s", None, []),
    Case("M0", "overwrite 64 and fdatasync", "append",
         RECORD + ["-p", "64", "-v", "written"], "rate", "records/s", None, []),
    Case("M0", COMMIT_32, "commit", RECORD + ["-c", "32", "-v", "written"],
         "rate", "records/s", None, []),
]

HANDOVER_FLOORS = [
    Case("M0", "descriptor", "handover", [], "p50", "us", None, []),
    Case("M0", "descriptor, one CPU", "handover", [ONE_CPU], "p50", "us", None, []),
]

COPY, COPY_SYNCED, STREAM = "copy_file_range", "copy_file_range and fsync", "stream"
FILE_FLOORS = [
    Case("M0", COPY, "copy", [], "seconds", "s", None, []),
    Case("M0", COPY_SYNCED, "copy", ["-v", "synced"], "seconds", "s", None, []),
    Case("M0", STREAM, "stream", [], "rate", "GB/s", None, []),
]

FLOORS = [
    Case("M0", "pingpong", "pingpong", [], "p50", "us", None, []),
    Case("M0", "pingpong, one CPU", "pingpong", [ONE_CPU], "p50", "us", None, []),
    Case("M0", "relay", "relay", [], "p50", "us", None, []),
    Case("M0", "relay, one CPU", "relay", [ONE_CPU], "p50", "us", None, []),
]


def cases(ours):
    """ours: the names of the ipcd builds, the one to judge first."""
    single = [row(name, name) for name in ours]
    settled = [row(f"{name}, ack answered", name, "settle") for name in ours]
    window8 = [row(f"{name}, window 8", name, "8") for name in ours]
    pair = ["-c", "1", "-p", "64", "-w", "16384"]
    few, many = ["-c", "4", "-w", "2000"], ["-c", "4", "-p", "64", "-w", "16384"]
    return FLOORS + DISK_FLOORS + HANDOVER_FLOORS + FILE_FLOORS + [
        Case("M4", "1 client: put, take, acknowledge", "roundtrip", [],
             "p50", "us", "pingpong:p50", single + settled + QUEUES),
        Case("M4", "1 client, all on one CPU", "roundtrip", [ONE_CPU],
             "p50", "us", "pingpong, one CPU:p50", single + settled + QUEUES),
        Case("M4", "4 + 4 connections, one job at a time", "queue", few,
             "rate", "jobs/s", "relay:rate", single + window8 + QUEUES),
        Case("M4", "4 + 4 connections, batches of 64", "queue", many,
             "rate", "jobs/s", "relay:rate", single + QUEUES),
        Case("M4", "1 + 1 connections, batches of 64", "queue", pair,
             "rate", "jobs/s", "relay:rate", single + QUEUES),
        Case("M5", SEND_1, "send", [],
             "rate", "sends/s", f"{APPEND}:rate", single + STORES + [IN_PROCESS]),
        Case("M5", SEND_32, "send", ["-c", "32"],
             "rate", "sends/s", f"{COMMIT_32}:rate", single + STORES),
        Case("M5", SEND_64, "send", ["-p", "64"],
             "rate", "sends/s", f"{APPEND_64}:rate", single + STORES + [IN_PROCESS]),
        Case("M6", HANDOVER, "handover", [],
             "p50", "us", "descriptor:p50", single + BUSES),
        Case("M6", HANDOVER_ONE_CPU, "handover", [ONE_CPU],
             "p50", "us", "descriptor, one CPU:p50", single + BUSES),
        Case("M6", SNAPSHOT, "snapshot", [], "seconds", "s", f"{COPY}:seconds", single),
        Case("M6", SNAPSHOT_DURABLE, "snapshot", ["-v", "durable"],
             "seconds", "s", f"{COPY_SYNCED}:seconds", single),
        Case("M6", SAVE, "save", [], "seconds", "s", f"{COPY_SYNCED}:seconds", single),
        Case("M6", STREAM_IN, "streamin", [],
             "rate", "GB/s", f"{STREAM}:rate", single + [SOCAT]),
        Case("M6", STREAM_OUT, "streamout", [],
             "rate", "GB/s", f"{STREAM}:rate", single + [SOCAT]),
    ]


def floors_of(case):
    """All of the kind that it is compared with."""
    name = case.floor.split(":")[0]
    kinds = (FLOORS, DISK_FLOORS, HANDOVER_FLOORS, FILE_FLOORS)
    return next(kind for kind in kinds if name in {floor.name for floor in kind})


def is_transfer(case):
    """One file, once; not as often as it goes."""
    return case.unit in ("s", "GB/s")


def most_in_a_sync(case):
    """A producer waits for the answers to one batch before it sends the next."""
    options = dict(zip(case.arguments[::2], case.arguments[1::2]))
    return int(options.get("-c", 1)) * int(options.get("-p", 1))


MEMORY, FLOOD, COMMAND = "memory and start", "flood", "a command from start to end"
LOAD = "load"

# The project's own bars for the first version, and its goals; None: there is none. What
# is compared with a peer's row is the ratio; vs_floor is the one to the case's floor. row:
# whose metric it is; None: ipcd's.
Bar = namedtuple("Bar", "what workload case metric against bar goal higher_is_better row",
                 defaults=[None])

BARS = [
    Bar("memory queue, one job at a time", "M4", "4 + 4 connections, one job at a time",
        "median", "redis BLMOVE+LREM", 2.0, 3.5, True),
    Bar("memory queue, batches of 64", "M4", "4 + 4 connections, batches of 64",
        "median", "redis streams", 1.5, 2.8, True),
    Bar("one sender, one receiver, batches of 64", "M4",
        "1 + 1 connections, batches of 64", "median", "redis streams", 1.5, 2.8, True),
    Bar("durable sends, 1 producer", "M5", SEND_1, "median", "sqlite in process",
        0.65, None, True),
    Bar("durable sends, 1 producer", "M5", SEND_1, "median", "beanstalkd",
        None, 1.1, True),
    Bar("durable sends, 32 producers", "M5", SEND_32, "median", "redis LPUSH",
        1.4, 2.7, True),
    Bar("durable sends, batches of 64", "M5", SEND_64, "median", "redis LPUSH",
        1.0, 2.0, True),
    Bar("bytes a durable message, of all that are in", "M5", LOAD, "per_message", None,
        300, None, False),
    Bar("seconds to load them at a start", "M5", LOAD, "all_seconds", None,
        3, None, False),
    Bar("live descriptor", "M6", HANDOVER, "median", "dbus-broker", 1.25, 0.75, False),
    Bar("live descriptor, one CPU", "M6", HANDOVER_ONE_CPU, "median", "dbus-broker",
        1.25, 0.75, False),
    Bar("file to a queue in memory", "M6", SNAPSHOT, "vs_floor", None, 1.15, 1.0, False),
    Bar("file to a durable queue", "M6", SNAPSHOT_DURABLE, "vs_floor", None,
        1.15, 1.0, False),
    Bar("file received and saved", "M6", SAVE, "vs_floor", None, 1.15, 1.0, False),
    Bar("file sent as bytes", "M6", STREAM_IN, "median", "socat", 1.3, None, True),
    Bar("file sent as bytes", "M6", STREAM_IN, "vs_floor", None, None, 0.6, True),
    Bar("file received as bytes", "M6", STREAM_OUT, "median", "socat", 1.3, None, True),
    Bar("file received as bytes", "M6", STREAM_OUT, "vs_floor", None, None, 0.6, True),
    Bar("pings beside files, x alone", "M6", BESIDE, "ping_factor", None,
        2.0, None, False),
    Bar("sends beside files, x alone", "M6", BESIDE, "send_factor", None,
        2.0, None, False),
    Bar("KiB per idle connection, 10,000", "M7", MEMORY, "per_10000", None,
        1.0, 0.5, False),
    Bar("KiB of private memory, idle", "M7", MEMORY, "private", None,
        4096, 2048, False),
    Bar("ms from start to first answer", "M7", MEMORY, "start_ms", None,
        8, 3, False),
    Bar("us that ipc send takes, as a whole", "command", COMMAND, "median", None,
        3000, None, False, "ipc send"),
]

# A command from start to end, on a server of that kind: {address} is its socket.
COMMANDS = [
    ("true (floor)", None, ["true"]),
    ("ipc send", "ipcd",
     ["{ipc}", "--socket", "{address}", "send", "bench", "-m", "text"]),
    ("redis-cli lpush", "redis", ["redis-cli", "-s", "{address}", "lpush", "q", "text"]),
    ("mosquitto_pub", "mosquitto",
     ["mosquitto_pub", "--unix", "{address}", "-t", "q", "-m", "text"]),
    ("dbus-send --print-reply", "dbus-broker",
     ["dbus-send", "--bus=unix:path={address}", "--print-reply",
      "--dest=org.freedesktop.DBus", "/", "org.freedesktop.DBus.GetId"]),
    ("busctl call", "dbus-broker",
     ["busctl", "--address=unix:path={address}", "call", "org.freedesktop.DBus", "/",
      "org.freedesktop.DBus", "GetId"]),
]
