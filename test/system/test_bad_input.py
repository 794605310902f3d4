#!/usr/bin/env python3
"""Bad input gets one clear line that names the thing, the reason and the way out; exit code 1 (2 for usage); nothing half-done stays."""
import os
import random
import re
import socket
import subprocess

from harness import CAIRN, CAIRN_MDS, CAIRN_OSD, Cluster, check, eventually, say, sh

FLAT = ["--set", "mds.metrics_listen="]


def refused(command, *words, code=1, timeout=60):
    """Runs it; it must fail with one line on standard error that holds all `words`."""
    r = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    lines = [line for line in r.stderr.splitlines() if line and not line.startswith("time=")]
    check(r.returncode == code, f"{command}: exit {r.returncode}, not {code}\n{r.stdout}\n{r.stderr}")
    check(code == 2 or len(lines) == 1, f"{command}: not one line:\n{r.stderr}")
    for word in words:
        check(re.search(word, r.stderr, re.I), f"{command}: does not say {word!r}:\n{r.stderr}")
    say(lines[0][:160] if lines else "usage")


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

    say("up that contradicts what is there")
    refused([CAIRN, "up", "--data", c.data, "--replicas", "3"], "1 cop", "3")
    refused([CAIRN, "up", "--data", d], "not empty")
    refused([CAIRN, "up", "--data", f"{d}/new", "--osds", "2", "--replicas", "3"], "replicas", "osds")
    check(not os.path.exists(f"{d}/new"), "a refused up leaves nothing behind")
    refused([CAIRN, "stat", "/etc/passwd"], "/etc/passwd", "Cairn")
    refused([CAIRN, "layout", "set", c.mount, "--pool", "nonesuch"], "nonesuch")
    refused([CAIRN, "pool", "create", "default", "--replicas", "1", "--data", c.data], "default", "already")

    say("a store of another cluster")
    with Cluster("bad-input-other", osds=1, replicas=1, osd_size="512MiB", mounted=False) as other:
        other.down()
        refused([CAIRN_OSD, *osd_flags, "--set", f"osd.data={other.data}/osd1"], "cluster")

    say("garbage on every port")
    rng = random.Random(20)
    for port in (mds, osd):
        host, number = port.split(":")
        for size in (0, 1, 15, 16, 17, 1000, 100000):
            for head in (b"", b"CRN1", b"CRN1\xf8\xff\xff\xff\xff\xff\xff\xff", b"GET / HTTP/1.1\r\n\r\n"):
                with socket.create_connection((host, int(number))) as s:
                    try:
                        s.sendall(head + rng.randbytes(size))
                        s.shutdown(socket.SHUT_WR)
                        s.settimeout(20)
                        while s.recv(65536):
                            pass
                    except OSError:
                        pass  # it may well be cut off

    def memory(name):
        with open(f"/proc/{c.pid(name)}/status", encoding="ascii") as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))

    for name in ("mds", "osd1"):
        check(memory(name) < 600 * 1024, f"{name} stays small")
    with open(f"{c.mount}/alive", "w", encoding="ascii") as f:
        f.write("still serving")
    eventually(lambda: c.status()["health"] == "ok", "the cluster is well after all that", 10)
    sh(f"grep -q serving {c.mount}/alive")
