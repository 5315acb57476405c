// npm's kafka-rest: what the suite asks of it, one subcommand a process. Prints JSON.

'use strict'

const KafkaRest = require('kafka-rest')

const [command, url, topic] = process.argv.slice(2)
const kafka = new KafkaRest({ url })

function done(error, result) {
  console.log(JSON.stringify(error ? { error: `${error}` } : { result }))
  process.exit()
}

const commands = {
  topics: () => kafka.topics.list((error, topics) => done(error, topics?.map(({ name }) => name))),
  topic: () => kafka.topics.get(topic, (error, found) => done(error, found?.raw)),
  partitions: () => kafka.topic(topic).partitions.list((error, found) => done(error, found?.map(({ raw }) => raw.partition))),
  brokers: () => kafka.brokers.list((error, brokers) => done(error, brokers?.map(({ id }) => id))),
  produce: () => kafka.topic(topic).produce('one', 'two', done),
  consume: () => kafka.consumer('version-1').join({ format: 'binary', 'auto.offset.reset': 'smallest' }, (error, instance) => {
    if (error) return done(error)
    instance.subscribe(topic).on('data', (messages) => done(null, messages.length)).on('error', done)
  }),
}

commands[command]()
