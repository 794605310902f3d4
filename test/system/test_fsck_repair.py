#!/usr/bin/env python3
"""`cairn fsck --repair` beside a mount that is at work: what is leaked is removed, what is lost is named and stays, and of the
files nothing is touched. In a pool of copies and in an erasure-coded one."""
import json
import mmap
import os
import random
import re
import subprocess

from harness import CAIRN, Cluster, check, eventually, fingerprint, same, say, sh, write
from osd_failures import Failures, Load

LOST = 12


class Repair:
    def __init__(self, cluster, pools=True):
        self.cluster = cluster
        if not pools:
            return
        self.roots = [os.path.join(cluster.mount, "copied"), os.path.join(cluster.mount, "striped")]
        for root in self.roots:
            os.mkdir(root)
        cluster.admin("pool", "create", "stripes", "--ec", "2+1")
        cluster.admin("layout", "set", self.roots[1], "--pool", "stripes")

    def fsck(self, *words):
        """Exit code and what it says; a repair waits for what it has asked for."""
        told = subprocess.run([CAIRN, "fsck", "--json", *words, "--data", self.cluster.data],
                              text=True, capture_output=True, timeout=240, check=False)
        try:
            return told.returncode, json.loads(told.stdout)
        except ValueError:
            raise AssertionError(f"fsck: exit {told.returncode}: {told.stdout}{told.stderr}") from None

    def expect_clean(self, *words):
        code, found = self.fsck(*words)
        check(code == 0 and found["clean"] and found["left"] == 0, f"nothing is found: {json.dumps(found, indent=1)}")
        return found

    def chunks(self, path):
        return [c["id"] for c in json.loads(self.cluster.cairn("stat", "--json", path))["chunks"]]

    def leak(self):
        """The OSDs come back with what they had before files were deleted; the metadata server does not."""
        cluster = self.cluster
        pick = random.Random(4)
        lost = [os.path.join(root, f"lost{n}") for root in self.roots for n in range(LOST)]
        for path in lost:
            write(path, pick.randbytes(pick.randrange(1, 600_000)))
        ids = sorted(i for path in lost for i in self.chunks(path))
        eventually(lambda: self.fsck()[1]["chunks_deleted"] == 0, "all that was deleted before is gone", 60)
        stored = self.expect_clean()["chunks_stored"]
        cluster.down()
        names = cluster.osd_names()
        for name in names:
            sh(["cp", "-a", "--sparse=always", os.path.join(cluster.data, name), os.path.join(cluster.root, name)])
        cluster.up()
        for path in lost:
            os.unlink(path)
        eventually(lambda: self.fsck()[1]["chunks_stored"] == stored - len(ids), "their space is given back", 60)
        cluster.down()
        for name in names:
            sh(["rm", "-rf", os.path.join(cluster.data, name)])
            sh(["mv", os.path.join(cluster.root, name), os.path.join(cluster.data, name)])
        cluster.up()
        eventually(self.cluster.whole, "everything is whole", 60)
        code, found = self.fsck()
        check(code == 1 and [(f["trouble"], f["chunk"]) for f in found["findings"]] == [("leaked", i) for i in ids],
              f"{ids} are leaked: {json.dumps(found, indent=1)}")
        check(all("repair" not in f for f in found["findings"]), "nothing is mended unasked")
        return ids, stored - len(ids)

    def ruin(self):
        """One block of a file is damaged in every copy, and a scrub has seen it."""
        path = os.path.join(self.roots[0], "ruined")
        data = random.Random(8).randbytes(64 << 10)
        write(path, data)
        holders = 0
        for name in self.cluster.osd_names():
            with open(os.path.join(self.cluster.data, name, "block"), "r+b") as f, mmap.mmap(f.fileno(), 0) as store:
                if (at := store.find(data[20480:24576])) > 0:
                    store[at + 9] ^= 1
                    store.flush()
                    holders += 1
        check(holders == 2, f"both copies are damaged: {holders}")
        check(Failures(self.cluster, self.roots[0], "default").scrub()["unrepairable"] == 1, "the scrub counts it")
        return path


def outcomes(found):
    return sorted((f["trouble"], f["chunk"], f["repair"]["done"]) for f in found["findings"])


with Cluster("fsck_repair", osds=3, replicas=2) as c:
    r = Repair(c)
    choose = random.Random(5)
    keepers = [os.path.join(root, "kept") for root in r.roots]
    for directory in keepers:
        os.mkdir(directory)
        for n in range(30):
            write(os.path.join(directory, str(n)), choose.randbytes(choose.randrange(1, 300_000)))
        os.unlink(os.path.join(directory, "7"))
    kept = [fingerprint(directory) for directory in keepers]
    say("some chunks are leaked")
    leaked, rest = r.leak()
    say("and one is lost")
    ruined = r.ruin()
    ruined_id = r.chunks(ruined)[0]

    say("repair, with files at work in both pools, and one that is deleted and open")
    loads = []
    for directory in r.roots:
        work = os.path.join(directory, "work")
        os.mkdir(work)
        loads.append(Load(c, work))
        eventually(lambda work=work: os.path.exists(os.path.join(work, "blocks0")), "the load has begun", 60)
    with open(os.path.join(r.roots[0], "gone"), "w+b") as f:
        f.write(b"g" * 100_000)
        f.flush()
        os.fsync(f.fileno())
        os.unlink(os.path.join(r.roots[0], "gone"))
        code, found = r.fsck("--repair")
        check(code == 1 and found["left"] == 1, f"one thing is left: {json.dumps(found, indent=1)}")
        check(outcomes(found) == sorted([("leaked", i, True) for i in leaked] + [("damaged", ruined_id, False)]),
              f"all that is leaked, and nothing else, is mended: {json.dumps(found, indent=1)}")
        named = next(f for f in found["findings"] if f["trouble"] == "damaged")
        check(named["path"] == "/copied/ruined" and named["ranges"] == [[20480, 4096]], f"what is lost is named: {named}")
        say("  and the metadata server is killed")
        c.kill("mds")
        c.up()
        f.seek(0)
        check(f.read() == b"g" * 100_000, "the deleted file is whole")
    code, found = r.fsck("--repair")
    check(code == 1 and outcomes(found) == [("damaged", ruined_id, False)], f"only what is lost is left: {found}")
    told = subprocess.run([CAIRN, "fsck", "--repair", "--data", c.data], text=True, capture_output=True, timeout=240, check=False)
    say("  " + told.stdout.strip().replace("\n", "\n  "))
    check(told.returncode == 1 and re.search(r"^damaged: /copied/ruined: .*bytes 20480 to 24575.*\n  not mended: ", told.stdout, re.M)
          and "1 findings, 1 not mended" in told.stdout, told.stdout)
    for load in loads:
        load.end()

    say("and when what is lost is given up, everything is clean")
    os.unlink(ruined)
    for directory in r.roots:
        sh(["rm", "-r", os.path.join(directory, "work")])
    r.expect_clean()
    eventually(lambda: r.fsck()[1]["chunks_stored"] == rest, "only what files have is stored", 60)
    r.expect_clean("--repair")
    for directory, before in zip(keepers, kept):
        same(before, fingerprint(directory), directory)
    c.down()
    c.check_stores()
    c.up()


def differing(found):
    return {(f["chunk"], f["pg"]): f["osds"] for f in found["findings"] if f["trouble"] == "differs"}


with Cluster("fsck_differs", osds=2, replicas=2, osd_size="512MiB") as c:
    say("one OSD is set back to what it was: members of a group differ")
    r = Repair(c, pools=False)
    c.down()
    sh(["cp", "-a", "--sparse=always", os.path.join(c.data, "osd2"), os.path.join(c.root, "osd2")])
    c.up()
    files = {os.path.join(c.mount, f"new{n}"): choose.randbytes(20_000) for n in range(300)}
    for path, data in files.items():
        with open(path, "wb") as f:
            f.write(data)
    os.sync()
    c.down()
    sh(["rm", "-rf", os.path.join(c.data, "osd2")])
    sh(["mv", os.path.join(c.root, "osd2"), os.path.join(c.data, "osd2")])
    c.up()
    eventually(c.whole, "everything is whole", 60)
    leaders = {}
    for path in files:
        for chunk in json.loads(c.cairn("stat", "--json", path))["chunks"]:
            leaders[chunk["id"]] = chunk["osds"][0]
    code, found = r.fsck("--repair")
    first = [f for f in found["findings"] if f["trouble"] == "differs"]
    mended = {f["chunk"] for f in first if f["repair"]["done"]}
    check(code == 1 and all(f["osds"] == [1] for f in first), f"what osd.2 lacks is found: {json.dumps(found, indent=1)}")
    check(mended == {f["chunk"] for f in first if leaders[f["chunk"]] == 1}, f"what osd.1 leads is mended: {first}")
    # None of osd.1's are left where osd.2 came so late that it had to catch up.
    check(len(mended) < len(first), f"what osd.2 leads is left: {len(mended)} of {len(first)} are mended")
    say(f"  {len(mended)} of {len(first)} are mended: the others osd.2 leads")
    code, again = r.fsck()
    check(differing(again) == {k: v for k, v in differing(found).items() if k[0] not in mended}, f"the others stay: {again}")
    for path, data in files.items():
        if all(leaders[i] == 1 for i in r.chunks(path)):
            with open(path, "rb") as f:
                check(f.read() == data, f"{path} is whole")
say("fsck has removed what was leaked, made equal what can be, and touched nothing else")
