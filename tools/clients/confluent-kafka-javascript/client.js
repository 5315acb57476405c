// The client matrix's program for confluent-kafka-javascript, the Node binding of librdkafka.

'use strict'

const { KafkaJS, RdKafka, librdkafkaVersion } = require('@confluentinc/kafka-javascript')
const matrix = require('../node-common/matrix')

const NAME = 'confluent-kafka-javascript'
const TIMEOUT_MS = 30_000
const WARNING = 4
const CLIENT = { 'bootstrap.servers': matrix.BOOTSTRAP, log_level: WARNING }
const REBALANCED = [
  KafkaJS.ErrorCodes.ERR_REBALANCE_IN_PROGRESS,
  KafkaJS.ErrorCodes.ERR_ILLEGAL_GENERATION,
  KafkaJS.ErrorCodes.ERR_UNKNOWN_MEMBER_ID,
]

const kafka = new KafkaJS.Kafka(CLIENT)

function version() {
  const { version } = require('@confluentinc/kafka-javascript/package.json')
  matrix.emit({ client: version, library: librdkafkaVersion })
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

function describe() {
  matrix.unsupported('it cannot read configs')
}

function alter() {
  matrix.unsupported('it can grow a topic, but not change its configs')
}

async function remove({ topic }) {
  await connected(kafka.admin(), (admin) => admin.deleteTopics({ topics: [topic] }))
}

async function produce({ topic, codec, idempotent, ...which }) {
  const producer = kafka.producer({
    acks: 'all',
    'compression.codec': codec,
    'enable.idempotence': Boolean(idempotent),
    'linger.ms': 5,
  })
  const messages = matrix
    .records(NAME, which)
    .map((record) => ({ ...record, timestamp: String(record.timestamp) }))
  await connected(producer, () => producer.send({ topic, messages }))
  // It rejects if any message was not acknowledged.
  matrix.emit({ acked: messages.length })
}

async function consume({ topic }) {
  const ends = await connected(kafka.admin(), (admin) => offsets(admin, topic))
  const unfinished = ends.filter(({ low, high }) => low < high)
  await reading(async (consumer) => {
    const assignment = unfinished.map(({ partition, low }) => ({ topic, partition, offset: low }))
    for await (const message of assigned(consumer, assignment)) {
      const at = unfinished.findIndex(({ partition }) => partition === message.partition)
      if (at < 0) continue
      matrix.emitRecord({ ...message, headers: Object.assign({}, ...message.headers) })
      if (message.offset + 1 >= unfinished[at].high) unfinished.splice(at, 1)
      if (unfinished.length === 0) return
    }
  })
}

async function member({ group, topic, max }) {
  const membership = new matrix.Membership(max)
  const consumer = groupConsumer(group)
  const eachBatch = async ({ batch, resolveOffset }) => {
    const { partition } = batch
    const offsets = batch.messages.map(({ offset }) => offset)
    const commit = async (next) => {
      resolveOffset(String(next - 1))
      await consumer.commitOffsets([{ topic, partition, offset: String(next) }])
    }
    await membership.process(partition, offsets, commit).catch((error) => {
      if (!REBALANCED.includes(error.code)) membership.fail(error)
    })
  }
  await connected(consumer, async () => {
    await consumer.subscribe({ topic })
    await consumer.run({ eachBatchAutoResolve: false, eachBatch })
    await membership.over
  })
}

async function commit({ group, topic, partition, offset, metadata }) {
  const consumer = groupConsumer(group)
  await connected(consumer, () => consumer.commitOffsets([{ topic, partition, offset: String(offset), metadata }]))
}

async function committed({ group, topic, partitions }) {
  const found = await connected(kafka.admin(), (admin) => committedOffsets(admin, group, topic, partitions))
  const entries = found.map(({ partition, offset, metadata }) => [
    partition,
    { offset: Number(offset), metadata: metadata ?? '' },
  ])
  matrix.emit(Object.fromEntries(entries))
}

async function seek({ topic, timestamp }) {
  await reading(async (consumer) => {
    const wanted = [{ topic, partition: 0, offset: timestamp }]
    const [{ offset }] = await answer((callback) => consumer.offsetsForTimes(wanted, TIMEOUT_MS, callback))
    if (offset < 0) return matrix.emit({ offset: null })
    for await (const message of assigned(consumer, [{ topic, partition: 0, offset }])) {
      return matrix.emit({
        offset: message.offset,
        timestamp: message.timestamp,
        key: message.key.toString(),
      })
    }
  })
}

async function lag({ group, topic, partitions }) {
  await connected(kafka.admin(), async (admin) => {
    const found = await committedOffsets(admin, group, topic, partitions)
    const ends = (await offsets(admin, topic)).map(({ partition, high }) => [partition, high])
    const committed = found.map(({ partition, offset }) => [partition, Number(offset)])
    matrix.emitLag(Object.fromEntries(committed), Object.fromEntries(ends))
  })
}

/** Where each partition begins and ends. */
async function offsets(admin, topic) {
  const found = await admin.fetchTopicOffsets(topic, { timeout: TIMEOUT_MS })
  return found.map(({ partition, low, high }) => ({ partition, low: Number(low), high: Number(high) }))
}

/** What is committed, of the partitions that have something. */
async function committedOffsets(admin, groupId, topic, count) {
  const topics = [{ topic, partitions: [...Array(count).keys()] }]
  const [{ partitions }] = await admin.fetchOffsets({ groupId, topics })
  return partitions.filter(({ offset }) => Number(offset) >= 0)
}

function groupConsumer(group) {
  return kafka.consumer({
    'group.id': group,
    'auto.offset.reset': 'earliest',
    'enable.auto.commit': false,
    'session.timeout.ms': 6000,
    'heartbeat.interval.ms': 1000,
  })
}

/** Calls `use` with a consumer that joins no group, though librdkafka wants a group's name of it.
 * Of the two interfaces of this library only the one with callbacks has such. */
async function reading(use) {
  const consumer = new RdKafka.KafkaConsumer({
    ...CLIENT,
    'group.id': `${NAME}-unused`,
    'enable.auto.commit': false,
  })
  await answer((callback) => consumer.connect({}, callback))
  try {
    await use(consumer)
  } finally {
    await answer((callback) => consumer.disconnect(callback))
  }
}

/** What comes from these partitions, from these offsets on. */
async function* assigned(consumer, assignment) {
  if (assignment.length === 0) return
  consumer.assign(assignment)
  while (true) yield* await answer((callback) => consumer.consume(500, callback))
}

/** A call with a callback as a promise. */
function answer(call) {
  return new Promise((resolve, reject) => {
    call((error, value) => (error ? reject(error) : resolve(value)))
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
