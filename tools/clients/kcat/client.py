"""The client matrix's program for kcat: the command line tool of librdkafka, as Debian has it.

What kcat has no way to ask for is printed as unsupported. Of what it can do some is less than the
matrix asks, and the manifest's `without` says so: the records it sends have the time of sending
(it sets no timestamps), headers are the same for all records of one run (`-H`), and as a member of
a group (`-G`) it commits by itself, once a second and when it leaves, and shows no commits.
"""

import json
import os
import re
import signal
import subprocess

import matrix

NAME = "kcat"


def version():
    found = re.search(r"Version (\S+) .*librdkafka (\S+)", kcat("-V"))
    matrix.emit({"client": found[1], "library": found[2]})


def list_topics():
    matrix.emit({"topics": [topic["topic"] for topic in json.loads(kcat("-L", "-J"))["topics"]]})


def produce(topic, partitions, count, start, base, codec, idempotent):
    acked = 0
    for partition in range(partitions):
        lines = [
            key + b"\t" + value + b"\n"
            for each, key, value, _, _ in matrix.records(NAME, partitions, count, start, base)
            if each == partition
        ]
        acked += send(topic, partition, b"".join(lines), codec, idempotent)
    matrix.emit({"acked": acked})


def send(topic, partition, lines, codec, idempotent):
    """Sends lines of a key, a tab and a value, and counts the deliveries that kcat reports."""
    done = run(
        *["-P", "-t", topic, "-p", str(partition), "-K", "\\t", "-H", f"by={NAME}", "-z", codec],
        *["-X", "acks=all", "-X", f"enable.idempotence={bool(idempotent)}".lower()],
        *["-X", "linger.ms=200", "-v", "-v"],
        input=lines,
        stderr=subprocess.PIPE,
    )
    return done.stderr.count(b"% Message delivered to partition")


def consume(topic, partitions):
    for line in kcat("-C", "-t", topic, "-o", "beginning", "-e", "-q", "-J").splitlines():
        record = json.loads(line)
        names_and_values = record.get("headers", [])
        matrix.emit({
            "partition": record["partition"],
            "offset": record["offset"],
            "key": record["key"],
            "value": record["payload"],
            "timestamp": record["ts"],
            "headers": dict(zip(names_and_values[::2], names_and_values[1::2])),
        })


def member(group, topic, max=None):
    """Becomes kcat, so that signals reach it; an alarm ends it if nothing else does."""
    signal.alarm(matrix.MEMBER_TIMEOUT_S)
    words = ["kcat", "-b", matrix.BOOTSTRAP, "-G", group, "-u", "-f", '{"processed": [%p, %o]}\\n']
    settings = {
        "auto.offset.reset": "earliest",
        "auto.commit.interval.ms": 1000,
        "session.timeout.ms": 6000,
        "heartbeat.interval.ms": 1000,
    }
    for name, value in settings.items():
        words += ["-X", f"{name}={value}"]
    if max is not None:
        words += ["-c", str(max)]
    os.execvp("kcat", [*words, topic])


def seek(topic, timestamp):
    """Asks for the offset (-Q), then reads on from the timestamp (-o s@), which asks again."""
    found = re.search(r"offset (-?\d+)", kcat("-Q", "-t", f"{topic}:0:{timestamp}"))
    if int(found[1]) < 0:
        matrix.emit({"offset": None})
        return
    record = json.loads(kcat("-C", "-t", topic, "-p", "0", "-o", f"s@{timestamp}", "-c", "1", "-q", "-J"))
    matrix.emit({"offset": record["offset"], "timestamp": record["ts"], "key": record["key"]})


def kcat(*words):
    """What kcat prints when called so; raises if it fails."""
    return run(*words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE).stdout.decode()


def run(*words, **how):
    return subprocess.run(["kcat", "-b", matrix.BOOTSTRAP, *words], check=True, **how)


def cannot(why):
    return lambda **_: matrix.unsupported(why)


if __name__ == "__main__":
    matrix.run({
        "version": version,
        "create": cannot("creates no topics"),
        "list": list_topics,
        "describe": cannot("shows partitions, but no configs"),
        "alter": cannot("alters no topics"),
        "delete": cannot("deletes no topics"),
        "produce": produce,
        "consume": consume,
        "member": member,
        "commit": cannot("commits only as a member of a group, and no metadata"),
        "committed": cannot("shows no committed offsets"),
        "seek": seek,
        "lag": cannot("shows no committed offsets"),
    })
