"""Builds and runs the tests that a Rust client's own package carries; see ../README.md.

    suite.py install FOLDER    copies the tests out of the package, and builds them
    suite.py run FOLDER        runs each of them, and prints how it went

FOLDER has a Cargo.toml with what the tests need, and a tests.toml that says the rest: the package,
the options of the broker (one of the suite's own), the environment of the tests, and which of them
are not run, or fail, and why.
"""

import fnmatch
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

CASE_SECONDS = 120
STOP_SECONDS = 60
SIDE_BY_SIDE = 4
OUT = pathlib.Path(os.environ["OUT"])
BUILT = OUT / "built.json"


def main():
    verb, folder = sys.argv[1], pathlib.Path(sys.argv[2]).resolve()
    tests = tomllib.loads((folder / "tests.toml").read_text())
    if verb == "install":
        install(folder, tests)
    else:
        run(tests)


def install(folder, tests):
    """A package of the folder's files and the tests; what `cargo test` would run is noted in BUILT."""
    package = OUT / "package"
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(folder, package)
    shutil.copytree(source_of(tests["package"], package) / "tests", package / "tests")
    for change in tests.get("changes", []):
        replace(package / change["file"], change["old"], change["new"])
    built = cargo(package, "test", "--no-run", "--message-format=json", "--target-dir", OUT.parent / "rust")
    messages = [json.loads(line) for line in built.splitlines()]
    executables = {
        message["target"]["name"]: message["executable"]
        for message in messages
        if message["reason"] == "compiler-artifact" and message["target"]["kind"] == ["test"]
    }
    BUILT.write_text(json.dumps(executables))


def source_of(name, package):
    """Where cargo has put the sources of a package, as they come from the registry."""
    metadata = json.loads(cargo(package, "metadata", "--format-version=1"))
    [manifest] = [found["manifest_path"] for found in metadata["packages"] if found["name"] == name]
    return pathlib.Path(manifest).parent


def cargo(package, command, *arguments):
    words = ["cargo", command, "--locked", *arguments]
    return subprocess.run(words, cwd=package, stdout=subprocess.PIPE, text=True, check=True).stdout


def replace(path, old, new):
    text = path.read_text()
    if text.count(old) != 1:
        raise SystemExit(f"{path}: {old!r} is not there once")
    path.write_text(text.replace(old, new))


def run(tests):
    # Some tests count what happens within a second.
    about = f"{tests['about']} What fails without being expected to is tried once more, by itself."
    print(json.dumps({"about": about}), flush=True)
    with broker(tests["broker"]) as address, ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        environment = {name: value.replace("{broker}", address) for name, value in tests["environment"].items()}

        def once(case):
            return run_case(case, tests, environment)

        all_cases = list(cases())
        for case, result in zip(all_cases, list(pool.map(once, all_cases))):
            if result["result"] == "fail" and not result["expected"]:
                result = once(case)
            print(json.dumps(result), flush=True)


@contextmanager
def broker(options):
    """A broker of the suite's own, on Kafka's usual port: some tests ask for that. No other broker has
    this suite's address, for all of 127.0.0.0/8 is this machine."""
    number = os.getpid() % 65_536
    address = f"127.92.{number // 256}.{number % 256}"
    with socket.socket() as probe:
        probe.bind((address, 9092))
    data = pathlib.Path(os.environ["WORK"]) / "data"
    place = ["--data-dir", data, "--listen", f"{address}:9092", "--http", "off"]
    words = [os.environ["MILLSTREAM"], "serve", *place, *options]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            if "kafka " not in process.stdout.readline():
                raise SystemExit("the suite's broker did not start")
            yield f"{address}:9092"
            if process.poll() is not None:
                raise SystemExit("the suite's broker did not survive")
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)


def cases():
    """Each test with its executable. Files that others share are built into each of these, and by
    themselves: once is enough."""
    executables = json.loads(BUILT.read_text())
    for target, executable in sorted(executables.items()):
        words = [executable, "--list", "--format=terse"]
        listed = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout
        for line in listed.splitlines():
            name = line.removesuffix(": test")
            if name.split("::")[0] not in executables:
                yield f"{target}::{name}", executable, name


def run_case(case, tests, environment):
    title, executable, name = case
    left_out = reason(tests["skipped"], title)
    if left_out:
        return {"case": title, "result": "skip", "why": left_out}
    words = [executable, "--exact", name, "--nocapture"]
    trouble = trouble_of(title, words, {**os.environ, "RUST_BACKTRACE": "0", **environment})
    expected = reason(tests["failing"], title)
    case = {"case": title, "expected": expected is not None}
    if trouble is None:
        return {**case, "result": "pass"}
    return {**case, "result": "fail", "why": expected or trouble}


def reason(table, title):
    """What tests.toml says of a test, under its name or a pattern."""
    return next((why for pattern, why in table.items() if fnmatch.fnmatch(title, pattern)), None)


def trouble_of(title, words, environment):
    """What a failed test said last, None if it passed; all that it said goes to a file of its own."""
    log = pathlib.Path(os.environ["WORK"]) / f"{title.replace('::', '.')}.log"
    with open(log, "w") as out:
        try:
            done = subprocess.run(words, env=environment, stdout=out, stderr=out, timeout=CASE_SECONDS)
        except subprocess.TimeoutExpired:
            return f"no end after {CASE_SECONDS} s"
    text = log.read_text(errors="replace")
    passed = done.returncode == 0 and "1 passed" in text
    return None if passed else said(text)


def said(text):
    """The first line of a panic's message, or the error that a test returned."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if " panicked at " in line:
            return " ".join(lines[number + 1 : number + 4])[:300]
        if line.startswith("Error: "):
            return line
    return "it said nothing"


main()
