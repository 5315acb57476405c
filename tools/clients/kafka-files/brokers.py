"""A Millstream and a Kafka of the suite's own, for files that nobody else writes."""

import subprocess

from suite import CALL_SECONDS, KAFKA, MILLSTREAM, WORK, Wrong

SEGMENT_BYTES = 1 << 20


class Process:
    """A broker that says on its first line where it serves."""

    def __init__(self, command, log):
        with open(log, "ab") as errors:
            self.process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        line = self.process.stdout.readline()
        if "kafka " not in line:
            self.process.kill()
            raise Wrong(f"{command[0]} did not start: see {log}")
        self.address = line.split("kafka ")[1].split(",")[0]

    def stop(self):
        self.process.terminate()
        status = self.process.wait(CALL_SECONDS)
        if status != 0:
            raise Wrong(f"the broker ended with status {status}")

    def end(self):
        """However it is."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(CALL_SECONDS)


class Millstream:
    name = "Millstream"

    def __init__(self, directory=WORK / "millstream"):
        self.directory = self.files = directory

    def start(self):
        small = ["--log-segment-bytes", SEGMENT_BYTES, "--log-cleaner-backoff-ms", "300ms"]
        ports = ["--listen", "127.0.0.1:0", "--http", "off"]
        return Process([MILLSTREAM, "serve", "--data-dir", self.directory, *ports, *small], log_of(self))


class Kafka:
    name = "Kafka"

    def __init__(self, directory=WORK / "kafka"):
        self.directory = directory
        self.files = directory / "logs"

    def start(self):
        small = [f"log.segment.bytes={SEGMENT_BYTES}", "log.cleaner.backoff.ms=300"]
        options = [word for line in small for word in ("--set", line)]
        return Process([KAFKA / "serve", "--data-dir", self.directory, *options], log_of(self))


def log_of(broker):
    return broker.directory.with_suffix(".log")
