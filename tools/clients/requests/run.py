"""What a Python service does over HTTP with requests, and with sseclient-py where it follows."""

import gzip
import importlib.metadata
import json
import pathlib
import sys
import threading
import time

import requests
import sseclient

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "curl"))

from http_broker import HttpBroker, run_suite  # noqa: E402

from suite import CALL_SECONDS, WORK, Wrong, case, equal, expect, until  # noqa: E402

BROKER = HttpBroker(WORK / "broker", "--lag-interval-ms", "500")
SESSION = requests.Session()
NDJSON = {"Content-Type": "application/x-ndjson"}
EVENTS = {"Accept": "text/event-stream"}
JSON = {"Accept": "application/json"}


def ask(method, path, status=200, **given):
    """Asks the broker over the one session. Any other status than that is a failure."""
    answer = SESSION.request(method, f"{BROKER.url}/{path}", timeout=30, **given)
    if answer.status_code != status:
        raise Wrong(f"{method} {path}: {answer.status_code} instead of {status}: {answer.text[:300]}")
    return answer


def topic(name, partitions=1, **configs):
    configs = {key.replace("_", "."): value for key, value in configs.items()}
    ask("PUT", f"api/topics/{name}", 201, json={"partitions": partitions, "configs": configs})


def send(name, *records):
    body = "\n".join(map(json.dumps, records))
    return ask("POST", f"t/{name}", data=body.encode(), headers=NDJSON).json()


def read(name, **parameters):
    return ask("GET", f"t/{name}", params={"from": "earliest", "max": 10000, **parameters}, headers=JSON).json()


@case("send: text, bytes, JSON, a key, a time, headers")
def produce():
    first = ask("POST", "t/made", data="tea".encode()).json()
    equal([first["topic"], first["partition"], first["offset"], first["duplicate"]], ["made", 0, 0, False])
    ask("POST", "t/made", json={"total": 7}, params={"key": "ann/ü", "timestamp": 1769853600000}, headers={"Kafka-Header-Source": "shop"})
    ask("POST", "t/made", data=bytes(range(256)))
    ask("POST", "t/made", data=b"")
    ask("POST", "t/made", data=gzip.compress(b"packed"), headers={"Content-Encoding": "gzip"})
    one, two, three, four, five = read("made")
    equal([one["key"], one["value"], one["headers"]], [None, "tea", {}])
    equal([two["key"], json.loads(two["value"]), two["headers"]["source"], two["timestamp"]], ["ann/ü", {"total": 7}, "shop", 1769853600000])
    equal(list(three["value"]), ["base64"])
    equal([four["value"], five["value"]], ["", "packed"])
    equal(ask("GET", "t/made/0/2").content, bytes(range(256)))


@case("read: text, JSON, NDJSON, one record, a range of them, by key, by text, by header, by time")
def forms():
    topic("forms", partitions=2)
    send("forms", *({"key": f"k{n % 3}", "value": f"v{n}", "partition": n % 2, "timestamp": 1769853600000 + n * 1000, "headers": {"n": f"{n}"}} for n in range(30)))
    equal(ask("GET", "t/forms").text.splitlines(), [f"v{n}" for n in range(20, 30)])
    equal([record["value"] for record in read("forms")], [f"v{n}" for n in range(30)])
    lines = ask("GET", "t/forms", params={"from": "-3"}, headers={"Accept": "application/x-ndjson"}).text.splitlines()
    equal([json.loads(line)["value"] for line in lines], ["v27", "v28", "v29"])
    raw = ask("GET", "t/forms/1/3")
    equal([raw.text, raw.headers["Kafka-Header-n"], raw.headers["Millstream-Timestamp"]], ["v7", "7", "1769853607000"])
    equal([record["offset"] for record in read("forms", **{"from": "5", "partition": 1, "max": 3})], [5, 6, 7])
    equal(len(read("forms", key="k1")), 10)
    equal([record["value"] for record in read("forms", grep="v13")], ["v13"])
    equal([record["value"] for record in read("forms", header="n:7")], ["v7"])
    equal([record["value"] for record in read("forms", **{"from": "2026-01-31T10:00:25Z"})], [f"v{n}" for n in range(25, 30)])


@case("read on with Millstream-Next: nothing twice, nothing left out")
def read_on():
    topic("paged", partitions=3)
    ask("POST", "t/paged", params={"split": "lines"}, data="\n".join(map(str, range(500))).encode())
    send("paged", *({"value": f"{n}", "partition": n % 3} for n in range(500, 1000)))
    seen, place = [], "earliest"
    while True:
        answer = ask("GET", "t/paged", params={"from": place, "max": 77})
        place = answer.headers["Millstream-Next"]
        if not answer.text:
            break
        seen += map(int, answer.text.split())
    equal(sorted(seen), list(range(1000)))


@case("NDJSON in bulk, generated while it is sent, and a bad line in it")
def bulk():
    def lines():
        for number in range(50_000):
            yield json.dumps({"key": f"k{number}", "value": {"n": number}}).encode() + b"\n"

    # A generator is sent in chunks, without a length.
    stored = ask("POST", "t/bulk", data=lines(), headers=NDJSON).json()
    equal([len(stored), stored[-1]["offset"]], [50_000, 49_999])
    answer = ask("POST", "t/bulk", 207, data=b'{"value":"a"}\nno JSON\n{"value":"b"}\n', headers=NDJSON).json()
    equal(["offset" in entry for entry in answer], [True, False, True])
    copy = ask("GET", "t/bulk", params={"from": "49990"}, headers={"Accept": "application/x-ndjson"}).content
    equal(len(ask("POST", "t/bulkcopy", data=copy, headers=NDJSON).json()), 12)


def events(path, **given):
    answer = SESSION.get(f"{BROKER.url}/{path}", stream=True, timeout=(5, 30), headers={**EVENTS, **given.pop("headers", {})}, **given)
    if answer.status_code != 200:
        raise Wrong(f"{path}: {answer.status_code} {answer.text[:300]}")
    return answer, sseclient.SSEClient(answer).events()


@case("sseclient-py: records, caught-up, and each that comes")
def follow():
    topic("followed", partitions=2)
    send("followed", *({"value": f"r{n}", "partition": n % 2} for n in range(6)))
    answer, stream = events("t/followed", params={"from": "earliest"})
    with answer:
        first = [next(stream) for _ in range(7)]
        equal([event.event for event in first], ["record"] * 6 + ["caught-up"])
        equal(sorted(json.loads(event.data)["value"] for event in first[:6]), [f"r{n}" for n in range(6)])
        equal([first[5].id, json.loads(first[6].data)["next"]], ["0:3,1:3", "0:3,1:3"])
        send("followed", {"value": "a line\nand another", "partition": 1})
        event = next(stream)
        equal([event.event, event.id, json.loads(event.data)["value"]], ["record", "0:3,1:4", "a line\nand another"])


@case("sseclient-py: a ping after 15 seconds without a record, and an error event when the topic goes")
def named_events():
    topic("quiet")
    answer, stream = events("t/quiet")
    with answer:
        equal(next(stream).event, "caught-up")
        started = time.monotonic()
        ping = next(stream)
        equal([ping.event, json.loads(ping.data)["next"]], ["ping", "0:0"])
        if not 10 < time.monotonic() - started < 25:
            raise Wrong(f"the ping came after {time.monotonic() - started:.0f} s")
        ask("DELETE", "api/topics/quiet", 204, params={"confirm": "quiet"})
        event = next(stream)
        equal(event.event, "error")
        equal(json.loads(event.data)["status"], 404)
        equal(list(stream), [])


@case("sseclient-py goes on at Last-Event-ID after kills (SIGKILL): nothing twice, nothing left out")
def resume():
    count = 600
    topic("resumed", partitions=3, dedup_window_ms="600000")
    sending = threading.Thread(target=send_all, args=("resumed", count))
    sending.start()
    seen, place, kills = [], None, 0
    deadline = time.monotonic() + CALL_SECONDS
    while len(seen) < count and time.monotonic() < deadline:
        try:
            given = {"headers": {"Last-Event-ID": place}} if place else {}
            answer, stream = events("t/resumed", params={"from": "earliest"}, **given)
            with answer:
                for event in stream:
                    place = event.id or place
                    if event.event == "record":
                        seen.append(json.loads(event.data)["value"])
                    if len(seen) > 150 * (kills + 1) and kills < 2:
                        kills += 1
                        BROKER.kill_and_start()
                    if len(seen) == count:
                        break
        except (requests.RequestException, Wrong):
            time.sleep(0.2)
    sending.join()
    equal(kills, 2)
    equal(sorted(seen), sorted(f"record {n}" for n in range(count)))
    equal(sorted(record["value"] for record in read("resumed")), sorted(seen))


def send_all(name, count):
    """Sends each until the broker says that it is there; its message id keeps it from being there twice."""
    for number in range(count):
        while True:
            try:
                headers = {"Idempotency-Key": f"id-{number}"}
                if requests.post(f"{BROKER.url}/t/{name}", data=f"record {number}", headers=headers, timeout=10).ok:
                    break
            except requests.RequestException:
                time.sleep(0.1)
        time.sleep(0.005)


@case("an idempotency key: a retry is told of the first, another value is refused")
def idempotency():
    topic("payments", partitions=3, dedup_window_ms="600000")
    key = {"Idempotency-Key": "order-17"}
    first = ask("POST", "t/payments", json={"total": 7}, headers=key).json()
    again = ask("POST", "t/payments", json={"total": 7}, headers=key).json()
    equal([again["duplicate"], again["partition"], again["offset"]], [True, first["partition"], first["offset"]])
    problem = ask("POST", "t/payments", 422, json={"total": 8}, headers=key).json()
    equal([problem["retriable"], problem["no_side_effects"]], [False, True])
    equal(len(read("payments")), 1)


@case("If-Match: of writers that race for a place one succeeds each time")
def conflict():
    topic("contested")
    won = []
    lock = threading.Lock()

    def writer(name):
        session = requests.Session()
        for _ in range(20):
            while True:
                tag = session.get(f"{BROKER.url}/t/contested", params={"partition": 0}, timeout=30).headers["ETag"]
                sent = session.post(f"{BROKER.url}/t/contested", params={"partition": 0}, data=f"{name} at {tag}", headers={"If-Match": tag}, timeout=30)
                if sent.status_code == 200:
                    with lock:
                        won.append((sent.json()["offset"], tag))
                    break
                if sent.status_code != 412 or "current" not in sent.json():
                    raise Wrong(f"{sent.status_code} {sent.text}")

    writers = [threading.Thread(target=writer, args=(f"writer {n}",)) for n in range(4)]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    equal(sorted(won), [(offset, f'"p:{offset}"') for offset in range(80)])
    equal(len(read("contested")), 80)


@case("keys: the newest value, its version, changed only if it is still that, deleted, listed, followed")
def keys():
    topic("profiles", partitions=3, cleanup_policy="compact", key_index="true")
    for name in ("ann", "bob"):
        ask("POST", "t/profiles", json={"v": 1}, params={"key": name}, headers={"If-None-Match": "*"})
    newest = ask("GET", "t/profiles/keys/ann")
    equal([newest.json(), newest.headers["ETag"][:3]], [{"v": 1}, '"k:'])
    ask("GET", "t/profiles/keys/ann", 304, headers={"If-None-Match": newest.headers["ETag"]})
    ask("POST", "t/profiles", json={"v": 2}, params={"key": "ann"}, headers={"If-Match": newest.headers["ETag"]})
    ask("POST", "t/profiles", 412, json={"v": 3}, params={"key": "ann"}, headers={"If-Match": newest.headers["ETag"]})
    equal(ask("GET", "t/profiles/keys/ann").json(), {"v": 2})
    equal(sorted(ask("GET", "t/profiles/keys").text.split()), ["ann", "bob"])
    answer, stream = events("t/profiles/keys")
    with answer:
        first = [next(stream) for _ in range(3)]
        equal(sorted(json.loads(event.data)["key"] for event in first[:2]), ["ann", "bob"])
        equal(first[2].event, "caught-up")
        send("profiles", {"key": "bob", "value": None})
        changed = json.loads(next(stream).data)
        equal([changed["key"], changed["value"]], ["bob", None])
    ask("GET", "t/profiles/keys/bob", 404)


def next_of(group, client, status=200, **parameters):
    parameters = {"topic": "jobs", "max": 10, "wait": "300ms", **parameters}
    return ask("POST", f"api/groups/{group}/next", status, params=parameters, headers={"Client-Id": client}).json()


@case("a group reads on with commit tokens; without one the same records come again")
def group():
    topic("jobs", partitions=2)
    send("jobs", *({"value": f"{n}", "partition": n % 2} for n in range(40)))
    first = next_of("workers", "one")
    equal(next_of("workers", "one")["records"], first["records"])
    equal(sorted(map(int, work("workers"))), list(range(40)))
    equal(ask("GET", "api/groups/workers").json()["lag"], 0)


@case("a group goes on after the broker was killed (SIGKILL): leases end, what was committed is not read again")
def group_over_kill():
    first = next_of("night", "one")
    second = next_of("night", "one", commit=first["commit"])
    BROKER.kill_and_start()
    next_of("night", "one", 409, commit=second["commit"])
    done = [record["value"] for record in first["records"]]
    equal(sorted(map(int, done + work("night"))), list(range(40)))


def work(group):
    """All that a group has not committed yet: each batch is committed with the request for the next."""
    seen, given = [], {}
    while True:
        got = next_of(group, "one", **given)
        if not got["records"]:
            return seen
        seen += [record["value"] for record in got["records"]]
        given = {"commit": got["commit"]}


@case("clients of a group share it; a commit of a lease that is over is a conflict")
def leases():
    topic("shared", partitions=4)
    send("shared", *({"value": f"{n}", "partition": n % 4} for n in range(40)))
    slow = next_of("crew", "slow", topic="shared", lease="1s", max=5)
    equal(len(slow["records"]), 5)
    time.sleep(2)
    seen, commits = [], {"a": None, "b": None}
    for _ in range(20):
        for client in commits:
            given = {"commit": commits[client]} if commits[client] else {}
            got = next_of("crew", client, topic="shared", max=5, wait="100ms", **given)
            commits[client] = got["commit"]
            seen += [record["value"] for record in got["records"]]
    equal(sorted(map(int, seen)), list(range(40)))
    problem = next_of("crew", "slow", 409, topic="shared", commit=slow["commit"])
    equal(problem["status"], 409)
    equal(ask("GET", "api/groups/crew").json()["lag"], 0)


@case("offsets of a group: set, previewed, reset")
def offsets():
    topic("reset", partitions=2)
    send("reset", *({"value": f"{n}", "partition": n % 2, "timestamp": 1769853600000 + n * 1000} for n in range(20)))
    place = "api/groups/movers/offsets"
    ask("PUT", place, 204, json={"offsets": [{"topic": "reset", "partition": 0, "offset": 7, "metadata": "by hand"}]})
    equal(ask("GET", place).json(), [{"topic": "reset", "partition": 0, "offset": 7, "metadata": "by hand"}])
    plan = ask("POST", place, json={"topic": "reset", "to": "-3", "dry_run": True}).json()
    equal([(move["from"], move["to"]) for move in plan], [(7, 7), (None, 7)])
    equal(len(ask("GET", place).json()), 1)
    ask("POST", place, json={"topic": "reset", "to": "2026-01-31T10:00:09Z"})
    equal([entry["offset"] for entry in ask("GET", place).json()], [5, 4])
    ask("POST", place, json={"topic": "reset", "to": {"0": 2, "1": 3}})
    equal([entry["offset"] for entry in ask("GET", place).json()], [2, 3])
    until(lambda: [entry["lag"] for entry in ask("GET", "api/groups").json() if entry["group"] == "movers"] == [15], "the lag")
    ask("POST", place, 404, json={"topic": "nowhere", "to": "earliest"})


@case("a session goes on after refusals, and after the broker was killed (SIGKILL)")
def session():
    for _ in range(50):
        problem = ask("GET", "t/nowhere", 404, params={"from": "earliest"}).json()
    expect(problem["detail"], "nowhere")
    BROKER.kill_and_start()
    session = requests.Session()
    retry = requests.adapters.HTTPAdapter(max_retries=requests.adapters.Retry(total=5, backoff_factor=0.1))
    session.mount("http://", retry)
    equal(session.get(f"{BROKER.url}/healthz", timeout=10).status_code, 200)
    equal(len(read("payments")), 1)


def main():
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("requests", "sseclient-py"))
    run_suite(BROKER, f"{versions}.")


if __name__ == "__main__":
    main()
