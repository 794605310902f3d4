#!/usr/bin/env python3
"""File locks between two mounts of one filesystem: flock, POSIX and OFD locks, as on one machine.

The processes that lock are agents (lock_agent.py). Whoever waits is known to wait when the kernel says that its system call
sleeps and a request that its mount was given later has been answered.
"""
import atexit
import fcntl
import os
import select
import signal
import sqlite3
import subprocess
import sys
import threading
import time

from harness import CAIRN, Cluster, alive, check, eventually, need, say, sh

need("flock")
AGENT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lock_agent.py")
WAKE = 1.0  # seconds from an unlock to the end of the wait: a push and an answer, on a loaded machine
AT_ONCE = 30.0  # for what needs no timer, whatever the machine is busy with
EXPIRY = 20.0  # map lease and a quarter, twice, and the machine's slowness
F_SETLKW, FLOCK = 72, 73  # system calls

barriers = {}  # an agent on each mount that takes no locks


class Agent:
    def __init__(self, mount, path="f"):
        self.mount = mount
        self.process = subprocess.Popen([sys.executable, AGENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if path:
            self("open", "f", os.path.join(mount, path))

    def start(self, *words):
        self.process.stdin.write((" ".join(map(str, words)) + "\n").encode())
        self.process.stdin.flush()

    def answer(self, seconds=AT_ONCE):
        """The result, and when it was there."""
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        check(ready, f"an agent on {self.mount} answers within {seconds} s")
        words = self.process.stdout.readline().split()
        check(len(words) == 2, f"an agent on {self.mount} has ended")
        return words[0].decode(), float(words[1])

    def silent(self):
        return not select.select([self.process.stdout], [], [], 0)[0]

    def __call__(self, *words):
        self.start(*words)
        return self.answer()[0]

    def waits(self, *words):
        """Starts a request that has to wait; returns when it does."""
        self.start(*words, "wait")

        def asleep():
            with open(f"/proc/{self.process.pid}/syscall", encoding="ascii") as f:
                call = f.read().split()[0]
            with open(f"/proc/{self.process.pid}/stat", encoding="utf-8") as f:
                state = f.read().rsplit(")", 1)[1].split()[0]
            return not self.silent() or (call in (str(F_SETLKW), str(FLOCK)) and state in "SD")
        eventually(asleep, "the request sleeps")
        if self.mount not in barriers:
            barriers[self.mount] = Agent(self.mount, "barrier")
        other = barriers[self.mount]
        check(other("test", "f", "w") == "free", "the mount's requests are answered in order")
        check(self.silent(), f"{words} waits")

    def end(self, how=signal.SIGKILL):
        self.process.send_signal(how)
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *what):
        if self.process.poll() is None:
            self.end()


def wakes(waiter, since, what, within=WAKE):
    result, at = waiter.answer()
    check(result == "ok", f"{what}: {result}")
    check(at - since < within, f"{what}: after {at - since:.3f} s")
    return at - since


def conflicts(a, b):
    """Conflicts, both ways, in each space; reads go side by side; unlocking the middle; what is in the way is told."""
    for one, other in ((a, b), (b, a)):
        with Agent(one) as x, Agent(other) as y:
            for kind in ("posix", "ofd"):
                check(x(kind, "f", "w", 10, 10) == "ok", "first")
                check(y(kind, "f", "w", 19, 1) == "EAGAIN" and y(kind, "f", "r", 0, 0) == "EAGAIN", "in the way")
                check(y(kind, "f", "w", 0, 10) == "ok" and y(kind, "f", "w", 20, 0) == "ok", "beside it")
                check(x(kind, "f", "u", 12, 3) == "ok", "the middle goes")
                check(y(kind, "f", "w", 12, 3) == "ok", "and is free")
                check(y(kind, "f", "r", 11, 1) == "EAGAIN" and y(kind, "f", "r", 15, 1) == "EAGAIN", "its edges are not")
                check(x("test", "f", "w", 0, 0).startswith("w:0:10:") or kind == "ofd", "the first in the way")
                check(y(kind, "f", "u") == "ok" and x(kind, "f", "u") == "ok", "all unlocked")
                check(x(kind, "f", "r") == "ok" and y(kind, "f", "r", 5, 5) == "ok", "readers go together")
                check(x(kind, "f", "w", 4, 2) == "EAGAIN" and x(kind, "f", "w", 0, 5) == "ok", "raised where nobody reads")
                check(y(kind, "f", "u") == "ok" and x(kind, "f", "u") == "ok", "all unlocked")
            check(x("flock", "f", "ex") == "ok", "flock")
            check(y("flock", "f", "sh") == "EAGAIN", "in the way")
            check(y("posix", "f", "w") == "ok", "ranges are another space")
            check(x("test", "f", "w") == "w:0:0:0", "the holder is of another mount: no process id")
            check(x("flock", "f", "sh") == "ok" and y("flock", "f", "sh") == "ok", "lowered, shared")
            check(x("flock", "f", "ex") == "EAGAIN", "not raised")
            check(y("flock", "f", "un") == "ok" and x("flock", "f", "ex") == "ok", "alone again")
            with Agent(one) as z:
                check(x("posix", "f", "w", 0, 5) == "EAGAIN" and y("posix", "f", "u") == "ok", "unlocked")
                check(x("posix", "f", "w", 0, 5) == "ok", "taken")
                check(z("test", "f", "r") == f"w:0:5:{x.process.pid}", "the holder of the same mount is told")
                check(z("ofdtest", "f", "r") == "w:0:5:-1", "and to the asker of an OFD lock, not")
                check(z("ofd", "f", "r") == "EAGAIN", "OFD and POSIX locks see each other")


def directories(a, b):
    """flock of a directory is served by each kernel for itself, as cairn-posix(7) says."""
    fds = [os.open(d, os.O_RDONLY | os.O_DIRECTORY) for d in (a, a, b)]
    fcntl.flock(fds[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        fcntl.flock(fds[1], fcntl.LOCK_EX | fcntl.LOCK_NB)
        check(False, "excluded on the same mount")
    except BlockingIOError:
        pass
    fcntl.flock(fds[2], fcntl.LOCK_EX | fcntl.LOCK_NB)
    for fd in fds:
        os.close(fd)


def waiting(a, b):
    """A wait ends when the lock is free, at once."""
    worst = 0.0
    for i in range(20):
        one, other = (a, b) if i % 2 else (b, a)
        with Agent(one) as x, Agent(other) as y:
            for take, drop in ((("posix", "f", "w", 3, 4), ("posix", "f", "u")), (("ofd", "f", "w"), ("ofd", "f", "u")),
                               (("flock", "f", "ex"), ("flock", "f", "un"))):
                check(x(*take) == "ok", "taken")
                y.waits(*take)
                now = time.monotonic()
                check(x(*drop) == "ok", "given up")
                worst = max(worst, wakes(y, now, "the waiter wakes"))
                check(x(*take) == "EAGAIN", "it has it")
                check(y(*drop) == "ok", "given up")
    say(f"  the slowest of 60 took {worst * 1000:.1f} ms")
    with Agent(a) as x, Agent(b) as y, Agent(a) as z:
        check(x("posix", "f", "w") == "ok", "taken")
        y.waits("posix", "f", "r", 0, 10)
        z.waits("posix", "f", "r", 5, 10)
        now = time.monotonic()
        check(x("posix", "f", "r") == "ok", "lowered")
        wakes(y, now, "one reader")
        wakes(z, now, "the other reader")


def deadlocks(a, b):
    """A circle of waits, of two and of three mounts' processes, over two files, is refused."""
    with Agent(a) as x, Agent(b) as y, Agent(a) as z:
        for agent, mount in ((x, a), (y, b), (z, a)):
            agent("open", "g", f"{mount}/g")
        check(x("posix", "f", "w", 0, 1) == "ok" and y("posix", "g", "w", 0, 1) == "ok", "each has one")
        x.waits("posix", "g", "w", 0, 1)
        check(y("posix", "f", "w", 0, 1, "wait") == "EDEADLK", "of two")
        check(z("posix", "f", "w", 7, 1) == "ok", "a third")
        y.waits("posix", "f", "w", 7, 1)
        check(z("posix", "f", "r", 0, 1, "wait") == "EDEADLK", "of three")
        check(x.silent() and y.silent(), "the others wait on")
        check(z("posix", "f", "u") == "ok", "way out")
        wakes(y, time.monotonic(), "the second")
        y.end()
        wakes(x, time.monotonic(), "the first")
    with Agent(a) as x, Agent(b) as y:
        check(x("ofd", "f", "w", 0, 1) == "ok" and y("ofd", "f", "w", 1, 1) == "ok", "each has one")
        x.waits("ofd", "f", "w", 1, 1)
        check(y("ofd", "f", "w", 0, 1, "wait") == "EDEADLK", "of open file descriptions, too")


def closing(a, b):
    """Whoever closes any descriptor loses its POSIX locks; OFD and flock live as long as the open file; forks share those."""
    with Agent(a) as x, Agent(b) as y:
        x("open", "second", f"{a}/f")
        check(x("posix", "f", "w") == "ok" and y("posix", "f", "r") == "EAGAIN", "locked")
        check(x("close", "second") == "ok" and y("posix", "f", "r") == "ok", "any close drops it")
        y("posix", "f", "u")
        for take, free in ((("ofd", "f", "w"), ("ofd", "f", "u")), (("flock", "f", "ex"), ("flock", "f", "un"))):
            x("dup", "f", "copy")
            x("open", "second", f"{a}/f")
            check(x(*take) == "ok" and x("close", "copy") == "ok" and x("close", "second") == "ok", "others are closed")
            check(y(*take) == "EAGAIN", "still locked")
            check(x("fork") == "ok" and x("close", "f") == "ok", "closed, but a child has it")
            check(y(*take) == "EAGAIN", "still locked")
            y.waits(*take)
            check(x("reap") == "ok", "the child ends")
            wakes(y, time.monotonic(), "the last close drops it")
            check(y(*free) == "ok", "given up")
            x("open", "f", f"{a}/f")
        check(x("posix", "f", "w") == "ok" and x("fork") == "ok", "a child does not inherit POSIX locks")
        check(x("reap") == "ok" and y("posix", "f", "r") == "EAGAIN", "nor does its end drop them")
        with Agent(a) as z:
            check(z("open", "f", f"{a}/f") == "ok" and z("close", "f") == "ok", "nor does another's close")
        check(y("posix", "f", "r") == "EAGAIN", "still locked")


def killed(a, b):
    """A process that is killed leaves nothing."""
    for take in (("posix", "f", "w"), ("ofd", "f", "w"), ("flock", "f", "ex")):
        with Agent(a) as x, Agent(b) as y:
            check(x(*take) == "ok", "taken")
            y.waits(*take)
            now = time.monotonic()
            x.end()
            wakes(y, now, f"{take[0]}: the holder was killed")
        # One that waits.
        with Agent(a) as x, Agent(b) as y, Agent(a) as z:
            check(y(*take) == "ok", "taken")
            x.waits(*take)
            x.end()
            check(y(take[0], "f", "un" if take[0] == "flock" else "u") == "ok", "given up")
            check(z(*take) == "ok", f"{take[0]}: a dead waiter was granted nothing")


def interrupted(a, b):
    """A signal ends a wait, and what was held before is held still."""
    with Agent(a) as x, Agent(b) as y:
        check(x("posix", "f", "r") == "ok" and y("posix", "f", "r") == "ok", "two readers")
        for _ in range(10):
            x.waits("posix", "f", "w", 10, 10)
            x.process.send_signal(signal.SIGUSR1)
            check(x.answer()[0] == "EINTR", "interrupted")
            check(y("posix", "f", "w") == "EAGAIN", "what it had it has")
        check(x("posix", "f", "u") == "ok" and y("posix", "f", "w") == "ok", "and nothing more")
        x.waits("flock", "f", "ex") if y("flock", "f", "ex") == "ok" else check(False, "free")
        x.process.send_signal(signal.SIGUSR1)
        check(x.answer()[0] == "EINTR", "flock, too")
        check(y("flock", "f", "un") == "ok" and y("flock", "f", "ex") == "ok", "no wait is left")
    # A signal and the unlock at the same moment: granted or interrupted, never both and never neither.
    tally = {"ok": 0, "EINTR": 0}
    with Agent(a) as x, Agent(b) as y:
        for _ in range(60):
            check(x("flock", "f", "ex") == "ok", "taken")
            y.waits("flock", "f", "ex")
            x.start("flock", "f", "un")
            y.process.send_signal(signal.SIGUSR1)
            result, _ = y.answer()
            check(x.answer()[0] == "ok", "unlocked")
            tally[result] += 1
            check(x("flock", "f", "ex") == ("EAGAIN" if result == "ok" else "ok"), f"{result}: who has it")
            check(x("flock", "f", "un") == "ok" and y("flock", "f", "un") == "ok", "unlocked")
    say(f"  {tally}")


def programs(a, b):
    """flock(1)."""
    counter = f"{a}/counter"
    with open(counter, "w", encoding="ascii") as f:
        f.write("0")
    script = 'read n < "$0"; echo $((n + 1)) > "$0"'
    runs = [subprocess.Popen(f"for i in $(seq 15); do flock {m}/lock sh -c '{script}' {m}/counter || exit 1; done", shell=True)
            for m in (a, b, a, b)]
    check([r.wait() for r in runs] == [0] * 4, "all ended well")
    with open(f"{b}/counter", encoding="ascii") as f:
        check(f.read().strip() == "60", "nobody was in between")
    holder = subprocess.Popen(["flock", f"{a}/lock", "cat"], stdin=subprocess.PIPE)
    eventually(lambda: subprocess.call(["flock", "-n", f"{b}/lock", "true"]) == 1, "it is locked")
    holder.stdin.close()
    holder.wait()
    check(subprocess.call(["flock", "-n", f"{b}/lock", "true"]) == 0, "and free")


def sqlite(a, b, mode="delete"):
    """SQLite, writers on both mounts: with a rollback journal, and with a write-ahead log, whose index is mapped memory."""
    db = sqlite3.connect(f"{a}/db-{mode}")
    check(db.execute(f"pragma journal_mode={mode}").fetchone() == (mode,), "journal mode")
    db.execute("create table t (writer int, number int, unique (writer, number))")
    db.close()
    errors = []

    def run(mount, writer):
        try:
            db = sqlite3.connect(f"{mount}/db-{mode}", timeout=120, isolation_level=None)
            for i in range(25):
                db.execute("begin immediate")
                (n,) = db.execute("select count(*) from t").fetchone()
                db.execute("insert into t values (?, ?)", (writer, i))
                check(db.execute("select count(*) from t").fetchone() == (n + 1,), "alone in a transaction")
                db.execute("commit")
            db.close()
        except Exception as e:  # told below, by the main thread
            errors.append(f"writer {writer}: {e!r}")
    threads = [threading.Thread(target=run, args=(m, i)) for i, m in enumerate((a, b, a, b))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    check(not errors, str(errors))
    for mount in (a, b):
        db = sqlite3.connect(f"{mount}/db-{mode}")
        check(db.execute("pragma integrity_check").fetchall() == [("ok",)], "integrity")
        check(db.execute("select count(*) from t").fetchone() == (100,), "every row is there")
        db.close()
    if mode == "delete":
        sqlite(a, b, "wal")


def mount_forced(c, a, b, remount):
    """A mount that is taken down by force, with a wait under way, ends, and holds nothing."""
    pid = server_of(b)
    with Agent(b) as x, Agent(b) as y, Agent(a) as z:
        check(z("posix", "f", "w") == "ok" and x("flock", "f", "ex") == "ok", "taken")
        y.waits("posix", "f", "w")
        z.waits("flock", "f", "ex")
        now = time.monotonic()
        sh(["umount", "-f", "-l", os.path.dirname(b)], timeout=60)
        check(y.answer()[0] in ("ECONNABORTED", "ENOTCONN", "EINTR"), "the wait has failed")
        wakes(z, now, "freed", EXPIRY)
        eventually(lambda: not alive(pid), "the mount's process ends")
    barriers.pop(b).end()  # it was on that mount
    remount()


def mount_killed(c, a, b, remount):
    """A mount that is killed: what it held is free within the map lease and a quarter."""
    with Agent(b) as x, Agent(a) as y, Agent(a) as z:
        check(x("posix", "f", "w") == "ok" and x("flock", "f", "ex") == "ok", "taken")
        y.waits("posix", "f", "w")
        z.waits("flock", "f", "ex")
        now = time.monotonic()
        os.kill(server_of(b), signal.SIGKILL)
        took = [wakes(w, now, "freed", EXPIRY) for w in (y, z)]
        say(f"  after {took[0]:.1f} s")
        check(x("write", "f", "late") in ("ENOTCONN", "ECONNABORTED"), "the mount is dead")
    remount()


def mount_stopped(c, a, b):
    """A mount that is stopped loses its locks to those who need them, knows it, and what it still writes is refused."""
    with Agent(b) as x, Agent(b, "other") as other, Agent(a) as y:
        check(x("posix", "f", "w") == "ok" and x("write", "f", "before") == "ok", "locked and written")
        pid = server_of(b)
        os.kill(pid, signal.SIGSTOP)
        try:
            now = time.monotonic()
            check(y("posix", "f", "w", 0, 0, "wait") == "ok", "it is had")
            took = time.monotonic() - now
            check(took < EXPIRY, f"after {took:.1f} s")
            check(y("write", "f", "after!") == "ok", "and written")
        finally:
            os.kill(pid, signal.SIGCONT)
        check(x("write", "f", "late!!") == "EIO", "the handle is broken for writing")
        check(x("read", "f", 0) == "EIO", "and for reading")
        check(x("posix", "f", "r", 0, 1) == "EIO" and x("test", "f", "r") == "EIO", "and for locks")
        check(other("write", "f", "fine") == "ok" and other("posix", "f", "w") == "ok", "others are not")
        check(y("read", "f", 0) == "after!", "nothing came late")
        check(x("close", "f") in ("ok", "EIO") and x("open", "f", f"{b}/f") == "ok", "opened anew")
        check(x("read", "f", 0) == "after!" and x("posix", "f", "r") == "EAGAIN", "all is well")
    say(f"  after {took:.1f} s")


def restarted(c, a, b):
    """The MDS is killed and restarted: locks are held through it, and waits go on."""
    with Agent(a) as x, Agent(b) as y, Agent(b) as z, Agent(a) as late:
        check(x("posix", "f", "w", 0, 10) == "ok" and x("ofd", "f", "r", 20, 5) == "ok", "ranges")
        check(y("flock", "f", "ex") == "ok", "flock")
        y.waits("posix", "f", "w", 5, 1)
        z.waits("ofd", "f", "w", 22, 1)
        c.kill("mds")
        # An unlock and an interrupted wait while nobody answers; and a request that comes meanwhile.
        late.start("flock", "f", "sh")
        z.process.send_signal(signal.SIGUSR1)
        check(z.answer()[0] == "EINTR", "a wait can be interrupted while there is no MDS")
        check(y.silent(), "the other wait goes on")
        c.up()
        check(late.answer()[0] == "EAGAIN", "flock is held through it")
        check(z("posix", "f", "r", 9, 1) == "EAGAIN" and z("posix", "f", "w", 24, 1) == "EAGAIN", "ranges are")
        check(z("posix", "f", "r", 24, 1) == "ok" and z("posix", "f", "u") == "ok", "as they were")
        check(y.silent(), "the wait goes on")
        check(x("posix", "f", "u") == "ok", "unlocked")
        wakes(y, time.monotonic(), "the wait ends")
        check(x("posix", "f", "r", 5, 1) == "EAGAIN", "and the lock is had")
        # A holder that dies while there is no MDS.
        check(x("flock", "f", "ex") == "EAGAIN", "held")
        x.waits("flock", "f", "ex")
        c.kill("mds")
        y.process.send_signal(signal.SIGKILL)
        c.up()
        y.end()
        wakes(x, time.monotonic(), "its locks are gone with it", AT_ONCE)


def given_up(c, a, b):
    """A process that is killed while the MDS is away is gone soon, whatever it asks of locks; what it unlocked is free then."""
    locks = (("posix", "f", "w"), ("ofd", "f", "w"), ("flock", "f", "ex"))
    asks = locks + (("test", "f", "w"), ("ofdtest", "f", "w"))
    for how, back in ((signal.SIGKILL, c.up), (signal.SIGSTOP, lambda: os.kill(c.pid("mds"), signal.SIGCONT))):
        with Agent(a) as here, Agent(b) as there:
            askers = [Agent(a) for _ in asks]
            # Children keep the open file of those who unlock, so that it does not end with them.
            holders = [Agent(a, f"held-{take[0]}") for take in locks]
            check([x(*take) for x, take in zip(holders, locks)] == ["ok"] * 3, "taken")
            children = [int(x("leave")) for x in holders]
            atexit.register(lambda children=children: [os.kill(child, signal.SIGKILL) for child in children])
            c.kill("mds", how)
            try:
                for x, ask in zip(askers, asks):
                    x.start(*ask)
                for x, take in zip(holders, locks):
                    x.start(take[0], "f", "un" if take[0] == "flock" else "u")
                everybody = askers + holders
                eventually(lambda: all(calling(x.process.pid) in (F_SETLKW, FLOCK) for x in everybody), "all are asking")
                now = time.monotonic()
                for x in everybody:
                    check(x.silent(), "nobody is answered")
                    x.process.send_signal(signal.SIGKILL)
                for x in everybody:
                    x.process.wait(timeout=AT_ONCE)
                    x.end()
                say(f"  all are gone after {time.monotonic() - now:.1f} s")
            finally:
                back()
            for take in locks:
                drop = (take[0], "f", "un" if take[0] == "flock" else "u")
                check(there(*take) == "ok" and there(*drop) == "ok", f"{take[0]}: nothing was granted to a dead process")
                for agent, mount in ((here, a), (there, b)):
                    agent("open", "held", f"{mount}/held-{take[0]}")
                check(there(take[0], "held", *take[2:]) == "ok", f"{take[0]}: the unlock was done")
                check(here(take[0], "held", *take[2:]) == "EAGAIN", "and it is had by somebody else")
            while children:
                os.kill(children.pop(), signal.SIGKILL)


def unflushed(c, a, b):
    """A process is killed whose data cannot be written back: its locks go with it, and not when that is done."""
    with Agent(a) as x, Agent(b) as y:
        check(x("write", "f", "kept") == "ok" and x("posix", "f", "w") == "ok", "written and locked")
        for name in c.osd_names():
            c.kill(name)
        try:
            x.end()
            check(y("posix", "f", "w") == "ok", "free")
        finally:
            c.up()
        check(y("read", "f", 0) == "kept", "and written in the end")


def calling(pid):
    """The system call in which a process is."""
    with open(f"/proc/{pid}/syscall", encoding="ascii") as f:
        word = f.read().split()[0]
    return int(word) if word.isdigit() else None


def server_of(directory):
    """The process that serves the mount of a directory below its root."""
    found = []
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{p}/cmdline", "rb") as f:
                words = f.read().split(b"\0")
        except OSError:
            continue  # it has ended
        if b"mount" in words and os.path.dirname(directory).encode() in words:
            found.append(int(p))
    check(len(found) == 1, f"one process serves {directory}: {found}")
    return found[0]


with Cluster("locks", osd_size="512MiB") as cluster:
    first, second = cluster.mount, os.path.join(cluster.root, "mnt2")
    os.makedirs(second)
    mds = cluster.status()["mds"][0]["addr"]

    def mount_second():
        subprocess.run(["umount", "-l", second], check=False, capture_output=True)
        sh([CAIRN, "mount", mds, second], timeout=60)

    mount_second()
    only = os.environ.get("CAIRN_PART")
    try:
        for part, arguments in ((conflicts, ()), (directories, ()), (waiting, ()), (deadlocks, ()), (closing, ()), (killed, ()), (interrupted, ()),
                                (programs, ()), (sqlite, ()), (restarted, (cluster,)), (given_up, (cluster,)),
                                (unflushed, (cluster,)), (mount_stopped, (cluster,)),
                                (mount_forced, (cluster,)), (mount_killed, (cluster,))):
            if only and part.__name__ != only:
                continue
            say(part.__doc__)
            os.mkdir(f"{first}/{part.__name__}")
            here, there = f"{first}/{part.__name__}", f"{second}/{part.__name__}"
            if part in (mount_forced, mount_killed):
                part(cluster, here, there, mount_second)
            else:
                part(*arguments, here, there)
            while barriers:
                barriers.popitem()[1].end()
    finally:
        subprocess.run(["umount", "-l", second], check=False)
say("ok")
sys.exit(0)
