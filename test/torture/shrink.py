"""From a long failing sequence to a short one: delta debugging (Zeller's ddmin)."""
import time


def shrink(ops, fails, seconds=120.0, say=print):
    """The shortest subsequence of `ops` found in the time given that still fails. `fails(sequence)` replays one in a fresh
    place, and answers with the operations that had a part in it until it failed; None: it did not."""
    deadline = time.monotonic() + seconds
    ops = fails(ops) or ops
    size = max(1, len(ops) // 2)
    while True:
        at, smaller = 0, False
        while at < len(ops):
            if time.monotonic() > deadline:
                say(f"  out of time at {len(ops)} operations: it may be possible to leave out more")
                return ops
            rest = ops[:at] + ops[at + size:]
            used = fails(rest) if rest else None
            if used:
                ops, smaller = used, True
            else:
                at += size
        say(f"  {len(ops)} operations")
        if size > 1:
            size = max(1, min(size, len(ops)) // 2)
        elif not smaller:
            return ops
