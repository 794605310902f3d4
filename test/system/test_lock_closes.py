#!/usr/bin/env python3
"""What ends with the last close of a file is free when close(2) has returned, or the process that was killed is waited for.

The kernel tells a mount of the end of an open file (RELEASE) behind the back of whoever closes it. Whoever asks for the lock
then, without waiting, on this mount or on another, must not be refused for a lock that nobody can have any more. Processes
take turns by pipes: nothing here waits for time to pass.
"""
import ctypes
import fcntl
import os
import signal
import struct
import subprocess
import sys
import time

from harness import CAIRN, SANITIZED, Cluster, check, say, sh

ROUNDS = 300 if SANITIZED else 3000
FLOCK = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
FREE = struct.pack("hhqqi4x", fcntl.F_UNLCK, os.SEEK_SET, 0, 0, 0)
libc = ctypes.CDLL(None, use_errno=True)


class Kind:
    """A way to lock a whole file; False if it is refused."""

    def __init__(self, name, lock, unlock):
        self.name, self.lock, self.unlock = name, lock, unlock


def refused(call, *arguments):
    try:
        call(*arguments)
        return True
    except BlockingIOError:
        return False


FLOCKS = Kind("flock", lambda fd: refused(fcntl.flock, fd, fcntl.LOCK_EX | fcntl.LOCK_NB), lambda fd: fcntl.flock(fd, fcntl.LOCK_UN))
OFD = Kind("ofd", lambda fd: refused(fcntl.fcntl, fd, fcntl.F_OFD_SETLK, FLOCK), lambda fd: fcntl.fcntl(fd, fcntl.F_OFD_SETLK, FREE))
POSIX = Kind("posix", lambda fd: refused(fcntl.fcntl, fd, fcntl.F_SETLK, FLOCK), lambda fd: fcntl.fcntl(fd, fcntl.F_SETLK, FREE))


class Other:
    """A process that does something each time it is told to, and says when it has."""

    def __init__(self, steps):
        """`steps`: a generator; it is taken a step further for each turn."""
        theirs, self.tell = os.pipe()
        self.hear, says = os.pipe()
        self.pid = os.fork()
        if self.pid != 0:
            os.close(theirs)
            os.close(says)
            return
        os.close(self.tell)
        os.close(self.hear)
        try:
            for _ in steps:
                os.write(says, b".")
                if not os.read(theirs, 1):
                    break
            steps.close()
            os._exit(0)
        except BaseException as e:  # the parent hears nothing, and says so
            print(f"process {os.getpid()}: {e!r}", flush=True)
            os._exit(1)

    def done(self):
        check(os.read(self.hear, 1) == b".", "the other process has ended")

    def next(self):
        os.write(self.tell, b".")
        self.done()

    def end(self, how=None):
        if how:
            os.kill(self.pid, how)
        os.close(self.tell)
        os.waitpid(self.pid, 0)
        os.close(self.hear)


def count(what, kind, here, there, holder, rounds=ROUNDS):
    """`holder` has the lock and lets it go, in turns. Whoever asks sees both."""
    for who in (there, here):
        refusals = 0
        path = f"{who}/f"
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        other = Other(holder(kind, here))
        other.done()
        for i in range(rounds):
            check(not kind.lock(fd), f"{what}, {kind.name}: it is held")
            other.next()
            if kind.lock(fd):
                kind.unlock(fd)
            else:
                refusals += 1
                while not kind.lock(fd):
                    pass
                kind.unlock(fd)
            other.next()
        other.end()
        os.close(fd)
        say(f"  {what}, {kind.name}, asked on {'the same' if who == here else 'another'} mount: {refusals} of {rounds} refused")
        check(os.environ.get("CAIRN_LOOK") or refusals == 0, f"{what}, {kind.name}: refused for a lock that nobody has")


def plain(kind, mount):
    while True:
        fd = os.open(f"{mount}/f", os.O_RDWR)
        check(kind.lock(fd), "free for the holder")
        yield
        os.close(fd)
        yield


def duplicated(kind, mount):
    while True:
        fd = os.open(f"{mount}/f", os.O_RDWR)
        check(kind.lock(fd), "free for the holder")
        more = os.dup(fd)
        os.close(fd)
        yield
        os.close(more)
        yield


def inherited(kind, mount):
    """The last one who has it is a child that ends by itself."""
    while True:
        fd = os.open(f"{mount}/f", os.O_RDWR)
        check(kind.lock(fd), "free for the holder")
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(theirs)
            os.read(ours, 1)
            os._exit(0)
        os.close(ours)
        os.close(fd)
        try:
            yield
        finally:
            os.close(theirs)
            os.waitpid(child, 0)
        yield


def killed(kind, mount):
    while True:
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            fd = os.open(f"{mount}/f", os.O_RDWR)
            os.write(theirs, b"1" if kind.lock(fd) else b"0")
            while True:
                signal.pause()
        check(os.read(ours, 1) == b"1", "free for the holder")
        os.close(ours)
        os.close(theirs)
        try:
            yield
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        yield


def read_ahead(kind, mount):
    """What is read ahead is under way when the file is closed: the kernel tells of the close when that has been answered."""
    while True:
        fd = os.open(f"{mount}/f", os.O_RDWR)
        check(kind.lock(fd), "free for the holder")
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        yield
        libc.readahead(fd, ctypes.c_int64(0), ctypes.c_size_t(4 << 20))
        os.close(fd)
        yield


def reopened(kind, mount):
    """The next open file, which may get the number of the one that was closed, has the lock: the late end of that one takes nothing."""
    ahead = read_ahead(kind, mount)
    while True:
        next(ahead)
        next(ahead)
        fd = os.open(f"{mount}/f", os.O_RDWR)
        check(kind.lock(fd), "free for the holder")
        yield
        os.close(fd)
        yield


def spinning(here, there):
    """What a refusal costs that asks the holder, and what it does not cost when nobody is in the way."""
    a, b = (os.open(f"{m}/f", os.O_RDWR) for m in (here, there))
    check(FLOCKS.lock(a), "free")
    start = time.monotonic()
    for _ in range(ROUNDS):
        check(not FLOCKS.lock(b), "held")
    refusals = time.monotonic() - start
    FLOCKS.unlock(a)
    start = time.monotonic()
    for _ in range(ROUNDS):
        check(FLOCKS.lock(b), "free")
        FLOCKS.unlock(b)
    say(f"  {refusals / ROUNDS * 1e6:.0f} us a refusal, {(time.monotonic() - start) / ROUNDS / 2 * 1e6:.0f} us a lock or unlock")
    os.close(a)
    os.close(b)


with Cluster("lock_closes", osds=1, replicas=1, osd_size="512MiB") as cluster:
    first, second = cluster.mount, os.path.join(cluster.root, "mnt2")
    os.makedirs(second)
    sh([CAIRN, "mount", cluster.status()["mds"][0]["addr"], second], timeout=60)
    try:
        with open(f"{first}/f", "wb") as f:
            f.write(b"x" * (4 << 20))
        for what in (plain, duplicated, inherited, killed, read_ahead, reopened):
            for kind in (FLOCKS, OFD) + ((POSIX,) if what in (plain, killed) else ()):
                count(what.__name__, kind, first, second, what, ROUNDS if what is plain else ROUNDS // 10)
        spinning(first, second)
    finally:
        subprocess.run(["umount", "-l", second], check=False)
say("ok")
sys.exit(0)
