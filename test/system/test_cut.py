#!/usr/bin/env python3
"""A mount whose network is cut shows nothing that another mount has changed, and loses nothing without saying so.

Two mounts in network namespaces of their own. One is cut from all servers for longer than its lease. What its kernel could
answer alone is asked for all the time, above all memory that was mapped and read before; from the moment at which the other
mount's change is acknowledged it must not be the old answer any more. To wait is right.
"""
import atexit
import ctypes
import mmap
import os
import signal
import struct
import subprocess
import sys
import time

from harness import CAIRN_MDS, CAIRN_OSD, SANITIZED, check, eventually, need, say, skip, write
from namespaces import Cable, Programs

PAGE = 4096
LEASE = 5.0  # mds.client_lease
WAKE = 60.0 if SANITIZED else 20.0  # from the end of the cut until all goes on: connections are tried again meanwhile
OLD, NEW = b"old", b"new"
UMOUNT_NOFOLLOW = 8
libc = ctypes.CDLL(None, use_errno=True)


class Cut(Programs):
    """Servers and a mount at one end of a cable, another mount at the other end."""

    def __init__(self, name, osds=2):
        self.osds = [f"osd{i}" for i in range(osds)]
        places = {program: "near" for program in ("mds", *self.osds, "mount-near")} | {"mount-far": "far"}
        super().__init__(name, Cable("near", "far"), ("mount-near", "mount-far"), places)
        self.a, self.b = self.mounts.values()

    def up(self):
        self.start("mds", CAIRN_MDS, "--set", f"mds.data={self.root}/mds", "--set", f"mds.listen={self.mds}",
                   "--set", f"mds.replicas={len(self.osds)}", "--set", f"mds.client_lease={int(LEASE * 1000)}ms",
                   "--set", "mds.metrics_listen=")
        for i, osd in enumerate(self.osds):
            self.start(osd, CAIRN_OSD, "--set", f"osd.data={self.root}/{osd}", "--set", f"osd.mds={self.mds}",
                       "--set", f"osd.listen={self.machines.address('near')}:{7410 + i}", "--set", "osd.size=512MiB",
                       "--set", "osd.metrics_listen=")
        eventually(self.whole, "the cluster is healthy", 60)
        for program in self.mounts:
            self.mount(program)

    def cut(self):
        self.machines.cut()

    def heal(self):
        self.machines.heal()

    def down(self):
        for program in reversed(self.mounts):
            self.umount(program)
        for program in (*self.osds, "mds"):
            self.stop(program)

    def destroy(self):
        # In order, if that is possible: of a mount that is killed, a thread may wait in the kernel for what nobody answers then.
        if self.processes:
            self.heal()
        subprocess.run(["umount", "-l", self.a, self.b], capture_output=True, check=False)
        for program in self.mounts:
            if program in self.processes:
                try:
                    self.processes[program].wait(20)
                except subprocess.TimeoutExpired:
                    print(f"{program} does not end", flush=True)
        super().destroy()


def read(path):
    with open(path, "rb") as f:
        return f.read()


class Process:
    """A process of its own, that may be held up. `steps`: a generator; each turn takes it a step further, and hears what it yields."""

    def __init__(self, steps, *arguments):
        theirs, self.tell = os.pipe()
        self.hear, says = os.pipe()
        os.set_blocking(self.hear, False)
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.tell)
            os.close(self.hear)
            try:
                for said in steps(*arguments):
                    os.write(says, str(said).encode() + b"\n")
                    if not os.read(theirs, 1):
                        break
            except BaseException as e:  # the parent hears nothing, and says so
                print(f"process {os.getpid()}: {e!r}", flush=True)
                os._exit(1)
            os._exit(0)
        os.close(theirs)
        os.close(says)
        atexit.register(self.end)

    def said(self):
        """What it says, or None while it does not."""
        try:
            line = os.read(self.hear, 1000)
        except BlockingIOError:
            return None
        check(line, f"process {self.pid} has ended")
        return line.decode().rstrip("\n")

    def answer(self, seconds=WAKE):
        return eventually(self.said, f"process {self.pid} goes on", seconds)

    def go(self):
        os.write(self.tell, b".")

    def end(self):
        if self.pid == 0:
            return
        pid, self.pid = self.pid, 0
        os.kill(pid, signal.SIGKILL)
        os.close(self.tell)
        os.close(self.hear)
        eventually(lambda: os.waitpid(pid, os.WNOHANG)[0] == pid, f"process {pid}, killed, ends", 10)


def mapping(path, flags):
    fd = os.open(path, flags)
    prot = mmap.PROT_READ | (mmap.PROT_WRITE if flags == os.O_RDWR else 0)
    return fd, mmap.mmap(fd, 0, mmap.MAP_SHARED, prot)


# ---- What is old, and what is new ----

def mapped(path, flags=os.O_RDONLY):
    _, m = mapping(path, flags)
    return lambda: m[0:3] if m[len(m) - 3:] == m[0:3] else min(m[0:3], m[len(m) - 3:], key=lambda x: x == NEW)


def mapped_to_write(path):
    return mapped(path, os.O_RDWR)


def read_again(path):
    fd = os.open(path, os.O_RDONLY)
    return lambda: os.pread(fd, 3, 0)


def sent(path):
    fd = os.open(path, os.O_RDONLY)
    ours, theirs = os.pipe()

    def look():
        os.sendfile(theirs, fd, 0, 3)
        return os.read(ours, 3)
    return look


def sized(path):
    return lambda: OLD if os.stat(path).st_size == 64 * PAGE else NEW


def absent(path):
    return lambda: NEW if os.path.exists(path + ".made") else OLD


def listed(path):
    fd = os.open(os.path.dirname(path), os.O_RDONLY)
    return lambda: NEW if os.path.basename(path) + ".made" in os.listdir(fd) else OLD


def named(path):
    return lambda: OLD if os.path.exists(path + ".gone") else NEW


def tagged(path):
    return lambda: os.getxattr(path, "user.tag")


LOOKS = (mapped, mapped_to_write, read_again, sent, sized, absent, listed, named, tagged)


def watch(look, seen):
    """Looks without end. `seen`: when the last look began that found what was old, and the first that found what is new."""
    ask = look()
    count = 0
    while True:
        began = time.monotonic()
        found = ask()
        check(found in (OLD, NEW), f"{found} is neither old nor new")
        if found == OLD:
            struct.pack_into("d", seen, 0, began)
        elif struct.unpack_from("d", seen, 8)[0] == 0:
            struct.pack_into("d", seen, 8, began)
        count += 1
        if count == 100:
            yield "looking"


def stale(cut):
    """The other mount changes what this one has cached and mapped."""
    far, near = f"{cut.b}/stale", f"{cut.a}/stale"
    os.mkdir(near)
    watchers = []
    for look in LOOKS:
        name = look.__name__
        write(f"{near}/{name}", OLD * (64 * PAGE // 3) + OLD[:1])
        with open(f"{near}/{name}", "r+b") as f:  # the last bytes of the file too
            f.seek(64 * PAGE - 3)
            f.write(OLD)
        write(f"{near}/{name}.gone", b"")
        os.setxattr(f"{near}/{name}", "user.tag", OLD)
    for look in LOOKS:
        seen = mmap.mmap(-1, 16)
        watcher = Process(watch, lambda look=look: look(f"{far}/{look.__name__}"), seen)
        check(watcher.answer() == "looking", f"{look.__name__}: the old is seen")
        watchers.append((look.__name__, watcher, seen))
    for _, watcher, _ in watchers:
        watcher.go()
    cut.cut()
    began = time.monotonic()
    changed = {}
    for look in LOOKS:
        name = look.__name__
        with open(f"{near}/{name}", "r+b") as f:
            f.write(NEW)
            f.seek(64 * PAGE - 3)
            f.write(NEW + (b"longer" if look is sized else b""))
            f.flush()
            os.fsync(f.fileno())
        os.setxattr(f"{near}/{name}", "user.tag", NEW)
        os.unlink(f"{near}/{name}.gone")
        write(f"{near}/{name}.made", b"")
        changed[name] = time.monotonic()
    took = min(changed.values()) - began
    say(f"  the first change was acknowledged {took:.2f} s after the cut")
    check(took > LEASE / 2, "the other mount waited for the lease of the one that is cut off")
    blocked = Process(watch, lambda: mapped(f"{far}/mapped"), mmap.mmap(-1, 16))  # cannot even open
    time.sleep(LEASE)  # in which nothing old is to be seen
    now = time.monotonic()
    failed = []
    for name, _, seen in watchers:
        last, first = struct.unpack("dd", seen[:16])
        say(f"  {name}: the old was seen until {last - began:.3f} s after the cut, {last - changed[name]:+.3f} s from the acknowledgement")
        if last > changed[name]:
            failed.append(name)
        check(first == 0, f"{name}: nothing new can have come through")
    check(not failed, f"{', '.join(failed)}: what another mount had changed was not seen")
    say("  a process that waits for a page can be killed")
    watchers[0][1].end()
    blocked.end()
    check(time.monotonic() - now < 10, "soon")
    cut.heal()
    now = time.monotonic()
    for name, watcher, seen in watchers[1:]:
        eventually(lambda seen=seen: struct.unpack_from("d", seen, 8)[0] != 0, f"{name}: the new is seen", WAKE)
        check(struct.unpack_from("d", seen, 0)[0] < changed[name], f"{name}: and nothing old before it")
    say(f"  the new was seen by all within {time.monotonic() - now:.1f} s of the end of the cut")
    for _, watcher, _ in watchers[1:]:
        watcher.end()
    check(read(f"{far}/mapped")[:3] == NEW, "the mount goes on")


def store(path):
    """Stores, when told to, into the first bytes of pages; says what became of it."""
    fd, m = mapping(path, os.O_RDWR)
    for at in range(len(m) // PAGE):
        check(m[at * PAGE:at * PAGE + 3] == OLD, "it is there")
    yield "mapped"
    for text in (b"one", b"two", b"six"):
        for at in range(0, len(m), PAGE):
            m[at:at + 3] = text
        yield text.decode()
    errors = []
    for call in (m.flush, lambda: os.fsync(fd)):
        try:
            call()
        except OSError as e:
            errors.append(e.errno)
    yield errors
    # What is stored from now on is as any other.
    for at in range(0, len(m), PAGE):
        m[at:at + 3] = b"end"
    m.flush()
    yield "end"


def stored(path, size):
    data = read(path)
    check(len(data) == size, f"{len(data)} bytes")
    return {data[at:at + 3] for at in range(0, size, PAGE)}


def kept(cut):
    """Stores into a mapping before and while it is cut off, of which nobody else wants anything: they are kept."""
    far, near, size = f"{cut.b}/kept", f"{cut.a}/kept", 4096 * PAGE
    write(near, OLD + (b"." * (PAGE - 3) + OLD) * (size // PAGE - 1) + b"." * (PAGE - 3))
    writer = Process(store, far)
    check(writer.answer() == "mapped", "mapped")
    writer.go()
    check(writer.answer() == "one", "stored before")
    cut.cut()
    writer.go()
    check(writer.answer() == "two", "stored while the lease lasts")
    time.sleep(2 * LEASE)
    writer.go()
    time.sleep(1)  # in which it could be done
    check(writer.said() is None, "what is stored without a lease waits")
    cut.heal()
    check(writer.answer() == "six", "and is stored then")
    check(stored(near, size) == {b"six"}, "all of it is seen on the other mount, without a word to the kernel")
    writer.go()
    check(writer.answer() == "[]", "and nothing was lost")
    writer.go()
    check(writer.answer() == "end", "it goes on")
    check(stored(near, size) == {b"end"} and stored(far, size) == {b"end"}, "on both")
    writer.end()


def kept_unseen(cut):
    """The same, with nothing stored after the cut was longer than the lease."""
    far, near, size = f"{cut.b}/unseen", f"{cut.a}/unseen", 64 * PAGE
    write(near, OLD + (b"." * (PAGE - 3) + OLD) * (size // PAGE - 1) + b"." * (PAGE - 3))
    writer = Process(store, far)
    check(writer.answer() == "mapped", "mapped")
    writer.go()
    check(writer.answer() == "one", "stored before")
    cut.cut()
    writer.go()
    check(writer.answer() == "two", "stored while the lease lasts")
    time.sleep(2 * LEASE)
    cut.heal()
    os.statvfs(cut.b)  # waits for the MDS; before that, the MDS would have to take the mount for gone
    check(stored(near, size) == {b"two"}, "all of it is seen on the other mount")
    writer.end()
    check(stored(far, size) == {b"two"}, "and here")


def lost(cut):
    """Stores into a mapping that another mount's write has overtaken: what is lost is reported."""
    far, near, size = f"{cut.b}/lost", f"{cut.a}/lost", 64 * PAGE
    write(near, OLD + (b"." * (PAGE - 3) + OLD) * (size // PAGE - 1) + b"." * (PAGE - 3))
    writer = Process(store, far)
    check(writer.answer() == "mapped", "mapped")
    writer.go()
    check(writer.answer() == "one", "stored before")
    cut.cut()
    writer.go()
    check(writer.answer() == "two", "stored while the lease lasts")
    with open(near, "r+b") as f:
        f.write(NEW)
        f.flush()
        os.fsync(f.fileno())
    check(stored(near, size) in ({NEW, OLD}, {NEW, OLD, b"one"}), "what is durable, and what was written over it")
    before = stored(near, size) - {NEW}
    writer.go()
    time.sleep(1)  # in which it could be done
    check(writer.said() is None, "what is stored without a lease waits")
    cut.heal()
    check(writer.answer() == "six", "and is done then")
    writer.go()
    errors = writer.answer()
    check(errors in ("[5]", "[5, 5]"), f"the loss is reported: {errors}")
    found = stored(near, size)
    say(f"  before: {before}; msync and fsync gave {errors}; after: {found}")
    check(found == {b"six"}, "what was stored into the pages that came after the cut is there")
    check(stored(far, size) == found, "on both")
    writer.go()
    check(writer.answer() == "end", "it goes on")
    check(stored(near, size) == {b"end"} and stored(far, size) == {b"end"}, "and all is seen by both")
    writer.end()


def read_ahead(path):
    """What the kernel has asked for when this process has ended."""
    fd = os.open(path, os.O_RDONLY)
    yield "open"
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_WILLNEED)
    yield "asked"


def unmounted(cut):
    """A mount that was cut off is unmounted in order, and so is one that still is."""
    write(f"{cut.a}/last", OLD * PAGE * 300)
    fd = os.open(f"{cut.b}/last", os.O_RDWR)
    check(os.pread(fd, 3, 0) == OLD, "read")
    cut.cut()
    time.sleep(2 * LEASE)
    cut.heal()
    os.close(fd)
    cut.umount("mount-far")
    cut.mount("mount-far")
    reader = Process(read_ahead, f"{cut.b}/last")
    check(reader.answer() == "open", "open")
    cut.cut()
    reader.go()
    check(reader.answer() == "asked", "nothing that it reads can come")
    reader.end()
    time.sleep(2 * LEASE)
    # umount(8) would ask the mount about itself first.
    check(libc.umount2(cut.b.encode(), UMOUNT_NOFOLLOW) == 0, f"umount2: {os.strerror(ctypes.get_errno())}")
    cut.heal()
    check(cut.processes.pop("mount-far").wait(60) == 0, "it ends in order")
    cut.mount("mount-far")
    check(read(f"{cut.b}/last") == OLD * PAGE * 300, "mounted again")


need("ip", "nsenter")
if not os.path.exists("/dev/fuse"):
    skip("no /dev/fuse on this machine: modprobe fuse")
with Cut("cut") as c:
    chosen = os.environ.get("CAIRN_PARTS", "").split()
    for part in (stale, kept, kept_unseen, lost, unmounted):
        if chosen and part.__name__ not in chosen:
            continue
        say(part.__doc__)
        part(c)
say("ok")
sys.exit(0)
