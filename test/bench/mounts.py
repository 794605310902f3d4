#!/usr/bin/env python3
"""Runs the same work on one or more mounted directories in turn and prints each figure, and its ratio to the first directory's.

usage: test/bench/mounts.py [NAME=]DIR [[NAME=]DIR ...] [--mib N] [--files N] [--rounds N] [--only GROUP,...] [--json FILE]

Groups: seq rand small tree. Machines drift: every round runs all directories one after the other, the median of the rounds is shown, and
only the ratios mean anything. Root is needed to drop the page cache before the cold phases. Needs fio.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

GROUPS = ("seq", "rand", "small", "tree")


def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
        f.write("3")


def fio(root, mib, rw, block, depth, direct, seconds=0, extra=()):
    command = ["fio", "--name=bench", f"--filename={root}/big", f"--rw={rw}", f"--bs={block}", f"--iodepth={depth}",
               f"--ioengine={'libaio' if depth > 1 else 'psync'}", f"--direct={direct}", f"--size={mib}M", "--output-format=json", *extra]
    if seconds:
        command += [f"--runtime={seconds}", "--time_based"]
    r = subprocess.run(command, capture_output=True, text=True, check=False)
    if r.returncode != 0:
        sys.exit(f"fio failed on {root}: {r.stderr[-500:]}")
    return json.loads(r.stdout[r.stdout.index("{"):])["jobs"][0]


def sequential(root, mib, _files):
    yield "sequential write + fsync", fio(root, mib, "write", "1M", 1, 0, extra=["--end_fsync=1"])["write"]["bw"] / 1024, "MiB/s"
    drop_caches()
    yield "sequential read, cold", fio(root, mib, "read", "1M", 1, 0)["read"]["bw"] / 1024, "MiB/s"
    yield "sequential read, direct", fio(root, mib, "read", "1M", 1, 1)["read"]["bw"] / 1024, "MiB/s"


def random_io(root, mib, _files):
    if not os.path.exists(f"{root}/big"):
        fio(root, mib, "write", "1M", 1, 0, extra=["--end_fsync=1"])
    drop_caches()
    yield "4 KiB random read, depth 16", fio(root, mib, "randread", "4k", 16, 1, 5)["read"]["iops"], "IOPS"
    yield "4 KiB random read, depth 1", fio(root, mib, "randread", "4k", 1, 1, 5)["read"]["iops"], "IOPS"
    yield "4 KiB random write, depth 16", fio(root, mib, "randwrite", "4k", 16, 1, 5)["write"]["iops"], "IOPS"
    yield "4 KiB write + fdatasync", fio(root, mib, "randwrite", "4k", 1, 0, 5, ["--fdatasync=1"])["write"]["iops"], "IOPS"


def small_files(root, _mib, files):
    blob = os.urandom(4096)
    for i in range(32):
        os.makedirs(f"{root}/small/{i}", exist_ok=True)
    paths = [f"{root}/small/{i % 32}/{i}" for i in range(files)]

    def create(path):
        with open(path, "wb") as f:
            f.write(blob)

    def read(path):
        with open(path, "rb") as f:
            if f.read() != blob:
                sys.exit(f"{path}: wrong bytes")

    for name, action, cold in (("create", create, False), ("stat, cold", os.stat, True), ("read, cold", read, True), ("unlink", os.unlink, False)):
        if cold:
            drop_caches()
        start = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(action, paths, chunksize=16))
        yield f"4 KiB files: {name}", files / (time.monotonic() - start), "files/s"


def tree(root, _mib, _files):
    def timed(command):
        start = time.monotonic()
        subprocess.run(command, shell=True, check=True, stdout=subprocess.DEVNULL)
        return 1 / (time.monotonic() - start)

    yield "cp -a /usr/include", timed(f"cp -a /usr/include {root}/tree && sync -f {root}"), "1/s"
    drop_caches()
    yield "tar, cold", timed(f"tar cf - -C {root}/tree . | cat"), "1/s"
    yield "rsync, nothing changed", timed(f"rsync -a --delete /usr/include/ {root}/tree/"), "1/s"
    yield "rm -rf", timed(f"rm -rf {root}/tree"), "1/s"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("directories", nargs="+", metavar="[NAME=]DIR")
    p.add_argument("--mib", type=int, default=1024)
    p.add_argument("--files", type=int, default=4000)
    p.add_argument("--rounds", type=int, default=1)
    p.add_argument("--only", default=",".join(GROUPS))
    p.add_argument("--json")
    a = p.parse_args()
    wanted = a.only.split(",")
    if set(wanted) - set(GROUPS):
        p.error(f"--only takes {','.join(GROUPS)}")
    places = {}
    for text in a.directories:
        name, _, directory = text.rpartition("=")
        places[name or directory] = os.path.join(directory, "cairn-bench")
    figures, units = {}, {}
    for _ in range(a.rounds):
        for group, work in zip(GROUPS, (sequential, random_io, small_files, tree)):
            if group not in wanted:
                continue
            for name, root in places.items():
                os.makedirs(root, exist_ok=True)
                for figure, value, unit in work(root, a.mib, a.files):
                    figures.setdefault(figure, {}).setdefault(name, []).append(value)
                    units[figure] = unit
                    print(f"{name}: {figure}: {value:.2f} {unit}", file=sys.stderr, flush=True)
    for root in places.values():
        shutil.rmtree(root)
    first = next(iter(places))
    print(f"{'':30}" + "".join(f"{name[-22:]:>24}" for name in places))
    for figure, values in figures.items():
        medians = {name: statistics.median(v) for name, v in values.items()}
        row = "".join(f"{m:>14.1f}" + (f" ({m / medians[first]:5.2f} x)" if name != first else " " * 10) for name, m in medians.items())
        print(f"{figure:30}{row}  {units[figure]}")
    if a.json:
        with open(a.json, "w", encoding="utf-8") as f:
            json.dump({figure: {"unit": units[figure], "values": v} for figure, v in figures.items()}, f, indent=1)


if __name__ == "__main__":
    main()
