"""The tools that produce and consume, and those that ask for offsets or delete records."""

import json
import re
import signal
import subprocess

from suite import (
    BOOTSTRAP,
    CALL_SECONDS,
    DATA_DIR,
    MILLSTREAM,
    WORK,
    Expected,
    Wrong,
    case,
    equal,
    expect,
    expect_not,
    file_with,
    millstream,
    running,
    tool,
    topic_with,
    until,
    words,
)

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


@case("LogCompactionTester")
def compaction():
    """Kafka's own test of compaction. Its topic has segments of 1 GiB, of which the last is never
    compacted: they are made small as soon as the topic is there. It reads after a while; that it does
    not read too early, it is held until there is something compacted."""
    options = ["--messages", 300_000, "--duplicates", 20, "--percent-deletes", 10, "--sleep", 5]
    with running("log-compaction-tester", *options, java=f"-Xmx256m -Djava.io.tmpdir={WORK}") as process:
        printed = ""
        for line in process.stdout:
            printed += line
            created = re.search(r"to topics (\S+)", line)
            if created:
                topic = created[1]
                small = ["--config", "segment.bytes=1048576", "--config", "min.cleanable.dirty.ratio=0.01"]
                millstream("topic", "alter", topic, *small, "--bootstrap", BOOTSTRAP)
            if line.startswith("Sleeping"):
                process.send_signal(signal.SIGSTOP)
                until(lambda: segment_bytes(topic) < 1 << 19, "a compaction")
                process.send_signal(signal.SIGCONT)
        equal(process.wait(CALL_SECONDS), 0)
    expect(printed, " 0 mismatches", "Data verification is completed")
    if float(re.search(r"\(([\d.]+)% reduction", printed)[1]) < 10:
        raise Wrong(f"nothing was compacted: {printed}")


def segment_bytes(topic):
    """The size of its first segment."""
    return min(DATA_DIR.glob(f"{topic}-0/*.log")).stat().st_size


@case("kafka-console-producer, kafka-console-consumer: keys, headers, timestamps")
def keys_and_headers():
    topic = topic_with("tools-console-headers")
    properties = reader("parse.key=true", "parse.headers=true", "null.marker=NULL")
    lines = "a:1,b:2\tkey-1\tvalue-1\nc:3\tkey-2\tNULL\nd:4\tNULL\tvalue-3\n"
    tool("kafka-console-producer", "--topic", topic, *properties, input=lines)
    shown = consume(topic, 3, "print.key=true", "print.headers=true", "print.offset=true", "null.literal=NULL")
    equal(
        shown, ["Offset:0\ta:1,b:2\tkey-1\tvalue-1", "Offset:1\tc:3\tkey-2\tNULL", "Offset:2\td:4\tNULL\tvalue-3"]
    )
    for line in consume(topic, 3, "print.timestamp=true"):
        expect(line, "CreateTime:")


@case("kafka-console-producer --compression-codec, every one")
def codecs():
    for codec in CODECS:
        topic = topic_with(f"tools-console-{codec}")
        lines = [f"value {number} " + "x" * 100 for number in range(20)]
        text = "".join(f"{line}\n" for line in lines)
        tool("kafka-console-producer", "--topic", topic, "--compression-codec", codec, input=text)
        equal(consume(topic, 20), lines)
        equal(stored_codecs(topic), {codec})


@case("kafka-console-producer --sync, acks 0 and 1")
def acks():
    topic = topic_with("tools-console-acks")
    for number, more in enumerate([["--sync"], ["--request-required-acks", 0], ["--request-required-acks", 1]]):
        tool("kafka-console-producer", "--topic", topic, *more, input=f"line {number}\n")
    equal(consume(topic, 3), ["line 0", "line 1", "line 2"])


@case("kafka-console-consumer --partition --offset")
def from_offset():
    topic = topic_with("tools-console-offset", partitions=2, records=10)
    printed = tool("kafka-console-consumer", "--topic", topic, "--partition", 1, "--offset", 7, "--max-messages", 3)
    expect(printed, "record 7\nrecord 8\nrecord 9\n", "Processed a total of 3 messages")


@case("kafka-console-consumer --group goes on where it stopped")
def with_group():
    topic = topic_with("tools-console-group", records=10)
    for wanted in (range(0, 4), range(4, 10)):
        more = ["--group", "tools-console-group", "--from-beginning", "--max-messages", len(wanted)]
        printed = tool("kafka-console-consumer", "--topic", topic, *more)
        equal([line for line in printed.splitlines() if line.startswith("record")], [f"record {n}" for n in wanted])


@case("kafka-console-consumer --include, --isolation-level read_committed")
def with_pattern():
    for letter in "ab":
        topic_with(f"tools-console-include-{letter}", records=2)
    pattern = ["--include", "tools-console-include-.*", "--isolation-level", "read_committed"]
    printed = tool("kafka-console-consumer", *pattern, "--from-beginning", "--max-messages", 4)
    equal(printed.count("record 0\n"), 2)
    equal(printed.count("record 1\n"), 2)


@case(
    "kafka-console-share-consumer",
    Expected("share groups are not served", "does not support SHARE_GROUP_HEARTBEAT"),
)
def share_consumer():
    topic = topic_with("tools-console-shared", records=1)
    printed = tool("kafka-console-share-consumer", "--topic", topic, "--timeout-ms", 10_000, fails=True)
    expect_not(printed, "UnsupportedVersionException")


@case("kafka-get-offsets --time: earliest, latest, max-timestamp, a time")
def get_offsets():
    topic = topic_with("tools-offsets-times")
    keys = ["--reader-property", "parse.key=true"]
    for number in range(3):
        tool("kafka-console-producer", "--topic", topic, *keys, input=f"key\tvalue {number}\n")
    times = [int(line.split("\t")[0].split(":")[1]) for line in consume(topic, 3, "print.timestamp=true")]
    for time, wanted in [("earliest", 0), ("latest", 3), ("max-timestamp", 2), (times[1], 1), (times[1] + 1, 2)]:
        equal(offsets("--topic", topic, "--time", time), [f"{topic}:0:{wanted}"])
    equal(offsets("--topic", topic, "--time", "earliest-local"), [f"{topic}:0:0"])
    equal(offsets("--topic", topic, "--time", times[2] + 1), [])


@case("kafka-get-offsets of some partitions")
def get_offsets_of_some():
    topic = topic_with("tools-offsets-some", partitions=4, records=2)
    equal(offsets("--topic", topic, "--partitions", "1,3"), [f"{topic}:1:2", f"{topic}:3:2"])
    equal(offsets("--topic-partitions", f"{topic}:0-2"), [f"{topic}:0:2", f"{topic}:1:2"])


@case("kafka-delete-records")
def delete_records():
    topic = topic_with("tools-offsets-deleted", partitions=2, records=10)
    printed = tool("kafka-delete-records", "--offset-json-file", deletion(topic, {0: 4, 1: -1}))
    expect(printed, f"partition: {topic}-0\tlow_watermark: 4", f"partition: {topic}-1\tlow_watermark: 10")
    equal(offsets("--topic", topic, "--time", "earliest"), [f"{topic}:0:4", f"{topic}:1:10"])
    printed = tool("kafka-delete-records", "--offset-json-file", deletion(topic, {0: 11}))
    expect(printed, f"partition: {topic}-0\terror", "OffsetOutOfRangeException")


@case("kafka-producer-perf-test, kafka-consumer-perf-test")
def perf():
    topic = topic_with("tools-perf", partitions=2)
    sizes = ["--num-records", 20_000, "--record-size", 100, "--throughput", -1]
    printed = tool("kafka-producer-perf-test", "--topic", topic, *sizes, "--command-property", "acks=all")
    expect(printed, "20000 records sent", "ms avg latency")
    equal(sum(int(line.split(":")[2]) for line in offsets("--topic", topic)), 20_000)
    printed = tool("kafka-consumer-perf-test", "--topic", topic, "--num-records", 20_000, "--timeout", 60_000)
    row = [field.strip() for field in printed.splitlines()[-1].split(",")]
    equal(row[4], "20000")


@case("kafka-e2e-latency")
def latency():
    sizes = ["--num-records", 100, "--producer-acks", "all", "--record-size", 100]
    printed = tool("kafka-e2e-latency", "--topic", topic_with("tools-e2e"), *sizes)
    expect(printed, "Avg latency:", "Percentiles:")


@case("kafka-verifiable-producer, kafka-verifiable-consumer")
def verifiable():
    topic = topic_with("tools-verifiable", partitions=2)
    produced = events(tool("kafka-verifiable-producer", "--topic", topic, "--max-messages", 500))
    equal({event["value"] for event in named("producer_send_success", produced)}, {str(n) for n in range(500)})
    equal((produced[-1]["sent"], produced[-1]["acked"]), (500, 500))
    more = ["--group-id", "tools-verifiable", "--max-messages", 500, "--reset-policy", "earliest"]
    consumed = events(tool("kafka-verifiable-consumer", "--topic", topic, *more))
    equal(sum(event["count"] for event in named("records_consumed", consumed)), 500)
    equal({event["success"] for event in named("offsets_committed", consumed)}, {True})
    committed = tool("kafka-consumer-groups", "--describe", "--group", "tools-verifiable")
    equal(sum(int(row[3]) for row in words(committed, "tools-verifiable")), 500)


@case(
    "kafka-verifiable-consumer --group-protocol consumer",
    Expected("the consumer group protocol of KIP-848 is not served", "does not support CONSUMER_GROUP_HEARTBEAT"),
)
def new_protocol():
    topic = topic_with("tools-verifiable-new", records=1)
    more = ["--group-id", "tools-verifiable-new", "--group-protocol", "consumer", "--max-messages", 1]
    printed = tool("kafka-verifiable-consumer", "--topic", topic, *more, "--reset-policy", "earliest", fails=True)
    expect(printed, "records_consumed")
    equal(sum(event["count"] for event in named("records_consumed", events(printed))), 1)


@case(
    "kafka-producer-perf-test --transactional-id",
    Expected("transactions are not served", "Transaction"),
)
def transactional():
    sizes = ["--num-records", 10, "--record-size", 10, "--throughput", -1]
    tool(
        "kafka-producer-perf-test",
        "--topic",
        topic_with("tools-perf-txn"),
        *sizes,
        "--transactional-id",
        "tools-txn",
    )


def reader(*properties):
    return [word for name in properties for word in ("--reader-property", name)]


def consume(topic, count, *properties):
    """The lines that the console's consumer prints of the topic's first records."""
    shown = [word for name in properties for word in ("--formatter-property", name)]
    first = ["--partition", 0, "--offset", "earliest", "--max-messages", count]
    printed = tool("kafka-console-consumer", "--topic", topic, *first, *shown)
    lines, _, _ = printed.partition("Processed a total")
    return lines.splitlines()


def offsets(*arguments):
    return tool("kafka-get-offsets", *arguments).split()


def deletion(topic, offsets):
    partitions = [{"topic": topic, "partition": at, "offset": offset} for at, offset in offsets.items()]
    return file_with("delete-records.json", json.dumps({"version": 1, "partitions": partitions}))


def events(printed):
    return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]


def named(name, entries):
    return [entry for entry in entries if entry["name"] == name]


def stored_codecs(topic):
    """Those of the topic's batches in the broker's files."""
    segments = sorted(DATA_DIR.glob(f"{topic}-*/*.log"))
    # Its status is not asked for: a segment that is written at the time may look unsound at its end.
    done = subprocess.run(
        [MILLSTREAM, "dump", "--json", *segments], capture_output=True, text=True, timeout=CALL_SECONDS
    )
    return {entry["codec"] for entry in map(json.loads, done.stdout.splitlines()) if "codec" in entry}
