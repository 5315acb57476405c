"""Runs kafka-python's own integration tests against a broker; prints a line of JSON for each.

    run.py SOURCE_DISTRIBUTION

The tests expect the broker that they would start themselves: node 0, four partitions, short session
timeouts, an address that was configured. So the broker they get is not the shared one, but another
with these settings. expected.toml has what is known not to pass. What fails otherwise is tried once
more, for many of the tests allow the broker no more than half a second.
"""

import contextlib
import fnmatch
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tarfile
import tomllib
import xml.etree.ElementTree as ElementTree

HERE = pathlib.Path(__file__).resolve().parent
WORK = pathlib.Path(os.environ["WORK"])
EXPECTED = tomllib.loads((HERE / "expected.toml").read_text())
KAFKA_VERSION = "4.1"  # what the client takes this broker for, by the versions that it advertises
TEST_SECONDS = 60
# Speaks TLS with a Kafka that it starts, even if told of a broker.
NOT_RUN = "test_ssl_integration.py"


def main():
    archive = pathlib.Path(sys.argv[1])
    source = unpack(archive)
    emit({
        "about": f"{archive.name.removesuffix('.tar.gz')}, test/integration without {NOT_RUN}, with"
        f" KAFKA_VERSION={KAFKA_VERSION}. The broker is configured as the one that these tests would"
        " start for themselves. What fails without being expected to is tried once more."
    })
    with broker() as address:
        results = run_tests(source, address, "first")
        again = [name for name, (result, _) in results.items() if result == "fail" and not reason("fail", name)]
        if again:
            results |= run_tests(source, address, "again", again)
    for name, (result, why) in results.items():
        emit(judge(name, result, why))


def unpack(archive):
    """Unpacks the source distribution and adds what it lacks of its tests."""
    with tarfile.open(archive) as tar:
        tar.extractall(WORK, filter="data")
    source = WORK / archive.name.removesuffix(".tar.gz")
    (source / "test" / "__init__.py").touch()
    shutil.copy(HERE / "service.py", source / "test" / "service.py")
    return source


@contextlib.contextmanager
def broker():
    address = f"127.0.0.1:{free_port()}"
    settings = {
        "data-dir": WORK / "data",
        "listen": address,
        "advertise": address,
        "http": "off",
        "node-id": 0,
        "num-partitions": 4,
        "group-min-session-timeout-ms": 1000,
        "group-initial-rebalance-delay-ms": 0,
    }
    words = [f"--{name}={value}" for name, value in settings.items()]
    process = subprocess.Popen(
        [os.environ["MILLSTREAM"], "serve", *words], stdout=subprocess.PIPE, stderr=sys.stderr, text=True
    )
    try:
        if "ready" not in process.stdout.readline():
            raise RuntimeError("the broker did not start")
        yield address
    finally:
        process.terminate()
        process.wait()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_tests(source, address, run, names=None):
    """Runs all tests, or those named; returns {name: (result, why)}."""
    report = WORK / f"{run}.xml"
    chosen = [node_of(name) for name in names] if names else ["test/integration"]
    settings = {
        "KAFKA_URI": f"kafka://{address}",
        "KAFKA_VERSION": KAFKA_VERSION,
        # Must exist, and is not looked into.
        "KAFKA_ROOT": str(WORK),
        "PYTHONPATH": str(HERE),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    options = ["-p", "settings", "--override-ini=addopts=", f"--timeout={TEST_SECONDS}", f"--junit-xml={report}"]
    subprocess.run(
        [sys.executable, "-m", "pytest", *options, f"--ignore=test/integration/{NOT_RUN}", *chosen],
        cwd=source,
        env={**os.environ, **settings},
        stdout=sys.stderr,
    )
    return dict(results_of(report))


def results_of(report):
    """Reads the results from pytest's XML, where an element inside of a case's says that it did not pass."""
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname').removeprefix('test.integration.')}::{case.get('name')}"
        result, why = "pass", ""
        for outcome in case:
            if outcome.tag in ("failure", "error"):
                result, why = "fail", first_line(outcome)
            elif outcome.tag == "skipped":
                result, why = "skip", first_line(outcome)
        yield name, (result, why)


def first_line(outcome):
    return (outcome.get("message") or "").partition("\n")[0][:200]


def node_of(name):
    """pytest's own name for a test."""
    module, test = name.split("::")
    return f"test/integration/{module}.py::{test}"


def judge(name, result, why):
    """The line for a case. A skipped one counts as failed unless expected.toml knows it."""
    if result == "skip":
        known = reason("skip", name)
        if known:
            return {"case": name, "result": "skip", "why": known}
        return {"case": name, "result": "fail", "why": f"was skipped: {why}"}
    known = reason("fail", name)
    if known:
        return {"case": name, "result": result, "why": known, "expected": True}
    return {"case": name, "result": result, "why": why}


def reason(result, name):
    """Why a case is known to fail or to be skipped, if it is."""
    return next((why for pattern, why in EXPECTED[result].items() if fnmatch.fnmatchcase(name, pattern)), None)


def emit(line):
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
