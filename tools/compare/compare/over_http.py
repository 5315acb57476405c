"""The scenarios over HTTP: one function for each kind, as in figures.py."""

import http.client
import json
import os
import socket
import subprocess
import time

from . import bench as bench_module
from . import measure, wire

TOPIC = "compare"
LOAD_GRACE_SECONDS = 60
SETTLE_SECONDS = 2
# What makes the values of a topic: bodies of lines, stored as they come.
FILL_BODY_BYTES = 1_000_000


def requests(bench, scenario, spec):
    """One small request after the other on each of many connections, and the same records over Kafka's port."""
    with bench.broker(scenario, spec) as broker:
        parts = {}
        if spec.kind == "millstream":
            wire.create_topic(broker.address, TOPIC, 1)
            port = bench.perf(broker, "produce", {**scenario["kafka"], "topic": TOPIC})
            parts["Kafka's port"] = port | per_request(port)
        parts["HTTP"] = load(bench, broker, scenario["load"])
        return parts


def lines(bench, scenario, spec):
    """Large bodies of many records."""
    with bench.broker(scenario, spec) as broker:
        wire.create_topic(broker.address, TOPIC, 1)
        return {"": load(bench, broker, scenario["load"])}


def follow(bench, scenario, spec):
    """One that reads on, and many that wait."""
    with bench.broker(scenario, spec) as broker:
        wire.create_topic(broker.address, TOPIC, 1)
        bench.fill(broker, TOPIC, 1, bench.size(scenario["bytes"]))
        os.sync()
        parts = {"reads": load(bench, broker, {**scenario["load"], "stream": True})}
        wire.create_topic(broker.address, "quiet", 1)
        before = measure.memory(broker.pid)["RssAnon"]
        waiting = [park(broker, "/t/quiet?follow&from=latest") for _ in range(scenario["followers"])]
        time.sleep(SETTLE_SECONDS)
        grown = measure.memory(broker.pid)["RssAnon"] - before
        parts["waits"] = {"anon_bytes_per_connection": max(grown, 0) / scenario["followers"]}
        for connection in waiting:
            connection.close()
        return parts


def keys(bench, scenario, spec):
    """The newest value of a key among many."""
    with bench.broker(scenario, spec) as broker:
        if spec.kind == "millstream":
            count = int(scenario["keys"] * min(1, bench.options.scale))
            fill_keys(broker, count)
        else:
            count = 1
        return {"": load(bench, broker, {**scenario["load"], "numbers": count})}


def fill_keys(broker, count):
    configs = {"key.index": "true"}
    ask(broker, "PUT", f"/api/topics/{TOPIC}", {"partitions": 1, "configs": configs}, (200, 201))
    body, size = [], 0
    for number in range(count):
        body.append(f'{{"key":"{number}","value":"{"x" * 100}"}}\n')
        size += len(body[-1])
        if size >= FILL_BODY_BYTES or number == count - 1:
            headers = {"Content-Type": "application/x-ndjson"}
            ask(broker, "POST", f"/t/{TOPIC}", "".join(body), (200,), headers)
            body, size = [], 0
    deadline = time.monotonic() + LOAD_GRACE_SECONDS
    while ask(broker, "GET", f"/t/{TOPIC}/keys/0", None, (200, 503)) != 200:
        if time.monotonic() > deadline:
            raise bench_module.Failed("the index of keys is not there")
        time.sleep(0.1)


def ask(broker, method, path, body, accepted, headers=None):
    connection = http.client.HTTPConnection(broker.http_address, timeout=LOAD_GRACE_SECONDS)
    text = body if body is None or isinstance(body, str) else json.dumps(body)
    connection.request(method, path, text, headers or {})
    answer = connection.getresponse()
    said = answer.read()
    connection.close()
    if answer.status not in accepted:
        raise bench_module.Failed(f"{method} {path}: {answer.status} {said[:200]}")
    return answer.status


def park(broker, path):
    """A connection with an answer that goes on; its head has come."""
    host, port = broker.http_address.rsplit(":", 1)
    connection = socket.create_connection((host, int(port)), timeout=LOAD_GRACE_SECONDS)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    if not connection.recv(4096).startswith(b"HTTP/1.1 200"):
        raise bench_module.Failed(f"{path} is not followed")
    return connection


def load(bench, broker, flags):
    """Runs the floor's HTTP client, and returns what it and /proc say about the measured part."""
    if bench.tools.floor is None:
        raise bench_module.Failed("the floor is not built")
    options = bench.options
    seconds, warmup = options.seconds, options.warmup_seconds
    words = [bench.tools.floor, "http-load", "--address", broker.http_address]
    words += ["--seconds", seconds, "--warmup-seconds", warmup, *bench_module.as_flags(flags)]
    with measure.on_cores({options.client_core}):
        process = subprocess.Popen(
            [str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    with measure.Sampler(broker.pid, process.pid) as sampler:
        printed = bench_module.finish(process, seconds + warmup + LOAD_GRACE_SECONDS)
        end = time.monotonic()
    printed = bench_module.parse(printed, process)
    metrics = {"bytes_per_second": printed["bytes_per_second"]}
    if "requests_per_second" in printed:
        metrics["records_per_second"] = printed["requests_per_second"]
        metrics |= {name: printed[name] for name in ("p50_us", "p99_us", "p999_us")}
    moved = metrics["bytes_per_second"] * seconds
    metrics |= bench_module.of_process(broker, sampler, end - seconds, end, moved)
    metrics["others_cores"] = sampler.others_seconds(end - seconds, end) / seconds
    metrics["client_cores"] = sampler.cpu_seconds(process.pid, end - seconds, end) / seconds
    if not broker.is_running():
        raise bench_module.Failed(f"{broker.spec.name} ended under the load")
    return metrics | per_request(metrics)


def per_request(metrics):
    count = metrics.get("records_per_second")
    return {"cpu_us_per_request": metrics["cpu_cores"] / count * 1e6} if count and "cpu_cores" in metrics else {}


KINDS = {"http-requests": requests, "http-lines": lines, "http-follow": follow, "http-keys": keys}
