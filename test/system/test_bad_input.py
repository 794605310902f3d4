#!/usr/bin/env python3
"""Bad input gets one clear line that names the thing, the reason and the way out; exit code 1 (2 for usage); nothing half-done stays."""
import contextlib
import ctypes
import os
import random
import re
import signal
import socket
import struct
import subprocess
import threading

from harness import CAIRN, CAIRN_MDS, CAIRN_OSD, Cluster, check, eventually, say, sh

FLAT = ["--set", "mds.metrics_listen="]
ROOT = os.geteuid() == 0


def refused(command, *words, code=1, timeout=60, **more):
    """Runs it; it must fail with one line on standard error that holds all `words`."""
    r = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, **more)
    # The daemons' log is there too; `cairn` has none.
    lines = [line for line in r.stderr.splitlines() if line and (command[0] == CAIRN or not line.startswith("time="))]
    check(r.returncode == code, f"{command}: exit {r.returncode}, not {code}\n{r.stdout}\n{r.stderr}")
    check(code == 2 or len(lines) == 1, f"{command}: not one line:\n{r.stderr}")
    for word in words:
        check(re.search(word, r.stderr, re.I), f"{command}: does not say {word!r}:\n{r.stderr}")
    say(lines[0][:160] if lines else "usage")


def running(pattern):
    """Processes whose command line matches."""
    return subprocess.run(["pgrep", "-f", "--", pattern], capture_output=True, text=True, check=False).stdout.split()


def without_io_uring():
    """For a child before exec: a seccomp(2) filter that refuses io_uring_setup, as that of Docker does."""
    class Filter(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]

    load, jump_if_equal, ret = 0x20, 0x15, 0x06
    io_uring_setup, allow, eperm = 425, 0x7FFF0000, 0x00050001
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in (
        (load, 0, 0, 0), (jump_if_equal, 0, 1, io_uring_setup), (ret, 0, 0, eperm), (ret, 0, 0, allow)))
    libc = ctypes.CDLL(None, use_errno=True)
    code = ctypes.create_string_buffer(program, len(program))
    described = Filter(4, ctypes.cast(code, ctypes.c_char_p))
    no_new_privileges, set_seccomp, with_filter = 38, 22, 2
    if libc.prctl(no_new_privileges, 1, 0, 0, 0) != 0 or libc.prctl(set_seccomp, with_filter, ctypes.byref(described)) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def crc32c(data, crc=0):
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@contextlib.contextmanager
def loop_disk(directory, image_bytes, options=""):
    """A small ext4 of its own, mounted at `directory`."""
    image = directory + ".img"
    with open(image, "wb") as f:
        f.truncate(image_bytes)
    os.mkdir(directory)
    sh(["mkfs.ext4", "-q", "-m", "0", image])
    sh(f"mount -o loop{options} {image} {directory}")
    try:
        yield
    finally:
        sh(["umount", "-l", directory])
        os.rmdir(directory)
        os.unlink(image)


with Cluster("bad-input", osds=1, replicas=1, osd_size="512MiB") as c:
    d = c.root
    mds = c.status()["mds"][0]["addr"]
    osd = c.status()["osds"][0]["addr"]

    def config(text):
        path = f"{d}/bad.toml"
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    say("configuration")
    refused([CAIRN_MDS, "--config", config("[mds]\nlisten_adress = 'x'\n")], "bad.toml", "listen_adress", "mds.listen")
    refused([CAIRN_MDS, "--config", config("[mds]\ncache_bytes = '12 parsecs'\n")], "bad.toml", "cache_bytes", "KiB")
    refused([CAIRN_MDS, "--config", config("[mds]\nreplicas = 99\n")], "replicas", "99", "7")
    refused([CAIRN_MDS, "--config", config("[mds\n")], "bad.toml")
    refused([CAIRN_MDS, "--config", f"{d}/none.toml"], "none.toml")
    refused([CAIRN_OSD, "--set", "osd.size=abc"], "osd.size", "abc")
    refused([CAIRN_OSD, "--frobnicate"], code=2)
    refused([CAIRN, "frobnicate"], code=2)
    refused([CAIRN, "status", "--cluster", "nonsense"], "nonsense", "HOST:PORT")
    refused([CAIRN, "status", "--cluster", "127.0.0.1:1"], "127.0.0.1:1")
    refused([CAIRN, "status", "--data", f"{d}/nowhere"], "nowhere", "cairn up")

    say("ports and directories in use, of others, of the future")
    refused([CAIRN_MDS, *FLAT, "--set", f"mds.data={d}/mds2", "--set", f"mds.listen={mds}"], mds.split(":")[1], "in use")
    check(not os.path.exists(f"{d}/mds2/log"), "a daemon that could not listen leaves nothing behind")
    refused([CAIRN_MDS, *FLAT, "--set", f"mds.data={c.data}/mds", "--set", "mds.listen=127.0.0.1:0"], "mds", "use")
    osd_flags = ["--set", "osd.metrics_listen=", "--set", "osd.listen=127.0.0.1:0", "--set", f"osd.mds={mds}"]
    refused([CAIRN_OSD, *osd_flags, "--set", f"osd.data={c.data}/osd1"], "osd1", "in use")
    refused([CAIRN_OSD, *osd_flags, "--set", f"osd.data={d}/huge", "--set", "osd.size=900TiB"], "huge", "space")
    check(not os.path.exists(f"{d}/huge") or not os.listdir(f"{d}/huge"), "a store that did not fit leaves nothing behind")
    refused([CAIRN_OSD, *osd_flags, "--set", "osd.data=/proc/cairn"], "/proc/cairn")
    with open(f"{d}/file", "w", encoding="ascii") as f:
        f.write("not a directory")
    refused([CAIRN_OSD, *osd_flags, "--set", f"osd.data={d}/file/x"], "file")
    refused([CAIRN_OSD, "--check", f"{d}/none"], "none")

    say("mount points and options")
    refused([CAIRN, "mount", mds, f"{d}/none"], "none", "mkdir")
    refused([CAIRN, "mount", mds, f"{d}/file"], "file", "directory")
    refused([CAIRN, "mount", mds, c.mount], re.escape(c.mount), "already")
    os.mkdir(f"{d}/point")
    refused([CAIRN, "mount", "127.0.0.1:1", f"{d}/point"], "127.0.0.1:1", timeout=90)
    refused([CAIRN, "mount", osd, f"{d}/point"], timeout=90)
    refused([CAIRN, "mount", "-o", "frobnicate", mds, f"{d}/point"], "frobnicate", "mount.cairn")
    check(os.listdir(f"{d}/point") == [] and not os.path.ismount(f"{d}/point"), "nothing is mounted")

    say("mounts in use, signals while it waits")
    with subprocess.Popen(["sleep", "1000"], cwd=c.mount) as user:
        busy = subprocess.run(["umount", c.mount], capture_output=True, text=True, check=False)
        check(busy.returncode != 0 and "busy" in busy.stderr, f"umount of a mount in use: {busy}")
        refused([CAIRN, "down", "--data", c.data], re.escape(c.mount), "in use", "fuser")
        user.kill()
    check(c.status()["health"] == "ok", "a refused down stops nothing")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        # It takes connections and says nothing, as a machine that hangs does.
        waiting = subprocess.Popen([CAIRN, "mount", f"127.0.0.1:{silent.getsockname()[1]}", f"{d}/point"], start_new_session=True)
        silent.accept()
        os.killpg(waiting.pid, signal.SIGINT)
        waiting.wait(10)
        eventually(lambda: not running(f"mount 127.0.0.1:.* {d}/point"), "an interrupted mount ends", 10)
    check(not os.path.ismount(f"{d}/point"), "nothing is mounted")

    say("no io_uring, no /dev/fuse, no O_DIRECT")
    for command in ([CAIRN_MDS, *FLAT, "--set", f"mds.data={d}/mds2"], [CAIRN_OSD, *osd_flags, "--set", f"osd.data={d}/osd2"],
                    [CAIRN, "status", "--cluster", mds], [CAIRN, "mount", mds, f"{d}/point"]):
        refused(command, "io_uring", "seccomp", preexec_fn=without_io_uring)
    check(not os.path.exists(f"{d}/mds2") and not os.path.exists(f"{d}/osd2"), "nothing is left behind")
    if ROOT:
        hidden = "mount -t tmpfs none /dev && mknod /dev/null c 1 3 && exec \"$@\""
        r = subprocess.run(["unshare", "-m", "sh", "-c", hidden, "sh", CAIRN, "mount", mds, f"{d}/point"],
                           capture_output=True, text=True, timeout=60, check=False)
        check(r.returncode == 1 and len(r.stderr.splitlines()) == 1 and "modprobe fuse" in r.stderr, f"without /dev/fuse: {r}")
        os.mkdir(f"{d}/ram")
        sh(["mount", "-t", "ramfs", "none", f"{d}/ram"])
        refused([CAIRN_OSD, *osd_flags, "--set", f"osd.data={d}/ram/osd", "--set", "osd.size=128MiB", "--set", "osd.wal_bytes=16MiB"],
                "ramfs", "O_DIRECT", "ext4")
        refused([CAIRN_MDS, *FLAT, "--set", f"mds.data={d}/ram/mds", "--set", "mds.listen=127.0.0.1:0"], "ramfs", "O_DIRECT", "ext4")
        check(os.listdir(f"{d}/ram") == [], f"nothing is left behind: {os.listdir(f'{d}/ram')}")
        sh(["umount", f"{d}/ram"])

    say("full and read-only disks")
    if ROOT:
        small = ["--set", "osd.size=128MiB", "--set", "osd.wal_bytes=16MiB"]
        with loop_disk(f"{d}/disk", 64 << 20):
            refused([CAIRN_OSD, *osd_flags, *small, "--set", f"osd.data={d}/disk/osd"], "disk/osd", "free")
            refused([CAIRN_MDS, *FLAT, "--set", f"mds.data={d}/disk/mds", "--set", "mds.listen=127.0.0.1:0"], "disk/mds", "free")
            check(os.listdir(f"{d}/disk") == ["lost+found"], f"nothing is left behind: {os.listdir(f'{d}/disk')}")
            sh(["mount", "-o", "remount,ro", f"{d}/disk"])
            refused([CAIRN_OSD, *osd_flags, *small, "--set", f"osd.data={d}/disk/osd"], "disk/osd", "read-only")
            refused([CAIRN_MDS, *FLAT, "--set", f"mds.data={d}/disk/mds", "--set", "mds.listen=127.0.0.1:0"], "disk/mds", "read-only")

    say("up that contradicts what is there")
    refused([CAIRN, "up", "--data", c.data, "--replicas", "3"], "1 cop", "3")
    refused([CAIRN, "up", "--data", d], "not empty")
    refused([CAIRN, "up", "--data", f"{d}/new", "--osds", "2", "--replicas", "3"], "replicas", "osds")
    check(not os.path.exists(f"{d}/new"), "a refused up leaves nothing behind")
    refused([CAIRN, "up", "--data", f"{d}/new", "--mount", f"{d}/point", "--osd-size", "900TiB"], "free")
    refused([CAIRN, "up", "--data", f"{d}/new", "--mount", f"{d}/point", "--osd-size", "256MiB"], "256 MiB", "512 MiB")
    check(not os.path.exists(f"{d}/new") and not running(f"{d}/new"), "an up that failed leaves nothing behind")
    refused([CAIRN, "stat", "/etc/passwd"], "/etc/passwd", "Cairn")
    refused([CAIRN, "layout", "set", c.mount, "--pool", "nonesuch"], "nonesuch")
    refused([CAIRN, "pool", "create", "default", "--replicas", "1", "--data", c.data], "default", "already")
    create = [CAIRN, "pool", "create", "code", "--data", c.data]
    refused([*create, "--ec", "4-2"], "4-2", r"K\+M", code=2)
    refused([*create, "--ec", "1+1"], "K from 2 to 16", "M from 1 to 4")
    refused([*create, "--ec", "2+1", "--stripe-unit", "48KiB"], "power of two", "4 KiB")
    refused([*create, "--ec", "2+1", "--min-size", "4"], r"2\+1", "from 2 to 3")
    refused([*create, "--ec", "2+1", "--replicas", "3"], "--ec", "--replicas", code=2)
    refused([*create, "--stripe-unit", "64KiB"], "--ec", code=2)

    say("a store of another cluster")
    with Cluster("bad-input-other", osds=1, replicas=1, osd_size="512MiB", mounted=False) as other:
        other.down()
        refused([CAIRN_OSD, *osd_flags, "--set", f"osd.data={other.data}/osd1"], "cluster")

        say("directories of a newer release")
        with open(f"{other.data}/mds/version", "r+", encoding="ascii") as f:
            known = f.read()
            f.seek(0)
            f.write("99\n")
            f.truncate()
        newer = [CAIRN_MDS, *FLAT, "--set", f"mds.data={other.data}/mds", "--set", "mds.listen=127.0.0.1:0"]
        refused(newer, "mds", "format 99", "release")
        with open(f"{other.data}/mds/version", "w", encoding="ascii") as f:
            f.write(known)
        with open(f"{other.data}/osd1/block", "r+b") as f:
            blocks = f.read(8192)
            check(crc32c(blocks[:4092]) == struct.unpack("<I", blocks[4092:4096])[0], "where the checksum is")
            version_99 = blocks[:8] + struct.pack("<I", 99) + blocks[12:4092]
            f.seek(0)
            f.write((version_99 + struct.pack("<I", crc32c(version_99))) * 2)
            f.flush()
            refused([CAIRN_OSD, *osd_flags, "--set", f"osd.data={other.data}/osd1"], "osd1", "version 99", "newer")
            refused([CAIRN_OSD, "--check", f"{other.data}/osd1"], "osd1", "version 99", "newer")
            f.seek(0)
            f.write(blocks)
        other.up()
        check(other.status()["health"] == "ok", "what was refused is as it was")

    say("garbage on every port")
    rng = random.Random(20)

    def memory(name):
        with open(f"/proc/{c.pid(name)}/status", encoding="ascii") as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))

    def recorded(words):
        """The frames that `cairn WORDS` sends: it talks to the MDS through us."""
        frames = []

        def pump(source, sink, keep):
            with contextlib.suppress(OSError):
                while data := source.recv(65536):
                    if keep:
                        frames.append(data)
                    sink.sendall(data)
            with contextlib.suppress(OSError):
                sink.shutdown(socket.SHUT_WR)

        with socket.create_server(("127.0.0.1", 0)) as proxy:
            child = subprocess.Popen([CAIRN, *words, "--cluster", f"127.0.0.1:{proxy.getsockname()[1]}"],
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            near, _ = proxy.accept()
            with near, socket.create_connection(mds.rsplit(":", 1)) as far:
                back = threading.Thread(target=pump, args=(far, near, False))
                back.start()
                pump(near, far, True)
                back.join()
            check(child.wait(30) == 0, f"cairn {words} works through a proxy")
        return b"".join(frames)

    def split(stream):
        """The frames of a recorded stream."""
        at = 0
        while at < len(stream):
            header, payload = struct.unpack_from("<II", stream, at + 4)
            yield stream[at:at + 16 + header + payload]
            at += 16 + header + payload

    def sealed(header):
        """A frame whose checksum is right, so that what is wrong with the header is found later."""
        start = struct.pack("<4sII", b"CRN1", len(header), 0)
        return start + struct.pack("<I", crc32c(start + header)) + header

    def garbled(good):
        """One of the many ways to spoil a header: a flipped bit, a wild word, cut or doubled."""
        header = bytearray(good)
        for _ in range(rng.randint(1, 3)):
            word = rng.randrange(len(header) // 8) * 8
            kind = rng.randrange(3)
            if kind == 0:
                header[word + rng.randrange(8)] ^= 1 << rng.randrange(8)
            elif kind == 1:
                header[word:word + 8] = rng.choice((b"\xff" * 8, bytes(8), rng.randbytes(8)))
            elif len(header) > 8:
                del header[word:word + 8]
        return bytes(header)

    def converse(port, data):
        """Sends it all, says that it is all, and waits for the other end to close."""
        with socket.create_connection(port.rsplit(":", 1)) as s:
            s.settimeout(20)
            with contextlib.suppress(OSError):  # it may well be cut off
                s.sendall(data)
                s.shutdown(socket.SHUT_WR)
                while s.recv(65536):
                    pass

    def torment(port, hello, request):
        for _ in range(100):
            converse(port, (hello + request)[:rng.randrange(len(hello + request))])
            converse(port, sealed(garbled(hello[16:])) + request)
            converse(port, hello + sealed(garbled(request[16:])))

    pids = {name: c.pid(name) for name in ("mds", "osd1")}
    before = {name: memory(name) for name in pids}
    hello, status = split(recorded(["status"]))
    for port in (mds, osd):
        for size in (0, 1, 15, 16, 17, 1000, 100000):
            for head in (b"", b"CRN1", b"CRN1\xf8\xff\xff\xff\xff\xff\xff\xff", b"GET / HTTP/1.1\r\n\r\n"):
                converse(port, head + rng.randbytes(size))
        torment(port, hello, status)
        # The largest frame that is allowed, never finished, from many at once.
        with contextlib.ExitStack() as many:
            for _ in range(100):
                s = many.enter_context(socket.create_connection(port.rsplit(":", 1)))
                s.sendall(struct.pack("<4sIII", b"CRN1", 1 << 20, 4 << 20, 0) + bytes(4096))
            for name in pids:
                check(memory(name) < before[name] + 200 * 1024, f"{name} grew from {before[name]} to {memory(name)} KiB")
    with open(f"{c.mount}/alive", "w", encoding="ascii") as f:
        f.write("still serving")
    eventually(lambda: c.status()["health"] == "ok", "the cluster is well after all that", 10)
    sh(f"grep -q serving {c.mount}/alive")
    # Spoiled commands may well be valid ones: what they do is no damage, but not foreseen.
    hello, create = split(recorded(["pool", "create", "fuzz", "--replicas", "1"]))
    for port in (mds, osd):
        torment(port, hello, create)
    for name, pid in pids.items():
        say(f"{name}: {before[name]} KiB before, {memory(name)} KiB after")
        check(memory(name) < before[name] + 200 * 1024, f"{name} stays small")
        check(c.pid(name) == pid, f"{name} is the process that it was")
    c.status()

    say("garbage on the port of the metrics")
    with socket.create_server(("127.0.0.1", 0)) as free:
        metrics = f"127.0.0.1:{free.getsockname()[1]}"
    read_end, write_end = os.pipe()
    with subprocess.Popen([CAIRN_MDS, "--set", f"mds.data={d}/mds3", "--set", "mds.listen=127.0.0.1:0", "--set", "mds.log_bytes=16MiB",
                           "--set", f"mds.metrics_listen={metrics}", "--ready-fd", str(write_end)], pass_fds=[write_end],
                          stderr=subprocess.DEVNULL) as scraped:
        try:
            os.close(write_end)
            word, address = os.read(read_end, 100).decode().split()
            check(word == "ready", "a server with metrics starts")
            c.cairn("status", "--cluster", address)  # an operation to count
            for size in (0, 1, 100, 10000, 1000000):
                for head in (b"", b"GET /metrics", b"GET /metrics HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n"):
                    converse(metrics, head + rng.randbytes(size))
            lines = sh(["curl", "-fsS", f"http://{metrics}/metrics"]).splitlines()
            check(any(line.startswith("cairn_op_total{") for line in lines), "operations are counted")
            for line in lines:
                check(re.fullmatch(r'# (HELP|TYPE) \w+ .*|\w+(\{\w+="[^"]*"(,\w+="[^"]*")*\})? [-+.\dInfeNa]+', line), f"no metric: {line}")
        finally:
            scraped.terminate()
