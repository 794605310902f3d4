#!/usr/bin/env python3
"""Times of last access: the rule of relatime step by step beside ext4, two mounts, mount options and remounts."""
import mmap
import os
import subprocess
import sys
import time

from harness import CAIRN, Cluster, check, eventually, need, say, sh, skip

NS = 1_000_000_000
CLOCK_REALTIME_COARSE = 5  # clock_gettime(2)


def read(path, flags=0):
    """Past the kernel's pages: reads that they answer are seen by no file system that FUSE serves."""
    fd = os.open(path, os.O_RDONLY | flags)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.read(fd, 100)
    finally:
        os.close(fd)


def read_mapped(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as m:
            return m[0]
    finally:
        os.close(fd)


def write(path, data=b"some data"):
    with open(path, "wb") as f:
        f.write(data)
        os.fsync(f.fileno())  # the kernel drops clean pages only


def atime(path):
    return os.lstat(path).st_atime_ns


def next_tick():
    """ext4 takes its times from a clock of some milliseconds."""
    now = time.clock_gettime_ns(CLOCK_REALTIME_COARSE)
    while time.clock_gettime_ns(CLOCK_REALTIME_COARSE) == now:
        pass


def moves(path, access):
    """Whether an access changes the time, and if, to the time of the access."""
    next_tick()
    before, start = atime(path), time.time_ns()
    access(path)
    after = atime(path)
    check(after == before or start - NS // 10 <= after <= time.time_ns(), f"{path}: {before} became {after}, read at {start}")
    return after != before


def steps(d):
    """What each step of a history says: (step, whether the read that follows it counts)."""
    f, sub, link = f"{d}/file", f"{d}/sub", f"{d}/link"
    write(f)
    yield "a new file", moves(f, read)
    yield "again", moves(f, read)
    next_tick()
    write(f, b"other data")
    yield "written", moves(f, read)
    yield "written, again", moves(f, read)
    next_tick()
    os.chmod(f, 0o600)
    yield "chmod", moves(f, read)
    next_tick()
    os.utime(f, ns=(5 * NS, 6 * NS))
    check(atime(f) == 5 * NS, "what is set is what is shown")
    yield "an old time was set", moves(f, read)
    future = (int(time.time()) + 3600) * NS
    os.utime(f, ns=(future, 6 * NS))
    yield "a time to come was set", moves(f, read)
    check(atime(f) == future, "it stays")
    next_tick()
    write(f, b"mapped")
    os.utime(f)
    yield "mapped", moves(f, read_mapped)
    os.utime(f)
    yield "O_NOATIME", moves(f, lambda path: read(path, os.O_NOATIME))
    yield "and without", moves(f, read)
    os.mkdir(sub)
    yield "a new directory", moves(sub, os.listdir)
    yield "listed again", moves(sub, os.listdir)
    next_tick()
    write(f"{sub}/entry")
    yield "an entry more", moves(sub, os.listdir)
    os.symlink("file", link)
    yield "a new symbolic link", moves(link, os.readlink)
    yield "read again", moves(link, os.readlink)
    yield "stat", moves(f, os.stat)
    yield "open", moves(f, lambda path: os.close(os.open(path, os.O_RDONLY)))


def beside_ext4(d, root):
    image, local = f"{root}/ext4.img", f"{root}/ext4"
    with open(image, "wb") as f:
        f.truncate(64 << 20)
    os.mkdir(local)
    sh(["mkfs.ext4", "-q", image])
    sh(["mount", "-o", "loop,relatime", image, local])
    try:
        for ours, theirs in zip(steps(d), steps(local), strict=True):
            check(ours == theirs, f"here {ours}, ext4 {theirs}")
            say(f"{ours[0]}: {'counts' if ours[1] else 'does not count'}")
    finally:
        sh(["umount", local])


def options_of(directory):
    """Of the mount and of the file system, as the kernel lists them."""
    found = None
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        for line in f:
            fields = line.split()
            if fields[4] == directory:
                found = fields[5].split(",") + fields[-1].split(",")
    check(found is not None, f"{directory} is mounted")
    return found


class Second:
    """A second mount of the cluster, with options."""

    def __init__(self, cluster):
        self.at = f"{cluster.root}/second"
        self.address = cluster.status()["mds"][0]["addr"]
        os.mkdir(self.at)

    def mount(self, options="rw"):
        sh([CAIRN, "mount", "-o", options, self.address, self.at])

    def remount(self, options):
        sh([CAIRN, "mount", "-o", "remount," + options, self.address, self.at])

    def umount(self):
        sh(["umount", self.at])


def between_mounts(d, second):
    here, there = f"{d}/shared", f"{second.at}/times/shared"
    write(here)
    next_tick()
    second.mount()
    check(atime(there) == atime(here), "both see the same")
    check(moves(there, read), "a read over there counts")
    then = atime(there)
    eventually(lambda: atime(here) == then, "the other mount sees it", 10)
    check(not moves(here, read), "read since it was written: no matter where")
    check(atime(there) == then, "and it stays")
    # Set here after it was read there: that wins, though the read is told later.
    write(here, b"new")
    next_tick()
    check(moves(there, read), "written: a read counts again")
    os.utime(here, ns=(7 * NS, 8 * NS))
    check(atime(here) == atime(there) == 7 * NS, "set after the read")
    # What is not told yet goes with the unmount.
    next_tick()
    check(moves(there, read), "set long ago: a read counts")
    then = atime(there)
    second.umount()
    check(eventually(lambda: atime(here) == then, "what is left is told at the end", 10), "it is")
    second.mount()
    check(atime(there) == then, "a new mount sees it")
    second.umount()


def options(second):
    f, sub = f"{second.at}/times/options", f"{second.at}/times/options.d"

    def age(path):
        os.utime(path, ns=(5 * NS, 6 * NS))

    def counts(expected, path=f, access=read):
        age(path)
        first, again = moves(path, access), moves(path, access)
        check((first, again) == expected, f"{options_of(second.at)}: {path}: {first}, {again}")

    second.mount()
    write(f)
    os.mkdir(sub)
    check("relatime" in options_of(second.at), "relatime is the default")
    counts((True, False))
    second.umount()
    for words, listed, of_file, of_directory in (
            ("noatime", {"noatime"}, (False, False), (False, False)),
            ("strictatime", set(), (True, True), (True, True)),
            ("nodiratime", {"nodiratime", "relatime"}, (True, False), (False, False)),
            ("strictatime,nodiratime", {"nodiratime"}, (True, True), (False, False)),
            ("noatime,relatime,nodiratime,diratime", {"relatime"}, (True, False), (True, False))):
        second.mount(words)
        found = {w for w in options_of(second.at) if "atime" in w}
        check(found == listed, f"{words}: the kernel lists {found}")
        counts(of_file)
        counts(of_directory, sub, os.listdir)
        second.umount()
    second.mount()
    age(f)
    second.umount()
    second.mount("ro")
    check(not moves(f, read), "ro: nothing is recorded")
    second.remount("rw")
    eventually(lambda: moves(f, read), "rw: it is again")
    # The kernel does not tell that a mount's options have changed: they are in force soon after.
    second.remount("noatime")
    check("noatime" in options_of(second.at), "the kernel lists what a remount changes")

    def once():
        age(f)
        return moves(f, read)
    eventually(lambda: not once(), "remount,noatime")
    counts((False, False))
    second.remount("strictatime")
    eventually(once, "remount,strictatime")
    counts((True, True))
    second.remount("relatime,nodiratime")
    eventually(lambda: age(f) or [moves(f, read), moves(f, read)] == [True, False], "remount,relatime")
    counts((False, False), sub, os.listdir)
    second.umount()
    # As mount(8) calls it.
    helper = f"{os.path.dirname(second.at)}/mount.cairn"
    os.symlink(CAIRN, helper)
    sh([helper, second.address, second.at, "-o", "rw,strictatime,_netdev"])
    counts((True, True))
    second.umount()


def main():
    if os.getuid() != 0:
        skip("only root may mount a disk image and change the options of a mount")
    need("mkfs.ext4")
    with Cluster("atime", osds=1, replicas=1, osd_size="512MiB") as c:
        d = f"{c.mount}/times"
        os.mkdir(d)
        second = Second(c)
        try:
            say("beside ext4")
            beside_ext4(d, c.root)
            say("between mounts")
            between_mounts(d, second)
            say("mount options")
            options(second)
        finally:
            subprocess.run(["umount", "-l", second.at], capture_output=True, check=False)


if __name__ == "__main__":
    sys.exit(main())
