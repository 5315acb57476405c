// The last case: what was noticed while all others ran.

'use strict'

const { test, equal } = require('./cases.js')

test('no errors in the console, no violations of the content security policy, no requests to another origin, in all of this', async ({ browser }) => {
  equal(browser.takeFaults(), [])
})
