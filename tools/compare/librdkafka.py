#!/usr/bin/env python3
"""A producer and a consumer on librdkafka, for tools/compare. Prints a JSON object.

    librdkafka.py produce|consume ADDRESS TOPIC RECORDS RECORD_BYTES RATE [KEY=VALUE]...

RATE 0 is as fast as it goes. Latencies are librdkafka's own: from produce() to the acknowledgement.
"""

import json
import sys
import time

import confluent_kafka

IDLE_SECONDS = 30
PACE_RECORDS = 20


def main():
    mode, address, topic, records, record_bytes, rate, *settings = sys.argv[1:]
    settings = dict(setting.split("=", 1) for setting in settings)
    run = {"produce": produce, "consume": consume}[mode]
    seconds, latencies = run(address, topic, int(records), int(record_bytes), float(rate), settings)
    metrics = {
        "records_per_second": int(records) / seconds,
        "bytes_per_second": int(records) * int(record_bytes) / seconds,
    }
    latencies.sort()
    for name, share in (("p50_us", 0.5), ("p99_us", 0.99), ("p999_us", 0.999)) if latencies else ():
        metrics[name] = latencies[int(share * (len(latencies) - 1))] * 1e6
    print(json.dumps(metrics))


def produce(address, topic, records, record_bytes, rate, settings):
    producer = confluent_kafka.Producer({"bootstrap.servers": address, **settings})
    value, latencies, failures = b"x" * record_bytes, [], []

    def acknowledged(error, message):
        if error:
            failures.append(error)
        else:
            latencies.append(message.latency())

    # The topic is there, and the connection too, before the clock starts.
    producer.produce(topic, value)
    producer.flush(IDLE_SECONDS)
    started = time.monotonic()
    for number in range(records):
        while True:
            try:
                producer.produce(topic, value, on_delivery=acknowledged)
                break
            except BufferError:
                producer.poll(0.01)
        if number % PACE_RECORDS == 0:
            ahead = number / rate - (time.monotonic() - started) if rate else 0
            producer.poll(max(ahead, 0))
            while rate and number / rate > time.monotonic() - started:
                producer.poll(0.0005)
    left = producer.flush(IDLE_SECONDS)
    if left or failures:
        sys.exit(f"{left} records were not acknowledged; {len(failures)} failed: {failures[:1]}")
    return time.monotonic() - started, latencies


def consume(address, topic, records, _record_bytes, _rate, settings):
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": address,
            "group.id": f"compare-{time.time_ns()}",
            "auto.offset.reset": "earliest",
            **settings,
        }
    )
    consumer.assign([confluent_kafka.TopicPartition(topic, 0, confluent_kafka.OFFSET_BEGINNING)])
    started, count = None, 0
    while count < records:
        messages = consumer.consume(min(1000, records - count), IDLE_SECONDS)
        if not messages:
            sys.exit(f"nothing came for {IDLE_SECONDS} s, after {count} records")
        for message in messages:
            if message.error():
                sys.exit(f"{message.error()}")
        started = started or time.monotonic()
        count += len(messages)
    seconds = time.monotonic() - started
    consumer.close()
    return seconds, []


if __name__ == "__main__":
    main()
