"""Instances of the word count, what they are fed, and what they found."""

import os
import random
import shutil
import subprocess
import threading
from collections import Counter

from suite import BOOTSTRAP, CALL_SECONDS, KAFKA, WORK, Wrong, equal, millstream, tool, until, words

NAME = "word-count"
LINES = f"{NAME}-lines"
RESULTS = f"{NAME}-results"
REPARTITION = f"{NAME}-words-repartition"
CHANGELOG = f"{NAME}-counts-changelog"
PARTITIONS = 2
VOCABULARY = [f"word{number}" for number in range(40)]


class Instance:
    """One process of the application."""

    def __init__(self, name, application=NAME, guarantee="at_least_once"):
        self.state = WORK / name
        self.command = [str(KAFKA / "tool"), "WordCount", application, str(self.state), guarantee]
        self.events = []
        self.process = None

    def start(self):
        self.events = []
        environment = {**os.environ, "CLASSES": f"{os.environ['OUT']}/classes"}
        with open(self.state.with_suffix(".log"), "ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
            )
        threading.Thread(target=self.listen, args=(self.process, self.events), daemon=True).start()
        until(lambda: "state RUNNING" in self.events or self.has_failed(), "the application to run")
        if self.has_failed():
            raise Wrong(f"the application failed: {self.events}")

    @staticmethod
    def listen(process, events):
        events.extend(line.strip() for line in iter(process.stdout.readline, ""))

    def has_failed(self):
        return self.process.poll() is not None or any(event.startswith("failed") for event in self.events)

    def restored(self):
        """How many records its stores were restored from."""
        return sum(int(event.split()[2]) for event in self.events if event.startswith("restored "))

    def stop(self):
        self.process.terminate()
        self.process.wait(CALL_SECONDS)

    def kill(self):
        """SIGKILL: it has no say."""
        self.process.kill()
        self.process.wait()

    def forget(self):
        """Its local state is lost."""
        shutil.rmtree(self.state)


class Books:
    """What the words should be counted to."""

    def __init__(self):
        self.counts = Counter()
        self.random = random.Random(7)

    def feed(self, count):
        """Sends lines of words, and counts them."""
        for partition in range(PARTITIONS):
            lines = [" ".join(self.random.choices(VOCABULARY, k=5)) for _ in range(count // PARTITIONS)]
            self.counts.update(word for line in lines for word in line.split())
            text = "".join(f"{line}\n" for line in lines)
            millstream("produce", LINES, "--partition", partition, "--bootstrap", BOOTSTRAP, input=text)

    def until_right(self):
        """Waits until the application has counted the same."""
        try:
            until(lambda: results() == self.counts, "the counts")
        except Wrong as error:
            equal(results(), self.counts)
            raise error


def results():
    """The last count of each word."""
    printed = millstream("consume", RESULTS, "--key-separator", " ", "--bootstrap", BOOTSTRAP)
    return Counter({word: int(count) for word, count in (line.split() for line in printed.splitlines())})


def until_caught_up():
    """Waits until all that was read is committed, to the end of all topics."""
    until(lambda: all(row[5] == "0" for row in words(describe(), NAME)), "the application to catch up")


def shares():
    """How many partitions each member of the application has."""
    return [int(row[4]) for row in words(describe("--members"), NAME)]


def describe(*more):
    return tool("kafka-consumer-groups", "--describe", "--group", NAME, *more)


def offsets(topic, time):
    return tool("kafka-get-offsets", "--topic", topic, "--time", time).split()
