#!/usr/bin/env python3
"""Who includes whom. The roles meet only in common/: an MDS that reached into an OSD's header could
never be upgraded apart from it."""

import re

import tree

# Folder -> what it may include, itself apart. The longest matching folder counts. This table is the
# rule; ARCHITECTURE.md explains it.
MAY_INCLUDE = {
    "common": (),
    "mds": ("common",),
    "osd": ("common",),
    "client/core": ("common",),
    "client/fuse": ("client/core", "common"),
    "client": ("common",),
    "tools": ("client", "common"),
    "test": ("common", "mds", "osd", "client", "tools", "test"),
    "man": ("common",),
}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)


def longest(path, folders):
    best = ""
    for folder in folders:
        if (path == folder or path.startswith(folder + "/")) and len(folder) > len(best):
            best = folder
    return best


def check(path, text, exists):
    """The problems of one file. `exists` says whether a path below the root does."""
    owner = longest(str(path), MAY_INCLUDE)
    if not owner:
        yield f"{path}:1: belongs to no folder of the table in test/lint/includes.py"
        return
    for match in INCLUDE.finditer(text):
        bracket, target = match.groups()
        where = f"{path}:{text.count(chr(10), 0, match.start()) + 1}"
        ours = target.split("/")[0] in tree.ROLES and "/" in target
        if bracket == "<":
            if ours:
                yield f"{where}: <{target}> is our own: include it with quotes"
            continue
        if not ours:
            if "/" not in target:
                yield f"{where}: \"{target}\" must be named from the root of the tree"
            continue
        # Generated: from a schema, or by Meson from a template.
        generated = target.endswith(".capnp.h") or exists(target + ".in")
        if not generated and not exists(target):
            yield f"{where}: \"{target}\" does not exist"
        if target == owner or target.startswith(owner + "/"):
            continue
        if not longest(target, MAY_INCLUDE[owner]):
            allowed = ", ".join(f"{f}/" for f in MAY_INCLUDE[owner]) or "nothing else"
            yield f"{where}: {owner}/ may include {allowed}, not \"{target}\""


def self_test():
    """A rule that cannot fail is no rule."""
    always = lambda _: True
    refused = {
        "mds/a.cc": '#include "osd/store/store.h"\n',
        "osd/a.h": '#include "client/core/fs.h"\n',
        "client/core/a.cc": '#include "client/fuse/edge.h"\n',
        "client/fuse/a.cc": '#  include "mds/ops/rename.h"\n',
        "common/net/a.h": '#include "mds/state.h"\n',
        "tools/cairn/a.cc": '#include "osd/store/store.h"\n',
        "mds/b.cc": '#include <common/base/ids.h>\n',
        "mds/c.cc": '#include "ids.h"\n',
        "other/a.cc": "",
    }
    for path, text in refused.items():
        assert list(check(path, text, always)), f"{path} should be refused"
    allowed = {
        "mds/a.cc": '#include <vector>\n#include "mds/state.h"\n#include "common/base/ids.h"\n',
        "client/fuse/a.cc": '#include "client/core/fs.h"\n',
        "test/unit/mds/a_test.cc": '#include "osd/store/store.h"\n',
        "tools/cairn/a.cc": '#include "client/core/fs.h"\n#include "tools/cairn/up.h"\n',
    }
    for path, text in allowed.items():
        assert not list(check(path, text, always)), f"{path} should be allowed"
    assert list(check("mds/a.cc", '#include "mds/gone.h"\n', lambda _: False))


self_test()
problems = []
count = 0
for path in tree.files(".h", ".cc"):
    count += 1
    problems += check(path, tree.text(path), lambda p: (tree.ROOT / p).exists())
tree.finish(problems, f"{count} files include only what their folder may")
