"""What the lint tests share: the files of the tree, and how problems are shown."""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROLES = ("client", "mds", "osd", "common", "tools", "test", "man", "packaging")


def files(*suffixes, under=ROLES):
    """Files with one of the suffixes below the given folders, as paths relative to the root."""
    for folder in under:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and path.suffix in suffixes and "__pycache__" not in path.parts:
                yield path.relative_to(ROOT)


def text(path):
    return (ROOT / path).read_text(encoding="utf-8")


def finish(problems, summary):
    """Prints every problem as FILE:LINE: what; exits 1 if there is one."""
    for problem in problems:
        print(problem)
    if problems:
        print(f"{len(problems)} problem(s)")
        sys.exit(1)
    print(summary)
