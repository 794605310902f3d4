#!/usr/bin/env python3
"""OSDs die, stop, are lost with all they had, and lie: what is mounted goes on, nothing is wrong, and the cluster heals itself."""
import json
import os
import random
import shutil
import signal
import subprocess
import sys

from harness import SANITIZED, Cluster, check, eventually, say

# Three seconds is what a user may feel at the most; machines that run tests stall by themselves.
LONGEST = 20.0 if SANITIZED else 6.0
LOAD = os.path.join(os.path.dirname(os.path.abspath(__file__)), "failure_load.py")


class Load:
    def __init__(self, cluster):
        self.stop_file = os.path.join(cluster.root, "stop")
        if os.path.exists(self.stop_file):
            os.unlink(self.stop_file)
        self.process = subprocess.Popen([sys.executable, LOAD, cluster.mount, self.stop_file], stdout=subprocess.PIPE)

    def end(self):
        with open(self.stop_file, "wb"):
            pass
        out, _ = self.process.communicate(timeout=120)
        report = json.loads(out)
        check(not report["errors"], f"operations failed: {report['errors'][:3]}")
        check(not report["wrong"], f"wrong bytes: {report['wrong'][:3]}")
        say(f"  {report['operations']} operations, the longest took {report['longest']:.2f} s: {report['of']}")
        return report


def groups(cluster):
    return cluster.status()["pools"][0]["pgs"]


def whole(cluster):
    counts = groups(cluster)
    return counts["clean"] == sum(counts.values())


def fails_and_returns(cluster, name, how):
    """One OSD fails in the middle of the load, and comes back in the middle of it."""
    say(f"{name}: {how.name}")
    pid = cluster.pid(name)
    load = Load(cluster)
    try:
        size = os.path.join(cluster.mount, "blocks0")
        eventually(lambda: os.path.exists(size) and os.stat(size).st_size > 0, "the load has begun", 60)
        cluster.kill(name, how)
        eventually(lambda: groups(cluster)["degraded"] > 0, "the cluster notices", 30)
        check(cluster.status()["health"] == "degraded", "the cluster serves with fewer copies")
        # Writes go on without it.
        before = os.stat(os.path.join(cluster.mount, "small0")).st_mtime_ns
        probe = os.path.join(cluster.mount, f"while-{name}-is-away")
        with open(probe, "wb") as f:
            f.write(b"x" * 100000)
            f.flush()
            os.fsync(f.fileno())
        check(before > 0, "the load has its files")
        if how == signal.SIGSTOP:
            os.kill(pid, signal.SIGCONT)
        else:
            cluster.up()
        eventually(lambda: whole(cluster), "all copies are equal again", 120)
    finally:
        report = load.end()
    check(report["longest"] < LONGEST, f"an operation took {report['longest']:.1f} s")
    check(cluster.status()["health"] == "ok", "healthy again")


def flipped_bytes(cluster, name):
    """Damage all over one store: every read is right, and a scrub finds and mends it."""
    say(f"{name}: bytes flipped all over its data")
    files = {}
    pick = random.Random(7)
    for n in range(40):
        path = os.path.join(cluster.mount, f"kept{n}")
        files[path] = pick.randbytes(400_000)
        with open(path, "wb") as f:
            f.write(files[path])
    os.sync()
    block = os.path.join(cluster.data, name, "block")
    flipped = 0
    with open(block, "r+b", buffering=0) as f:
        end = os.fstat(f.fileno()).st_size
        at = 2 << 20
        while (at := os.lseek(f.fileno(), at, os.SEEK_SET)) < end - 4096 and at < (64 << 20):
            old = os.pread(f.fileno(), 1, at + 1000)
            os.pwrite(f.fileno(), bytes([old[0] ^ 0x40]), at + 1000)
            flipped += 1
            at += 64 << 10
        os.fsync(f.fileno())
    say(f"  {flipped} bytes")

    def all_right():
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
            f.write("1")
        for path, data in files.items():
            with open(path, "rb") as f:
                check(f.read() == data, f"{path} reads as it was written")

    all_right()
    cluster.cairn("scrub", "start", "--data", cluster.data)

    def progress():
        return json.loads(cluster.cairn("scrub", "status", "--json", "--data", cluster.data))

    def begun():
        state = progress()
        return state["groups_left"] > 0 or state["errors_found"] > 0

    def scrubbed():
        state = progress()
        return state if state["groups_left"] == 0 else None

    # The daemons say how far they are with their next heartbeat.
    eventually(begun, "the scrub has begun", 10)
    state = eventually(scrubbed, "the scrub is done", 300)
    say(f"  scrub: {state['errors_found']} found, {state['errors_repaired']} repaired")
    check(state["errors_found"] == state["errors_repaired"] > 0, "all that was found was mended")
    check(cluster.status()["health"] == "ok", "healthy")
    all_right()


def lost(cluster, name):
    """A disk is gone with all that it had; a new one takes its place."""
    say(f"{name}: lost with its disk")
    osd = int(name.removeprefix("osd"))
    load = Load(cluster)
    try:
        cluster.kill(name)
        shutil.rmtree(os.path.join(cluster.data, name))
        eventually(lambda: groups(cluster)["degraded"] > 0, "the cluster notices", 30)
        cluster.cairn("osd", "out", str(osd), "--data", cluster.data)
        cluster.up()  # makes an empty store, which is another OSD to the cluster
        eventually(lambda: whole(cluster), "everything has all its copies again", 180)
        cluster.cairn("osd", "rm", str(osd), "--data", cluster.data)
    finally:
        load.end()
    check(cluster.status()["health"] == "ok", "healthy")


with Cluster("osd_failure") as c:
    fails_and_returns(c, "osd2", signal.SIGKILL)
    fails_and_returns(c, "osd1", signal.SIGSTOP)
    fails_and_returns(c, "osd3", signal.SIGKILL)
    flipped_bytes(c, "osd2")
    lost(c, "osd3")
    c.down()
    c.check_stores()
    c.up()
say("OSDs failed in every way, and nobody noticed but the administrator")
