// The client matrix's program for @platformatic/kafka.

'use strict'

const { readFileSync } = require('node:fs')
const { dirname, join } = require('node:path')
const {
  Admin,
  ConfigResourceTypes,
  Consumer,
  FindCoordinatorKeyTypes,
  IncrementalAlterConfigOperationTypes,
  ListOffsetTimestamps,
  ProduceAcks,
  Producer,
  offsetCommitV9,
  stringSerializers,
} = require('@platformatic/kafka')
const matrix = require('../node-common/matrix')

const NAME = 'platformatic-kafka'
const CLIENT = { clientId: NAME, bootstrapBrokers: [matrix.BOOTSTRAP] }
const FETCH_BYTES_MAX = 1 << 20

function version() {
  const home = dirname(dirname(require.resolve('@platformatic/kafka')))
  matrix.emit({ client: JSON.parse(readFileSync(join(home, 'package.json'))).version })
}

async function create({ topic, partitions, config }) {
  const [name, value] = matrix.config(config)
  await using(new Admin(CLIENT), (admin) =>
    admin.createTopics({ topics: [topic], partitions, configs: [{ name, value }] }),
  )
}

async function list() {
  matrix.emit({ topics: await using(new Admin(CLIENT), (admin) => admin.listTopics()) })
}

async function describe({ topic }) {
  await using(new Admin(CLIENT), async (admin) => {
    const { partitionsCount } = await topicMetadata(admin, topic)
    const [{ configs }] = await admin.describeConfigs({ resources: [topicResource(topic)] })
    matrix.emit({
      partitions: partitionsCount,
      configs: Object.fromEntries(configs.map(({ name, value }) => [name, value])),
    })
  })
}

async function alter({ topic, partitions, config }) {
  const [name, value] = matrix.config(config)
  const change = { name, value, configOperation: IncrementalAlterConfigOperationTypes.SET }
  await using(new Admin(CLIENT), async (admin) => {
    await admin.createPartitions({ topics: [{ name: topic, count: partitions }] })
    await admin.incrementalAlterConfigs({ resources: [{ ...topicResource(topic), configs: [change] }] })
  })
}

async function remove({ topic }) {
  await using(new Admin(CLIENT), (admin) => admin.deleteTopics({ topics: [topic] }))
}

async function produce({ topic, codec, idempotent, ...which }) {
  const producer = new Producer({
    ...CLIENT,
    acks: ProduceAcks.ALL,
    compression: codec,
    idempotent: Boolean(idempotent),
    serializers: stringSerializers,
  })
  const messages = matrix
    .records(NAME, which)
    .map((record) => ({ ...record, topic, timestamp: BigInt(record.timestamp) }))
  await using(producer, () => producer.send({ messages }))
  // It rejects if any partition refused its records.
  matrix.emit({ acked: messages.length })
}

async function consume({ topic, partitions }) {
  const ends = await using(new Admin(CLIENT), (admin) => endOffsets(admin, topic, partitions))
  await using(new Consumer({ ...CLIENT, groupId: `${NAME}-unused` }), async (consumer) => {
    for (const [partition, end] of ends.entries()) {
      for await (const record of fetched(consumer, topic, partition, 0n, end)) matrix.emitRecord(record)
    }
  })
}

async function member({ group, topic, max }) {
  const membership = new matrix.Membership(max)
  const consumer = new Consumer({
    ...CLIENT,
    groupId: group,
    sessionTimeout: 6000,
    heartbeatInterval: 1000,
    maxWaitTime: 500,
    autocommit: false,
  })
  await using(consumer, async () => {
    const stream = await consumer.consume({ topics: [topic], mode: 'committed', fallbackMode: 'earliest' })
    const over = membership.over.finally(() => stream.close())
    for await (const message of stream) {
      // What was fetched before a rebalance may be another member's now, or comes again.
      if (message.metadata.consumer.generationId !== consumer.generationId) continue
      await membership.process(message.partition, [message.offset], () => message.commit())
    }
    await over
  })
}

/** The admin's call takes no metadata: an offset with some is sent as the request that it makes of it. */
async function commit({ group, topic, partition, offset, metadata }) {
  await using(new Admin(CLIENT), async (admin) => {
    if (metadata === '') {
      const topics = [{ name: topic, partitionOffsets: [{ partition, offset: BigInt(offset) }] }]
      await admin.alterConsumerGroupOffsets({ groupId: group, topics })
      return
    }
    const [{ nodeId }] = await admin.findCoordinator({ keyType: FindCoordinatorKeyTypes.GROUP, keys: [group] })
    const connection = (await admin.connectToBrokers([nodeId])).get(nodeId)
    const partitions = [
      {
        partitionIndex: partition,
        committedOffset: BigInt(offset),
        committedLeaderEpoch: -1,
        committedMetadata: metadata,
      },
    ]
    await offsetCommitV9.api.async(connection, group, -1, '', null, [{ name: topic, partitions }])
  })
}

async function committed({ group, topic, partitions }) {
  const found = await using(new Admin(CLIENT), (admin) => committedOffsets(admin, group, topic, partitions))
  const entries = found.map(({ partitionIndex, committedOffset, metadata }) => [
    partitionIndex,
    { offset: Number(committedOffset), metadata: metadata ?? '' },
  ])
  matrix.emit(Object.fromEntries(entries))
}

async function seek({ topic, timestamp }) {
  const [offset] = await using(new Admin(CLIENT), (admin) => offsets(admin, topic, 1, BigInt(timestamp)))
  if (offset < 0n) return matrix.emit({ offset: null })
  await using(new Consumer({ ...CLIENT, groupId: `${NAME}-unused` }), async (consumer) => {
    const { value: record } = await fetched(consumer, topic, 0, offset, offset + 1n).next()
    matrix.emit({
      offset: Number(record.offset),
      timestamp: Number(record.timestamp),
      key: record.key.toString(),
    })
  })
}

async function lag({ group, topic, partitions }) {
  await using(new Admin(CLIENT), async (admin) => {
    const found = await committedOffsets(admin, group, topic, partitions)
    const ends = await endOffsets(admin, topic, partitions)
    const offsets = found.map(({ partitionIndex, committedOffset }) => [partitionIndex, Number(committedOffset)])
    matrix.emitLag(Object.fromEntries(offsets), ends.map(Number))
  })
}

/** The records of a partition from `offset` to before `end`. The library's streams are for members of
 * groups; outside of one there is `fetch`, which returns whole batches. */
async function* fetched(consumer, topic, partition, offset, end) {
  const { id: topicId, partitions } = await topicMetadata(consumer, topic)
  while (offset < end) {
    const wanted = {
      partition,
      fetchOffset: offset,
      partitionMaxBytes: FETCH_BYTES_MAX,
      currentLeaderEpoch: -1,
      lastFetchedEpoch: -1,
    }
    const node = partitions[partition].leader
    const { responses } = await consumer.fetch({ node, topics: [{ topicId, partitions: [wanted] }] })
    for (const batch of responses[0]?.partitions[0]?.records ?? []) {
      for (const record of recordsOf(batch, partition)) {
        if (record.offset >= offset && record.offset < end) yield record
      }
      offset = batch.firstOffset + BigInt(batch.lastOffsetDelta) + 1n
    }
  }
}

function recordsOf(batch, partition) {
  return batch.records.map(({ offsetDelta, timestampDelta, key, value, headers }) => ({
    partition,
    offset: batch.firstOffset + BigInt(offsetDelta),
    key,
    value,
    timestamp: batch.firstTimestamp + timestampDelta,
    headers: Object.fromEntries(headers),
  }))
}

function endOffsets(admin, topic, partitions) {
  return offsets(admin, topic, partitions, ListOffsetTimestamps.LATEST)
}

/** The first offset at or after a timestamp, for each partition; -1 where there is none. */
async function offsets(admin, topic, count, timestamp) {
  const partitions = Array.from({ length: count }, (_, partitionIndex) => ({ partitionIndex, timestamp }))
  const [listed] = await admin.listOffsets({ topics: [{ name: topic, partitions }] })
  const found = listed.partitions.map(({ partitionIndex, offset }) => [partitionIndex, offset])
  return Object.assign([], Object.fromEntries(found))
}

/** What is committed, of the partitions that have something. */
async function committedOffsets(admin, groupId, topic, count) {
  const topics = [{ name: topic, partitionIndexes: [...Array(count).keys()] }]
  const [group] = await admin.listConsumerGroupOffsets({ groups: [{ groupId, topics }] })
  return group.topics[0].partitions.filter(({ committedOffset }) => committedOffset >= 0n)
}

async function topicMetadata(client, topic) {
  return (await client.metadata({ topics: [topic] })).topics.get(topic)
}

function topicResource(topic) {
  return { resourceType: ConfigResourceTypes.TOPIC, resourceName: topic }
}

/** Calls `use` with a client and closes it; a consumer leaves its group by that. */
async function using(client, use) {
  try {
    return await use(client)
  } finally {
    await client.close()
  }
}

matrix.run({
  version,
  create,
  list,
  describe,
  alter,
  delete: remove,
  produce,
  consume,
  member,
  commit,
  committed,
  seek,
  lag,
})
