#!/usr/bin/env python3
"""What clients feel while OSDs fail, and how fast what is lost is made again.

usage: test/bench/failures.py BUILD-DIR [stalls] [power] [rebuild] [seventh] [--kind copies|stripes] [--rounds N] [--mib N]

stalls    one OSD of three copies, two of 4+2: SIGKILL, SIGSTOP, under fio --verify and small files. The longest stall of any
          operation, for each round, and their median.
power     all OSDs are killed in the middle of a load, N rounds; every store is checked after each.
rebuild   an OSD is lost with its disk: the rate at which it is made again with nobody there and beside a client, the part of its
          throughput that is left to the client, and what the disk gives to plain copying.
seventh   an OSD is added to six: what any of them comes to hold more, in units of the least that has to move.

Six OSDs on one disk, on a mount of their own. All but ratios and stalls depends on the machine. Needs fio and an optimised build.
"""
import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
from harness import Cluster, alive, check, eventually, need, say  # pylint: disable=wrong-import-position
from osd_failures import Failures, Load  # pylint: disable=wrong-import-position

KINDS = {"copies": (["--replicas", "3"], 1), "stripes": (["--ec", "4+2", "--min-size", "4"], 2)}


def fio(root, name, *options):
    return ["fio", f"--name={name}", f"--filename={root}/{name}", "--output-format=json", *options]


class Verified:
    """fio that verifies what it wrote, again and again until it is ended."""

    def __init__(self, root):
        self.command = fio(root, "verified", "--rw=randwrite", "--bs=16k", "--size=48M", "--direct=1", "--ioengine=libaio", "--iodepth=8",
                           "--verify=crc32c", "--verify_fatal=1", "--do_verify=1", "--verify_state_save=0")
        self.begin()
        self.longest = 0.0

    def begin(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True)

    def ended(self):
        out, _ = self.process.communicate(timeout=300)
        check(self.process.returncode == 0, f"fio --verify failed: {out[-2000:]}")
        job = json.loads(out[out.index("{"):])["jobs"][0]
        self.longest = max(self.longest, *(job[way]["clat_ns"]["max"] / 1e9 for way in ("read", "write")))

    def keep_on(self):
        if self.process.poll() is not None:
            self.ended()
            self.begin()
        return self

    def end(self):
        self.ended()
        return self.longest


def pool_of(cluster, kind):
    redundancy, may_fail = KINDS[kind]
    cluster.cairn("pool", "create", kind, *redundancy, "--data", cluster.data)
    root = os.path.join(cluster.mount, kind)
    os.mkdir(root)
    cluster.cairn("layout", "set", root, "--pool", kind)
    return Failures(cluster, root, kind), may_fail


def stalls(kind, rounds, _mib):
    with Cluster("bench_stalls", osds=6, osd_size="2GiB") as cluster:
        osds, may_fail = pool_of(cluster, kind)
        names = cluster.osd_names()
        for how in (signal.SIGKILL, signal.SIGSTOP):
            felt = []
            for n in range(rounds):
                victims = [names[(n + i * 3) % len(names)] for i in range(may_fail)]
                pids = [cluster.pid(name) for name in victims]
                verified, load = Verified(osds.root), osds.load()
                load.works(200)
                for name in victims:
                    cluster.kill(name, how)
                eventually(lambda v=verified: v.keep_on() and osds.noticed(), "the cluster notices", 30)
                if how == signal.SIGSTOP:
                    for pid in pids:
                        os.kill(pid, signal.SIGCONT)
                else:
                    cluster.up()
                eventually(lambda v=verified: v.keep_on() and osds.whole(), "everything is whole again", 180)
                felt.append(max(verified.end(), load.end()["longest"]))
                check(cluster.status()["health"] == "ok", "healthy again")
            say(f"{kind}, {may_fail} OSD(s), {how.name}: longest stalls {', '.join(f'{s:.2f}' for s in felt)} s, median {statistics.median(felt):.2f} s")


def power(kind, rounds, _mib):
    with Cluster("bench_power", osds=6, osd_size="1GiB") as cluster:
        osds, _ = pool_of(cluster, kind)
        for n in range(rounds):
            load = osds.load()
            try:
                load.works(100 * (1 + n % 4))
                pids = [cluster.pid(name) for name in cluster.osd_names()]
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)
                eventually(lambda p=pids: not any(alive(pid) for pid in p), "all have ended")
                cluster.check_stores()
                cluster.up()
                eventually(osds.whole, "everything is whole again", 120)
            finally:
                load.end()
            check(cluster.status()["health"] == "ok", "healthy again")
            say(f"{kind}: round {n + 1} of {rounds}: nothing acknowledged was lost")
        cluster.cairn("fsck", "--data", cluster.data)
        cluster.down()
        cluster.check_stores()
        cluster.up()


def fill(root, mib, each=4096):
    """Files of so many KiB: placement is even only where there are many chunks."""
    data = os.urandom(each << 10)
    for n in range((mib << 10) // each):
        os.makedirs(f"{root}/data{n // 1000}", exist_ok=True)
        with open(f"{root}/data{n // 1000}/{n}", "wb") as f:
            f.write(data)
    os.sync()


def stored_by(cluster, mib, times):
    """Bytes, by OSD. They say what they hold with their next heartbeat: so often must it be there."""
    def stored():
        used = {o["id"]: o["bytes_used"] for o in cluster.status()["osds"]}
        return sum(used.values()) >= (mib << 20) * times and used

    return eventually(stored, "all of it is counted")


def copying(root, mib):
    """What the disk below gives to as many readers and writers at once, MiB/s read and written."""
    os.makedirs(root)
    jobs = [f"--directory={root}", f"--size={mib}M", "--bs=1M", "--direct=1", "--ioengine=libaio", "--iodepth=4", "--runtime=6", "--time_based"]
    subprocess.run(["fio", "--name=from", f"--filename={root}/from", "--rw=write", "--bs=1M", f"--size={mib}M", "--direct=1"], check=True, capture_output=True)
    out = subprocess.run(["fio", "--output-format=json", "--name=read", "--rw=read", f"--filename={root}/from", *jobs,
                          "--name=write", "--rw=write", f"--filename={root}/to", *jobs], check=True, capture_output=True, text=True).stdout
    read, write = json.loads(out[out.index("{"):])["jobs"]
    shutil.rmtree(root)
    return read["read"]["bw"] / 1024, write["write"]["bw"] / 1024


def client_rate(root, seconds):
    out = subprocess.run(fio(root, "client", "--rw=randrw", "--bs=64k", "--size=256M", "--direct=1", "--ioengine=libaio", "--iodepth=8",
                             "--time_based", f"--runtime={seconds}"), check=True, capture_output=True, text=True).stdout
    job = json.loads(out[out.index("{"):])["jobs"][0]
    return (job["read"]["bw"] + job["write"]["bw"]) / 1024


def lose(cluster, osds, osd):
    """For good, with its disk; others have taken over. What was stored there, in MiB: it has to be made again."""
    stored = next(o["bytes_used"] for o in cluster.status()["osds"] if o["id"] == osd)
    cluster.kill(f"osd{osd}")
    shutil.rmtree(os.path.join(cluster.data, f"osd{osd}"))
    client_rate(osds.root, 4)
    cluster.admin("osd", "out", str(osd))
    return stored / (1 << 20)


def rebuild(kind, _rounds, mib):
    with Cluster("bench_rebuild", osds=8, osd_size="3GiB") as cluster:
        osds, _ = pool_of(cluster, kind)
        fill(osds.root, mib * {"copies": 1, "stripes": 2}[kind])  # as much on each OSD
        read, write = copying(os.path.join(cluster.root, "raw"), 512)
        say(f"{kind}: the disk reads {read:.0f} and writes {write:.0f} MiB/s at once")
        stored_by(cluster, mib, 3)
        lost, began = lose(cluster, osds, 2), time.monotonic()
        eventually(osds.whole, "everything has all its copies again", 600)
        took = time.monotonic() - began
        say(f"{kind}: alone: {lost:.0f} MiB in {took:.1f} s: {lost / took:.0f} MiB/s made")
        alone = client_rate(osds.root, 8)
        lost, began = lose(cluster, osds, 3), time.monotonic()
        beside, whole = [], False
        while not whole:
            beside.append(client_rate(osds.root, 2))
            whole = osds.whole()
        took = time.monotonic() - began
        rates = ", ".join(f"{rate / alone:.2f}" for rate in beside)
        say(f"{kind}: beside a client: {lost:.0f} MiB in {took:.1f} s: {lost / took:.0f} MiB/s made; it had {alone:.0f} MiB/s alone, and of that {rates}")


def seventh(kind, _rounds, mib):
    with Cluster("bench_seventh", osds=6, osd_size="4GiB") as cluster:
        osds, _ = pool_of(cluster, kind)
        fill(osds.root, mib, 256)

        before = stored_by(cluster, mib, {"copies": 3, "stripes": 1.5}[kind])
        cluster.cairn("osd", "add", "--data", cluster.data)
        eventually(lambda: len(cluster.status()["osds"]) == 7 and not osds.whole(), "it begins", 60)
        eventually(osds.whole, "all is where it belongs", 600)
        least = sum(before.values()) / 7
        moved = sum(max(0, used - before.get(osd, 0)) for osd, used in stored_by(cluster, mib, 0).items())
        say(f"{kind}: {sum(before.values()) >> 20} MiB stored, the least to move {least / (1 << 20):.0f} MiB, moved {moved >> 20} MiB: {moved / least:.2f} of it")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("what", nargs="*", choices=["stalls", "power", "rebuild", "seventh", []])
    parser.add_argument("--kind", choices=list(KINDS), action="append")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mib", type=int, default=2048)
    options = parser.parse_args()
    need("fio")
    for what in options.what or ["stalls", "power", "rebuild", "seventh"]:
        for kind in options.kind or KINDS:
            globals()[what](kind, options.rounds, options.mib)


main()
