"""The client matrix's program for confluent-kafka, the Python binding of librdkafka."""

import confluent_kafka
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
)

import matrix

NAME = "confluent-kafka"
TIMEOUT_S = 30
LINGER_MS = 200  # batches large enough to be worth compressing; small ones are sent as they are
REBALANCED = (KafkaError.REBALANCE_IN_PROGRESS, KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID)


def version():
    matrix.emit({"client": confluent_kafka.version(), "library": confluent_kafka.libversion()[0]})


def create(topic, partitions, config):
    name, value = config.split(":", 1)
    client = admin()
    done(client.create_topics([NewTopic(topic, partitions, config={name: value})]))


def list_topics():
    matrix.emit({"topics": list(admin().list_topics(timeout=TIMEOUT_S).topics)})


def describe(topic):
    client = admin()
    partitions = client.list_topics(topic, timeout=TIMEOUT_S).topics[topic].partitions
    [configs] = done(client.describe_configs([topic_resource(topic)]))
    matrix.emit({
        "partitions": len(partitions),
        "configs": {entry.name: entry.value for entry in configs.values()},
    })


def alter(topic, partitions, config):
    name, value = config.split(":", 1)
    client = admin()
    done(client.create_partitions([NewPartitions(topic, partitions)]))
    change = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    done(client.incremental_alter_configs([topic_resource(topic, [change])]))


def delete(topic):
    client = admin()
    done(client.delete_topics([topic]))


def produce(topic, partitions, count, start, base, codec, idempotent):
    producer = Producer({
        "bootstrap.servers": matrix.BOOTSTRAP,
        "acks": "all",
        "compression.type": codec,
        "enable.idempotence": bool(idempotent),
        "linger.ms": LINGER_MS,
    })
    acked, errors = [], []

    def delivered(error, message):
        if error:
            errors.append(error)
        else:
            acked.append(message.offset())

    for partition, key, value, timestamp, headers in matrix.records(NAME, partitions, count, start, base):
        producer.produce(
            topic, value, key, partition, on_delivery=delivered, timestamp=timestamp, headers=headers
        )
        producer.poll(0)
    producer.flush()
    if errors:
        raise KafkaException(errors[0])
    matrix.emit({"acked": len(acked)})


def consume(topic, partitions):
    client = consumer(f"{NAME}-unused", **{"enable.partition.eof": True})
    ends = end_offsets(client, topic, partitions)
    unfinished = {partition for partition, end in ends.items() if end > 0}
    client.assign([TopicPartition(topic, partition, confluent_kafka.OFFSET_BEGINNING) for partition in unfinished])
    while unfinished:
        for message in client.consume(500, timeout=0.5):
            partition = message.partition()
            if at_end(message) or message.offset() >= ends[partition]:
                unfinished.discard(partition)
            else:
                checked(message)
                emit_record(message)
                if message.offset() + 1 == ends[partition]:
                    unfinished.discard(partition)
    client.close()


def member(group, topic, max=None):
    membership = matrix.Membership(max)
    client = consumer(group)
    client.subscribe([topic])
    while membership.goes_on():
        messages = client.consume(membership.batch_size(100), timeout=0.2)
        if not messages:
            continue
        offsets = [(checked(message).partition(), message.offset()) for message in messages]
        membership.took(len(offsets))
        matrix.emit_processed(offsets)
        following = matrix.next_offsets(offsets)
        if commit_as_member(client, topic, following):
            matrix.emit_committed(following)
    client.close()


def commit_as_member(client, topic, following):
    """Commits, and tells whether the group took it: it refuses after a rebalance."""
    offsets = [TopicPartition(topic, partition, offset) for partition, offset in following.items()]
    try:
        errors = [committed.error for committed in client.commit(offsets=offsets, asynchronous=False)]
    except KafkaException as refused:
        errors = [refused.args[0]]
    for error in filter(None, errors):
        if error.code() not in REBALANCED:
            raise KafkaException(error)
    return not any(errors)


def commit(group, topic, partition, offset, metadata):
    client = consumer(group)
    for committed in client.commit(
        offsets=[TopicPartition(topic, partition, offset, metadata)], asynchronous=False
    ):
        checked_partition(committed)
    client.close()


def committed(group, topic, partitions):
    client = consumer(group)
    matrix.emit({
        str(found.partition): {"offset": found.offset, "metadata": found.metadata or ""}
        for found in committed_offsets(client, topic, partitions)
    })
    client.close()


def seek(topic, timestamp):
    client = consumer(f"{NAME}-unused")
    [found] = client.offsets_for_times([TopicPartition(topic, 0, timestamp)], timeout=TIMEOUT_S)
    if checked_partition(found).offset < 0:
        matrix.emit({"offset": None})
    else:
        client.assign([found])
        message = checked(client.poll(TIMEOUT_S))
        matrix.emit({
            "offset": message.offset(),
            "timestamp": message.timestamp()[1],
            "key": message.key().decode(),
        })
    client.close()


def lag(group, topic, partitions):
    client = consumer(group)
    offsets = {found.partition: found.offset for found in committed_offsets(client, topic, partitions)}
    matrix.emit_lag(offsets, end_offsets(client, topic, partitions))
    client.close()


def admin():
    return AdminClient({"bootstrap.servers": matrix.BOOTSTRAP})


def consumer(group, **settings):
    """A consumer; librdkafka wants a group's name even of those that join none."""
    return Consumer({
        "bootstrap.servers": matrix.BOOTSTRAP,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "session.timeout.ms": 6000,
        "heartbeat.interval.ms": 1000,
        **settings,
    })


def topic_resource(topic, changes=None):
    return ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=changes)


def done(futures):
    """Waits for what an admin call has started: its results, or its first error raised.

    The client must live until then: its end cancels what it has under way.
    """
    return [future.result(TIMEOUT_S) for future in futures.values()]


def end_offsets(client, topic, partitions):
    return {
        partition: client.get_watermark_offsets(TopicPartition(topic, partition), timeout=TIMEOUT_S)[1]
        for partition in range(partitions)
    }


def committed_offsets(client, topic, partitions):
    """The partitions that have a committed offset."""
    asked = [TopicPartition(topic, partition) for partition in range(partitions)]
    found = client.committed(asked, timeout=TIMEOUT_S)
    return [partition for partition in map(checked_partition, found) if partition.offset >= 0]


def at_end(message):
    return message.error() and message.error().code() == KafkaError._PARTITION_EOF


def checked(message):
    if message is None:
        raise TimeoutError("no message")
    if message.error():
        raise KafkaException(message.error())
    return message


def checked_partition(partition):
    if partition.error:
        raise KafkaException(partition.error)
    return partition


def emit_record(message):
    matrix.emit_record(
        message.partition(),
        message.offset(),
        message.key(),
        message.value(),
        message.timestamp()[1],
        message.headers() or [],
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
