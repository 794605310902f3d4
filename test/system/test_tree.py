#!/usr/bin/env python3
"""A real tree goes in, the cluster goes down and comes up, and everything is there: digests, modes, owners, times, links, xattrs."""
import os

from harness import Cluster, check, fingerprint, need, same, say, sh

need("rsync", "tar")
SOURCE, FILES = "/usr/include/linux", 4000
with Cluster("tree") as c:
    m = c.mount
    say(f"cp -a {SOURCE}")
    os.mkdir(f"{m}/include")
    sh(f"cp -a {SOURCE} {m}/include/", timeout=900)
    same(fingerprint(SOURCE), fingerprint(f"{m}/include/linux"), "cp -a")

    say("rsync -a, twice")
    sh(f"rsync -a {SOURCE} {m}/synced/", timeout=900)
    second = sh(f"rsync -ai {SOURCE} {m}/synced/", timeout=900)
    check(second == "", f"the second rsync moved something:\n{second}")

    say("tar through the mount")
    sh(f"tar -C {m}/include --format=posix -cf {m}/linux.tar linux && mkdir {m}/untar && tar -C {m}/untar -xf {m}/linux.tar", timeout=900)
    same(fingerprint(f"{m}/include/linux"), fingerprint(f"{m}/untar/linux"), "tar")

    say("a file over four chunks, a sparse one, links, devices, xattrs, odd names and times")
    d = f"{m}/odd"
    os.mkdir(d)
    sh(f"head -c 209715200 /dev/urandom > {d}/big")
    with open(f"{d}/sparse", "wb") as f:
        f.seek((1 << 50) - 4096)
        f.write(b"end")
    with open(f"{d}/sparse", "rb") as f:
        check(f.read(4096) == bytes(4096), "a hole reads as zeros")
        f.seek((1 << 50) - 4096)
        check(f.read() == b"end", "the end of a sparse file")
    check(os.stat(f"{d}/sparse").st_blocks * 512 < (1 << 30), "a sparse file takes no space")
    os.link(f"{d}/big", f"{d}/big.link")
    os.symlink("big", f"{d}/soft")
    os.symlink("x" * 4095, f"{d}/long.soft")
    os.mkfifo(f"{d}/fifo", 0o640)
    os.mknod(f"{d}/null", 0o20666, os.makedev(1, 3))
    for name in (b"\xff\xfe not utf-8", b"n" * 255, b"new\nline"):
        with open(os.fsencode(d) + b"/" + name, "wb") as f:
            f.write(name)
    os.setxattr(f"{d}/big", "user.note", b"\0binary\xff")
    os.setxattr(d, "user.large", os.urandom(65536))
    os.utime(f"{d}/big", ns=(1234567890_123456789, 987654321_987654321))
    os.chown(f"{d}/soft", 12, 34, follow_symlinks=False)
    os.chmod(f"{d}/big", 0o4751)
    os.remove(f"{d}/sparse")  # 2^50 bytes are too long to fingerprint

    say(f"{FILES} small files")
    os.mkdir(f"{m}/small")
    for i in range(FILES):
        if i % 1000 == 0:
            os.mkdir(f"{m}/small/{i // 1000}")
        with open(f"{m}/small/{i // 1000}/{i}", "wb") as f:
            f.write(b"%d\n" % i * (i % 700))
    before = fingerprint(m)
    check(len(before[0]) > FILES * 5 // 4, "the tree is a real one")

    say("down, up, compare")
    c.down()
    check(not os.path.ismount(m), "down unmounts")
    c.up()
    same(before, fingerprint(m), "after a restart")
    c.down()
    c.check_stores()
