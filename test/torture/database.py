#!/usr/bin/env python3
"""One SQLite database, in processes on one or more mounts: database.py DIR [DIR ...] [--mode wal|delete] [--writers N] [--transactions N]

In wal mode the index of the log is memory that all processes map, and readers learn from it how far other mounts have written: what
it says must be there. Every transaction moves money between accounts and notes that it did; none may fail, none may get lost.
"""
import argparse
import os
import random
import sqlite3
import subprocess
import sys

ACCOUNTS, MONEY = 10, 100


def connect(path):
    return sqlite3.connect(path, timeout=60, isolation_level=None)


def write(path, writer, transactions):
    """What one process does; ends with an error if it finds something wrong."""
    pick = random.Random(writer)
    db = connect(path)
    for number in range(transactions):
        db.execute("begin immediate")
        giver, taker = pick.sample(range(ACCOUNTS), 2)
        db.execute("update account set money = money - 1 where id = ?", (giver,))
        db.execute("update account set money = money + 1 where id = ?", (taker,))
        db.execute("insert into done values(?, ?, randomblob(500))", (writer, number))
        db.execute("commit")
        total = db.execute("select sum(money) from account").fetchone()[0]
        if total != ACCOUNTS * MONEY:
            sys.exit(f"writer {writer}, transaction {number}: the accounts hold {total}")


def share(mounts, mode, writers, transactions, say=print):
    """Runs it; a list of what was wrong."""
    paths = [os.path.join(mount, f"shared-{mode}.db") for mount in mounts]
    for suffix in ("", "-wal", "-shm", "-journal"):
        if os.path.exists(paths[0] + suffix):
            os.unlink(paths[0] + suffix)
    db = connect(paths[0])
    problems = []
    if db.execute(f"pragma journal_mode={mode}").fetchone()[0] != mode:
        problems.append(f"journal_mode={mode} is not taken")
    db.execute("create table account(id integer primary key, money integer)")
    db.execute("create table done(writer integer, number integer, ballast blob)")
    db.executemany("insert into account values(?, ?)", [(i, MONEY) for i in range(ACCOUNTS)])
    db.close()
    command = [sys.executable, os.path.abspath(__file__), "--write"]
    running = [subprocess.Popen([*command, paths[i % len(paths)], str(i), str(transactions)], stderr=subprocess.PIPE, text=True)
               for i in range(writers)]
    for i, process in enumerate(running):
        _, said = process.communicate()
        if process.returncode != 0:
            problems.append(f"writer {i} on {mounts[i % len(mounts)]}: {said.strip().splitlines()[-1]}")
    for path in paths:
        db = connect(path)
        count = db.execute("select count(*), count(distinct writer * 1000000 + number), (select sum(money) from account) from done").fetchone()
        sound = db.execute("pragma integrity_check").fetchone()[0]
        db.close()
        if not problems and count != (writers * transactions, writers * transactions, ACCOUNTS * MONEY):
            problems.append(f"{path}: {count}")
        if sound != "ok":
            problems.append(f"{path}: {sound}")
    say(f"SQLite, journal_mode={mode}: {writers} writers on {len(mounts)} mount(s), {transactions} transactions each")
    return problems


if __name__ == "__main__":
    if sys.argv[1:2] == ["--write"]:
        write(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
        sys.exit(0)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mounts", nargs="+", metavar="DIR")
    parser.add_argument("--mode", choices=["wal", "delete"], default="wal")
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--transactions", type=int, default=150)
    options = parser.parse_args()
    wrong = share(options.mounts, options.mode, options.writers, options.transactions)
    print("\n".join(wrong) or "ok")
    sys.exit(1 if wrong else 0)
