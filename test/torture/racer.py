#!/usr/bin/env python3
"""Many processes on one or more mounts do everything to the same few names at once. Nothing is known of the outcome of one
operation but the errnos it may have; what is checked comes afterwards: nobody hangs, the servers live and have not grown
without bound, the mounts agree on what is there, and all of it can be read and removed.

    racer.py DIR [DIR] [--seconds N] [--workers N]
"""
import argparse
import errno as E
import hashlib
import mmap
import os
import random
import shutil
import signal
import stat
import struct
import sys
import time
import traceback

import syscalls

NAMES = [f"{d}{n}" for d in ("", "d0/", "d1/", "d0/d2/") for n in ("a", "b", "c", "d0", "d1", "d2")]
HANG_SECONDS = 60  # far beyond what a lease or a daemon may let an operation wait
STALL_SECONDS = 4  # nothing fails here: nobody has to wait for somebody to be given up
MAX_RSS = {"cairn": 1 << 30, "cairn-mds": 512 << 20, "cairn-osd": 1 << 30}

# What POSIX allows an operation on a name to fail with, while others do anything to the same names.
WAY = {E.ENOENT, E.ENOTDIR, E.ELOOP}
MAY = {
    "create": WAY | {E.EEXIST, E.EISDIR, E.ENXIO},
    "mkdir": WAY | {E.EEXIST},
    "mkfifo": WAY | {E.EEXIST},
    "symlink": WAY | {E.EEXIST},
    "link": WAY | {E.EEXIST, E.EPERM},
    "unlink": WAY | {E.EISDIR},
    "rmdir": WAY | {E.ENOTEMPTY},
    "rename": WAY | {E.EEXIST, E.EISDIR, E.ENOTEMPTY, E.EINVAL},
    "exchange": WAY | {E.EINVAL},
    "keep": WAY | {E.EEXIST, E.EINVAL},
    "truncate": WAY | {E.EISDIR, E.EINVAL},
    "write": WAY | {E.EISDIR, E.ENXIO, E.ESPIPE},
    "append": WAY | {E.EISDIR, E.ENXIO, E.ESPIPE, E.EPIPE, E.EAGAIN},
    "read": WAY | {E.EISDIR, E.ENXIO, E.ESPIPE},
    "punch": WAY | {E.EISDIR, E.ENXIO, E.ESPIPE, E.ENODEV},
    "map": WAY | {E.EISDIR, E.ENXIO, E.ENODEV, E.EFAULT},
    "chmod": WAY,
    "chown": WAY,
    "utime": WAY,
    "setxattr": WAY | {E.EPERM},
    "getxattr": WAY | {E.ENODATA},
    "removexattr": WAY | {E.ENODATA, E.EPERM},
    "list": WAY,
    "stat": WAY,
    "readlink": WAY | {E.EINVAL},
}
OPERATIONS = sorted(MAY)
SLOT = struct.Struct("qqq")  # of each worker in shared memory: operations done, since when (ns), index of the operation


def act(name, path, other, dice):
    """One operation; raises what it fails with."""
    if name == "create":
        flags = os.O_CREAT | os.O_RDWR | dice.choice([0, os.O_EXCL, os.O_TRUNC])
        os.close(os.open(path, flags | os.O_NONBLOCK, 0o644))
    elif name == "mkdir":
        os.mkdir(path)
    elif name == "mkfifo":
        os.mkfifo(path)
    elif name == "symlink":
        os.symlink(os.path.basename(other), path)
    elif name == "link":
        os.link(path, other, follow_symlinks=False)
    elif name == "unlink":
        os.unlink(path)
    elif name == "rmdir":
        os.rmdir(path)
    elif name == "rename":
        os.rename(path, other)
    elif name in ("exchange", "keep"):
        flag = syscalls.RENAME_EXCHANGE if name == "exchange" else syscalls.RENAME_NOREPLACE
        syscalls.renameat2(-100, path, -100, other, flag)  # AT_FDCWD
    elif name == "truncate":
        os.truncate(path, dice.randrange(200_000))
    elif name in ("write", "append", "read", "punch", "map"):
        flags = os.O_RDWR if name != "append" else os.O_WRONLY | os.O_APPEND
        fd = os.open(path, flags | os.O_NONBLOCK)
        try:
            act_on(name, fd, dice)
        finally:
            os.close(fd)
    elif name == "chmod":
        os.chmod(path, 0o700 | dice.randrange(0o100))
    elif name == "chown":
        os.chown(path, 0, dice.randrange(3), follow_symlinks=False)
    elif name == "utime":
        os.utime(path, (1, dice.randrange(1 << 30)))
    elif name == "setxattr":
        os.setxattr(path, "user.x", dice.randbytes(dice.randrange(200)), follow_symlinks=False)
    elif name == "getxattr":
        os.getxattr(path, "user.x", follow_symlinks=False)
    elif name == "removexattr":
        os.removexattr(path, "user.x", follow_symlinks=False)
    elif name == "list":
        found = os.listdir(os.path.dirname(path))
        if len(found) != len(set(found)):
            raise AssertionError(f"{os.path.dirname(path)} lists a name twice: {sorted(found)}")
    elif name == "stat":
        os.lstat(path)
    elif name == "readlink":
        os.readlink(path)


def act_on(name, fd, dice):
    at, size = dice.randrange(200_000), dice.randrange(1, 50_000)
    if name == "write":
        os.pwrite(fd, bytes([dice.randrange(1, 256)]) * size, at)
        if dice.random() < 0.2:
            os.fsync(fd)
    elif name == "append":
        os.write(fd, bytes([dice.randrange(1, 256)]) * (size % 100))
    elif name == "read":
        os.pread(fd, size, at)
    elif name == "punch":
        syscalls.fallocate(fd, syscalls.FALLOC_PUNCH_HOLE | syscalls.FALLOC_KEEP_SIZE, at, size)
    elif name == "map":
        length = os.fstat(fd).st_size
        if length:
            mapping = syscalls.map_shared(fd, length)
            copier = syscalls.Copier()
            try:  # others may cut the file off under the mapping: EFAULT
                copier.load(mapping.bytes, at % length, min(size, length - at % length))
                copier.store(mapping.bytes, at % length, b"m")
            finally:
                os.close(copier.fd)
                mapping.close()


def work(mount, seed, shared, index, stop, report):
    dice = random.Random(seed)
    count = 0
    while not stop[0]:
        name = dice.choice(OPERATIONS)
        path, other = (os.path.join(mount, dice.choice(NAMES)) for _ in range(2))
        SLOT.pack_into(shared, index * SLOT.size, count, time.monotonic_ns(), OPERATIONS.index(name))
        try:
            act(name, path, other, dice)
        except OSError as e:
            # A rename between the lookup and the open: Linux tries once more, and gives up then.
            if e.errno not in MAY[name] and e.errno != E.ESTALE:
                os.write(report, f"{name} {path} {other}: {syscalls.name_of(e.errno)}\n".encode())
        except BaseException:  # pylint: disable=broad-except
            os.write(report, traceback.format_exc().encode())
        count += 1
    SLOT.pack_into(shared, index * SLOT.size, count, 0, 0)


def servers_of(mounts):
    """Processes of the clusters behind the mounts: pid -> program. (Found by what they were started with.)"""
    roots = [m for m in {mount_point(m) for m in mounts}]
    found, ports = {}, set()
    processes = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                words = f.read().decode(errors="replace").split("\0")
        except OSError:
            continue
        program = os.path.basename(words[0])
        if program in MAX_RSS:
            processes[int(pid)] = (program, words)
    for pid, (program, words) in processes.items():
        if program == "cairn" and any(r in words for r in roots):
            found[pid] = program
            ports.update(w for w in words if ":" in w)
    for pid, (program, words) in processes.items():
        if program != "cairn" and any(p in " ".join(words) for p in ports):
            found[pid] = program
    return found


def mount_point(path):
    path = os.path.realpath(path)
    while not os.path.ismount(path):
        path = os.path.dirname(path)
    return path


def rss(pid):
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as f:
            for line in f:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) << 10
    except OSError:
        pass
    return None  # it has ended


def where(pid):
    """What a process waits for, for a report of a hang."""
    text = []
    for name in ("wchan", "syscall", "stack"):
        try:
            with open(f"/proc/{pid}/{name}", encoding="ascii", errors="replace") as f:
                text.append(f"    {name}: {f.read().strip()}")
        except OSError:
            pass
    return "\n".join(text)


def content(root):
    """Everything that is there, read to its last byte; links between names as groups."""
    found = {}
    for directory, directories, files in os.walk(root):
        for name in files + directories:
            path = os.path.join(directory, name)
            st = os.lstat(path)
            entry = [stat.filemode(st.st_mode), st.st_uid, st.st_gid, st.st_nlink, st.st_ino, st.st_mtime_ns]
            if stat.S_ISREG(st.st_mode):
                with open(path, "rb") as f:
                    data = f.read()
                if len(data) != st.st_size:
                    entry.append(f"{len(data)} bytes of {st.st_size} could be read")
                entry += [st.st_size, hashlib.sha256(data).hexdigest()[:16]]
            if stat.S_ISLNK(st.st_mode):
                entry.append(os.readlink(path))
            else:
                entry.append(sorted((n, os.getxattr(path, n)) for n in os.listxattr(path)))
            found[os.path.relpath(path, root)] = entry
    return found


def check_links(found):
    """As many names as each inode says that it has."""
    problems, names = [], {}
    for path, entry in found.items():
        if not entry[0].startswith("d"):
            names.setdefault(entry[4], []).append((path, entry[3]))
    for ino, seen in names.items():
        if any(nlink != len(seen) for _, nlink in seen):
            problems.append(f"inode {ino} says it has {seen[0][1]} names, and has {[p for p, _ in seen]}")
    for path, entry in found.items():
        if entry[0].startswith("d"):
            below = sum(e[0].startswith("d") for p, e in found.items() if os.path.dirname(p) == path)
            if entry[3] != 2 + below:
                problems.append(f"{path} has {below} subdirectories and {entry[3]} links")
    return problems


def race(mounts, seconds, workers, seed, say=print, memory=1):
    """The problems found; none is good. Servers may have `memory` times what they should: a sanitizer keeps what is freed."""
    problems = []
    top = f"race-{os.getpid()}-{seed}"
    tops = [os.path.join(m, top) for m in mounts]
    os.makedirs(os.path.join(tops[0], "d0", "d2"))
    os.mkdir(os.path.join(tops[0], "d1"))
    servers = servers_of(mounts)
    before = {pid: rss(pid) for pid in servers}
    shared, stop = mmap.mmap(-1, max(4096, SLOT.size * workers)), mmap.mmap(-1, 4096)
    report, report_end = os.pipe()
    os.set_blocking(report, False)
    children = []
    for i in range(workers):
        SLOT.pack_into(shared, i * SLOT.size, 0, time.monotonic_ns(), 0)
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.close(report)
            os.umask(0)
            try:
                work(tops[i % len(tops)], f"{seed} {i}", shared, i, stop, report_end)
            finally:
                os._exit(0)
        children.append(pid)
    os.close(report_end)

    text = b""
    deadline = time.monotonic() + seconds
    left = dict(enumerate(children))
    hung, stalled = False, {}
    while left and not hung:
        time.sleep(0.05)  # between two looks at the workers
        if time.monotonic() > deadline:
            stop[0] = 1
        try:
            text += os.read(report, 1 << 16)
        except BlockingIOError:
            pass
        for i, pid in list(left.items()):
            if os.waitpid(pid, os.WNOHANG)[0]:
                del left[i]
                continue
            count, since, operation = SLOT.unpack_from(shared, i * SLOT.size)
            if since and stalled.get(i) != count and time.monotonic_ns() - since > STALL_SECONDS * 10**9:
                stalled[i] = count
                problems.append(f"{OPERATIONS[operation]} through {mounts[i % len(mounts)]} stalls\n{where(pid)}")
            if since and time.monotonic_ns() - since > HANG_SECONDS * 10**9:
                problems.append(f"{OPERATIONS[operation]} through {mounts[i % len(mounts)]} hangs\n{where(pid)}")
                hung = True
    for pid in left.values():
        os.kill(pid, signal.SIGKILL)
    while True:
        try:
            more = os.read(report, 1 << 16)
        except BlockingIOError:
            break
        if not more:
            break
        text += more
    os.close(report)
    problems += text.decode(errors="replace").splitlines()[:20]

    counts = [SLOT.unpack_from(shared, i * SLOT.size)[0] for i in range(workers)]
    for pid, program in servers.items():
        now = rss(pid)
        if now is None:
            problems.append(f"{program} (process {pid}) has ended")
        elif now > MAX_RSS[program] * memory:
            problems.append(f"{program} (process {pid}) has grown from {before[pid] >> 20} to {now >> 20} MiB")
    if hung:
        return problems  # whatever is touched now may hang too

    views = [content(t) for t in tops]
    for view in views[1:]:
        for path in sorted(set(views[0]) | set(view)):
            if views[0].get(path) != view.get(path):
                problems.append(f"{path} is {views[0].get(path)} here and {view.get(path)} there")
    problems += check_links(views[0])
    shutil.rmtree(tops[-1])
    for t in tops:
        if os.path.lexists(t):
            problems.append(f"{t} was removed and is there")
    grown = {f"{program}": f"{before[pid] >> 20} -> {(rss(pid) or 0) >> 20} MiB" for pid, program in servers.items()}
    say(f"racer: seed {seed}, {workers} workers on {len(mounts)} mounts, {sum(counts)} operations in {seconds:.0f} s "
        f"(the slowest worker {min(counts)}), {len(views[0])} names left; {grown}")
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mounts", nargs="+", metavar="DIR")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--workers", type=int, default=12)
    parser.add_argument("--seed", default=str(random.randrange(1 << 32)))
    args = parser.parse_args()
    print(f"seed {args.seed} (what the workers try; not how they meet)", flush=True)
    problems = race(args.mounts, args.seconds, args.workers, args.seed)
    for p in problems:
        print(p)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
