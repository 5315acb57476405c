"""What the scenarios are made of: a broker for a while, a load on it, its log filled."""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

from . import measure, wire
from .brokers import Broker

# Beyond the time that a load is asked to take: its preparation, the ceiling, the last answers.
PERF_GRACE_SECONDS = 90
FILL_STEP_SECONDS = 0.5
FILL_SECONDS_MAX = 300
FILL_LOAD = {"acks": "1", "connections": 4, "batch-bytes": 1_000_000, "in-flight": 2}
# What this client can send must be so much more than what a broker took, or the client was the limit.
CEILING_MARGIN = 1.3
CLIENT_BUSY_CORES = 0.95
# More than this taken by other programs or by the host, and a figure says little.
OTHERS_CORES_MAX = 0.1


class Failed(Exception):
    """A load did not run as it should."""


class Bench:
    """Holds what is the same for all scenarios of a run."""

    def __init__(self, tools, options, results):
        self.tools, self.options, self.results = tools, options, results
        self.notes, self.round = [], 0
        self.with_ceiling = set()

    def note(self, text):
        """Something that whoever reads the scenario's figures has to know."""
        if text not in self.notes:
            self.notes.append(text)

    @contextlib.contextmanager
    def broker(self, scenario, spec, arguments=()):
        """A broker with an empty data directory, which is removed at the end."""
        data = pathlib.Path(tempfile.mkdtemp(prefix=f"{scenario.name}-{spec.name}-", dir=self.options.data_dir))
        cores = sorted(self.options.broker_cores)[: scenario.get("broker_cores", len(self.options.broker_cores))]
        over_http = scenario.kind.startswith("http-")
        broker = Broker(spec, self.tools, data, set(cores), scenario.get("limits"), arguments, over_http)
        try:
            broker.start()
            yield broker
        finally:
            broker.remove()
            shutil.rmtree(data, ignore_errors=True)

    def wants_ceiling(self, scenario):
        """Whether this load is to measure the client's own ceiling too: once for each round of a scenario,
        as it does not depend on the broker."""
        key = (scenario.name, self.round)
        wanted = key not in self.with_ceiling
        self.with_ceiling.add(key)
        return wanted

    # ---- sizes ----

    def size(self, nominal):
        """How many bytes to write of those that the workload file names: fewer if the run is a short
        one or the disk has not the room."""
        wanted = int(nominal * self.options.scale)
        allowed = min(wanted, self.options.disk_bytes_max, measure.free_bytes(self.options.data_dir))
        if allowed < nominal:
            self.note(f"{allowed / 1e9:.1f} GB instead of {nominal / 1e9:.0f} GB")
        return allowed

    # ---- load ----

    def perf(self, broker, mode, flags, seconds=None, **more):
        """Runs `millstream perf`, and returns what it and /proc say about the measured part."""
        seconds = seconds or self.options.seconds
        process = self.start_perf(broker, mode, flags, seconds, **more)
        with measure.Sampler(broker.pid, process.pid) as sampler:
            printed = finish(process, seconds + PERF_GRACE_SECONDS)
            end = time.monotonic()
        printed = parse(printed, process)
        metrics = of_perf(printed)
        metrics |= of_process(broker, sampler, end - seconds, end, metrics["bytes_per_second"] * seconds)
        metrics["others_cores"] = sampler.others_seconds(end - seconds, end) / seconds
        metrics["client_cores"] = sampler.cpu_seconds(process.pid, end - seconds, end) / seconds
        if not broker.is_running():
            raise Failed(f"{broker.spec.name} ended under the load")
        return metrics

    def start_perf(self, broker, mode, flags, seconds, warmup=None, nice=0):
        if warmup is None:
            warmup = broker.spec.warmup_seconds or self.options.warmup_seconds
        words = [self.tools.millstream, "perf", mode, "--bootstrap", broker.address, "--json"]
        words += ["--core", self.options.client_core, "--seconds", seconds, "--warmup-seconds", warmup]
        words += as_flags(flags)
        # It pins itself. The sink of its ceiling is to run where the broker does.
        with measure.on_cores(self.options.broker_cores | {self.options.client_core}):
            return subprocess.Popen(
                [str(word) for word in words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                preexec_fn=(lambda: os.nice(nice)) if nice else None,
            )

    def fill(self, broker, topic, partitions, size):
        """Writes at least `size` bytes of values to a topic, evenly over its partitions."""
        flags = {**FILL_LOAD, "topic": topic, "partitions": partitions}
        deadline = time.monotonic() + FILL_SECONDS_MAX
        seconds, before = FILL_STEP_SECONDS, 0
        while True:
            finish(self.start_perf(broker, "produce", flags, seconds, warmup=0), seconds + PERF_GRACE_SECONDS)
            written = records(broker, topic, partitions) * 1024
            if written >= size:
                return written
            rate = max((written - before) / seconds, 1.0)
            before, seconds = written, min(max((size - written) / rate, 0.2), 30.0)
            if time.monotonic() > deadline:
                self.note(f"{broker.spec.name}: {written / 1e9:.1f} GB, all that it took in {FILL_SECONDS_MAX} s")
                return written


def finish(process, seconds):
    """Waits for the end of a load and returns what it printed."""
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.communicate()
        raise Failed(f"no end after {seconds:.0f} s") from error
    if process.returncode != 0:
        raise Failed(f"perf: {errors.strip()[-300:]}")
    return output


def parse(printed, process):
    try:
        return json.loads(printed)
    except ValueError as error:
        raise Failed(f"perf printed no JSON (status {process.returncode}): {printed[:200]!r}") from error


def as_flags(flags):
    for name, value in flags.items():
        if value is True:
            yield f"--{name}"
        else:
            yield from (f"--{name}", value)


def of_perf(printed):
    """Throughput and latencies out of `perf`'s JSON. Of a load that writes and reads, the writing."""
    flow = printed.get("written") or printed["read"]
    metrics = {"bytes_per_second": flow["bytes_per_second"], "records_per_second": flow["records_per_second"]}
    if "ceiling" in printed:
        metrics["ceiling_bytes_per_second"] = printed["ceiling"]["bytes_per_second"]
    timed = printed.get("acknowledged_us") or printed.get("fetch_us")
    metrics |= quantiles(timed or {})
    return metrics | quantiles(printed.get("end_to_end_us") or {}, "e2e_")


def quantiles(histogram, prefix=""):
    names = {"p50": "p50_us", "p99": "p99_us", "p99.9": "p999_us", "max": "max_us"}
    return {prefix + name: histogram[key] for key, name in names.items() if key in histogram}


def of_process(broker, sampler, begin, end, moved):
    """What a load cost the broker: CPU in a time in which so many bytes were moved, memory at its most."""
    if broker.pid is None or not broker.is_running():
        return {}
    cpu = sampler.cpu_seconds(broker.pid, begin, end)
    metrics = {"cpu_cores": cpu / (end - begin), "rss_bytes": measure.memory(broker.pid)["VmHWM"]}
    metrics["anon_bytes"] = sampler.anon_peak[broker.pid]
    if moved:
        metrics["cpu_seconds_per_gb"] = cpu / (moved / 1e9)
    if broker.first_record_seconds is not None:
        metrics["first_record_ms"] = broker.first_record_seconds * 1000
    return metrics


def records(broker, topic, partitions):
    return sum(wire.offsets(broker.address, topic, partitions, wire.LATEST))


def device_ratio(broker, topic, partitions, record_bytes, before):
    """Bytes that were written to the device, the kernel's own included, for each byte of values, since so
    many bytes had been written."""
    if before is None or not broker.is_started:
        return {}
    written = records(broker, topic, partitions) * record_bytes
    os.sync()
    moved = measure.device_written_bytes(broker.data) - before
    return {"device_bytes_per_byte": moved / written} if written else {}


def disk_ratio(broker, topic, partitions, record_bytes):
    """Bytes that the broker's files take, for each byte of values; None where records were removed."""
    if not broker.is_started or broker.spec.kind == "floor":
        return {}
    if any(wire.offsets(broker.address, topic, partitions, wire.EARLIEST)):
        return {}
    written = records(broker, topic, partitions) * record_bytes
    return {"disk_bytes_per_byte": measure.disk_bytes(broker.data) / written} if written else {}
