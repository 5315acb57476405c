"""Kafka's tools read what Millstream wrote, Millstream's what Kafka wrote, and each broker serves the
other's segments.

A Millstream and a Kafka of the suite's own are sent the same records by the same producer and stopped;
the cases look at what lies in their directories.
"""

import pathlib
import sys
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "kafka-common"))

import suite  # noqa: E402
import cases  # noqa: E402


def main():
    version = suite.kafka_version()
    with ThreadPoolExecutor() as pool:
        list(pool.map(cases.write, [cases.OURS, cases.THEIRS]))
    suite.run(
        f"`kafka-dump-log` of Apache Kafka {version} reads Millstream's segments, `millstream dump` and `verify` read "
        f"those of a real Kafka {version} (KRaft mode), and each broker serves the other's.",
        jobs=2,
    )


if __name__ == "__main__":
    main()
