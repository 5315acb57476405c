// The client matrix's program for kafkajs.

'use strict'

const { randomUUID } = require('node:crypto')
const {
  CompressionCodecs,
  CompressionTypes,
  ConfigResourceTypes,
  ConfigSource,
  Kafka,
  Partitioners,
  logLevel,
} = require('kafkajs')
const Snappy = require('kafkajs-snappy')
const lz4 = require('lz4-napi')
const zstd = require('@toondepauw/node-zstd')
const matrix = require('../node-common/matrix')

const NAME = 'kafkajs'

// kafkajs itself has gzip only, and a table in which its users enter the others.
CompressionCodecs[CompressionTypes.Snappy] = Snappy
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: ({ buffer }) => lz4.compressFrame(buffer),
  decompress: (buffer) => lz4.decompressFrame(buffer),
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: ({ buffer }) => new zstd.Encoder(3).encode(buffer),
  decompress: (buffer) => new zstd.Decoder().decode(buffer),
})

const CODECS = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
}

const kafka = new Kafka({ clientId: NAME, brokers: [matrix.BOOTSTRAP], logLevel: logLevel.WARN })

function version() {
  matrix.emit({ client: require('kafkajs/package.json').version })
}

async function create({ topic, partitions, config }) {
  const [name, value] = matrix.config(config)
  const configEntries = [{ name, value }]
  await connected(kafka.admin(), (admin) =>
    admin.createTopics({ topics: [{ topic, numPartitions: partitions, configEntries }] }),
  )
}

async function list() {
  matrix.emit({ topics: await connected(kafka.admin(), (admin) => admin.listTopics()) })
}

async function describe({ topic }) {
  await connected(kafka.admin(), async (admin) => {
    const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
    const configs = await topicConfigs(admin, topic)
    matrix.emit({
      partitions: topics[0].partitions.length,
      configs: Object.fromEntries(configs.map(({ configName, configValue }) => [configName, configValue])),
    })
  })
}

async function alter({ topic, partitions, config }) {
  const [name, value] = matrix.config(config)
  await connected(kafka.admin(), async (admin) => {
    await admin.createPartitions({ topicPartitions: [{ topic, count: partitions }] })
    // kafkajs knows only the request that replaces all of a topic's configs: those that it has go along.
    const kept = (await topicConfigs(admin, topic))
      .filter((entry) => entry.configSource === ConfigSource.TOPIC_CONFIG && entry.configName !== name)
      .map((entry) => ({ name: entry.configName, value: entry.configValue }))
    await admin.alterConfigs({
      resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configEntries: [...kept, { name, value }] }],
    })
  })
}

async function topicConfigs(admin, topic) {
  const { resources } = await admin.describeConfigs({ resources: [{ type: ConfigResourceTypes.TOPIC, name: topic }] })
  return resources[0].configEntries
}

async function remove({ topic }) {
  await connected(kafka.admin(), (admin) => admin.deleteTopics({ topics: [topic] }))
}

async function produce({ topic, codec, idempotent, ...which }) {
  const producer = kafka.producer({
    createPartitioner: Partitioners.DefaultPartitioner,
    idempotent: Boolean(idempotent),
    maxInFlightRequests: idempotent ? 1 : null,
  })
  const messages = matrix
    .records(NAME, which)
    .map((record) => ({ ...record, timestamp: String(record.timestamp) }))
  await connected(producer, () => producer.send({ topic, acks: -1, compression: CODECS[codec], messages }))
  // It rejects if any partition refused its records.
  matrix.emit({ acked: messages.length })
}

/** kafkajs has no way to read without a group: as its users do, this takes one to throw away. */
async function consume({ topic }) {
  const ends = await connected(kafka.admin(), (admin) => endOffsets(admin, topic))
  const unfinished = new Set(Object.keys(ends).filter((partition) => ends[partition] > 0))
  if (unfinished.size === 0) return
  await reading(topic, async (consumer, failed) => {
    await new Promise((resolve, reject) => {
      failed.catch(reject)
      const eachBatch = async ({ batch }) => {
        const end = ends[batch.partition]
        batch.messages
          .filter(({ offset }) => Number(offset) < end)
          .forEach((message) => matrix.emitRecord({ partition: batch.partition, ...message }))
        if (Number(batch.lastOffset()) + 1 >= end) unfinished.delete(String(batch.partition))
        if (unfinished.size === 0) resolve()
      }
      consumer.run({ autoCommit: false, eachBatch }).catch(reject)
    })
  })
}

async function member({ group, topic, max }) {
  const membership = new matrix.Membership(max)
  const consumer = groupConsumer(group)
  crash(consumer).catch(membership.fail)
  const eachBatch = async ({ batch, commitOffsetsIfNecessary, resolveOffset }) => {
    const { partition } = batch
    const offsets = batch.messages.map(({ offset }) => offset)
    // Where the group refuses the commit, the error goes on to kafkajs, which then joins it anew.
    await membership.process(partition, offsets, async (next) => {
      const partitions = [{ partition, offset: String(next) }]
      await commitOffsetsIfNecessary({ topics: [{ topic, partitions }] })
      resolveOffset(String(next - 1))
    })
  }
  await connected(consumer, async () => {
    await consumer.subscribe({ topic, fromBeginning: true })
    await consumer.run({ autoCommit: false, eachBatchAutoResolve: false, eachBatch })
    await membership.over
  })
}

/** `setOffsets` takes no metadata: an offset with some is committed by a member that reads nothing.
 * (`setOffsets` becomes a member of the group too, but does not show it.) */
async function commit({ group, topic, partition, offset, metadata }) {
  if (metadata === '') {
    const partitions = [{ partition, offset: String(offset) }]
    await connected(kafka.admin(), (admin) => admin.setOffsets({ groupId: group, topic, partitions }))
    return
  }
  const consumer = groupConsumer(group)
  await connected(consumer, async () => {
    await consumer.subscribe({ topic })
    await consumer.run({ autoCommit: false, eachBatchAutoResolve: false, eachBatch: async () => {} })
    consumer.pause([{ topic }])
    await consumer.commitOffsets([{ topic, partition, offset: String(offset), metadata }])
  })
}

async function committed({ group, topic }) {
  const found = await connected(kafka.admin(), (admin) => committedOffsets(admin, group, topic))
  const entries = found.map(({ partition, offset, metadata }) => [
    partition,
    { offset: Number(offset), metadata: metadata ?? '' },
  ])
  matrix.emit(Object.fromEntries(entries))
}

async function seek({ topic, timestamp }) {
  const [found, end] = await connected(kafka.admin(), async (admin) => {
    const offsets = await admin.fetchTopicOffsetsByTimestamp(topic, timestamp)
    const { offset } = offsets.find(({ partition }) => partition === 0)
    return [Number(offset), (await endOffsets(admin, topic))[0]]
  })
  // kafkajs answers with the partition's end where no record has that timestamp or a later one.
  if (found === end) return matrix.emit({ offset: null })
  const message = await reading(topic, async (consumer, failed) => {
    const read = new Promise((resolve) => {
      const eachMessage = async ({ partition, message }) => {
        // What was fetched before the seek may still come.
        if (partition === 0 && Number(message.offset) >= found) resolve(message)
      }
      consumer.run({ autoCommit: false, eachMessage }).then(
        () => consumer.seek({ topic, partition: 0, offset: String(found) }),
      )
    })
    return Promise.race([read, failed])
  })
  matrix.emit({
    offset: Number(message.offset),
    timestamp: Number(message.timestamp),
    key: message.key.toString(),
  })
}

async function lag({ group, topic }) {
  await connected(kafka.admin(), async (admin) => {
    const found = await committedOffsets(admin, group, topic)
    const offsets = found.map(({ partition, offset }) => [partition, Number(offset)])
    matrix.emitLag(Object.fromEntries(offsets), await endOffsets(admin, topic))
  })
}

/** Where each partition ends, by partition. */
async function endOffsets(admin, topic) {
  const offsets = await admin.fetchTopicOffsets(topic)
  return Object.fromEntries(offsets.map(({ partition, high }) => [partition, Number(high)]))
}

/** What is committed, of the partitions that have something. */
async function committedOffsets(admin, groupId, topic) {
  const [{ partitions }] = await admin.fetchOffsets({ groupId, topics: [topic] })
  return partitions.filter(({ offset }) => Number(offset) >= 0)
}

/** Calls `use` with a consumer of the topic from its beginning, and with a promise that fails when
 * it crashes, in a group that is deleted afterwards. */
async function reading(topic, use) {
  const group = `${NAME}-${randomUUID()}`
  const consumer = groupConsumer(group)
  try {
    return await connected(consumer, async () => {
      await consumer.subscribe({ topic, fromBeginning: true })
      return await use(consumer, crash(consumer))
    })
  } finally {
    await connected(kafka.admin(), (admin) => admin.deleteGroups([group]))
  }
}

function groupConsumer(groupId) {
  return kafka.consumer({
    groupId,
    sessionTimeout: 6000,
    heartbeatInterval: 1000,
    // Heartbeats are sent between two fetches only.
    maxWaitTimeInMs: 500,
  })
}

/** Fails when the consumer ends by itself; what it can recover from, it does. */
function crash(consumer) {
  return new Promise((_, reject) => {
    consumer.on(consumer.events.CRASH, ({ payload }) => payload.restart || reject(payload.error))
  })
}

/** Calls `use` with a connected admin, producer or consumer; a consumer leaves its group at the end. */
async function connected(client, use) {
  await client.connect()
  try {
    return await use(client)
  } finally {
    await client.disconnect()
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
