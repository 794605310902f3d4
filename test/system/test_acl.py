#!/usr/bin/env python3
"""POSIX access control lists: the same commands on a local file system and through two mounts give the same output.

The commands, as root and as others, show every rule: lists and modes following each other, inheritance, the umask,
enforcement, setgid, copies. On Cairn what one mount changes counts at once on the other.
"""
import os
import shutil
import subprocess
import sys
import tempfile

from harness import CAIRN, Cluster, check, need, say, sh, skip

SCRIPT = r"""
show() { getfacl -n -p "$@" | sed "s|$PWD|D|"; stat -c '%a %u %g' "$@"; }
as() { local uid=$1 gid=$2; shift 2; setpriv --reuid "$uid" --regid "$gid" --clear-groups "$@"; echo "exit $?"; }
elsewhere() { (cd "$OTHER" && "$@"); }

echo "--- lists and modes follow each other"
umask 027
echo text > f; setfacl -m u:1000:rw,g:1000:r f; show f
chmod 751 f; show f
setfacl -b f; show f
setfacl -d -m u:1:r f; echo "exit $?"

echo "--- inheritance, with and without a umask"
mkdir dd; setfacl -d -m u::rwx,u:1000:rwx,g::rx,o::r dd; show dd
touch dd/f; mkdir dd/d; ln -s f dd/l; mknod dd/p p; show dd/f dd/d dd/p
mkdir dd/d/e; show dd/d/e
umask 000; touch dd/g; show dd/g
umask 077; touch dd/h; mkdir dd/i; show dd/h dd/i
elsewhere setfacl -k dd; show dd; touch dd/j; show dd/j

echo "--- enforced at once, whoever changes them"
chmod 777 .
setfacl -m u:1000:- f; chmod 666 f; as 1000 1000 cat f
elsewhere setfacl -m u:1000:r f; as 1000 1000 cat f
elsewhere chmod 600 f; as 1000 1000 cat f
setfacl -m m::r f; as 1000 1000 cat f
elsewhere setfacl -m g:1005:r,u:1000:- f; as 1000 1005 cat f; as 1001 1005 cat f
elsewhere setfacl -m u:1000:rw f; as 1000 1000 sh -c 'echo more >> f'; show f
mkdir x; setfacl -m u:1000:r x; as 1000 1000 ls x; as 1000 1000 sh -c 'cd x'; setfacl -m u:1000:x x; as 1000 1000 sh -c 'cd x'

echo "--- setgid"
mkdir s; chgrp 1000 s; chmod 2777 s; as 1000 1001 sh -c 'touch s/a; mkdir s/d'; show s/a s/d
cp f f2; chown 1000:1000 f2; chmod 2770 f2; as 1000 1001 setfacl -m u:5:r f2; show f2
chmod 2770 f2; as 1000 1000 setfacl -m u:5:r f2; show f2
as 1001 1001 setfacl -m u:5:rw f2
chmod 2770 f2; setpriv --reuid 1000 --regid 1001 --groups 7,1000 setfacl -m u:5:r f2; show f2

echo "--- names and copies"
getfattr -d -m - f2
cp -a f f3; show f3; mv f3 f4; ln f4 f5; show f5
tar --acls -cf t.tar f4 dd; mkdir t; tar --acls -xf t.tar -C t; (cd t; show f4 dd dd/f dd/d)
"""


def run(here, other):
    result = subprocess.run(["bash", "-c", SCRIPT], cwd=here, env={**os.environ, "OTHER": other, "LC_ALL": "C"},
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False)
    return result.stdout.splitlines()


def main():
    need("setfacl", "getfattr", "setpriv", "tar")
    if os.getuid() != 0:
        skip("only root can act as other users")
    local = tempfile.mkdtemp(prefix="cairn-acl-")  # as others see it: no private directory above
    try:
        os.chmod(local, 0o777)
        probe = subprocess.run(["setfacl", "-m", "u:1:r", local], capture_output=True, text=True, check=False)
        if probe.returncode != 0:
            skip(f"{local} keeps no access control lists to compare with: {probe.stderr.strip()}")
        sh(["setfacl", "-b", local])
        expected = run(local, local)
    finally:
        shutil.rmtree(local)
    check(len(expected) > 150, f"the local file system shows them: {len(expected)} lines")
    with Cluster("acl", osds=3, replicas=2, osd_size="512MiB") as c:
        second = f"{c.root}/second"
        os.mkdir(second)
        sh([CAIRN, "mount", c.status()["mds"][0]["addr"], second])
        try:
            for here, other in ((c.mount, second), (second, c.mount)):
                name = "a" if here == second else "b"
                os.mkdir(f"{here}/{name}", 0o777)
                os.chmod(f"{here}/{name}", 0o777)
                got = run(f"{here}/{name}", f"{other}/{name}")
                for i, (want, have) in enumerate(zip(expected, got)):
                    check(want == have, f"line {i + 1}: here {want!r}, on the mount {have!r}; before it {got[max(0, i - 8):i]}")
                check(len(expected) == len(got), f"{len(expected)} lines here, {len(got)} on the mount: {got[len(expected):]}")
                say(f"{len(got)} lines are the same")
        finally:
            sh(["umount", second])


if __name__ == "__main__":
    sys.exit(main())
