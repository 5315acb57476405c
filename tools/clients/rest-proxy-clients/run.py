"""Packages as they are published that speak the API of Confluent's REST Proxy, used as their own examples do."""

import asyncio
import base64
import importlib.metadata
import json
import logging
import pathlib
import subprocess
import sys

import kafka_bridge_client.consumer
import kafka_rest
import requests
from kafka_bridge_client import KafkaBridgeConsumer, KafkaBridgeProducer, Message
from kafka_bridge_client.exceptions import KafkaBridgeTopicNotFoundError, ValidationError
from kafka_mcp.api.api_client_kafka import KafkaApi
from pymapr_kafkarest.exceptions import MKExistingInstanceException
from pymapr_kafkarest.kafkarest import MaprKlient, MaprKProducer

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "curl"))

from http_broker import HttpBroker, run_suite  # noqa: E402

from suite import CALL_SECONDS, WORK, Expected, Wrong, case, equal  # noqa: E402

# It would delete its instance at a signal, which only a main thread can listen to: cases run in another.
kafka_bridge_client.consumer._graceful_exit = lambda consumer: None

HERE = pathlib.Path(__file__).resolve().parent
BROKER = HttpBroker(WORK / "broker")


def topic(name, partitions=1):
    answer = requests.put(f"{BROKER.url}/api/topics/{name}", json={"partitions": partitions}, timeout=30)
    equal(answer.status_code, 201)
    return name


def stored(name):
    """Keys and values of a topic, by the broker's own API."""
    answer = requests.get(f"{BROKER.url}/t/{name}?from=earliest&max=10000", headers={"Accept": "application/json"}, timeout=30)
    return [(record["key"], record["value"]) for record in answer.json()]


def committed(group):
    answer = requests.get(f"{BROKER.url}/api/groups/{group}/offsets", timeout=30)
    return sorted((entry["partition"], entry["offset"]) for entry in answer.json())


def text(part):
    return base64.b64decode(part).decode()


# kafka-bridge-client: Strimzi's bridge, or Confluent's proxy


@case("kafka-bridge-client: JSON and binary records are sent, one and many")
def bridge_produce():
    topic("bridged", partitions=2)
    producer = KafkaBridgeProducer(BROKER.url, timeout=10)
    equal(producer.send("bridged", Message(key="one", value="first")), True)
    records = [Message(key=f"k{n}", value={"n": n}) for n in range(50)]
    equal(producer.sends("bridged", records), True)
    equal(producer.send("bridged", Message(key="b", value="ü".encode()), binary=True), True)
    # JSON is stored as it is written: a text has its quotes.
    wanted = {('"one"', '"first"'), ("b", "ü"), *((f'"k{n}"', f'{{"n":{n}}}') for n in range(50))}
    equal(set(stored("bridged")), wanted)


@case("kafka-bridge-client: what is refused becomes the package's own errors")
def bridge_refused():
    producer = KafkaBridgeProducer(BROKER.url, timeout=10)
    raises(KafkaBridgeTopicNotFoundError, lambda: producer.send("not/a/topic", Message(key="a", value="b")))
    raises(ValidationError, lambda: producer.sends("bridged", []))


def raises(kind, function):
    try:
        function()
    except kind:
        return
    raise Wrong(f"no {kind.__name__}")


def bridge_consumer(name, topic, enable_auto_commit=False, proxy="strimzi"):
    return KafkaBridgeConsumer(
        topic,
        bootstrap_server=BROKER.url,
        group_id=f"g-{name}",
        consumer_name=name,
        auto_offset_reset="earliest",
        enable_auto_commit=enable_auto_commit,
        sleep_interval_seconds=1,
        proxy=proxy,
    )


@case("kafka-bridge-client: records are consumed by a group, committed, and read on by the next instance")
def bridge_consume():
    topic("consumed", partitions=2)
    producer = KafkaBridgeProducer(BROKER.url, timeout=10)
    producer.sends("consumed", [Message(key=f"k{n}", value=f"v{n}") for n in range(100)])

    async def consume(consumer, count):
        seen = []
        async with consumer:
            async for record in consumer.get_records(max_bytes=100_000, timeout=3_000):
                seen.append((record["partition"], record["offset"], text(record["value"])))
                if len(seen) == count:
                    break
            await consumer.commit()
        return seen

    first = run(consume(bridge_consumer("reader", "consumed"), 100))
    equal(sorted(value for _, _, value in first), sorted(f'"v{n}"' for n in range(100)))
    # It commits where its last record is, so each partition's last record comes again: so it is with Strimzi too.
    last = {partition: offset for partition, offset, _ in first}
    equal(committed("g-reader"), sorted(last.items()))
    producer.send("consumed", Message(key="k0", value="after"))
    again = run(consume(bridge_consumer("reader", "consumed"), len(last) + 1))
    equal('"after"' in [value for _, _, value in again], True)


def run(task):
    return asyncio.run(asyncio.wait_for(task, CALL_SECONDS))


@case("kafka-bridge-client: its consumer goes on after the broker was killed (SIGKILL), under its name")
def bridge_kill():
    topic("survived")
    producer = KafkaBridgeProducer(BROKER.url, timeout=10)
    producer.sends("survived", [Message(key=None, value=f"v{n}") for n in range(10)])

    async def consume():
        consumer = bridge_consumer("survivor", "survived", enable_auto_commit=True, proxy="confluent")
        async with consumer:
            seen = await consumer.poll_records(max_bytes=100_000, timeout=5_000)
            equal(len(seen), 10)
            # A read commits what the one before it returned.
            equal(await consumer.poll_records(max_bytes=100_000, timeout=100), [])
            await asyncio.to_thread(BROKER.kill_and_start)
            producer.send("survived", Message(key=None, value="after"))
            return [text(record["value"]) for record in await consumer.poll_records(max_bytes=100_000, timeout=20_000)]

    equal(run(consume()), ['"after"'])


@case(
    "kafka-bridge-client in its Confluent mode: a commit",
    Expected("the answer is 204, as Strimzi and Redpanda do it; this client wants 200 of Confluent's proxy", "status: 204"),
)
def bridge_confluent():
    topic("confluent")
    KafkaBridgeProducer(BROKER.url, timeout=10).send("confluent", Message(key=None, value="v"))

    async def consume():
        consumer = bridge_consumer("conf", "confluent", proxy="confluent")
        async with consumer:
            equal(len(await consumer.poll_records(max_bytes=100_000, timeout=5_000)), 1)
            await consumer.commit()

    run(consume())


# nlp-kafka-rest-api: requests to a topic, answers from the topic beside it


@case("nlp-kafka-rest-api: requests are sent, and answers consumed by their keys")
def nlp():
    topic("work", partitions=2)
    topic("work-response", partitions=2)
    place = {"kafka_rest_api_url": BROKER.url, "topic_id": "work"}
    producer = kafka_rest.Producer(**place)
    keys = producer.produce([{"text": f"document {n}"} for n in range(20)], "/analyse")
    sent = {json.loads(key): json.loads(value) for key, value in stored("work")}
    equal(sorted(sent), sorted(keys))
    equal(sent[keys[3]], {"endpoint": "/analyse", "payload": {"text": "document 3"}})
    answers = [{"key": base64_of(json.dumps(key)), "value": base64_of(json.dumps({"done": key}))} for key in keys]
    body = json.dumps({"records": answers})
    requests.post(f"{BROKER.url}/topics/work-response", data=body, headers={"Content-Type": "application/vnd.kafka.binary.v2+json"}, timeout=30)
    with kafka_rest.Consumer(**place) as consumer:
        found = [entry for batch in consumer.consume_all(keys, interval_sec=0.1) for entry in batch]
    equal({entry["key"]: entry["value"] for entry in found}, {key: {"done": key} for key in keys})


def base64_of(string):
    return base64.b64encode(string.encode()).decode()


@case("nlp-kafka-rest-api: files are sent")
def nlp_files():
    file = WORK / "paper.pdf"
    file.write_bytes(bytes(range(256)) * 100)
    producer = kafka_rest.Producer(kafka_rest_api_url=BROKER.url, topic_id="files")
    [key] = producer.produce_files([str(file)], "/read")
    [(stored_key, value)] = stored("files")
    equal([json.loads(stored_key), json.loads(value)["payload"]["name"]], [key, "paper.pdf"])
    equal(base64.b64decode(json.loads(value)["payload"]["bytes"]), file.read_bytes())


# pymapr-kafkarest: MapR's REST gateway


def mapr(name, **options):
    return MaprKlient(f"{BROKER.url}/", f"g-{name}", headers={}, instance=name, verify=True, **options)


@case("pymapr-kafkarest: an instance is created, subscribes, consumes, seeks and is deleted")
def mapr_consume():
    topic("streamed")
    KafkaBridgeProducer(BROKER.url, timeout=10).sends("streamed", [Message(key=None, value={"n": n}) for n in range(10)])
    client = mapr("mapr", topics=["streamed"], follow_base_uri=True)
    client.connect()
    client.subscribe()
    equal(client._subscription_topics(), {"topics": ["streamed"]})
    equal([record["value"] for record in client.consume()], [{"n": n} for n in range(10)])
    equal([record["offset"] for record in client.consume(seek=True)], list(range(10)))
    raises(MKExistingInstanceException, mapr("mapr", topics=["streamed"])._instance)
    client._instance_delete()
    client.connect()
    client._instance_delete()


@case(
    "pymapr-kafkarest: it goes to an offset",
    Expected("it asks for `positions/`, and a path with a slash at its end is 404", "Error positioning"),
)
def mapr_position():
    client = mapr("positioned", topics=["streamed"])
    client.connect()
    client.subscribe()
    client.consume()
    equal([record["offset"] for record in client.consume(position=7)], [7, 8, 9])
    client._instance_delete()


@case(
    "pymapr-kafkarest: a record is sent once",
    Expected("its producer sends each request four times over, to any proxy: it does not stop after the first that succeeds", "4 records"),
)
def mapr_produce():
    topic("repeated")
    MaprKProducer(f"{BROKER.url}/", headers={}).produce([{"value": {"a": 1}}], topic="repeated")
    found = stored("repeated")
    if len(found) != 1:
        raise Wrong(f"{len(found)} records")


# kafka-mcp: versions 3 and 2


def data(answer, *names):
    """What a list of version 3 says of its entries."""
    return [tuple(entry[name] for name in names) for entry in answer["data"]]


@case("kafka-mcp (version 3): topics are created, listed, changed and deleted")
def mcp_topics():
    api = KafkaApi(BROKER.url)
    made = api.create_topic("third", partitions_count=2, configs={"retention.ms": "60000"})
    equal([made["topic_name"], made["partitions_count"], made["cluster_id"]], ["third", 2, api.cluster_id()])
    equal(("third", 2) in data(api.list_topics(), "topic_name", "partitions_count"), True)
    equal(data(api.list_partitions("third"), "partition_id"), [(0,), (1,)])
    api.update_topic_config("third", "retention.ms", "120000")
    api.update_topic_configs("third", {"segment.ms": "60000", "cleanup.policy": "compact"})
    configs = dict(data(api.list_topic_configs("third"), "name", "value"))
    equal([configs[name] for name in ("retention.ms", "segment.ms", "cleanup.policy")], ["120000", "60000", "compact"])
    refused("40002", lambda: api.create_topic("third"))
    api.delete_topic("third")
    refused("404", lambda: api.get_topic("third"))
    equal(data(api.list_brokers(), "broker_id"), [(1,)])


def refused(code, function):
    try:
        function()
    except Exception as error:
        if code not in str(error):
            raise Wrong(f"no {code} in: {error}") from error
        return
    raise Wrong(f"it was not refused with {code}")


@case("kafka-mcp (versions 3 and 2): records are sent and consumed, and the group's lag is told")
def mcp_records():
    api = KafkaApi(BROKER.url)
    api.create_topic("spoken", partitions_count=2)
    headers = [{"name": "by", "value": base64_of("mcp")}]
    sent = [api.produce_record("spoken", {"n": n}, key=f"k{n}", headers=headers) for n in range(10)]
    equal([answer["error_code"] for answer in sent], [200] * 10)
    text_sent = api.produce_record("spoken", "tea", value_format="STRING", partition_id=1)
    equal([text_sent["partition_id"], text_sent["value"]], [1, {"type": "STRING", "size": 3}])
    api.create_consumer("speakers", name="ann")
    api.subscribe_consumer("speakers", "ann", ["spoken"])
    seen = []
    while len(seen) < 11:
        got = api.consume_records("speakers", "ann", timeout=10_000)
        if not got:
            raise Wrong(f"{len(seen)} of 11 records came")
        seen += got
    # JSON keys and values come as they were sent; what is no JSON comes as a text.
    equal(sorted(record["value"]["n"] for record in seen if record["value"] != "tea"), list(range(10)))
    equal(data(api.list_consumers("speakers"), "client_id"), [("ann",)])
    api.commit_offsets("speakers", "ann")
    api.produce_record("spoken", "late", value_format="STRING", partition_id=0)
    equal(api.get_group_lag_summary("speakers")["total_lag"], 1)
    equal(sorted(data(api.get_group_lags("speakers"), "partition_id", "lag")), [(0, 1), (1, 0)])
    api.delete_consumer("speakers", "ann")
    equal(api.get_consumer_group("speakers")["consumer_group_id"], "speakers")


# npm's kafka-rest, from Confluent: version 1


def npm(command, *arguments):
    done = subprocess.run(["node", HERE / "node_client.js", command, BROKER.url, *arguments], capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise Wrong(done.stderr[-500:])
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise Wrong(answer["error"])
    return answer["result"]


@case("npm kafka-rest: topics, partitions and brokers are listed")
def npm_lists():
    topic("listed", partitions=3)
    if "listed" not in npm("topics"):
        raise Wrong("the topic is not in the list")
    shown = npm("topic", "listed")
    equal([shown["name"], len(shown["partitions"]), shown["partitions"][0]["leader"]], ["listed", 3, 1])
    equal([npm("partitions", "listed"), npm("brokers")], [[0, 1, 2], [1]])


VERSION_1 = "it speaks version 1 of the API, which Confluent's proxy does not have any more"


@case("npm kafka-rest: records are sent", Expected(VERSION_1, "415"))
def npm_produce():
    npm("produce", "listed")


@case("npm kafka-rest: a consumer reads", Expected(VERSION_1, "404"))
def npm_consume():
    npm("consume", "listed")


def main():
    names = ("kafka-bridge-client", "kafka-mcp", "nlp-kafka-rest-api", "pymapr-kafkarest")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    # One of them tells all that it does.
    logging.disable(logging.ERROR)
    run_suite(BROKER, f"{versions}; npm kafka-rest 0.0.5.")


if __name__ == "__main__":
    main()
