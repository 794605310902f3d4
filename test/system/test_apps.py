#!/usr/bin/env python3
"""What people run: SQLite, git, fio with verification, dbench."""
import os
import sqlite3

from harness import Cluster, check, need, say, sh

need("git", "fio", "dbench")
SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

with Cluster("apps", osd_size="2GiB") as c:
    m = c.mount
    for mode in ("delete", "wal"):
        say(f"SQLite, a thousand transactions, journal_mode={mode}")
        db = sqlite3.connect(f"{m}/{mode}.db", isolation_level=None)
        check(db.execute(f"pragma journal_mode={mode}").fetchone()[0] == mode, f"SQLite takes {mode}")
        db.execute("create table t(i integer primary key, v blob)")
        for i in range(1000):
            db.execute("begin")
            db.execute("insert into t values(?, randomblob(500))", (i,))
            db.execute("commit")
        db.close()
        db = sqlite3.connect(f"{m}/{mode}.db")
        check(db.execute("select count(*), min(i), max(i) from t").fetchone() == (1000, 0, 999), "all rows are there")
        check(db.execute("pragma integrity_check").fetchone()[0] == "ok", "the database is sound")
        db.close()

    if os.path.isdir(f"{SOURCE}/.git"):
        say("git clone, gc, fsck")
        sh(f"git clone -q {SOURCE} {m}/clone && cd {m}/clone && git gc -q && git fsck --strict && git status --porcelain", timeout=300)
        check(sh(f"cd {m}/clone && git status --porcelain") == "", "a fresh clone is clean")

    say("fio, verified: buffered and direct, sequential and random, mmap")
    for name, extra in {"buffered": "--rw=randrw --bs=512-64k --ioengine=psync", "direct": "--rw=randwrite --bs=4k --direct=1 --ioengine=libaio --iodepth=16",
                        "sequential": "--rw=write --bs=1M --ioengine=psync", "mmap": "--rw=randwrite --bs=4k --ioengine=mmap"}.items():
        sh(f"fio --name={name} --directory={m} --size=64M --verify=crc32c --verify_fatal=1 --do_verify=1 --verify_state_save=0 --end_fsync=1 {extra}", timeout=300)

    say("dbench 4")
    loadfile = "/usr/share/dbench/client.txt"
    # dbench takes the semaphore with the number 0, the first of a machine, for none: it gets the second.
    out = sh(f"unshare --ipc sh -c 'ipcmk -S 1 && exec dbench -c {loadfile} -D {m} -t 10 4'", timeout=120)
    say(out.strip().splitlines()[-1])
    bad = [line for line in out.splitlines() if "fail" in line.lower() or "error" in line.lower()]
    check("Throughput" in out and not bad, f"dbench ran through: {bad[:5]}")
    check(c.status()["health"] == "ok", "and the cluster is well")
