#!/usr/bin/env python3
"""Two mounts of one cluster, a process on each, thousands of rounds: what one has done is what the other sees, from the moment
that it says so through a pipe. Then both at once: nothing lost, nothing torn, one winner, and never a step back.

    handshake.py DIR DIR [--rounds N] [--only PART]

Where both work at once the oracle is linearizability. The writer counts in shared memory which step it has begun and
which it has completed; a reader notes what was completed before it looks and what was begun after. What it sees must be
the state of a step in between, and no older than what any reader has seen before it looked.
"""
import argparse
import ctypes
import errno
import mmap
import os
import pickle
import random
import signal
import struct
import sys
import threading
import time
import traceback
import zlib

import syscalls


RECORD = struct.Struct("<BIII")  # of a log: writer, number, length, checksum


class Wrong(Exception):
    pass


def check(condition, text):
    if not condition:
        raise Wrong(text)


class Peer:
    """A process that does what it is told through a pipe, one thing after the other, and answers through another."""

    def __init__(self, directory):
        self.directory = directory
        to, self.tell = os.pipe()
        self.hear, answer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.close(self.tell)
            os.close(self.hear)
            self.serve(to, answer)
        os.close(to)
        os.close(answer)

    def serve(self, to, answer):
        os.chdir(self.directory)
        fds = {}
        try:
            while True:
                name, arguments = receive(to)
                if name == "end":
                    os._exit(0)
                try:
                    result = (True, ACTIONS[name](fds, *arguments))
                except OSError as e:
                    result = (False, (e.errno, str(e)))
                except BaseException:  # pylint: disable=broad-except
                    result = (False, (None, traceback.format_exc()))
                send(answer, result)
        except EOFError:
            os._exit(0)
        finally:
            os._exit(1)

    def start(self, name, *arguments):
        send(self.tell, (name, arguments))

    def wait(self):
        good, result = receive(self.hear)
        if good:
            return result
        if result[0] is None:
            raise Wrong(result[1])
        raise OSError(*result)

    def do(self, name, *arguments):
        self.start(name, *arguments)
        return self.wait()

    def fails(self, number, name, *arguments):
        try:
            result = self.do(name, *arguments)
        except OSError as e:
            check(e.errno == number, f"{name} {arguments}: {syscalls.name_of(e.errno)}, and not {syscalls.name_of(number)}")
            return
        raise Wrong(f"{name} {arguments}: {result!r}, and not {syscalls.name_of(number)}")

    def end(self):
        try:
            self.start("end")
        except BrokenPipeError:
            pass  # it was killed
        os.close(self.tell)
        os.close(self.hear)
        os.waitpid(self.pid, 0)


def send(fd, what):
    data = pickle.dumps(what)
    data = struct.pack("I", len(data)) + data
    while data:
        data = data[os.write(fd, data):]


def receive(fd):
    def exactly(n):
        out = bytearray()
        while len(out) < n:
            more = os.read(fd, n - len(out))
            if not more:
                raise EOFError
            out += more
        return out
    return pickle.loads(exactly(struct.unpack("I", exactly(4))[0]))


# ---- what a peer can be told to do, in its directory ----

def _put(fds, name, data):
    with open(name, "wb") as f:
        f.write(data)


def _get(fds, name):
    with open(name, "rb") as f:
        return f.read()


def _open(fds, slot, name, flags):
    fds[slot] = os.open(name, flags, 0o644)


def _close(fds, slot):
    os.close(fds.pop(slot))


def _make(fds, name, flags):
    os.close(os.open(name, flags, 0o644))


def _look(fds, name):
    st = os.lstat(name)
    return {k: getattr(st, "st_" + k) for k in ("ino", "mode", "nlink", "size", "mtime_ns")}


def _append(fds, name, letter, count, sizes):
    """Records of `sizes` in turn, each with a checksum, through one descriptor."""
    fd = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for i in range(count):
        body = bytes([letter]) * sizes[i % len(sizes)]
        record = RECORD.pack(letter, i, len(body), zlib.crc32(body)) + body
        done = os.write(fd, record)
        if done != len(record):
            raise Wrong(f"{done} of {len(record)} bytes were taken")
    os.close(fd)


def _check_log(fds, name):
    """How many records of each writer there are: whole, and in order."""
    data, at, seen = memoryview(_get(fds, name)), 0, {1: 0, 2: 0}
    while at < len(data):
        letter, number, length, crc = RECORD.unpack_from(data, at)
        body = data[at + RECORD.size:at + RECORD.size + length]
        check(letter in seen and zlib.crc32(body) == crc, f"a torn record at {at} of {len(data)}")
        check(number == seen[letter], f"record {number} of writer {letter} where {seen[letter]} was to come")
        seen[letter] += 1
        at += RECORD.size + length
    return seen


ACTIONS = {
    "check_log": _check_log,
    "put": _put, "get": _get, "open": _open, "close": _close, "make": _make, "look": _look, "append": _append,
    "pwrite": lambda fds, slot, data, at: os.pwrite(fds[slot], data, at),
    "pread": lambda fds, slot, n, at: os.pread(fds[slot], n, at),
    "fsize": lambda fds, slot: os.fstat(fds[slot]).st_size,
    "unlink": lambda fds, name: os.unlink(name),
    "mkdir": lambda fds, name: os.mkdir(name),
    "rmdir": lambda fds, name: os.rmdir(name),
    "rename": lambda fds, a, b: os.rename(a, b),
    "keep": lambda fds, a, b: syscalls.renameat2(-100, a, -100, b, syscalls.RENAME_NOREPLACE),
    "link": lambda fds, a, b: os.link(a, b),
    "symlink": lambda fds, a, b: os.symlink(a, b),
    "readlink": lambda fds, a: os.readlink(a),
    "chmod": lambda fds, name, mode: os.chmod(name, mode),
    "truncate": lambda fds, name, size: os.truncate(name, size),
    "setxattr": lambda fds, name, value: os.setxattr(name, "user.x", value),
    "getxattr": lambda fds, name: os.getxattr(name, "user.x"),
    "removexattr": lambda fds, name: os.removexattr(name, "user.x"),
    "list": lambda fds, name: os.listdir(name),
    "set_register": lambda fds, *a: set_register(*a),
    "write_register": lambda fds, *a: write_register(*a),
    "read_register": lambda fds, *a: read_register(*a),
    "count_mapped": lambda fds, *a: count_mapped(fds, *a),
    "pass_mapped": lambda fds, *a: pass_mapped(fds, *a),
    "lengthen": lambda fds, *a: lengthen(*a),
    "read_last": lambda fds, *a: read_last(*a),
    "churn": lambda fds, *a: churn(*a),
    "watch": lambda fds, *a: watch(*a),
}

# ---- one after the other ----


def closed(one, other, i, dice):
    """Written and closed here, opened there."""
    data = dice.randbytes(dice.choice([0, 1, 100, 5000, 200_000]))
    one.do("put", "closed", data)
    check(other.do("get", "closed") == data, "what was closed is what is opened")


def opened(one, other, i, dice):
    """Written on an open descriptor here, read through one that was opened there long ago; nothing else is asked in between."""
    if i == 0:
        for peer in (one, other):
            peer.do("open", "o", "opened", os.O_RDWR | os.O_CREAT)
    at, data = dice.randrange(100_000) * i % 100_000, dice.randbytes(dice.randrange(1, 3000))
    one.do("pwrite", "o", data, at)
    check(other.do("pread", "o", len(data), at) == data, f"{len(data)} bytes at {at}")


def names(one, other, i, dice):
    """Made, renamed, linked, removed: seen at once, and what is not there is never seen."""
    a, b = f"a{i % 7}", f"b{i % 7}"
    other.fails(2, "look", a)
    other.fails(2, "look", b)
    one.do("put", a, b"x")
    ino = other.do("look", a)["ino"]
    one.do("rename", a, b)
    other.fails(2, "look", a)
    check(other.do("look", b)["ino"] == ino, "renamed")
    one.do("link", b, a)
    check(other.do("look", b)["nlink"] == 2 and other.do("look", a)["ino"] == ino, "linked")
    other.do("unlink", b)
    one.fails(2, "look", b)
    check(one.do("look", a)["nlink"] == 1, "one link")
    one.do("unlink", a)
    other.fails(2, "get", a)
    one.do("symlink", f"to{i}", a)
    check(other.do("readlink", a) == f"to{i}", "symlink")
    other.do("unlink", a)
    one.do("mkdir", a)
    other.do("make", f"{a}/in", os.O_CREAT | os.O_EXCL)
    one.fails(39, "rmdir", a)
    one.do("unlink", f"{a}/in")
    other.do("rmdir", a)
    one.fails(2, "list", a)


def attributes(one, other, i, dice):
    """chmod, truncate, xattrs."""
    if i == 0:
        one.do("put", "attributes", b"")
    mode, size = dice.randrange(0o1000) | 0o600, dice.randrange(100_000)
    one.do("chmod", "attributes", mode)
    check(other.do("look", "attributes")["mode"] & 0o7777 == mode, "mode")
    other.do("truncate", "attributes", size)
    check(one.do("look", "attributes")["size"] == size, "size")
    one.do("setxattr", "attributes", b"%d" % i)
    check(other.do("getxattr", "attributes") == b"%d" % i, "xattr")
    other.do("removexattr", "attributes")
    one.fails(61, "getxattr", "attributes")


def winners(one, other, i, dice):
    """Both want the same name at the same time: one gets it. One wants to remove it: one does."""
    name, how = f"w{i}", i % 4
    for peer, own in ((one, f"one{i}"), (other, f"other{i}")):
        if how in (1, 2):
            peer.do("put", own, b"")
    for peer, own in ((one, f"one{i}"), (other, f"other{i}")):
        if how == 0:
            peer.start("make", name, os.O_CREAT | os.O_EXCL)
        elif how == 1:
            peer.start("link", own, name)
        elif how == 2:
            peer.start("keep", own, name)
        else:
            peer.start("mkdir", name)
    check(sorted(map(succeeds, (one, other))) == [False, True], f"{('O_EXCL', 'link', 'NOREPLACE', 'mkdir')[how]}: one winner")
    for peer in (one, other):
        peer.start("rmdir" if how == 3 else "unlink", name)
    check(sorted(map(succeeds, (one, other))) == [False, True], "one of two removes it")
    if how in (1, 2):
        for peer, own in ((one, f"one{i}"), (other, f"other{i}")):
            peer.start("unlink", own)
        left = [succeeds(peer) for peer in (one, other)]
        check(left.count(True) == (2 if how == 1 else 1), f"of the two sources {left}")


def succeeds(peer):
    try:
        peer.wait()
        return True
    except OSError as e:
        check(e.errno in (2, 17), f"the loser gets {syscalls.name_of(e.errno)}")
        return False

# ---- both at once ----


def appends(one, other, rounds, dice):
    """Both append: every record is there, whole, and each writer's are in order."""
    sizes = [dice.choice([1, 30, 100, 1000, 4096, 10_000]) for _ in range(12)] + [150_000]
    one.start("append", "log", 1, rounds, sizes)
    other.start("append", "log", 2, rounds, sizes)
    one.wait()
    other.wait()
    for peer in (one, other):
        seen = peer.do("check_log", "log")
        check(seen == {1: rounds, 2: rounds}, f"records {seen}, and not {rounds} of each")
    one.do("unlink", "log")


SHARED = None  # counters that all processes see: steps begun, completed, the newest that was seen; a reader is there
BEGUN, COMPLETED, SEEN, READY = 0, 8, 16, 24


def counter(at):
    return ctypes.c_int64.from_buffer(SHARED, at).value


def set_counter(at, value):
    ctypes.c_int64.from_buffer(SHARED, at).value = value  # in one piece, as struct does not


def await_reader():
    """Both begin together, or there is nothing to see."""
    while not counter(READY):
        os.sched_yield()


def set_register(kind, value):
    """Makes the state of the register that of step `value`."""
    if kind == "size":
        os.truncate("r-size", value)
    elif kind == "mode":
        os.chmod("r-mode", value % 0o1000 | 0o1000)
    elif kind == "xattr":
        os.setxattr("r-xattr", "user.x", b"%d" % value)
    elif kind == "mtime":
        os.utime("r-mtime", ns=(value, value))
    elif kind == "data":
        fd = os.open("r-data", os.O_RDWR)
        os.pwrite(fd, struct.pack("q", value), 40_000)
        os.close(fd)
    elif kind == "replaced":
        with open("r-new", "wb") as f:
            f.write(b"%d" % value * 1000)
        os.rename("r-new", "r-replaced")
    elif kind == "symlink":
        os.symlink(f"{value}", "r-link-new")
        os.rename("r-link-new", "r-symlink")


def get_register(kind, low):
    """The step that the register shows."""
    if kind == "size":
        return os.stat("r-size").st_size
    if kind == "mode":  # modulo 512: the one of these that can be meant
        return low + ((os.stat("r-mode").st_mode & 0o777) - low) % 0o1000
    if kind == "xattr":
        return int(os.getxattr("r-xattr", "user.x"))
    if kind == "mtime":
        return os.stat("r-mtime").st_mtime_ns
    if kind == "data":
        fd = os.open("r-data", os.O_RDONLY)
        data = os.pread(fd, 8, 40_000)
        os.close(fd)
        return struct.unpack("q", data)[0]
    if kind == "replaced":
        with open("r-replaced", "rb") as f:
            data = f.read()
        value = int(data[:len(data) // 1000])
        check(data == b"%d" % value * 1000, "a file that was moved over another one is whole")
        return value
    if kind == "symlink":
        return int(os.readlink("r-symlink"))
    raise ValueError(kind)


REGISTERS = ("size", "mode", "xattr", "mtime", "data", "replaced", "symlink")


def write_register(kind, rounds):
    await_reader()
    for value in range(1, rounds + 1):
        set_counter(BEGUN, value)
        set_register(kind, value)
        set_counter(COMPLETED, value)
    set_counter(BEGUN, -1)


def read_register(kind, rounds):
    """Until the writer has ended; gives how many looks, and at how many different steps."""
    looks, values = 0, set()
    set_counter(READY, 1)
    while True:
        low = max(counter(COMPLETED), counter(SEEN))
        try:
            value = get_register(kind, low)
        except OSError as e:
            # Known: what is replaced twice between Linux's lookup and its open is ESTALE.
            if e.errno == errno.ESTALE and kind in ("replaced", "symlink"):
                continue
            raise
        begun = counter(BEGUN)
        high = rounds if begun == -1 else begun
        check(low <= value <= high, f"{kind}: step {value} is seen, when it is one of {low} to {high}")
        set_counter(SEEN, max(value, counter(SEEN)))
        looks, _ = looks + 1, values.add(value)
        if begun == -1 and low == rounds:
            return looks, len(values)


def registers(one, other, rounds, dice):
    """One changes, the other looks: it sees what is true at some moment while it looks, and never goes back."""
    seen = {}
    for kind in REGISTERS:
        for k in (BEGUN, COMPLETED, SEEN, READY):
            set_counter(k, 0)
        for name in ("r-size", "r-mode", "r-xattr", "r-mtime"):
            one.do("put", name, b"")
        one.do("put", "r-data", bytes(50_000))
        one.do("setxattr", "r-xattr", b"0")
        one.do("put", "r-replaced", b"0" * 1000)
        one.do("chmod", "r-mode", 0o1000)
        other.do("truncate", "r-size", 0)
        one.do("symlink", "0", f"r-{kind}-0")
        one.do("rename", f"r-{kind}-0", "r-symlink")
        one.do("set_register", "mtime", 0)
        writer, reader = (one, other) if dice.random() < 0.5 else (other, one)
        writer.start("write_register", kind, rounds)
        reader.start("read_register", kind, rounds)
        writer.wait()
        seen[kind] = reader.wait()
    return ", ".join(f"{k} {looks} looks at {steps} states" for k, (looks, steps) in seen.items())


def lengthen(rounds):
    """Appends pages, each of which says where it is."""
    await_reader()
    fd = os.open("longer", os.O_WRONLY)
    for page in range(1, rounds + 1):
        os.pwrite(fd, struct.pack("Q", page) * 512, 4096 * page)
        set_counter(COMPLETED, page)
    os.close(fd)


def read_last(rounds):
    """Reads the last page that is there while another thread writes the first one all the time. Linux takes up no size that it
    is told while it writes."""
    fd = os.open("longer", os.O_RDWR)
    done = threading.Event()

    def write_first():
        while not done.is_set():
            os.pwrite(fd, bytes(4096), 0)
    writer = threading.Thread(target=write_first)
    writer.start()
    set_counter(READY, 1)
    looks = page = 0
    try:
        while page < rounds:
            page = counter(COMPLETED)
            data = os.pread(fd, 4096, 4096 * page)
            check(data == struct.pack("Q", page) * 512, f"page {page}: {len(data)} bytes, {data[:8].hex()}")
            end = os.lseek(fd, 0, os.SEEK_END)
            check(end >= 4096 * (page + 1), f"page {page} is there, and the file ends at {end}")
            looks += 1
    finally:
        done.set()
        writer.join()
        os.close(fd)
    return looks


def grown(one, other, rounds, dice):
    """One appends, the other reads what is new while it writes to the file as well."""
    one.do("put", "longer", bytes(4096))
    for k in (COMPLETED, READY):
        set_counter(k, 0)
    one.start("lengthen", rounds)
    other.start("read_last", rounds)
    one.wait()
    return f"{other.wait()} looks"


STABLE, WINDOW = 300, 40


def churn(rounds):
    """Makes c1, c2, ... and removes each some time later. Counts what it has begun and completed."""
    await_reader()
    for value in range(1, rounds + 1):
        set_counter(BEGUN, value)
        os.close(os.open(f"dir/c{value}", os.O_CREAT | os.O_EXCL, 0o644))
        set_counter(COMPLETED, value)
        if value > WINDOW:
            set_counter(SEEN, value - WINDOW)  # which is being removed, and all before it are
            os.unlink(f"dir/c{value - WINDOW}")
    set_counter(BEGUN, -1)


def watch(rounds):
    """Lists the directory meanwhile: what was there all along is listed once, what never was is not listed."""
    listings = 0
    stable = {f"s{i}" for i in range(STABLE)}
    set_counter(READY, 1)
    while True:
        begun = counter(BEGUN)
        made, removing = counter(COMPLETED), counter(SEEN)
        found = os.listdir("dir")
        last = counter(BEGUN)
        begun_after, removing_after = rounds if last == -1 else last, counter(SEEN)
        listed = [n for n in found if n.startswith("s")]
        check(len(listed) == STABLE and set(listed) == stable,
              f"{len(listed)} names are listed, {len(set(listed))} different ones, of {STABLE} that were there all along")
        churned = sorted(int(n[1:]) for n in found if n.startswith("c"))
        must = set(range(removing_after + 1, made + 1))
        check(must <= set(churned), f"{sorted(must - set(churned))} were there all along and are not listed")
        strange = [n for n in churned if n < removing or n > begun_after]
        check(not strange, f"{strange} are listed, where {removing} to {begun_after} can be there")
        check(len(churned) == len(set(churned)), "a name that was made once is listed once")
        listings += 1
        if begun == -1:
            return listings


def listings(one, other, rounds, dice):
    """readdir while the other makes and removes names."""
    one.do("mkdir", "dir")
    for i in range(STABLE):
        (one if i % 2 else other).do("make", f"dir/s{i}", os.O_CREAT | os.O_EXCL)
    for k in (BEGUN, COMPLETED, SEEN, READY):
        set_counter(k, 0)
    one.start("churn", rounds)
    other.start("watch", rounds)
    one.wait()
    return f"{other.wait()} listings"


def _map(fds, name):
    fd = os.open(name, os.O_RDWR)
    memory = mmap.mmap(fd, 4096)
    os.close(fd)
    return memory


def count_mapped(fds, name, word, rounds):
    """Counts in a word of a page that the other counts in too, another word."""
    counted = ctypes.c_int64.from_buffer(_map(fds, name), 8 * word)
    for i in range(rounds):
        check(counted.value == i, f"{counted.value} after {i} steps")
        counted.value = i + 1
        if i % 16 == 0:
            os.sched_yield()


def pass_mapped(fds, name, mine, rounds):
    """Waits for the other's step, and makes the next: there is nothing between them but the page."""
    step = ctypes.c_int64.from_buffer(_map(fds, name), 1024)
    for i in range(mine, 2 * rounds, 2):
        while (seen := step.value) != i:
            check(seen == i - 1, f"step {seen} after {i - 2}")
        step.value = i + 1


def mapped(one, other, rounds, dice):
    """One page that both have mapped: each store is seen, none is lost, with no system call to help."""
    one.do("put", "page", bytes(4096))
    begin = time.monotonic()
    for what in ("count_mapped", "pass_mapped"):
        for who, peer in enumerate((one, other)):
            peer.start(what, "page", who, rounds)
        for peer in (one, other):
            peer.wait()
    took = time.monotonic() - begin
    for peer in (one, other):
        words = struct.unpack("512q", peer.do("get", "page"))
        check(words[:2] == (rounds, rounds) and words[128] == 2 * rounds, f"the page says {words[:2]} and {words[128]}")
    return f"{took / rounds * 1e6:.0f} us a round"


SEQUENTIAL = (closed, opened, names, attributes, winners)
CONCURRENT = (appends, registers, grown, listings, mapped)


def meet(mounts, rounds, seed, only="", say=print):
    """All parts; False: one of them has failed."""
    global SHARED  # pylint: disable=global-statement
    SHARED = mmap.mmap(-1, 4096)
    top = f"handshake-{os.getpid()}-{seed}"
    os.mkdir(os.path.join(mounts[0], top))
    peers = [Peer(os.path.join(m, top)) for m in mounts]
    good = True
    for part in SEQUENTIAL + CONCURRENT:
        if only not in part.__name__:
            continue
        dice, begin, more, i = random.Random(f"{seed} {part.__name__}"), time.monotonic(), None, 0
        try:
            if part in CONCURRENT:
                more = part(*peers, rounds, dice)
            else:
                for i in range(rounds):
                    part(*(peers if i % 2 == 0 else peers[::-1]), i, dice)
            say(f"handshake: {part.__name__}: {rounds} rounds, {time.monotonic() - begin:.1f} s{', ' + more if more else ''}")
        except (Wrong, OSError) as e:
            say(f"handshake: seed {seed}: {part.__name__}, round {i}: {e}")
            good = False
            break  # the peers may be in the middle of something
    for peer in peers:
        if not good:
            os.kill(peer.pid, signal.SIGKILL)
        peer.end()
    if good:
        remove(os.path.join(mounts[0], top))
    return good


def remove(path):
    for directory, directories, files in os.walk(path, topdown=False):
        for name in files + [d for d in directories if os.path.islink(os.path.join(directory, d))]:
            os.unlink(os.path.join(directory, name))
        os.rmdir(directory)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mounts", nargs=2, metavar="DIR")
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seed", default=str(random.randrange(1 << 32)))
    parser.add_argument("--only", default="", help="parts whose names contain this")
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)
    sys.exit(0 if meet(args.mounts, args.rounds, args.seed, args.only) else 1)


if __name__ == "__main__":
    main()
