"""Processes that do operations for driver.py when they are told to: locks and mappings belong to them, and end with them."""
import os
import pickle
import signal
import socket
import struct
import traceback

LENGTH = struct.Struct("I")


class Helper:
    """A fork of this process with a Driver of its own, which has nothing open yet."""

    def __init__(self, driver):
        self.socket, other = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                self.socket.close()
                driver.inherited()
                send(other, (True, None))
                serve(other, driver)
            except EOFError:
                pass  # the end
            except BaseException:  # pylint: disable=broad-except
                traceback.print_exc()
            finally:
                os._exit(1)
        other.close()
        self.answer()  # from now on nothing is open because of it

    def answer(self):
        good, result = receive(self.socket)
        if good:
            return result
        if isinstance(result, int):
            raise OSError(result, os.strerror(result))
        raise RuntimeError(result)

    def do(self, op):
        send(self.socket, ("do", op))
        return self.answer()

    def give(self, number):
        """A descriptor, here, of what the helper has open."""
        send(self.socket, ("give", number))
        _, fds, _, _ = socket.recv_fds(self.socket, 1, 1)
        return fds[0]

    def take(self, number, fd):
        send(self.socket, ("take", number))
        socket.send_fds(self.socket, [b"+"], [fd])
        os.close(fd)
        return self.answer()

    def disown(self):
        self.socket.close()

    def kill(self):
        """When this returns the process has closed all it had."""
        self.disown()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def serve(to, driver):
    while True:
        what, argument = receive(to)
        try:
            if what == "give":
                socket.send_fds(to, [b"+"], [driver.fds[argument]])
                continue
            if what == "take":
                _, fds, _, _ = socket.recv_fds(to, 1, 1)
                driver.taken(argument, fds[0])
                result = True, None
            else:
                result = True, driver.do(argument)
        except OSError as e:
            result = False, e.errno
        except BaseException:  # pylint: disable=broad-except
            result = False, traceback.format_exc()
        send(to, result)


def send(to, what):
    data = pickle.dumps(what)
    to.sendall(LENGTH.pack(len(data)) + data)


def receive(of):
    def exactly(n):
        out = bytearray()
        while len(out) < n:
            more = of.recv(n - len(out))
            if not more:
                raise EOFError("the other process is gone")
            out += more
        return out
    return pickle.loads(exactly(LENGTH.unpack(exactly(LENGTH.size))[0]))
