"""Kafka Streams on Millstream: a word count, at least once, with its internal topics and its store."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "kafka-common"))

import suite  # noqa: E402
import application  # noqa: E402
from application import CHANGELOG, LINES, PARTITIONS, REPARTITION, RESULTS, Books, Instance  # noqa: E402
from suite import BOOTSTRAP, Expected, case, equal, expect, millstream, tool, until  # noqa: E402

FIRST = Instance("first")
SECOND = Instance("second")
BOOKS = Books()


@case("counts words")
def count():
    create(LINES, PARTITIONS)
    create(RESULTS, 1)
    FIRST.start()
    BOOKS.feed(500)
    BOOKS.until_right()


@case("its internal topics have the configs that Streams asked for")
def internal_topics():
    expect(
        described(CHANGELOG),
        f"PartitionCount: {PARTITIONS}",
        "cleanup.policy=compact",
        "message.timestamp.type=CreateTime",
    )
    repartition = described(REPARTITION)
    expect(
        repartition,
        f"PartitionCount: {PARTITIONS}",
        "cleanup.policy=delete",
        "retention.ms=-1",
        "segment.bytes=52428800",
    )


@case("purges its repartition topic (DeleteRecords)")
def purge():
    def is_purged():
        return application.offsets(REPARTITION, "earliest") == application.offsets(REPARTITION, "latest")

    until(is_purged, "the purge")
    left = [int(line.split(":")[2]) for line in application.offsets(REPARTITION, "earliest")]
    equal(sum(left), sum(BOOKS.counts.values()))


@case("stopped and without its local state: restored from the changelog")
def restore():
    FIRST.stop()
    FIRST.forget()
    BOOKS.feed(200)
    FIRST.start()
    BOOKS.until_right()
    equal(FIRST.restored() >= len(BOOKS.counts), True)


@case("killed (SIGKILL) when all is committed: counts go on right")
def kill_idle():
    application.until_caught_up()
    FIRST.kill()
    BOOKS.feed(200)
    FIRST.start()
    BOOKS.until_right()


@case("a second instance takes its share, and gives it back")
def second_instance():
    SECOND.start()
    until(
        lambda: len(application.shares()) == 2 and 0 not in application.shares(), "both to have a share"
    )
    BOOKS.feed(200)
    BOOKS.until_right()
    SECOND.stop()
    BOOKS.feed(200)
    BOOKS.until_right()


@case("killed (SIGKILL) under load: every word is counted, at least once")
def kill_busy():
    BOOKS.feed(2000)
    FIRST.kill()
    BOOKS.feed(2000)
    FIRST.start()
    until(lambda: BOOKS.counts <= application.results(), "every word to be counted")
    application.until_caught_up()


@case("kafka-streams-application-reset: internal topics deleted, counted again")
def reset():
    FIRST.stop()
    FIRST.forget()
    printed = tool(
        "kafka-streams-application-reset", "--application-id", application.NAME, "--input-topics", LINES, "--force"
    )
    expect(printed, REPARTITION, CHANGELOG)
    equal(tool("kafka-topics", "--list", "--topic", f"{REPARTITION}|{CHANGELOG}").strip(), "")
    FIRST.start()
    BOOKS.until_right()
    FIRST.stop()


@case(
    "processing.guarantee=exactly_once_v2",
    Expected("transactions are not served", "trying to initialize transactions"),
)
def exactly_once():
    name = "word-count-once"
    create(f"{name}-lines", 1)
    create(f"{name}-results", 1)
    instance = Instance("once", name, "exactly_once_v2")
    try:
        instance.start()
        millstream("produce", f"{name}-lines", "--bootstrap", BOOTSTRAP, input="one word\n")
        until(lambda: instance.has_failed() or ends_at(f"{name}-results", 2), "the counts")
        if instance.has_failed():
            raise suite.Wrong(f"the application failed: {instance.events}")
    finally:
        instance.kill()


def ends_at(topic, least):
    """How many offsets the topic has, markers of transactions included."""
    return int(application.offsets(topic, "latest")[0].split(":")[2]) >= least


def create(topic, partitions):
    millstream("topic", "create", topic, "--partitions", partitions, "--bootstrap", BOOTSTRAP)


def described(topic):
    return tool("kafka-topics", "--describe", "--topic", topic)


def main():
    about = f"A word count with Kafka Streams {suite.kafka_version()}, at least once, through a repartition topic and a store."
    try:
        # A case goes on where the one before it stopped.
        suite.run(about, jobs=1)
    finally:
        for instance in (FIRST, SECOND):
            if instance.process and instance.process.poll() is None:
                instance.kill()


if __name__ == "__main__":
    main()
