"""What a shell user does with curl, as docs/http.md tells it."""

import gzip
import json
import pathlib
import shutil
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from http_broker import HttpBroker, run_suite  # noqa: E402

from suite import CALL_SECONDS, WORK, Wrong, case, equal, expect, expect_not, until  # noqa: E402

BROKER = HttpBroker(WORK / "broker", "--lag-interval-ms", "500")


def curl(path, *options, input=None):
    """Runs curl and returns what it printed, as bytes. An answer that is no success is a failure, unless its head is asked for."""
    command = ["curl", "-sS", "--max-time", "30", *options, f"{BROKER.url}/{path}"]
    done = subprocess.run(command, input=input, capture_output=True, timeout=CALL_SECONDS)
    if done.returncode != 0:
        raise Wrong(f"{' '.join(command[3:])}: exit status {done.returncode}: {done.stderr.decode().strip()}")
    return done.stdout


def text(path, *options, **given):
    return curl(path, *options, **given).decode()


def ask(path, *options, **given):
    return json.loads(curl(path, *options, **given))


def answer(path, *options, **given):
    """Status, headers with small names, and body."""
    head, body = curl(path, "-i", *options, **given).split(b"\r\n\r\n", 1)
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return int(first.split()[1]), {name.lower(): value for name, value in headers.items()}, body.decode()


def refused(status, path, *options, **given):
    """The problem that the broker answers with."""
    found, headers, body = answer(path, *options, **given)
    equal(found, status)
    equal(headers["content-type"], "application/problem+json")
    return json.loads(body)


def put(topic, partitions=1, **configs):
    body = {"partitions": partitions, "configs": {name.replace("_", "."): value for name, value in configs.items()}}
    return ask(f"api/topics/{topic}", "-X", "PUT", "-d", json.dumps(body))


def values(topic):
    return text(f"t/{topic}?from=earliest&max=10000").splitlines()


class Following:
    """A curl -N that goes on by itself, and what it has printed so far."""

    def __init__(self, path, *options):
        command = ["curl", "-sSN", "--max-time", "60", *options, f"{BROKER.url}/{path}"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.lines = []
        self.reading = threading.Thread(target=self.read)
        self.reading.start()

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.reading.join()


@case("curl -d sends a record, curl reads it")
def send_and_read():
    sent = ask("t/orders", "-d", "hello")
    equal({**sent, "timestamp": 0}, {"topic": "orders", "partition": 0, "offset": 0, "timestamp": 0, "duplicate": False})
    if abs(sent["timestamp"] / 1000 - time.time()) > 60:
        raise Wrong(f"a timestamp that is not now: {sent}")
    ask("t/orders?key=ann&timestamp=2026-01-31T10:00:00Z", "-d", '{"total":7}', "-H", "Kafka-Header-Source: shop")
    equal(text("t/orders"), 'hello\n{"total":7}\n')
    [record] = ask("t/orders?key=ann", "-H", "Accept: application/json")
    wanted = {"partition": 0, "offset": 1, "timestamp": 1769853600000, "key": "ann", "value": '{"total":7}', "headers": {"source": "shop"}}
    equal(record, wanted)
    equal(text("t/orders?grep=ell&from=earliest"), "hello\n")
    equal(text("t/orders?header=source:shop&from=earliest"), '{"total":7}\n')


@case("one record as it is, with its type, time and headers")
def raw():
    data = bytes(range(256)) * 40
    ask("t/raw", "--data-binary", "@-", "-H", "Kafka-Header-Content-Type: image/png", "-H", "Kafka-Header-By: curl", input=data)
    if curl("t/raw/0/0") != data:
        raise Wrong("other bytes came back")
    _, headers, _ = head_of("t/raw/0/0")
    equal([headers["content-type"], headers["kafka-header-by"]], ["image/png", "curl"])
    refused(404, "t/raw/0/99")
    refused(404, "t/raw/7/0")
    refused(416, "t/raw?partition=0&from=99")


def head_of(path, *options):
    """As `answer`, of an answer whose body is no text."""
    printed = curl(path, "-D", "-", "-o", "/dev/null", *options).decode()
    first, *lines = printed.strip().split("\r\n")
    return int(first.split()[1]), {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}, ""


@case("curl -N follows, and ends at its time limit")
def follow():
    ask("t/followed", "-d", "before")
    with Following("t/followed?follow") as following:
        until(lambda: following.lines == ["before"], "what was there")
        for number in range(20):
            ask("t/followed", "-d", f"live {number}")
        until(lambda: following.lines == ["before", *(f"live {number}" for number in range(20))], "what came")
    started = time.monotonic()
    done = subprocess.run(["curl", "-sN", "-m", "1", f"{BROKER.url}/t/followed?follow"], capture_output=True, timeout=30)
    equal([done.returncode, len(done.stdout.splitlines())], [28, 10])
    if time.monotonic() - started > 5:
        raise Wrong("the time limit came late")


@case("curl -N follows as server-sent events, and goes on at Last-Event-ID")
def events():
    put("evented", partitions=2)
    for number in range(10):
        ask(f"t/evented?partition={number % 2}", "-d", f"event {number}")
    accept = ("-H", "Accept: text/event-stream")
    with Following("t/evented?from=earliest", *accept) as following:
        until(lambda: "event: caught-up" in following.lines, "caught-up")
        ids = [line[4:] for line in following.lines if line.startswith("id: ")]
    equal([len(ids), ids[9]], [11, "0:5,1:5"])
    with Following("t/evented?from=earliest", *accept, "-H", f"Last-Event-ID: {ids[3]}") as following:
        until(lambda: "event: caught-up" in following.lines, "caught-up again")
        data = [json.loads(line[6:]) for line in following.lines if '"value"' in line]
    equal(len(data), 6)


@case("a read waits for a record")
def wait():
    put("awaited")
    sending = threading.Timer(1, lambda: ask("t/awaited", "-d", "late"))
    sending.start()
    started = time.monotonic()
    equal(text("t/awaited?wait=20s"), "late\n")
    if not 0.5 < time.monotonic() - started < 5:
        raise Wrong(f"it took {time.monotonic() - started:.1f} s")
    sending.join()
    equal(text("t/awaited?wait=500ms"), "")


@case("Millstream-Next goes on: nothing twice, nothing left out")
def go_on():
    put("paged", partitions=3)
    ask("t/paged?split=lines", "--data-binary", "@-", input="".join(f"{n}\n" for n in range(1000)).encode())
    found, next_ = [], "earliest"
    for _ in range(12):
        _, headers, body = answer(f"t/paged?from={next_}&max=97")
        found += body.splitlines()
        next_ = headers["millstream-next"]
    equal(sorted(found, key=int), [str(number) for number in range(1000)])


@case("once, by message id: over a kill (SIGKILL) too")
def once():
    put("payments", dedup_window_ms="600000")
    send = ("t/payments", "-d", '{"total":7}', "-H", "Idempotency-Key: order-17")
    first, second = ask(*send), ask(*send)
    equal([first["duplicate"], second["duplicate"], second["offset"]], [False, True, first["offset"]])
    BROKER.kill_and_start()
    third = ask(*send)
    equal([third["duplicate"], third["offset"]], [True, first["offset"]])
    refused(422, "t/payments", "-d", '{"total":8}', "-H", "Idempotency-Key: order-17")
    lines = ("t/payments?split=lines", "--data-binary", "a\nb\n", "-H", "Idempotency-Key: file")
    ask(*lines)
    equal([entry["duplicate"] for entry in ask(*lines)], [True, True])
    equal(values("payments"), ['{"total":7}', "a", "b"])


@case("only if nothing has changed: If-Match and If-None-Match")
def conditions():
    put("profiles", cleanup_policy="compact", key_index="true")
    _, headers, _ = answer("t/profiles?partition=0")
    equal(headers["etag"], '"p:0"')
    ask("t/profiles?partition=0&key=zoe", "-d", "first", "-H", 'If-Match: "p:0"')
    problem = refused(412, "t/profiles?partition=0&key=zoe", "-d", "late", "-H", 'If-Match: "p:0"')
    equal([problem["current"], problem["no_side_effects"]], [1, True])
    ask("t/profiles?key=ann", "-d", '{"v":1}', "-H", "If-None-Match: *")
    refused(412, "t/profiles?key=ann", "-d", '{"v":1}', "-H", "If-None-Match: *")
    ask("t/profiles?key=ann", "-d", '{"v":2}', "-H", 'If-Match: "k:1"')
    equal(refused(412, "t/profiles?key=ann", "-d", '{"v":3}', "-H", 'If-Match: "k:1"')["current"], 2)


@case("the newest value of a key, with ETag and 304")
def keys():
    put("cache", cleanup_policy="compact", key_index="true")
    for value in ("old", "new"):
        ask("t/cache?key=ann%2Fb", "-d", value)
    status, headers, body = answer("t/cache/keys/ann%2Fb")
    equal([status, headers["etag"], body], [200, '"k:1"', "new"])
    status, _, body = answer("t/cache/keys/ann%2Fb", "-H", 'If-None-Match: "k:1"')
    equal([status, body], [304, ""])
    # As a shell user has it: curl keeps the tag, and asks with it.
    kept = WORK / "etag"
    equal(text("t/cache/keys/ann%2Fb", "--etag-save", str(kept)), "new")
    equal(text("t/cache/keys/ann%2Fb", "--etag-compare", str(kept)), "")
    ask("t/cache?key=ann%2Fb", "-d", "newer")
    equal(text("t/cache/keys/ann%2Fb", "--etag-compare", str(kept)), "newer")
    equal(text("t/cache/keys?prefix=ann").splitlines(), ["ann/b"])
    ask("t/cache", "-H", "Content-Type: application/x-ndjson", "-d", '{"key":"ann/b","value":null}')
    refused(404, "t/cache/keys/ann%2Fb")
    equal(text("t/cache/keys"), "")


@case("topics: created, shown, changed, deleted")
def topics():
    made = put("made", partitions=2, retention_ms="3600000")
    equal([len(made["partitions"]), made["configs"]], [2, {"retention.ms": "3600000"}])
    expect(json.dumps(ask("api/topics")), '"made"')
    refused(409, "api/topics/made", "-X", "PUT", "-d", '{"partitions":5}')
    ask("api/topics/made", "-X", "PATCH", "-d", '{"partitions":3,"configs":{"retention.ms":null}}')
    shown = ask("api/topics/made")
    equal([len(shown["partitions"]), shown["configs"]], [3, {}])
    configs = {entry["name"]: entry["value"] for entry in ask("api/topics/made/configs")}
    equal(configs["retention.ms"], "604800000")
    for number in range(5):
        ask("t/made?partition=0", "-d", f"{number}")
    curl("t/made?before=0:3", "-X", "DELETE")
    equal(values("made"), ["3", "4"])
    refused(400, "api/topics/made", "-X", "DELETE")
    curl("api/topics/made?confirm=made", "-X", "DELETE")
    problem = refused(404, "t/made?from=earliest")
    equal([problem["type"], problem["kafka_error"]], ["urn:millstream:problem:unknown-topic", 3])


@case("groups: committed, read on, reset, lag")
def groups():
    put("jobs", partitions=2)
    ask("t/jobs?split=lines", "--data-binary", "@-", input="".join(f"{n}\n" for n in range(20)).encode())
    seen, commit = [], ""
    for _ in range(30):
        path = f"api/groups/work/next?topic=jobs&max=7&wait=500ms{commit}"
        got = ask(path, "-X", "POST", "-H", "Client-Id: shell")
        seen += [int(record["value"]) for record in got["records"]]
        commit = f"&commit={got['commit']}"
        if not got["records"]:
            break
    equal(sorted(seen), list(range(20)))
    equal(ask("api/groups/work")["lag"], 0)
    plan = ask("api/groups/work/offsets", "-d", '{"topic":"jobs","to":"earliest","dry_run":true}')
    equal(sum((entry["from"] or 0) - entry["to"] for entry in plan), 20)
    equal(sum(entry["offset"] for entry in ask("api/groups/work/offsets")), 20)
    ask("api/groups/work/offsets", "-d", '{"topic":"jobs","to":"earliest"}')
    equal(ask("api/groups/work")["lag"], 20)
    body = '{"offsets":[{"topic":"jobs","partition":0,"offset":7,"metadata":"by hand"}]}'
    curl("api/groups/byhand/offsets", "-X", "PUT", "-d", body)
    wanted = [{"topic": "jobs", "partition": 0, "offset": 7, "metadata": "by hand"}]
    equal(ask("api/groups/byhand/offsets"), wanted)
    until(lambda: {"work", "byhand"} <= {entry["group"] for entry in ask("api/groups")}, "the list of groups")


@case("a gzipped body, and a zstd one")
def packed():
    lines = "".join(f"packed {number}\n" for number in range(5000)).encode()
    sent = ask("t/packed?split=lines", "--data-binary", "@-", "-H", "Content-Encoding: gzip", input=gzip.compress(lines))
    equal(len(sent), 5000)
    wanted = lines.decode().splitlines()
    equal(values("packed"), wanted)
    if shutil.which("zstd"):
        body = subprocess.run(["zstd", "-c"], input=lines, capture_output=True, check=True).stdout
        ask("t/packed?split=lines", "--data-binary", "@-", "-H", "Content-Encoding: zstd", input=body)
        equal(values("packed"), wanted + wanted)
    refused(415, "t/packed", "-d", "x", "-H", "Content-Encoding: br")
    refused(400, "t/packed", "-d", "this is not gzip", "-H", "Content-Encoding: gzip")


@case("NDJSON: what was read can be sent again, and a bad line is told")
def ndjson():
    ndjson_type = ("-H", "Content-Type: application/x-ndjson")
    records = [
        {"key": "a", "value": "1", "headers": {"by": "curl"}, "timestamp": 1769853600000},
        {"key": None, "value": {"base64": "AP8="}},
        {"key": "gone", "value": None},
        {"value": {"an": ["object"]}},
    ]
    ask("t/lines", *ndjson_type, "--data-binary", "@-", input="\n".join(map(json.dumps, records)).encode())
    copy = curl("t/lines?from=earliest", "-H", "Accept: application/x-ndjson")
    read = [json.loads(line) for line in copy.splitlines()]
    equal([record["value"] for record in read], ["1", {"base64": "AP8="}, None, '{"an": ["object"]}'])
    ask("t/copied", *ndjson_type, "--data-binary", "@-", input=copy)
    equal(curl("t/copied?from=earliest", "-H", "Accept: application/x-ndjson").decode(), copy.decode())
    status, _, body = answer("t/lines", *ndjson_type, "--data-binary", '{"value":"good"}\n[]\n{"value":"good too"}\n')
    entries = json.loads(body)
    equal([status, ["offset" in entry for entry in entries]], [207, [True, False, True]])
    equal(len(ask("t/json?split=json", "-d", '{"a":1} {"b":2}[3]')), 3)


@case("a million lines of a file")
def large():
    file = WORK / "large.txt"
    file.write_text("".join(f"line {number}\n" for number in range(1_000_000)))
    printed = curl("t/large?split=lines", "--data-binary", f"@{file}")
    equal(len(json.loads(printed)), 1_000_000)
    equal(text("t/large"), "".join(f"line {number}\n" for number in range(999_990, 1_000_000)))


@case("--http2-prior-knowledge: send, read, many at once, a body in many frames, follow")
def http2():
    version = ("--http2-prior-knowledge", "-w", "version %{http_version}")
    sent, spoken = text("t/second", *version, "-d", "over HTTP/2").rsplit("version ", 1)
    equal([json.loads(sent)["offset"], spoken], [0, "2"])
    equal(text("t/second", *version), "over HTTP/2\nversion 2")
    urls = [f"{BROKER.url}/t/second/0/0" for _ in range(50)]
    # A connection each: Debian 12's curl fails when it uses one a second time, with any server.
    at_once = ("--parallel", "--parallel-immediate", "--parallel-max", "50")
    command = ["curl", "-sS", "--http2-prior-knowledge", *at_once, "--max-time", "30", "-w", "\n", *urls]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    equal([done.returncode, done.stdout.count("over HTTP/2")], [0, 50])
    body = "".join(f"{number}\n" for number in range(100_000)).encode()
    equal(len(ask("t/bulk2?split=lines", "--http2-prior-knowledge", "--data-binary", "@-", input=body)), 100_000)
    with Following("t/second?follow", "--http2-prior-knowledge") as following:
        until(lambda: following.lines == ["over HTTP/2"], "what was there")
        ask("t/second", "-d", "live")
        until(lambda: following.lines == ["over HTTP/2", "live"], "what came")


@case("what cannot be is refused, with a problem that says why")
def problems():
    equal(refused(400, "t/orders?frm=earliest")["status"], 400)
    refused(400, "t/a%20b", "-d", "x")
    refused(404, "nowhere")
    _, headers, _ = answer("api/topics", "-X", "POST", "-d", "{}")
    expect(headers["allow"], "GET")
    refused(406, "t/orders", "-H", "Accept: image/png")
    put("small", max_message_bytes="1000")
    refused(413, "t/small", "--data-binary", "@-", input=b"x" * 5000)
    refused(421, "api/topics", "-H", "Host: evil.example")
    refused(403, "t/orders", "-d", "x", "-H", "Origin: http://evil.example")
    expect_not("".join(values("orders")), "x\n")


@case("health and metrics")
def health():
    equal([answer(path)[0] for path in ("healthz", "readyz")], [200, 200])
    expect(text("metrics"), "millstream_info{")
    equal(ask("openapi.json")["openapi"][:3], "3.1")
    expect(text("", "-H", "Accept: text/html"), "<title>Millstream</title>")
    equal(text("", "-H", "Accept: application/json"), "{}")


def main():
    printed = subprocess.run(["curl", "--version"], capture_output=True, text=True, check=True).stdout
    run_suite(BROKER, f"curl {printed.split()[1]}.")


if __name__ == "__main__":
    main()
