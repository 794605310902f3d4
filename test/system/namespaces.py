"""A cluster over several machines, each of them a network namespace: two at the ends of a cable, or many on one bridge."""
import atexit
import ctypes
import json
import os
import socket
import subprocess

from harness import BUILD, CAIRN, check, check_reports, sh, skip

CLONE_NEWNET = 0x40000000
NOBODY = "02:00:00:00:00:fe"

libc = ctypes.CDLL(None, use_errno=True)


def setns(namespace):
    if libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Namespaces:
    """Deleted at the end of this process."""

    def __init__(self, names):
        self.tag = f"cairn-{os.getpid()}"
        self.names = names
        atexit.register(self.destroy)
        for name in names:
            if subprocess.run(["ip", "netns", "add", self.ns(name)], capture_output=True, check=False).returncode != 0:
                skip("network namespaces cannot be made here: run as root")
            sh(["ip", "-n", self.ns(name), "link", "set", "lo", "up"])

    def ns(self, name):
        return f"{self.tag}-{name}"

    def on(self, name):
        """What a command on that machine begins with."""
        return ["nsenter", f"--net=/run/netns/{self.ns(name)}"]

    def destroy(self):
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", self.ns(name)], capture_output=True, check=False)


class Cable(Namespaces):
    """Two machines and a cable between them, which can be pulled out at the far one."""

    def __init__(self, near, far):
        super().__init__([near, far])
        self.far = far
        sh(["ip", "link", "add", "eth0", "netns", self.ns(near), "type", "veth", "peer", "name", "eth0", "netns", self.ns(far)])
        for n, name in enumerate(self.names):
            sh(["ip", "-n", self.ns(name), "address", "add", f"192.0.2.{n + 1}/24", "dev", "eth0"])
            sh(["ip", "-n", self.ns(name), "link", "set", "eth0", "up"])

    def address(self, name):
        return f"192.0.2.{self.names.index(name) + 1}"

    def cut(self):
        sh(["ip", "-n", self.ns(self.far), "link", "set", "eth0", "down"])

    def heal(self):
        sh(["ip", "-n", self.ns(self.far), "link", "set", "eth0", "up"])


class Machines(Namespaces):
    """Many on one bridge. Each way between two of them is cut for itself.

    Nobody asks for link addresses: each machine has a fixed one of every other. A way is cut by a wrong one: what is sent is lost
    on the bridge, without a word to the sender, and the opposite way goes on. No module of the kernel is needed for that.
    """

    def __init__(self, names):
        super().__init__(["switch", *names])
        self.numbers = {name: n + 1 for n, name in enumerate(names)}
        if subprocess.run(["ip", "-n", self.ns("switch"), "link", "add", "bridge", "type", "bridge"],
                          capture_output=True, check=False).returncode != 0:
            skip("this kernel has no bridges")
        sh(["ip", "-n", self.ns("switch"), "link", "set", "bridge", "up"])
        for name, n in self.numbers.items():
            sh(["ip", "link", "add", "eth0", "netns", self.ns(name), "address", self.link_address(name), "type", "veth",
                "peer", "name", f"port{n}", "netns", self.ns("switch")])
            sh(["ip", "-n", self.ns("switch"), "link", "set", f"port{n}", "master", "bridge", "up"])
            sh(["ip", "-n", self.ns(name), "address", "add", self.address(name) + "/24", "dev", "eth0"])
            sh(["ip", "-n", self.ns(name), "link", "set", "eth0", "up"])
        for a in names:
            for b in names:
                self.heal_one_way(a, b)

    def address(self, name):
        return f"192.0.2.{self.numbers[name]}"

    def link_address(self, name):
        return f"02:00:00:00:01:{self.numbers[name]:02x}"

    def send_to(self, a, b, link_address):
        if a != b:
            sh(["ip", "-n", self.ns(a), "neighbour", "replace", self.address(b), "lladdr", link_address, "nud", "permanent",
                "dev", "eth0"])

    def cut_one_way(self, a, b):
        self.send_to(a, b, NOBODY)

    def heal_one_way(self, a, b):
        self.send_to(a, b, self.link_address(b))

    def socket_on(self, name):
        """A datagram socket of this process that lies on that machine."""
        with open("/proc/self/ns/net", "rb") as home, open(f"/run/netns/{self.ns(name)}", "rb") as there:
            setns(there)
            try:
                s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                s.bind((self.address(name), 0))
                s.settimeout(0.2)
                return s
            finally:
                setns(home)

    def reaches(self, a, b):
        """Whether b gets what a sends."""
        with self.socket_on(a) as sender, self.socket_on(b) as receiver:
            sender.sendto(b"x", receiver.getsockname())
            try:
                return receiver.recv(10) == b"x"
            except TimeoutError:
                return False


class Programs:
    """Programs of a cluster in a directory of their own, and where they run. `places`: the machine of each, if it is not one of its name.

    As a context it calls up() and down() of whoever inherits. `mounts`: directories by the name of the program that serves them.
    """

    def __init__(self, name, machines, mounts, places=None):
        self.root = os.path.join(BUILD, "system", name)
        self.machines = machines
        self.mounts = {program: os.path.join(self.root, "mnt-" + program) for program in mounts}
        self.places = places or {}
        self.processes = {}
        atexit.register(self.destroy)
        subprocess.run(["umount", "-l", *self.mounts.values()], capture_output=True, check=False)
        sh(["rm", "-rf", self.root])
        for d in self.mounts.values():
            os.makedirs(d)
        self.mds = machines.address(self.place("mds")) + ":7400"

    def place(self, program):
        return self.places.get(program, program)

    def start(self, program, *command):
        """It says on a descriptor that it is ready."""
        ours, theirs = os.pipe()
        with open(os.path.join(self.root, program + ".log"), "ab") as log:
            self.processes[program] = subprocess.Popen(
                [*self.machines.on(self.place(program)), *command, "--ready-fd", str(theirs)],
                pass_fds=[theirs], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        os.close(theirs)
        with os.fdopen(ours) as f:
            check(f.readline().startswith("ready"), f"{program} does not start")

    def mount(self, program):
        self.start(program, CAIRN, "mount", "--foreground", self.mds, self.mounts[program])

    def umount(self, program):
        sh(["umount", self.mounts[program]], timeout=60)
        check(self.processes.pop(program).wait(60) == 0, f"the mount {program} ends in order")

    def stop(self, program):
        self.processes[program].terminate()
        check(self.processes.pop(program).wait(60) == 0, f"{program} ends in order")

    def cairn(self, *words, beside="mds"):
        """The command line tool, on the machine of that program."""
        return sh([*self.machines.on(self.place(beside)), CAIRN, *words, "--cluster", self.mds], timeout=60)

    def status(self):
        return json.loads(self.cairn("status", "--json"))

    def whole(self):
        return self.status()["health"] == "ok"

    def show_logs(self):
        for name in sorted(os.listdir(self.root)):
            if name.endswith(".log"):
                with open(os.path.join(self.root, name), errors="replace", encoding="utf-8") as f:
                    print(f"--- {name}\n{f.read()[-3000:]}", flush=True)

    def destroy(self):
        subprocess.run(["umount", "-l", *self.mounts.values()], capture_output=True, check=False)
        for process in self.processes.values():
            process.kill()

    def __enter__(self):
        self.up()
        return self

    def __exit__(self, kind, value, trace):
        if kind is None:
            self.down()
            check_reports()
        else:
            self.show_logs()
