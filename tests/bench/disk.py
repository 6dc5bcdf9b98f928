# SPDX-License-Identifier: MIT
"""The disk on which durable state is measured."""

import os
import subprocess
import time

from servers import find

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


# ---- a file system whose files can share blocks ----------------------------------------

MAKERS = (["mkfs.btrfs", "-q"], ["mkfs.xfs", "-q", "-m", "reflink=1"])
SMALLEST = 400 << 20  # bytes: what both make
UMOUNT_TRIES = 50


class Loop:
    """btrfs or xfs in a file below parent, mounted as long as the context lasts."""

    def __init__(self, parent, size):
        self.image, self.mount = parent + "/image", parent + "/mount"
        self.size = size

    def __enter__(self):
        maker = next(maker for maker in MAKERS if find(maker[0]))
        os.mkdir(self.mount)
        try:
            with open(self.image, "wb") as f:
                f.truncate(self.size)
            run(find(maker[0]), *maker[1:], self.image)
            run("mount", "-o", "loop", self.image, self.mount)
        except RuntimeError:
            self.remove()
            raise
        return self.mount

    def __exit__(self, *_):
        """The loop device ends with the mount."""
        for _ in range(UMOUNT_TRIES):
            try:
                run("umount", self.mount)
                break
            except RuntimeError:
                time.sleep(0.1)
        else:
            run("umount", "-l", self.mount)
        self.remove()

    def remove(self):
        os.rmdir(self.mount)
        if os.path.exists(self.image):
            os.unlink(self.image)


def run(*command):
    r = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                       check=False)
    if r.returncode:
        raise RuntimeError(f"{os.path.basename(command[0])}: {r.stderr.strip()[-200:]}")


def why_no_loop(parent):
    """By trying; "" if files can share blocks there."""
    if os.geteuid():
        return "only root can mount"
    if not any(find(maker[0]) for maker in MAKERS):
        return "there is no mkfs.btrfs and no mkfs.xfs (run --install)"
    try:
        with Loop(parent, SMALLEST) as mount:
            with open(mount + "/a", "wb") as f:
                f.write(bytes(65536))
            run("cp", "--reflink=always", mount + "/a", mount + "/b")
    except RuntimeError as error:
        return str(error)
    return ""


# ---- files -----------------------------------------------------------------------------

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
