"""One part on its way: commands with a deadline, a log, and the line that says how it went."""

import os
import signal
import subprocess
import threading
import time

# What a command gets to end by itself when the part's time is over.
GRACE_SECONDS = 20
TAIL_LINES = 30
# A violation may be long; the log has all of it.
LINE_CHARACTERS_MAX = 600


class Failed(Exception):
    pass


class Running:
    def __init__(self, root, seed, log, seconds):
        self.root = root
        self.seed = seed
        self.log = log
        self.started = time.monotonic()
        self.deadline = self.started + seconds

    def seconds(self):
        """Since the start."""
        return time.monotonic() - self.started

    def left(self, reserve=0):
        """Seconds until the part has to end, without those that it needs for its end."""
        return max(1, int(self.deadline - time.monotonic() - reserve))

    def call(self, *words, on_line=None, **environment):
        """Runs a command to its end; its exit status, and what it wrote (both streams). `Failed` if the part's
        time is over before."""
        words = [str(word) for word in words]
        with open(self.log, "a") as log:
            print(f"\n$ {' '.join(words)}", file=log, flush=True)
            process = subprocess.Popen(
                words,
                cwd=self.root,
                env={**os.environ, **{name: str(value) for name, value in environment.items()}},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            is_late = threading.Event()
            clock = threading.Timer(max(0, self.deadline - time.monotonic()), end, [process, is_late])
            clock.start()
            lines = []
            for line in process.stdout:
                print(line, end="", file=log, flush=True)
                lines.append(line)
                if on_line:
                    on_line(line)
            process.stdout.close()
            status = process.wait()
            clock.cancel()
        if is_late.is_set():
            raise Failed(f"{words[0]} was not done when the part's time was over")
        return status, "".join(lines)

    def run(self, *words, **rest):
        """What a command wrote that has to succeed."""
        status, output = self.call(*words, **rest)
        if status != 0:
            raise Failed(f"{words[0]} ended with status {status}: {last_line(output)}")
        return output

    def tail(self):
        return "".join(self.log.read_text(errors="replace").splitlines(keepends=True)[-TAIL_LINES:])


def end(process, is_late):
    """Ends a command and all that it started."""
    is_late.set()
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
        except ProcessLookupError:
            return
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            continue


def last_line(output):
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else "it wrote nothing"


def summary(part, commit, seed, seconds, counted=None, failed=None):
    """The one line that a part ends with."""
    seed = f"seed {seed}" if part.has_seed else "no seed"
    result = f"FAILED in {seconds:.0f} s: {failed}" if failed else f"passed in {seconds:.0f} s: {counted}"
    line = f"nightly {part.name}: commit {commit}, {seed}, {result}"
    return " ".join(line.split())[:LINE_CHARACTERS_MAX]
