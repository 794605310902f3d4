"""Access control lists, acl(5): tuples of (tag, permissions, id), as Linux keeps them. For reference.py."""
import struct

USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32
NOBODY = 0xffffffff  # the id of entries that name none
NAMES = {"access": "system.posix_acl_access", "default": "system.posix_acl_default"}
SHIFTS = {USER_OBJ: 6, GROUP_OBJ: 3, MASK: 3, OTHER: 0}


def encode(acl):
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in acl)


def decode(value):
    return tuple(struct.iter_unpack("<HHI", value[4:]))


def valid(acl):
    tags = [tag for tag, _, _ in acl]
    once = all(tags.count(t) == 1 for t in (USER_OBJ, GROUP_OBJ, OTHER)) and tags.count(MASK) <= 1
    return tags == sorted(tags) and once and (MASK in tags or not {USER, GROUP} & set(tags))


def minimal(acl):
    """It says no more than a mode does."""
    return len(acl) == 3


def class_tags(acl):
    """The entries that the mode's bits stand for: the mask where there is one."""
    return (USER_OBJ, MASK if any(tag == MASK for tag, _, _ in acl) else GROUP_OBJ, OTHER)


def mode_of(acl):
    return sum(permissions << SHIFTS[tag] for tag, permissions, _ in acl if tag in class_tags(acl))


def with_mode(acl, mode):
    tags = class_tags(acl)
    return tuple((tag, mode >> SHIFTS[tag] & 7 if tag in tags else permissions, who) for tag, permissions, who in acl)


def allows(acl, node, user, mask):
    """Of who is not root and not the owner. (Each user is in the group of the same number alone.)"""
    limit = next((permissions for tag, permissions, _ in acl if tag == MASK), 7)
    permissions = {(tag, who): p for tag, p, who in acl}
    if (USER, user) in permissions:
        return permissions[USER, user] & limit & mask == mask
    groups = [p for tag, p, who in acl if (tag == GROUP_OBJ and user == node.gid) or (tag == GROUP and user == who)]
    if groups:
        return any(p & limit & mask == mask for p in groups)
    return permissions[OTHER, NOBODY] & mask == mask
