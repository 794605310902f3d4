#!/usr/bin/env python3
"""OSDs die, stop, are lost with all they had, and lie: what is mounted goes on, nothing is wrong, and the cluster heals itself."""
import signal

from harness import Cluster, say
from osd_failures import Failures

with Cluster("osd_failure") as c:
    osds = Failures(c, c.mount, "default")
    osds.fail_and_return(["osd2"], signal.SIGKILL)
    osds.fail_and_return(["osd1"], signal.SIGSTOP)
    osds.fail_and_return(["osd3"], signal.SIGKILL)
    osds.all_at_once()
    osds.flipped_bytes("osd2")
    osds.beyond_repair()
    osds.lost("osd3")
    osds.does_not_start("osd2")
    c.down()
    c.check_stores()
    c.up()
say("OSDs failed in every way, and nobody noticed but the administrator")
