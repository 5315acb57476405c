"""What the suites with Apache Kafka's own programs share: cases, Kafka's tools, Millstream's commands."""

import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

BOOTSTRAP = os.environ["BOOTSTRAP"]
MILLSTREAM = os.environ["MILLSTREAM"]
DATA_DIR = pathlib.Path(os.environ["DATA_DIR"])
WORK = pathlib.Path(os.environ["WORK"])
KAFKA = pathlib.Path(__file__).resolve().parent.parent.parent / "kafka"

CALL_SECONDS = 120
# For what goes on by itself.
RUN_SECONDS = 300
# Most of them take the broker's address first; these take it elsewhere, or none.
WITHOUT_BOOTSTRAP = {"kafka-cluster", "kafka-replica-verification", "kafka-dump-log"}

CASES = []
PRINTING = threading.Lock()


class Wrong(Exception):
    """What came out is not what should have come out."""


@dataclass
class Expected:
    """A failure that is known: why, and words that the failure has."""

    why: str
    words: str


def case(name, expected=None):
    """Makes a function a case: it passes when the function returns, and fails when it raises."""

    def register(function):
        CASES.append((name, function, expected))
        return function

    return register


def run(about, jobs):
    """Runs all cases, `jobs` of them side by side, and prints how each went."""
    emit({"about": about})
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        for entry in pool.map(lambda registered: judge(*registered), CASES):
            emit(entry)


def judge(name, function, expected):
    started = time.monotonic()
    why = failure_of(function)
    entry = {"case": name, "result": "pass" if why is None else "fail"}
    if why is None and expected:
        entry["expected"] = True
    elif why is not None and expected and expected.words in why:
        entry.update(why=expected.why, expected=True)
    elif why is not None:
        entry["why"] = why[:1000]
    print(f"{time.monotonic() - started:5.1f} s  {name}: {entry['result']}", file=sys.stderr, flush=True)
    return entry


def failure_of(function):
    """Why it failed, or None."""
    try:
        function()
    except Wrong as error:
        return str(error)
    except Exception as error:  # Something was printed that the case is not prepared for.
        return f"{type(error).__name__}: {error}"
    return None


def emit(entry):
    with PRINTING:
        print(json.dumps(entry), flush=True)


def kafka_version():
    return re.search(r"<kafka.version>([^<]+)<", (KAFKA / "pom.xml").read_text())[1]


def tool(name, *arguments, broker=BOOTSTRAP, input=None, fails=False):
    """Runs one of Kafka's tools and returns all that it printed. Its exit status must be 0; with
    `fails` it may be anything, for some tools return 0 after an error too."""
    done = subprocess.run(command_of(name, arguments, broker), **streams(input))
    printed = done.stdout + done.stderr
    if done.returncode != 0 and not fails:
        raise Wrong(f"{name}: exit status {done.returncode}: {printed.strip()}")
    return printed


def command_of(name, arguments, broker=BOOTSTRAP):
    first = [] if name in WITHOUT_BOOTSTRAP else ["--bootstrap-server", broker]
    return [str(KAFKA / "tool"), name, *first, *(str(word) for word in arguments)]


@contextmanager
def running(name, *arguments, java=""):
    """A tool that goes on by itself, with its output to be read. It is ended with the block, or when
    it has taken too long."""
    environment = {**os.environ, **({"JAVA_OPTS": java} if java else {})}
    process = subprocess.Popen(
        command_of(name, arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    limit = threading.Timer(RUN_SECONDS, process.kill)
    limit.start()
    try:
        yield process
    finally:
        limit.cancel()
        process.kill()
        process.wait()


def launch(command, log, **environment):
    """Starts a program that goes on by itself, until it is ended; all that it says goes to the log."""
    with open(log, "ab") as output:
        return subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **environment},
        )


def until(done, what):
    deadline = time.monotonic() + CALL_SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise Wrong(f"waited {CALL_SECONDS} s for {what}")
        time.sleep(0.2)


def again(tries, function):
    """What is asked of all groups or topics fails when one of them goes away meanwhile."""
    for _ in range(tries - 1):
        try:
            return function()
        except Wrong:
            pass
    return function()


def millstream(*arguments, input=None):
    """Runs one of Millstream's own commands and returns its standard output."""
    done = subprocess.run([MILLSTREAM, *(str(word) for word in arguments)], **streams(input))
    if done.returncode != 0:
        raise Wrong(f"millstream {arguments[0]}: {(done.stderr + done.stdout).strip()}")
    return done.stdout


def produce_slowly(topic, lines, pause, broker, *options):
    """Sends lines, with a pause in seconds after each; all are acknowledged when it returns."""
    command = [MILLSTREAM, "produce", topic, *options, "--bootstrap", broker]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
    for line in lines:
        process.stdin.write(f"{line}\n")
        process.stdin.flush()
        time.sleep(pause)
    process.stdin.close()
    if process.wait(CALL_SECONDS) != 0:
        raise Wrong(f"not all records of {topic} were acknowledged")


def streams(input):
    given = {"input": input} if input is not None else {"stdin": subprocess.DEVNULL}
    return {**given, "capture_output": True, "text": True, "timeout": CALL_SECONDS}


def topic_with(topic, partitions=1, records=0):
    """Creates a topic with so many records `record <n>` in each partition, and returns its name."""
    millstream("topic", "create", topic, "--partitions", partitions, "--bootstrap", BOOTSTRAP)
    lines = "".join(f"record {number}\n" for number in range(records))
    for partition in range(partitions if records else 0):
        millstream("produce", topic, "--partition", partition, "--bootstrap", BOOTSTRAP, input=lines)
    return topic


def file_with(name, content):
    """A file in the suite's own directory."""
    path = WORK / name
    path.write_text(content)
    return path


def expect(found, *wanted):
    """All of the texts are in what was found."""
    for text in wanted:
        if text not in found:
            raise Wrong(f"no `{text}` in: {found.strip()}")


def expect_not(found, *unwanted):
    for text in unwanted:
        if text in found:
            raise Wrong(f"`{text}` in: {found.strip()}")


def equal(found, wanted):
    if found != wanted:
        raise Wrong(f"{str(found)[:300]} instead of {str(wanted)[:300]}")


def words(printed, start):
    """The lines that begin with that word, as lists of words; so columns may have any width."""
    lines = (line.split() for line in printed.splitlines())
    return [line for line in lines if line and line[0] == start]
