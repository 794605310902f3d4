"""File locks of one file as Linux has them: for reference.py, which says who the owners are."""
import errno as E

LAST = (1 << 63) - 1  # the last byte that can be locked


class FileLocks:
    """flock(2) and ranges do not see each other. Any number of owners lock a byte for reading, or one for writing."""

    def __init__(self):
        self.whole = {}  # owner: "sh" or "ex"
        self.ranges = {}  # owner: [(first, last, "r" or "w")] in order; those that touch and are of one kind are one

    def flock(self, owner, kind):
        """False: another's lock is in the way; what the owner had is gone all the same."""
        had = self.whole.get(owner)
        if had == kind:
            return True
        self.whole.pop(owner, None)
        if kind == "un":
            return True
        if self.whole and (kind == "ex" or "ex" in self.whole.values()):
            return False
        self.whole[owner] = kind
        return True

    def in_the_way(self, owner, kind, first, last):
        """What other owners have: (owner, kind, first, last)."""
        return [(other, k, f, to) for other, pieces in self.ranges.items() if other != owner
                for f, to, k in pieces if f <= last and first <= to and "w" in (k, kind)]

    def set(self, owner, kind, first, last):
        """Kind "u": unlocks. False: another's lock is in the way."""
        if kind != "u" and self.in_the_way(owner, kind, first, last):
            return False
        pieces = [] if kind == "u" else [(first, last, kind)]
        for f, to, k in self.ranges.pop(owner, []):
            if f < first:
                pieces.append((f, min(to, first - 1), k))
            if to > last:
                pieces.append((max(f, last + 1), to, k))
        merged = []
        for piece in sorted(pieces):
            if merged and merged[-1][2] == piece[2] and merged[-1][1] + 1 == piece[0]:
                merged[-1] = (merged[-1][0],) + piece[1:]
            else:
                merged.append(piece)
        if merged:
            self.ranges[owner] = merged
        return True

    def gone(self, owner):
        """True: it had something."""
        return (self.whole.pop(owner, None), self.ranges.pop(owner, None)) != (None, None)


def bytes_of(start, length):
    """The first and last byte that l_start and l_len mean; or the errno."""
    if start < 0:
        return E.EINVAL
    if length > 0:
        return (start, start + length - 1) if length - 1 <= LAST - start else E.EOVERFLOW
    if length < 0:
        return (start + length, start - 1) if start + length >= 0 else E.EINVAL
    return start, LAST
