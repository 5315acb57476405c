// Groups, and their offsets.

'use strict'

const { test, check, equal, until } = require('./cases.js')
const { SCRIPT } = require('./seed.js')

const button = (page, name) => page.getByRole('button', { name, exact: true })
const committed = (broker, group) => broker.ask(`api/groups/${group}/offsets`)
const offsetsOf = async (broker, group) => (await committed(broker, group)).map(({ offset }) => offset)

test('groups: lag in records and in time, the worst first, with a sparkline', ({ browser, broker }) =>
  browser.use(broker, '#/groups', async (page) => {
    const names = page.locator('tbody th')
    await names.first().getByText('billing').waitFor()
    const billing = page.getByRole('row').filter({ hasText: 'billing' })
    for (const cell of ['2,697', '1 d 21 h', 'events']) await billing.getByRole('cell', { name: cell, exact: true }).waitFor()
    await billing.getByRole('img', { name: /Lag in records: now 2,697, highest 2,697/ }).waitFor({ timeout: 30_000 })
    equal(await names.allTextContents(), ['billing', 'mailing', SCRIPT], 'the order by time')
    await button(page, 'Group').click()
    equal(await names.allTextContents(), [SCRIPT, 'billing', 'mailing'], 'the order by name')
    await page.getByRole('link', { name: 'mailing' }).click()
    await page.getByRole('heading', { name: 'Group mailing' }).waitFor()
    await page.getByRole('row', { name: /^events 0 990 1,000 10 / }).waitFor()
    await page.getByText('The group has no members now.').waitFor()
  }))

test('offsets are reset: a preview from old to new, which can be edited, then done', async ({ browser, broker }) => {
  await broker.commit('moved', ...[0, 1, 2].map((partition) => ({ topic: 'events', partition, offset: 500 })))
  await browser.use(broker, '#/group/moved', async (page) => {
    const topic = page.getByLabel('Topic')
    await until(async () => (await topic.inputValue()) === 'events', 'the topic filled in')
    await page.getByLabel('To', { exact: true }).selectOption('newest')
    await page.getByLabel('Offsets before the end').fill('10')
    await button(page, 'Preview').click()
    await page.getByText('Nothing has changed yet.').waitFor()
    const plan = page.getByRole('table').filter({ hasText: 'Offsets before and after' }).locator('tbody tr')
    equal(await plan.allTextContents(), ['0500skips 490', '1500skips 490', '2500skips 490'], 'partition, old, change')
    equal(await plan.locator('input').evaluateAll((boxes) => boxes.map(({ value }) => value)), ['990', '990', '990'], 'new')
    equal(await offsetsOf(broker, 'moved'), [500, 500, 500], 'after the preview')
    await page.getByLabel('New offset of partition 1').fill('20')
    equal(await plan.nth(1).locator('td').last().textContent(), 'repeats 480')
    await button(page, 'Reset offsets').click()
    await page.locator('#status').getByText('The offsets of moved in 3 partitions of events were reset.').waitFor()
    equal(await offsetsOf(broker, 'moved'), [990, 20, 990], 'after the reset')
    await page.getByRole('row', { name: /^events 1 20 1,000 980 / }).waitFor()
  })
})

test('offsets are reset to a time, and to an offset of one partition', async ({ browser, broker }) => {
  await broker.commit('timed', ...[0, 1, 2].map((partition) => ({ topic: 'events', partition, offset: 500 })))
  await browser.use(broker, '#/group/timed', async (page) => {
    const record = (await broker.read('events')).find(({ value }) => value === 'event 2400')
    await page.getByLabel('To', { exact: true }).selectOption('time')
    await page.getByLabel('Time (your time zone)').fill(new Date(Math.ceil(record.timestamp / 1_000) * 1_000).toISOString().slice(0, 19))
    await button(page, 'Preview').click()
    await button(page, 'Reset offsets').click()
    await page.locator('#status').getByText('were reset').waitFor()
    equal(await offsetsOf(broker, 'timed'), [801, 800, 800])
    await page.getByLabel('To', { exact: true }).selectOption('offset')
    await page.getByLabel('Offset', { exact: true }).fill('7')
    await page.getByLabel('Partition', { exact: true }).fill('2')
    await button(page, 'Preview').click()
    await page.getByText('repeats 793').waitFor()
    await button(page, 'Cancel').click()
    check(await button(page, 'Reset offsets').isHidden(), 'it is there after Cancel')
    equal(await offsetsOf(broker, 'timed'), [801, 800, 800], 'after Cancel')
    await button(page, 'Preview').click()
    await button(page, 'Reset offsets').click()
    await page.locator('#status').getByText('in 1 partition of events were reset').waitFor()
    equal(await offsetsOf(broker, 'timed'), [801, 800, 7])
  })
})

test('a group with members is shown with them, and its offsets are not reset', async ({ browser, broker }) => {
  const v2 = { 'Content-Type': 'application/vnd.kafka.v2+json' }
  const ask = (path, body) => broker.ask(path, { method: 'POST', headers: v2, body: JSON.stringify(body) })
  await ask('consumers/busy', { name: 'worker', format: 'json', 'auto.offset.reset': 'earliest' })
  await ask('consumers/busy/instances/worker/subscription', { topics: ['events'] })
  try {
    await browser.use(broker, '#/group/busy', async (page) => {
      await page.getByText('The group has 1 member. Stop them first').waitFor()
      await page.getByRole('row', { name: /^worker-\S+ worker / }).waitFor()
      await page.getByText('Stable').waitFor()
      await page.getByLabel('Topic').fill('events')
      await button(page, 'Preview').click()
      await page.getByRole('alert').getByText('members').waitFor()
      check(await button(page, 'Reset offsets').isHidden(), 'it can be reset')
    }, { refusals: true })
  } finally {
    await broker.ask('consumers/busy/instances/worker', { method: 'DELETE', headers: v2 })
  }
})
