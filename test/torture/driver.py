"""Does the operations of reference.py for real, on one or more mounts, and compares what comes back."""
import errno
import fcntl
import os
import stat
import time

import acl
import syscalls
from locks import LAST
from processes import Helper
from reference import ANYTIME, MAX_MAPPED, NUMBERS, PER_PROCESS, AnyOf, Fail, Node, NotApplicable, Reference

FLOCKS = {"sh": fcntl.LOCK_SH | fcntl.LOCK_NB, "ex": fcntl.LOCK_EX | fcntl.LOCK_NB, "un": fcntl.LOCK_UN}
KINDS = {"r": fcntl.F_RDLCK, "w": fcntl.F_WRLCK, "u": fcntl.F_UNLCK}
SET = {"posix": fcntl.F_SETLK, "ofd": fcntl.F_OFD_SETLK}
GET = {"posix": fcntl.F_GETLK, "ofd": fcntl.F_OFD_GETLK}
CLOCK_SLACK_NS = 30_000_000  # the kernel's coarse clock, which local filesystems stamp with, lags by a tick


class Difference(Exception):
    pass


class Driver:
    """One fresh directory `name`, reached through each of the mounts. One thing at a time, in this process or in one of its
    helpers, which are drivers too: whoever has the slot or the mapping that an operation names."""

    def __init__(self, mounts, name):
        self.mounts, self.name = mounts, name
        os.mkdir(os.path.join(mounts[0], name))
        os.chmod(os.path.join(mounts[0], name), 0o777)
        self.tops = [os.open(os.path.join(m, name), os.O_RDONLY | os.O_DIRECTORY) for m in mounts]
        self.fds = {}
        self.maps = {}
        self.copier = syscalls.Copier()
        self.helpers = {}
        self.barriers = []  # a file, open on each of the mounts
        path = os.path.join(mounts[0], f"{name}-barrier")
        os.mknod(path)
        for mount in mounts:
            self.barriers.append(os.open(os.path.join(mount, f"{name}-barrier"), os.O_RDONLY))
        os.unlink(path)

    def close_all(self):
        for helper in self.helpers.values():
            helper.kill()
        self.helpers.clear()
        self.forget()
        for fd in self.tops + self.barriers:
            os.close(fd)
        os.close(self.copier.fd)

    def forget(self):
        for number in list(self.maps):
            self.munmap(0, 0, number)
        for number in list(self.fds):
            self.close(0, 0, number)

    def helper(self, process):
        if process not in self.helpers:
            self.helpers[process] = Helper(self)
        return self.helpers[process]

    def inherited(self):
        """In a new helper: it has what this process had open, and is to have nothing; and perhaps a user's rights."""
        syscalls.act_as(0)
        for helper in self.helpers.values():
            helper.disown()
        self.helpers.clear()
        self.forget()

    def at(self, mount, path):
        if not path.startswith("@"):
            return self.tops[mount], path
        number, path = path[1:].split("/", 1)
        return self.fds[int(number)], path

    def long(self, mount, path):
        fd, path = self.at(mount, path)
        return f"/proc/self/fd/{fd}/{path}"

    def apply(self, op):
        process = Reference.process_of(op)
        return self.helper(process).do(op) if process else self.do(op)

    def do(self, op):
        user = op[2]
        if user == 0:
            return getattr(self, op[0])(op[1], *op[2:])
        syscalls.act_as(user)
        try:
            return getattr(self, op[0])(op[1], *op[2:])
        finally:
            syscalls.act_as(0)

    def look_first(self, mount, user, path, follow=True):
        try:
            self.stat(mount, user, path, follow)
        except OSError:
            pass  # the operation itself says so

    def look_at_owner(self, mount, user, path, follow=True):
        """Known: Linux asks a FUSE filesystem for the attributes before stat(2) and before access to a file, but not before
        it decides who may change them or make hard links, or whether a truncation takes S_ISUID away; after a chown or chmod
        elsewhere somebody has to look first."""
        if user != 0:
            self.look_first(mount, user, path, follow)

    # ---- the operations, as reference.py names them ----

    def mkdir(self, mount, user, path, mode):
        fd, path = self.at(mount, path)
        os.mkdir(path, mode, dir_fd=fd)

    def mkfifo(self, mount, user, path, mode):
        fd, path = self.at(mount, path)
        os.mkfifo(path, mode, dir_fd=fd)

    def symlink(self, mount, user, path, target):
        fd, path = self.at(mount, path)
        os.symlink(target, path, dir_fd=fd)

    def link(self, mount, user, path, new, follow):
        self.look_at_owner(mount, user, path, follow)
        (a, path), (b, new) = self.at(mount, path), self.at(mount, new)
        os.link(path, new, src_dir_fd=a, dst_dir_fd=b, follow_symlinks=follow)

    def unlink(self, mount, user, path):
        fd, path = self.at(mount, path)
        os.unlink(path, dir_fd=fd)

    def rmdir(self, mount, user, path):
        fd, path = self.at(mount, path)
        os.rmdir(path, dir_fd=fd)

    def rename(self, mount, user, path, new, flags):
        # Known: when Linux finds a directory, which another mount has moved, for the first time while it holds the lock of
        # a rename, it cannot move its entry and fails with ESTALE. mv(1) looks first, too.
        for way in (path, new):
            self.look_first(mount, user, way, False)
        (a, path), (b, new) = self.at(mount, path), self.at(mount, new)
        syscalls.renameat2(a, path, b, new, flags)

    def readlink(self, mount, user, path):
        fd, path = self.at(mount, path)
        return os.readlink(path, dir_fd=fd)

    def stat(self, mount, user, path, follow):
        fd, path = self.at(mount, path)
        return os.stat(path, dir_fd=fd, follow_symlinks=follow)

    def fstat(self, mount, user, number):
        return os.fstat(self.fds[number])

    def list(self, mount, user, path):
        fd, path = self.at(mount, path)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        try:
            return self.entries(fd)
        finally:
            os.close(fd)

    def flist(self, mount, user, number):
        os.lseek(self.fds[number], 0, os.SEEK_SET)
        return self.entries(self.fds[number])

    @staticmethod
    def entries(fd):
        with os.scandir(fd) as found:
            found = [(e.name, e.inode(), (e.is_dir(follow_symlinks=False), e.is_file(follow_symlinks=False),
                                          e.is_symlink())) for e in found]
        names = {name: (ino, kind) for name, ino, kind in found}
        if len(names) != len(found):
            raise Difference(f"a name is listed twice: {sorted(name for name, _, _ in found)}")
        return names

    def cat(self, mount, user, path):
        fd, path = self.at(mount, path)
        fd = os.open(path, os.O_RDONLY, dir_fd=fd)
        try:
            return b"".join(iter(lambda: os.read(fd, 1 << 20), b""))
        finally:
            os.close(fd)

    def chmod(self, mount, user, path, mode):
        self.look_at_owner(mount, user, path)
        fd, path = self.at(mount, path)
        os.chmod(path, mode, dir_fd=fd)

    def fchmod(self, mount, user, number, mode):
        os.fstat(self.fds[number])
        os.fchmod(self.fds[number], mode)

    def chown(self, mount, user, path, uid, gid, follow):
        self.look_at_owner(mount, user, path, follow)
        fd, path = self.at(mount, path)
        os.chown(path, uid, gid, dir_fd=fd, follow_symlinks=follow)

    def utime(self, mount, user, path, ns, follow):
        self.look_at_owner(mount, user, path, follow)
        fd, path = self.at(mount, path)
        os.utime(path, **({"ns": (ns, ns)} if ns else {}), dir_fd=fd, follow_symlinks=follow)

    def truncate(self, mount, user, path, size):
        self.look_at_owner(mount, user, path)
        os.truncate(self.long(mount, path), size)

    def setxattr(self, mount, user, path, name, value, flags):
        os.setxattr(self.long(mount, path), name, value, flags, follow_symlinks=False)

    def removexattr(self, mount, user, path, name):
        os.removexattr(self.long(mount, path), name, follow_symlinks=False)

    def getxattr(self, mount, user, path, name):
        return os.getxattr(self.long(mount, path), name, follow_symlinks=False)

    def setacl(self, mount, user, path, kind, entries):
        self.look_at_owner(mount, user, path, False)
        if entries:
            os.setxattr(self.long(mount, path), acl.NAMES[kind], acl.encode(entries), follow_symlinks=False)
        else:
            os.removexattr(self.long(mount, path), acl.NAMES[kind], follow_symlinks=False)

    def getacl(self, mount, user, path, kind):
        return acl.decode(os.getxattr(self.long(mount, path), acl.NAMES[kind], follow_symlinks=False))

    def access(self, mount, user, path, mask):
        fd, path = self.at(mount, path)
        syscalls.faccessat(fd, path, mask)

    def listxattr(self, mount, user, path):
        names = os.listxattr(self.long(mount, path), follow_symlinks=False)
        return sorted(n for n in names if n.startswith(("user.", "trusted.")))

    def open(self, mount, user, number, path, flags, mode):
        fd, path = self.at(mount, path)
        own = number in self.fds and fd == self.fds[number]
        if number in self.fds and not own:
            self.close(mount, user, number)
        new = os.open(path, flags | os.O_NONBLOCK, mode, dir_fd=fd)
        if own:
            self.close(mount, user, number)
        self.fds[number] = new

    def close(self, mount, user, number):
        os.close(self.fds.pop(number))

    def tmpfile(self, mount, user, number, path, flags, mode):
        self.open(mount, user, number, path, flags | os.O_TMPFILE, mode)

    def linkfd(self, mount, user, number, new):
        if user != 0:
            os.fstat(self.fds[number])  # as look_at_owner()
        fd, new = self.at(mount, new)
        os.link(f"/proc/self/fd/{self.fds[number]}", new, dst_dir_fd=fd, follow_symlinks=True)

    def dup(self, mount, user, number, new):
        giver, taker = (self.helper(n // PER_PROCESS) if n >= PER_PROCESS else None for n in (number, new))
        given = giver.give(number) if giver else os.dup(self.fds[number])
        if taker:
            taker.take(new, given)
        else:
            self.taken(new, given)

    def unlocked(self, mount):
        """Known: Linux does not wait for a FUSE filesystem to hear that an open file has ended, so the locks of it (flock and
        OFD) are free for other mounts a moment after close(2) has returned. They are when the mount has answered what it was
        asked about locks since: the one, and then the other."""
        for _ in ("flock", "ofd"):
            syscalls.range_lock(self.barriers[mount], fcntl.F_GETLK, fcntl.F_RDLCK, 0, 0)

    def taken(self, number, fd):
        if number in self.fds:
            os.close(self.fds[number])
        self.fds[number] = fd

    def exit(self, mount, user, process):
        self.helpers.pop(process).kill()

    def pread(self, mount, user, number, offset, length):
        return os.pread(self.fds[number], length, offset)

    def pwrite(self, mount, user, number, offset, data):
        return os.pwrite(self.fds[number], data, offset)

    def mmap(self, mount, user, number, slot, writable):
        if number in self.maps:
            self.munmap(mount, user, number)
        self.maps[number] = syscalls.map_shared(self.fds[slot], MAX_MAPPED, writable=writable)

    def munmap(self, mount, user, number):
        self.maps.pop(number).close()

    def mapping(self, number):
        """Known: a fault does not ask for the size (no FUSE filesystem can be asked): whoever reaches into what another machine
        has appended or cut off since must look at the size first."""
        self.maps[number].stat()
        return self.maps[number]

    def mapload(self, mount, user, number, offset, length):
        return self.copier.load(self.mapping(number).bytes, offset, length)

    def mapstore(self, mount, user, number, offset, data, sync):
        self.copier.store(self.mapping(number).bytes, offset, data)
        if sync:
            self.maps[number].flush()

    def msync(self, mount, user, number):
        self.maps[number].flush()

    def flock(self, mount, user, number, kind):
        fcntl.flock(self.fds[number], FLOCKS[kind])

    def lock(self, mount, user, number, how, kind, start, length):
        syscalls.range_lock(self.fds[number], SET[how], KINDS[kind], start, length)

    def getlock(self, mount, user, number, how, kind, start, length):
        kind, first, length, pid = syscalls.range_lock(self.fds[number], GET[how], KINDS[kind], start, length)
        if kind == fcntl.F_UNLCK:
            return None
        return {fcntl.F_RDLCK: "r", fcntl.F_WRLCK: "w"}[kind], first, first + length - 1 if length else LAST, pid

    def ftruncate(self, mount, user, number, size):
        os.fstat(self.fds[number])
        os.ftruncate(self.fds[number], size)

    def fallocate(self, mount, user, number, mode, offset, length):
        os.fstat(self.fds[number])
        syscalls.fallocate(self.fds[number], mode, offset, length)

    def copy(self, mount, user, source, offset, number, to, length):
        os.fstat(self.fds[number])
        os.fstat(self.fds[source])  # Linux cuts the range at the size it knows, and does not ask
        done = 0
        while True:
            n = os.copy_file_range(self.fds[source], self.fds[number], length - done, offset + done, to + done)
            done += n
            if n == 0 or done == length:
                return done

    def fsync(self, mount, user, number, data_only):
        (os.fdatasync if data_only else os.fsync)(self.fds[number])


class Checked:
    """A driver and the reference side by side: `step(op)` raises Difference when they do not agree."""

    def __init__(self, mounts, name, features):
        self.reference = Reference(mounts=len(mounts), **features)
        self.driver = Driver(mounts, name)
        self.known = 0  # differences that are known

    def step(self, op):
        """False: the operation was not applicable, and nothing was done."""
        now = time.time_ns()
        try:
            expected = self.reference.apply(op, now)
        except NotApplicable:
            return False
        except Fail as e:
            expected = e
        if op[0] == "all":
            self.compare_tree(op[1], self.reference.root, ".")
            return True
        try:
            try:
                got = self.driver.apply(op)
            finally:
                for mount in self.reference.ended:
                    self.driver.unlocked(mount)
        except OSError as e:
            if isinstance(expected, Fail) and e.errno in expected.numbers:
                return True
            if e.errno == errno.ESTALE and self.names_what_is_gone(op):
                self.known += 1
                return True
            raise Difference(f"{syscalls.name_of(e.errno)}, and not {self.say(expected)}") from None
        if isinstance(expected, Fail):
            raise Difference(f"succeeded, and not {expected}")
        if isinstance(expected, Node):
            self.compare_stat(expected, got)
        elif isinstance(expected, dict):
            self.compare_names(expected, got)
        elif isinstance(expected, AnyOf):
            got = self.holder(got)
            if got not in expected:
                raise Difference(f"{got!r}, and not {' or '.join(map(repr, expected))}")
        elif expected != got:
            raise Difference(self.first_difference(expected, got) if isinstance(expected, bytes)
                             else f"{got!r}, and not {expected!r}")
        return True

    def holder(self, got):
        """Of a lock: the process for its id."""
        if got is None:
            return None
        known = {0: "elsewhere", -1: "ofd", os.getpid(): 0}
        known.update((helper.pid, process) for process, helper in self.driver.helpers.items())
        return got[:3] + (known.get(got[3], f"process id {got[3]}"),)

    def names_what_is_gone(self, op):
        """Known: a directory or FIFO that one mount has open does not live on when another removes it. FUSE is not told of
        an open FIFO or working directory, and Cairn does not tell the MDS of open directories."""
        slots = [self.reference.base_of(w) for w in op[3:] if isinstance(w, str)] + [op[i] for i in NUMBERS.get(op[0], ())]
        slots = [self.reference.slots.get(n) for n in slots]
        return any(s is not None and not s.node.is_file and s.node.dead for s in slots)

    @staticmethod
    def say(expected):
        return str(expected) if isinstance(expected, Fail) else "success"

    @staticmethod
    def first_difference(expected, got):
        at = next((i for i, (a, b) in enumerate(zip(expected, got)) if a != b), min(len(expected), len(got)))
        return (f"{len(got)} bytes, and not {len(expected)}; they differ from byte {at} on: "
                f"{got[at:at + 8].hex()}, and not {expected[at:at + 8].hex()}")

    def compare_stat(self, node, st):
        expected = {"type": node.type, "mode": node.mode, "uid": node.uid, "gid": node.gid, "nlink": node.nlink}
        got = {"type": stat.S_IFMT(st.st_mode), "mode": stat.S_IMODE(st.st_mode), "uid": st.st_uid, "gid": st.st_gid,
               "nlink": st.st_nlink}
        if node.size() is not None:
            expected["size"], got["size"] = node.size(), st.st_size
        if node.seen is not None:
            expected["ino"], got["ino"] = node.seen, st.st_ino
        node.seen = st.st_ino
        differ = [f"{k} {got[k]:#o}, and not {expected[k]:#o}" if k in ("mode", "type") else
                  f"{k} {got[k]}, and not {expected[k]}" for k in expected if expected[k] != got[k]]
        if node.stored:
            node.mtime = node.ctime = ("since", ANYTIME)
        node.mtime = self.time("mtime", node.mtime, st.st_mtime_ns, differ)
        if node.ctime[0] == "is":
            node.ctime = ("since", node.ctime[1] + CLOCK_SLACK_NS)
        node.ctime = self.time("ctime", node.ctime, st.st_ctime_ns, differ)
        if differ:
            raise Difference("; ".join(differ))

    @staticmethod
    def time(name, expected, got, differ):
        how, ns = expected
        if how == "is" and got != ns:
            differ.append(f"{name} {got}, and not {ns}")
        elif how == "since" and ns and not ns - CLOCK_SLACK_NS <= got <= time.time_ns():
            differ.append(f"{name} {got}, and not after {ns}")
        return ("is", got)

    @staticmethod
    def compare_names(expected, got):
        if expected.keys() != got.keys():
            raise Difference(f"lists {sorted(got)}, and not {sorted(expected)}")
        for name, node in expected.items():
            ino, kind = got[name]
            if kind != (node.is_dir, node.is_file, node.is_link):
                raise Difference(f"{name} is listed with the wrong type")
            if node.seen not in (None, ino):
                raise Difference(f"{name} is listed as inode {ino}, and not {node.seen}")

    def acls(self, mount, path):
        found = {}
        for kind in acl.NAMES:
            try:
                found[kind] = self.driver.getacl(mount, 0, path, kind)
            except OSError as e:
                if e.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
                    raise
        return found

    def compare_tree(self, mount, node, path):
        """Everything there is, as root sees it through one mount."""
        try:
            self.compare_stat(node, self.driver.stat(mount, 0, path, False))
            names = self.driver.listxattr(mount, 0, path)
            xattrs = {n: self.driver.getxattr(mount, 0, path, n) for n in names}
            if xattrs != node.xattrs:
                raise Difference(f"xattrs {sorted(xattrs)}, and not {sorted(node.xattrs)}, or other values")
            if not node.is_link and (acls := self.acls(mount, path)) != node.acls:
                raise Difference(f"access control lists {acls}, and not {node.acls}")
            if node.is_link and self.driver.readlink(mount, 0, path) != node.target:
                raise Difference("another target")
            if node.is_file and (got := self.driver.cat(mount, 0, path)) != node.data:
                raise Difference(self.first_difference(bytes(node.data), got))
            if node.is_dir:
                self.compare_names(node.entries, self.driver.list(mount, 0, path))
        except OSError as e:
            raise Difference(f"{path}: {syscalls.name_of(e.errno)}") from None
        except Difference as e:
            raise Difference(f"{path}: {e}") from None
        for name, child in (node.entries or {}).items():
            self.compare_tree(mount, child, f"{path}/{name}")
