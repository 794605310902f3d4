"""What POSIX, as Linux has it, says that a filesystem does: all of it in memory, for one operation at a time.

`Reference.apply(op)` gives what the operation must give: a value, or the errno as a `Fail`. The order in which errors are
looked for is Linux's; model.py --local proves it on a filesystem of this machine. Operations are tuples of plain values
(name, mount, user, arguments...). A path is relative to the top of the tree, or with "@3/" in front to the directory that
slot 3 has open. A slot holds an open descriptor, a map a mapping; the number of either says whose it is: process 0 works on all
mounts, each other one on one.
"""
import errno as E
import os
import stat
from os import O_ACCMODE, O_APPEND, O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY

import acl
from locks import FileLocks, bytes_of
from syscalls import (FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE, RENAME_EXCHANGE, RENAME_NOREPLACE,
                   RENAME_WHITEOUT, XATTR_CREATE, XATTR_REPLACE, name_of)

R, W, X = 4, 2, 1
MAX_LINKS_FOLLOWED = 40
MAX_NAME = 255
MAX_MAPPED = 256 << 10
PAGE = 4096
PER_PROCESS = 8  # slots, and maps
ANYTIME = 0  # a time that an operation may have changed or left alone


# Which arguments of an operation are numbers of slots or maps.
NUMBERS = {name: (3,) for name in (
    "fstat", "flist", "fchmod", "open", "close", "pread", "pwrite", "ftruncate", "fallocate", "fsync", "flock", "lock", "getlock",
    "tmpfile", "linkfd", "mapload", "mapstore", "msync", "munmap")}
NUMBERS.update(mmap=(3, 4), copy=(3, 5))


class Fail(Exception):
    """The operation fails with one of these."""
    def __init__(self, *numbers):
        super().__init__(" or ".join(name_of(n) for n in numbers))
        self.numbers = numbers


class NotApplicable(Exception):
    """The operation names a slot that is not open (any more), or would block: nothing is done, anywhere."""


ANYBODY = "anybody"


class AnyOf(tuple):
    """The operation gives one of these: of a lock, its kind, first and last byte, and who is said to hold it."""
    def __contains__(self, got):
        return super().__contains__(got) or (got is not None and super().__contains__(got[:3] + (ANYBODY,)))


class Node:
    __slots__ = ("id", "type", "mode", "uid", "gid", "nlink", "data", "entries", "target", "xattrs", "parent", "mtime",
                 "ctime", "seen", "acls", "locks", "stored", "linkable")

    def __init__(self, number, kind, mode, uid, gid, now):
        self.id, self.type, self.mode, self.uid, self.gid = number, kind, mode, uid, gid
        self.nlink = 2 if kind == stat.S_IFDIR else 1
        self.data = bytearray() if kind == stat.S_IFREG else None
        self.entries = {} if kind == stat.S_IFDIR else None
        self.target = None
        self.xattrs = {}
        self.parent = None
        # A time is ("is", ns), or ("since", ns) until it was looked at after an operation that set it to the clock.
        self.mtime = self.ctime = ("since", now)
        self.seen = None  # what the filesystem under test calls it (inode number)
        self.acls = {}  # "access", "default"
        self.locks = FileLocks()
        self.stored = set()  # the mounts with stores into mappings that may not be written back: that sets the times, some day
        self.linkable = False  # made by O_TMPFILE, and never had a name

    is_dir = property(lambda self: self.type == stat.S_IFDIR)
    is_file = property(lambda self: self.type == stat.S_IFREG)
    is_link = property(lambda self: self.type == stat.S_IFLNK)
    dead = property(lambda self: self.nlink == 0)

    def size(self):
        return len(self.data) if self.is_file else len(self.target) if self.is_link else None


class Slot:
    """An open file: several descriptors may be of one."""
    def __init__(self, node, mount, flags):
        self.node, self.mount, self.flags = node, mount, flags
        self.readable = flags & O_ACCMODE in (O_RDONLY, O_RDWR)
        self.writable = flags & O_ACCMODE in (O_WRONLY, O_RDWR)


class Map:
    def __init__(self, slot, writable):
        self.slot, self.node, self.mount, self.writable = slot, slot.node, slot.mount, writable


class Reference:
    def __init__(self, whiteout=True, protected=None, ofd_told=True, mounts=2):
        self.whiteout = whiteout
        self.mounts = mounts
        self.ofd_told = ofd_told  # F_GETLK tells locks of open files from those of processes
        self.protected = protected or {}  # fs.protected_* (proc_sys_fs(5)): "hardlinks", ...
        self.now = 0  # the clock before the operation that is applied
        self.last = 0
        self.slots = {}
        self.maps = {}
        self.process = 0  # which does the operation that is applied
        self.ended = set()  # the mounts where it ended an open file with locks
        self.root = self.node(stat.S_IFDIR, 0o777, 0, 0)
        self.root.parent = self.root

    def apply(self, op, now):
        self.now = now
        for word in op[3:]:
            if isinstance(word, str) and word.startswith("@"):
                self.start(op[1], word)  # applicable, whatever else is wrong
        self.process = self.process_of(op)
        self.ended = set()
        return getattr(self, op[0])(op[1], op[2], *op[3:])

    # ---- parts of many operations ----

    def node(self, kind, mode, uid, gid):
        self.last += 1
        return Node(self.last, kind, mode, uid, gid, self.now)

    @classmethod
    def process_of(cls, op):
        numbers = [op[i] for i in NUMBERS.get(op[0], ())] + [cls.base_of(w) for w in op[3:] if isinstance(w, str)]
        processes = {number // PER_PROCESS for number in numbers if number is not None}
        if len(processes) > 1:
            raise NotApplicable
        return processes.pop() if processes else 0

    def works_on(self, process, mount):
        return process == 0 or (process - 1) % self.mounts == mount

    def slot(self, number, mount=None):
        found = self.slots.get(number)
        if found is None or mount not in (None, found.mount):
            raise NotApplicable
        return found

    def changed(self, node):
        node.ctime = ("since", self.now)

    def modified(self, node):
        node.mtime = node.ctime = ("since", self.now)

    def start(self, mount, path):
        if not path.startswith("@"):
            return self.root, path
        number, path = path[1:].split("/", 1)
        base = self.slot(int(number), mount).node
        if not base.is_dir:
            raise NotApplicable
        return base, path

    @staticmethod
    def may(user, node, mask):
        if user == 0:
            return True
        if user != node.uid and "access" in node.acls and node.mode & 0o070:  # Linux does not look at it if the mask is empty
            return acl.allows(node.acls["access"], node, user, mask)
        shift = 6 if user == node.uid else 3 if user == node.gid else 0
        return (node.mode >> shift) & mask == mask

    def need(self, user, node, mask):
        if not self.may(user, node, mask):
            raise Fail(E.EACCES)

    def walk(self, mount, user, path, follow):
        """The directory and name that a path ends in, and what is there (None: nothing)."""
        at, path = self.start(mount, path)
        todo, links = path.split("/")[::-1], 0
        while True:
            name = todo.pop()
            if not at.is_dir:
                raise Fail(E.ENOTDIR)
            self.need(user, at, X)
            if name == ".":
                if not todo:
                    return at, name, at
                continue
            if len(name) > MAX_NAME:
                raise Fail(E.ENAMETOOLONG, *([E.ENOENT] if at.dead else []))
            child = at.entries.get(name)
            if not todo and not (follow and child is not None and child.is_link):
                return at, name, child
            if child is None:
                raise Fail(E.ENOENT)
            if child.is_link:
                links += 1
                if links > MAX_LINKS_FOLLOWED:
                    raise Fail(E.ELOOP)
                if (not todo and self.protected.get("symlinks") and at.mode & 0o1002 == 0o1002
                        and child.uid not in (user, at.uid)):
                    raise Fail(E.EACCES)
                todo.extend(child.target.split("/")[::-1])
            else:
                at = child

    def find(self, mount, user, path, follow=True):
        _, _, node = self.walk(mount, user, path, follow)
        if node is None:
            raise Fail(E.ENOENT)
        return node

    def where_to_make(self, mount, user, path):
        parent, name, node = self.walk(mount, user, path, False)
        if node is not None:
            raise Fail(E.EEXIST)
        return parent, name

    def may_make(self, user, parent):
        if parent.dead:
            raise Fail(E.ENOENT)
        self.need(user, parent, W | X)

    def may_remove(self, user, parent, node):
        self.need(user, parent, W | X)
        if parent.mode & stat.S_ISVTX and user not in (0, node.uid, parent.uid):
            raise Fail(E.EPERM)

    def attach(self, parent, name, node):
        parent.entries[name] = node
        if node.is_dir:
            node.parent = parent
            parent.nlink += 1
        self.modified(parent)

    def detach(self, parent, name):
        node = parent.entries.pop(name)
        if node.is_dir:
            parent.nlink -= 1
        self.modified(parent)
        return node

    def drop(self, node):
        node.nlink = 0 if node.is_dir else node.nlink - 1
        self.changed(node)

    def make(self, user, parent, name, kind, mode):
        node = self.born(user, parent, kind, mode)
        self.attach(parent, name, node)
        return node

    def born(self, user, parent, kind, mode):
        """With what it inherits."""
        gid = user
        if parent.mode & stat.S_ISGID:
            gid = parent.gid
            if kind == stat.S_IFDIR:
                mode |= stat.S_ISGID
            elif mode & 0o2010 == 0o2010 and user not in (0, gid):
                mode &= ~stat.S_ISGID
        inherited = parent.acls.get("default") if kind != stat.S_IFLNK else None
        if inherited:
            access = acl.with_mode(inherited, acl.mode_of(inherited) & mode)
            mode = mode & ~0o777 | acl.mode_of(access)
            self.no_mandatory_locking(kind, mode)
        node = self.node(kind, mode, user, gid)
        if inherited:
            if not acl.minimal(access):
                node.acls["access"] = access
            if kind == stat.S_IFDIR:
                node.acls["default"] = inherited
        return node

    def loses_privileges(self, user, node):
        """By a write, a truncation or a change of owner: the bits that would lend rights to the new content."""
        node.mode &= ~stat.S_ISUID
        if node.mode & 0o010 or user not in (0, node.gid):
            node.mode &= ~stat.S_ISGID

    def written(self, user, node):
        if user != 0:
            self.loses_privileges(user, node)
        self.modified(node)

    @staticmethod
    def resize(node, size):
        del node.data[size:]
        node.data.extend(bytes(size - len(node.data)))

    # ---- names ----

    def mkdir(self, mount, user, path, mode):
        parent, name = self.where_to_make(mount, user, path)
        self.may_make(user, parent)
        self.make(user, parent, name, stat.S_IFDIR, mode & 0o1777)

    def mkfifo(self, mount, user, path, mode):
        parent, name = self.where_to_make(mount, user, path)
        self.may_make(user, parent)
        self.make(user, parent, name, stat.S_IFIFO, mode)

    def symlink(self, mount, user, path, target):
        parent, name = self.where_to_make(mount, user, path)
        self.may_make(user, parent)
        self.make(user, parent, name, stat.S_IFLNK, 0o777).target = target

    def link(self, mount, user, path, new, follow):
        node = self.find(mount, user, path, follow)
        parent, name = self.where_to_make(mount, user, new)
        self.may_link(user, node)
        self.may_make(user, parent)
        if node.is_dir:
            raise Fail(E.EPERM)
        node.nlink += 1
        self.changed(node)
        self.attach(parent, name, node)

    def may_link(self, user, node):
        if self.protected.get("hardlinks") and user not in (0, node.uid):
            safe = node.is_file and not node.mode & stat.S_ISUID and node.mode & 0o2010 != 0o2010
            if not safe or not self.may(user, node, R | W):
                raise Fail(E.EPERM)

    def linkfd(self, mount, user, number, new):
        """A name for what is open."""
        node = self.slot(number, mount).node
        parent, name = self.where_to_make(mount, user, new)
        self.may_link(user, node)
        self.may_make(user, parent)
        if node.is_dir:
            raise Fail(E.EPERM)
        if node.dead and not node.linkable:
            raise Fail(E.ENOENT)
        node.linkable = False
        node.nlink += 1
        self.changed(node)
        self.attach(parent, name, node)

    def unlink(self, mount, user, path):
        parent, name, node = self.walk(mount, user, path, False)
        if node is None:
            raise Fail(E.ENOENT)
        self.may_remove(user, parent, node)
        if node.is_dir:
            raise Fail(E.EISDIR)
        self.drop(self.detach(parent, name))

    def rmdir(self, mount, user, path):
        parent, name, node = self.walk(mount, user, path, False)
        if node is None:
            raise Fail(E.ENOENT)
        self.may_remove(user, parent, node)
        if not node.is_dir:
            raise Fail(E.ENOTDIR)
        if node.entries:
            raise Fail(E.ENOTEMPTY)
        self.drop(self.detach(parent, name))

    def rename(self, mount, user, path, new, flags):
        if flags & RENAME_EXCHANGE and flags != RENAME_EXCHANGE:
            raise Fail(E.EINVAL)
        exchange = flags == RENAME_EXCHANGE
        ends, wrong = [], []
        for way in (path, new):
            try:
                ends.append(self.walk(mount, user, way, False))
                if way is path and ends[0][2] is None:
                    wrong.append(E.ENOENT)
            except Fail as e:
                wrong += e.numbers
        if wrong:
            raise Fail(*wrong)
        (source_dir, source_name, source), (target_dir, target_name, target) = ends
        if flags & RENAME_NOREPLACE and target is not None:
            raise Fail(E.EEXIST)
        if exchange and target is None:
            raise Fail(E.ENOENT)
        if self.is_below(target_dir, source):
            raise Fail(E.EINVAL)
        if target is not None and self.is_below(source_dir, target):
            raise Fail(E.EINVAL if exchange else E.ENOTEMPTY)
        if source is target:
            return
        if target_dir.dead:
            raise Fail(E.ENOENT, E.EACCES, E.EPERM)
        self.may_remove(user, source_dir, source)
        if target is None:
            self.may_make(user, target_dir)
        else:
            self.may_remove(user, target_dir, target)
            if not exchange and source.is_dir != target.is_dir:
                raise Fail(E.ENOTDIR if source.is_dir else E.EISDIR)
        if source_dir is not target_dir:
            for moved in (source, target if exchange else None):
                if moved is not None and moved.is_dir:
                    self.need(user, moved, W)
        if flags & RENAME_WHITEOUT and not self.whiteout:
            raise Fail(E.EINVAL)
        if target is not None and target.is_dir and not exchange and target.entries:
            if flags & RENAME_WHITEOUT:  # ext4 makes the whiteout first
                source_dir.mtime = source_dir.ctime = ("since", ANYTIME)
            raise Fail(E.ENOTEMPTY)
        self.detach(source_dir, source_name)
        if target is not None:
            self.detach(target_dir, target_name)
        self.attach(target_dir, target_name, source)
        self.changed(source)
        if exchange:
            self.attach(source_dir, source_name, target)
            self.changed(target)
        elif target is not None:
            self.drop(target)
        if flags & RENAME_WHITEOUT:
            self.make(user, source_dir, source_name, stat.S_IFCHR, 0)

    @staticmethod
    def is_below(directory, ancestor):
        while directory is not ancestor:
            if directory.parent is directory or directory.dead:
                return False
            directory = directory.parent
        return True

    def readlink(self, mount, user, path):
        node = self.find(mount, user, path, False)
        if not node.is_link:
            raise Fail(E.EINVAL)
        return node.target

    # ---- looking: what comes back is a node, and compared field by field ----

    def stat(self, mount, user, path, follow):
        return self.find(mount, user, path, follow)

    def fstat(self, mount, user, number):
        return self.slot(number).node

    def list(self, mount, user, path):
        node = self.find(mount, user, path)
        if not node.is_dir:
            raise Fail(E.ENOTDIR)
        self.need(user, node, R)
        return dict(node.entries)

    def flist(self, mount, user, number):
        slot = self.slot(number)
        if not slot.node.is_dir:
            raise NotApplicable
        return dict(slot.node.entries)

    def cat(self, mount, user, path):
        node = self.find(mount, user, path)
        if not node.is_file:
            raise NotApplicable
        self.need(user, node, R)
        node.locks.gone(self.process)  # it opens and closes the file
        return bytes(node.data)

    def all(self, mount, user):
        return self.root

    # ---- attributes ----

    def chmod(self, mount, user, path, mode):
        self.change_mode(user, self.find(mount, user, path), mode)

    def fchmod(self, mount, user, number, mode):
        self.change_mode(user, self.slot(number).node, mode)

    def change_mode(self, user, node, mode):
        if user not in (0, node.uid):
            raise Fail(E.EPERM)
        if user not in (0, node.gid):
            mode &= ~stat.S_ISGID
        node.mode = mode
        if "access" in node.acls:
            node.acls["access"] = acl.with_mode(node.acls["access"], mode)
        self.changed(node)

    def setacl(self, mount, user, path, kind, entries):
        """No entries: removes it."""
        node = self.find(mount, user, path, False)
        self.may_set_acl(user, node, kind, entries)
        had = (node.acls.get(kind), node.mode)
        if kind == "access" and entries:
            mode = node.mode & ~0o777 | acl.mode_of(entries)
            if user not in (0, node.gid):
                mode &= ~stat.S_ISGID
            self.no_mandatory_locking(node.type, mode)
            node.mode = mode
        if not entries or (kind == "access" and acl.minimal(entries)):
            node.acls.pop(kind, None)
        else:
            node.acls[kind] = entries
        if had != (node.acls.get(kind), node.mode):
            self.changed(node)
        else:
            node.ctime = ("since", ANYTIME)

    @staticmethod
    def no_mandatory_locking(kind, mode):
        """That is what S_ISGID without execution meant; what a write does to it is left open by chown(2)."""
        if kind == stat.S_IFREG and mode & 0o2010 == stat.S_ISGID:
            raise NotApplicable

    @staticmethod
    def may_set_acl(user, node, kind, entries):
        if node.is_link:
            raise Fail(E.EOPNOTSUPP)
        if kind == "default" and not node.is_dir:
            if not entries:
                raise NotApplicable  # it depends on the filesystem
            raise Fail(E.EACCES)
        if user not in (0, node.uid):
            raise Fail(E.EPERM)
        if entries and not acl.valid(entries):
            raise Fail(E.EINVAL)

    def getacl(self, mount, user, path, kind):
        node = self.find(mount, user, path, False)
        if node.is_link:
            raise Fail(E.EOPNOTSUPP)
        if kind not in node.acls:
            raise Fail(E.ENODATA)
        return node.acls[kind]

    def access(self, mount, user, path, mask):
        node = self.find(mount, user, path)
        if user == 0 and mask & X and not node.is_dir and not node.mode & 0o111:
            raise Fail(E.EACCES)
        self.need(user, node, mask)

    def chown(self, mount, user, path, uid, gid, follow):
        node = self.find(mount, user, path, follow)
        if user != 0 and (user != node.uid or uid != node.uid or gid not in (user, node.gid)):
            raise Fail(E.EPERM)
        if not node.is_dir:
            self.loses_privileges(user, node)
        node.uid, node.gid = uid, gid
        self.changed(node)

    def utime(self, mount, user, path, ns, follow):
        """`ns` 0: now."""
        node = self.find(mount, user, path, follow)
        if user not in (0, node.uid):
            if ns:
                raise Fail(E.EPERM)
            self.need(user, node, W)
        self.changed(node)
        node.mtime = ("is", ns) if ns else ("since", self.now)

    def truncate(self, mount, user, path, size):
        node = self.find(mount, user, path)
        if node.is_dir:
            raise Fail(E.EISDIR)
        if not node.is_file:
            raise Fail(E.EINVAL)
        self.need(user, node, W)
        same = size == len(node.data)
        self.resize(node, size)
        self.written(user, node)
        if same:  # filesystems differ
            node.mtime = node.ctime = ("since", ANYTIME)

    def setxattr(self, mount, user, path, name, value, flags):
        node = self.find(mount, user, path, False)
        self.may_change_xattr(user, node, name)
        if name in node.xattrs and flags == XATTR_CREATE:
            raise Fail(E.EEXIST)
        if name not in node.xattrs and flags == XATTR_REPLACE:
            raise Fail(E.ENODATA)
        if node.xattrs.get(name) != value:
            self.changed(node)
        else:
            node.ctime = ("since", ANYTIME)
        node.xattrs[name] = value

    def removexattr(self, mount, user, path, name):
        node = self.find(mount, user, path, False)
        self.may_change_xattr(user, node, name)
        if name not in node.xattrs:
            raise Fail(E.ENODATA)
        del node.xattrs[name]
        self.changed(node)

    def may_change_xattr(self, user, node, name):
        if not name.startswith("user."):
            return
        if not node.is_file and not node.is_dir:
            raise Fail(E.EPERM)
        if node.is_dir and node.mode & stat.S_ISVTX and user not in (0, node.uid):
            raise Fail(E.EPERM)
        self.need(user, node, W)

    def getxattr(self, mount, user, path, name):
        node = self.find(mount, user, path, False)
        if name.startswith("user."):
            if not node.is_file and not node.is_dir:
                raise Fail(E.ENODATA)
            self.need(user, node, R)
        if name not in node.xattrs:
            raise Fail(E.ENODATA)
        return node.xattrs[name]

    def listxattr(self, mount, user, path):
        return sorted(self.find(mount, user, path, False).xattrs)

    # ---- open descriptors ----

    def open(self, mount, user, number, path, flags, mode):
        self.opens(mount, number, path, lambda: self.opened(mount, user, path, flags, mode))

    def tmpfile(self, mount, user, number, path, flags, mode):
        self.opens(mount, number, path, lambda: self.made_without_name(mount, user, path, flags, mode))

    def opens(self, mount, number, path, how):
        """The number is free first, unless the path begins at it."""
        if not self.works_on(self.process, mount):
            raise NotApplicable
        try:
            slot = how()
        except Fail:
            if self.base_of(path) != number:
                self.shut(number)
            raise
        self.shut(number)
        self.slots[number] = slot

    def opened(self, mount, user, path, flags, mode):
        if flags & O_CREAT and flags & O_DIRECTORY:
            raise Fail(E.EINVAL)
        follow = not flags & O_NOFOLLOW and flags & (O_CREAT | O_EXCL) != O_CREAT | O_EXCL
        parent, name, node = self.walk(mount, user, path, follow)
        if node is None:
            if not flags & O_CREAT:
                raise Fail(E.ENOENT)
            self.may_make(user, parent)
            node = self.make(user, parent, name, stat.S_IFREG, mode)
        else:
            self.may_open(user, parent, node, flags)
            if flags & O_TRUNC and node.is_file:
                self.resize(node, 0)
                self.written(user, node)
        return Slot(node, mount, flags)

    def made_without_name(self, mount, user, path, flags, mode):
        if flags & O_ACCMODE == O_RDONLY:
            raise Fail(E.EINVAL)
        parent = self.find(mount, user, path)
        if not parent.is_dir:
            raise Fail(E.ENOTDIR)
        self.need(user, parent, W | X)
        if parent.dead:
            raise Fail(E.ENOENT, E.EPERM)  # EPERM: ext4
        node = self.born(user, parent, stat.S_IFREG, mode)
        node.nlink, node.linkable = 0, not flags & O_EXCL
        return Slot(node, mount, flags)

    def shut(self, number):
        """The number is free: with a close of any descriptor the process loses its locks of the file."""
        slot = self.slots.pop(number, None)
        if slot is not None:
            slot.node.locks.gone(number // PER_PROCESS)
            self.last_of(slot)

    def last_of(self, slot):
        """An open file ends with the last of its descriptors and mappings, and its locks with it."""
        if slot not in self.slots.values() and all(m.slot is not slot for m in self.maps.values()):
            if slot.node.locks.gone(slot):
                self.ended.add(slot.mount)

    def may_open(self, user, parent, node, flags):
        writes = flags & O_ACCMODE != O_RDONLY or bool(flags & O_TRUNC)
        if flags & O_CREAT and flags & O_EXCL:
            raise Fail(E.EEXIST)
        if flags & O_CREAT and node.is_dir:
            raise Fail(E.EISDIR)
        if flags & O_CREAT and parent.mode & stat.S_ISVTX and node.uid not in (user, parent.uid):
            # Linux guards what is there already in /tmp, and what is neither file nor FIFO always.
            level = {stat.S_IFREG: self.protected.get("regular"), stat.S_IFIFO: self.protected.get("fifos")}
            level = level.get(node.type, 1)
            if level and parent.mode & (0o002 if level == 1 else 0o022):
                raise Fail(E.EACCES)
        if flags & O_DIRECTORY and not node.is_dir:
            raise Fail(E.ENOTDIR)
        if node.is_link:
            raise Fail(E.ELOOP)
        if node.is_dir and writes:
            raise Fail(E.EISDIR)
        if not node.is_dir and not node.is_file and flags & O_ACCMODE == O_WRONLY:
            raise NotApplicable  # a FIFO: it depends on who reads
        if node.type == stat.S_IFCHR:
            raise NotApplicable  # a whiteout: no such device
        mask = (R if flags & O_ACCMODE != O_WRONLY else 0) | (W if writes else 0)
        self.need(user, node, mask)

    @staticmethod
    def base_of(path):
        return int(path[1:].split("/", 1)[0]) if path.startswith("@") else None

    def close(self, mount, user, number):
        self.slot(number)
        self.shut(number)

    def dup(self, mount, user, number, new):
        """Also to another process."""
        slot = self.slot(number, mount)
        if number == new or not self.works_on(new // PER_PROCESS, mount):
            raise NotApplicable
        self.shut(new)
        self.slots[new] = slot

    def exit(self, mount, user, process):
        """SIGKILL."""
        numbers = [n for n in self.slots if n // PER_PROCESS == process]
        maps = [n for n in self.maps if n // PER_PROCESS == process]
        if process == 0 or not numbers + maps:
            raise NotApplicable
        for number in maps:
            self.unmap(number)
        for number in numbers:
            self.shut(number)

    def pread(self, mount, user, number, offset, length):
        slot = self.file(number)
        if not slot.readable:
            raise Fail(E.EBADF)
        if slot.node.is_dir:
            raise Fail(E.EISDIR)
        return bytes(slot.node.data[offset:offset + length])

    def pwrite(self, mount, user, number, offset, data):
        slot = self.file(number)
        if not slot.writable:
            raise Fail(E.EBADF)
        if data:
            node = slot.node
            self.put(node, len(node.data) if slot.flags & O_APPEND else offset, data)
            self.written(user, node)
        return len(data)

    def file(self, number):
        slot = self.slot(number)
        if not slot.node.is_file and not slot.node.is_dir:
            raise NotApplicable
        return slot

    def put(self, node, offset, data):
        if offset > len(node.data):
            self.resize(node, offset)
        node.data[offset:offset + len(data)] = data

    # ---- mappings: shared, and they outlive the descriptor ----

    def mmap(self, mount, user, number, slot, writable):
        slot = self.slot(slot, mount)
        if not slot.node.is_file:
            raise NotApplicable
        self.unmap(number)
        if not slot.readable or (writable and not slot.writable):
            raise Fail(E.EACCES)
        self.maps[number] = Map(slot, writable)

    def munmap(self, mount, user, number):
        self.mapped(number)
        self.unmap(number)

    def unmap(self, number):
        found = self.maps.pop(number, None)
        if found is not None:
            self.last_of(found.slot)

    def mapped(self, number):
        if number not in self.maps:
            raise NotApplicable
        return self.maps[number]

    def mapload(self, mount, user, number, offset, length):
        node = self.mapped(number).node
        self.can_be_touched(node, offset, length)
        return bytes(node.data[offset:offset + length])

    def mapstore(self, mount, user, number, offset, data, sync):
        found = self.mapped(number)
        if not found.writable:
            raise NotApplicable  # SIGSEGV
        self.can_be_touched(found.node, offset, len(data))
        self.put(found.node, offset, data)
        if sync and not found.node.stored:
            self.modified(found.node)
        else:
            self.modified_some_time(found.node)
            found.node.stored.add(found.mount)
        if sync:
            self.synced(found)

    def msync(self, mount, user, number):
        self.synced(self.mapped(number))

    def synced(self, which):
        """The times are those of the stores, or of the writing back."""
        if which.mount in which.node.stored:
            self.modified_some_time(which.node)
            which.node.stored.discard(which.mount)

    @staticmethod
    def modified_some_time(node):
        node.mtime = node.ctime = ("since", ANYTIME)

    @staticmethod
    def can_be_touched(node, offset, length):
        """What a store behind the end, but in its page, does, is left open."""
        if not length or offset + length > MAX_MAPPED:
            raise NotApplicable
        if offset + length > len(node.data):
            if offset < -(-len(node.data) // PAGE) * PAGE:
                raise NotApplicable
            raise Fail(E.EFAULT)  # SIGBUS

    # ---- file locks: of a process (whose number is the owner), or of an open file (whose slot is) ----

    def flock(self, mount, user, number, kind):
        slot = self.lockable(number)
        if not slot.node.locks.flock(slot, kind):
            raise Fail(E.EAGAIN)

    def lock(self, mount, user, number, how, kind, start, length):
        slot, owner, piece = self.lock_request(number, how, start, length)
        if (kind == "r" and not slot.readable) or (kind == "w" and not slot.writable):
            raise Fail(E.EBADF)
        if not slot.node.locks.set(owner, kind, *piece):
            raise Fail(E.EAGAIN)

    def getlock(self, mount, user, number, how, kind, start, length):
        slot, owner, piece = self.lock_request(number, how, start, length)
        held = slot.node.locks.in_the_way(owner, kind, *piece)
        return AnyOf((k, first, last, self.told(slot.mount, how, holder)) for holder, k, first, last in held) or AnyOf((None,))

    def told(self, mount, how, holder):
        """The process that is said to hold a lock; "ofd": an open file does; "elsewhere": it is on another mount. A mount does
        not know locks of open files from those of processes: who is asked by an open file says "ofd", and others that which
        took the lock."""
        if how == "ofd" and not self.ofd_told or isinstance(holder, Slot) and self.ofd_told:
            return "ofd"
        if isinstance(holder, Slot):
            return ANYBODY if holder.mount == mount else "elsewhere"
        return holder if self.ofd_told or self.works_on(holder, mount) else "elsewhere"

    def lock_request(self, number, how, start, length):
        slot = self.lockable(number)
        if how == "posix" and number // PER_PROCESS == 0:
            raise NotApplicable  # it is one owner on all mounts of a local filesystem, and one on each of others
        piece = bytes_of(start, length)
        if isinstance(piece, int):
            raise Fail(piece)
        return slot, slot if how == "ofd" else number // PER_PROCESS, piece

    def lockable(self, number):
        slot = self.slot(number)
        if not slot.node.is_file:
            raise NotApplicable  # Linux keeps locks of all else to itself
        return slot

    # ---- sizes and space ----

    def ftruncate(self, mount, user, number, size):
        slot = self.slot(number)
        if not slot.writable or not slot.node.is_file:
            raise Fail(E.EINVAL)
        self.resize(slot.node, size)
        self.written(user, slot.node)

    def fallocate(self, mount, user, number, mode, offset, length):
        slot = self.file(number)
        if length == 0:
            raise Fail(E.EINVAL)
        if not slot.writable:
            raise Fail(E.EBADF)
        node = slot.node
        if not mode & FALLOC_KEEP_SIZE and offset + length > len(node.data):
            self.resize(node, offset + length)
        if mode & (FALLOC_PUNCH_HOLE | FALLOC_ZERO_RANGE):
            end = min(offset + length, len(node.data))
            if end > offset:
                node.data[offset:end] = bytes(end - offset)
        self.written(user, node)
        node.mtime = node.ctime = ("since", ANYTIME)

    def copy(self, mount, user, source, offset, number, to, length):
        """copy_file_range(2), again and again until all is copied or the end is reached."""
        a, b = self.file(source), self.file(number)
        if a.node.is_dir or b.node.is_dir:
            raise Fail(E.EISDIR)
        if not a.readable or not b.writable or b.flags & O_APPEND:
            raise Fail(E.EBADF)
        data = bytes(a.node.data[offset:offset + length])
        if a.node is b.node and offset + length > len(a.node.data):
            raise NotApplicable  # what it writes moves the end that it reads to
        if a.node is b.node and offset < to + len(data) and to < offset + len(data):
            if a.mount != b.mount:
                raise NotApplicable  # undefined: the kernel does not see that it is one file
            raise Fail(E.EINVAL)
        if data:
            self.put(b.node, to, data)
            self.written(user, b.node)
        return len(data)

    def fsync(self, mount, user, number, data_only):
        self.synced(self.file(number))
