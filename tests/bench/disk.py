# SPDX-License-Identifier: MIT
"""The disk on which durable state is measured."""

import os
import subprocess

MEMORY = ("tmpfs", "ramfs", "hugetlbfs")  # nothing is durable there
SECTOR = 512  # the unit of st_blocks
FLUSHES = 15  # which of a device's statistics counts its flushes


def output(*command):
    r = subprocess.run(command, capture_output=True, text=True, check=False)
    return r.stdout.strip()


class Disk:
    """A directory on a real file system, and what is known about the device below it."""

    def __init__(self, path):
        self.path = path
        self.type = output("stat", "-f", "-c", "%T", path)  # statfs(2)'s word
        self.device = device_of(path)

    def is_real(self):
        return bool(self.type) and self.type not in MEMORY

    def words(self):
        mount = " ".join(output("df", "--output=source,fstype", self.path).split()[-2:])
        text = f"{self.path} on {mount} (statfs: {self.type})"
        cache = read(f"{self.device}/queue/write_cache").strip() if self.device else ""
        return text + (f", cache of the device: {cache}" if cache else "")

    def flushes(self):
        """How often the device has been told to flush, by whomever; None if unknown."""
        words = read(f"{self.device}/stat").split() if self.device else []
        return int(words[FLUSHES]) if len(words) > FLUSHES else None


def device_of(path):
    """The directory in /sys of the whole device; "" where a file system has no such."""
    number = os.stat(path).st_dev
    device = os.path.realpath(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    if os.path.exists(device + "/partition"):
        device = os.path.dirname(device)
    return device if os.path.exists(device + "/stat") else ""


def read(path):
    try:
        with open(path) as f:
            return f.read()
    except OSError:
        return ""


def choose(candidates):
    """The first that is on a real file system, or None."""
    for path in candidates:
        if os.path.isdir(path):
            disk = Disk(path)
            if disk.is_real():
                return disk
    return None


def files(directory):
    for parent, _, names in os.walk(directory):
        for name in names:
            yield os.path.join(parent, name)


def size(directory):
    """Bytes of the blocks of its files."""
    return sum(os.stat(path).st_blocks * SECTOR for path in files(directory))


def sync(directory):
    """So that what was written does not burden what is measured next."""
    for path in files(directory):
        if os.path.isfile(path):
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
