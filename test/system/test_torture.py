#!/usr/bin/env python3
"""A short run of every torture test (test/torture/README.md) on two mounts of one cluster. Longer ones: test/torture/run."""
import os
import subprocess
import sys

from harness import CAIRN, SANITIZED, Cluster, check, say, sh

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../torture"))
import database  # noqa: E402
import handshake  # noqa: E402
import model  # noqa: E402
import racer  # noqa: E402
from fsx import Fsx  # noqa: E402

# The same ones each time: a new seed may find an old bug, and that is for test/torture/run.
SEEDS = ["1", "2", os.environ.get("CAIRN_SEED", "3")]
MODEL_SEEDS = SEEDS + ["11"]  # leans to mappings and locks
SHARE = 0.25 if SANITIZED else 1.0
CHUNK_BORDER = 67_000_000  # 64 MiB is in the window of fsx from here

model.prepare()
with Cluster("torture") as c:
    mounts = [c.mount, os.path.join(c.root, "mnt2")]
    os.makedirs(mounts[1])
    sh([CAIRN, "mount", c.status()["mds"][0]["addr"], mounts[1]], timeout=60)
    try:
        say(f"seeds {', '.join(SEEDS)} (the last one: CAIRN_SEED)")
        for seed in MODEL_SEEDS:
            check(model.Model(mounts, say=say).run(seed, int(2000 * SHARE), shrink_seconds=60), "a difference to the model")
        for used, base in ((mounts[:1], 0), (mounts, 0), (mounts, CHUNK_BORDER)):
            for seed in SEEDS[1:]:
                check(Fsx(used, base, say=say).run(seed, int(500 * SHARE), shrink_seconds=60), "other bytes than were written")
        check(handshake.meet(mounts, int(80 * SHARE), SEEDS[-1], say=say), "the mounts do not agree")
        for mode in ("wal", "delete"):
            problems = database.share(mounts, mode, 4, int(60 * SHARE), say=say)
            check(not problems, "\n".join(problems))
        for used in (mounts[:1], mounts):
            problems = racer.race(used, 3, 8, SEEDS[-1], say=say, memory=4 if SANITIZED else 1)
            check(not problems, "\n".join(problems))
    finally:
        subprocess.run(["umount", mounts[1]], check=False)
    c.down()
    c.check_stores()
say("ok")
sys.exit(0)
