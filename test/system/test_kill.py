#!/usr/bin/env python3
"""kill -9 of each daemon in turn, under load: nothing that was fsynced is lost, and the mount goes on without a remount.

The load is a process of its own: a fork of this one would close its files on the mount, and so wait for the daemon it is to restart.
"""
import hashlib
import json
import os
import subprocess
import sys

if len(sys.argv) == 4 and sys.argv[1] == "--writer":
    # Writes and fsyncs numbered files, appends fsynced lines to one log; says on the local disk what was acknowledged.
    root, journal_path = sys.argv[2:]
    with open(f"{root}/log", "ab", buffering=0) as log, open(journal_path, "w", encoding="ascii", buffering=1) as journal:
        n = 0
        while not os.path.exists(journal_path + ".stop"):
            data = os.urandom(1 + (n * 7919) % 300000)
            with open(f"{root}/tmp", "wb") as f:
                f.write(data)
                f.flush()
                os.fsync(f.fileno())
            os.rename(f"{root}/tmp", f"{root}/f{n}")
            log.write(b"line %d\n" % n)
            os.fdatasync(log.fileno())
            journal.write(json.dumps([n, hashlib.sha256(data).hexdigest()]) + "\n")
            n += 1
    sys.exit(0)

from harness import Cluster, check, eventually, say  # noqa: E402  (the writer needs none of it)

ROUNDS = 2


def state(process):
    """As in ps: S and D wait for something."""
    with open(f"/proc/{process.pid}/stat", encoding="ascii") as f:
        return f.read().rsplit(")", 1)[1].split()[0]


def advances_again(cluster):
    """The mount works as if nothing had been."""
    path = f"{cluster.mount}/again"
    with open(path, "wb") as f:
        f.write(b"text")
        os.fsync(f.fileno())
    os.rename(path, path + "2")
    check(os.stat(path + "2").st_size == 4, "a file is written and renamed")
    os.unlink(path + "2")


with Cluster("kill") as c:
    device = os.stat(c.mount).st_dev
    journal = os.path.join(c.root, "journal")
    writer = subprocess.Popen([sys.executable, os.path.abspath(__file__), "--writer", c.mount, journal])

    def acknowledged():
        if not os.path.exists(journal):
            return []
        with open(journal, encoding="ascii") as f:
            return [json.loads(line) for line in f.read().split("\n")[:-1]]

    def advances(count):
        goal = len(acknowledged()) + count
        eventually(lambda: len(acknowledged()) >= goal or writer.poll() is not None, f"{goal} files are written", 60)
        check(writer.poll() is None, "an operation of the writer failed")

    def verify():
        files = acknowledged()
        with open(f"{c.mount}/log", "rb") as f:
            lines = f.read().split(b"\n")
        for n, digest in files:
            check(lines[n] == b"line %d" % n, f"line {n} was fsynced and is {lines[n]!r}")
            with open(f"{c.mount}/f{n}", "rb") as f:
                check(hashlib.file_digest(f, "sha256").hexdigest() == digest, f"f{n} is not what was fsynced")
        say(f"{len(files)} files and lines are as they were acknowledged")

    try:
        for round_number in range(ROUNDS):
            for name in ["mds"] + c.osd_names():
                advances(20)
                say(f"round {round_number + 1}: kill -9 {name} after {len(acknowledged())} files")
                c.kill(name)
                c.up()
                advances(20)
    finally:
        with open(journal + ".stop", "w", encoding="ascii"):
            pass
    check(writer.wait(timeout=60) == 0, "an operation of the writer failed")
    check(os.stat(c.mount).st_dev == device, "the mount is still the same one")
    verify()

    say("who waits for a daemon that is away can be killed, and the mount goes on")
    with open(f"{c.mount}/data", "wb") as f:
        f.write(bytes(2 << 20))
    PROGRAMS = {
        "mds": (["touch", "new"], ["ls", "-l", "."], ["mv", "data", "data2"], ["truncate", "-s", "5", "log"], ["setfattr", "-n", "user.a", "-v", "b", "log"]),
        "osds": (["dd", "if=/dev/zero", "of=zeros", "bs=1M", "count=4", "conv=fsync"], ["dd", "if=data", "of=/dev/null", "iflag=direct", "bs=1M"],
                 [sys.executable, "-c", "import mmap; f = open('f1', 'r+b'); m = mmap.mmap(f.fileno(), 0); m[0] = m[0]; m.flush()"]),
    }
    for away, programs in PROGRAMS.items():
        for name in ["mds"] if away == "mds" else c.osd_names():
            c.kill(name)
        # With nothing cached, each has to ask.
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
            f.write("3")
        stuck = [subprocess.Popen(p, cwd=c.mount, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for p in programs] if away == "osds" else [
            subprocess.Popen(["sh", "-c", f"cd {c.mount} && exec \"$@\"", "-", *p], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for p in programs]
        eventually(lambda: all(state(p) in "SD" for p in stuck), "all of them wait")  # pylint: disable=cell-var-from-loop
        for p in stuck:
            check(p.poll() is None, f"{p.args} ended without {away}")
            p.kill()
        for p in stuck:
            p.wait(timeout=30)
        say(f"  {len(stuck)} programs that waited for {away}")
        c.up()
        advances_again(c)

    say("all daemons at once, and the client with them")
    for name in ["mount", "mds"] + c.osd_names():
        c.kill(name)
    subprocess.run(["fusermount3", "-u", "-z", c.mount], check=True)
    c.up()
    verify()
    check(c.status()["health"] == "ok", "the cluster is healthy again")
    c.down()
    c.check_stores()
