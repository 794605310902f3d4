#!/usr/bin/env python3
"""One OSD is cut off from the MDS, from the other OSDs, or from a client: both ways and one way, under a load that checks every byte.

Two mounts work on files of their own, one in a pool of three copies and the other in one of two shards and parity, and both on
the same file. What is on the right side of a cut goes on, after a delay that has a limit; the mount that does not reach an OSD
waits for it. Nobody gets an error, a wrong byte or an old one, and all is whole when the cut has ended.
"""
import os
import time
import types

from harness import CAIRN_MDS, CAIRN_OSD, SANITIZED, check, eventually, need, say, sh, skip
from namespaces import Machines, Programs
from osd_failures import Load

OSDS = [f"osd{i}" for i in range(1, 5)]
CLIENTS = ["near", "far"]
# How long an operation may take while an OSD is cut off that the others can do without, which are given 5 s to answer each other, and are heard
# by the MDS before it judges. And while the MDS does not hear one, whose lease ends.
LONGEST = 30.0 if SANITIZED else 9.0
TAKEN_OVER = 25.0 if SANITIZED else 4.0
# From the end of a cut until all is whole: connections are tried again meanwhile.
WAKE = 60.0 if SANITIZED else 25.0
SHARED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "shared_load.py")


class SharedLoad(Load):
    """The load on one file through both mounts; at times it is one that could be mapped, and at times not."""

    def __init__(self, root, a, b, mode):
        self.begin(root, SHARED, a, b, *mode)


class Partition(Programs):
    def __init__(self, name):
        super().__init__(name, Machines(["mds", *OSDS, *CLIENTS]), CLIENTS)
        self.apart = False

    def up(self):
        self.start("mds", CAIRN_MDS, "--set", f"mds.data={self.root}/mds", "--set", f"mds.listen={self.mds}",
                   "--set", "mds.metrics_listen=")
        for osd in OSDS:
            self.start(osd, CAIRN_OSD, "--set", f"osd.data={self.root}/{osd}", "--set", f"osd.mds={self.mds}",
                       "--set", f"osd.listen={self.machines.address(osd)}:7410", "--set", f"osd.host={osd}",
                       "--set", "osd.size=512MiB", "--set", "osd.metrics_listen=")
        eventually(self.whole, "the cluster is healthy", 60)
        for client in CLIENTS:
            self.mount(client)
        self.cairn("pool", "create", "stripes", "--ec", "2+1")
        self.directories = {"near": os.path.join(self.mounts["near"], "copies"), "far": os.path.join(self.mounts["far"], "striped")}
        for d in self.directories.values():
            os.mkdir(d)
        self.cairn("layout", "set", self.directories["far"], "--pool", "stripes", beside="far")

    # ---- What is cut ----

    def ways(self, a, others, which):
        out = [(a, b) for b in others] if which != "to it" else []
        back = [(b, a) for b in others] if which != "from it" else []
        return out + back

    def cut(self, pairs, which, going_on):
        """Each of `pairs`: an OSD, and who it is cut off from. The cut ends when it was noticed and these loads have gone on since.
        Returns how long the longest operation of each load took, and how long the cut."""
        for osd, others in pairs:
            say(f"{osd} and {'the other OSDs' if len(others) > 1 else others[0]}: cut {which}")
        self.begin()
        ways = [way for osd, others in pairs for way in self.ways(osd, others, which)]
        for a, b in ways:
            self.machines.cut_one_way(a, b)
        for osd, others in pairs:
            for b in others:
                for way in ((osd, b), (b, osd)):
                    check(self.machines.reaches(*way) == (way not in ways), f"{way}: cut or not")
        began = time.monotonic()
        eventually(lambda: not self.whole(), "the cluster notices", LONGEST)
        for name in going_on:
            self.loads[name].works(seconds=LONGEST)
        lasted = time.monotonic() - began
        for a, b in ways:
            self.machines.heal_one_way(a, b)
        began = time.monotonic()
        for load in self.loads.values():
            load.works(seconds=WAKE)
        longest = self.end()
        eventually(self.whole, "everything is whole again", WAKE)
        say(f"  whole {time.monotonic() - began:.1f} s after the cut")
        return longest, lasted

    # ---- The load ----

    def begin(self):
        for name in (*CLIENTS, "shared"):
            os.makedirs(os.path.join(self.root, "load-" + name), exist_ok=True)
        self.loads = {c: Load(types.SimpleNamespace(root=os.path.join(self.root, "load-" + c)), self.directories[c])
                      for c in CLIENTS}
        self.apart = not self.apart
        self.loads["shared"] = SharedLoad(os.path.join(self.root, "load-shared"), *self.mounts.values(), ["apart"] if self.apart else [])
        for load in self.loads.values():
            load.works()

    def end(self):
        for load in self.loads.values():
            with open(load.stop_file, "wb"):
                pass
        return {name: load.end()["longest"] for name, load in self.loads.items()}

    # ---- The end ----

    def down(self):
        for client in CLIENTS:
            self.umount(client)
        self.cairn("fsck")  # which fails if it has something to say
        for program in (*OSDS, "mds"):
            self.stop(program)
        for osd in OSDS:
            out = sh([CAIRN_OSD, "--check", os.path.join(self.root, osd)], timeout=300)
            say(f"{osd}: {out.strip().splitlines()[-1]}")


need("ip", "nsenter")
if not os.path.exists("/dev/fuse"):
    skip("no /dev/fuse on this machine: modprobe fuse")
with Partition("partition") as c:
    for way in ("both ways", "to it", "from it"):
        # They go on without it. But shards of 2+1 may be needed until the cut ends: when the one that is cut off leads a group, and
        # has had one of the others taken out, it is one of the two that are left.
        longest, lasted = c.cut([("osd2", [o for o in OSDS if o != "osd2"])], way, ["near", "shared"])
        for load in ("near", "shared"):
            check(longest[load] < LONGEST, f"an operation took {longest[load]:.1f} s")
        check(longest["far"] < lasted + LONGEST, f"an operation took {longest['far']:.1f} s")
        # The mount that does not reach an OSD waits for it, and who shares a file with it may have to.
        longest, lasted = c.cut([("osd1", ["mds"]), ("osd3", ["near"])], way, ["far"])
        check(longest["far"] < TAKEN_OVER, f"an operation took {longest['far']:.1f} s")
        for load in ("near", "shared"):
            check(longest[load] < lasted + LONGEST, f"an operation took {longest[load]:.1f} s")
say("ok")
