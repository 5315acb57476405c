// What the broker has when the cases begin.

'use strict'

const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS

const SCRIPT = "<script>document.title='owned'</script>"
const IMAGE = '<img src=x onerror="document.title=\'owned\'">'

/** With `isPlain` without what tries to be markup. */
async function seed(broker, isPlain) {
  await broker.topic('orders', 3, { 'retention.ms': '86400000', 'cleanup.policy': 'compact,delete' })
  await broker.topic('plain')
  await orders(broker)
  await events(broker)
  await groups(broker)
  if (!isPlain) await hostile(broker)
}

async function orders(broker) {
  const goods = ['tea', 'coffee', 'cocoa', 'milk']
  const records = Array.from({ length: 40 }, (_, i) => ({
    key: `customer-${i % 7}`,
    value: JSON.stringify({ order: 1000 + i, goods: goods[i % 4], total: (i * 3.5).toFixed(2) }),
    headers: { source: i % 3 ? 'shop' : 'phone', trace: `t-${i}` },
    timestamp: Date.now() - (40 - i) * MINUTE_MS,
  }))
  await broker.send('orders', ...records)
}

/** 3,000 records of the last 50 hours, a minute apart: `event 0`, … In three partitions, a thousand in each. */
async function events(broker) {
  await broker.topic('events', 3)
  const now = Date.now()
  const records = Array.from({ length: 3_000 }, (_, i) => ({
    key: `user-${i % 10}`,
    value: `event ${i}${i === 1_234 ? ' needle' : ''}`,
    partition: i % 3,
    headers: i % 1_000 === 7 ? { source: 'web', kind: 'rare' } : { source: 'app' },
    timestamp: now - (3_000 - i) * MINUTE_MS,
  }))
  await broker.send('events', ...records)
}

async function hostile(broker) {
  await broker.commit(SCRIPT, { topic: 'plain', partition: 0, offset: 0 })
  await broker.topic('hostile')
  await broker.send('hostile',
    { key: SCRIPT, value: SCRIPT, headers: { [SCRIPT]: IMAGE, constructor: 'x' } },
    { key: IMAGE, value: IMAGE, headers: { '"><b>': '</pre><h1>owned</h1>' } },
    { key: null, value: `{"html":"${SCRIPT.replaceAll('"', '')}","list":[{},[]]}` },
    { key: { base64: 'AAEC/w==' }, value: { base64: 'AAEC/zxiPg==' }, headers: { binary: { base64: '/w==' } } },
    { key: 'gone', value: null },
    { key: 'long', value: 'x'.repeat(5_000) },
    { key: 'right to left', value: '\u202Egnp.exe\u202C שלום' })
}

async function groups(broker) {
  await broker.commit('billing', ...[0, 1, 2].map((partition) => ({ topic: 'events', partition, offset: 100 + partition })))
  await broker.commit('mailing', { topic: 'events', partition: 0, offset: 990 }, { topic: 'plain', partition: 0, offset: 0 })
}

module.exports = { seed, SCRIPT, IMAGE, MINUTE_MS, HOUR_MS }
