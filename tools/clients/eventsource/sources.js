// The two kinds of EventSource, opened and looked at in the same way.
//
// `events()` has `{event, id, data}` of each event that the broker sent, and `{event}` for each connection that was made
// (`open`) or broke (`error`). `state()` is `readyState`.

'use strict'

const NAMES = ['record', 'caught-up', 'ping', 'error', 'message', 'open']

/** Collects what an EventSource tells. It goes to the browser as text, so it knows nothing of this file. */
function listen(source, names) {
  const events = []
  for (const name of names) {
    source.addEventListener(name, ({ type, lastEventId, data }) => {
      events.push(data === undefined ? { event: type } : { event: type, id: lastEventId, data: JSON.parse(data) })
    })
  }
  return events
}

const inNode = {
  name: 'npm eventsource',
  async open(broker, path) {
    const { EventSource } = require('eventsource')
    const source = new EventSource(broker.base + path)
    const events = listen(source, NAMES)
    return { events: async () => events, state: async () => source.readyState, close: async () => source.close() }
  },
}

/** In a page of the broker's own. */
const inChromium = (browser) => ({
  name: 'Chromium',
  async open(broker, path) {
    const page = await browser.open(broker, '#/topics', { refusals: true })
    await page.evaluate(`
      globalThis.source = new EventSource(${JSON.stringify(path)})
      globalThis.events = (${listen})(source, ${JSON.stringify(NAMES)})
      0`)
    return {
      events: () => page.evaluate('events'),
      state: () => page.evaluate('source.readyState'),
      close: () => page.context().close(),
    }
  },
})

module.exports = { inNode, inChromium }
