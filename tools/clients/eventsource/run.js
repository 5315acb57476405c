// JavaScript's EventSource, as Chromium has it and as npm's package `eventsource` does in Node.
//
// CASES=pattern   only the cases with such a name

'use strict'

const path = require('node:path')
const { Broker, sleep } = require('../page/broker.js')
const { Browser } = require('../page/browser.js')
const { test, runCases, check, equal, until } = require('../page/cases.js')
const { inNode, inChromium } = require('./sources.js')

const [OPEN, CLOSED] = [1, 2]
const COUNT = 600

function cases(kind) {
  const here = kind.name.replace(/\W/g, '-')
  const define = (name, run, expected) => test(`${kind.name}: ${name}`, run, expected)

  /** Opens one, and closes it however its use went. */
  async function using(broker, place, use) {
    const source = await kind.open(broker, place)
    const named = async (name) => (await source.events()).filter(({ event }) => event === name)
    const wait = (name, count = 1, ms) => until(async () => {
      const found = await named(name)
      return found.length >= count && found
    }, `${count} of ${name}`, ms)
    try {
      await use({ ...source, named, wait })
    } finally {
      await source.close()
    }
  }

  const values = (events) => events.map(({ data }) => data.value)

  define('records with ids, caught-up once, and each record as it comes', async ({ broker }) => {
    const topic = `followed-${here}`
    await broker.topic(topic, 2)
    await broker.send(topic, ...Array.from({ length: 10 }, (_, i) => ({ key: `k${i}`, value: `r${i}\nline`, partition: i % 2, headers: { n: `${i}` } })))
    await using(broker, `t/${topic}?from=earliest&follow`, async ({ events, wait, state }) => {
      const [caughtUp] = await wait('caught-up')
      equal([caughtUp.id, caughtUp.data.next], ['0:5,1:5', '0:5,1:5'])
      const found = await events()
      equal(found.map(({ event }) => event), ['open', ...Array(10).fill('record'), 'caught-up'])
      equal(values(found.slice(1, 11)).sort(), Array.from({ length: 10 }, (_, i) => `r${i}\nline`))
      equal(found[10].id, '0:5,1:5', 'the id of the last record')
      const { key, headers } = found[1].data
      equal([key, headers], [`k${headers.n}`, { n: headers.n }])
      await broker.send(topic, { value: 'live', partition: 1 })
      const records = await wait('record', 11, 3_000)
      equal([records[10].data.value, records[10].id], ['live', '0:5,1:6'])
      equal(await state(), OPEN)
    })
  })

  define('a ping, when nothing came for 15 seconds', async ({ broker }) => {
    const topic = `quiet-${here}`
    await broker.topic(topic)
    await using(broker, `t/${topic}?follow`, async ({ wait, events }) => {
      await wait('caught-up')
      const [ping] = await wait('ping', 1, 25_000)
      equal([ping.data.next, ping.id], ['0:0', '0:0'])
      equal((await events()).map(({ event }) => event), ['open', 'caught-up', 'ping'])
    })
  })

  define('an error event with the problem when the topic is deleted, then no more', async ({ broker }) => {
    const topic = `doomed-${here}`
    await broker.topic(topic)
    await using(broker, `t/${topic}?follow`, async ({ wait, state, named }) => {
      await wait('caught-up')
      await broker.ask(`api/topics/${topic}?confirm=${topic}`, { method: 'DELETE' })
      const [problem] = await wait('error')
      equal([problem.data.status, problem.data.kafka_error], [404, 3])
      // It connects again by itself, and gives up when it is told 404.
      await until(async () => (await state()) === CLOSED, 'the end')
      equal((await named('open')).length, 1)
    })
  })

  define('a topic that is not there: it gives up', ({ broker }) =>
    using(broker, 't/nowhere?from=earliest&follow', async ({ wait, state }) => {
      await wait('error')
      await until(async () => (await state()) === CLOSED, 'the end')
    }))

  define('it connects again by itself after kills (SIGKILL): nothing twice, nothing left out', async ({ broker }) => {
    const topic = `killed-${here}`
    await broker.topic(topic, 3, { 'dedup.window.ms': '600000' })
    await using(broker, `t/${topic}?from=earliest&follow`, async ({ wait, named, events }) => {
      const sending = sendAll(broker, topic)
      for (const seen of [100, 300]) {
        await wait('record', seen, 60_000)
        await broker.killAndStart()
      }
      await sending
      const records = await wait('record', COUNT, 60_000)
      await sleep(500)
      equal((await named('record')).length, COUNT, 'records')
      equal(values(records).sort(), Array.from({ length: COUNT }, (_, i) => `record ${i}`).sort())
      check((await named('open')).length >= 3, 'it did not connect again')
      check(ordered(records), 'records of a partition changed places')
      equal((await events()).filter(({ event, data }) => event === 'error' && data), [], 'problems that were told')
    })
  })

  define('the broker stops and starts again: it is told so, and goes on by itself', async ({ broker }) => {
    const topic = `stopped-${here}`
    await broker.topic(topic)
    await broker.send(topic, { value: 'before' })
    await using(broker, `t/${topic}?from=earliest&follow`, async ({ wait, named }) => {
      await wait('caught-up')
      await broker.stop()
      const problems = (await wait('error')).filter(({ data }) => data)
      equal(problems.map(({ data }) => [data.status, data.retriable]), [[503, true]], 'what it was told')
      await sleep(1_000)
      await broker.start()
      await broker.send(topic, { value: 'after' })
      await wait('record', 2, 30_000)
      await sleep(500)
      equal(values(await named('record')), ['before', 'after'])
    })
  })

  define('keys are followed: what there is, then what changes, over a kill (SIGKILL)', async ({ broker }) => {
    const topic = `cache-${here}`
    await broker.topic(topic, 2, { 'cleanup.policy': 'compact', 'key.index': 'true' })
    await broker.send(topic, ...['a', 'b', 'c'].flatMap((key) => [{ key, value: 'old' }, { key, value: 'new' }]))
    await using(broker, `t/${topic}/keys?follow`, async ({ wait, events, named }) => {
      await wait('caught-up')
      const cache = async () => Object.fromEntries((await named('record')).map(({ data }) => [data.key, data.value]))
      equal((await named('record')).length, 3, 'one record a key')
      await broker.killAndStart(500)
      await until(async () => (await named('open')).length === 2, 'the next connection', 30_000)
      await broker.send(topic, { key: 'b', value: null }, { key: 'd', value: 'first' })
      await until(async () => (await cache()).d === 'first', 'the change')
      equal(await cache(), { a: 'new', b: null, c: 'new', d: 'first' })
      equal((await events()).filter(({ event }) => event === 'record').length, 5, 'what did not change came once')
    })
  })
}

async function sendAll(broker, topic) {
  for (let i = 0; i < COUNT; i += 1) {
    await broker.sendOnce(topic, `record ${i}`, `id-${i}`)
    await sleep(5)
  }
}

/** Whether the offsets of each partition rise by one. */
function ordered(records) {
  const next = new Map()
  return records.every(({ data: { partition, offset } }) => {
    const isNext = offset === (next.get(partition) ?? 0)
    next.set(partition, offset + 1)
    return isNext
  })
}

async function main() {
  const broker = new Broker(path.join(process.env.WORK, 'broker'))
  const browser = await Browser.launch()
  for (const kind of [inNode, inChromium(browser)]) cases(kind)
  try {
    await broker.start()
    const version = require('eventsource/package.json').version
    await runCases(`eventsource ${version} in Node ${process.version}; Chromium ${browser.chromium.version()}.`, { broker })
  } finally {
    await browser.close()
    await broker.stop()
  }
}

main().catch((error) => {
  console.error(error)
  process.exit(1)
})
