#!/usr/bin/env python3
"""Time, randomness, sleep and threads come in through Env. Code that asks the system for them cannot
be simulated, and a failing seed that calls it does not replay."""

import re

import tree

# What is banned, and the files that are the seam itself (or run outside any reactor).
RULES = [
    ("the system's clock (use env.reactor.clock())",
     r"\b(steady_clock|system_clock|high_resolution_clock)::now\b|\bclock_gettime\s*\("
     r"|\bgettimeofday\s*\(|(?<![\w.>])time\s*\(\s*(nullptr|NULL|0)\s*\)",
     ("common/reactor/", "tools/")),
    ("the system's randomness (use env.random)",
     r"(?<![\w.:>])s?rand\s*\(|\b[ejlmnd]rand48\b|\brandom_device\b|\bgetrandom\s*\(|\bmt19937",
     ("common/reactor/",)),
    ("a blocking sleep (use sleepFor or Event::waitFor)",
     r"\bsleep_for\b|\bsleep_until\b|(?<![\w.:>])u?sleep\s*\(|\bnanosleep\s*\(",
     ("tools/", "common/disk/open_direct", "common/net/uring_network")),
    ("a thread (use Reactor::offload)",
     r"\bstd::j?thread\b|\bpthread_create\b|\bstd::async\b",
     ("common/reactor/", "common/kv/")),
]
COMMENT = re.compile(r"//.*")


def check(path, text):
    for number, line in enumerate(text.split("\n"), 1):
        code = COMMENT.sub("", line)
        for what, pattern, seam in RULES:
            if re.search(pattern, code) and not str(path).startswith(seam):
                yield f"{path}:{number}: {what}: {line.strip()}"


def self_test():
    for line in ("auto t = std::chrono::steady_clock::now();", "int r = rand() % 3;",
                 "std::random_device d;", "usleep(5);", "std::thread t(f);", "x = time(nullptr);"):
        assert list(check("mds/a.cc", line)), line
    for line in ("co_await sleepFor(reactor, 5ms);", "random.next();", "// rand() is banned",
                 "entry.time(0);", "std::this_thread::get_id();", "env.random.below(3)"):
        assert not list(check("mds/a.cc", line)), line


self_test()
problems = []
count = 0
for path in tree.files(".h", ".cc", under=("common", "mds", "osd", "client", "tools")):
    count += 1
    problems += check(path, tree.text(path))
tree.finish(problems, f"{count} files take time, randomness and threads through their seams")
