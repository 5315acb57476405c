// Headless Chromium, and a watch over all that a page does.
//
// PAGE_FILES=../../../src/http/page   these files instead of the ones in the binary, while they are worked on

'use strict'

const fs = require('node:fs')
const path = require('node:path')
const { chromium } = require('playwright-core')

const WAIT_MS = 15_000
const SIZE = { width: 1280, height: 800 }
// What a refused request says in the console, besides what the page makes of it.
const REFUSED = /^Failed to load resource/

class Browser {
  static async launch() {
    const browser = new Browser()
    // As root Chromium has no sandbox; it sees pages of this suite only.
    browser.chromium = await chromium.launch({ executablePath: executable('chromium'), args: ['--no-sandbox'] })
    // What no page may do: errors and refusals of the content security policy in the console, requests to elsewhere.
    browser.faults = []
    return browser
  }

  /**
   * Opens a view of a broker's page in a window of its own. `refusals` says that the broker refuses something there, or
   * does not answer, which Chromium writes to the console.
   */
  async open(broker, hash, { refusals = false, ...options } = {}) {
    const context = await this.chromium.newContext({ viewport: SIZE, timezoneId: 'UTC', ...options })
    context.setDefaultTimeout(WAIT_MS)
    const page = await context.newPage()
    page.on('console', (message) => {
      if (message.type() !== 'error' && message.type() !== 'warning') return
      if (refusals && REFUSED.test(message.text())) return
      this.faults.push(`${hash}: ${message.text()} (${message.location().url})`)
    })
    page.on('pageerror', (error) => this.faults.push(`${hash}: ${error.stack}`))
    page.on('dialog', (dialog) => this.faults.push(`${hash}: a dialog of the browser: ${dialog.message()}`))
    page.on('request', (request) => {
      if (!request.url().startsWith(broker.base)) this.faults.push(`${hash}: a request to ${request.url()}`)
    })
    await page.addInitScript(() => {
      document.addEventListener('securitypolicyviolation', (event) => {
        console.error(`refused by the content security policy: ${event.violatedDirective}`)
      })
    })
    if (process.env.PAGE_FILES) await useFiles(page, process.env.PAGE_FILES)
    await page.goto(broker.base + hash)
    return page
  }

  /** Opens a view, uses it, and closes it however that went. */
  async use(broker, hash, task, options) {
    const page = await this.open(broker, hash, options)
    try {
      return await task(page)
    } catch (error) {
      await this.keep(page)
      throw error
    } finally {
      await page.context().close()
    }
  }

  /** A picture of what was there when a case failed. */
  async keep(page) {
    const file = path.join(process.env.WORK, `failed-${Date.now()}.png`)
    await page.screenshot({ path: file }).catch(() => {})
    process.stderr.write(`${file}\n`)
  }

  /** The faults since the last time they were asked for. */
  takeFaults() {
    return this.faults.splice(0)
  }

  close() {
    return this.chromium.close()
  }
}

/** The answers of the broker, but with the body from a file. */
function useFiles(page, directory) {
  const names = { '/': 'page.html', '/page.js': 'page.js', '/page.css': 'page.css' }
  return page.route((url) => Object.hasOwn(names, url.pathname), async (route) => {
    const response = await route.fetch()
    const body = fs.readFileSync(path.join(directory, names[new URL(route.request().url()).pathname]))
    await route.fulfill({ response, body })
  })
}

function executable(name) {
  const places = process.env.PATH.split(':').map((directory) => path.join(directory, name))
  return places.find((place) => fs.existsSync(place))
}

module.exports = { Browser }
