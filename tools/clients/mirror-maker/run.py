"""MirrorMaker 2 between a real Kafka and Millstream, both ways, while the broker and MirrorMaker are killed."""

import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "kafka-common"))

import suite  # noqa: E402
from brokers import Kafka  # noqa: E402
from mirror import CONFIGS, PARTITIONS, Pair  # noqa: E402
from suite import WORK, case, equal, expect, tool, until  # noqa: E402


def cases(pair, title):
    """The cases of one pair; each goes on where the one before it stopped."""
    ours, theirs = pair.sides()

    @case(f"{title}: both ways, while Millstream is killed (SIGKILL)")
    def killed_broker():
        pair.send(300)
        pair.start()
        pair.until_copied()
        pair.send(2000, pause=0.005, meanwhile=kill_broker)
        pair.until_copied()

    def kill_broker():
        until(lambda: len(ours.sent) > 1000 and len(theirs.sent) > 1000, "1,000 records on both sides")
        pair.broker.kill_and_start()

    @case(f"{title}: what was acknowledged is there once, and its copy at least once, in order")
    def complete():
        for side in pair.sides():
            found = side.records()
            equal(sorted(value for records in found for _, _, value, _ in records), sorted(side.sent))
            equal([list(dict.fromkeys(records)) for records in side.copy()], found)

    @case(f"{title}: a copied topic has its source's configs")
    def configs():
        for side in pair.sides():
            until(lambda: has_configs(side), f"the configs of {copy_of(side)}")
            expect(described(side.other, copy_of(side)), f"PartitionCount: {PARTITIONS}\t")

    @case(f"{title}: a group's offsets are translated, and skip nothing")
    def group_offsets():
        for side in pair.sides():
            side.commit_at(500)
            until(lambda: len(side.commits_of_copy()) == PARTITIONS, f"the group's offsets in {copy_of(side)}")
            commits, found, copies = side.commits_of_copy(), side.records(), side.copy()
            for partition in range(PARTITIONS):
                unread = set(copies[partition][commits[partition] :])
                equal((commits[partition] > 0, set(found[partition][500:]) <= unread), (True, True))

    @case(f"{title}: MirrorMaker is killed (SIGKILL) and started again: it goes on where it was")
    def killed_mirror():
        # Its offsets are flushed every second.
        time.sleep(3)
        before = [len(records) for side in pair.sides() for records in side.copy()]
        pair.kill()
        pair.send(300)
        pair.start()
        pair.until_copied()
        complete()
        # Not from the beginning.
        equal(sum(len(records) for side in pair.sides() for records in side.copy()) < 2 * sum(before), True)

    @case(f"{title}: its internal topics at Millstream are compacted")
    def internal():
        names = [f"mm2-{kind}.kafka.internal" for kind in ("configs", "offsets", "status")]
        for name in [*names, "kafka.checkpoints.internal", "heartbeats"]:
            expect(described(ours, name), "ReplicationFactor: 1\t", "cleanup.policy=compact")


def copy_of(side):
    return f"{side.alias}.{side.topic}"


def has_configs(side):
    found = described(side.other, copy_of(side))
    return all(f"{name}={value}" in found for name, value in CONFIGS.items())


def described(side, topic):
    return tool("kafka-topics", "--describe", "--topic", topic, broker=side.address)


def main():
    version = suite.kafka_version()
    kafka = Kafka(WORK / "kafka").start()
    pairs = []
    try:
        for alias, title in (("false", "without auto_create_topics"), ("true", "with auto_create_topics")):
            pairs.append(Pair(f"auto-{alias}", kafka.address, f"--auto-create-topics={alias}"))
            cases(pairs[-1], title)
        both = f"both ways between a real Kafka {version} (KRaft mode) and Millstream"
        suite.run(f"MirrorMaker 2 of Apache Kafka {version}, {both}.", jobs=1)
    finally:
        for pair in pairs:
            pair.end()
        kafka.end()


if __name__ == "__main__":
    main()
