#!/usr/bin/env python3
"""How files lie and look: names, openings, lengths, and tests at mirrored paths."""

import re
import subprocess

import tree

TOP_LEVEL = {
    "meson.build",
    "client", "mds", "osd", "common", "tools", "test", "man", "packaging",
    "README.md", "ARCHITECTURE.md", "LICENSE",
    ".ci", ".clang-format", ".clang-tidy", ".gitignore",
}
NAME = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")
MAX_COLUMNS = 100
MAX_LINES = 1000
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
CODE = (".h", ".cc")
SCRIPTS = (".py", ".sh", ".build", ".capnp", ".md", ".txt", ".service", ".conf")


def tracked():
    """What git would ship; everything on disk where there is no git (a source tarball)."""
    try:
        out = subprocess.run(["git", "-C", str(tree.ROOT), "ls-files", "-z"], check=True,
                             capture_output=True, text=True).stdout
        names = {name.split("/")[0] for name in out.split("\0") if name}
        if names:
            return names
    except (OSError, subprocess.CalledProcessError):
        pass
    return {p.name for p in tree.ROOT.iterdir() if p.name != ".git" and not p.name.startswith("build")}


def check_bytes(path, text):
    if text and not text.endswith("\n"):
        yield f"{path}: does not end with a newline"
    for number, line in enumerate(text.split("\n"), 1):
        if line.rstrip() != line:
            yield f"{path}:{number}: blanks at the end of the line"
        if "\t" in line and path.suffix in CODE:
            yield f"{path}:{number}: a tab"
        if path.suffix in CODE and len(line) > MAX_COLUMNS and "http" not in line:
            yield f"{path}:{number}: {len(line)} columns, more than {MAX_COLUMNS}"
        if UNFINISHED.search(line) and path.name != "layout.py":
            yield f"{path}:{number}: unfinished: {line.strip()}"


def check_code(path, text):
    if not NAME.fullmatch(path.stem):
        yield f"{path}: file names are lower_case"
    lines = text.split("\n")
    if path.suffix == ".h":
        if not lines[0].startswith("//"):
            yield f"{path}:1: a header opens with what it is for"
        if "#pragma once" not in text:
            yield f"{path}: no #pragma once"
        if re.search(r"^\s*using namespace\b(?!.*_literals;)", text, re.M):
            yield f"{path}: using namespace in a header"
    if len(lines) > MAX_LINES and "lines" not in "\n".join(lines[:10]):
        yield f"{path}: {len(lines)} lines, and its opening does not say why"


def check_mirror(path, folder_exists):
    """test/unit/mds/ops/rename_test.cc tests mds/ops/."""
    folder = path.parent.relative_to("test/unit")
    if str(folder) == ".":
        return
    if not folder_exists(folder):
        yield f"{path}: there is no folder {folder}/ that it could mirror"


problems = [f"{name}: nothing else belongs at the top level" for name in sorted(tracked() - TOP_LEVEL)]
count = 0
for path in tree.files(*CODE, *SCRIPTS):
    count += 1
    text = tree.text(path)
    problems += check_bytes(path, text)
    if path.suffix in CODE:
        problems += check_code(path, text)
    if path.match("test/unit/**/*_test.cc"):
        problems += check_mirror(path, lambda f: (tree.ROOT / f).is_dir())
tree.finish(problems, f"{count} files are laid out as agreed")
