#!/usr/bin/env python3
"""copy_file_range shares the blocks of its source: no space is taken until one of the two is changed, and then each has what is its own."""
import hashlib
import os

from harness import Cluster, check, eventually, say, sh

MIB = 1 << 20
SIZE = 200 * MIB + 12345  # four chunks, and an end inside a block
with Cluster("copy", osds=3, replicas=2) as c:
    m = c.mount

    def used():
        return sum(o["bytes_used"] for o in c.status()["osds"])

    def digest(name):
        with open(f"{m}/{name}", "rb") as f:
            return hashlib.file_digest(f, "sha256").hexdigest()

    def copy(source, target):
        """As cp(1) does it, and durable."""
        with open(f"{m}/{source}", "rb") as i, open(f"{m}/{target}", "wb") as o:
            copied = 0
            while n := os.copy_file_range(i.fileno(), o.fileno(), 1 << 40):
                copied += n
            os.fsync(o.fileno())
            return copied

    def checks(expected, what):
        for name, wanted in expected.items():
            check(digest(name) == wanted, f"{name} is not what it was: {what}")

    # Changes to the file and to bytes in memory, which are then compared.
    class Twin:
        def __init__(self, name, data):
            self.name, self.data = name, bytearray(data)

        def write(self, at, data):
            self.data[at:at + len(data)] = data
            with open(f"{m}/{self.name}", "r+b") as f:
                f.seek(at)
                f.write(data)
                f.flush()
                os.fsync(f.fileno())

        def digest(self):
            return hashlib.sha256(self.data).hexdigest()

    empty = used()
    original = os.urandom(SIZE)
    with open(f"{m}/original", "wb") as f:
        f.write(original)
        f.flush()
        os.fsync(f.fileno())
    eventually(lambda: used() - empty > 2 * SIZE, "the OSDs tell of two copies of it", 10)
    one = used()

    say("three copies, one of a copy")
    check(copy("original", "a") == SIZE, "all of it is copied")
    check(copy("original", "b") == SIZE, "all of it is copied")
    check(copy("a", "c") == SIZE, "all of it is copied")
    twins = {name: Twin(name, original) for name in ("original", "a", "b", "c")}
    checks({name: t.digest() for name, t in twins.items()}, "after the copy")
    # Heartbeats tell of space: one more file shows that they have come.
    with open(f"{m}/mark", "wb") as f:
        f.write(os.urandom(4 * MIB))
        f.flush()
        os.fsync(f.fileno())
    eventually(lambda: used() - one >= 8 * MIB, "the OSDs tell of a file behind the copies", 10)
    grown = used() - one - 8 * MIB
    say(f"three copies of {2 * SIZE // MIB} MiB took {grown // 1024} KiB")
    check(grown < 2 * SIZE // 20, f"copies take no space of their own, but took {grown} bytes")

    say("small and large overwrites on each side, kill -9 of all OSDs between")
    names = list(twins)
    for i, name in enumerate(names):
        twins[name].write(i * 40 * MIB + 777, os.urandom(5))
        twins[name].write(i * 10 * MIB + 70 * MIB, os.urandom(4096 * 3))
        twins[name].write(i * MIB + 130 * MIB, os.urandom(2 * MIB))
    for name in c.osd_names():
        c.kill(name)
    c.up()
    sh("echo 3 > /proc/sys/vm/drop_caches")
    checks({name: t.digest() for name, t in twins.items()}, "after overwrites and kills")

    say("truncate, punch and delete either side, and stop and start everything")
    os.truncate(f"{m}/original", 100 * MIB + 1)
    del twins["original"].data[100 * MIB + 1:]
    os.truncate(f"{m}/original", 150 * MIB)
    twins["original"].data.extend(bytes(50 * MIB - 1))
    sh(f"fallocate --punch-hole --offset {30 * MIB + 5} --length {64 * MIB} {m}/a")
    twins["a"].data[30 * MIB + 5:94 * MIB + 5] = bytes(64 * MIB)
    os.remove(f"{m}/b")
    del twins["b"]
    checks({name: t.digest() for name, t in twins.items()}, "after changes of one side")
    c.down()
    c.check_stores()
    c.up()
    checks({name: t.digest() for name, t in twins.items()}, "after a restart")

    say("delete the source, then the copies")
    os.remove(f"{m}/original")
    del twins["original"]
    os.remove(f"{m}/mark")
    for name in c.osd_names():
        c.kill(name)
    c.up()
    checks({name: t.digest() for name, t in twins.items()}, "after the source was deleted")
    for name in list(twins):
        os.remove(f"{m}/{name}")
    eventually(lambda: used() - empty < 2 * MIB, "all space is back", 20)
    c.down()
    c.check_stores()
