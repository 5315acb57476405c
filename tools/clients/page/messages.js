// Messages of a topic: the newest, searches, the live tail, one record, a test record.

'use strict'

const { test, check, equal, until } = require('./cases.js')
const { sleep } = require('./broker.js')
const { HOUR_MS, MINUTE_MS } = require('./seed.js')

const button = (page, name) => page.getByRole('button', { name, exact: true })
const messages = (page) => page.getByRole('region', { name: 'Messages' })
const status = (page) => messages(page).getByRole('status')
const rows = (page) => messages(page).locator('table', { hasText: 'the newest on top' }).locator('tbody tr')

const values = (page) => rows(page).locator('td:last-child').allTextContents()
const offsets = async (page) => (await rows(page).locator('button').allTextContents()).map(Number)

async function show(page, fields) {
  for (const [label, value] of Object.entries(fields)) {
    const control = messages(page).getByLabel(label, { exact: true })
    if (['From', 'Partition'].includes(label)) await control.selectOption(value)
    else await control.fill(value)
  }
  await button(page, 'Show').click()
}

const done = (page, text) => status(page).getByText(`Done. ${text} found, 100 % searched.`).waitFor()

test('messages: the newest first, and 50 of them', ({ browser, broker }) =>
  browser.use(broker, '#/topic/events', async (page) => {
    await status(page).getByText('The newest: 50 records.').waitFor()
    equal(await values(page), Array.from({ length: 50 }, (_, i) => `event ${2_999 - i}`))
  }))

test('messages are found by key, with progress, and the search goes on', ({ browser, broker }) =>
  browser.use(broker, '#/topic/events', async (page) => {
    await show(page, { 'Key (exact)': 'user-4', From: 'earliest' })
    await status(page).getByText(/Paused\. 2\d\d records found, \d\d % searched\./).waitFor()
    const bar = page.getByRole('progressbar')
    const passed = Number(await bar.getAttribute('value') ?? await bar.evaluate((node) => node.value))
    check(passed > 0.3 && passed < 1, `a bar at ${passed}`)
    await messages(page).getByText('Progress by partition').click()
    const progress = messages(page).getByRole('row').filter({ hasText: /^1\d/ }).first()
    check((await progress.textContent()).endsWith('1,000'), `no end in the progress: ${await progress.textContent()}`)
    await button(page, 'Search on').click()
    await done(page, '300 records')
    equal(await rows(page).count(), 300)
    equal(await bar.evaluate((node) => node.value), 1, 'the bar at the end')
    equal(new Set(await rows(page).locator('td:nth-child(4)').allTextContents()), new Set(['user-4']), 'keys')
    equal(page.url().split('#')[1], '/topic/events?key=user-4&from=earliest', 'the address')
  }))

test('messages are found by a text', ({ browser, broker }) =>
  browser.use(broker, '#/topic/events?grep=needle&from=earliest', async (page) => {
    await done(page, '1 record')
    equal(await values(page), ['event 1234 needle'])
  }))

test('messages are found by time', ({ browser, broker }) =>
  browser.use(broker, '#/topic/events', async (page) => {
    await show(page, { From: '1h' })
    await status(page).getByText(/^Done\. (59|60) records found/).waitFor()
    equal((await values(page))[0], 'event 2999')
    const from = Date.now() - 10.5 * HOUR_MS
    await show(page, { From: 'time', 'Time (your time zone)': new Date(from).toISOString().slice(0, 19), Partition: '1' })
    await status(page).getByText('Paused.').waitFor()
    const first = (await values(page)).at(-1)
    const [record] = (await broker.read('events')).filter(({ partition, timestamp }) => partition === 1 && timestamp >= Math.floor(from / 1000) * 1000)
    equal(first, record.value, 'the first since then')
  }))

test('messages are found by header, with and without its value', ({ browser, broker }) =>
  browser.use(broker, '#/topic/events', async (page) => {
    await show(page, { Header: 'kind', From: 'earliest' })
    await done(page, '3 records')
    equal((await values(page)).sort(), ['event 1007', 'event 2007', 'event 7'])
    await show(page, { Header: 'source:web', Partition: '1' })
    await done(page, '1 record')
    equal(await values(page), ['event 7'])
    await show(page, { Header: 'source:nobody', Partition: '' })
    await done(page, '0 records')
  }))

test('messages from an offset; one that is not there is told', ({ browser, broker }) =>
  browser.use(broker, '#/topic/events', async (page) => {
    await show(page, { From: 'offset', Offset: '990', Partition: '2' })
    await done(page, '10 records')
    equal(await offsets(page), Array.from({ length: 10 }, (_, i) => 999 - i))
    await show(page, { Offset: '5000' })
    await status(page).getByText(/offset/).waitFor()
    check(await status(page).evaluate((node) => node.classList.contains('problem')), 'it is not shown as a problem')
  }, { refusals: true }))

test('live tail: a record appears as it comes, pause holds, resume goes on', async ({ browser, broker }) => {
  await broker.topic('tailed', 2)
  await broker.send('tailed', { value: 'before' })
  await browser.use(broker, '#/topic/tailed', async (page) => {
    await status(page).getByText('The newest: 1 record.').waitFor()
    await button(page, 'Live tail').click()
    await status(page).getByText('Live: records are shown as they come.').waitFor()
    await rows(page).getByText('before').waitFor()
    await broker.send('tailed', { value: 'first', partition: 0 })
    await rows(page).getByText('first').waitFor({ timeout: 3_000 })
    equal((await values(page))[0], 'first', 'on top')
    await button(page, 'Pause').click()
    await broker.send('tailed', { value: 'second', partition: 1 })
    await sleep(1_500)
    equal(await values(page), ['first', 'before'], 'while it is paused')
    await button(page, 'Resume').click()
    await rows(page).getByText('second').waitFor()
    await broker.send('tailed', { value: 'third', partition: 0 })
    await rows(page).getByText('third').waitFor()
    equal(await values(page), ['third', 'second', 'first', 'before'])
    await button(page, 'Stop').click()
    await broker.send('tailed', { value: 'fourth' })
    await sleep(1_000)
    equal(await rows(page).count(), 4, 'after a stop')
  })
})

test('live tail of a burst: the last 500 are shown, and how many came', async ({ browser, broker }) => {
  await broker.topic('burst')
  await browser.use(broker, '#/topic/burst', async (page) => {
    await button(page, 'Live tail').click()
    await status(page).getByText('Live:').waitFor()
    const body = Array.from({ length: 5_000 }, (_, i) => `burst ${i}`).join('\n')
    await broker.ask('t/burst?split=lines', { method: 'POST', body })
    await messages(page).getByText('5,000 records came. The last 500 are shown.').waitFor()
    equal(await values(page), Array.from({ length: 500 }, (_, i) => `burst ${4_999 - i}`))
  })
})

test('a record: its key, value, headers and time, and a link to it', ({ browser, broker }) =>
  browser.use(broker, '#/topic/orders', async (page) => {
    const [record] = (await broker.read('orders')).filter(({ partition, offset }) => partition === 1 && offset === 3)
    await button(page, 'Open the record at offset 3 of partition 1').click()
    const dialog = page.getByRole('dialog', { name: 'Record 1:3' })
    equal(await dialog.getByLabel('The key', { exact: true }).textContent(), record.key)
    equal(await dialog.getByLabel('The value', { exact: true }).textContent(), JSON.stringify(JSON.parse(record.value), null, 2))
    await dialog.getByLabel('Show the value as').selectOption('text')
    equal(await dialog.getByLabel('The value', { exact: true }).textContent(), record.value)
    await dialog.getByRole('row', { name: `trace ${record.headers.trace}` }).waitFor()
    equal(await dialog.getByRole('time').getAttribute('datetime'), new Date(record.timestamp).toISOString())
    const raw = await page.evaluate(async (href) => (await fetch(href)).text(), await dialog.getByText('Raw value').getAttribute('href'))
    equal(raw, record.value, 'the raw value')
    await dialog.getByText('Link to this record').click()
    equal(page.url().split('#')[1], '/topic/orders?record=1:3')
    await page.reload()
    await dialog.getByText(record.key).waitFor()
  }))

test('a test record is sent, and one is edited and sent again', async ({ browser, broker }) => {
  await broker.topic('tested', 2)
  await browser.use(broker, '#/topic/tested', async (page) => {
    await button(page, 'Send record…').click()
    const dialog = page.getByRole('dialog')
    await dialog.getByLabel('Key', { exact: true }).fill('ann')
    await dialog.getByLabel('Value', { exact: true }).fill('{"a":1}\n')
    await dialog.getByLabel('Partition').selectOption('1')
    await button(dialog, 'Add header').click()
    await dialog.getByLabel('Header name').fill('Source')
    await dialog.getByLabel('Header value').fill('a test: ü')
    await button(dialog, 'Send').click()
    await dialog.getByText('Stored at offset 0 of partition 1.').waitFor()
    await button(dialog, 'Close').click()
    const [{ key, value, headers, partition }] = await broker.read('tested')
    equal({ key, value, headers, partition }, { key: 'ann', value: '{"a":1}\n', headers: { Source: 'a test: ü' }, partition: 1 })

    await button(page, 'Show').click()
    await button(page, 'Open the record at offset 0 of partition 1').click()
    await button(dialog, 'Edit and send again…').click()
    equal(await dialog.getByLabel('Header value').inputValue(), 'a test: ü', 'the header that it begins with')
    await dialog.getByLabel('Key is').selectOption('null')
    await dialog.getByLabel('Value is').selectOption('base64')
    await dialog.getByLabel('Value', { exact: true }).fill('AP8=')
    await dialog.getByLabel('Partition').selectOption('0')
    await button(dialog, 'Send').click()
    await dialog.getByText('Stored at offset 0 of partition 0.').waitFor()
    const again = (await broker.read('tested')).find((record) => record.partition === 0)
    equal([again.key, again.value, again.headers], [null, { base64: 'AP8=' }, { Source: 'a test: ü' }])
  })
})

test('the live tail goes on after the broker was killed (SIGKILL): nothing twice, nothing left out', async ({ browser, other }) => {
  const count = 300
  await other.topic('killed', 3, { 'dedup.window.ms': '600000' })
  await browser.use(other, '#/topic/killed', async (page) => {
    await button(page, 'Live tail').click()
    await status(page).getByText('Live:').waitFor()
    const sending = (async () => {
      for (let i = 0; i < count; i += 1) {
        await other.sendOnce('killed', `record ${i}`, `id-${i}`)
        await sleep(10)
      }
    })()
    for (const seen of [50, 150]) {
      await until(async () => (await rows(page).count()) >= seen, `${seen} records`)
      await other.kill()
      await status(page).getByText('The connection broke. Connecting again…').waitFor()
      await sleep(1_500)
      await other.start()
      await status(page).getByText('Live:').waitFor()
    }
    await sending
    await rows(page).getByText(`record ${count - 1}`, { exact: true }).waitFor()
    await sleep(MINUTE_MS / 60)
    const wanted = Array.from({ length: count }, (_, i) => `record ${i}`)
    equal((await other.read('killed')).map(({ value }) => value).sort(), [...wanted].sort(), 'what the broker has')
    equal((await values(page)).sort(), [...wanted].sort(), 'what the page shows')
  }, { refusals: true })
})
