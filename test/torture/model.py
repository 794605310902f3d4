#!/usr/bin/env python3
"""A model checker on real mounts: random operations through several mounts of one filesystem, each compared with an
in-memory model of POSIX (reference.py) before the next one begins. No sleep anywhere: what is not seen at once is a
difference. The first difference is shrunk to a short sequence, which is printed and can be replayed.

    model.py MOUNT MOUNT [MOUNT]          two or three mounts of one cluster
    model.py --local DIR                  the model itself, on a filesystem of this machine
    model.py MOUNT MOUNT --replay FILE    a sequence that was printed (from a file, or "-")
"""
import argparse
import ast
import collections
import fcntl
import os
import random
import shutil
import sys
import time

import syscalls
from driver import Checked, Difference
from generator import Data, Generator
from shrink import shrink

SEQUENCE = 1500  # operations in one fresh directory
REPLAYS = 5  # before a difference is said to depend on time


def features_of(mount):
    """What may differ between filesystems that are all right."""
    place = os.path.join(mount, f"probe-{os.getpid()}")
    os.mkdir(place)
    fd = os.open(place, os.O_RDONLY)
    try:
        os.mknod(os.path.join(place, "a"))
        a = os.open(os.path.join(place, "a"), os.O_RDWR)
        syscalls.range_lock(a, fcntl.F_OFD_SETLK, fcntl.F_WRLCK, 0, 0)
        ofd_told = syscalls.range_lock(a, fcntl.F_GETLK, fcntl.F_WRLCK, 0, 0)[3] == -1
        os.close(a)
        try:
            syscalls.renameat2(fd, "a", fd, "b", syscalls.RENAME_WHITEOUT)
            whiteout = True
        except OSError:
            whiteout = False
    finally:
        os.close(fd)
        shutil.rmtree(place)
    protected = {}
    for name in ("hardlinks", "symlinks", "regular", "fifos"):
        with open(f"/proc/sys/fs/protected_{name}", encoding="ascii") as f:
            protected[name] = int(f.read())
    return {"whiteout": whiteout, "protected": protected, "ofd_told": ofd_told}


class Model:
    def __init__(self, mounts, users=True, say=print):
        self.mounts, self.users, self.say = mounts, users, say
        self.features = features_of(mounts[0])
        self.directories = 0
        self.difference = None  # of the last replay that showed one
        self.done = collections.Counter()

    def fresh(self):
        self.directories += 1
        return Checked(self.mounts, f"model-{os.getpid()}-{self.directories}", self.features)

    def finish(self, checked):
        checked.driver.close_all()
        shutil.rmtree(os.path.join(self.mounts[0], checked.driver.name))

    def sequence(self, seed, length=SEQUENCE):
        """One sequence in a fresh directory. None, or the operations up to a difference and the difference."""
        dice = random.Random(seed)
        checked = self.fresh()
        generator = Generator(dice, checked.reference, len(self.mounts), self.users)
        ops = []
        try:
            for _ in range(length):
                op = generator.next()
                ops.append(op)
                if checked.step(op):
                    self.done[op[0]] += 1
            for mount in range(len(self.mounts)):
                ops.append(("all", mount, 0))
                checked.step(ops[-1])
        except Difference as e:
            return ops, str(e)
        finally:
            self.finish(checked)
        return None

    def replay(self, ops):
        """Until the first difference: the operations that did something, and the difference; None: there is none."""
        checked = self.fresh()
        used = []
        try:
            for op in ops:
                try:
                    if checked.step(op):
                        used.append(op)
                except Difference as e:
                    return used + [op], str(e)
            return None
        finally:
            self.finish(checked)

    def explain(self, seed, ops, difference, seconds=120):
        self.say(f"seed {seed}: after {len(ops)} operations: {ops[-1]!r}: {difference}")
        fails = self.replayed_until_it_fails(ops)
        if fails is None:
            self.say(f"  {REPLAYS} replays show no difference: it depends on time. The last operations:")
            ops = ops[-100:]
        else:
            ops = shrink(ops, fails, seconds, self.say)
            difference = self.difference
        self.say("a replay, for --replay:\n[")
        for op in ops:
            self.say(f"  {op!r},")
        self.say(f"]\n{difference}")

    def replayed_until_it_fails(self, ops):
        """For shrink(): replays a sequence as often as this one takes to show a difference."""
        def fails(rest, times):
            for i in range(times):
                found = self.replay(rest)
                if found:
                    self.difference = found[1]
                    return found[0], i + 1
            return None
        found = fails(ops, REPLAYS)
        if not found:
            return None
        if found[1] > 1:
            self.say(f"  depends on time: replay {found[1]} shows it again")
        times = 2 * found[1] - 1
        return lambda rest: (fails(rest, times) or [None])[0]

    def run(self, seed, operations=0, seconds=0, shrink_seconds=120):
        """Sequence after sequence until so many operations are done or the time is over. True: no difference."""
        begin, number = time.monotonic(), 0
        while (not operations or sum(self.done.values()) < operations) and (
                not seconds or time.monotonic() - begin < seconds):
            number += 1
            left = operations - sum(self.done.values()) if operations else SEQUENCE
            found = self.sequence(f"{seed}/{number}", min(SEQUENCE, left))
            if found:
                self.explain(f"{seed}/{number}", *found, shrink_seconds)
                return False
        total, took = sum(self.done.values()), time.monotonic() - begin
        self.say(f"model: seed {seed}, {number} sequences, {total} operations, {total / took:.0f} a second, no difference")
        return True


def read_ops(path):
    with (sys.stdin if path == "-" else open(path, encoding="utf-8")) as f:
        text = f.read()
    tree = ast.parse(text[text.index("["):text.rindex("]") + 1], mode="eval")
    return eval(compile(tree, path, "eval"), {"Data": Data, "__builtins__": {}})  # our own printout


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mounts", nargs="*", metavar="MOUNT")
    parser.add_argument("--local", metavar="DIR", help="give DIR as two mounts")
    parser.add_argument("--seed", default=str(random.randrange(1 << 32)))
    parser.add_argument("--ops", type=int, default=0, help="stop after so many operations")
    parser.add_argument("--seconds", type=float, default=0, help="stop after so long (60, if nothing else is said)")
    parser.add_argument("--sequence", action="store_true", help="--seed is that of one sequence: SEED/NUMBER")
    parser.add_argument("--no-users", action="store_true", help="as one user only")
    parser.add_argument("--replay", metavar="FILE")
    parser.add_argument("--shrink-seconds", type=float, default=120)
    args = parser.parse_args()
    mounts = [args.local, args.local] if args.local else args.mounts
    if not mounts:
        parser.error("where? Give mounts, or --local DIR")
    prepare()
    model = Model(mounts, users=os.geteuid() == 0 and not args.no_users)
    if args.replay:
        found = model.replay(read_ops(args.replay))
        print(f"after {len(found[0])} operations: {found[1]}" if found else "no difference")
        sys.exit(1 if found else 0)
    if args.sequence:
        found = model.sequence(args.seed)
        if found:
            model.explain(args.seed, *found, args.shrink_seconds)
        sys.exit(1 if found else 0)
    print(f"seed {args.seed}", flush=True)
    seconds = args.seconds or (0 if args.ops else 60)
    sys.exit(0 if model.run(args.seed, args.ops, seconds, args.shrink_seconds) else 1)


def prepare():
    """What the model takes for granted of this process."""
    os.umask(0)
    if os.geteuid() == 0:
        os.setgroups([])


if __name__ == "__main__":
    main()
