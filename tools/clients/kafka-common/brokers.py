"""Brokers of a suite's own: a Millstream that can be killed and started again at its address, and a real Kafka."""

import random
import socket
import subprocess
import time

from suite import CALL_SECONDS, KAFKA, MILLSTREAM, Wrong

# Below the ports that the kernel gives to connections. A client that tries to reach a port while nobody listens
# there can otherwise be given that very port, and then it is connected to itself.
PORTS = range(20_000, 32_000)
# How long a killed broker stays away: long enough for every client to notice.
AWAY_SECONDS = 2


def free_port():
    while True:
        port = random.choice(PORTS)
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


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

    def kill(self):
        """SIGKILL: it has no say."""
        self.process.kill()
        self.process.wait()

    def end(self):
        """However it is."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(CALL_SECONDS)


class Millstream:
    name = "Millstream"

    def __init__(self, directory, *options):
        self.directory = self.files = directory
        self.options = options
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.running = None

    def start(self):
        place = ["--data-dir", self.directory, "--listen", self.address, "--http", "off"]
        self.running = Process([MILLSTREAM, "serve", *place, *self.options], log_of(self))
        return self.running

    def kill_and_start(self):
        self.running.kill()
        time.sleep(AWAY_SECONDS)
        self.start()

    def end(self):
        if self.running:
            self.running.end()


class Kafka:
    name = "Kafka"

    def __init__(self, directory, *settings):
        self.directory = directory
        self.files = directory / "logs"
        self.settings = settings

    def start(self):
        options = [word for line in self.settings for word in ("--set", line)]
        return Process([KAFKA / "serve", "--data-dir", self.directory, *options], log_of(self))


def log_of(broker):
    return broker.directory.with_suffix(".log")
