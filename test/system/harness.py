"""Real clusters for the system tests: started with `cairn up`, mounted through the kernel, killed without mercy.

A test is an executable test_*.py that gets the build directory as its argument. It prints what it does, exits 0 when all
is well, 77 when this machine cannot run it (the last line says why), anything else otherwise.
"""
import atexit
import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time

BUILD = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else os.path.abspath("build")
CAIRN = os.path.join(BUILD, "tools/cairn")
CAIRN_OSD = os.path.join(BUILD, "osd/cairn-osd")
CAIRN_MDS = os.path.join(BUILD, "mds/cairn-mds")

# Built with -Db_sanitize: the programs are several times slower.
with open(os.path.join(BUILD, "meson-info/intro-buildoptions.json"), encoding="utf-8") as _file:
    SANITIZED = any(o["name"] == "b_sanitize" and o["value"] != "none" for o in json.load(_file))

# Sanitized programs write what they find here, one file a process, wherever their output goes and
# whoever looks at their exit code. One report fails the test.
REPORTS = os.path.join(BUILD, "system", os.path.basename(sys.argv[0]).removesuffix(".py") + ".reports")
for _sanitizer in ("ASAN", "UBSAN", "TSAN"):
    _options = os.environ.get(_sanitizer + "_OPTIONS", "")
    os.environ[_sanitizer + "_OPTIONS"] = f"{_options}:log_path={REPORTS}/{_sanitizer.lower()}"
shutil.rmtree(REPORTS, ignore_errors=True)
os.makedirs(REPORTS)


# Whoever runs out of patience with a test ends it so; what it started must go with it.
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit("ended by a signal: not done in time?"))


def skip(reason):
    print(reason)
    sys.exit(77)


def say(text):
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def check(condition, text):
    """A property that must hold. Unlike assert it cannot be switched off."""
    if not condition:
        raise AssertionError(text)


def sh(command, **more):
    """Runs a shell command, shows it when it fails."""
    result = subprocess.run(command, shell=isinstance(command, str), text=True, capture_output=True, **more)
    if result.returncode != 0:
        raise AssertionError(f"{command}: exit {result.returncode}\n{result.stdout[-2000:]}\n{result.stderr[-4000:]}")
    return result.stdout


def eventually(condition, what, seconds=30.0):
    """Waits for `condition()`; what it returned last is returned."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        check(time.monotonic() < deadline, f"not within {seconds} s: {what}")
        time.sleep(0.05)  # between two looks at the condition


def check_reports():
    """No sanitizer has found anything so far."""
    names = sorted(os.listdir(REPORTS))
    for name in names:
        with open(os.path.join(REPORTS, name), errors="replace", encoding="utf-8") as f:
            print(f"--- {name}\n{f.read(6000)}", flush=True)
    check(not names, f"sanitizers reported: {', '.join(names)}")


def need(*programs):
    for program in programs:
        if shutil.which(program) is None:
            skip(f"{program} is not installed; tools/install-deps installs it")


def write(path, data):
    """Acknowledged and durable when it returns."""
    with open(path, "wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())


class Cluster:
    """An embedded cluster in a directory of its own under the build directory, taken down at exit."""

    def __init__(self, name, osds=3, replicas=3, osd_size="1GiB", mounted=True):
        if not os.path.exists("/dev/fuse"):
            skip("no /dev/fuse on this machine: modprobe fuse")
        self.root = os.path.join(BUILD, "system", name)
        self.destroy()
        os.makedirs(self.root)
        self.data = os.path.join(self.root, "data")
        self.mount = os.path.join(self.root, "mnt")
        self.mounted = mounted
        self.options = ["--osds", str(osds), "--replicas", str(replicas), "--osd-size", osd_size]
        self.new = True
        atexit.register(self.destroy)

    def __enter__(self):
        self.up()
        return self

    def __exit__(self, kind, value, trace):
        try:
            if kind is None:
                self.down()  # ends every process in order, so that leaks are seen
            else:
                self.show_logs()
        finally:
            self.destroy()
            check_reports()

    def up(self):
        command = [CAIRN, "up", "--data", self.data]
        if self.mounted:
            command += ["--mount", self.mount]
        told = sh(command + (self.options if self.new else []), timeout=180)
        self.new = False
        return told

    def down(self):
        sh([CAIRN, "down", "--data", self.data], timeout=180)

    def status(self):
        return json.loads(sh([CAIRN, "status", "--json", "--data", self.data], timeout=30))

    def whole(self):
        """Whether every group has all its copies."""
        return all(p["pgs"]["clean"] == sum(p["pgs"].values()) for p in self.status()["pools"])

    def cairn(self, *words):
        return sh([CAIRN, *words], timeout=60)

    def admin(self, *words):
        """What is said to this cluster, and not of a path."""
        return self.cairn(*words, "--data", self.data)

    def pid(self, name):
        with open(os.path.join(self.data, "run", name + ".pid"), encoding="ascii") as f:
            return int(f.read())

    def kill(self, name, how=signal.SIGKILL):
        pid = self.pid(name)
        os.kill(pid, how)
        if how == signal.SIGKILL:
            eventually(lambda: not alive(pid), f"{name} (process {pid}) ends")

    def osd_names(self):
        return sorted(n for n in os.listdir(self.data) if n.startswith("osd"))

    def check_stores(self):
        """The offline checker on every OSD of a cluster that is down."""
        for name in self.osd_names():
            out = sh([CAIRN_OSD, "--check", os.path.join(self.data, name)], timeout=300)
            say(f"{name}: {out.strip().splitlines()[-1]}")

    def show_logs(self):
        logs = os.path.join(self.data, "log")
        for name in sorted(os.listdir(logs)) if os.path.isdir(logs) else []:
            with open(os.path.join(logs, name), errors="replace", encoding="utf-8") as f:
                tail = f.read()[-3000:]
            print(f"--- {name}\n{tail}", flush=True)

    def destroy(self):
        mount = os.path.join(self.root, "mnt")
        subprocess.run(["umount", "-l", mount], capture_output=True, check=False)
        run = os.path.join(self.root, "data", "run")
        for name in os.listdir(run) if os.path.isdir(run) else []:
            try:
                with open(os.path.join(run, name), encoding="ascii") as f:
                    pid = int(f.read())
                with open(f"/proc/{pid}/cmdline", encoding="utf-8") as f:
                    ours = self.root in f.read()
                if ours:
                    os.kill(pid, signal.SIGCONT)
                    os.kill(pid, signal.SIGKILL)
                    eventually(lambda pid=pid: not alive(pid), f"process {pid} ends")
            except (OSError, ValueError):
                pass
        shutil.rmtree(self.root, ignore_errors=True)


def alive(pid):
    """Not one whose first thread has ended, though others may still hold its files: cairn up waits for them."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def fingerprint(root):
    """Everything a backup would compare: type, mode, owner, times, links, targets, xattrs, sizes and digests."""
    names = {}
    links = {}
    for directory, directories, files in os.walk(root):
        for name in [""] + files + [d for d in directories if os.path.islink(os.path.join(directory, d))]:
            path = os.path.join(directory, name) if name else directory
            st = os.lstat(path)
            entry = [stat.S_IFMT(st.st_mode), stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid, st.st_mtime_ns]
            if stat.S_ISREG(st.st_mode):
                with open(path, "rb") as f:
                    entry += [st.st_size, st.st_nlink, hashlib.file_digest(f, "sha256").hexdigest()]
                if st.st_nlink > 1:
                    links.setdefault(st.st_ino, set()).add(os.path.relpath(path, root))
            elif stat.S_ISLNK(st.st_mode):
                entry.append(os.readlink(path))
            elif stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
                entry.append(st.st_rdev)
            if not stat.S_ISLNK(st.st_mode):
                entry.append(sorted((n, os.getxattr(path, n)) for n in os.listxattr(path)))
            names[os.path.relpath(path, root)] = entry
    return names, sorted(sorted(group) for group in links.values())


def same(before, after, what):
    names_before, links_before = before
    names_after, links_after = after
    missing = sorted(set(names_before) - set(names_after))
    added = sorted(set(names_after) - set(names_before))
    check(not missing and not added, f"{what}: missing {missing[:5]}, added {added[:5]}")
    for name, entry in names_before.items():
        check(entry == names_after[name], f"{what}: {name} was {entry} and is {names_after[name]}")
    check(links_before == links_after, f"{what}: hard links differ")
