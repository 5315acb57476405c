"""The parts: what each runs, and what it counts."""

import dataclasses
import json
import os
import re
import typing

from .running import Failed, last_line

# For building what a part needs, cold, and for the end of a command that bounds itself.
RESERVE_SECONDS = 60
TORTURE_SECONDS = 1500
STEADY_SECONDS = 900
LOG_MODEL_SEEDS = 500
BROKER_MODEL_SEEDS = 100
INDEX_MODEL_SEEDS = 100
# The steps of tools/instructions that are a whole walk.
WALK = "frame to reply"


@dataclasses.dataclass(frozen=True)
class Part:
    name: str
    about: str
    # Does it, with these arguments; returns what it counted.
    do: typing.Callable
    arguments: tuple = ()
    # What tools/install-packages is to install besides.
    needs: tuple = ()
    has_seed: bool = True

    def run(self, running):
        return self.do(running, *self.arguments)


def clients(running, *names):
    """Programs of the client matrix, or its suites."""
    return last_line(running.run("tools/clients/run", "--strict", *names))


def torture(running, fault, *arguments):
    if (fault in ("power", "full") or "--filesystem" in arguments) and os.geteuid() != 0:
        raise Failed("it mounts file systems: run it as root")
    broker = sabotage_build(running)
    seconds = min(TORTURE_SECONDS, running.left(RESERVE_SECONDS))
    words = [fault, *arguments, "--millstream", broker, "--seed", running.seed, "--seconds", seconds, "--json"]
    return tortured(*running.call("tools/torture/run", *words))


def sabotage_build(running):
    """The broker as tools/torture/ci builds it: it makes no mistake unless it is told to, and its clock and its
    file operations can be tampered with."""
    target = running.root / "target" / "sabotage"
    words = ["cargo", "build", "--locked", "--features", "sabotage", "--target-dir", target]
    running.run(*words, CARGO_PROFILE_DEV_PANIC="abort")
    return target / "debug" / "millstream"


def tortured(status, output):
    """What the harness's summary counted."""
    summaries = [line for line in output.splitlines() if line.startswith("{")]
    if not summaries:
        raise Failed(f"status {status}: {last_line(output)}")
    counts = json.loads(summaries[-1])
    if counts["violation"] or status != 0:
        raise Failed(f"VIOLATION: {counts['violation']}" if counts["violation"] else f"status {status}")
    shown = [(name, value) for name, value in counts.items() if isinstance(value, int) and value]
    shown = [f"{value:,} {name.replace('_', ' ')}" for name, value in shown if name not in ("seed", "seconds")]
    return ", ".join([*shown, "0 violations"])


def steady(running, fault):
    """It measures: so a release, which a debug build is slower than."""
    running.run("cargo", "build", "--locked", "--release")
    seconds = min(STEADY_SECONDS, running.left(RESERVE_SECONDS))
    words = [fault, "--millstream", running.root / "target" / "release" / "millstream", "--seconds", seconds, "--json"]
    return tortured(*running.call("tools/torture/run", *words))


def corners(running, fault):
    output = running.run("tools/torture/run", fault, "--millstream", sabotage_build(running))
    return last_line(output)


def self_test(running):
    output = running.run("tools/torture/self-test", 60)
    found = re.findall(r"^\S+ +\S+ +found", output, re.MULTILINE)
    sound = re.findall(r"^none +\S+ +nothing found", output, re.MULTILINE)
    return f"{len(found)} mistakes found, {len(sound)} sound runs in which nothing was found"


def on_epoll(running):
    """What runs over io_uring elsewhere: the tests, a few clients, and a round of kill, power and full."""
    epoll = {"MILLSTREAM_REACTOR": "epoll"}
    passed = tests_passed(running.run("cargo", "test", **epoll))
    matrix = last_line(running.run("tools/clients/run", "--strict", *SIX_CLIENTS, **epoll))
    broker = sabotage_build(running)
    words = ["--millstream", broker, "--seed", running.seed, "--seconds", 100, "--json"]
    rounds = [tortured(*running.call("tools/torture/run", fault, *words, **epoll)) for fault in EPOLL_FAULTS]
    return "; ".join([passed, matrix, *rounds])


def models(running):
    """As many seeds of the models as fit."""
    running.run("cargo", "test", "--test", "millstream", "--no-run")
    seeds = {"log_model": LOG_MODEL_SEEDS, "broker_model": BROKER_MODEL_SEEDS, "index_model": INDEX_MODEL_SEEDS}
    done = dict.fromkeys(seeds, 0)
    slowest = 0
    while not sum(done.values()) or running.left() > 2 * slowest + RESERVE_SECONDS:
        before = running.seconds()
        for model, count in seeds.items():
            words = ["cargo", "test", "--test", "millstream", model]
            running.run(*words, MILLSTREAM_SEED=running.seed + done[model], MILLSTREAM_RUNS=count)
            done[model] += count
        slowest = max(slowest, running.seconds() - before)
    return ", ".join(f"{count:,} seeds of {model}" for model, count in done.items())


def fuzz(running, *targets):
    running.run("tools/fuzz", "build")
    seconds = running.left(RESERVE_SECONDS) // len(targets)
    found = []
    for target in targets:
        output = running.run("tools/fuzz", "run", target, seconds, running.seed % (1 << 31))
        found.append(f"{fuzzed(output):,} inputs of {target}")
    return ", ".join(found)


def fuzzed(output):
    runs = re.search(r"stat::number_of_executed_units: *(\d+)", output)
    if not runs:
        raise Failed("the fuzzer does not say how many inputs it tried")
    return int(runs.group(1))


def miri(running):
    return tests_passed(running.run("tools/miri"))


def tests_passed(output):
    passed = sum(int(count) for count in re.findall(r"^test result: ok\. (\d+) passed", output, re.MULTILINE))
    if not passed:
        raise Failed("no test ran")
    return f"{passed:,} tests passed"


def bench(running):
    """The benches, and when their first figure was there."""
    figures = []

    def on_line(line):
        if " time: " in line:
            figures.append(running.seconds())

    running.run("cargo", "bench", on_line=on_line)
    if not figures:
        raise Failed("no figure")
    return f"{len(figures)} figures, the first after {figures[0]:.0f} s"


def compare(running):
    output = running.run("tools/compare/run", "--quick")
    return f"{len(re.findall(r'^## S', output, re.MULTILINE))} scenarios"


def accept(running):
    output = running.run("tools/accept", BIG=1)
    return f"{len(re.findall(r'^ok ', output, re.MULTILINE))} steps, files of 2 GB"


def instructions(running):
    output = running.run("tools/instructions", "--json")
    steps = json.loads(output[output.index("[\n") :])
    walks = [step for step in steps if WALK in step["step"]]
    counts = [f"{step['step']} {size} {count:,}" for step in walks for size, count in step["instructions"].items()]
    return ", ".join([f"{len(steps)} steps", *counts])


JAVA_AND_PYTHON = ("kcat", "kafka-clients-3.9", "kafka-clients-4", "aiokafka", "confluent-kafka", "kafka-python")
SIX_CLIENTS = ("kafka-clients-4", "confluent-kafka", "franz-go", "sarama", "kafkajs", "aiokafka")
EPOLL_FAULTS = ("kill", "power", "full")
GO = ("franz-go", "kafka-go", "sarama")
NODE_AND_RUST = ("confluent-kafka-javascript", "kafkajs", "platformatic-kafka", "rdkafka", "rskafka")
TOOLS = ("kafka-tools", "kafka-files", "kafka-streams")
CLIENTS_TESTS = ("kafka-python-tests", "rdkafka-tests", "rskafka-tests")
CONNECT = ("kafka-connect", "mirror-maker", "debezium")
HTTP = ("curl", "requests", "rest-proxy-clients", "eventsource", "page")
OTHER_TOOLS = ("spring-kafka", "rsyslog", "librdkafka-tests")
FORMATS = ("request", "batch", "catalog", "producers")

PARTS = [
    Part("clients-1", "clients in C, Java and Python", clients, JAVA_AND_PYTHON, has_seed=False),
    Part("clients-2", "clients in Go, Node and Rust", clients, GO + NODE_AND_RUST, has_seed=False),
    Part("clients-http", "curl, Python, browsers and clients of REST proxies over HTTP; the page", clients, HTTP, ("tools",), has_seed=False),
    Part("suites-1", "Kafka's tools, its files, and Kafka Streams", clients, TOOLS, has_seed=False),
    Part("suites-2", "the tests of kafka-python, rust-rdkafka and rskafka", clients, CLIENTS_TESTS, has_seed=False),
    Part("tools-1", "Kafka Connect, MirrorMaker 2, Debezium", clients, CONNECT, ("tools",), has_seed=False),
    Part("tools-2", "Spring Kafka, rsyslog, librdkafka's admin test", clients, OTHER_TOOLS, ("tools",), has_seed=False),
    Part("torture-kill", "SIGKILL", torture, ("kill",)),
    Part("torture-power-ext4", "power cuts on ext4 (root)", torture, ("power", "--filesystem", "ext4")),
    Part("torture-power-xfs", "power cuts on xfs (root)", torture, ("power", "--filesystem", "xfs")),
    Part("torture-power-overlay", "power cuts on an overlay, as in a container (root)", torture, ("power", "--filesystem", "overlay")),
    Part("torture-failed-syncs", "syncs that fail, then power cuts on ext4 (root, FUSE)", torture, ("power", "--failed-syncs")),
    Part("torture-once", "message ids and conditions over SIGKILL", torture, ("once",)),
    Part("torture-once-ext4", "the same over power cuts on ext4 (root)", torture, ("once", "--filesystem", "ext4")),
    Part("torture-once-xfs", "the same over power cuts on xfs (root)", torture, ("once", "--filesystem", "xfs")),
    Part("torture-once-overlay", "the same over power cuts on an overlay (root)", torture, ("once", "--filesystem", "overlay")),
    Part("torture-corners", "scripted corners of storage (root)", corners, ("corners",), has_seed=False),
    Part("torture-torn", "images of what a crash may leave", torture, ("torn",)),
    Part("torture-ioerror", "file operations that fail, as many cases as fit", torture, ("ioerror", "--jobs", "2")),
    Part("torture-full", "a full disk (root)", torture, ("full",)),
    Part("torture-clients", "clients that misbehave", torture, ("clients", "--connections", "2000")),
    Part("torture-steady", "a client's latency beside loads of all kinds", steady, ("steady",), has_seed=False),
    Part("torture-clock", "a wall clock that jumps", torture, ("clock",)),
    Part("torture-soak", "a long load: does the broker grow?", torture, ("soak",)),
    Part("torture-self-test", "whether the harness finds planted mistakes (root)", self_test, has_seed=False),
    Part("epoll", "tests, clients and torture over epoll instead of io_uring (root)", on_epoll),
    Part("models", "many seeds of the models of the log, the broker and its indexes", models),
    Part("fuzz-formats", "fuzz targets of requests and formats", fuzz, FORMATS, ("fuzz",)),
    Part("fuzz-log", "fuzz targets of recovery and of the whole broker", fuzz, ("recovery", "broker"), ("fuzz",)),
    Part("fuzz-http", "fuzz targets of HTTP, and of message ids, conditions and keys", fuzz, ("http", "indexes"), ("fuzz",)),
    Part("miri", "units under Miri", miri, needs=("miri",), has_seed=False),
    Part("bench", "the benches, as `cargo bench` runs them", bench, has_seed=False),
    Part("instructions", "instructions of each step", instructions, needs=("valgrind",), has_seed=False),
    Part("compare-short", "every scenario of tools/compare, a few seconds each", compare, has_seed=False),
    Part("accept-big", "tools/accept with files of 2 GB", accept, has_seed=False),
]
