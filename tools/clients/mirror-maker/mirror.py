"""A Millstream and a MirrorMaker 2 that copies both ways between it and a Kafka."""

import json
import threading

import connect
from brokers import Millstream
from suite import WORK, Wrong, millstream, produce_slowly, tool, until, words

PARTITIONS = 3
GROUP = "readers"
# They lose meaning on the way if they do not arrive: with the defaults such a topic is `delete`, after 7 days.
CONFIGS = {
    "cleanup.policy": "compact",
    "flush.ms": "1000",
    "flush.messages": "10000",
    "retention.ms": "-1",
    "min.compaction.lag.ms": "3600000",
    "max.message.bytes": "2000000",
    "compression.type": "zstd",
}
# Everything that MirrorMaker does from time to time, every second.
OFTEN = [
    "refresh.topics",
    "refresh.groups",
    "sync.topic.configs",
    "sync.group.offsets",
    "emit.checkpoints",
    "emit.heartbeats",
]


class Side:
    """A cluster, its topic, and the name of its topic's copy at the other side."""

    def __init__(self, alias, address):
        self.alias = alias
        self.address = address
        self.other = None
        self.topic = None
        self.sent = []

    def create(self, topic):
        self.topic = topic
        configs = [word for name, value in CONFIGS.items() for word in ("--config", f"{name}={value}")]
        millstream("topic", "create", topic, "--partitions", PARTITIONS, *configs, "--bootstrap", self.address)

    def records(self, topic=None):
        """Of each partition: time, key, value and headers of its records, in order."""
        printed = millstream("consume", topic or self.topic, "--json", "--bootstrap", self.address)
        found = [[] for _ in range(PARTITIONS)]
        for record in map(json.loads, printed.splitlines()):
            content = (record["timestamp"], record["key"], record["value"], json.dumps(record["headers"]))
            found[record["partition"]].append(content)
        return found

    def copy(self):
        """What the other side has of this one, or None."""
        try:
            return self.other.records(f"{self.alias}.{self.topic}")
        except Wrong:
            return None

    def commit_at(self, offset):
        """A group has read so far."""
        how = ["--topic", self.topic, "--to-offset", offset, "--execute"]
        tool("kafka-consumer-groups", "--reset-offsets", "--group", GROUP, *how, broker=self.address)

    def commits_of_copy(self):
        """Where the group stands in each partition of the copy."""
        printed = tool("kafka-consumer-groups", "--describe", "--group", GROUP, broker=self.other.address, fails=True)
        copy = f"{self.alias}.{self.topic}"
        return {int(row[2]): int(row[3]) for row in words(printed, GROUP) if row[1] == copy}

    def send(self, count, pause):
        """Sends records, with a pause in seconds after each; all are acknowledged when it returns."""
        options = ["--key-separator", "\t", "--header", f"from={self.alias}"]
        produce_slowly(self.topic, self.new_records(count), pause, self.address, *options)

    def new_records(self, count):
        for _ in range(count):
            number = len(self.sent)
            self.sent.append(f"{self.alias} {number}")
            yield f"key-{number}\t{self.sent[-1]}"


class Pair:
    def __init__(self, alias, kafka, *options):
        self.alias = alias
        self.broker = Millstream(WORK / alias, "--clamp-replication-factor", *options)
        self.broker.start()
        self.ours, self.theirs = Side(alias, self.broker.address), Side("kafka", kafka)
        self.ours.other, self.theirs.other = self.theirs, self.ours
        for side in self.sides():
            side.create(f"orders-of-{alias}")
        self.log = WORK / f"mirror-{alias}.log"
        self.process = None

    def sides(self):
        return self.ours, self.theirs

    def properties(self):
        """Kafka is one node too, and clamps nothing: what is created there is told to have one replica. What is
        created at Millstream asks for two or three, as by default."""
        inward, outward = f"kafka->{self.alias}", f"{self.alias}->kafka"
        lines = [
            f"clusters=kafka,{self.alias}",
            f"kafka.bootstrap.servers={self.theirs.address}",
            f"{self.alias}.bootstrap.servers={self.ours.address}",
            *(f"{flow}.enabled=true" for flow in (inward, outward)),
            *(f"{flow}.topics={self.ours.topic}" for flow in (inward, outward)),
            *(f"kafka.{kind}.storage.replication.factor=1" for kind in ("config", "offset", "status")),
            f"{outward}.replication.factor=1",
            f"{outward}.checkpoints.topic.replication.factor=1",
            "heartbeats.topic.replication.factor=1",
            "offset-syncs.topic.replication.factor=1",
            "sync.group.offsets.enabled=true",
            "offset.lag.max=0",
            *(f"{cluster}.offset.flush.interval.ms=1000" for cluster in ("kafka", self.alias)),
            *(f"{what}.interval.seconds=1" for what in OFTEN),
        ]
        path = WORK / f"mirror-{self.alias}.properties"
        path.write_text("".join(f"{line}\n" for line in lines))
        return path

    def start(self):
        self.process = connect.start("connect-mirror-maker", self.properties(), self.log)

    def kill(self):
        """SIGKILL of MirrorMaker."""
        self.process.kill()
        self.process.wait()

    def send(self, count, pause=0, meanwhile=lambda: None):
        senders = [threading.Thread(target=side.send, args=(count, pause)) for side in self.sides()]
        for sender in senders:
            sender.start()
        meanwhile()
        for sender in senders:
            sender.join()

    def until_copied(self):
        for side in self.sides():
            until(lambda: is_complete(side), f"{side.topic} of {side.alias} to be copied")

    def end(self):
        if self.process and self.process.poll() is None:
            self.kill()
        self.broker.end()


def is_complete(side):
    copy = side.copy()
    return copy is not None and [set(records) for records in copy] == [set(records) for records in side.records()]
