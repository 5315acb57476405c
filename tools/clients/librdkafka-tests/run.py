"""The functions of librdkafka's 0081_admin, each by itself, so that one that fails does not end the others."""

import os
import pathlib
import re
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "kafka-common"))

import suite  # noqa: E402
from brokers import Millstream  # noqa: E402
from suite import RUN_SECONDS, WORK, Expected, Wrong, case, file_with  # noqa: E402

SOURCES = pathlib.Path(os.environ["OUT"]) / "librdkafka"
TEST = "0081"
# Its topics have four partitions, and are made when they are first used.
BROKER = Millstream(WORK / "broker", "--auto-create-topics", "--num-partitions", 4)
SETTINGS = file_with("test.conf", f"bootstrap.servers={BROKER.address}\n")

NO_ACLS = "there are no ACLs"
NO_KERBEROS = "alters sasl.kerberos.min.time.before.relogin of the broker; there is no such setting"
EXPECTED = {
    "AlterConfigs": Expected(NO_KERBEROS, "sasl.kerberos.min.time.before.relogin"),
    "IncrementalAlterConfigs": Expected(NO_KERBEROS, "sasl.kerberos.min.time.before.relogin"),
    "CreateAcls": Expected(NO_ACLS, "no authorizer"),
    "DescribeAcls": Expected(NO_ACLS, "Security features are disabled"),
    "DeleteAcls": Expected(NO_ACLS, "Security features are disabled"),
    "UserScramCredentials": Expected("there are no SCRAM users", "RD_KAFKA_RESP_ERR_NO_ERROR"),
}
NAMES = [
    *("CreateTopics", "DeleteTopics", "CreatePartitions", "DescribeTopics", "DescribeCluster"),
    *("AlterConfigs", "IncrementalAlterConfigs", "DescribeConfigs", "DeleteRecords", "ListOffsets"),
    *("ListConsumerGroups", "DescribeConsumerGroups", "DeleteGroups", "DeleteConsumerGroupOffsets"),
    *("AlterConsumerGroupOffsets", "ListConsumerGroupOffsets"),
    *("CreateAcls", "DescribeAcls", "DeleteAcls", "UserScramCredentials"),
]


def register(name):
    @case(f"0081_admin do_test_{name}", EXPECTED.get(name))
    def run():
        chosen = {"TESTS": TEST, "SUBTESTS": f"do_test_{name}", "RDKAFKA_TEST_CONF": str(SETTINGS)}
        libraries = {"LD_LIBRARY_PATH": f"{SOURCES}/src:{SOURCES}/src-cpp"}
        # The broker's version, which cannot be asked for; it decides what is tested.
        environment = {**os.environ, **chosen, **libraries, "TEST_KAFKA_VERSION": suite.kafka_version()}
        log = WORK / f"{name}.log"
        with open(log, "wb") as output:
            words = [SOURCES / "tests" / "test-runner"]
            done = subprocess.run(words, cwd=WORK, env=environment, stdout=output, stderr=output, timeout=RUN_SECONDS)
        text = log.read_text(errors="replace")
        if done.returncode != 0 or f"[ do_test_{name}:" not in text or ": PASS" not in text:
            raise Wrong(failure(text))


def failure(text):
    """The test's own words for its first failure."""
    found = re.search(r"^\S*### Test .*? ###\n(.*)", text, re.MULTILINE)
    return found[1] if found else f"it ran nothing: {text[-300:]}"


for entry in NAMES:
    register(entry)


def main():
    version = re.search(r"RD_KAFKA_VERSION +0x(\w\w)(\w\w)(\w\w)", (SOURCES / "src" / "rdkafka.h").read_text()).groups()
    title = ".".join(str(int(part, 16)) for part in version)
    try:
        BROKER.start()
        suite.run(f"0081_admin of librdkafka {title}, function by function.", jobs=4)
    finally:
        BROKER.end()


if __name__ == "__main__":
    main()
