// Cases of a suite in Node. ../README.md says what a suite prints. The suite `eventsource` uses them too.

'use strict'

const { isDeepStrictEqual } = require('node:util')
const { sleep } = require('./broker.js')

const CASE_MS = 90_000
const WAIT_MS = 15_000

const cases = []

/** A case passes when its function ends, and fails when it throws. `expected` says why one is known to fail. */
function test(name, run, expected = null) {
  cases.push({ name, run, expected })
}

/** Runs all cases, one after the other, and prints how each went. `given` is what each is called with. */
async function runCases(about, given) {
  emit({ about })
  const wanted = process.env.CASES ? new RegExp(process.env.CASES) : /./
  for (const { name, run, expected } of cases.filter((one) => wanted.test(one.name))) {
    const began = performance.now()
    const why = await failureOf(() => run(given))
    const known = expected === null ? {} : { expected: true }
    emit(why === null ? { case: name, result: 'pass', ...known } : { case: name, result: 'fail', why: expected ?? why, ...known })
    process.stderr.write(`${((performance.now() - began) / 1000).toFixed(1)} s  ${name}: ${why ?? 'pass'}\n`)
  }
}

async function failureOf(run) {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no end after ${CASE_MS / 1000} s`)), CASE_MS)
  })
  try {
    await Promise.race([run(), late])
    return null
  } catch (error) {
    return error.message.slice(0, 1000)
  } finally {
    clearTimeout(timer)
  }
}

function emit(line) {
  process.stdout.write(JSON.stringify(line) + '\n')
}

function check(holds, what) {
  if (!holds) throw new Error(what)
}

function equal(found, wanted, what = 'found') {
  if (isDeepStrictEqual(found, wanted)) return
  throw new Error(`${what}: ${short(found)} instead of ${short(wanted)}`)
}

const short = (value) => JSON.stringify(value)?.slice(0, 300)

/** Waits until a function returns something true, and returns that. */
async function until(found, what, ms = WAIT_MS) {
  const end = performance.now() + ms
  for (;;) {
    const value = await found()
    if (value) return value
    if (performance.now() > end) throw new Error(`waited ${ms / 1000} s for ${what}`)
    await sleep(50)
  }
}

module.exports = { test, runCases, check, equal, until }
