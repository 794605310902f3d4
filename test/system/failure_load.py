#!/usr/bin/env python3
"""A load that knows what it wrote, and how long it was made to wait: failure_load.py ROOT STOP-FILE

Small files that are written, synced and read again; 4 KiB blocks of a large file that are written, synced and read past the
kernel's cache. Runs until STOP-FILE exists, checks everything once more and prints one line of JSON:
{"operations": N, "longest": SECONDS, "of": NAME, "wrong": [...], "errors": [...]}.
"""
import os
import random
import sys
import threading

from load_report import Report

root, stop_file = sys.argv[1:]
report = Report(stop_file)
timed = report.timed


def running():
    return not os.path.exists(stop_file)


def write_file(path, data):
    with open(path, "wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())


def read_file(path):
    with open(path, "rb") as f:
        return f.read()


def small_files(number):
    pick = random.Random(number)
    directory = f"{root}/small{number}"
    os.makedirs(directory, exist_ok=True)
    written = {}
    n = 0
    while running():
        path = f"{directory}/{n % 100}"
        data = pick.randbytes(pick.randrange(1, 20000))
        timed("write and fsync of a small file", lambda p=path, d=data: write_file(p, d))
        written[path] = data
        if timed("read of a small file", lambda p=path: read_file(p)) not in (data, None):
            report.wrong(path)
        n += 1
    for path, data in written.items():
        if read_file(path) != data:
            report.wrong(path + " in the end")


def blocks(number):
    pick = random.Random(1000 + number)
    written = {}
    fd = os.open(f"{root}/blocks{number}", os.O_RDWR | os.O_CREAT)

    def write(block, data):
        os.pwrite(fd, data, block * 4096)
        os.fdatasync(fd)

    while running():
        block, data = pick.randrange(20000), pick.randbytes(4096)
        timed("pwrite and fdatasync", lambda b=block, d=data: write(b, d))
        written[block] = data
        other = pick.choice(list(written))
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        if timed("pread", lambda b=other: os.pread(fd, 4096, b * 4096)) not in (written[other], None):
            report.wrong(f"block {other}")
    for block, data in written.items():
        if os.pread(fd, 4096, block * 4096) != data:
            report.wrong(f"block {block} in the end")
    os.close(fd)


threads = [threading.Thread(target=work, args=(n,)) for work in (small_files, blocks) for n in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
report.say()
