// What the Node programs of the client matrix share: the command line, the records, the output.
//
// ../README.md says what a client program understands and prints.

'use strict'

const BOOTSTRAP = process.env.BOOTSTRAP ?? '127.0.0.1:9092'

const MEMBER_TIMEOUT_MS = 300_000

const NUMBERS = ['partitions', 'partition', 'count', 'start', 'base', 'idempotent', 'max', 'offset', 'timestamp']

/** Calls the subcommand that the command line names, with its key=value arguments as one object. */
async function run(commands) {
  const [name, ...words] = process.argv.slice(2)
  try {
    await commands[name](Object.fromEntries(words.map(argument)))
  } catch (error) {
    console.error(error)
    process.exit(1)
  }
}

function argument(word) {
  const [key, ...rest] = word.split('=')
  const value = rest.join('=')
  return [key, NUMBERS.includes(key) ? Number(value) : value]
}

/** `name:value` as a pair. */
function config(text) {
  const colon = text.indexOf(':')
  return [text.slice(0, colon), text.slice(colon + 1)]
}

/** Prints one JSON object as a line, at once. */
function emit(line) {
  process.stdout.write(JSON.stringify(line) + '\n')
}

/** Says that the library cannot do what was asked. */
function unsupported(why) {
  emit({ unsupported: why })
}

/** The records to produce; timestamps are numbers, in ms. */
function records(client, { partitions, count, start, base }) {
  return Array.from({ length: count }, (_, index) => {
    const i = start + index
    return {
      partition: i % partitions,
      key: `key-${i}`,
      value: `value-${i}-` + 'x'.repeat(i % 200),
      timestamp: base + 1000 * i,
      headers: { n: String(i), by: client },
    }
  })
}

/** Prints a record that was consumed. Offset and timestamp may be what the library has for a long
 * (string, bigint, number), key, value and the headers' values strings or buffers. */
function emitRecord({ partition, offset, key, value, timestamp, headers }) {
  const texts = Object.entries(headers).map(([name, content]) => [name, content.toString()])
  emit({
    partition,
    offset: Number(offset),
    key: key.toString(),
    value: value.toString(),
    timestamp: Number(timestamp),
    headers: Object.fromEntries(texts),
  })
}

/** Prints what is committed against the ends; both are objects of numbers by partition. */
function emitLag(committed, ends) {
  const lags = Object.entries(committed).map(([partition, offset]) => {
    const end = ends[partition]
    return [partition, { committed: offset, end, lag: end - offset }]
  })
  emit(Object.fromEntries(lags))
}

/** How long a member goes on: until SIGTERM or `max` records, and an error after MEMBER_TIMEOUT_MS. */
class Membership {
  #left
  #finish

  /** Settled when the member is to leave. `fail` makes it fail. */
  over

  constructor(max = Infinity) {
    this.#left = max
    this.over = new Promise((resolve, reject) => {
      this.#finish = resolve
      this.fail = reject
      const late = new Error(`neither done nor stopped after ${MEMBER_TIMEOUT_MS} ms`)
      setTimeout(reject, MEMBER_TIMEOUT_MS, late).unref()
    })
    process.once('SIGTERM', this.#finish)
  }

  /** Processes a batch of one partition, or as much of it as `max` leaves, and has it committed:
   * `commit` gets the next offset. A failure to commit is the caller's to judge. */
  async process(partition, offsets, commit) {
    const taken = offsets.slice(0, this.#left).map(Number)
    if (taken.length === 0) return
    this.#left -= taken.length
    taken.forEach((offset) => emit({ processed: [partition, offset] }))
    const next = taken.at(-1) + 1
    try {
      await commit(next)
      emit({ committed: [[partition, next]] })
    } finally {
      if (this.#left === 0) this.#finish()
    }
  }
}

module.exports = { BOOTSTRAP, run, config, emit, unsupported, records, emitRecord, emitLag, Membership }
