"""Apache Kafka's own command line tools against Millstream: what each prints is checked.

The checks can be checked too. With BOOTSTRAP and DATA_DIR of a real Kafka (tools/kafka/serve) all cases
pass, those too that are expected to fail here, but for two: a new Kafka has features to describe, and
gives every topic a config of its own (--topics-with-overrides).
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "kafka-common"))

import suite  # noqa: E402

# A module registers its cases when it is imported. What takes long comes first.
import records  # noqa: E402, F401
import groups  # noqa: E402, F401
import topics  # noqa: E402, F401
import configs  # noqa: E402, F401
import cluster  # noqa: E402, F401


def main():
    about = f"The command line tools of Apache Kafka {suite.kafka_version()}, by the names of their scripts."
    suite.run(about, jobs=3)


if __name__ == "__main__":
    main()
