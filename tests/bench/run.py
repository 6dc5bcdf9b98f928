# SPDX-License-Identifier: MIT
"""Measures ipcd beside its peers; see README.md."""

import argparse
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time

import cases
import disk
import files
import measure
import report
import servers

ON_DISK = ("M5", "M6")
TRIES = 3  # of a measurement that others disturb
FOREIGN_MAX = 0.12  # the share of the machine from which it is disturbed
PATIENCE_SECONDS = {False: 300, True: 40}  # by quick: then nothing is tried again


class Run:
    """The options, who takes part, and all that was measured."""

    def __init__(self, options):
        self.options = options
        self.records = []
        self.reps = options.reps or (2 if options.quick else 3)
        self.meter = measure.Meter(options.quick)
        self.files = files.Files(self.meter, options.quick)
        self.patience = PATIENCE_SECONDS[options.quick]
        others = [servers.ipcd(*other.split("=", 1)) for other in options.other]
        self.ours = [servers.ipcd()] + others
        self.kinds = {kind.name: kind for kind in self.ours}
        self.left_out = {}
        self.choose_disk()
        self.begin = time.monotonic()

    def build(self):
        """The drivers, and so who can take part."""
        for name in ("floor", "ipc", "files"):
            servers.build_driver(name)
        wanted = self.options.peers
        for kind in servers.PEERS + servers.OTHERS:
            if wanted is not None and kind.command and kind.name not in wanted.split(","):
                continue
            why = kind.missing()
            if why:
                self.left_out[kind.name] = f"there is no {why} (run --install)"
                continue
            for name in kind.drivers():
                servers.build_driver(name)
            self.kinds[kind.name] = kind

    def choose_disk(self):
        os.makedirs(servers.DRIVERS, exist_ok=True)
        given = self.options.disk
        self.meter.disk = disk.choose([given] if given else [
            servers.DRIVERS, "/var/tmp", tempfile.gettempdir()])
        for workload in filter(self.wants, ON_DISK):
            if not self.meter.disk:
                self.left_out[workload] = "no directory is on a disk (run --disk DIR)"
        for kind in self.ours:
            if self.wants("M5") and not kind.durable:
                self.left_out[f"M5 of {kind.name}"] = "it keeps no queue on disk"
            if self.wants("M6") and not kind.files:
                self.left_out[f"M6 of {kind.name}"] = "it takes no files"
        if self.can("M6") and not self.files.has_space():
            self.left_out["M6"] = f"there is too little room in {self.meter.disk.path}"
        if self.can("M6"):
            self.choose_loop()

    def choose_loop(self):
        with tempfile.TemporaryDirectory(dir=self.meter.disk.path) as directory:
            why = disk.why_no_loop(directory)
        if why:
            self.left_out[f"M6 {cases.REFLINK}"] = why

    # ---- what there is to measure: (workload, case, label, function)

    def wants(self, workload):
        return not self.options.only or workload in self.options.only.split(",")

    def can(self, workload):
        return self.wants(workload) and workload not in self.left_out

    def todo(self):
        meter = self.meter
        known = cases.cases([kind.name for kind in self.ours])
        wanted = [case for case in known if case.rows and self.can(case.workload)]
        known_floors = set()
        for case in wanted:
            yield from self.floors_todo(case, known_floors)
            measure_row = meter.durable_row if case.workload == "M5" else meter.row
            if cases.is_transfer(case):
                measure_row = self.files.row
            for row, kind in self.taking_part(case.rows, case.workload):
                yield (case.workload, case.name, row.label,
                       lambda m=measure_row, c=case, r=row, k=kind: m(c, r, k))
        if self.can("M5"):
            yield from self.load_todo()
        if self.can("M6"):
            yield from self.files_todo()
        if self.wants("M7"):
            yield from self.memory_todo()
        if self.wants("command"):
            yield from self.command_todo()

    def floors_todo(self, case, known):
        """Those of its kind, before the first case that is compared with any of them."""
        for floor in cases.floors_of(case):
            if floor.name not in known:
                known.add(floor.name)
                measure_floor = (self.files if cases.is_transfer(floor) else
                                 self.meter).floor
                yield (floor.workload, floor.name, "floor",
                       lambda m=measure_floor, f=floor: m(f))

    def taking_part(self, rows, workload):
        for row in rows:
            kind = self.kinds.get(row.server)
            if kind and {"M5": kind.durable, "M6": kind.files}.get(workload, True):
                yield row, kind

    def load_todo(self):
        rows = [cases.row(kind.name, kind.name) for kind in self.ours] + cases.STORES
        for row, kind in self.taking_part(rows, "M5"):
            yield ("M5", cases.LOAD, row.label,
                   lambda r=row, k=kind: self.meter.load(r, k))

    def files_todo(self):
        for kind in self.ours:
            if kind.files:
                yield ("M6", cases.BESIDE, kind.name,
                       lambda k=kind: self.files.beside(k))
            if kind.files and f"M6 {cases.REFLINK}" not in self.left_out:
                yield ("M6", cases.REFLINK, kind.name,
                       lambda k=kind: self.files.reflink(k))

    def memory_todo(self):
        meter = self.meter
        for kind in self.kinds.values():
            if kind.command:
                yield "M7", cases.MEMORY, kind.name, lambda k=kind: meter.memory(k)
        rows = [cases.row(kind.name, kind.name) for kind in self.ours] + cases.QUEUES
        for row in rows:
            kind = self.kinds.get(row.server)
            if kind and row.fair:
                yield ("M7", cases.FLOOD, row.label,
                       lambda r=row, k=kind: meter.flood(r, k))

    def command_todo(self):
        for label, name, command in cases.COMMANDS:
            kind = self.kinds.get(name)
            if (name and not kind) or not (name == "ipcd" or servers.find(command[0])):
                continue
            yield ("command", cases.COMMAND, label,
                   lambda k=kind, c=command: self.meter.command(k, c))

    # ---- doing it

    def note(self, workload, case, label, rep, function):
        """The try that others disturbed least counts."""
        begin = time.monotonic()
        best = attempt(function)
        for _ in range(TRIES - 1):
            undisturbed = best.get("foreign", 0) <= FOREIGN_MAX and "error" not in best
            if undisturbed or time.monotonic() - self.begin > self.patience:
                break
            again = attempt(function)
            if "error" in best or again.get("foreign", 1) < best.get("foreign", 0):
                best = again
        took = round(time.monotonic() - begin, 2)
        self.records.append(dict(workload=workload, case=case, label=label, rep=rep,
                                 took=took, **best))
        if self.options.verbose or "error" in best:
            now = time.monotonic() - self.begin
            print(f"[{now:6.1f} s] {workload} {case} / {label}: {best}", flush=True)

    def all(self):
        """Each second repetition in the opposite order, so that no row always comes
        first."""
        self.meter.dir = tempfile.mkdtemp(prefix="bench-")
        if self.meter.disk:
            self.meter.disk_dir = tempfile.mkdtemp(prefix="bench-",
                                                   dir=self.meter.disk.path)
        try:
            for rep in range(self.reps):
                todo = list(self.todo())
                for item in reversed(todo) if rep % 2 else todo:
                    self.note(*item[:3], rep, item[3])
                print(f"bench: repetition {rep + 1} of {self.reps} done after "
                      f"{time.monotonic() - self.begin:.0f} s", flush=True)
        finally:
            for directory in filter(None, (self.meter.dir, self.meter.disk_dir)):
                shutil.rmtree(directory, ignore_errors=True)

    def about(self):
        return {
            "date": time.strftime("%F %T"),
            "kernel": os.uname().release,
            "cpus": os.cpu_count(),
            "cpu": cpu_model(),
            "quick": self.options.quick,
            "reps": self.reps,
            "seconds": self.meter.seconds,
            "took": round(time.monotonic() - self.begin),
            "load": os.getloadavg(),
            "servers": {k.name: [k.version(), k.config, k.durable or "-"]
                        for k in self.kinds.values()},
            "disk": self.meter.disk.words() if any(map(self.can, ON_DISK)) else "",
            "file_mib": self.files.size >> 20,
            "disk_seconds": self.meter.disk_seconds,
            "left_out": self.left_out,
            "ours": [kind.name for kind in self.ours],
            "connections": self.meter.connections,
        }

    def result(self):
        result = {"about": self.about(), "records": self.records}
        result["summary"] = report.summarise(result)
        return result


def attempt(function):
    try:
        return function()
    except (RuntimeError, OSError, ValueError) as error:
        return {"error": str(error).strip()[-300:]}


def cpu_model():
    with open("/proc/cpuinfo") as f:
        models = [line for line in f if line.startswith("model name")]
    return models[0].split(": ")[1].strip() if models else "?"


def raise_file_limit():
    """10,000 connections, at both ends."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for limit in (max(hard, 16384), hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
            return
        except (ValueError, PermissionError):
            pass


def parse_options():
    out = os.path.join(servers.DRIVERS, "result")
    p = argparse.ArgumentParser(prog="run", description=__doc__)
    p.add_argument("--install", action="store_true",
                   help="first install the peers with apt-get; none is left running")
    p.add_argument("--quick", action="store_true", help="about a minute")
    p.add_argument("--reps", type=int, help="repetitions (default 3; 2 with --quick)")
    p.add_argument("--only", metavar="W,...",
                   help="only these of M4, M5, M6, M7, command, and their floors")
    p.add_argument("--disk", metavar="DIR",
                   help="where M5 and M6 keep their files (default: in the build "
                   "directory, or /var/tmp if that is no disk)")
    p.add_argument("--peers", metavar="NAME,...", help="only these peers; '' for none")
    p.add_argument("--other", metavar="NAME=IPCD", action="append", default=[],
                   help="measure another build of the daemon beside; may be repeated")
    p.add_argument("--out", metavar="PATH", default=out,
                   help="write PATH.md and PATH.json (default %(default)s)")
    p.add_argument("--report", metavar="JSON", help="only print its tables anew")
    p.add_argument("-v", "--verbose", action="store_true", help="each measurement")
    return p.parse_args()


def main():
    options = parse_options()
    if options.report:
        with open(options.report) as f:
            result = json.load(f)
        result["summary"] = report.summarise(result)
        print(report.markdown(result))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # servers are ended on the way
    if options.install:
        servers.install()
    raise_file_limit()
    run = Run(options)
    run.build()
    for name, why in run.left_out.items():
        print(f"bench: {name} is left out: {why}")
    run.all()
    result = run.result()
    text = report.markdown(result)
    os.makedirs(os.path.dirname(os.path.abspath(options.out)), exist_ok=True)
    servers.write(options.out + ".json", report.as_json(result))
    servers.write(options.out + ".md", text)
    print(f"\n{text}\nbench: wrote {options.out}.md and .json")
    return 1 if any("error" in r for r in run.records) else 0


if __name__ == "__main__":
    sys.exit(main())
