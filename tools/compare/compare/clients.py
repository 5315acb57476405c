"""Clients that people use, run as they come: Java's performance tools and librdkafka."""

import json
import os
import re
import subprocess
import time

from . import bench as bench_module
from . import measure, venv
from .bench import Failed

CALL_SECONDS = 180
# What Kafka's own scripts give their tools.
JAVA = "-Xmx512M -XX:+UseG1GC"
SENT = re.compile(
    r"(?P<count>\d+) records sent, (?P<rate>[\d.,]+) records/sec.*?(?P<p50>\d+) ms 50th.*?"
    r"(?P<p99>\d+) ms 99th, (?P<p999>\d+) ms 99\.9th"
)


def measure_all(bench, scenario, broker):
    parts = {}
    for part, how in scenario["clients"].items():
        try:
            parts[part] = timed(bench, broker, how, part)
        except venv.Missing as error:
            bench.note(f"{part} was left out: {error}")
    return parts


def timed(bench, broker, how, part):
    """Runs one client, pinned as ours, with a topic of its own unless it reads another's."""
    records = max(int(how["records"] * bench.options.scale), 1000)
    with measure.on_cores({bench.options.client_core}), measure.Sampler(broker.pid) as sampler:
        begin = time.monotonic()
        metrics = PROGRAMS[how["program"]](bench, broker, {**how, "records": records})
        end = time.monotonic()
    moved = records * how["record-bytes"]
    return metrics | bench_module.of_process(broker, sampler, begin, end, moved)


def java_producer(bench, broker, how):
    """kafka-producer-perf-test: its latencies are in whole milliseconds."""
    output = java(
        bench,
        "kafka-producer-perf-test",
        *("--topic", how["topic"], "--num-records", how["records"], "--record-size", how["record-bytes"]),
        *("--throughput", how.get("rate", -1), "--producer-props", f"bootstrap.servers={broker.address}"),
        *how["settings"],
    )
    found = sent(output)
    return {**found, "bytes_per_second": found["records_per_second"] * how["record-bytes"]}


def sent(output):
    """The last line of kafka-producer-perf-test."""
    found = None
    for found in SENT.finditer(output):
        pass
    if found is None:
        raise Failed(f"kafka-producer-perf-test said {output[-300:]!r}")
    metrics = {"records_per_second": float(found["rate"].replace(",", ""))}
    return metrics | {f"{name}_us": int(found[name]) * 1000 for name in ("p50", "p99", "p999")}


def java_consumer(bench, broker, how):
    output = java(
        bench,
        "kafka-consumer-perf-test",
        *("--bootstrap-server", broker.address, "--topic", how["topic"], "--num-records", how["records"]),
        *("--timeout", CALL_SECONDS * 1000 // 2),
    )
    return received(output)


def received(output):
    """kafka-consumer-perf-test's line of values below the line of their names. Only the time in which it
    fetched counts, not that in which its group was formed."""
    lines = [line for line in output.splitlines() if "," in line]
    heads = [number for number, line in enumerate(lines) if "fetch.MB.sec" in line]
    if not heads or len(lines) < heads[0] + 2:
        raise Failed(f"kafka-consumer-perf-test said {output[-300:]!r}")
    names = [name.strip() for name in lines[heads[0]].split(",")]
    values = dict(zip(names, (value.strip() for value in lines[heads[0] + 1].split(","))))
    # The tool's megabyte is 2^20.
    return {
        "bytes_per_second": float(values["fetch.MB.sec"]) * (1 << 20),
        "records_per_second": float(values["fetch.nMsg.sec"]),
    }


def librdkafka_producer(bench, broker, how):
    return librdkafka(bench, broker, how, "produce", how.get("rate", 0), *how["settings"])


def librdkafka_consumer(bench, broker, how):
    return librdkafka(bench, broker, how, "consume", 0)


def librdkafka(bench, broker, how, mode, rate, *settings):
    python = venv.python(bench.tools.root)
    script = bench.tools.root / "tools" / "compare" / "librdkafka.py"
    words = [python, script, mode, broker.address, how["topic"], how["records"], how["record-bytes"], rate, *settings]
    return json.loads(call(words))


def java(bench, tool, *words):
    environment = {**os.environ, "JAVA_OPTS": JAVA}
    return call([bench.tools.root / "tools" / "kafka" / "tool", tool, *words], environment)


def call(words, environment=None):
    try:
        done = subprocess.run(
            [str(word) for word in words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment,
            timeout=CALL_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{words[0]}: no end after {CALL_SECONDS} s") from error
    if done.returncode != 0:
        raise Failed(f"{words[0]}: {(done.stderr or done.stdout).strip()[-300:]}")
    return done.stdout


PROGRAMS = {
    "java-producer": java_producer,
    "java-consumer": java_consumer,
    "librdkafka-producer": librdkafka_producer,
    "librdkafka-consumer": librdkafka_consumer,
}
