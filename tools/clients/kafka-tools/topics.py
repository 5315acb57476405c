"""kafka-topics."""

import re

from suite import case, equal, expect, expect_not, tool, topic_with, words


@case("kafka-topics --create")
def create():
    name = "tools-topics-created"
    configs = ["--config", "retention.ms=60000", "--config", "cleanup.policy=compact,delete"]
    expect(tool("kafka-topics", "--create", "--topic", name, "--partitions", 3, *configs), f"Created topic {name}.")
    head, *partitions = describe(name)
    expect(head, "PartitionCount: 3", "ReplicationFactor: 1", "retention.ms=60000", "cleanup.policy=compact,delete")
    equal(len(partitions), 3)


@case("kafka-topics --create with defaults")
def create_with_defaults():
    tool("kafka-topics", "--create", "--topic", "tools-topics-defaults")
    expect(describe("tools-topics-defaults")[0], "PartitionCount: 1", "ReplicationFactor: 1")


@case("kafka-topics --create --replica-assignment")
def create_with_assignment():
    tool("kafka-topics", "--create", "--topic", "tools-topics-assigned", "--replica-assignment", "1,1")
    expect(describe("tools-topics-assigned")[0], "PartitionCount: 2")


@case("kafka-topics --create of one that exists")
def create_again():
    name = topic_with("tools-topics-twice")
    expect(tool("kafka-topics", "--create", "--topic", name, fails=True), "TopicExistsException")
    equal(tool("kafka-topics", "--create", "--topic", name, "--if-not-exists"), "")


@case("kafka-topics --create refused: replicas, name, config")
def create_refused():
    def refusal(name, *more):
        return tool("kafka-topics", "--create", "--topic", name, *more, fails=True)

    expect(refusal("tools-topics-no", "--replication-factor", 3), "InvalidReplicationFactorException")
    expect(refusal("tools-topics-no!"), "InvalidTopicException")
    expect(refusal("tools-topics-no", "--config", "foo=bar"), "InvalidConfigurationException", "foo")
    expect_not(tool("kafka-topics", "--list"), "tools-topics-no\n")


@case("kafka-topics --list")
def list_all():
    for name in ("tools-topics-list-a", "tools-topics-list-b"):
        topic_with(name)
    expect(tool("kafka-topics", "--list"), "tools-topics-list-a\n", "tools-topics-list-b\n")
    equal(
        tool("kafka-topics", "--list", "--topic", "tools-topics-list-.*").split(),
        [
            "tools-topics-list-a",
            "tools-topics-list-b",
        ],
    )


@case("kafka-topics --describe")
def describe_topic():
    head, *partitions = describe(topic_with("tools-topics-described", partitions=2))
    expect(head, "PartitionCount: 2")
    for number, line in enumerate(partitions):
        expect(line, f"Partition: {number}", "Leader: 1", "Replicas: 1", "Isr: 1")


@case("kafka-topics --describe --topic-id")
def describe_by_id():
    head = describe(topic_with("tools-topics-by-id"))[0]
    found = tool("kafka-topics", "--describe", "--topic-id", re.search(r"TopicId: (\S+)", head)[1])
    expect(found, "Topic: tools-topics-by-id")


@case("kafka-topics --describe: under-replicated, unavailable, with overrides")
def describe_filtered():
    plain = topic_with("tools-topics-plain")
    tool("kafka-topics", "--create", "--topic", "tools-topics-overridden", "--config", "retention.ms=1")
    both = ["--topic", "tools-topics-(plain|overridden)"]
    for filter in ("--under-replicated-partitions", "--unavailable-partitions", "--under-min-isr-partitions"):
        equal(tool("kafka-topics", "--describe", filter, *both), "")
    found = tool("kafka-topics", "--describe", "--topics-with-overrides", *both)
    expect(found, "Topic: tools-topics-overridden")
    expect_not(found, f"Topic: {plain}\t")


@case("kafka-topics --describe of one that does not exist")
def describe_unknown():
    found = tool("kafka-topics", "--describe", "--topic", "tools-topics-unknown", fails=True)
    expect(found, "Topic 'tools-topics-unknown' does not exist as expected")


@case("kafka-topics --alter --partitions")
def alter():
    name = topic_with("tools-topics-altered", partitions=2)
    tool("kafka-topics", "--alter", "--topic", name, "--partitions", 5)
    expect(describe(name)[0], "PartitionCount: 5")
    fewer = tool("kafka-topics", "--alter", "--topic", name, "--partitions", 3, fails=True)
    expect(fewer, "InvalidPartitionsException")
    expect(describe(name)[0], "PartitionCount: 5")


@case("kafka-topics --delete")
def delete():
    name = topic_with("tools-topics-deleted", partitions=2, records=3)
    tool("kafka-topics", "--delete", "--topic", name)
    expect_not(tool("kafka-topics", "--list"), name)
    again = tool("kafka-topics", "--delete", "--topic", name, fails=True)
    expect(again, "does not exist as expected")
    tool("kafka-topics", "--delete", "--topic", name, "--if-exists")


def describe(topic):
    """The topic's line and those of its partitions."""
    printed = tool("kafka-topics", "--describe", "--topic", topic)
    return [" ".join(line) for line in words(printed, "Topic:")]
