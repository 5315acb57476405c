// Topics: their list, making and deleting one, its configs.

'use strict'

const { test, check, equal, until } = require('./cases.js')

const button = (page, name) => page.getByRole('button', { name, exact: true })
const said = (page, text) => page.locator('#status').getByText(text).waitFor()

test('topics: the configs that differ from the defaults', ({ browser, broker }) =>
  browser.use(broker, '#/topics', async (page) => {
    const row = (name) => page.getByRole('row').filter({ has: page.getByRole('link', { name, exact: true }) })
    await row('orders').getByText('cleanup.policy=compact,delete, retention.ms=86400000').waitFor()
    await row('plain').getByText('defaults').waitFor()
    await row('orders').getByText('KiB').waitFor()
    equal(await row('__consumer_offsets').count(), 0, 'internal topics')
    await page.getByLabel('Show internal topics').check()
    await row('__consumer_offsets').waitFor()
    await page.getByLabel('Filter topics by name').fill('ORD')
    equal(await page.getByRole('row').count(), 2, 'rows of a filtered list, with its head')
  }))

test('a topic is created, and its configs are changed', ({ browser, broker }) =>
  browser.use(broker, '#/topics', async (page) => {
    await button(page, 'Create topic…').click()
    await page.getByLabel('Name', { exact: true }).fill('made')
    await page.getByLabel('Partitions', { exact: true }).fill('2')
    await page.getByLabel('Configs').fill('cleanup.policy=bogus')
    await button(page, 'Create').click()
    await page.getByRole('alert').getByText('bogus').waitFor()
    await page.getByLabel('Configs').fill('retention.ms=3600000\nsegment.ms = 60000')
    await button(page, 'Create').click()
    await said(page, 'Topic made was created.')
    equal(await page.title(), 'Topic made – Millstream')
    const { configs, partitions } = await broker.ask('api/topics/made')
    equal(configs, { 'retention.ms': '3600000', 'segment.ms': '60000' })
    equal(partitions.length, 2)

    await button(page, 'Change retention.ms…').click()
    await page.getByLabel('Back to the default').check()
    await button(page, 'Change').click()
    await said(page, 'retention.ms was changed.')
    equal((await broker.ask('api/topics/made')).configs, { 'segment.ms': '60000' })

    await button(page, 'Add partitions…').click()
    await page.getByLabel('Partitions in all').fill('3')
    await button(page, 'Add').click()
    await page.getByText('in 3 partitions').waitFor()
  }, { refusals: true }))

test('a topic is deleted when its name was typed', async ({ browser, broker }) => {
  await broker.topic('doomed')
  await browser.use(broker, '#/topic/doomed', async (page) => {
    await button(page, 'Delete topic…').click()
    const name = page.getByLabel('Type doomed to confirm')
    const sure = button(page, 'Delete topic')
    check(await sure.isDisabled(), 'it could be deleted without its name')
    await name.fill('doome')
    check(await sure.isDisabled(), 'it could be deleted with another name')
    await name.press('Enter')
    await broker.ask('api/topics/doomed')
    await name.fill('doomed')
    await sure.click()
    await said(page, 'Topic doomed was deleted.')
    const names = (await broker.ask('api/topics')).map((topic) => topic.name)
    check(!names.includes('doomed'), 'the broker has it still')
    await until(async () => (await page.getByRole('link', { name: 'doomed' }).count()) === 0, 'the list without it')
  })
})

test('records before an offset are deleted', async ({ browser, broker }) => {
  await broker.topic('cut')
  await broker.send('cut', ...Array.from({ length: 10 }, (_, i) => ({ value: `${i}` })))
  await browser.use(broker, '#/topic/cut', async (page) => {
    await button(page, 'Delete records…').click()
    const dialog = page.getByRole('dialog')
    await dialog.getByLabel('Partition').selectOption('0')
    await dialog.getByLabel('Delete records before offset').fill('7')
    await dialog.getByText('This deletes what is at 7 offsets.').waitFor()
    await dialog.getByLabel('Type cut to confirm').fill('cut')
    await button(page, 'Delete records').click()
    await said(page, 'Records of cut were deleted.')
    equal((await broker.read('cut')).map(({ value }) => value), ['7', '8', '9'])
  })
})
