"""What the Python programs of the client matrix share: the command line, the records, the output.

../README.md says what a client program understands and prints.
"""

import json
import os
import signal
import sys
import time

BOOTSTRAP = os.environ.get("BOOTSTRAP", "127.0.0.1:9092")

MEMBER_TIMEOUT_S = 300

NUMBERS = {"partitions", "partition", "count", "start", "base", "idempotent", "max", "offset", "timestamp"}


def run(commands):
    """Calls the subcommand that the command line names, with its key=value arguments."""
    name, *rest = sys.argv[1:]
    commands[name](**dict(argument(word) for word in rest))


def argument(word):
    key, value = word.split("=", 1)
    return key, int(value) if key in NUMBERS else value


def emit(line):
    """Prints one JSON object as a line, at once."""
    print(json.dumps(line), flush=True)


def unsupported(why):
    """Says that the library cannot do what was asked."""
    emit({"unsupported": why})


def records(client, partitions, count, start, base):
    """The records to produce: (partition, key, value, timestamp in ms, headers)."""
    for i in range(start, start + count):
        headers = [("n", str(i).encode()), ("by", client.encode())]
        value = f"value-{i}-" + "x" * (i % 200)
        yield i % partitions, f"key-{i}".encode(), value.encode(), base + 1000 * i, headers


def emit_record(partition, offset, key, value, timestamp, headers):
    """Prints a record that was consumed; `headers` are pairs of a name and bytes."""
    emit({
        "partition": partition,
        "offset": offset,
        "key": key.decode(),
        "value": value.decode(),
        "timestamp": timestamp,
        "headers": {name: content.decode() for name, content in headers},
    })


def emit_processed(offsets):
    """Prints the (partition, offset) pairs that a member has processed."""
    for partition, offset in offsets:
        emit({"processed": [partition, offset]})


def next_offsets(offsets):
    """What to commit after processing these (partition, offset) pairs, as {partition: offset}."""
    following = {}
    for partition, offset in offsets:
        following[partition] = max(offset + 1, following.get(partition, 0))
    return following


def emit_committed(following):
    emit({"committed": [[partition, offset] for partition, offset in sorted(following.items())]})


def emit_lag(committed, ends):
    """Prints the lag of the partitions that have a committed offset."""
    emit({
        str(partition): {"committed": offset, "end": ends[partition], "lag": ends[partition] - offset}
        for partition, offset in committed.items()
    })


class Membership:
    """How long a member goes on: until SIGTERM or `max` records, and an error after MEMBER_TIMEOUT_S."""

    def __init__(self, max=None):
        self.left = max
        self.deadline = time.monotonic() + MEMBER_TIMEOUT_S
        self.stopped = False
        signal.signal(signal.SIGTERM, self.stop)

    def stop(self, *_):
        self.stopped = True

    def goes_on(self):
        if time.monotonic() > self.deadline:
            sys.exit(f"neither done nor stopped after {MEMBER_TIMEOUT_S} s")
        return not self.stopped and self.left != 0

    def batch_size(self, most):
        """How many records may be polled now, at most."""
        return most if self.left is None else min(most, self.left)

    def took(self, count):
        if self.left is not None:
            self.left -= count
