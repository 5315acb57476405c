"""What a client is asked to do, and whether what came back is right. The same for all."""

import time
from dataclasses import dataclass, field

from . import group
from .program import Failed, Program, Unsupported

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
PARTITIONS = 3
RECORDS = 300
BASE = 1_700_000_000_000


@dataclass
class Cell:
    """How one capability went: ok, failed, or cannot (the library has no such thing)."""

    state: str
    why: str = ""


@dataclass
class Result:
    manifest: object
    version: str = ""
    cells: dict = field(default_factory=dict)
    not_installed: str = ""

    def failed(self, strict):
        wrong = any(cell.state == "failed" for cell in self.cells.values())
        return wrong or (strict and bool(self.not_installed))

    def summary(self):
        failures = [f"{name} ({cell.why})" for name, cell in self.cells.items() if cell.state == "failed"]
        good = sum(cell.state == "ok" for cell in self.cells.values())
        cannot = sum(cell.state == "cannot" for cell in self.cells.values())
        if failures:
            return f"FAILED: {'; '.join(failures)}"
        return f"{good} capabilities ok" + (f", {cannot} that it does not have" if cannot else "")


def not_installed(manifest, why):
    return Result(manifest, not_installed=why)


def run(manifest, broker, work):
    """Asks all capabilities of one client, one after the other."""
    subject = Subject(manifest, broker, work)
    result = Result(manifest)
    try:
        version = subject.program.ask("version")
        result.version = version["client"]
        if manifest.library:
            result.version += f" ({manifest.library} {version['library']})"
    except (Failed, Unsupported, KeyError) as error:
        result.version = "?"
        result.cells["version"] = Cell("failed", str(error))
    for name, check in CAPABILITIES.items():
        result.cells[name] = attempt(check, subject)
    return result


def attempt(check, subject):
    try:
        check(subject)
        return Cell("ok")
    except Unsupported as error:
        return Cell("cannot", str(error))
    except (Failed, RuntimeError) as error:
        return Cell("failed", str(error))
    except (KeyError, TypeError, ValueError) as error:
        return Cell("failed", f"printed something unexpected: {error!r}")


class Subject:
    """A client that is being tested."""

    def __init__(self, manifest, broker, work):
        self.name = manifest.name
        self.without = manifest.without
        self.broker = broker
        self.program = Program(manifest, broker, work / f"{manifest.name}.log")

    def topic(self, suffix):
        return f"{self.name}.{suffix}"

    def fill(self, suffix, partitions, count):
        """A topic with `count` of the runner's own records."""
        topic = self.topic(suffix)
        self.broker.create(topic, partitions)
        self.broker.send(topic, partitions, count)
        return topic

    def produce(self, topic, partitions, codec="none", idempotent=0):
        answer = self.program.ask(
            "produce",
            topic=topic,
            partitions=partitions,
            count=RECORDS,
            start=0,
            base=BASE,
            codec=codec,
            idempotent=idempotent,
        )
        expect("acknowledged records", answer["acked"], RECORDS)


def expect(what, found, wanted):
    if found != wanted:
        raise Failed(f"{what}: {shorten(found)} instead of {shorten(wanted)}")


def shorten(value):
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."


def check_create(subject):
    topic = subject.topic("created")
    subject.program.call("create", topic=topic, partitions=2, config="retention.ms:3600000")
    if topic not in subject.program.ask("list")["topics"]:
        raise Failed("the topic that it created is not in its list")
    described = subject.broker.command("topic", "describe", topic)
    if "3600000" not in described:
        raise Failed(f"the config did not arrive: {described}")


def check_describe(subject):
    topic = subject.topic("described")
    subject.broker.create(topic, 4)
    described = subject.program.ask("describe", topic=topic)
    expect("partitions", described["partitions"], 4)
    expect("cleanup.policy", described["configs"].get("cleanup.policy"), "delete")


def check_alter(subject):
    topic = subject.topic("altered")
    subject.broker.create(topic, 1)
    subject.program.call("alter", topic=topic, partitions=5, config="retention.ms:7200000")
    described = subject.program.ask("describe", topic=topic)
    expect("partitions", described["partitions"], 5)
    expect("retention.ms", described["configs"].get("retention.ms"), "7200000")


def check_delete(subject):
    topic = subject.topic("deleted")
    subject.broker.create(topic, 2)
    subject.program.call("delete", topic=topic)
    if topic in subject.program.ask("list")["topics"]:
        raise Failed("the topic that it deleted is still there")


def check_codec(codec):
    def check(subject):
        topic = subject.topic(codec)
        subject.broker.create(topic, PARTITIONS)
        subject.produce(topic, PARTITIONS, codec=codec)
        read_back(subject, topic)
        # librdkafka leaves a batch as it is that compression does not make shorter: one record, say.
        batches = [batch for batch in subject.broker.batches(topic) if batch["records"] > 1]
        stored = {batch["codec"] for batch in batches}
        expect("codecs of the stored batches", stored, {codec})

    return check


def check_idempotent(subject):
    topic = subject.topic("idempotent")
    subject.broker.create(topic, PARTITIONS)
    subject.produce(topic, PARTITIONS, idempotent=1)
    read_back(subject, topic)
    producers = {batch["producer_id"] for batch in subject.broker.batches(topic)}
    if not producers or min(producers) < 0:
        raise Failed("there are batches without a producer id")


def read_back(subject, topic):
    """Reads with the client what it has written, and compares every field."""
    found = subject.program.call("consume", topic=topic, partitions=PARTITIONS)
    for partition in range(PARTITIONS):
        of_partition = [record for record in found if record["partition"] == partition]
        numbers = range(partition, RECORDS, PARTITIONS)
        wanted = [record_of(subject, number, offset) for offset, number in enumerate(numbers)]
        expect(f"records of partition {partition}", len(of_partition), len(wanted))
        for record, want in zip(of_partition, wanted):
            have = {key: record.get(key) for key in want}
            expect(f"record {want['offset']} of partition {partition}", have, want)
    expect("records in all", len(found), RECORDS)


def record_of(subject, number, offset):
    record = {
        "partition": number % PARTITIONS,
        "offset": offset,
        "key": f"key-{number}",
        "value": f"value-{number}-" + "x" * (number % 200),
        "timestamp": BASE + 1000 * number,
        "headers": {"n": str(number), "by": subject.name},
    }
    return {key: value for key, value in record.items() if key not in subject.without}


def check_commit(subject):
    topic = subject.fill("commit", PARTITIONS, 30)
    name = subject.topic("commits")
    subject.program.call("commit", group=name, topic=topic, partition=1, offset=7, metadata="seven")
    committed = subject.program.ask("committed", group=name, topic=topic, partitions=PARTITIONS)
    wanted = {"offset": 7}
    if "metadata" not in subject.without:
        wanted["metadata"] = "seven"
    expect("partitions with a commit", sorted(committed), ["1"])
    expect("what is committed", {key: committed["1"].get(key) for key in wanted}, wanted)


def check_seek(subject):
    if "timestamp" in subject.without:
        seek_by_the_clock(subject)
        return
    topic = subject.topic("seek")
    subject.broker.create(topic, 1)
    subject.produce(topic, 1)
    between = subject.program.ask("seek", topic=topic, timestamp=BASE + 41_500)
    wanted = {"offset": 42, "timestamp": BASE + 42_000, "key": "key-42"}
    wanted = {key: value for key, value in wanted.items() if key not in subject.without}
    expect("the record at the timestamp", {key: between.get(key) for key in wanted}, wanted)
    beyond = subject.program.ask("seek", topic=topic, timestamp=BASE + 1000 * RECORDS)
    expect("the offset of a timestamp beyond the end", beyond["offset"], None)


def seek_by_the_clock(subject):
    """For a client that sets no timestamps: it seeks a moment between two of the runner's own batches."""
    topic = subject.fill("seek", 1, 42)
    between = clock_ms() + 1
    while clock_ms() < between:
        time.sleep(0.001)
    subject.broker.send(topic, 1, 42)
    expect("the record after a moment", subject.program.ask("seek", topic=topic, timestamp=between)["offset"], 42)
    beyond = subject.program.ask("seek", topic=topic, timestamp=clock_ms() + 3_600_000)
    expect("the offset of a timestamp beyond the end", beyond["offset"], None)


def clock_ms():
    return time.time_ns() // 1_000_000


def check_lag(subject):
    topic = subject.fill("lag", 2, 100)
    name = subject.topic("laggard")
    subject.program.call("commit", group=name, topic=topic, partition=0, offset=20, metadata="")
    lag = subject.program.ask("lag", group=name, topic=topic, partitions=2)
    expect("the lag", lag.get("0"), {"committed": 20, "end": 50, "lag": 30})


CAPABILITIES = {
    "create": check_create,
    "describe": check_describe,
    "alter": check_alter,
    "delete": check_delete,
    **{codec: check_codec(codec) for codec in CODECS},
    "idempotent": check_idempotent,
    "group": group.check_group,
    "resume": group.check_resume,
    "commit": check_commit,
    "seek": check_seek,
    "lag": check_lag,
}
