#!/usr/bin/env python3
"""The same as test_osd_failure in an erasure-coded pool, 4+2 on six OSDs, of which two fail at a time."""
import os
import signal

from harness import Cluster, say
from osd_failures import Failures

with Cluster("stripe_failure", osds=6, osd_size="512MiB") as c:
    c.admin("pool", "create", "stripes", "--ec", "4+2", "--min-size", "4")
    root = os.path.join(c.mount, "striped")
    os.mkdir(root)
    c.cairn("layout", "set", root, "--pool", "stripes")
    osds = Failures(c, root, "stripes")
    osds.fail_and_return(["osd1", "osd4"], signal.SIGKILL)
    osds.fail_and_return(["osd2", "osd3"], signal.SIGSTOP)
    osds.fail_and_return(["osd5", "osd6"], signal.SIGKILL)
    osds.all_at_once()
    osds.flipped_bytes("osd2")
    c.admin("fsck")  # which fails if it has something to say
    osds.lost("osd3")
    c.down()
    c.check_stores()
    c.up()
say("stripes survived it all")
