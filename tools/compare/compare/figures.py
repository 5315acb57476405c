"""One function for each kind of scenario. Each measures one broker once, and returns its metrics by the
part of the scenario that they belong to ("" where there is but one)."""

import json
import os
import subprocess
import time

from . import bench as bench_module
from . import clients, measure, over_http, wire
from .bench import device_ratio, disk_ratio

TOPIC = "compare"
REFERENCE_GRACE_SECONDS = 60
SETTLE_SECONDS = 2
PARK_MS = 600_000
PARKED_TOPIC = "parked"


def produce(bench, scenario, spec):
    """As much as a broker takes."""
    with bench.broker(scenario, spec) as broker:
        load = scenario["load"]
        shape = (load["partitions"], load["record-bytes"])
        os.sync()
        before = measure.device_written_bytes(broker.data) if spec.kind != "floor" else None
        metrics = loaded(bench, broker, scenario)
        metrics |= device_ratio(broker, TOPIC, *shape, before)
        return {"": metrics | disk_ratio(broker, TOPIC, *shape)}


def loaded(bench, broker, scenario, **flags):
    load = {**scenario["load"], "topic": TOPIC, **flags}
    if "rate" not in load and bench.wants_ceiling(scenario):
        load["ceiling"] = True
    return bench.perf(broker, "produce", load)


def consume(bench, scenario, spec):
    """As much as a broker gives of what it has just been given."""
    parts = {}
    for part, nominal in scenario["parts"].items():
        size = bench.size(nominal)
        arguments = ["--bytes", str(size)] if spec.kind == "floor" else []
        with bench.broker(scenario, spec, arguments) as broker:
            if spec.kind != "floor":
                bench.fill(broker, TOPIC, 1, size)
            # Reading is to be measured, not the kernel's writing back of what was written for it.
            os.sync()
            parts[part] = bench.perf(broker, "consume", {**scenario["load"], "topic": TOPIC})
    return parts


def latency(bench, scenario, spec):
    """One record under way."""
    if spec.kind == "reference":
        return reference(bench)
    with bench.broker(scenario, spec) as broker:
        return {"": bench.perf(broker, "latency", {**scenario["load"], "topic": TOPIC})}


def reference(bench):
    """What a record cannot do without: the disk's fdatasync and a round trip over loopback. The sum of
    their quantiles is no quantile of their sum, but close where one of them dwarfs the other."""
    data = bench.options.data_dir / "reference"
    seconds = bench.options.seconds / 2
    broker_core, client_core = min(bench.options.broker_cores), bench.options.client_core
    data.mkdir()
    try:
        sync = floor_json(bench, seconds, "sync", "--dir", data, "--core", broker_core)
    finally:
        for path in data.iterdir():
            path.unlink()
        data.rmdir()
    trip = floor_json(bench, seconds, "round-trip", "--server-core", broker_core, "--client-core", client_core)
    both = {name: sync[name] + trip[name] for name in ("p50_us", "p99_us", "p999_us")}
    return {"": both, "fdatasync": sync, "round trip": trip}


def floor_json(bench, seconds, mode, *arguments):
    if bench.tools.floor is None:
        raise bench_module.Failed("the floor is not built")
    words = [bench.tools.floor, mode, "--seconds", seconds, *arguments]
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, timeout=seconds + REFERENCE_GRACE_SECONDS
    )
    if done.returncode != 0:
        raise bench_module.Failed(f"floor {mode}: {done.stderr.strip()[-300:]}")
    printed = json.loads(done.stdout)
    return {name: value for name, value in printed.items() if name.endswith("_us")}


def at_rate(bench, scenario, spec):
    """At a share of what this broker took in another scenario."""
    with bench.broker(scenario, spec) as broker:
        return {"": loaded(bench, broker, scenario, rate=rate_of(bench, broker, scenario))}


def rate_of(bench, broker, scenario):
    """Records a second: from that scenario's figures, or else from a short run here."""
    measured = bench.results.median(scenario["rate_of"], broker.spec.name, "", "records_per_second")
    if measured is None:
        load = {**scenario["load"], "topic": "calibration"}
        measured = bench.perf(broker, "produce", load)["records_per_second"]
    return measured * scenario["rate_share"]


def partitions(bench, scenario, spec):
    """The same load on few and on many partitions."""
    parts = {}
    with bench.broker(scenario, spec) as broker:
        for count in scenario["partitions"]:
            load = {**scenario["load"], "topic": f"{TOPIC}-{count}", "partitions": count}
            wire.create_topic(broker.address, load["topic"], count)
            # A partition's first record makes its files, which is not what is asked here.
            wire.write_to_each(broker.address, load["topic"], count)
            parts[plural(count, "partition")] = bench.perf(broker, "produce", load)
    return parts


def first_record(bench, scenario, spec):
    """An empty broker's start, over and over."""
    times, metrics = [], {}
    for _ in range(scenario["starts"]):
        with bench.broker(scenario, spec) as broker:
            times.append(broker.first_record_seconds * 1000)
            memory = measure.memory(broker.pid)
            metrics = {"rss_bytes": memory["VmHWM"], "anon_bytes": memory["RssAnon"]}
    return {"": metrics | {"first_record_ms": sorted(times)[len(times) // 2]}}


def idle(bench, scenario, spec):
    """Many partitions with a record in each, after a restart, with nothing to do."""
    with bench.broker(scenario, spec) as broker:
        for number in range(scenario["topics"]):
            topic = f"{TOPIC}-{number}"
            wire.create_topic(broker.address, topic, scenario["partitions"])
            wire.write_to_each(broker.address, topic, scenario["partitions"])
        broker.stop()
        broker.start()
        time.sleep(SETTLE_SECONDS)
        seconds = bench.options.seconds
        with measure.Sampler(broker.pid) as sampler:
            time.sleep(seconds)
            end = time.monotonic()
        metrics = bench_module.of_process(broker, sampler, end - seconds, end, 0)
        metrics["disk_bytes"] = measure.disk_bytes(broker.data)
        return {"": metrics}


def cold_reader(bench, scenario, spec):
    """Producers at a rate, alone and beside a consumer of what is not in the page cache."""
    with bench.broker(scenario, spec) as broker:
        size = bench.fill(broker, "cold", 1, bench.size(scenario["cold_bytes"]))
        rate = rate_of(bench, broker, scenario)
        broker.stop()
        measure.evict(broker.data)
        resident = measure.resident_share(broker.data)
        if resident > 0.01:
            bench.note(f"{spec.name}: {resident:.0%} of the cold data was in the page cache at the start")
        broker.start()
        alone = loaded(bench, broker, scenario, rate=rate)
        warmup = broker.spec.warmup_seconds or bench.options.warmup_seconds
        reader = bench.start_perf(
            broker, "consume", {"topic": "cold"}, bench.options.seconds + warmup, warmup=0, nice=scenario["reader_nice"]
        )
        beside = loaded(bench, broker, scenario, rate=rate)
        read = bench_module.parse(bench_module.finish(reader, bench_module.PERF_GRACE_SECONDS), reader)["read"]
        beside["read_bytes_per_second"] = read["bytes_per_second"]
        if read["bytes"] > size:
            bench.note(f"{spec.name}: the reader reached the end of the cold data and began anew with warm data")
        return {"alone": alone, "beside a cold reader": beside}


def killed(bench, scenario, spec):
    """kill -9 under load, and the time until the next record is acknowledged."""
    with bench.broker(scenario, spec) as broker:
        count = scenario["partitions"]
        size = bench.fill(broker, TOPIC, count, bench.size(scenario["bytes"]))
        load = {**scenario["load"], "topic": TOPIC, "partitions": count}
        client = bench.start_perf(broker, "produce", load, bench.options.seconds)
        time.sleep(max(bench.options.seconds / 2, 1))
        broker.kill()
        client.kill()
        client.communicate()
        broker.start()
        memory = measure.memory(broker.pid)
        return {
            "": {
                "first_record_ms": broker.first_record_seconds * 1000,
                "rss_bytes": memory["VmHWM"],
                "anon_bytes": memory["RssAnon"],
                "log_bytes": size,
            }
        }


def connections(bench, scenario, spec):
    """A load beside many connections that wait for a record that does not come."""
    parts = {}
    with bench.broker(scenario, spec) as broker:
        wire.create_topic(broker.address, PARKED_TOPIC, 1)
        rate = rate_of(bench, broker, scenario)
        for count in scenario["connections"]:
            before = measure.memory(broker.pid)["RssAnon"] if broker.pid else 0
            parked = [wire.park(broker.address, PARKED_TOPIC, PARK_MS) for _ in range(count)]
            time.sleep(SETTLE_SECONDS)
            grown = measure.memory(broker.pid)["RssAnon"] - before if broker.pid else 0
            metrics = loaded(bench, broker, scenario, rate=rate)
            if count and broker.pid:
                metrics["anon_bytes_per_connection"] = max(grown, 0) / count
            for connection in parked:
                connection.socket.close()
            parts[plural(count, "connection")] = metrics
            time.sleep(SETTLE_SECONDS)
    return parts


def growth(bench, scenario, spec):
    """The same loads with little and with much in the log; what is read is hot."""
    parts = {}
    seconds = min(bench.options.seconds, scenario["seconds"])
    write = {**scenario["load"], "topic": TOPIC}
    read = {**scenario["reads"], "topic": TOPIC, "last-records": hot_records(bench, scenario)}
    random = {**read, **scenario["random"], "from": "random"}
    with bench.broker(scenario, spec) as broker:
        for amount, nominal in scenario["sizes"].items():
            log_bytes = {"log_bytes": bench.fill(broker, TOPIC, 1, bench.size(nominal))}
            os.sync()
            for part, mode, load in ("catch-up", "consume", read), ("random", "consume", random), ("ingest", "produce", write):
                resident = {"resident_share": measure.resident_share(broker.data)} if broker.pid else {}
                parts[f"{amount}: {part}"] = log_bytes | resident | bench.perf(broker, mode, load, seconds)
    return parts


def hot_records(bench, scenario):
    return max(1, int(bench.size(scenario["hot_bytes"])) // scenario["load"]["record-bytes"])


def real_clients(bench, scenario, spec):
    """Clients that people use, warmed up by a load of ours."""
    with bench.broker(scenario, spec) as broker:
        bench.perf(broker, "produce", {"topic": "warm"}, seconds=2)
        return clients.measure_all(bench, scenario, broker)


def plural(count, noun):
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


KINDS = {
    "produce": produce,
    "consume": consume,
    "latency": latency,
    "at-rate": at_rate,
    "partitions": partitions,
    "first-record": first_record,
    "idle": idle,
    "cold-reader": cold_reader,
    "killed": killed,
    "connections": connections,
    "growth": growth,
    "clients": real_clients,
    **over_http.KINDS,
}
