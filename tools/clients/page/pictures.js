// Pictures for docs/page/, written only with WRITE_PICTURES=1.

'use strict'

const fs = require('node:fs')
const path = require('node:path')
const { sleep } = require('./broker.js')

const PLACE = path.resolve(__dirname, '../../../docs/page')
const SIZE = { width: 1280, height: 560 }
const BYTES_MAX = 120 * 1024

const button = (page, name) => page.getByRole('button', { name, exact: true })

const toTop = (place) => place.evaluate((node) => node.scrollIntoView())

async function newest(page) {
  await page.getByText('The newest:').waitFor()
  await toTop(page.getByRole('heading', { name: 'Messages' }))
}

const PICTURES = {
  topics: ['#/topics', (page) => page.getByText('retention.ms=86400000').first().waitFor()],
  messages: ['#/topic/orders', newest],
  'messages-dark': ['#/topic/orders', newest, { colorScheme: 'dark' }],
  record: ['#/topic/orders?record=0:1', (page) => page.getByRole('dialog').waitFor()],
  search: ['#/topic/events?key=user-1&from=earliest', async (page) => {
    await page.getByText('Paused.').waitFor()
    await toTop(page.getByRole('heading', { name: 'Messages' }))
  }],
  groups: ['#/groups', async (page, broker) => {
    for (const count of [300, 900, 200]) {
      await broker.send('events', ...Array.from({ length: count }, () => ({ value: 'more' })))
      await sleep(10_500)
    }
  }],
  'reset-offsets': ['#/group/billing', async (page) => {
    await page.waitForFunction(() => document.querySelector('[list]')?.value === 'events')
    await button(page, 'Preview').click()
    await button(page, 'Reset offsets').scrollIntoViewIfNeeded()
  }],
  cores: ['#/cores', () => sleep(10_000)],
}

async function writePictures(browser, broker) {
  fs.mkdirSync(PLACE, { recursive: true })
  for (const [name, [hash, prepare, options]] of Object.entries(PICTURES)) {
    await browser.use(broker, hash, async (page) => {
      await page.getByText('durability is os').waitFor()
      await prepare(page, broker)
      const picture = await page.screenshot()
      if (picture.length > BYTES_MAX) throw new Error(`${name} has ${picture.length} bytes`)
      fs.writeFileSync(path.join(PLACE, `${name}.png`), picture)
    }, { viewport: SIZE, ...options })
  }
}

module.exports = { writePictures }
