#!/usr/bin/env python3
"""What cairn-posix(7) says, one by one: limits, what fails and how, files without names, birth times, file handles."""
import ctypes
import errno
import fcntl
import os
import stat
import struct
import sys

from harness import CAIRN, Cluster, check, say, sh, skip

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100


def call(name, *arguments):
    """A system call by its wrapper in the C library."""
    result = getattr(libc, name)(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


def fails(number, what, action):
    try:
        action()
    except OSError as e:
        check(e.errno == number, f"{what}: {errno.errorcode[e.errno]}, not {errno.errorcode[number]}")
        return
    check(False, f"{what}: succeeded, but should fail with {errno.errorcode[number]}")


def write(path, data=b""):
    with open(path, "wb") as f:
        f.write(data)


def rename(a, b, flags):
    call("renameat2", AT_FDCWD, a.encode(), AT_FDCWD, b.encode(), flags)


def refused(d):
    path = f"{d}/refused"
    write(path, b"x" * 8192)
    with open(path, "r+b") as f, open(f"{d}/other", "w+b") as other:
        for name, mode in (("collapse", 0x08), ("insert", 0x20), ("unshare", 0x40)):
            fails(errno.EOPNOTSUPP, name, lambda m=mode: call("fallocate", f.fileno(), m, ctypes.c_long(0), ctypes.c_long(4096)))
        fails(errno.EOPNOTSUPP, "clone", lambda: fcntl.ioctl(other, 0x40049409, f.fileno()))
        fiemap = struct.pack("=QQLLLL", 0, 1 << 60, 0, 0, 0, 0)
        fails(errno.EOPNOTSUPP, "fiemap", lambda: fcntl.ioctl(f, 0xC020660B, fiemap))
        for name, code, size in (("getflags", 0x80086601, 8), ("fsgetxattr", 0x801C581F, 28), ("enable verity", 0x40806685, 128)):
            fails(errno.ENOTTY, name, lambda c=code, s=size: fcntl.ioctl(f, c, bytes(s)))
    if os.getuid() == 0:
        swap = f"{d}/swap"
        write(swap, bytes(1 << 20))
        os.chmod(swap, 0o600)
        sh(["mkswap", swap])
        fails(errno.EINVAL, "swapon", lambda: call("swapon", swap.encode(), 0))
    with open(path, "rb") as f:
        check(f.read() == b"x" * 8192, "what was refused has changed nothing")


def names(d):
    write(f"{d}/{'n' * 255}")
    fails(errno.ENAMETOOLONG, "a name of 256", lambda: write(f"{d}/{'n' * 256}"))
    every = bytes(b for b in range(1, 256) if b != ord("/"))
    write(os.path.join(d.encode(), every))
    check(every in os.listdir(d.encode()), "a name of every byte is listed")
    os.symlink("s" * 4095, f"{d}/link")
    check(os.readlink(f"{d}/link") == "s" * 4095 and os.lstat(f"{d}/link").st_size == 4095, "the longest symbolic link")
    fails(errno.ENAMETOOLONG, "a longer one", lambda: os.symlink("s" * 4096, f"{d}/link2"))
    deep = d
    while len(deep) + 202 < 4095:
        deep += "/" + "d" * 200
        os.mkdir(deep)
    last = deep + "/" + "f" * (4095 - len(deep) - 1)
    write(last, b"deep")
    with open(last, "rb") as f:
        check(f.read() == b"deep", "a path of 4,095 bytes")
    fails(errno.ENAMETOOLONG, "a path of 4,096", lambda: write(last + "f"))


def sizes(d):
    top = 1 << 50
    fd = os.open(f"{d}/sparse", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, top)
    fails(errno.EFBIG, "a longer file", lambda: os.ftruncate(fd, top + 1))
    fails(errno.EFBIG, "a write behind the end", lambda: os.pwrite(fd, b"x", top))
    check(os.pwrite(fd, b"end", top - 3) == 3 and os.pread(fd, 10, top - 5) == b"\0\0end", "the last bytes")
    os.fsync(fd)
    check(os.lseek(fd, 1, os.SEEK_DATA) == top - 4096 and os.lseek(fd, 0, os.SEEK_HOLE) == 0, "where data is")
    fails(errno.ENXIO, "data behind the end", lambda: os.lseek(fd, top, os.SEEK_DATA))
    os.ftruncate(fd, 0)
    os.close(fd)
    check(os.stat(d).st_size == 4096, "a directory's size")


def xattrs(d):
    path = f"{d}/xattrs"
    write(path)
    os.setxattr(path, "user.big", b"v" * 65536)
    check(os.getxattr(path, "user.big") == b"v" * 65536, "64 KiB")
    fails(errno.E2BIG, "more", lambda: os.setxattr(path, "user.bigger", b"v" * 65537))
    for name in ("none", "nonesuch.x", "system.x"):
        fails(errno.EOPNOTSUPP, name, lambda n=name: os.setxattr(path, n, b"v"))
    for name in ("user.x", "trusted.x", "security.x") if os.getuid() == 0 else ("user.x",):
        fails(errno.ENODATA, f"no {name} yet", lambda n=name: os.getxattr(path, n))
        os.setxattr(path, name, b"")
        fails(errno.EEXIST, "there is one", lambda n=name: os.setxattr(path, n, b"", os.XATTR_CREATE))
        check(name in os.listxattr(path), f"{name} is listed")
        os.removexattr(path, name)
        fails(errno.ENODATA, "replacing none", lambda n=name: os.setxattr(path, n, b"", os.XATTR_REPLACE))
    os.symlink("xattrs", f"{d}/xattrs-link")
    fails(errno.EPERM, "user. on a symbolic link", lambda: os.setxattr(f"{d}/xattrs-link", "user.x", b"", follow_symlinks=False))

    def fill():
        for i in range(300):
            os.setxattr(path, f"user.{i:03}{'n' * 240}", b"")
    fails(errno.ENOSPC, "more names than can be listed", fill)
    check(len(os.listxattr(path)) > 200, "those that were set are listed")


def renames(d):
    one, two, three = f"{d}/one", f"{d}/two", f"{d}/three"
    write(one, b"1")
    os.mkdir(two)
    fails(errno.EEXIST, "noreplace", lambda: rename(one, two, 1))
    rename(one, two, 2)
    check(os.path.isdir(one) and os.path.isfile(two), "exchanged")
    for flags in (3, 6, 8):
        fails(errno.EINVAL, f"flags {flags}", lambda f=flags: rename(one, two, f))
    if os.getuid() == 0:
        rename(two, three, 4)
        st = os.stat(two)
        check(stat.S_ISCHR(st.st_mode) and st.st_rdev == 0 and os.path.isfile(three), "a whiteout is left behind")


def unnamed(d, elsewhere):
    def link(fd, path):
        call("linkat", AT_FDCWD, f"/proc/self/fd/{fd}".encode(), AT_FDCWD, path.encode(), 0x400)

    before = os.listdir(d)
    mode = os.O_TMPFILE | os.O_RDWR
    fd = os.open(d, mode, 0o640)
    os.write(fd, b"x" * 100_000)
    st = os.fstat(fd)
    check((st.st_nlink, st.st_size, stat.S_IMODE(st.st_mode)) == (0, 100_000, 0o640), f"a file without a name: {st}")
    check(os.listdir(d) == before, "it is in no directory")
    link(fd, f"{d}/named")
    with open(f"{elsewhere}/named", "rb") as f:
        check(f.read() == b"x" * 100_000, "the other mount reads it by its name")
    check(os.fstat(fd).st_nlink == 1, "it has one name")
    os.unlink(f"{d}/named")
    fails(errno.ENOENT, "a second first name", lambda: link(fd, f"{d}/again"))
    check(os.pread(fd, 5, 0) == b"xxxxx", "an open file goes on")
    os.close(fd)
    fd = os.open(d, mode | os.O_EXCL, 0o600)
    fails(errno.ENOENT, "O_EXCL: never a name", lambda: link(fd, f"{d}/named"))
    os.close(fd)


def born(d):
    path = f"{d}/born"
    write(path)
    # struct statx(2): btime lies at 80, mtime at 112.
    buffer = ctypes.create_string_buffer(256)

    def times():
        call("statx", AT_FDCWD, path.encode(), 0, 0xFFF, buffer)
        mask = struct.unpack_from("=I", buffer, 0)[0]
        check(mask & 0x800, f"statx says when it was made: mask {mask:#x}")
        return struct.unpack_from("=qI", buffer, 80), struct.unpack_from("=qI", buffer, 112)
    made, changed = times()
    check(made == changed, f"made when it was written first: {made}, {changed}")
    os.utime(path, ns=(5_000_000_007, 6_000_000_009))
    check(times() == (made, (6, 9)), "other times come and go, in nanoseconds")


class Handle(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_uint), ("type", ctypes.c_int), ("data", ctypes.c_ubyte * 128)]


def handles(d, mount, remount):
    os.makedirs(f"{d}/handles/deep")
    write(f"{d}/handles/file", b"by handle")
    kept = {}
    for name in ("handles", "handles/deep", "handles/file"):
        kept[name] = Handle(bytes=128)
        mount_id = ctypes.c_int()
        call("name_to_handle_at", AT_FDCWD, f"{d}/{name}".encode(), ctypes.byref(kept[name]), ctypes.byref(mount_id), 0)

    def opened(name):
        at = os.open(mount, os.O_RDONLY)
        try:
            return call("open_by_handle_at", at, ctypes.byref(kept[name]), os.O_RDONLY)
        finally:
            os.close(at)

    def look(when):
        for name in kept:
            fd = opened(name)
            check(os.fstat(fd).st_ino == os.stat(f"{d}/{name}").st_ino, f"{when}: {name}")
            os.close(fd)
        fd = opened("handles/file")
        check(os.read(fd, 20) == b"by handle", f"{when}: its data")
        os.close(fd)
    look("at once")
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
        f.write("2")
    look("when the kernel has forgotten the inodes")
    remount()
    look("after a remount")
    os.rename(f"{d}/handles/file", f"{d}/handles/deep/moved")
    os.close(opened("handles/file"))
    os.unlink(f"{d}/handles/deep/moved")
    write(f"{d}/handles/file", b"another")
    fails(errno.ESTALE, "the handle of a removed file", lambda: opened("handles/file"))


def main():
    if os.getuid() != 0:
        skip("only root may open files by handle")
    with Cluster("posix", osds=3, replicas=2, osd_size="512MiB") as c:
        second = f"{c.root}/second"
        os.mkdir(second)
        address = c.status()["mds"][0]["addr"]
        sh([CAIRN, "mount", address, second])
        try:
            d = f"{c.mount}/posix"
            os.mkdir(d)
            for part in (refused, names, sizes, xattrs, renames, born):
                say(part.__name__)
                part(d)
            say("unnamed")
            unnamed(d, f"{second}/posix")

            def remount():
                sh(["umount", second])
                sh([CAIRN, "mount", address, second])
            say("handles")
            handles(f"{second}/posix", second, remount)
        finally:
            sh(["umount", second])


if __name__ == "__main__":
    sys.exit(main())
