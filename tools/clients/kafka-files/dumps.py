"""What `kafka-dump-log` and `millstream dump` print of segments, in one form to compare them."""

import json
import re
import subprocess
from collections import namedtuple

from suite import CALL_SECONDS, MILLSTREAM, Wrong, tool

Batch = namedtuple(
    "Batch",
    "position size base_offset last_offset count codec crc sound leader_epoch max_timestamp "
    "producer_id producer_epoch base_sequence transactional control",
)
Record = namedtuple("Record", "offset timestamp key value header_keys")

RECORD = re.compile(
    r"\| offset: (?P<offset>\d+) \w+: (?P<timestamp>-?\d+) keySize: (?P<key_size>-?\d+) valueSize: (?P<value_size>-?\d+)"
    r"(?: sequence: -?\d+ headerKeys: \[(?P<headers>[^]]*)\])?"
    # What Kafka knows to explain (a control record) stands in the place of key and payload.
    r"(?: key: (?P<key>.*?))?(?: payload: (?P<value>.*)| \w+: .*)?$"
)
# "Non-consecutive offsets in FILE", and then "  10 is followed by 20" for each.
GAPS = ("Non-consecutive offsets in ", "  ")


def by_kafka(files, gaps=False, data=True):
    """The batches and records of segments, in their order, as Kafka's tool tells them. It also tells
    of gaps between offsets, which are right after a compaction only. Without `data`, records have
    neither key nor value: what is no text can have line ends in it."""
    names = ",".join(str(path) for path in files)
    expected = ("Dumping ", "Log starting offset: ", *(GAPS if gaps else ()))
    found = []
    options = ["--print-data-log"] if data else ["--deep-iteration"]
    for line in tool("kafka-dump-log", "--files", names, *options).splitlines():
        if line.startswith("baseOffset: "):
            found.append(kafka_batch(line))
        elif line.startswith("| offset: "):
            found.append(kafka_record(line))
        elif not line.startswith(expected):
            raise Wrong(f"kafka-dump-log says: {line}")
    return found


def kafka_batch(line):
    # "a: 1 b: 2 ...": the words in turn.
    words = line.split()
    fields = {name.rstrip(":"): value for name, value in zip(words[::2], words[1::2])}
    number = {name: int(value) for name, value in fields.items() if re.fullmatch(r"-?\d+", value)}
    return Batch(
        position=number["position"],
        size=number["size"],
        base_offset=number["baseOffset"],
        last_offset=number["lastOffset"],
        count=number["count"],
        codec=fields["compresscodec"],
        crc=number["crc"],
        sound=fields["isvalid"] == "true",
        leader_epoch=number["partitionLeaderEpoch"],
        max_timestamp=number.get("CreateTime", number.get("LogAppendTime")),
        producer_id=number["producerId"],
        producer_epoch=number["producerEpoch"],
        base_sequence=number["baseSequence"],
        transactional=fields["isTransactional"] == "true",
        control=fields["isControl"] == "true",
    )


def kafka_record(line):
    found = RECORD.match(line)
    if not found:
        raise Wrong(f"not understood: {line}")
    return Record(
        offset=int(found["offset"]),
        timestamp=int(found["timestamp"]),
        key=found["key"] if int(found["key_size"]) >= 0 else None,
        value=found["value"] if int(found["value_size"]) >= 0 else None,
        header_keys=[name for name in (found["headers"] or "").split(",") if name],
    )


def by_millstream(files):
    """The same, as Millstream tells them."""
    done = run_dump(files)
    if done.returncode != 0:
        raise Wrong(f"millstream dump: {done.stderr.strip()} {done.stdout.strip()[-300:]}")
    entries = [json.loads(line) for line in done.stdout.splitlines()]
    return [millstream_batch(entry) if entry["type"] == "batch" else millstream_record(entry) for entry in entries]


def run_dump(files):
    command = [MILLSTREAM, "dump", "--json", "--records", *files]
    return subprocess.run(command, capture_output=True, text=True, timeout=CALL_SECONDS)


def millstream_batch(entry):
    return Batch(
        position=entry["position"],
        size=entry["bytes"],
        base_offset=entry["base_offset"],
        last_offset=entry["last_offset"],
        count=entry["records"],
        codec=entry["codec"],
        crc=entry["crc"],
        sound=entry["crc_matches"],
        leader_epoch=entry["leader_epoch"],
        max_timestamp=entry["max_timestamp"],
        producer_id=entry["producer_id"],
        producer_epoch=entry["producer_epoch"],
        base_sequence=entry["base_sequence"],
        transactional=entry["transactional"],
        control=entry["control"],
    )


def millstream_record(entry):
    return Record(
        offset=entry["offset"],
        timestamp=entry["timestamp"],
        key=text_of(entry, "key"),
        value=text_of(entry, "value"),
        header_keys=[header["key"] for header in entry["headers"]],
    )


def text_of(entry, field):
    """What is no text is given in base64."""
    return entry[field] if field in entry else entry[f"{field}_base64"]
