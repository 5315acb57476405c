"""Kafka Connect, distributed: files to topics to files, while the broker and the worker are killed."""

import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "kafka-common"))

import suite  # noqa: E402
from brokers import Millstream  # noqa: E402
from connect import Worker  # noqa: E402
from lines import Lines  # noqa: E402
from suite import WORK, case, equal, expect, millstream, tool, until  # noqa: E402

# As the README says under "Coming from Kafka"; the cleaner looks more often than by default.
BROKER = Millstream(WORK / "broker", "--clamp-replication-factor", "--log-cleaner-backoff-ms", "300ms")
STRINGS = [f"{side}.converter=org.apache.kafka.connect.storage.StringConverter" for side in ("key", "value")]
# So that its offsets topic is compacted while the suite looks on.
SMALL = ["offset.storage.segment.ms=1000", "offset.storage.min.cleanable.dirty.ratio=0.01"]
WORKER = Worker("connect", BROKER.address, *STRINGS, *SMALL)
LINES = Lines(BROKER)
SINK = WORK / "sink.txt"


@case("a worker starts: its internal topics are compacted, with one replica")
def start():
    WORKER.start()
    for kind, partitions in (("config", 1), ("offset", 25), ("status", 5)):
        printed = tool("kafka-topics", "--describe", "--topic", WORKER.topic(kind), broker=BROKER.address)
        expect(printed, f"PartitionCount: {partitions}\t", "ReplicationFactor: 1\t", "cleanup.policy=compact")


@case("file sources and a file sink run while the broker is killed twice (SIGKILL)")
def killed_broker():
    LINES.grow(1)
    source("plain")
    source("once", **{"producer.override.enable.idempotence": "true"})
    WORKER.connect("sink", connector_class="FileStreamSink", tasks_max=1, topics="once", file=SINK)
    LINES.grow_while_broker_is_killed()
    WORKER.until_running("plain", "once", "sink")


def source(topic, **settings):
    """A source of the lines, to a topic that the worker creates."""
    creation = {"topic.creation.default.partitions": 1, "topic.creation.default.replication.factor": 3}
    WORKER.connect(
        topic, connector_class="FileStreamSource", tasks_max=1, topic=topic, file=LINES.path, **creation, **settings
    )


@case("the topic has every line in order, at least once")
def plain():
    LINES.until_sent("plain")
    equal(without_repeats(LINES.sent("plain")), LINES.written)


@case("the topic of an idempotent producer has every line in order, once")
def once():
    LINES.until_sent("once")
    equal(LINES.sent("once"), LINES.written)


@case("the sink's file has every line in order, at least once")
def sink():
    until(lambda: LINES.written[-1] in SINK.read_text().splitlines(), "the last line in the file")
    equal(without_repeats(SINK.read_text().splitlines()), LINES.written)


@case("the offsets topic is compacted, and keeps the source's position")
def compacted():
    topic = WORKER.topic("offset")
    for _ in range(20):
        LINES.grow(10)
        time.sleep(1.1)
    written = sum(int(line.split(":")[2]) for line in offsets(topic))
    equal(written >= 20, True)
    until(lambda: len(records(topic)) < written / 2, "the compaction")
    until(lambda: positions() == [f'{{"position":{LINES.path.stat().st_size}}}'] * 2, "the last position of both sources")


@case("the worker is killed (SIGKILL) and started again: it goes on where it was")
def killed_worker():
    WORKER.kill()
    LINES.grow(500)
    WORKER.start()
    WORKER.until_running("plain", "once", "sink")
    LINES.until_sent("once")
    # Its position was committed before.
    once()
    sink()


def positions():
    """How far each source has read, as its last record says."""
    return list(dict(line.split("\t") for line in records(WORKER.topic("offset"))).values())


def records(topic):
    return millstream("consume", topic, "--key-separator", "\t", "--bootstrap", BROKER.address).splitlines()


def offsets(topic):
    return tool("kafka-get-offsets", "--topic", topic, broker=BROKER.address).split()


def without_repeats(lines):
    """Of each line the first. What is delivered at least once may come again, but not overtake."""
    return list(dict.fromkeys(lines))


def main():
    version = suite.kafka_version()
    try:
        BROKER.start()
        # A case goes on where the one before it stopped.
        suite.run(f"Kafka Connect {version}, distributed, with its file source and file sink.", jobs=1)
    finally:
        WORKER.end()
        BROKER.end()


if __name__ == "__main__":
    main()
