// The broker's page in headless Chromium: each thing that people do with it, and what holds for all of it.
//
// CASES=pattern      only the cases with such a name
// WRITE_PICTURES=1   writes docs/page/*.png and nothing else

'use strict'

const path = require('node:path')
const { Broker } = require('./broker.js')
const { Browser } = require('./browser.js')
const { runCases } = require('./cases.js')
const { writePictures } = require('./pictures.js')
const { seed } = require('./seed.js')

for (const part of ['./topics.js', './messages.js', './groups.js', './views.js', './watch.js']) require(part)

const OPTIONS = ['--cores', '2', '--durability', 'os', '--lag-interval-ms', '1000']

async function main() {
  const broker = new Broker(path.join(process.env.WORK, 'broker'), ...OPTIONS)
  const other = new Broker(path.join(process.env.WORK, 'other'), ...OPTIONS)
  const browser = await Browser.launch()
  try {
    await broker.start()
    await other.start()
    await seed(broker, Boolean(process.env.WRITE_PICTURES))
    if (process.env.WRITE_PICTURES) await writePictures(browser, broker)
    else await runCases(`Chromium ${browser.chromium.version()}, axe-core ${require('axe-core').version}.`, { browser, broker, other })
  } finally {
    await browser.close()
    await broker.stop()
    await other.stop()
  }
}

main().catch((error) => {
  console.error(error)
  process.exit(1)
})
