"""What the loads say: how much they have done while they work, and in the end what became of it."""
import json
import threading
import time


class Report:
    """Operations that are timed; how many have ended stands in a file beside `stop_file`, for whoever waits for it."""

    def __init__(self, stop_file):
        self.lock = threading.Lock()
        self.values = {"operations": 0, "longest": 0.0, "of": "", "wrong": [], "errors": []}
        self.progress = open(stop_file + ".progress", "w+", encoding="ascii")

    def timed(self, name, operation):
        began = time.monotonic()
        try:
            return operation()
        except OSError as error:
            self.values["errors"].append(f"{name}: {error}")
            return None
        finally:
            took = time.monotonic() - began
            with self.lock:
                self.values["operations"] += 1
                self.progress.seek(0)
                self.progress.write(f"{self.values['operations']}\n")
                self.progress.flush()
                if took > self.values["longest"]:
                    self.values["longest"], self.values["of"] = took, name

    def wrong(self, what):
        self.values["wrong"].append(what)

    def say(self):
        print(json.dumps(self.values))
