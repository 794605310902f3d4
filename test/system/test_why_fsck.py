#!/usr/bin/env python3
"""What `cairn why` says of a file that is served, and of one that is waited for; what `cairn fsck` finds, and that it finds
nothing where nothing is wrong."""
import json
import os
import re
import signal
import subprocess
import sys
import time

from harness import CAIRN, Cluster, check, eventually, say, sh, write

WRITER = "import os, sys; f = os.open(sys.argv[1], os.O_WRONLY); os.pwrite(f, b'y' * 9000, 0); os.fsync(f)"


def ask(*words):
    """Exit code and output; never waits for a mount."""
    result = subprocess.run([CAIRN, *words], text=True, capture_output=True, timeout=60, check=False)
    return result.returncode, result.stdout + result.stderr


def why(path):
    code, out = ask("why", path)
    say(f"  why: {out.strip()}")
    return code, out


def why_served(cluster):
    say("why, of what is served")
    path = os.path.join(cluster.mount, "file")
    link = os.path.join(cluster.root, "link")
    os.mkdir(os.path.join(cluster.mount, "dir"))
    os.symlink("../file", os.path.join(cluster.mount, "dir", "there"))
    os.symlink(os.path.join(cluster.mount, "dir", "there"), link)
    write(path, b"x" * 10000)
    for name in (path, link):
        code, out = why(name)
        check(code == 0 and re.search(r"^nothing: placement group \d+\.\d+ of pool default is served by osd\.\d; \d cop", out),
              f"{name} is served: {code}, {out}")
        # An OSD that gets no processor for seconds is out for a while.
        eventually(lambda name=name: "2 copies\n" in ask("why", name)[1], "both copies are equal", 60)
    inode = json.loads(ask("why", "--json", link)[1])["inode"]
    check(inode == os.stat(path).st_ino, "the path led to the file")
    check(why(cluster.mount)[0] == 0 and why(os.path.join(cluster.mount, "dir", ".."))[0] == 0, "directories")
    code, out = ask("why", os.path.join(cluster.mount, "none"))
    check(code == 1 and "no such name" in out, f"a name that is not there: {out}")
    code, out = ask("why", "/proc/self/status")
    check(code == 1 and "does not lie on" in out, f"not on a mount: {out}")


def why_too_few(cluster):
    say("why, of a write that needs an OSD which is down")
    path = os.path.join(cluster.mount, "file")
    # Not while a group has fewer, which may be for a moment after the start.
    eventually(cluster.whole, "all groups have their copies", 60)
    cluster.admin("pool", "set", "default", "min-size=2")
    eventually(cluster.whole, "all groups have their copies", 60)
    cluster.kill("osd2")
    with subprocess.Popen([sys.executable, "-c", WRITER, path]) as writer:
        code, out = eventually(lambda: (lambda r: r if r[0] == 1 and "down since" in r[1] else None)(ask("why", path)),
                               "the cluster notices, and why says so", 30)
        say(f"  why: {out.strip()}")
        check(re.search(r"^placement group \d+\.\d+ of pool default waits: ", out), out)
        check(re.search(r"osd\.2 is down since \d+ s", out) and "there is 1, on osd.1" in out, out)
        told = json.loads(ask("why", "--json", path)[1])
        check(told["waits"] and "osd.2" in told["groups"][0]["waits_on"], f"as JSON: {told}")
        check(writer.poll() is None, "the write waits")
        say("  and all OSDs down")
        cluster.kill("osd1")
        code, out = eventually(lambda: (lambda r: r if "osd.1 is down" in r[1] else None)(ask("why", path)),
                               "the cluster notices", 30)
        say(f"  why: {out.strip()}")
        check(code == 1 and "no other that is up has all that was written" in out, out)
        cluster.up()
        check(writer.wait(timeout=60) == 0, "the write is done")
    eventually(lambda: ask("why", path)[0] == 0, "nothing is waited on", 60)


def why_no_mds(cluster):
    say("why, without a metadata server")
    path = os.path.join(cluster.mount, "dir", "there")
    cluster.kill("mds", signal.SIGSTOP)
    began = time.monotonic()
    try:
        code, out = why(path)
    finally:
        cluster.kill("mds", signal.SIGCONT)
    check(code == 1 and "metadata server" in out, out)
    check(time.monotonic() - began < 30, "it answers in bounded time")
    eventually(lambda: ask("why", path)[0] == 0, "the server is back", 60)


def fsck(cluster):
    code, out = ask("fsck", "--json", "--data", cluster.data)
    try:
        return code, json.loads(out)
    except ValueError:
        raise AssertionError(f"fsck: exit {code}: {out}") from None


def expect_clean(cluster, when):
    code, found = fsck(cluster)
    check(code == 0 and found["clean"], f"{when}: {json.dumps(found, indent=1)}")
    check(not found["osds_down"] and len(found["osds"]) == 2, f"all OSDs were asked: {found}")
    return found


CHURN = """
import os, sys, time
n = 0
while not os.path.exists(sys.argv[2]):
    name = os.path.join(sys.argv[1], f"churn{n % 7}")
    with open(name, "wb") as f:
        f.write(b"z" * 5000 * (n % 5))
    if n % 3 == 0: os.rename(name, name + "r")
    elif n % 3 == 1: os.unlink(name)
    n += 1
print(n)
"""


def fsck_clean(cluster):
    say("fsck, of files of every kind")
    at = cluster.mount
    for n in range(50):
        write(os.path.join(at, f"kept{n}"), b"k" * (1000 * n))
    os.link(os.path.join(at, "kept1"), os.path.join(at, "dir", "hard"))
    with open(os.path.join(at, "sparse"), "wb") as f:
        f.truncate(1 << 40)
        f.seek(300 << 20)
        f.write(b"island")
    write(os.path.join(at, "cut"), b"c" * (66 << 20))
    os.truncate(os.path.join(at, "cut"), 100)
    with open(os.path.join(at, "reserved"), "wb") as f:
        os.posix_fallocate(f.fileno(), 0, 1 << 20)
    with open(os.path.join(at, "gone"), "w+b") as f:
        f.write(b"g" * 100000)
        f.flush()
        os.fsync(f.fileno())
        os.unlink(os.path.join(at, "gone"))
        found = expect_clean(cluster, "with a deleted file that is open")
        f.seek(0)
        check(len(f.read()) == 100000, "the deleted file is whole")
    check(found["chunks_stored"] >= 50 and found["chunks_of_files"] >= found["chunks_stored"] - found["chunks_deleted"],
          f"it has seen them: {found}")
    say("  and while files are made, moved and deleted")
    stop = os.path.join(cluster.root, "stop")
    with subprocess.Popen([sys.executable, "-c", CHURN, at, stop], stdout=subprocess.PIPE) as churn:
        try:
            eventually(lambda: os.path.exists(os.path.join(at, "churn0r")), "the load has begun")
            rounds, until = 0, time.monotonic() + 8
            while time.monotonic() < until:
                expect_clean(cluster, "under load")
                rounds += 1
        finally:
            write(stop, b"")
        made = int(churn.communicate(timeout=60)[0])
        say(f"  {made} files were made meanwhile, {rounds} checks")
        check(made > 20, "there was a load")


def chunks_of_names(cluster):
    """How many chunks the files have that have a name."""
    files = {}
    for directory, _, names in os.walk(cluster.mount):
        for path in (os.path.join(directory, name) for name in names):
            if not os.path.islink(path):
                files[os.stat(path).st_ino] = path
    return sum(int(re.search(r"(\d+) chunks", cluster.cairn("stat", path)).group(1)) for path in files.values())


def fsck_leak(cluster):
    """The OSDs come back with what they had before some files were deleted; the MDS does not."""
    say("fsck, of chunks that nothing names any more")
    lost = [os.path.join(cluster.mount, f"lost{n}") for n in range(5)]
    for path in lost:
        write(path, b"l" * 20000)
    ids = [json.loads(ask("stat", "--json", path)[1])["chunks"][0]["id"] for path in lost]
    named = chunks_of_names(cluster)

    def only_named():
        found = fsck(cluster)[1]
        return found["chunks_deleted"] == 0 and found["chunks_of_files"] == named

    eventually(only_named, "all that was deleted before is gone", 60)
    cluster.down()
    names = cluster.osd_names()
    for name in names:
        sh(["cp", "-a", "--sparse=always", os.path.join(cluster.data, name), os.path.join(cluster.root, name)])
    cluster.up()
    stored = expect_clean(cluster, "before they are deleted")["chunks_stored"]
    for path in lost:
        os.unlink(path)
    eventually(lambda: fsck(cluster)[1]["chunks_stored"] == stored - len(lost), "their space is given back", 60)
    expect_clean(cluster, "after they were deleted")
    cluster.down()
    for name in names:
        sh(["rm", "-rf", os.path.join(cluster.data, name)])
        sh(["mv", os.path.join(cluster.root, name), os.path.join(cluster.data, name)])
    cluster.up()
    code, found = fsck(cluster)
    check(code == 1 and [(f["trouble"], f["chunk"]) for f in found["findings"]] == [("leaked", i) for i in sorted(ids)],
          f"{ids} are leaked: {json.dumps(found, indent=1)}")
    check(all(f["osds"] == [1, 2] and f["path"] is None for f in found["findings"]), f"where they are: {found}")
    code, out = ask("fsck", "--data", cluster.data)
    say("  " + out.strip().replace("\n", "\n  "))
    check(code == 1 and out.count("leaked: no file") == 5 and "5 findings" in out, out)


with Cluster("why_fsck", osds=2, replicas=2, osd_size="512MiB") as c:
    why_served(c)
    why_too_few(c)
    why_no_mds(c)
    fsck_clean(c)
    fsck_leak(c)
say("why says what is waited for, and fsck finds what was lost track of and nothing else")
