"""The client matrix's program for kafka-python."""

from contextlib import closing

import kafka
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import CommitFailedError, RebalanceInProgressError

import matrix

NAME = "kafka-python"
TIMEOUT_S = 30
LINGER_MS = 200  # batches large enough to be worth compressing; small ones are sent as they are


def version():
    matrix.emit({"client": kafka.__version__})


def create(topic, partitions, config):
    name, value = config.split(":", 1)
    with admin() as client:
        client.create_topics({topic: {"num_partitions": partitions, "configs": {name: value}}})


def list_topics():
    with admin() as client:
        matrix.emit({"topics": client.list_topics()})


def describe(topic):
    with admin() as client:
        [found] = client.describe_topics([topic])
        configs = client.describe_configs([topic_resource(topic)], config_filter="all")["topic"][topic]
        matrix.emit({
            "partitions": len(found["partitions"]),
            "configs": {name: config["value"] for name, config in configs.items()},
        })


def alter(topic, partitions, config):
    name, value = config.split(":", 1)
    with admin() as client:
        client.create_partitions({topic: partitions})
        result = client.alter_configs([topic_resource(topic, {name: value})])["topic"][topic]
        if result != "OK":
            raise RuntimeError(result)


def delete(topic):
    with admin() as client:
        client.delete_topics([topic])


def produce(topic, partitions, count, start, base, codec, idempotent):
    producer = KafkaProducer(
        bootstrap_servers=matrix.BOOTSTRAP,
        acks="all",
        compression_type=None if codec == "none" else codec,
        enable_idempotence=bool(idempotent),
        linger_ms=LINGER_MS,
    )
    with closing(producer):
        futures = [
            producer.send(topic, value, key, headers, partition, timestamp)
            for partition, key, value, timestamp, headers in matrix.records(
                NAME, partitions, count, start, base
            )
        ]
        producer.flush()
        for future in futures:
            future.get(TIMEOUT_S)
    matrix.emit({"acked": len(futures)})


def consume(topic, partitions):
    with closing(consumer()) as client:
        ends = client.end_offsets(partitions_of(topic, partitions))
        unfinished = [partition for partition, end in ends.items() if end > 0]
        client.assign(unfinished)
        client.seek_to_beginning(*unfinished)
        while unfinished:
            for partition, batch in client.poll(timeout_ms=500).items():
                for record in batch:
                    if record.offset < ends[partition]:
                        emit_record(record)
            unfinished = [each for each in unfinished if client.position(each) < ends[each]]


def member(group, topic, max=None):
    membership = matrix.Membership(max)
    with closing(consumer(group)) as client:
        client.subscribe([topic])
        while membership.goes_on():
            batches = client.poll(timeout_ms=200, max_records=membership.batch_size(100))
            offsets = [(record.partition, record.offset) for batch in batches.values() for record in batch]
            if not offsets:
                continue
            membership.took(len(offsets))
            matrix.emit_processed(offsets)
            following = matrix.next_offsets(offsets)
            if commit_as_member(client, topic, following):
                matrix.emit_committed(following)


def commit_as_member(client, topic, following):
    """Commits, and tells whether the group took it: it refuses after a rebalance."""
    try:
        client.commit({
            TopicPartition(topic, partition): OffsetAndMetadata(offset)
            for partition, offset in following.items()
        })
    except (CommitFailedError, RebalanceInProgressError):
        return False
    return True


def commit(group, topic, partition, offset, metadata):
    with closing(consumer(group)) as client:
        client.commit({TopicPartition(topic, partition): OffsetAndMetadata(offset, metadata)})


def committed(group, topic, partitions):
    with closing(consumer(group)) as client:
        matrix.emit({
            str(partition): {"offset": found.offset, "metadata": found.metadata}
            for partition, found in committed_offsets(client, topic, partitions).items()
        })


def seek(topic, timestamp):
    partition = TopicPartition(topic, 0)
    with closing(consumer()) as client:
        found = client.offsets_for_times({partition: timestamp})[partition]
        if found is None:
            matrix.emit({"offset": None})
            return
        client.assign([partition])
        client.seek(partition, found.offset)
        [record] = client.poll(timeout_ms=1000 * TIMEOUT_S, max_records=1)[partition]
        matrix.emit({"offset": record.offset, "timestamp": record.timestamp, "key": record.key.decode()})


def lag(group, topic, partitions):
    with closing(consumer(group)) as client:
        ends = client.end_offsets(partitions_of(topic, partitions))
        offsets = committed_offsets(client, topic, partitions)
        matrix.emit_lag(
            {partition: found.offset for partition, found in offsets.items()},
            {each.partition: end for each, end in ends.items()},
        )


def admin():
    return KafkaAdminClient(bootstrap_servers=matrix.BOOTSTRAP)


def consumer(group=None):
    return KafkaConsumer(
        bootstrap_servers=matrix.BOOTSTRAP,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=6000,
        heartbeat_interval_ms=1000,
    )


def topic_resource(topic, configs=None):
    return ConfigResource(ConfigResourceType.TOPIC, topic, configs)


def partitions_of(topic, partitions):
    return [TopicPartition(topic, partition) for partition in range(partitions)]


def committed_offsets(client, topic, partitions):
    """The partitions that have a committed offset, with it."""
    found = {
        each.partition: client.committed(each, metadata=True) for each in partitions_of(topic, partitions)
    }
    return {partition: offset for partition, offset in found.items() if offset is not None}


def emit_record(record):
    matrix.emit_record(
        record.partition, record.offset, record.key, record.value, record.timestamp, record.headers
    )


if __name__ == "__main__":
    matrix.run({
        "version": version,
        "create": create,
        "list": list_topics,
        "describe": describe,
        "alter": alter,
        "delete": delete,
        "produce": produce,
        "consume": consume,
        "member": member,
        "commit": commit,
        "committed": committed,
        "seek": seek,
        "lag": lag,
    })
