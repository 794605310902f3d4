"""A process that takes file locks when it is told to: one command a line on standard input, one answer a line.

An answer is the result, or the name of an errno, and the time (CLOCK_MONOTONIC, of all processes). SIGUSR1 interrupts a wait.
"""
import ctypes
import errno
import fcntl
import os
import signal
import struct
import sys
import time

FLOCK = "hhqqi4x"  # struct flock
TYPES = {"r": fcntl.F_RDLCK, "w": fcntl.F_WRLCK, "u": fcntl.F_UNLCK}
LETTERS = {number: letter for letter, number in TYPES.items()}
WHOLE = {"sh": fcntl.LOCK_SH, "ex": fcntl.LOCK_EX, "un": fcntl.LOCK_UN}

files = {}
children = []

# Python's own wrappers begin an interrupted call again, or lose its result to the handler's exception.
libc = ctypes.CDLL(None, use_errno=True)


def called(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), "")
    return "ok"


def ranged(command, name, letter, start="0", length="0"):
    lock = struct.pack(FLOCK, TYPES[letter], os.SEEK_SET, int(start), int(length), 0)
    return called(libc.fcntl(files[name], command, ctypes.create_string_buffer(lock)))


def asked(command, name, letter, start="0", length="0"):
    lock = ctypes.create_string_buffer(struct.pack(FLOCK, TYPES[letter], os.SEEK_SET, int(start), int(length), 0))
    called(libc.fcntl(files[name], command, lock))
    kind, _, start, length, pid = struct.unpack_from(FLOCK, lock)
    return "free" if kind == fcntl.F_UNLCK else f"{LETTERS[kind]}:{start}:{length}:{pid}"


def fork():
    """A child with the same descriptors, until `reap`."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(theirs)
        os.read(ours, 1)
        os._exit(0)
    os.close(ours)
    children.append((child, theirs))
    return "ok"


def leave():
    """A child with the same descriptors, until it is killed."""
    child = os.fork()
    if child == 0:
        while True:
            signal.pause()
    return str(child)


def reap():
    child, pipe = children.pop()
    os.close(pipe)
    os.waitpid(child, 0)
    return "ok"


def run(word, *arguments):
    wait = arguments[-1:] == ("wait",)
    if wait:
        arguments = arguments[:-1]
    if word == "open":
        files[arguments[0]] = os.open(arguments[1], os.O_RDWR | os.O_CREAT, 0o644)
    elif word == "close":
        os.close(files.pop(arguments[0]))
    elif word == "dup":
        files[arguments[1]] = os.dup(files[arguments[0]])
    elif word == "posix":
        return ranged(fcntl.F_SETLKW if wait else fcntl.F_SETLK, *arguments)
    elif word == "ofd":
        return ranged(fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK, *arguments)
    elif word == "test":
        return asked(fcntl.F_GETLK, *arguments)
    elif word == "ofdtest":
        return asked(fcntl.F_OFD_GETLK, *arguments)
    elif word == "flock":
        return called(libc.flock(files[arguments[0]], WHOLE[arguments[1]] | (0 if wait else fcntl.LOCK_NB)))
    elif word == "read":
        return os.pread(files[arguments[0]], 100, int(arguments[1])).decode() or "nothing"
    elif word == "write":
        os.pwrite(files[arguments[0]], arguments[1].encode(), 0)
    elif word in ("fork", "leave", "reap"):
        return {"fork": fork, "leave": leave, "reap": reap}[word]()
    else:
        raise ValueError(word)
    return "ok"


def main():
    signal.signal(signal.SIGUSR1, lambda number, frame: None)
    while True:
        try:
            line = sys.stdin.readline()
            if not line:
                return
            result = run(*line.split())
        except OSError as e:
            result = "EDEADLK" if e.errno == errno.EDEADLK else errno.errorcode[e.errno]  # it has two names
        print(result, time.monotonic(), flush=True)


main()
