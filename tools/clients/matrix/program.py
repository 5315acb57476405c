"""A client program: its subcommands called, its output read."""

import json
import queue
import subprocess
import threading

CALL_SECONDS = 120


class Failed(Exception):
    """The client did not do what it should."""


class Unsupported(Exception):
    """The client's library cannot do it."""


class Program:
    def __init__(self, manifest, broker, log):
        self.command = manifest.run_command()
        self.here = manifest.here
        self.environment = manifest.environment(broker)
        self.log = log

    def call(self, subcommand, **arguments):
        """Runs a subcommand to its end and returns what it printed, an object a line."""
        try:
            with open(self.log, "ab") as log:
                done = subprocess.run(
                    self._words(subcommand, arguments),
                    cwd=self.here,
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    timeout=CALL_SECONDS,
                )
        except subprocess.TimeoutExpired as error:
            raise Failed(f"{subcommand}: no end after {CALL_SECONDS} s") from error
        printed = [parse(line) for line in done.stdout.splitlines() if line.strip()]
        for entry in printed:
            if "unsupported" in entry:
                raise Unsupported(entry["unsupported"])
        if done.returncode != 0:
            raise Failed(f"{subcommand}: exit status {done.returncode}; see {self.log}")
        return printed

    def ask(self, subcommand, **arguments):
        """As `call`, of a subcommand that prints one object."""
        printed = self.call(subcommand, **arguments)
        if len(printed) != 1:
            raise Failed(f"{subcommand}: printed {len(printed)} lines instead of one")
        return printed[0]

    def start(self, subcommand, on_entry, **arguments):
        """Starts a subcommand that goes on by itself."""
        return Running(self._words(subcommand, arguments), self, on_entry)

    def _words(self, subcommand, arguments):
        return [*self.command, subcommand, *(f"{key}={value}" for key, value in arguments.items())]


class Running:
    """A subcommand that runs on; `on_entry` is called with each object that it prints, from a
    thread of its own."""

    def __init__(self, words, program, on_entry):
        self.unsupported = queue.Queue()
        self.log = program.log
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                words,
                cwd=program.here,
                env=program.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.reader = threading.Thread(target=self._read, args=(on_entry,), daemon=True)
        self.reader.start()

    def check(self):
        """Raises what is known to be wrong with it."""
        if not self.unsupported.empty():
            raise Unsupported(self.unsupported.get())
        if self.process.poll() not in (None, 0):
            raise Failed(f"a member ended with status {self.process.returncode}; see {self.log}")

    def terminate(self):
        """Asks it to end (SIGTERM), which it must do properly."""
        self.process.terminate()
        self.wait()

    def wait(self):
        try:
            status = self.process.wait(CALL_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise Failed(f"a member did not end within {CALL_SECONDS} s") from error
        self.reader.join()
        if status != 0:
            raise Failed(f"a member ended with status {status}; see {self.log}")

    def kill(self):
        """SIGKILL: it has no say."""
        self.process.kill()
        self.process.wait()
        self.reader.join()

    def _read(self, on_entry):
        for line in self.process.stdout:
            entry = parse(line)
            if "unsupported" in entry:
                self.unsupported.put(entry["unsupported"])
            else:
                on_entry(entry)


def parse(line):
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    if not isinstance(entry, dict):
        raise Failed(f"printed something that is not an object: {line.strip()[:200]}")
    return entry
