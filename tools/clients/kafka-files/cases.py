"""What is written to both brokers, and what must be found in their files."""

import json
import shutil
import subprocess

import dumps
from brokers import Kafka, Millstream
from dumps import Batch, Record
from suite import CALL_SECONDS, MILLSTREAM, WORK, case, equal, expect, millstream, tool, until

SEGMENT_BYTES = 1 << 20
OUR_OPTIONS = ["--log-segment-bytes", SEGMENT_BYTES, "--log-cleaner-backoff-ms", "300ms"]
THEIR_SETTINGS = [f"log.segment.bytes={SEGMENT_BYTES}", "log.cleaner.backoff.ms=300"]
OURS = Millstream(WORK / "millstream", *OUR_OPTIONS)
THEIRS = Kafka(WORK / "kafka", *THEIR_SETTINGS)

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
RECORDS = 300
KEYS = 50
CHANGES = 40_000
COMPACTED = ["cleanup.policy=compact", "min.cleanable.dirty.ratio=0.01"]


def write(broker):
    """Fills the broker's directory, and stops it."""
    running = broker.start()
    try:
        for codec in CODECS:
            produce(running, codec, records_in(codec), codec=codec)
            create(running, f"imported-{codec}")
        produce(running, "append-time", records_in("append-time"), ["message.timestamp.type=LogAppendTime"])
        produce(running, "compacted", changes(), COMPACTED)
        until(
            lambda: (broker.files / "compacted-0" / f"{0:020}.log").stat().st_size < SEGMENT_BYTES / 2,
            "a compaction",
        )
        commit = ["--reset-offsets", "--group", "readers", "--topic", "none", "--to-offset", 7, "--execute"]
        tool("kafka-consumer-groups", *commit, broker=running.address)
        if isinstance(broker, Kafka):
            sizes = ["--num-records", 10, "--record-size", 10, "--throughput", -1, "--transactional-id", "txn"]
            tool("kafka-producer-perf-test", "--topic", "transactional", *sizes, broker=running.address)
        running.stop()
    finally:
        running.end()


def records_in(name):
    """Key, value and header `n` of each record."""
    return [(f"key-{n}", f"{name} {n} " + "x" * (n % 200), str(n)) for n in range(RECORDS)]


def changes():
    """Of few keys, of which the last third is deleted in the end."""
    written = [(f"key-{n % KEYS}", f"change {n} " + "x" * 100, str(n)) for n in range(CHANGES)]
    deleted = [(f"key-{n}", None, str(CHANGES)) for n in range(KEYS * 2 // 3, KEYS)]
    # So that what is deleted lies in a segment that is compacted.
    behind = [(f"key-{n % 10}", "behind " + "x" * 1000, "0") for n in range(2 * SEGMENT_BYTES // 1000)]
    return written + deleted + behind


def create(running, topic, configs=()):
    options = [word for config in configs for word in ("--config", config)]
    millstream("topic", "create", topic, *options, "--bootstrap", running.address)


def produce(running, topic, records, configs=(), codec="none"):
    create(running, topic, configs)
    lines = "".join(f"n:{n}\t{key}\t{'NULL' if value is None else value}\n" for key, value, n in records)
    properties = ["parse.key=true", "parse.headers=true", "null.marker=NULL"]
    options = [word for name in properties for word in ("--reader-property", name)]
    options += ["--compression-codec", codec, "--batch-size", 4000]
    tool("kafka-console-producer", "--topic", topic, *options, broker=running.address, input=lines)


def segments(broker, topic, partition=0):
    return sorted((broker.files / f"{topic}-{partition}").glob("*.log"))


def both_dumps(files, gaps=False):
    """What both tools find in the segments, which must be the same; and it must be sound."""
    found = dumps.by_millstream(files)
    by_kafka = dumps.by_kafka(files, gaps)
    for one, other in zip(found, by_kafka):
        equal(one, other)
    equal(len(found), len(by_kafka))
    unsound = [entry for entry in found if isinstance(entry, Batch) and not entry.sound]
    equal(unsound, [])
    return found


def batches(found):
    return [entry for entry in found if isinstance(entry, Batch)]


def records(found):
    return [entry for entry in found if isinstance(entry, Record)]


def check_written(broker, topic):
    found = both_dumps(segments(broker, topic))
    wanted = [(n, key, value, ["n"]) for n, (key, value, _) in enumerate(records_in(topic))]
    equal([(r.offset, r.key, r.value, r.header_keys) for r in records(found)], wanted)
    equal(len(batches(found)) > 1, True)
    return found


def check_codec(broker, codec):
    found = check_written(broker, codec)
    equal({batch.codec for batch in batches(found)}, {codec})


def check_append_time(broker):
    found = check_written(broker, "append-time")
    times = {batch.max_timestamp for batch in batches(found)}
    equal(all(record.timestamp in times for record in records(found)), True)


def check_compacted(broker):
    files = segments(broker, "compacted")
    equal(len(files) > 1, True)
    found = both_dumps(files, gaps=True)
    offsets = [record.offset for record in records(found)]
    equal(offsets, sorted(set(offsets)))
    equal(len(offsets) < CHANGES, True)
    equal(latest((r.key, r.value) for r in records(found)), latest((key, value) for key, value, _ in changes()))


def latest(pairs):
    """The last value of each key, without those that are deleted."""
    return {key: value for key, value in dict(pairs).items() if value is not None}


def register(broker):
    name = broker.name
    for codec in CODECS:
        case(f"{name}'s segments in {codec}: both dumps")(lambda codec=codec: check_codec(broker, codec))
    case(f"{name}'s segments with LogAppendTime: both dumps")(lambda: check_append_time(broker))
    case(f"{name}'s compacted segments: both dumps")(lambda: check_compacted(broker))


register(OURS)
register(THEIRS)


@case("kafka-dump-log --offsets-decoder of Millstream's __consumer_offsets")
def offsets_decoder():
    names = ",".join(str(path) for path in filled("__consumer_offsets-*", OURS))
    printed = tool("kafka-dump-log", "--offsets-decoder", "--files", names)
    expect(printed, '"group":"readers","topic":"none","partition":0', '"offset":7')


@case("Kafka's transactions, __consumer_offsets and __cluster_metadata: millstream dump")
def own_topics():
    """Their records are in formats that Kafka's tool explains: only the batches are compared."""
    files = [*filled("__*", THEIRS), *filled("transactional-*", THEIRS)]
    found = batches(dumps.by_millstream(files))
    equal(found, batches(dumps.by_kafka(files, data=False)))
    equal(any(batch.control for batch in found) and any(batch.transactional for batch in found), True)


def filled(directories, broker):
    """The segments in such directories that are not empty."""
    return [path for path in sorted(broker.files.glob(f"{directories}/*.log")) if path.stat().st_size]


@case("a damaged batch of Kafka's: both dumps")
def damaged():
    path = WORK / f"{0:020}.log"
    content = bytearray(segments(THEIRS, "none")[0].read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    expect(tool("kafka-dump-log", "--files", path), "isvalid: false")
    done = dumps.run_dump([path])
    equal(done.returncode, 1)
    expect(done.stdout, '"crc_matches":false')


@case("Kafka's log directory: millstream verify --records")
def verify_directory():
    """All is sound, and all that lies there is counted."""
    partitions = {path.parent.name for path in filled("*", THEIRS)}
    summary = verify(THEIRS.files)
    equal(partitions >= {"none-0", "compacted-0", "transactional-0", "__cluster_metadata-0"}, True)
    expect_counts(summary, filled("*", THEIRS))
    equal(summary["partitions"] >= len(partitions), True)


@case("one partition and one segment of Kafka's: millstream verify --records")
def verify_parts():
    compacted = segments(THEIRS, "compacted")
    expect_counts(verify(compacted[0].parent), compacted)
    for codec in CODECS:
        segment = segments(THEIRS, codec)[0]
        summary = verify(segment)
        expect_counts(summary, [segment])
        equal((summary["partitions"], summary["records"]), (1, RECORDS))


def expect_counts(summary, files):
    """What `verify` has counted in them is what Kafka's tool tells."""
    found = batches(dumps.by_kafka(files, gaps=True, data=False))
    wanted = (len(found), sum(batch.count for batch in found), sum(path.stat().st_size for path in files))
    equal((summary["batches"], summary["records"], summary["bytes"]), wanted)


@case("a flipped byte in Kafka's log directory: millstream verify")
def verify_damaged():
    directory = shutil.copytree(THEIRS.files, WORK / "kafka-flipped")
    path = directory / "gzip-0" / f"{0:020}.log"
    second = batches(dumps.by_millstream([path]))[1]
    content = bytearray(path.read_bytes())
    content[second.position + second.size // 2] ^= 1
    path.write_bytes(content)
    for damaged in [directory, path]:
        done = run_verify(damaged)
        equal(done.returncode, 1)
        finding, summary = map(json.loads, done.stdout.splitlines())
        equal((finding["finding"], finding["path"]), ("bad_crc", str(path)))
        equal((finding["position"], finding["offset"]), (second.position, second.base_offset))
        equal(summary["errors"], 1)


@case("Kafka's segments in Millstream's directory: millstream verify, and served")
def import_kafka():
    broker = Millstream(shutil.copytree(OURS.directory, WORK / "millstream-2"), *OUR_OPTIONS)
    for codec in CODECS:
        directory = broker.files / f"imported-{codec}-0"
        directory.mkdir()
        shutil.copy(segments(THEIRS, codec)[0], directory)
    verify(broker.files)
    check_served(broker)
    verify(broker.files)


def verify(path):
    """`millstream verify` finds nothing wrong; returns what it counted."""
    done = run_verify(path)
    summary = json.loads(done.stdout.splitlines()[-1])
    equal((done.returncode, summary["errors"], done.stderr), (0, 0, ""))
    return summary


def run_verify(path):
    command = [MILLSTREAM, "verify", "--json", "--records", path]
    return subprocess.run(command, capture_output=True, text=True, timeout=CALL_SECONDS)


@case("Millstream's segments in Kafka's directory: served")
def import_millstream():
    broker = Kafka(shutil.copytree(THEIRS.directory, WORK / "kafka-2"), *THEIR_SETTINGS)
    for codec in CODECS:
        directory = broker.files / f"imported-{codec}-0"
        for path in directory.glob(f"{0:020}.*"):
            path.unlink()
        shutil.copy(segments(OURS, codec)[0], directory)
    check_served(broker)


def check_served(broker):
    """The broker, started again, serves the segments that were put in its directory."""
    wanted = sorted(value for codec in CODECS for _, value, _ in records_in(codec))
    running = broker.start()
    try:
        options = ["--include", "imported-.*", "--from-beginning", "--max-messages", len(wanted)]
        printed = tool("kafka-console-consumer", *options, broker=running.address)
        equal(sorted(line for line in printed.splitlines() if line.split()[0] in CODECS), wanted)
        running.stop()
    finally:
        running.end()
