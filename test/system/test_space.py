#!/usr/bin/env python3
"""Deleting gives the space back within seconds, also of open-unlinked files, and leaves no leak behind."""
import contextlib
import errno
import os
import random

from harness import Cluster, check, eventually, say, sh

MIB = 1 << 20
with Cluster("space", osds=3, replicas=2) as c:
    m = c.mount

    def free():
        v = os.statvfs(m)
        return v.f_bavail * v.f_frsize

    def used():
        return sum(o["bytes_used"] for o in c.status()["osds"])

    empty_free, empty_used = free(), used()
    say(f"{empty_free // MIB} MiB free when empty")
    for name in ("a", "b"):
        sh(f"head -c {200 * MIB} /dev/urandom > {m}/{name}")
    os.mkdir(f"{m}/small")
    for i in range(2000):
        with open(f"{m}/small/{i}", "wb") as f:
            f.write(b"x" * 5000)
    os.sync()
    eventually(lambda: empty_free - free() > 380 * MIB, "df shows what was written", 10)

    say("truncate, punch, delete, delete while open")
    os.truncate(f"{m}/a", 100 * MIB)
    eventually(lambda: empty_free - free() < 330 * MIB, "the truncated part is free", 10)
    sh(f"fallocate --punch-hole --offset {64 * MIB} --length {64 * MIB} {m}/b")
    eventually(lambda: empty_free - free() < 266 * MIB, "the punched part is free", 10)
    held = open(f"{m}/b", "rb")
    digest = held.read(MIB)
    os.remove(f"{m}/b")
    os.remove(f"{m}/a")
    sh(f"rm -r {m}/small")
    held.seek(0)
    check(held.read(MIB) == digest, "an open file lives on after its last name is gone")
    held.close()
    eventually(lambda: used() - empty_used < 2 * MIB, "all space is back", 10)
    eventually(lambda: empty_free - free() < 2 * MIB, "df shows it", 10)

    say("full: an error, nothing lost, and space again after deleting")
    with open(f"{m}/precious", "wb") as f:
        f.write(b"keep me" * 100000)
        f.flush()
        os.fsync(f.fileno())
    try:
        with open(f"{m}/flood", "wb") as f:
            block = os.urandom(MIB)
            for _ in range(4096):
                f.write(block)
            f.flush()
            os.fsync(f.fileno())
        raise AssertionError("4 GiB fitted on 1.5 GiB")
    except OSError as e:
        check(e.errno == 28, f"a full cluster says ENOSPC, not {e}")
    with open(f"{m}/precious", "rb") as f:
        check(f.read() == b"keep me" * 100000, "what was there is still there")
    os.remove(f"{m}/flood")
    eventually(lambda: empty_free - free() < 5 * MIB, "the flood's space is back", 20)

    say("full: what write(2) has taken without an error is there, without fsync(2)")
    pick = random.Random(6)
    files = {path: {} for path in (f"{m}/flood", f"{m}/random")}
    refused = 0
    with contextlib.ExitStack() as stack:
        fds = {path: stack.enter_context(open(path, "w+b", buffering=0)) for path in files}
        while refused < 20:
            for n, path in enumerate(files):
                block = pick.randrange(16384) if n else len(files[path])
                tag = pick.randbytes(16)
                try:
                    check(os.pwrite(fds[path].fileno(), tag * 4096, block * 65536) == 65536, "a whole block is taken")
                    files[path][block] = tag
                except OSError as e:
                    check(e.errno == errno.ENOSPC, f"it is ENOSPC: {e}")
                    files[path].pop(block, None)
                    refused += 1
        say("  " + " and ".join(f"{len(blocks) * 65536 // MIB} MiB" for blocks in files.values()))
        for path, blocks in files.items():
            fd = fds[path].fileno()
            os.fsync(fd)  # has nothing to say
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            for block, tag in blocks.items():
                check(os.pread(fd, 65536, block * 65536) == tag * 4096, f"{path}: block {block} is as it was written")
    os.remove(f"{m}/random")
    os.remove(f"{m}/flood")
    eventually(lambda: empty_free - free() < 5 * MIB, "the flood's space is back", 20)
    with open(f"{m}/after", "wb") as f:
        f.write(b"room again")
        f.flush()
        os.fsync(f.fileno())
    c.down()
    c.check_stores()
