// A broker of a suite's own, with HTTP: it can be killed and started again at its addresses.
// The suite `eventsource` uses it too.

'use strict'

const { spawn } = require('node:child_process')
const { once } = require('node:events')
const fs = require('node:fs')
const net = require('node:net')
const readline = require('node:readline')

// Below the ports that the kernel gives to connections: nobody takes them while the broker is away.
const PORTS = [20_000, 32_000]

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

class Broker {
  constructor(directory, ...options) {
    this.directory = directory
    this.options = options
  }

  async start() {
    this.http ??= `127.0.0.1:${await freePort()}`
    this.kafka ??= `127.0.0.1:${await freePort()}`
    this.base = `http://${this.http}/`
    const place = ['--data-dir', this.directory, '--listen', this.kafka, '--http', this.http]
    const log = fs.openSync(`${this.directory}.log`, 'a')
    this.process = spawn(process.env.MILLSTREAM, ['serve', ...place, ...this.options], { stdio: ['ignore', 'pipe', log] })
    this.ended = once(this.process, 'exit')
    const [line] = await Promise.race([once(readline.createInterface(this.process.stdout), 'line'), this.ended.then(() => [''])])
    if (!`${line}`.includes('ready')) throw new Error(`the broker did not start: see ${this.directory}.log`)
    return this
  }

  /** SIGKILL: it has no say. */
  async kill() {
    this.process.kill('SIGKILL')
    await this.ended
  }

  async killAndStart(awayMs = 2_000) {
    await this.kill()
    await sleep(awayMs)
    await this.start()
  }

  async stop() {
    if (!this.process || this.process.exitCode !== null || this.process.signalCode !== null) return
    this.process.kill('SIGTERM')
    await this.ended
  }

  /** Asks over HTTP, and fails unless the answer is a success. Returns what JSON says, or the text. */
  async ask(path, options = {}) {
    const answer = await fetch(this.base + path, options)
    const text = await answer.text()
    if (!answer.ok) throw new Error(`${options.method ?? 'GET'} ${path}: ${answer.status} ${text}`)
    return text && /json/.test(answer.headers.get('content-type') ?? '') ? JSON.parse(text) : text
  }

  /** Creates a topic. */
  topic(name, partitions = 1, configs = {}) {
    return this.ask(`api/topics/${name}`, { method: 'PUT', body: JSON.stringify({ partitions, configs }) })
  }

  /** Stores records as NDJSON has them. */
  send(topic, ...records) {
    const body = records.map((record) => JSON.stringify(record)).join('\n')
    return this.ask(`t/${topic}`, { method: 'POST', headers: { 'Content-Type': 'application/x-ndjson' }, body })
  }

  /** Stores one record, over and over until the broker says that it is there. Its message id keeps it from being there twice. */
  async sendOnce(topic, value, id) {
    for (;;) {
      const sent = fetch(`${this.base}t/${topic}`, { method: 'POST', headers: { 'Idempotency-Key': id }, body: value })
      if (await sent.then(({ ok }) => ok, () => false)) return
      await sleep(50)
    }
  }

  /** All records of a topic, in the order of their partition. */
  read(topic) {
    return this.ask(`t/${topic}?from=earliest&max=10000`, { headers: { Accept: 'application/json' } })
  }

  commit(group, ...offsets) {
    const body = JSON.stringify({ offsets })
    return this.ask(`api/groups/${encodeURIComponent(group)}/offsets`, { method: 'PUT', body })
  }
}

async function freePort() {
  for (;;) {
    const port = PORTS[0] + Math.floor(Math.random() * (PORTS[1] - PORTS[0]))
    const server = net.createServer()
    const isFree = await new Promise((resolve) => {
      server.once('error', () => resolve(false))
      server.listen(port, '127.0.0.1', () => resolve(true))
    })
    if (!isFree) continue
    await new Promise((resolve) => server.close(resolve))
    return port
  }
}

module.exports = { Broker, sleep }
