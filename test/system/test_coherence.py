#!/usr/bin/env python3
"""Two mounts of one filesystem, no sleep anywhere: what one has done is what the other sees, at once.

Every round changes something through one mount and looks at it through the other, whose kernel has just cached what was
there before. The mounts take turns.
"""
import mmap
import os
import random
import signal
import subprocess
import sys
import threading

from harness import CAIRN, Cluster, check, say, sh

ROUNDS = int(os.environ.get("CAIRN_ROUNDS", "150"))
SEED = int(os.environ.get("CAIRN_SEED", str(random.randrange(1 << 32))))


def missing(path):
    try:
        os.lstat(path)
        return False
    except FileNotFoundError:
        return True


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def server_of(mount):
    """The process that serves the mount."""
    found = []
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = read(f"/proc/{p}/cmdline").split(b"\0")
        except OSError:
            continue  # it has ended
        if b"mount" in words and mount.encode() in words:
            found.append(int(p))
    check(len(found) == 1, f"one process serves {mount}: {found}")
    return found[0]


def names(a, b, dice):
    """Making, removing, renaming and linking; names that do not exist are cached too."""
    for i in range(ROUNDS):
        one, other = (a, b) if i % 2 else (b, a)
        x, y = f"x{i}", f"y{i}"
        check(missing(f"{other}/{x}") and missing(f"{other}/{y}"), "nothing there yet")
        write(f"{one}/{x}", b"new")
        check(read(f"{other}/{x}") == b"new", f"round {i}: what was made is seen")
        os.rename(f"{one}/{x}", f"{one}/{y}")
        check(missing(f"{other}/{x}"), f"round {i}: the old name is gone")
        check(os.stat(f"{other}/{y}").st_ino == os.stat(f"{one}/{y}").st_ino, f"round {i}: the new name is there")
        os.link(f"{one}/{y}", f"{one}/{x}")
        check(os.stat(f"{other}/{y}").st_nlink == 2, f"round {i}: two links")
        os.unlink(f"{one}/{y}")
        check(missing(f"{other}/{y}"), f"round {i}: the name is gone")
        check(os.stat(f"{other}/{x}").st_nlink == 1, f"round {i}: one link")
        check((x in os.listdir(other)) and (y not in os.listdir(other)), f"round {i}: readdir")
        os.unlink(f"{one}/{x}")
        os.mkdir(f"{one}/{x}")
        check(os.path.isdir(f"{other}/{x}"), f"round {i}: a directory now")
        os.rmdir(f"{other}/{x}")
        check(missing(f"{one}/{x}"), f"round {i}: and gone")


def attributes(a, b, dice):
    write(f"{a}/f", b"x" * 1000)
    for i in range(ROUNDS):
        one, other = (a, b) if i % 2 else (b, a)
        os.stat(f"{other}/f")
        mode, when, size = 0o400 | dice.randrange(0o400), dice.randrange(1 << 30), dice.randrange(100_000)
        os.chmod(f"{one}/f", mode)
        check(os.stat(f"{other}/f").st_mode & 0o7777 == mode, f"round {i}: chmod")
        os.utime(f"{one}/f", ns=(when, when + 1))
        st = os.stat(f"{other}/f")
        check((st.st_atime_ns, st.st_mtime_ns) == (when, when + 1), f"round {i}: utimes")
        os.truncate(f"{one}/f", size)
        check(os.stat(f"{other}/f").st_size == size, f"round {i}: truncate")
        os.setxattr(f"{one}/f", "user.round", b"%d" % i)
        check(os.getxattr(f"{other}/f", "user.round") == b"%d" % i, f"round {i}: xattr")


def privileges(a, b, dice):
    """A write that is not root's takes S_ISUID and S_ISGID off the file, also if the other mount has just set them."""
    write(f"{a}/f", b"")
    os.chmod(f"{a}/f", 0o777)
    for i in range(ROUNDS // 5 if os.geteuid() == 0 else 0):
        one, other = (a, b) if i % 2 else (b, a)
        fd = os.open(f"{other}/f", os.O_WRONLY)
        os.chmod(f"{one}/f", 0o6777)
        os.seteuid(65534)
        try:
            os.pwrite(fd, b"x", i)
        finally:
            os.seteuid(0)
        os.close(fd)
        check(os.stat(f"{one}/f").st_mode & 0o7777 == 0o777, f"round {i}: they are gone")


def closed(a, b, dice):
    """write + close here, read there."""
    for i in range(ROUNDS):
        one, other = (a, b) if i % 2 else (b, a)
        data = dice.randbytes(dice.randrange(1, 200_000))
        write(f"{one}/c", data)
        check(read(f"{other}/c") == data, f"round {i}: what was closed is what is opened")


def opened(a, b, dice):
    """Write on an open descriptor, read through one that was opened before; sizes and holes too."""
    fds = [os.open(f"{m}/o", os.O_RDWR | os.O_CREAT, 0o644) for m in (a, b)]
    model = bytearray()
    for i in range(ROUNDS * 2):
        one, other = (fds[0], fds[1]) if dice.random() < 0.5 else (fds[1], fds[0])
        if dice.random() < 0.1:
            size = dice.randrange(300_000)
            os.ftruncate(one, size)
            del model[size:]
            model.extend(b"\0" * (size - len(model)))
        else:
            at, data = dice.randrange(200_000), dice.randbytes(dice.randrange(1, 50_000))
            os.pwrite(one, data, at)
            model.extend(b"\0" * (at + len(data) - len(model)))
            model[at:at + len(data)] = data
        check(os.fstat(other).st_size == len(model), f"round {i}: size")
        at = dice.randrange(len(model) + 1)
        check(os.pread(other, 100_000, at) == bytes(model[at:at + 100_000]), f"round {i}: bytes at {at}")
    for fd in fds:
        check(os.pread(fd, len(model) + 1, 0) == bytes(model), "all of it")
        os.close(fd)


def mapped(a, b, dice):
    """Written here and synced, seen through a mapping there that was read before."""
    write(f"{a}/m", bytes(64 << 10))
    with open(f"{a}/m", "r+b") as fa, open(f"{b}/m", "r+b") as fb:
        maps = [mmap.mmap(fa.fileno(), 0), mmap.mmap(fb.fileno(), 0)]
        for i in range(ROUNDS):
            one, other = maps[i % 2], maps[1 - i % 2]
            at, data = dice.randrange(60_000), dice.randbytes(100)
            _ = other[at:at + 100]
            one[at:at + 100] = data
            one.flush()
            check(other[at:at + 100] == data, f"round {i}: mapped bytes at {at}")
        for m in maps:
            m.close()


def appended(a, b, dice):
    """Both append at once; nothing is lost and nothing is torn."""
    def run(mount, letter):
        fd = os.open(f"{mount}/log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        for i in range(ROUNDS):
            os.write(fd, b"%s%06d" % (letter, i) + b"." * (i % 90) + b"\n")
        os.close(fd)
    threads = [threading.Thread(target=run, args=x) for x in ((a, b"a"), (b, b"b"))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for mount in (a, b):
        lines = read(f"{mount}/log").split(b"\n")[:-1]
        for letter in (b"a", b"b"):
            mine = [x for x in lines if x.startswith(letter)]
            check(mine == [b"%s%06d" % (letter, i) + b"." * (i % 90) for i in range(ROUNDS)],
                  f"every line of {letter.decode()} is there, whole and in order")
        check(len(lines) == 2 * ROUNDS, "and no other line")


def exclusive(a, b, dice):
    """O_EXCL: of two, exactly one."""
    won = [0, 0]
    for i in range(ROUNDS):
        barrier = threading.Barrier(2)
        results = [None, None]

        def run(k, mount, number=i, gate=barrier, out=results):
            gate.wait()
            try:
                os.close(os.open(f"{mount}/e{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                out[k] = True
            except FileExistsError:
                out[k] = False
        threads = [threading.Thread(target=run, args=(k, m)) for k, m in enumerate((a, b))]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        check(sorted(results) == [False, True], f"round {i}: {results}")
        won[results.index(True)] += 1
        os.unlink(f"{a}/e{i}")
    say(f"  won by {won}")


def unlinked(a, b, dice):
    """What is open here lives on when it is removed there."""
    for i in range(ROUNDS // 5):
        data = dice.randbytes(10_000)
        write(f"{a}/u", data)
        fd = os.open(f"{b}/u", os.O_RDWR)
        os.unlink(f"{a}/u")
        check(os.pread(fd, 20_000, 0) == data, f"round {i}: readable")
        os.pwrite(fd, b"more", 10_000)
        check(os.fstat(fd).st_size == 10_004 and os.fstat(fd).st_nlink == 0, f"round {i}: writable, without a link")
        os.close(fd)


with Cluster("coherence") as c:
    second = os.path.join(c.root, "mnt2")
    os.makedirs(second)
    mds = c.status()["mds"][0]["addr"]
    sh([CAIRN, "mount", mds, second], timeout=60)
    try:
        say(f"seed {SEED} (CAIRN_SEED), {ROUNDS} rounds (CAIRN_ROUNDS)")
        for part in (names, attributes, privileges, closed, opened, mapped, appended, exclusive, unlinked):
            say(part.__doc__.splitlines()[0] if part.__doc__ else part.__name__)
            os.mkdir(f"{c.mount}/{part.__name__}")
            part(f"{c.mount}/{part.__name__}", f"{second}/{part.__name__}", random.Random(f"{SEED} {part.__name__}"))
        say("a mount that is stopped with dirty data: the other waits for a bounded time and goes on")
        pid = server_of(second)
        with open(f"{second}/stuck", "wb", buffering=0) as f:
            f.write(b"never synced")
            os.kill(pid, signal.SIGSTOP)
            try:
                write(f"{c.mount}/stuck", b"the other")
            finally:
                os.kill(pid, signal.SIGCONT)
            try:
                os.fsync(f.fileno())
                check(False, "the loss of dirty data was not reported")
            except OSError as e:
                say(f"  the mount that was stopped reports: {e.strerror}")
            check(read(f"{second}/stuck") == b"the other", "and shows what is true")
        check(read(f"{c.mount}/stuck") == b"the other", "no late write came")
    finally:
        subprocess.run(["umount", second], check=False)
say("ok")
sys.exit(0)
