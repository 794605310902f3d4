"""Ways in which OSDs fail, and what is to be true meanwhile and afterwards."""
import atexit
import errno
import json
import mmap
import os
import random
import shutil
import signal
import subprocess
import sys

from harness import CAIRN, SANITIZED, alive, check, eventually, say

# Three seconds is what a user may feel at the most; machines that run tests stall by themselves.
LONGEST = 20.0 if SANITIZED else 6.0
LOAD = os.path.join(os.path.dirname(os.path.abspath(__file__)), "failure_load.py")


class Load:
    def __init__(self, cluster, root):
        self.begin(cluster.root, LOAD, root)

    def begin(self, directory, program, *roots):
        self.stop_file = os.path.join(directory, "stop")
        for left in (self.stop_file, self.stop_file + ".progress"):
            if os.path.exists(left):
                os.unlink(left)
        self.process = subprocess.Popen([sys.executable, program, *roots, self.stop_file], stdout=subprocess.PIPE)
        atexit.register(self.process.kill)  # when the test fails before it is ended

    def operations(self):
        try:
            with open(self.stop_file + ".progress", encoding="ascii") as f:
                return int(f.readline() or 0)
        except OSError:
            return 0

    def works(self, count=50, seconds=60):
        """Waits until it has done so many operations more."""
        until = self.operations() + count
        eventually(lambda: self.operations() >= until, f"the load goes on, to {until} operations", seconds)

    def end(self):
        with open(self.stop_file, "wb"):
            pass
        out, _ = self.process.communicate(timeout=120)
        report = json.loads(out)
        check(not report["errors"], f"operations failed: {report['errors'][:3]}")
        check(not report["wrong"], f"wrong bytes: {report['wrong'][:3]}")
        say(f"  {report['operations']} operations, the longest took {report['longest']:.2f} s: {report['of']}")
        return report


class Failures:
    """What is done to the OSDs of a cluster, under files below `root` that lie in `pool`."""

    def __init__(self, cluster, root, pool):
        self.cluster, self.root, self.pool = cluster, root, pool

    def groups(self):
        return next(p["pgs"] for p in self.cluster.status()["pools"] if p["name"] == self.pool)

    def whole(self):
        counts = self.groups()
        return counts["clean"] == sum(counts.values())

    def noticed(self):
        counts = self.groups()
        return counts["clean"] + counts["recovering"] < sum(counts.values())

    def load(self):
        """A load that has begun to write."""
        load = Load(self.cluster, self.root)
        path = os.path.join(self.root, "blocks0")
        eventually(lambda: os.path.exists(path) and os.stat(path).st_size > 0, "the load has begun", 60)
        return load

    def fail_and_return(self, names, how):
        """OSDs fail at once in the middle of a load, and come back in the middle of it."""
        cluster = self.cluster
        say(f"{' and '.join(names)}: {how.name}")
        pids = [cluster.pid(name) for name in names]
        load = self.load()
        try:
            for name in names:
                cluster.kill(name, how)
            eventually(self.noticed, "the cluster notices", 30)
            check(self.groups()["unavailable"] == 0, "the pool serves with fewer")
            with open(os.path.join(self.root, "meanwhile"), "wb") as f:
                f.write(b"x" * 100000)
                f.flush()
                os.fsync(f.fileno())
            if how == signal.SIGSTOP:
                for pid in pids:
                    os.kill(pid, signal.SIGCONT)
            else:
                cluster.up()
            eventually(self.whole, "everything is whole again", 120)
        finally:
            report = load.end()
        check(report["longest"] < LONGEST, f"an operation took {report['longest']:.1f} s")
        check(cluster.status()["health"] == "ok", "healthy again")
        return report["longest"]

    def all_at_once(self):
        """Power is gone, for all OSDs in the middle of a load."""
        say("all OSDs: SIGKILL at once")
        load = self.load()
        try:
            pids = [self.cluster.pid(name) for name in self.cluster.osd_names()]
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            eventually(lambda: not any(alive(pid) for pid in pids), "all have ended")
            self.cluster.up()
            eventually(self.whole, "everything is whole again", 120)
        finally:
            load.end()
        check(self.cluster.status()["health"] == "ok", "healthy again")

    def scrub(self):
        """A deep scrub of everything; what it found since the daemons were started."""
        cluster = self.cluster
        before = self.scrubbed()
        cluster.admin("scrub", "start")
        # The daemons say how far they are with their next heartbeat.
        eventually(lambda: self.scrubbed()["groups_left"] > 0 or self.scrubbed()["errors_found"] > before["errors_found"],
                   "the scrub has begun", 10)
        return eventually(lambda: (lambda s: s if s["groups_left"] == 0 else None)(self.scrubbed()), "the scrub is done", 300)

    def scrubbed(self):
        return json.loads(self.cluster.admin("scrub", "status", "--json"))

    def beyond_repair(self):
        """One block is damaged wherever it is: it is an error to read, and said by its name and place."""
        say("all OSDs: one block of a file is damaged on each")
        cluster = self.cluster
        path = os.path.join(self.root, "ruined")
        data = random.Random(8).randbytes(256 << 10)
        with open(path, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        for name in cluster.osd_names():
            with open(os.path.join(cluster.data, name, "block"), "r+b") as f, mmap.mmap(f.fileno(), 0) as store:
                at = store.find(data[20480:24576])
                check(at > 0, f"{name} holds the file")
                store[at + 9] ^= 1
                store.flush()
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
            f.write("1")
        fd = os.open(path, os.O_RDONLY)
        check(os.pread(fd, 16384, 0) == data[:16384] and os.pread(fd, 100, 25000) == data[25000:25100], "the rest of it can be read")
        try:
            os.pread(fd, 100, 21000)
            check(False, "a lost block is not read")
        except OSError as error:
            check(error.errno == errno.EIO, f"it is EIO: {error}")
        os.close(fd)
        check(self.scrub()["unrepairable"] == 1, "the scrub counts it")
        told = subprocess.run([CAIRN, "fsck", "--json", "--data", cluster.data], text=True, capture_output=True, timeout=60, check=False)
        found = json.loads(told.stdout)["findings"]
        check(told.returncode == 1 and [(f["trouble"], f["path"], f["ranges"]) for f in found] == [("damaged", "/ruined", [[20480, 4096]])],
              f"fsck names it: {told.stdout}")
        os.unlink(path)
        eventually(lambda: self.scrub()["unrepairable"] == 0, "with the file it is gone", 60)
        check(cluster.status()["health"] == "ok", "healthy")

    def flipped_bytes(self, name):
        """Damage all over one store: every read is right, and a scrub finds and mends it."""
        cluster = self.cluster
        say(f"{name}: bytes flipped all over its data")
        files = {}
        pick = random.Random(7)
        for n in range(40):
            path = os.path.join(self.root, f"kept{n}")
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
        state = self.scrub()
        say(f"  scrub: {state['errors_found']} found, {state['errors_repaired']} repaired")
        check(state["errors_found"] == state["errors_repaired"] > 0, "all that was found was mended")
        check(cluster.status()["health"] == "ok", "healthy")
        all_right()


    def lost(self, name):
        """A disk is gone with all that it had; a new one takes its place."""
        cluster = self.cluster
        say(f"{name}: lost with its disk")
        osd = int(name.removeprefix("osd"))
        load = self.load()
        try:
            cluster.kill(name)
            shutil.rmtree(os.path.join(cluster.data, name))
            eventually(self.noticed, "the cluster notices", 30)
            cluster.admin("osd", "out", str(osd))
            cluster.up()  # makes an empty store, which is another OSD to the cluster
            eventually(self.whole, "everything has all its copies again", 180)
            cluster.admin("osd", "rm", str(osd))
        finally:
            load.end()
        check(cluster.status()["health"] == "ok", "healthy")

    def does_not_start(self, name):
        """`cairn up` without one of the OSDs: what serves is mounted, and it says what is wrong."""
        cluster = self.cluster
        say(f"{name}: does not start")
        path = os.path.join(self.root, "needed")
        with open(path, "wb") as f:
            f.write(b"n" * 300000)
        cluster.down()
        store, away = os.path.join(cluster.data, name), os.path.join(cluster.root, name + ".away")
        os.rename(store, away)
        with open(store, "wb") as f:
            f.write(b"no directory")
        told = cluster.up()
        check(f"{store}/block" in told and "but: 1 OSDs have not started" in told, f"it says so: {told}")
        eventually(self.noticed, "the cluster notices", 30)
        check(self.groups()["unavailable"] == 0, "the pool serves with fewer")
        with open(path, "rb") as f:
            check(f.read() == b"n" * 300000, "what it holds others have")
        cluster.down()
        os.unlink(store)
        os.rename(away, store)
        told = cluster.up()
        check("is healthy" in told, f"and with it all is well: {told}")
        check(cluster.status()["health"] == "ok", "healthy")
