"""Random operations for model.py: chosen with an eye on the reference's state, so that most of them do something."""
import os
import random
import stat
from os import O_APPEND, O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY

import acl
from locks import LAST
from reference import MAX_MAPPED as MAX_FILE
from reference import PER_PROCESS
from syscalls import (FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE, RENAME_EXCHANGE, RENAME_NOREPLACE,
                   RENAME_WHITEOUT, XATTR_CREATE, XATTR_REPLACE)

NAMES = ["a", "b", "c", "d", "e", "f"]
LONG_NAMES = ["n" * 255, "m" * 256]
USERS = (1001, 1002)
HELPERS = 2  # processes beside the first one, on each mount
MAX_NODES = 50
# (S_ISGID without execution meant mandatory locking; what a write does to it is left open by chown(2).)
FILE_MODES = [0o644, 0o600, 0o666, 0o444, 0o000, 0o4755, 0o2755, 0o6777]
DIR_MODES = [0o755, 0o777, 0o777, 0o1777, 0o2775, 0o2777, 0o700, 0o555, 0o711]
XATTRS = ["user.a", "user.b", "trusted.c"]
POOL = random.Random(0).randbytes(1 << 20)

# How often, and which kinds of operations. A sequence leans to one of them.
LEANS = {
    "even": dict(names=3, data=3, attributes=2, acls=1, looks=4, maps=1, locks=1, processes=0.2),
    "names": dict(names=8, data=1, attributes=1, looks=5, processes=0.1),
    "data": dict(names=1, data=10, attributes=1, looks=2),
    "attributes": dict(names=1, data=2, attributes=6, acls=1, looks=5),
    "acls": dict(names=4, attributes=2, acls=6, looks=5),
    "maps": dict(names=0.5, data=4, attributes=0.5, looks=1, maps=8, processes=0.3),
    "locks": dict(names=0.3, data=1, looks=0.3, maps=0.3, locks=12, processes=1.5),
    "unseen": dict(names=4, data=6, attributes=2, maps=3, looks=0),
}


class Data(bytes):
    """Written bytes that show as what they were made of."""
    def __new__(cls, start, length):
        made = super().__new__(cls, POOL[start:start + length])
        made.start = start
        return made

    def __repr__(self):
        return f"Data({self.start}, {len(self)})"

    def __reduce__(self):
        return Data, (self.start, len(self))


class Generator:
    def __init__(self, dice, reference, mounts, users=True):
        self.dice, self.reference, self.mounts = dice, reference, mounts
        self.lean = dice.choice(list(LEANS.values()))
        self.looks_after = dice.choice([0, 0.3, 1])  # how often the others look at what was changed
        self.users = users
        self.user_share = dice.choice([0, 0.3]) if users else 0
        self.helper_share = 0.75 if "locks" in self.lean else 0
        self.queue = []

    def next(self):
        if self.queue:
            return self.queue.pop()
        d = self.dice
        kind = d.choices(list(self.lean), list(self.lean.values()))[0]
        op = getattr(self, kind)(d.randrange(self.mounts), self.user())
        if kind != "looks":
            self.look_after(op)
        if kind in ("processes", "locks"):
            self.lock_after(op)
        return op

    def user(self):
        return self.dice.choice(USERS) if self.dice.random() < self.user_share else 0

    def look_after(self, op):
        """The other mounts look at what an operation has named."""
        for mount in range(self.mounts):
            if self.dice.random() >= self.looks_after:
                continue
            for word in op[3:]:
                if isinstance(word, str) and word and op[0] not in ("setxattr", "removexattr", "setacl", "symlink"):
                    if not word.startswith("@"):
                        self.queue.append(("stat", mount, 0, word, False))
                        self.queue.append(("list", mount, 0, os.path.dirname(word) or "."))
                elif isinstance(word, int) and op[0] in ("pwrite", "ftruncate", "fallocate", "mapstore"):
                    slot = (self.reference.maps if op[0] == "mapstore" else self.reference.slots).get(word)
                    path = self.path_to(slot.node) if slot else None
                    if path:
                        self.queue.append(("cat", mount, 0, path))
                    break

    def lock_after(self, op):
        """Somebody else wants at once what may have become free."""
        d, slots = self.dice, self.reference.slots
        freed = [s for n, s in slots.items() if n in op[3:5] or (op[0] == "exit" and n // PER_PROCESS == op[3])]
        others = [n for n, s in slots.items() if any(s.node is f.node and s is not f for f in freed)]
        if others and d.random() < 0.5:
            number = d.choice(others)
            how = d.choice(["flock", "lock", "lock"])
            self.queue.append((how, slots[number].mount, 0, number) +
                              (("ex",) if how == "flock" else (d.choice(["posix", "ofd"]), "w", 0, 0)))

    # ---- paths and slots ----

    def path(self, fresh=0.25, kind=None):
        """A way to something that is there, or to a name that perhaps is not. `kind`: what it is to lead to."""
        d, at, words = self.dice, self.reference.root, []
        slots = [n for n, s in self.reference.slots.items() if s.node.is_dir]
        base = ""
        if slots and d.random() < 0.1:
            number = d.choice(slots)
            at, base = self.reference.slots[number].node, f"@{number}/"
        while True:
            if not at.entries or d.random() < fresh:
                words.append(d.choice(NAMES) if d.random() < 0.97 else d.choice(LONG_NAMES))
                break
            wanted = [n for n, c in at.entries.items() if c.is_dir or kind is None or c.type == kind]
            name = d.choice(wanted or list(at.entries))
            child = at.entries[name]
            words.append(name)
            if child.is_link and d.random() < 0.5:
                child = self.behind(at, child)
            if child is None or not child.is_dir or len(words) >= 4 or d.random() < 0.35:
                if d.random() < 0.02:
                    words.append(d.choice(NAMES))
                break
            at = child
        return base + "/".join(words)

    def behind(self, directory, link):
        for word in link.target.split("/"):
            directory = directory.entries.get(word) if directory is not None and directory.is_dir else None
        return directory

    def path_to(self, node):
        """A name of the file; None: it has none."""
        todo = [("", self.reference.root)]
        while todo:
            path, at = todo.pop()
            for name, child in at.entries.items():
                if child is node:
                    return path + name
                if child.is_dir:
                    todo.append((f"{path}{name}/", child))
        return None

    def mount_of(self, mount, *paths):
        """A path from a slot is a path of that slot's mount."""
        for path in paths:
            base = self.reference.base_of(path)
            if base is not None:
                return self.reference.slots[base].mount
        return mount

    def open_slot(self, good=lambda slot: True):
        found = [n for n, s in self.reference.slots.items() if good(s)]
        return self.dice.choice(found) if found else None

    def of_process(self, number):
        """A slot of the same process."""
        return self.dice.choice([n for n in self.reference.slots if n // PER_PROCESS == number // PER_PROCESS])

    def number(self, mount):
        """Of a slot or mapping that is perhaps free: of the first process, or of one of the mount's others."""
        d = self.dice
        process = 0 if d.random() > self.helper_share else 1 + mount + self.mounts * d.randrange(HELPERS)
        return process * PER_PROCESS + d.randrange(PER_PROCESS)

    def crowded(self):
        todo, count = [self.reference.root], 0
        while todo:
            children = todo.pop().entries.values()
            count += len(children)
            todo += [c for c in children if c.is_dir]
        return count > MAX_NODES

    # ---- the kinds of operations ----

    def names(self, mount, user):
        d = self.dice
        removing = 6 if self.crowded() else 1
        what = d.choices(["mkdir", "create", "symlink", "link", "mkfifo", "unlink", "rmdir", "rename", "tmpfile", "linkfd"],
                         [5, 5, 2, 3, 0.5, 3 * removing, 3 * removing, 6, 1, 1])[0]
        path = self.path(0.1 if what in ("unlink", "rmdir", "rename") else 0.6)
        mount = self.mount_of(mount, path)
        if what == "mkdir":
            mode = d.choice(DIR_MODES)
            if mode & 0o6000:  # which mkdir(2) does not set
                self.queue.append(("chmod", mount, user, path, mode))
            return (what, mount, user, path, mode)
        if what == "mkfifo":
            return (what, mount, user, path, d.choice(FILE_MODES))
        if what == "create":
            return self.opening(mount, user, path, O_CREAT | d.choice([0, O_EXCL]))
        if what == "tmpfile":
            path = d.choice([path, ".", "."])
            flags = d.choice([O_RDWR, O_RDWR, O_RDWR, O_WRONLY, O_RDONLY]) | d.choice([0, 0, O_EXCL])
            return (what, mount, user, self.number(mount), path, flags, d.choice(FILE_MODES))
        if what == "linkfd":
            slot = self.open_slot(lambda s: s.node.is_file and (s.node.dead or d.random() < 0.2))
            if slot is not None:
                return (what, self.reference.slots[slot].mount, user, slot, self.path(0.8).split("/", 1)[-1])
            what = "unlink"
        if what == "symlink":
            target = d.choice(["a", "b/c", "d", ".", "nowhere", d.choice(NAMES)])
            return (what, mount, user, path, target)
        if what in ("link", "rename"):
            path, new = self.path(0.05), self.path(0.5)
            mount = self.mount_of(mount, path)
            if self.mount_of(mount, path) != self.mount_of(mount, new):
                path, new = "a", "b"
            mount = self.mount_of(mount, path, new)
            if what == "link":
                return (what, mount, user, path, new, d.random() < 0.2)
            flags = d.choices([0, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT, 3, 5], [6, 1, 3, 0.3, 0.1, 0.1])[0]
            if flags & RENAME_WHITEOUT:
                user = 0  # known: a whiteout of Cairn is of root, and not of whom makes it
            return (what, mount, user, path, new, flags)
        return (what, mount, user, path)

    def opening(self, mount, user, path, more=0):
        d = self.dice
        flags = d.choice([O_RDONLY, O_RDWR, O_RDWR, O_RDWR, O_WRONLY]) | more
        for flag, share in ((O_TRUNC, 0.15), (O_APPEND, 0.15), (O_NOFOLLOW, 0.1), (O_DIRECTORY, 0.03)):
            flags |= flag if d.random() < share else 0
        return ("open", mount, user, self.number(mount), path, flags, d.choice(FILE_MODES))

    def data(self, mount, user):
        d = self.dice
        slot = self.open_slot(lambda s: s.writable) if d.random() < 0.9 else self.open_slot()
        if slot is None or d.random() < 0.12:
            path = self.path(0.2)
            if d.random() < 0.1:
                mount = self.mount_of(mount, path)
                return ("open", mount, user, self.number(mount), path, O_RDONLY | O_DIRECTORY, 0)
            return self.opening(self.mount_of(mount, path), user, path, O_CREAT if d.random() < 0.5 else 0)
        what = d.choices(["pwrite", "pread", "ftruncate", "truncate", "fallocate", "copy", "close", "fsync", "fstat"],
                         [8, 6, 2, 1, 2, 1.5, 1, 1, 2])[0]
        node = self.reference.slots[slot].node
        size = len(node.data) if node.is_file else 0
        at, length = self.range(size)
        mount = self.reference.slots[slot].mount
        if what == "pwrite":
            return (what, mount, user, slot, at, Data(d.randrange(1 << 19), length))
        if what == "pread":
            return (what, mount, user, slot, at, length)
        if what == "ftruncate":
            return (what, mount, user, slot, d.choice([0, at, at, size]))
        if what == "truncate":
            path = self.path(0.05)
            return (what, self.mount_of(mount, path), user, path, at)
        if what == "fallocate":
            mode = d.choice([0, FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, FALLOC_ZERO_RANGE,
                             FALLOC_ZERO_RANGE | FALLOC_KEEP_SIZE])
            return (what, mount, user, slot, mode, at, length)
        if what == "copy":
            other = self.of_process(slot)
            return (what, mount, user, other, self.range(size)[0], slot, at, length)
        if what == "fsync":
            return (what, mount, user, slot, d.random() < 0.5)
        return (what, mount, user, slot)

    def maps(self, mount, user):
        d, maps = self.dice, self.reference.maps
        what = d.choices(["mmap", "mapload", "mapstore", "msync", "munmap"], [1 if maps else 9, 5, 6, 0.7, 0.4])[0]
        if what == "mmap" or not maps:
            slot = self.open_slot(lambda s: s.node.is_file and s.readable)
            if slot is None:
                return self.data(mount, user)
            number = slot // PER_PROCESS * PER_PROCESS + d.randrange(PER_PROCESS)
            return ("mmap", self.reference.slots[slot].mount, user, number, slot, d.random() < 0.8)
        number = d.choice(list(maps))
        node, mount = maps[number].node, maps[number].mount
        if what in ("msync", "munmap"):
            return (what, mount, 0, number)
        at, length = self.range(len(node.data))
        if d.random() < 0.95:
            at = min(at, max(0, len(node.data) - 1))
            length = min(length, len(node.data) - at)
        if what == "mapload":
            return (what, mount, 0, number, at, length)
        return (what, mount, 0, number, at, Data(d.randrange(1 << 19), length), d.random() < 0.3)

    def locks(self, mount, user):
        d = self.dice
        slot = self.open_slot(lambda s: s.node.is_file)
        if slot is None or d.random() < 0.04:
            path = self.path(0.1, stat.S_IFREG)
            return self.opening(self.mount_of(mount, path), 0, path, O_CREAT)
        mount = self.reference.slots[slot].mount
        what = d.choices(["flock", "lock", "getlock"], [2, 5, 2])[0]
        if what == "flock":
            return (what, mount, user, slot, d.choice(["sh", "ex", "un"]))
        start = d.choice([0, d.randrange(30), d.randrange(30), 10, 1 << 31, LAST - d.randrange(3), d.choice([5, 5, 5, -1])])
        length = d.choice([0, 1, 1, d.randrange(1, 12), d.randrange(1, 12), 10, LAST, 1 << 40, -d.randrange(12)])
        kind = d.choice("rwuu" if what == "lock" else "rw")
        return (what, mount, user, slot, d.choice(["posix", "posix", "ofd"]), kind, start, length)

    def processes(self, mount, user):
        d = self.dice
        slot = self.open_slot(lambda s: s.node.is_file)
        if slot is None:
            return self.data(mount, user)
        mount = self.reference.slots[slot].mount
        what = d.choices(["dup", "close", "exit"], [6, 4, 1])[0]
        if what == "dup":
            return (what, mount, user, slot, self.number(mount))
        if what == "exit":
            return (what, mount, 0, slot // PER_PROCESS)
        return (what, mount, user, slot)

    def range(self, size):
        """Offsets near the end of the file and near pages' borders are where the mistakes are."""
        d = self.dice
        at = d.choice([0, size, max(0, size - d.randrange(1, 5000)), d.randrange(MAX_FILE), d.randrange(size + 1),
                       d.randrange(0, MAX_FILE, 4096)])
        length = d.choice([0, 1, d.randrange(1, 100), d.randrange(1, 10_000), 4096, d.randrange(1, 100_000)])
        at = min(at, MAX_FILE - 1)
        return at, min(length, MAX_FILE - at)

    def attributes(self, mount, user):
        d = self.dice
        path = self.path(0.05)
        mount = self.mount_of(mount, path)
        what = d.choice(["chmod", "chmod", "fchmod", "chown", "utime", "setxattr", "setxattr", "removexattr"])
        slot = self.open_slot()
        if what == "fchmod" and slot is not None:
            modes = DIR_MODES if self.reference.slots[slot].node.is_dir else FILE_MODES
            return (what, self.reference.slots[slot].mount, user, slot, d.choice(modes))
        if what in ("chmod", "fchmod"):
            return ("chmod", mount, user, path, d.choice(FILE_MODES + DIR_MODES))
        if what == "chown":
            return (what, mount, user, path, d.choice((0,) + USERS), d.choice((0,) + USERS), d.random() < 0.7)
        if what == "utime":
            return (what, mount, user, path, d.choice([0, d.randrange(1, 1 << 60)]), d.random() < 0.7)
        name = d.choice(XATTRS)
        if what == "setxattr":
            value = Data(d.randrange(1 << 19), d.choice([0, 1, 50, 300]))
            return (what, mount, user, path, name, value, d.choice([0, 0, XATTR_CREATE, XATTR_REPLACE]))
        return (what, mount, user, path, name)

    def acls(self, mount, user):
        d = self.dice
        path = self.path(0.05)
        mount = self.mount_of(mount, path)
        kind = d.choice(["access", "default"])
        what = d.choice(["setacl", "setacl", "getacl", "access"])
        if what == "access":
            return (what, mount, d.choice((0,) + USERS) if self.users else user, path, d.randrange(1, 8))
        if what == "getacl":
            return (what, mount, user, path, kind)
        return (what, mount, user, path, kind, self.acl() if d.random() < 0.8 else ())

    def acl(self):
        """Mostly a valid one."""
        d = self.dice
        tags = {acl.USER: USERS, acl.GROUP: USERS + (0,)}
        named = [(tag, who) for tag, whos in tags.items() for who in whos if d.random() < 0.4]
        entries = [(tag, acl.NOBODY) for tag in (acl.USER_OBJ, acl.GROUP_OBJ, acl.OTHER)] + named
        if (named or d.random() < 0.2) and d.random() < 0.98:
            entries.append((acl.MASK, acl.NOBODY))
        if d.random() < 0.02:
            entries.pop(d.randrange(len(entries)))
        return tuple((tag, d.choice([7, 7, 6, 5, 4, 3, 0]), who) for tag, who in sorted(entries))

    def looks(self, mount, user):
        d = self.dice
        what = d.choice(["stat", "stat", "list", "cat", "cat", "fstat", "flist", "getxattr", "listxattr", "readlink"])
        slot = self.open_slot()
        if what in ("fstat", "flist") and slot is not None:
            return (what, self.reference.slots[slot].mount, user, slot)
        path = self.path(0.2)
        mount = self.mount_of(mount, path)
        if what in ("stat", "fstat", "flist"):
            return ("stat", mount, user, path, d.random() < 0.5)
        if what == "getxattr":
            return (what, mount, user, path, d.choice(XATTRS))
        return (what, mount, user, path)
