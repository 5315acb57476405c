"""kafka-configs."""

from suite import Expected, case, expect, expect_not, file_with, tool, topic_with

@case("kafka-configs topics --describe")
def describe_topic():
    name = "tools-configs-described"
    tool("kafka-topics", "--create", "--topic", name, "--config", "retention.ms=60000")
    found = configs("topics", name, "--describe")
    expect(found, "retention.ms=60000", "DYNAMIC_TOPIC_CONFIG:retention.ms=60000")
    expect_not(found, "segment.bytes")
    found = configs("topics", name, "--describe", "--all")
    expect(found, "retention.ms=60000", "DEFAULT_CONFIG:log.segment.bytes=1073741824")
    expect(found, "cleanup.policy=delete", "min.insync.replicas=1", "max.message.bytes=1048588")


@case("kafka-configs topics --alter --add-config, --delete-config")
def alter_topic():
    name = topic_with("tools-configs-altered")
    added = "segment.bytes=2097152,cleanup.policy=[compact,delete],retention.ms=1000"
    expect(
        configs("topics", name, "--alter", "--add-config", added), f"Completed updating config for topic {name}."
    )
    expect(
        configs("topics", name, "--describe"),
        "segment.bytes=2097152",
        "cleanup.policy=compact,delete",
        "retention.ms=1000",
    )
    configs("topics", name, "--alter", "--delete-config", "retention.ms", "--add-config", "segment.bytes=3145728")
    found = configs("topics", name, "--describe")
    expect(found, "segment.bytes=3145728", "cleanup.policy=compact,delete")
    expect_not(found, "retention.ms")


@case("kafka-configs topics --alter --add-config-file")
def alter_from_file():
    name = topic_with("tools-configs-from-file")
    path = file_with("topic.properties", "retention.bytes=1048576\nmax.message.bytes=4096\n")
    configs("topics", name, "--alter", "--add-config-file", path)
    expect(configs("topics", name, "--describe"), "retention.bytes=1048576", "max.message.bytes=4096")


@case("kafka-configs topics --alter refused: unknown config, bad value, unknown topic")
def alter_refused():
    name = topic_with("tools-configs-refused")
    for config in ("nonsense=1", "segment.bytes=x", "retention.ms=-7", "cleanup.policy=forget"):
        found = configs("topics", name, "--alter", "--add-config", config, fails=True)
        expect(found, "InvalidConfigurationException", config.split("=")[0])
    expect_not(configs("topics", name, "--describe"), "=")
    unknown = configs("topics", "tools-configs-unknown", "--alter", "--add-config", "retention.ms=1", fails=True)
    expect(unknown, "UnknownTopicOrPartitionException")


@case("kafka-configs brokers --describe")
def describe_broker():
    found = configs("brokers", "1", "--describe", "--all")
    expect(found, "All configs for broker 1 are:", "node.id=1", "log.segment.bytes=1073741824", "num.partitions=1")
    expect(found, "STATIC_BROKER_CONFIG:log.dirs=")
    expect(
        tool("kafka-configs", "--entity-type", "brokers", "--entity-default", "--describe"),
        "Default configs for brokers",
    )


@case("kafka-configs brokers --alter")
def alter_broker():
    configs("brokers", "1", "--alter", "--add-config", "log.retention.ms=70000000")
    expect(configs("brokers", "1", "--describe"), "log.retention.ms=70000000")
    configs("brokers", "1", "--alter", "--delete-config", "log.retention.ms")
    expect_not(configs("brokers", "1", "--describe"), "70000000")


@case(
    "kafka-configs groups --describe",
    Expected("only the newer group protocols have configs of groups", "no `consumer.session.timeout.ms=`"),
)
def describe_group():
    expect(configs("groups", "tools-configs-group", "--describe", "--all"), "consumer.session.timeout.ms=")


@case(
    "kafka-configs groups --alter",
    Expected("only the newer group protocols have configs of groups", "InvalidRequestException"),
)
def alter_group():
    configs("groups", "tools-configs-group", "--alter", "--add-config", "consumer.session.timeout.ms=50000")


@case("kafka-configs users --describe")
def describe_users():
    tool("kafka-configs", "--entity-type", "users", "--describe")


@case("kafka-configs clients --describe")
def describe_clients():
    tool("kafka-configs", "--entity-type", "clients", "--describe")


@case("kafka-configs broker-loggers --describe")
def describe_loggers():
    expect(configs("broker-loggers", "1", "--describe"), "=")


def configs(kind, name, *more, fails=False):
    return tool("kafka-configs", "--entity-type", kind, "--entity-name", name, *more, fails=fails)
