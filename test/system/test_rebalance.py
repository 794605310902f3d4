#!/usr/bin/env python3
"""While rebalancing is paused nothing moves to an OSD that is new, and what a lost one held is made again; then it moves."""
import json
import os
import random

from harness import Cluster, check, eventually, fingerprint, same, say, write


class Paused:
    def __init__(self, cluster):
        self.cluster = cluster

    def groups(self):
        return self.cluster.status()["pools"][0]["pgs"]

    def places(self):
        """Which OSDs hold the chunks of each file."""
        out = {}
        for name in sorted(os.listdir(self.cluster.mount)):
            file = json.loads(self.cluster.cairn("stat", "--json", os.path.join(self.cluster.mount, name)))
            out[name] = [sorted(chunk["osds"]) for chunk in file["chunks"]]
        return out

    def unmoved(self, before, but=()):
        """All that did not lie on one of these is where it was; says how much lies elsewhere."""
        now = self.places()
        moved = {name for name, chunks in before.items() if chunks != now[name]}
        held = {name for name, chunks in before.items() if any(osd in chunk for chunk in chunks for osd in but)}
        check(moved <= held, f"moved without need: {sorted(moved - held)}")
        return moved, held

    def says_so(self):
        check(self.cluster.status()["rebalance_paused"], "the status says it")
        check("moves    paused" in self.cluster.admin("status"), "in words, too")


with Cluster("rebalance", osds=3, replicas=2) as c:
    p = Paused(c)
    pick = random.Random(3)
    for n in range(80):
        write(os.path.join(c.mount, f"kept{n}"), pick.randbytes(200_000))
    kept = fingerprint(c.mount)
    eventually(c.whole, "all copies are there", 60)
    placed = p.places()
    check(not c.status()["rebalance_paused"], "it is not paused unless somebody says so")

    say("paused, and an OSD more")
    c.admin("osd", "rebalance", "pause")
    p.says_so()
    c.admin("osd", "add")
    eventually(lambda: sum(o["up"] for o in c.status()["osds"]) == 4, "the new one is up", 60)
    check(c.whole(), f"nothing is on its way: {p.groups()}")
    p.unmoved(placed)
    say("  and the metadata server is killed")
    c.kill("mds")
    c.up()
    p.says_so()
    check(c.whole(), f"nothing is on its way: {p.groups()}")
    for n in range(20):
        write(os.path.join(c.mount, f"more{n}"), pick.randbytes(100_000))
    kept = fingerprint(c.mount)
    placed = p.places()
    check(all(4 not in chunk for chunks in placed.values() for chunk in chunks), "nothing lies on the new one")
    c.admin("osd", "out", "1")
    check(c.whole(), "an OSD that is out and serves keeps what it has")
    p.unmoved(placed)
    c.admin("osd", "in", "1")

    say("  and an OSD is lost")
    c.kill("osd2")
    eventually(lambda: p.groups()["degraded"] > 0, "the cluster notices", 30)
    c.admin("osd", "out", "2")
    eventually(c.whole, "everything has its copies again", 120)
    moved, held = p.unmoved(placed, but=[2])
    check(moved == held and moved, f"all that it held is elsewhere, and nothing else moved: {len(moved)} of {len(held)}")
    say(f"  {len(moved)} of {len(placed)} files were made whole")
    c.up()
    eventually(lambda: all(o["up"] for o in c.status()["osds"]), "it is back", 60)
    c.admin("osd", "in", "2")
    check(c.whole(), f"nothing moves back: {p.groups()}")
    healed = p.places()
    p.unmoved(healed)

    say("resumed")
    c.admin("osd", "rebalance", "resume")
    check(not c.status()["rebalance_paused"], "it is not paused any more")
    eventually(lambda: c.whole() and p.places() != healed, "data has moved", 180)
    check(any(2 in chunk for chunks in p.places().values() for chunk in chunks), "it takes its share again")
    same(kept, fingerprint(c.mount), "files")
    c.admin("fsck", "--repair")  # which waits until what has moved is removed where it was
say("data moves when it may, and what is missing is made at once")
