"""Brokers as processes: started on their cores, timed until they acknowledge a record, ended."""

import dataclasses
import importlib.machinery
import importlib.util
import os
import pathlib
import select
import shutil
import socket
import subprocess
import time
import types

from . import measure, wire

START_SECONDS = 180
STOP_SECONDS = 60
# Both brokers look for segments to remove this often, where a scenario bounds what is kept.
RETENTION_CHECK_MS = 1000


@dataclasses.dataclass(frozen=True)
class Tools:
    """The programs that are run."""

    millstream: pathlib.Path
    floor: pathlib.Path | None
    root: pathlib.Path


class CannotStart(Exception):
    pass


class Broker:
    """One broker, or the floor. What is not a process of ours has no pid, and no `data`."""

    def __init__(self, spec, tools, data, cores, limits=None, arguments=(), over_http=False):
        self.spec, self.tools, self.cores = spec, tools, cores
        self.data, self.log = data / "data", data / "log"
        self.limits = limits or {}
        self.arguments = [*spec.arguments, *arguments]
        self.address, self.process, self.first_record_seconds = spec.address, None, None
        self.over_http, self.http_address = over_http, None
        if self.is_started:
            self.data.mkdir(parents=True)

    @property
    def is_started(self):
        return self.spec.kind != "address"

    @property
    def pid(self):
        return self.process.pid if self.process else None

    def start(self):
        if self.is_started:
            STARTS[self.spec.kind](self)

    def is_running(self):
        return self.process is None or self.process.poll() is None

    def stop(self):
        """A proper stop."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self):
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def remove(self):
        self.stop()
        if self.is_started:
            shutil.rmtree(self.data.parent, ignore_errors=True)
            # What is written back or given back to the disk now would otherwise slow the next one.
            os.sync()

    def launch(self, start):
        """Starts a process on the broker's cores. Returns when that was."""
        with measure.on_cores(self.cores):
            started = time.monotonic()
            self.process = start()
        return started

    def spawn(self, words, **options):
        with open(self.log, "ab") as log:
            return subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=log, **{"stdout": log, **options})

    def await_first_record(self, started):
        try:
            self.first_record_seconds = wire.first_record(self.address, started, START_SECONDS, self.is_running)
        except wire.Refused as error:
            self.stop()
            raise CannotStart(f"{self.spec.name}: {error}; {tail(self.log)}") from error


def start_millstream(broker):
    broker.address = f"127.0.0.1:{free_port()}"
    if broker.over_http:
        broker.http_address = f"127.0.0.1:{free_port()}"
    words = [broker.tools.millstream, "serve", "--data-dir", broker.data, "--listen", broker.address]
    words += ["--http", broker.http_address or "off"]
    words += [*broker.arguments, *millstream_limits(broker.limits)]
    started = broker.launch(lambda: broker.spawn(words))
    broker.await_first_record(started)


def start_kafka(broker):
    """As tools/kafka/serve does, but with the JVM options that Kafka's own scripts give it, and timed
    from the start of the JVM: the storage is formatted before."""
    serve = kafka_serve(broker.tools.root)
    port = free_port()
    broker.address = f"127.0.0.1:{port}"
    settings = [*broker.spec.settings, *kafka_limits(broker.limits)]
    options = types.SimpleNamespace(data_dir=broker.data, set=settings)
    properties = broker.data / "server.properties"
    properties.write_text(serve.server_properties(options, port))
    serve.format_storage(properties)
    started = broker.launch(lambda: serve.start(properties, broker.log, broker.spec.java))
    broker.await_first_record(started)


def start_floor(broker):
    if broker.tools.floor is None:
        raise CannotStart("the floor is not built")
    [mode, *rest] = broker.arguments
    words = [broker.tools.floor, mode, "--dir", broker.data, *rest]
    broker.launch(lambda: broker.spawn(words, stdout=subprocess.PIPE))
    line = read_line(broker.process, START_SECONDS)
    if not line.startswith("floor "):
        broker.stop()
        raise CannotStart(f"the floor said {line!r}; {tail(broker.log)}")
    broker.address = line.split()[1]


def start_floor_http(broker):
    if broker.tools.floor is None:
        raise CannotStart("the floor is not built")
    broker.launch(lambda: broker.spawn([broker.tools.floor, *broker.arguments], stdout=subprocess.PIPE))
    line = read_line(broker.process, START_SECONDS)
    if not line.startswith("http "):
        broker.stop()
        raise CannotStart(f"the floor said {line!r}; {tail(broker.log)}")
    broker.http_address = line.split()[1]


STARTS = {"millstream": start_millstream, "kafka": start_kafka, "floor": start_floor, "floor-http": start_floor_http}


def millstream_limits(limits):
    words = []
    if "retention_bytes" in limits:
        words += ["--log-retention-bytes", limits["retention_bytes"]]
        words += ["--retention-check-interval-ms", RETENTION_CHECK_MS]
    if "segment_bytes" in limits:
        words += ["--log-segment-bytes", limits["segment_bytes"]]
    return [str(word) for word in words]


def kafka_limits(limits):
    settings = []
    if "retention_bytes" in limits:
        settings.append(f"log.retention.bytes={limits['retention_bytes']}")
        settings.append(f"log.retention.check.interval.ms={RETENTION_CHECK_MS}")
        settings.append(f"log.segment.delete.delay.ms={RETENTION_CHECK_MS}")
    if "segment_bytes" in limits:
        settings.append(f"log.segment.bytes={limits['segment_bytes']}")
    return settings


def kafka_serve(root):
    """tools/kafka/serve as a module."""
    path = root / "tools" / "kafka" / "serve"
    loader = importlib.machinery.SourceFileLoader("kafka_serve", str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("kafka_serve", loader))
    loader.exec_module(module)
    return module


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def read_line(process, seconds):
    """The first line of a process's output, or what there is of it when it ends or is too slow."""
    line, deadline = b"", time.monotonic() + seconds
    while not line.endswith(b"\n") and time.monotonic() < deadline:
        ready, _, _ = select.select([process.stdout], [], [], 0.1)
        part = os.read(process.stdout.fileno(), 4096) if ready else None
        if part == b"":
            break
        line += part or b""
    return line.decode(errors="replace").strip()


def tail(path):
    """The end of a log, in one line."""
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    return " | ".join(lines[-3:]) or "it said nothing"
