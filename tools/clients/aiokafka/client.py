"""The client matrix's program for aiokafka."""

import asyncio
from contextlib import asynccontextmanager

import aiokafka
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import CommitFailedError, IllegalStateError, for_code

import matrix

NAME = "aiokafka"
TIMEOUT_S = 30
LINGER_MS = 200  # batches large enough to be worth compressing; small ones are sent as they are


async def version():
    matrix.emit({"client": aiokafka.__version__})


async def create(topic, partitions, config):
    name, value = config.split(":", 1)
    new = NewTopic(topic, partitions, replication_factor=1, topic_configs={name: value})
    async with admin() as client:
        response = await client.create_topics([new])
        for _, code, message in response.topic_errors:
            check(code, message)


async def list_topics():
    async with admin() as client:
        matrix.emit({"topics": await client.list_topics()})


async def describe(topic):
    async with admin() as client:
        [found] = await client.describe_topics([topic])
        [response] = await client.describe_configs([topic_resource(topic)])
        [(code, message, _, _, configs)] = response.resources
        check(code, message)
        matrix.emit({
            "partitions": len(found["partitions"]),
            "configs": {name: value for name, value, *_ in configs},
        })


async def alter(topic, partitions, config):
    """Grows the topic and sets the config; aiokafka has no incremental alteration."""
    name, value = config.split(":", 1)
    async with admin() as client:
        await client.create_partitions({topic: NewPartitions(partitions)})
        [response] = await client.alter_configs([topic_resource(topic, {name: value})])
        for code, message, *_ in response.resources:
            check(code, message)


async def delete(topic):
    async with admin() as client:
        response = await client.delete_topics([topic])
        for _, code in response.topic_error_codes:
            check(code)


async def produce(topic, partitions, count, start, base, codec, idempotent):
    producer = AIOKafkaProducer(
        bootstrap_servers=matrix.BOOTSTRAP,
        acks="all",
        compression_type=None if codec == "none" else codec,
        enable_idempotence=bool(idempotent),
        linger_ms=LINGER_MS,
    )
    async with producer:
        futures = [
            await producer.send(topic, value, key, partition, timestamp, headers)
            for partition, key, value, timestamp, headers in matrix.records(
                NAME, partitions, count, start, base
            )
        ]
        acked = await asyncio.gather(*futures)
    matrix.emit({"acked": len(acked)})


async def consume(topic, partitions):
    async with consumer() as client:
        ends = await client.end_offsets(partitions_of(topic, partitions))
        unfinished = [partition for partition, end in ends.items() if end > 0]
        client.assign(unfinished)
        while unfinished:
            batches = await client.getmany(timeout_ms=500)
            for partition, batch in batches.items():
                for record in batch:
                    if record.offset < ends[partition]:
                        emit_record(record)
            unfinished = [each for each in unfinished if await client.position(each) < ends[each]]


async def member(group, topic, max=None):
    membership = matrix.Membership(max)
    async with consumer(group) as client:
        client.subscribe([topic])
        while membership.goes_on():
            batches = await client.getmany(timeout_ms=200, max_records=membership.batch_size(100))
            offsets = [(record.partition, record.offset) for batch in batches.values() for record in batch]
            if not offsets:
                continue
            membership.took(len(offsets))
            matrix.emit_processed(offsets)
            following = matrix.next_offsets(offsets)
            if await commit_as_member(client, topic, following):
                matrix.emit_committed(following)


async def commit_as_member(client, topic, following):
    """Commits, and tells whether the group took it.

    After a rebalance either the group refuses or, as aiokafka rebalances in the background, the
    consumer knows already that the partition is no longer its own.
    """
    try:
        await client.commit({
            TopicPartition(topic, partition): offset for partition, offset in following.items()
        })
    except (CommitFailedError, IllegalStateError):
        return False
    return True


async def commit(group, topic, partition, offset, metadata):
    async with consumer(group) as client:
        each = TopicPartition(topic, partition)
        client.assign([each])
        await client.commit({each: (offset, metadata)})


async def committed(group, topic, partitions):
    async with admin() as client:
        matrix.emit({
            str(each.partition): {"offset": found.offset, "metadata": found.metadata}
            for each, found in (await committed_offsets(client, group, topic, partitions)).items()
        })


async def seek(topic, timestamp):
    partition = TopicPartition(topic, 0)
    async with consumer() as client:
        found = (await client.offsets_for_times({partition: timestamp}))[partition]
        if found is None:
            matrix.emit({"offset": None})
            return
        client.assign([partition])
        client.seek(partition, found.offset)
        record = await asyncio.wait_for(client.getone(partition), TIMEOUT_S)
        matrix.emit({"offset": record.offset, "timestamp": record.timestamp, "key": record.key.decode()})


async def lag(group, topic, partitions):
    async with admin() as client:
        offsets = await committed_offsets(client, group, topic, partitions)
    async with consumer() as client:
        ends = await client.end_offsets(partitions_of(topic, partitions))
    matrix.emit_lag(
        {each.partition: found.offset for each, found in offsets.items()},
        {each.partition: end for each, end in ends.items()},
    )


@asynccontextmanager
async def admin():
    client = AIOKafkaAdminClient(bootstrap_servers=matrix.BOOTSTRAP)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


def consumer(group=None):
    return AIOKafkaConsumer(
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


async def committed_offsets(client, group, topic, partitions):
    """The partitions that have a committed offset, with it."""
    found = await client.list_consumer_group_offsets(group, partitions=partitions_of(topic, partitions))
    return {each: offset for each, offset in found.items() if offset.offset >= 0}


def check(code, message=None):
    """Raises what an error code in a response means."""
    if code:
        raise for_code(code)(message)


def emit_record(record):
    matrix.emit_record(
        record.partition, record.offset, record.key, record.value, record.timestamp, record.headers
    )


def awaited(command):
    return lambda **given: asyncio.run(command(**given))


if __name__ == "__main__":
    matrix.run({
        "version": awaited(version),
        "create": awaited(create),
        "list": awaited(list_topics),
        "describe": awaited(describe),
        "alter": awaited(alter),
        "delete": awaited(delete),
        "produce": awaited(produce),
        "consume": awaited(consume),
        "member": awaited(member),
        "commit": awaited(commit),
        "committed": awaited(committed),
        "seek": awaited(seek),
        "lag": awaited(lag),
    })
