#!/usr/bin/env python3
"""Man pages say what the programs accept, no less and no more: every flag and command that --help
shows is on its page, every flag and command on a page is in --help, and every setting is in
cairn.conf(5).

  man.py MAN-SOURCE-DIR GENERATED-CONF-PAGE SETTINGS-PROGRAM PROGRAM...
"""

import pathlib
import re
import subprocess
import sys

import tree

SECTIONS = {"cairn": 1, "cairn-mds": 8, "cairn-osd": 8}
FLAG = re.compile(r"(?<![\w-])(--[a-z][a-z0-9-]*|-[A-Za-z])(?![\w-])")


def unroff(line):
    """The text of a line of man(7) source."""
    line = line.replace("\\-", "-").replace("\\&", "").replace("\\(aq", "'").replace('"', " ")
    return re.sub(r"\\f(.|\(..|\[[^\]]*\])", "", line)


def page_flags(source):
    """Section title -> flags that the section defines: those in the tags of .TP and of .OP."""
    found, title, tag = {}, "", False
    for raw in source.split("\n"):
        line = unroff(raw)
        if raw.startswith((".SH", ".SS")):
            title = " ".join(line.split()[1:])
            found.setdefault(title, set())
            tag = False
        elif raw.startswith((".TP", ".TQ")):
            tag = True
        elif tag:
            words = line.split(None, 1)[1] if raw.startswith(".") and " " in line else line
            found.setdefault(title, set()).update(FLAG.findall(words))
            tag = False
    return found


def help_of(program, path):
    run = subprocess.run([program, *path, "--help"], capture_output=True, text=True, timeout=20)
    if run.returncode != 0:
        return None
    return run.stdout


def help_flags(text):
    """Flags that a --help defines: those that open an indented line."""
    flags = set()
    for line in text.split("\n"):
        match = re.match(r"\s+(-\S.*)", line)
        if not match:
            continue
        # Flags are over where the description starts, two blanks or more further right.
        head = re.split(r"\s{2,}", match.group(1))[0]
        flags.update(FLAG.findall(head.replace(",", " , ")))
    return flags


def help_commands(text):
    """Names below "Subcommands:" (or "Commands:")."""
    names, inside = [], False
    for line in text.split("\n"):
        if re.match(r"(sub)?commands:", line.strip(), re.I):
            inside = True
        elif inside and re.match(r"\s+[a-z][a-z0-9-]*(\s|$)", line):
            if len(line) - len(line.lstrip()) <= 4:
                names.append(line.split()[0])
        elif inside and line.strip() and not line.startswith(" "):
            inside = False
    return names


def walk(program, path=()):
    """(command path, its flags) for the program and all its subcommands."""
    text = help_of(program, path)
    if text is None:
        yield path, None, []
        return
    commands = help_commands(text)
    yield path, help_flags(text), commands
    for name in commands:
        yield from walk(program, (*path, name))


def check_program(program, manual):
    name = pathlib.Path(program).name
    page = manual / f"{name}.{SECTIONS[name]}"
    if not page.exists():
        yield f"{name}: has no page {page.name}"
        return
    on_page = page_flags(page.read_text(encoding="utf-8"))
    # Sections of one command: ".SS up ..." or ".SS osd ls". All others speak of the whole program.
    shown = {path: flags for path, flags, _ in walk(program)}
    sections = {}
    everywhere = set()
    for title, flags in on_page.items():
        words = tuple(re.split(r"[\s,]+", title))
        owner = max((p for p in shown if p and words[: len(p)] == p), key=len, default=())
        if owner:
            sections.setdefault(owner, set()).update(flags)
        else:
            everywhere |= flags
    in_help = set()
    for path, flags in shown.items():
        where = " ".join((name, *path))
        if flags is None:
            yield f"{where} --help: fails"
            continue
        in_help |= flags
        leaf = not any(p[: len(path)] == path and len(p) > len(path) for p in shown)
        if path and leaf and path not in sections:
            yield f"{page.name}: no section on '{where}'"
        known = everywhere.union(*(sections.get(path[:n], set()) for n in range(len(path) + 1)))
        for flag in sorted(flags - known):
            yield f"{page.name}: {flag} of '{where}' is not documented"
    for path, flags in sections.items():
        below = set().union(*(f or set() for p, f in shown.items() if p[: len(path)] == path))
        for flag in sorted(flags - below):
            yield f"{page.name}: '{' '.join((name, *path))}' has no {flag}"
    for flag in sorted(everywhere - in_help):
        yield f"{page.name}: {name} has no {flag}"
    for title in on_page:
        first = title.split()[0] if title else ""
        if first and first == first.lower() and (first,) not in shown and shown.keys() != {()}:
            yield f"{page.name}: section '{title}': {name} has no such command"


def check_settings(page, settings):
    text = unroff(pathlib.Path(page).read_text(encoding="utf-8"))
    wanted = subprocess.run([settings, "--names"], check=True, capture_output=True, text=True)
    names = wanted.stdout.split()
    if len(names) < 20:
        yield f"{settings}: only {len(names)} settings"
    for name in names:
        if not re.search(rf"^\.B {re.escape(name)}$", text, re.M):
            yield f"cairn.conf.5: no entry for {name}"
    for name in re.findall(r"^\.B ((?:mds|osd|client)\.\S+)$", text, re.M):
        if name not in names:
            yield f"cairn.conf.5: there is no setting {name}"


def check_readers(settings):
    """A setting that no code reads would be a promise that nobody keeps."""
    run = subprocess.run([settings, "--names"], check=True, capture_output=True, text=True)
    code = "".join(tree.text(p) for p in tree.files(".cc", ".h", under=("common", "mds", "osd", "client", "tools"))
                   if p.name != "tables.cc")
    # What all daemons have is read by the code they share, which adds the section.
    shared = "".join(tree.text(p) for p in tree.files(".cc", under=("common",)) if "daemon" in p.parts)
    for name in run.stdout.split():
        section, key = name.split(".", 1)
        if f'"{name}"' not in code and not (section in ("mds", "osd") and f'".{key}"' in shared):
            yield f"common/config/tables.cc: nothing reads {name}"


def check_groff(page):
    """A page that groff warns of looks broken somewhere."""
    run = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-z", str(page)], capture_output=True,
                         text=True)
    for line in run.stderr.strip().split("\n"):
        if line:
            yield line


def self_test():
    source = ".SH OPTIONS\n.TP\n.BI \\-\\-set\\  KEY\nSee --other.\n.SS up\n.TP\n.BR \\-h ,\\  \\-\\-help\n"
    assert page_flags(source) == {"OPTIONS": {"--set"}, "up": {"-h", "--help"}}, page_flags(source)
    text = "Usage: x [OPTIONS]\n\nOptions:\n  -h,--help      Print --this\n  --data TEXT    Where\n\n" \
           "Subcommands:\n  up      Start --it\n  down    Stop\n"
    assert help_flags(text) == {"-h", "--help", "--data"}, help_flags(text)
    assert help_commands(text) == ["up", "down"]


self_test()
manual, generated, settings, *programs = sys.argv[1:]
manual = pathlib.Path(manual)
problems = [p for program in programs for p in check_program(program, manual)]
problems += check_settings(generated, settings)
problems += check_readers(settings)
for page in [*sorted(manual.glob("*.[1-8]")), pathlib.Path(generated)]:
    problems += check_groff(page)
tree.finish(problems, "every flag, command and setting is documented")
