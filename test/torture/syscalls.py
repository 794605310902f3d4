"""System calls that Python does not have, and small things that all torture tests need."""
import ctypes
import errno
import fcntl
import mmap
import os
import struct

_libc = ctypes.CDLL(None, use_errno=True)
_off = ctypes.c_longlong

RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE = 0x01, 0x02, 0x10
XATTR_CREATE, XATTR_REPLACE = 1, 2
FLOCK = struct.Struct("@hhqqi4x")  # struct flock


def _checked(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def fallocate(fd, mode, offset, length):
    _checked(_libc.fallocate(fd, mode, _off(offset), _off(length)))


def renameat2(old_dir, old, new_dir, new, flags):
    _checked(_libc.renameat2(old_dir, os.fsencode(old), new_dir, os.fsencode(new), ctypes.c_uint(flags)))


def faccessat(directory, path, mask):
    """With the rights that act_as() gives."""
    AT_EACCESS = 0x200
    _checked(_libc.faccessat(directory, os.fsencode(path), mask, AT_EACCESS))


def act_as(user):
    """From here on this thread makes its system calls with the rights of `user` (also the group's number); 0 is root."""
    if user != 0:
        _libc.setfsgid(user)
        _libc.setfsuid(user)
    else:
        _libc.setfsuid(0)
        _libc.setfsgid(0)


def name_of(number):
    return errno.errorcode.get(number, str(number))


def range_lock(fd, command, kind, start, length):
    """fcntl(2) with F_SETLK, F_OFD_GETLK and so on; gives what it answers: kind, start, length, process."""
    asked = FLOCK.pack(kind, os.SEEK_SET, start, length, 0)
    kind, _, start, length, pid = FLOCK.unpack(fcntl.fcntl(fd, command, asked))
    return kind, start, length, pid


class Copier:
    """Copies into and out of mappings by system calls: a page that is not there is EFAULT, and not the end of the process."""

    def __init__(self):
        self.fd = os.memfd_create("copier")

    def load(self, mapping, at, length):
        with memoryview(mapping) as whole:
            done = os.pwrite(self.fd, whole[at:at + length], 0)
        if done != length:
            raise OSError(errno.EFAULT, f"only {done} of {length} mapped bytes can be read")
        return os.pread(self.fd, length, 0)

    def store(self, mapping, at, data):
        os.pwrite(self.fd, data, 0)
        with memoryview(mapping) as whole:
            done = os.preadv(self.fd, [whole[at:at + len(data)]], 0)
        if done != len(data):
            raise OSError(errno.EFAULT, f"only {done} of {len(data)} mapped bytes can be written")


def map_shared(fd, length, offset=0, writable=True):
    """A shared mapping whose length may reach beyond the end of the file, which mmap.mmap refuses."""
    return Mapping(fd, length, offset, writable)


class Mapping:
    def __init__(self, fd, length, offset, writable):
        _libc.mmap.restype = ctypes.c_void_p
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        address = _libc.mmap(None, ctypes.c_size_t(length), protection, mmap.MAP_SHARED, fd, _off(offset))
        if address in (None, ctypes.c_void_p(-1).value):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        self.address, self.length = address, length
        self.bytes = (ctypes.c_ubyte * length).from_address(address)

    def stat(self):
        """Of the file, whose descriptor may be closed. Root may ask."""
        return os.stat(f"/proc/self/map_files/{self.address:x}-{self.address + self.length:x}")

    def flush(self):
        MS_SYNC = 4
        _checked(_libc.msync(ctypes.c_void_p(self.address), ctypes.c_size_t(self.length), MS_SYNC))

    def close(self):
        self.bytes = None
        _checked(_libc.munmap(ctypes.c_void_p(self.address), ctypes.c_size_t(self.length)))


def aligned(length):
    """Memory that O_DIRECT takes."""
    return mmap.mmap(-1, max(length, 4096))
