#!/usr/bin/env python3
"""kill -9 of each daemon in turn, under load: nothing that was fsynced is lost, and the mount goes on without a remount."""
import hashlib
import os
import threading

from harness import Cluster, check, say

ROUNDS = 2


class Writer(threading.Thread):
    """Writes and fsyncs numbered files, appends fsynced lines to one log, renames; remembers what was acknowledged."""

    def __init__(self, root):
        super().__init__()
        self.root, self.stop, self.error = root, threading.Event(), None
        self.files, self.lines, self.progress = {}, [], 0

    def run(self):
        try:
            with open(f"{self.root}/log", "ab", buffering=0) as log:
                while not self.stop.is_set():
                    n = self.progress
                    data = os.urandom(1 + (n * 7919) % 300000)
                    with open(f"{self.root}/tmp", "wb") as f:
                        f.write(data)
                        f.flush()
                        os.fsync(f.fileno())
                    os.rename(f"{self.root}/tmp", f"{self.root}/f{n}")
                    self.files[f"f{n}"] = hashlib.sha256(data).hexdigest()
                    log.write(b"line %d\n" % n)
                    os.fdatasync(log.fileno())
                    self.lines.append(b"line %d\n" % n)
                    self.progress = n + 1
        except Exception as e:  # told to the main thread  pylint: disable=broad-except
            self.error = e

    def verify(self):
        with open(f"{self.root}/log", "rb") as f:
            have = f.read().splitlines(keepends=True)
        check(have[:len(self.lines)] == self.lines, "a line that was fsynced is lost or wrong")
        for name, digest in self.files.items():
            with open(f"{self.root}/{name}", "rb") as f:
                check(hashlib.file_digest(f, "sha256").hexdigest() == digest, f"{name}: not what was fsynced")


with Cluster("kill") as c:
    device = os.stat(c.mount).st_dev
    writer = Writer(c.mount)
    writer.start()

    def advances(count, seconds=60):
        from harness import eventually
        goal = writer.progress + count
        eventually(lambda: writer.progress >= goal or writer.error, f"the writer goes on from {writer.progress}", seconds)
        check(writer.error is None, f"an operation failed: {writer.error!r}")

    for round_number in range(ROUNDS):
        for name in ["mds"] + c.osd_names():
            advances(20)
            say(f"round {round_number + 1}: kill -9 {name} after {writer.progress} files")
            c.kill(name)
            c.up()
            advances(20)
    writer.stop.set()
    writer.join()
    check(writer.error is None, f"an operation failed: {writer.error!r}")
    check(os.stat(c.mount).st_dev == device, "the mount is still the same one")
    writer.verify()

    say("all daemons at once, and the client with them")
    names = ["mount", "mds"] + c.osd_names()
    for name in names:
        c.kill(name)
    c.up()
    writer.verify()
    check(c.status()["health"] == "ok", "the cluster is healthy again")
    c.down()
    c.check_stores()
