"""The broker under test, and the few things that the runner itself asks of it."""

import json
import subprocess

START_SECONDS = 60
STOP_SECONDS = 60


class Broker:
    """A broker of its own: a fresh data directory, ports that the kernel chose."""

    def __init__(self, binary, work):
        self.binary = binary
        self.data = work / "data"
        self.log = work / "broker.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [binary, "serve", "--data-dir", self.data, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        line = self.process.stdout.readline()
        if "kafka " not in line:
            self.process.kill()
            raise RuntimeError(f"the broker did not start: see {self.log}")
        self.address = line.split("kafka ")[1].split(",")[0]

    def command(self, *arguments, input=None):
        """Runs one of the broker's own commands against it and returns its standard output."""
        done = subprocess.run(
            [self.binary, *arguments, "--bootstrap", self.address],
            input=input,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
        )
        if done.returncode != 0:
            raise RuntimeError(f"millstream {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def create(self, topic, partitions):
        self.command("topic", "create", topic, "--partitions", str(partitions))

    def send(self, topic, partitions, count):
        """Sends `count` records, spread over all partitions, and waits until they are acknowledged."""
        for partition in range(partitions):
            share = count // partitions + (partition < count % partitions)
            lines = "".join(f"record {number}\n" for number in range(share))
            self.command("produce", topic, "--partition", str(partition), input=lines)

    def batches(self, topic):
        """What is stored of a topic: its batches, as `millstream dump` sees them."""
        segments = sorted(str(path) for path in self.data.glob(f"{topic}-*/*.log"))
        # A file that is written at this moment may look unsound at its end: the status says so.
        done = subprocess.run(
            [self.binary, "dump", "--json", *segments], capture_output=True, text=True, timeout=START_SECONDS
        )
        entries = (json.loads(line) for line in done.stdout.splitlines())
        return [entry for entry in entries if "codec" in entry]

    def is_running(self):
        return self.process.poll() is None

    def stop(self):
        if not self.is_running():
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
