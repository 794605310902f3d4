#!/usr/bin/env python3
"""A data exerciser: one file, random operations on its bytes, checked byte by byte against memory. With several mounts
they take turns, and each keeps its descriptors and its mapping from before. A second file is copied to and from, at the same
offsets, where a filesystem may share what both hold.

    fsx.py DIR                       one mount, or any directory
    fsx.py --mounts DIR DIR          two mounts of one cluster: the same directory of both
    fsx.py DIR --replay FILE         a sequence that was printed ("-": standard input)

--base moves the window in which all happens; 67000000 makes it straddle the border of the first two chunks.
"""
import argparse
import ast
import errno
import os
import random
import sys
import time

import syscalls
from shrink import shrink
from syscalls import FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE

BLOCK = 4096
SEQUENCE = 2000  # operations on one file
REPLAYS = 5
LARGEST = 200_000  # of one operation, in bytes
POOL = random.Random(1).randbytes(4 << 20)


class Difference(Exception):
    pass


class Window:
    """What the file holds: nothing but zeros before `base`, then these bytes."""

    def __init__(self, base, limit):
        self.base, self.limit = base // BLOCK * BLOCK, limit
        self.size = 0
        self.bytes = bytearray(limit)  # beyond `size`: zeros

    def resize(self, size):
        if size < self.size:
            self.zero(size, self.size)
        self.size = size

    def zero(self, a, b):
        a, b = (min(max(x - self.base, 0), self.limit) for x in (a, b))
        self.bytes[a:max(a, b)] = bytes(max(0, b - a))

    def put(self, at, data):
        self.bytes[at - self.base:at - self.base + len(data)] = data
        self.size = max(self.size, at + len(data))

    def get(self, at, length):
        length = max(0, min(length, self.size - at))
        lead = min(length, max(0, self.base - at))
        start = max(0, at - self.base)
        return bytes(lead) + bytes(self.bytes[start:start + length - lead])


class Exerciser:
    """The file through every mount: buffered and direct descriptors, and a mapping; its twin through one descriptor of each.
    An operation is a tuple (name, mount, numbers...)."""

    def __init__(self, mounts, name, base, limit):
        self.paths = [os.path.join(m, name) for m in mounts]
        self.window = Window(base, limit)
        self.twin = Window(base, limit)
        for path in (self.paths[0], self.paths[0] + "-twin"):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644))
        self.twins = [os.open(path + "-twin", os.O_RDWR) for path in self.paths]
        self.fds, self.direct, self.maps = [-1] * len(mounts), [-1] * len(mounts), [None] * len(mounts)
        self.copier = syscalls.Copier()
        for mount in range(len(mounts)):
            self.open(mount)

    def open(self, mount):
        self.fds[mount] = os.open(self.paths[mount], os.O_RDWR)
        try:
            self.direct[mount] = os.open(self.paths[mount], os.O_RDWR | os.O_DIRECT)
        except OSError:
            self.direct[mount] = os.dup(self.fds[mount])  # a filesystem without
        self.maps[mount] = syscalls.map_shared(self.fds[mount], self.window.limit, self.window.base)

    def shut(self, mount):
        self.maps[mount].close()
        os.close(self.fds[mount])
        os.close(self.direct[mount])

    def finish(self):
        for mount in range(len(self.fds)):
            self.shut(mount)
            os.close(self.twins[mount])
        os.close(self.copier.fd)
        os.unlink(self.paths[0])
        os.unlink(self.paths[0] + "-twin")

    def apply(self, op):
        try:
            getattr(self, op[0])(*op[1:])
        except OSError as e:
            raise Difference(f"{syscalls.name_of(e.errno)}: {e}") from None
        size = os.fstat(self.fds[op[1]]).st_size
        if size != self.window.size:
            raise Difference(f"size {size}, and not {self.window.size}")

    def same(self, got, at, length, window=None):
        expected = (window or self.window).get(at, length)
        if got == expected:
            return
        if len(got) != len(expected):
            raise Difference(f"{len(got)} bytes at {at}, and not {len(expected)}")
        first = next(i for i, (a, b) in enumerate(zip(got, expected)) if a != b)
        wrong = sum(a != b for a, b in zip(got, expected))
        raise Difference(f"{wrong} bytes of [{at}, {at + length}) are wrong, the first at {at + first}: "
                         f"{got[first:first + 8].hex()}, and not {expected[first:first + 8].hex()}")

    # ---- operations ----

    def read(self, mount, at, length):
        self.same(os.pread(self.fds[mount], length, at), at, length)

    def write(self, mount, at, length, start):
        data = POOL[start:start + length]
        self.all_of(os.pwrite(self.fds[mount], data, at), length)
        if data:
            self.window.put(at, data)

    @staticmethod
    def all_of(done, length):
        if done != length:
            raise Difference(f"{done} of {length} bytes were taken")

    def append(self, mount, length, start):
        """Through a descriptor of its own."""
        data = POOL[start:start + length]
        fd = os.open(self.paths[mount], os.O_WRONLY | os.O_APPEND)
        try:
            self.all_of(os.write(fd, data), length)
        finally:
            os.close(fd)
        self.window.put(self.window.size, data)

    def read_direct(self, mount, at, length):
        memory = syscalls.aligned(length)
        done = os.preadv(self.direct[mount], [memoryview(memory)[:length]], at)
        self.same(memory[:done], at, length)

    def write_direct(self, mount, at, length, start):
        memory = syscalls.aligned(length)
        memory[:length] = POOL[start:start + length]
        self.all_of(os.pwritev(self.direct[mount], [memoryview(memory)[:length]], at), length)
        self.window.put(at, memory[:length])

    def truncate(self, mount, size):
        os.ftruncate(self.fds[mount], size)
        self.window.resize(size)

    def allocate(self, mount, mode, at, length):
        syscalls.fallocate(self.fds[mount], mode, at, length)
        if not mode & FALLOC_KEEP_SIZE:
            self.window.resize(max(self.window.size, at + length))
        if mode & (FALLOC_PUNCH_HOLE | FALLOC_ZERO_RANGE):
            self.window.zero(at, min(at + length, self.window.size))

    def map_read(self, mount, at, length):
        length = min(length, self.window.size - at)
        if at >= self.window.base and length > 0:
            os.fstat(self.fds[mount])  # a fault does not ask whether the file has grown elsewhere
            self.same(self.copier.load(self.maps[mount].bytes, at - self.window.base, length), at, length)

    def map_write(self, mount, at, length, start, sync):
        length = min(length, self.window.size - at)
        if at >= self.window.base and length > 0:
            os.fstat(self.fds[mount])
            data = POOL[start:start + length]
            self.copier.store(self.maps[mount].bytes, at - self.window.base, data)
            if sync:
                self.maps[mount].flush()
            self.window.put(at, data)

    def copy(self, mount, at, length, to):
        length = min(length, self.window.size - at, abs(to - at), self.window.base + self.window.limit - to)
        data = self.window.get(at, length)
        self.copy_bytes(self.fds[mount], at, self.fds[mount], to, length)
        if length > 0:
            self.window.put(to, data)

    @staticmethod
    def copy_bytes(source, at, target, to, length):
        os.fstat(source)  # as above
        os.fstat(target)
        done = 0
        while done < length:
            n = os.copy_file_range(source, target, length - done, at + done, to + done)
            if n == 0:
                raise Difference(f"{done} of {length} bytes were copied")
            done += n

    def copy_out(self, mount, at, length, empty):
        """To the twin; with `empty` as cp(1) does, to a file without chunks."""
        if empty:
            os.ftruncate(self.twins[mount], 0)
            self.twin.resize(0)
        length = min(length, self.window.size - at)
        if length > 0:
            self.copy_bytes(self.fds[mount], at, self.twins[mount], at, length)
            self.twin.put(at, self.window.get(at, length))
        self.twin_read(mount, at, length)

    def copy_back(self, mount, at, length):
        length = min(length, self.twin.size - at)
        if length > 0:
            self.copy_bytes(self.twins[mount], at, self.fds[mount], at, length)
            self.window.put(at, self.twin.get(at, length))

    def twin_read(self, mount, at, length):
        self.same(os.pread(self.twins[mount], max(0, length), at), at, length, self.twin)

    def twin_write(self, mount, at, length, start):
        data = POOL[start:start + length]
        self.all_of(os.pwrite(self.twins[mount], data, at), length)
        if data:
            self.twin.put(at, data)

    def reopen(self, mount):
        self.shut(mount)
        self.open(mount)

    def sync(self, mount, data_only):
        (os.fdatasync if data_only else os.fsync)(self.fds[mount])

    def seek(self, mount, at):
        """What SEEK_HOLE calls a hole reads as zeros; data and holes take turns up to the end."""
        size = self.window.size
        fd = self.fds[mount]
        while at < size:
            try:
                data = os.lseek(fd, at, os.SEEK_DATA)
            except OSError as e:
                if e.errno != errno.ENXIO:
                    raise
                data = size
            if not at <= data <= size:
                raise Difference(f"SEEK_DATA from {at} gives {data}")
            if self.window.get(at, data - at).strip(b"\0"):
                raise Difference(f"SEEK_DATA from {at} gives {data}: it leaves out data")
            if data == size:
                break
            at = os.lseek(fd, data, os.SEEK_HOLE)
            if not data < at <= size:
                raise Difference(f"SEEK_HOLE from {data} gives {at}")

    def all(self, mount):
        self.read(mount, self.window.base, self.window.limit)
        self.twin_read(mount, self.window.base, self.window.limit)
        if self.window.base:
            self.read(mount, random.Random(self.window.size).randrange(self.window.base), BLOCK)


class Chooser:
    """Random operations; offsets near the end, near borders of blocks, pieces (1 MiB) and chunks (64 MiB)."""

    def __init__(self, dice, window, mounts):
        self.dice, self.window, self.mounts = dice, window, mounts
        self.largest = dice.choice([5000, 50_000, LARGEST])
        weights = {"read": 8, "write": 8, "append": 2, "read_direct": 2, "write_direct": 2, "truncate": 2, "allocate": 3,
                   "map_read": 4, "map_write": 4, "copy": 2, "copy_out": 2, "copy_back": 2, "twin_read": 1, "twin_write": 2, "reopen": 0.7,
                   "sync": 1, "seek": 1, "all": 0.7}
        for name in weights:
            weights[name] *= dice.choice([0, 1, 1, 3])  # each sequence leans elsewhere
        weights["read"] += 1
        weights["write"] += 1
        self.names, self.weights = list(weights), list(weights.values())

    def next(self):
        d, w = self.dice, self.window
        name = d.choices(self.names, self.weights)[0]
        mount = d.randrange(self.mounts)
        at, length, start = self.offset(), self.length(), d.randrange(len(POOL) - LARGEST - BLOCK)
        end = w.base + w.limit
        length = min(length, end - at)
        aligned = at // BLOCK * BLOCK
        blocks = max(BLOCK, min(length, end - aligned) // BLOCK * BLOCK)
        if name in ("read", "map_read"):
            return (name, mount, at, length)
        if name == "write":
            return (name, mount, at, length, start)
        if name == "append":
            return (name, mount, max(0, min(length, end - max(w.size, w.base))), start) if w.size >= w.base else (
                "read", mount, at, length)
        if name == "read_direct":
            return (name, mount, aligned, blocks)
        if name == "write_direct":
            return (name, mount, aligned, blocks, start)
        if name == "truncate":
            return (name, mount, d.choice([at, at, aligned, w.size, w.base, d.randrange(end)]))
        if name == "allocate":
            modes = [0, FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, FALLOC_ZERO_RANGE,
                     FALLOC_ZERO_RANGE | FALLOC_KEEP_SIZE]
            return (name, mount, d.choice(modes), at, max(1, length))
        if name == "map_write":
            return (name, mount, at, length, start, d.random() < 0.5)
        if name == "copy":
            return (name, mount, at, length, self.offset())
        if name in ("copy_out", "copy_back"):
            # Large enough to be shared, and often whole blocks.
            at = d.choice([at, aligned, w.base])
            length = d.choice([length, d.randrange(1, w.limit), w.limit])
            length = min(length, end - at)
            return (name, mount, at, length, d.random() < 0.3) if name == "copy_out" else (name, mount, at, length)
        if name == "twin_read":
            return (name, mount, at, length)
        if name == "twin_write":
            return (name, mount, at, length, start)
        if name == "sync":
            return (name, mount, d.random() < 0.5)
        if name == "seek":
            return (name, mount, at)
        return (name, mount)

    def offset(self):
        d, w = self.dice, self.window
        border = d.choice([BLOCK, 1 << 20, 64 << 20])
        at = d.choice([w.base + d.randrange(w.limit), w.size, w.size - d.randrange(1, 10_000),
                       (w.base + d.randrange(w.limit)) // border * border + d.randrange(-100, 100)])
        return min(max(at, w.base), w.base + w.limit - 1)

    def length(self):
        d = self.dice
        return d.choice([1, d.randrange(1, 100), d.randrange(1, self.largest), d.randrange(1, self.largest), BLOCK, 2 * BLOCK])


class Fsx:
    def __init__(self, mounts, base=0, limit=2 << 20, say=print):
        self.mounts, self.base, self.limit, self.say = mounts, base, limit, say
        self.files, self.done = 0, 0
        self.difference = None

    def fresh(self):
        self.files += 1
        return Exerciser(self.mounts, f"fsx-{os.getpid()}-{self.files}", self.base, self.limit)

    def sequence(self, seed, length=SEQUENCE):
        dice, file, ops = random.Random(seed), self.fresh(), []
        chooser = Chooser(dice, file.window, len(self.mounts))
        try:
            for _ in range(length):
                ops.append(chooser.next())
                file.apply(ops[-1])
                self.done += 1
            for mount in range(len(self.mounts)):
                ops.append(("all", mount))
                file.apply(ops[-1])
        except Difference as e:
            return ops, str(e)
        finally:
            file.finish()
        return None

    def replay(self, ops):
        file = self.fresh()
        try:
            for i, op in enumerate(ops):
                file.apply(op)
        except Difference as e:
            self.difference = str(e)
            return ops[:i + 1]
        finally:
            file.finish()
        return None

    def explain(self, seed, ops, difference, seconds):
        self.say(f"seed {seed}: after {len(ops)} operations: {ops[-1]!r}: {difference}")
        for times in range(1, REPLAYS + 1):
            if self.replay(ops):
                break
        else:
            self.say(f"  {REPLAYS} replays show no difference: it depends on time. The last operations:")
            return self.show(ops[-50:], difference)
        fails = lambda rest: next(filter(None, (self.replay(rest) for _ in range(2 * times - 1))), None)
        ops = shrink(ops, fails, seconds, self.say)
        return self.show(ops, self.difference)

    def show(self, ops, difference):
        self.say(f"a replay, for --replay (with --base {self.base} --size {self.limit}):\n[")
        for op in ops:
            self.say(f"  {op!r},")
        self.say(f"]\n{difference}")

    def run(self, seed, operations=0, seconds=0, shrink_seconds=120):
        begin, number = time.monotonic(), 0
        while (not operations or self.done < operations) and (not seconds or time.monotonic() - begin < seconds):
            number += 1
            found = self.sequence(f"{seed}/{number}", min(SEQUENCE, operations - self.done) if operations else SEQUENCE)
            if found:
                self.explain(f"{seed}/{number}", *found, shrink_seconds)
                return False
        took = time.monotonic() - begin
        self.say(f"fsx: seed {seed}, base {self.base}, {len(self.mounts)} mounts, {number} files, {self.done} operations, "
                 f"{self.done / took:.0f} a second, no difference")
        return True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="?")
    parser.add_argument("--mounts", nargs="+", metavar="DIR", default=[])
    parser.add_argument("--base", type=int, default=0)
    parser.add_argument("--size", type=int, default=2 << 20, help="of the window (default 2 MiB)")
    parser.add_argument("--seed", default=str(random.randrange(1 << 32)))
    parser.add_argument("--ops", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0, help="60, if nothing else is said")
    parser.add_argument("--sequence", action="store_true", help="--seed is that of one sequence: SEED/NUMBER")
    parser.add_argument("--replay", metavar="FILE")
    parser.add_argument("--shrink-seconds", type=float, default=120)
    args = parser.parse_args()
    mounts = args.mounts or ([args.directory] if args.directory else [])
    if not mounts:
        parser.error("where? Give a directory, or --mounts")
    fsx = Fsx(mounts, args.base, args.size)
    if args.replay:
        with (sys.stdin if args.replay == "-" else open(args.replay, encoding="utf-8")) as f:
            text = f.read()
        found = fsx.replay(ast.literal_eval(text[text.index("["):text.rindex("]") + 1]))
        print(f"after {len(found)} operations: {fsx.difference}" if found else "no difference")
        sys.exit(1 if found else 0)
    if args.sequence:
        found = fsx.sequence(args.seed)
        if found:
            fsx.explain(args.seed, *found, args.shrink_seconds)
        sys.exit(1 if found else 0)
    print(f"seed {args.seed}", flush=True)
    seconds = args.seconds or (0 if args.ops else 60)
    sys.exit(0 if fsx.run(args.seed, args.ops, seconds, args.shrink_seconds) else 1)


if __name__ == "__main__":
    main()
