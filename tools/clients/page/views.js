// What holds for all views: warnings, cores, the keyboard, what comes from records, accessibility, and the watch.

'use strict'

const fs = require('node:fs')
const { test, check, equal, until } = require('./cases.js')
const { sleep } = require('./broker.js')
const { SCRIPT, IMAGE } = require('./seed.js')

const button = (page, name) => page.getByRole('button', { name, exact: true })
const heading = (page, name) => page.getByRole('heading', { name, exact: true })

test('warnings come first, in every view', ({ browser, broker }) =>
  browser.use(broker, '#/topics', async (page) => {
    for (const view of ['Topics', 'Groups', 'Cores']) {
      await page.getByRole('navigation', { name: 'Views' }).getByRole('link', { name: view }).click()
      const warnings = page.getByRole('region', { name: 'Warnings' })
      await warnings.getByText('durability is os').waitFor()
      await warnings.getByText('group billing is 1 d 21 h behind').waitFor()
      const [above, below] = await Promise.all([warnings.boundingBox(), heading(page, view).boundingBox()])
      check(above.y + above.height <= below.y, `${view}: they are not above the view`)
      const words = await warnings.locator('.severity').allTextContents()
      equal(words, [...words].sort((one, other) => rank(one) - rank(other)), 'the worst first')
    }
  }))

const rank = (severity) => ['error', 'warning', 'note'].indexOf(severity)

test('cores: a row for each, with load and latencies', ({ browser, broker }) =>
  browser.use(broker, '#/cores', async (page) => {
    const shards = page.getByRole('table').filter({ hasText: 'Shards, one on each core' }).locator('tbody tr')
    await until(async () => (await shards.count()) === 2, 'two shards')
    const sending = setInterval(() => broker.send('plain', { value: 'load' }).catch(() => {}), 50)
    try {
      await page.getByText('Rates need two looks').waitFor({ state: 'hidden' })
      await shards.first().getByText(/^\d+ %$/).waitFor()
      await shards.first().getByRole('img', { name: /^Busy, in percent: now \d+/ }).waitFor()
      await page.getByRole('row', { name: /^POST \/t\/\{topic\} [\d.]+ ≤ / }).waitFor()
      await page.getByText('resident, mapped segments included').waitFor()
    } finally {
      clearInterval(sending)
    }
  }))

/** Presses Tab until what has the focus is called so. */
async function tabTo(page, name) {
  for (let presses = 0; presses < 60; presses += 1) {
    await page.keyboard.press('Tab')
    const found = await page.evaluate(() => {
      const { activeElement: node } = document
      return node.getAttribute('aria-label') ?? node.labels?.[0]?.textContent ?? node.textContent
    })
    if (found === name) return
  }
  throw new Error(`Tab does not come to ${name}`)
}

test('keyboard only: a topic is created, a record sent, opened and closed', ({ browser, broker }) =>
  browser.use(broker, '#/topics', async (page) => {
    const { keyboard } = page
    await page.getByRole('link', { name: 'orders' }).waitFor()
    await keyboard.press('Tab')
    check(await page.getByText('Skip to content').evaluate((node) => node === document.activeElement && node.getBoundingClientRect().left >= 0), 'Tab does not begin with a visible link to the content')
    await keyboard.press('Enter')
    await tabTo(page, 'Create topic…')
    const outline = await button(page, 'Create topic…').evaluate((node) => getComputedStyle(node).outlineWidth)
    check(Number.parseFloat(outline) >= 2, `the focus has an outline of ${outline}`)
    await keyboard.press('Enter')
    await keyboard.type('typed')
    await keyboard.press('Enter')
    await heading(page, 'Topic typed').waitFor()
    await page.locator('#status').getByText('Topic typed was created.').waitFor()
    await button(page, 'Send record…').waitFor()
    await tabTo(page, 'Send record…')
    await keyboard.press('Enter')
    await tabTo(page, 'Value')
    await keyboard.type('by hand')
    await tabTo(page, 'Send')
    await keyboard.press('Space')
    await page.getByText('Stored at offset 0 of partition 0.').waitFor()
    await keyboard.press('Escape')
    await tabTo(page, 'Show')
    await keyboard.press('Enter')
    const place = 'Open the record at offset 0 of partition 0'
    await button(page, place).waitFor()
    await tabTo(page, place)
    await keyboard.press('Enter')
    await page.getByRole('dialog', { name: 'Record 0:0' }).getByText('by hand').waitFor()
    await keyboard.press('Escape')
    await until(async () => (await page.getByRole('dialog').count()) === 0, 'the dialog to close')
    equal(await page.evaluate(() => document.activeElement.getAttribute('aria-label')), place, 'where the focus is then')
  }))

test('markup in keys, values, headers and names is text, and does nothing', ({ browser, broker }) =>
  browser.use(broker, '#/topic/hostile', async (page) => {
    const isText = async (where) => {
      await sleep(200)
      check(!(await page.title()).includes('owned'), `${where}: a script ran`)
      equal(await page.locator('img, main script, dialog script, main b, dialog h1').count(), 0, `${where}: elements from a record`)
    }
    await page.getByRole('cell', { name: SCRIPT }).first().waitFor()
    await page.getByRole('cell', { name: IMAGE }).first().waitFor()
    await isText('the newest')
    for (const [offset, text] of [[0, SCRIPT], [1, IMAGE]]) {
      await button(page, `Open the record at offset ${offset} of partition 0`).click()
      equal(await page.getByLabel('The value', { exact: true }).textContent(), text)
      equal(await page.getByLabel('The key', { exact: true }).textContent(), text)
      await isText('a record')
      await button(page, 'Edit and send again…').click()
      equal(await page.getByRole('dialog').getByLabel('Value', { exact: true }).inputValue(), text)
      await isText('a form')
      await button(page, 'Close').click()
    }
    await button(page, 'Live tail').click()
    await page.getByText('Live:').waitFor()
    await broker.send('hostile', { value: `${IMAGE}${SCRIPT}` })
    await page.getByRole('cell', { name: `${IMAGE}${SCRIPT}` }).waitFor()
    await isText('the tail')
    await page.goto(`${broker.base}#/topic/hostile?grep=${encodeURIComponent(SCRIPT)}&from=earliest`)
    await page.getByText('Done.').waitFor()
    await isText('a search')
    await page.goto(`${broker.base}#/group/${encodeURIComponent(SCRIPT)}`)
    await heading(page, `Group ${SCRIPT}`).waitFor()
    await page.getByText('Empty', { exact: true }).waitFor()
    equal(await page.locator('main script').count(), 0, 'a group')
    await page.goto(`${broker.base}#/topic/${encodeURIComponent(IMAGE)}`)
    await heading(page, `Topic ${IMAGE}`).waitFor()
    await page.getByText('This is tried again.').waitFor()
    equal(await page.locator('img').count(), 0, 'a name of a topic')
  }, { refusals: true }))

test('a raw value that is a page is not run as one', async ({ browser, broker }) => {
  await broker.topic('pages')
  await broker.send('pages', { value: `<!doctype html><title>raw</title>${SCRIPT}`, headers: { 'content-type': 'text/html' } })
  const page = await browser.open(broker, 't/pages/0/0', { refusals: true })
  await sleep(300)
  const title = await page.title()
  await page.context().close()
  // The browser says that it refused the script.
  browser.takeFaults()
  check(title !== 'owned', 'its script ran')
})

const VIEWS = {
  topics: ['#/topics', (page) => page.getByText('retention.ms=86400000').first().waitFor()],
  'create a topic': ['#/topics', (page) => button(page, 'Create topic…').click()],
  topic: ['#/topic/orders', async (page) => {
    await page.getByText('The newest:').waitFor()
    await page.getByLabel('Show defaults too').check()
    await page.getByText('Offsets by partition').click()
  }],
  'delete a topic': ['#/topic/orders', (page) => button(page, 'Delete topic…').click()],
  search: ['#/topic/events?key=user-1&from=earliest', async (page) => {
    await page.getByText('Paused.').waitFor()
    await page.getByText('Progress by partition').click()
  }],
  'live tail': ['#/topic/orders', async (page) => {
    await button(page, 'Live tail').click()
    await page.getByText('Live:').waitFor()
  }],
  record: ['#/topic/hostile?record=0:1', (page) => page.getByRole('dialog').waitFor()],
  'send a record': ['#/topic/orders', async (page) => {
    await button(page, 'Send record…').click()
    await button(page, 'Add header').click()
  }],
  groups: ['#/groups', (page) => page.getByRole('link', { name: 'billing' }).waitFor()],
  'reset offsets': ['#/group/billing', async (page) => {
    await until(async () => (await page.getByLabel('Topic').inputValue()) === 'events', 'the topic filled in')
    await button(page, 'Preview').click()
    await button(page, 'Reset offsets').waitFor()
  }],
  cores: ['#/cores', (page) => page.getByText('Rates need two looks').waitFor({ state: 'hidden' })],
  'what is not there': ['#/topic/nowhere', (page) => page.getByText('This is tried again.').waitFor()],
}

const AXE = fs.readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8')

for (const [name, [hash, prepare]] of Object.entries(VIEWS)) {
  test(`accessible by axe, light, dark and narrow: ${name}`, async ({ browser, broker }) => {
    const looks = { light: { colorScheme: 'light' }, dark: { colorScheme: 'dark' }, narrow: { viewport: { width: 360, height: 700 } } }
    for (const [look, options] of Object.entries(looks)) {
      await browser.use(broker, hash, async (page) => {
        await page.getByText('durability is os').waitFor()
        await prepare(page)
        await page.evaluate(AXE)
        const { violations, passes } = await page.evaluate(() => globalThis.axe.run())
        check(passes.some(({ id }) => id === 'color-contrast'), 'axe looked at no colours')
        const found = violations.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map(({ html }) => html.slice(0, 150)).join(' ')}`)
        equal(found, [], look)
        const [wide, window] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth])
        check(wide <= window, `${look}: ${wide} pixels wide in a window of ${window}`)
      }, { ...options, refusals: hash.endsWith('nowhere') })
    }
  })
}

test('a page is not shown inside one of another site, nor by another name', async ({ browser, broker, other }) => {
  const page = await browser.open(other, '#/topics')
  await page.evaluate((url) => {
    const frame = document.createElement('iframe')
    frame.src = url
    document.body.append(frame)
  }, broker.base)
  await sleep(500)
  const text = await page.frames().at(-1).evaluate(() => document.body?.innerText ?? '').catch(() => '')
  await page.context().close()
  browser.takeFaults()
  check(!text.includes('Topics'), 'it is shown in a frame')
  const answer = await fetch(broker.base, { headers: { Origin: 'http://evil.example' } })
  equal(answer.headers.get('access-control-allow-origin'), null, 'other origins that may read')
})

test('the watch notices an error, a script that is refused, and a request to elsewhere', async ({ browser, broker }) => {
  const before = browser.takeFaults()
  await browser.use(broker, '#/topics', async (page) => {
    await page.evaluate(() => {
      console.error('an error')
      const script = document.createElement('script')
      script.textContent = "document.title = 'owned'"
      document.body.append(script)
      fetch('http://127.0.0.1:9/').catch(() => {})
    })
    await sleep(300)
    equal(await page.title(), 'Topics – Millstream')
  })
  const found = browser.takeFaults().join('\n')
  browser.faults.push(...before)
  for (const text of ['an error', 'Content Security Policy', 'script-src']) check(found.includes(text), `no ${text} in: ${found}`)
})
