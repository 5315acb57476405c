"""The tools that ask about the broker, or would change a cluster."""

import json

from suite import BOOTSTRAP, Expected, Wrong, again, case, equal, expect, file_with, running, tool, topic_with, words

NO_TRANSACTIONS = "transactions are not served"


@case("kafka-broker-api-versions")
def api_versions():
    printed = tool("kafka-broker-api-versions")
    expect(printed, BOOTSTRAP, "(id: 1 ", "Produce(0): 0 to 13 [usable: 13]", "ApiVersions(18)")


@case("kafka-cluster cluster-id, list-endpoints")
def cluster():
    expect(tool("kafka-cluster", "cluster-id", "--bootstrap-server", BOOTSTRAP), "Cluster ID: ")
    host, port = BOOTSTRAP.split(":")
    [row] = words(tool("kafka-cluster", "list-endpoints", "--bootstrap-server", BOOTSTRAP), "1")
    equal(row[1:3], [host, port])


@case(
    "kafka-cluster unregister",
    Expected("there is one broker, and it stays", "does not support the broker unregistration API"),
)
def unregister():
    printed = tool("kafka-cluster", "unregister", "--bootstrap-server", BOOTSTRAP, "--id", 7, fails=True)
    expect(printed, "BrokerIdNotRegisteredException")


@case("kafka-metadata-quorum describe --status, --replication")
def quorum():
    expect(
        tool("kafka-metadata-quorum", "describe", "--status"),
        "ClusterId:",
        "LeaderId:               1",
        "CurrentVoters:",
    )
    [row] = words(tool("kafka-metadata-quorum", "describe", "--replication"), "1")
    equal(row[-1], "Leader")


@case("kafka-features describe")
def features():
    """There are none, so nothing is printed."""
    equal(tool("kafka-features", "describe"), "")


@case("kafka-features upgrade", Expected("features have no levels here", "this broker has no features with levels"))
def upgrade():
    tool("kafka-features", "upgrade", "--feature", "transaction.version=2")


@case("kafka-log-dirs --describe")
def log_dirs():
    topic = topic_with("tools-cluster-dirs", partitions=2, records=10)
    printed = tool("kafka-log-dirs", "--describe", "--topic-list", topic, "--broker-list", 1)
    [broker] = json.loads(printed.splitlines()[-1])["brokers"]
    [directory] = broker["logDirs"]
    sizes = {entry["partition"]: entry["size"] for entry in directory["partitions"]}
    equal((broker["broker"], directory["error"], sorted(sizes)), (1, None, [f"{topic}-0", f"{topic}-1"]))
    equal(all(size > 0 for size in sizes.values()), True)


@case("kafka-leader-election")
def election():
    topic = topic_with("tools-cluster-elected")
    for kind in ("preferred", "unclean"):
        printed = tool("kafka-leader-election", "--election-type", kind, "--topic", topic, "--partition", 0)
        expect(printed, f"Valid replica already elected for partitions {topic}-0")
    tool("kafka-leader-election", "--election-type", "preferred", "--all-topic-partitions")


@case("kafka-reassign-partitions --generate")
def reassign_generate():
    topic = topic_with("tools-cluster-generated", partitions=2)
    path = file_with("move.json", json.dumps({"version": 1, "topics": [{"topic": topic}]}))
    printed = tool(
        "kafka-reassign-partitions", "--generate", "--topics-to-move-json-file", path, "--broker-list", 1
    )
    plan = json.loads(printed.splitlines()[-1])
    equal([(entry["partition"], entry["replicas"]) for entry in plan["partitions"]], [(0, [1]), (1, [1])])


@case("kafka-reassign-partitions --execute, --verify, --list, --cancel")
def reassign():
    topic = topic_with("tools-cluster-reassigned")
    path = ["--reassignment-json-file", reassignment(topic, [1])]
    expect(
        tool("kafka-reassign-partitions", "--execute", *path),
        f"Successfully started partition reassignment for {topic}-0",
    )
    expect(
        tool("kafka-reassign-partitions", "--verify", *path), f"Reassignment of partition {topic}-0 is completed."
    )
    expect(tool("kafka-reassign-partitions", "--list"), "No partition reassignments found.")
    expect(
        tool("kafka-reassign-partitions", "--cancel", *path),
        "None of the specified partition reassignments are active.",
    )
    elsewhere = ["--reassignment-json-file", reassignment(topic, [2])]
    expect(tool("kafka-reassign-partitions", "--execute", *elsewhere, fails=True), "Unknown broker id 2")


def reassignment(topic, replicas):
    entry = {"topic": topic, "partition": 0, "replicas": replicas}
    return file_with(f"reassign-{replicas[0]}.json", json.dumps({"version": 1, "partitions": [entry]}))


@case("kafka-replica-verification")
def replica_verification():
    topic = topic_with("tools-cluster-verified", partitions=2, records=10)
    again(5, lambda: verify_replicas(topic))


def verify_replicas(topic):
    """The tool goes on for ever: it is ended when it has said that all is well."""
    options = ["--broker-list", BOOTSTRAP, "--topics-include", topic, "--report-interval-ms", 500]
    with running("kafka-replica-verification", *options) as process:
        for line in process.stdout:
            if "at offset 10 among 2 partitions" in line:
                expect(line, "max lag is 0")
                return
    raise Wrong("it ended before it had compared all")


@case("kafka-transactions describe-producers, find-hanging")
def producers():
    topic = topic_with("tools-cluster-producers")
    tool("kafka-console-producer", "--topic", topic, input="line\n" * 20)
    printed = tool("kafka-transactions", "describe-producers", "--topic", topic, "--partition", 0)
    [row] = [line.split() for line in printed.splitlines()[1:]]
    equal((row[1], row[3], row[5]), ("0", "19", "None"))
    equal(len(tool("kafka-transactions", "find-hanging", "--topic", topic).splitlines()), 1)


@case("kafka-transactions list")
def list_transactions():
    tool("kafka-transactions", "list")


@case("kafka-transactions describe", Expected(NO_TRANSACTIONS, "Failed to describe transaction state"))
def describe_transaction():
    """It passes when the broker would know transactions: there is none of this id."""
    printed = tool("kafka-transactions", "describe", "--transactional-id", "tools-none", fails=True)
    expect(printed, "the ID could not be found")


@case("kafka-acls --list")
def list_acls():
    """As with a Kafka that has no authorizer."""
    expect(tool("kafka-acls", "--list", fails=True), "SecurityDisabledException")


@case("kafka-acls --add")
def add_acl():
    permission = ["--allow-principal", "User:someone", "--operation", "Read", "--topic", "any"]
    expect(tool("kafka-acls", "--add", *permission, fails=True), "SecurityDisabledException")


@case(
    "kafka-delegation-tokens --describe",
    Expected("delegation tokens are not served", "does not support DESCRIBE_DELEGATION_TOKEN"),
)
def tokens():
    printed = tool(
        "kafka-delegation-tokens", "--describe", "--command-config", file_with("none.properties", ""), fails=True
    )
    expect(printed, "UnsupportedByAuthenticationException")


@case("kafka-client-metrics --list, --describe")
def client_metrics():
    """There are no subscriptions."""
    equal(tool("kafka-client-metrics", "--list").strip(), "")
    equal(tool("kafka-client-metrics", "--describe").strip(), "")
