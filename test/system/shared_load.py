#!/usr/bin/env python3
"""A load on one file through two mounts: shared_load.py DIRECTORY DIRECTORY [apart] STOP-FILE

Each 4 KiB slot holds one number, repeated, which only grows. Each mount has threads that write (and sync) and threads that
read. A read returns a whole slot, or one that is being written on the same mount; a number that is not older than what was
acknowledged before the read began, or what any read had returned before; and none that nobody has written. Linux shows what a
write brings to readers of the same machine before it asks anybody: what they read of one that has just begun does not count as
returned. With "apart" nobody has the file open for reading and writing at once: then it cannot be mapped to be written, and its
pages are in several mounts together. Prints what failure_load.py does, and of a slot with a wrong number what had become of its last operations.
"""
import collections
import os
import random
import struct
import sys
import threading
import time

from load_report import Report

SLOTS, BYTES = 8, 4096
JUST_BEGUN = 0.1  # seconds: how long a thread that read too early may be kept from reading on a busy machine
first, second, *apart, stop_file = sys.argv[1:]
slots = [{"begun": 0, "seen": 0, "writing": False, "writer": "", "since": 0.0, "last": collections.deque(maxlen=12)} for _ in range(SLOTS)]
report = Report(stop_file)
lock, timed = report.lock, report.timed


def write(fd, n, number):
    os.pwrite(fd, struct.pack("Q", number) * (BYTES // 8), n * BYTES)
    os.fdatasync(fd)
    return True


def work(directory, seed):
    pick = random.Random(seed)
    path = os.path.join(directory, "slots")
    to = os.open(path, (os.O_WRONLY if apart else os.O_RDWR) | os.O_CREAT)
    fd = os.open(path, os.O_RDONLY) if apart else os.dup(to)
    where = os.path.basename(directory)
    while not os.path.exists(stop_file):
        n = pick.randrange(SLOTS)
        slot = slots[n]
        with lock:
            writes = pick.random() < 0.5 and not slot["writing"]
            if writes:
                slot["writing"] = True
                slot["begun"] += 1
                slot["writer"] = where
            number, least = slot["begun"], slot["seen"]
            began = time.monotonic()
            if writes:
                slot["since"] = began
                slot["last"].append(f"{began:.4f} {where} writes {number}")
        if writes:
            done = timed(f"write and fdatasync of a shared slot on {where}", lambda: write(to, n, number))
            with lock:
                slot["writing"] = False
                slot["last"].append(f"{time.monotonic():.4f} {where} has written {number}")
                if done:
                    slot["seen"] = max(slot["seen"], number)
            continue
        data = timed(f"read of a shared slot on {where}", lambda: os.pread(fd, BYTES, n * BYTES))
        if data is None or (not data and least == 0):
            continue
        got = set(struct.unpack(f"{len(data) // 8}Q", data))
        with lock:
            slot["last"].append(f"{time.monotonic():.4f} {where} has read {sorted(got)[:4]}, asked {began:.4f}")
            # Linux lets a read and a write of one machine meet in a page; those of two never do.
            here = slot["writer"] == where and max(got, default=0) == slot["begun"]
            torn = len(got) != 1 and not here
            if not got or torn or not least <= min(got) <= slot["begun"]:
                report.wrong(f"slot {n} on {where}: {sorted(got)[:4]}, not in {least}..{slot['begun']}: {list(slot['last'])}")
            elif not (here and slot["writing"] and began < slot["since"] + JUST_BEGUN):
                slot["seen"] = max(slot["seen"], min(got))
    os.close(fd)
    os.close(to)


for existing in (first, second):
    path = os.path.join(existing, "slots")
    if os.path.exists(path):
        os.unlink(path)
threads = [threading.Thread(target=work, args=(d, n)) for n, d in enumerate((first, second, first, second))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
report.say()
