"""Builds librdkafka's own test program, from the sources that the package of rdkafka-sys carries."""

import json
import os
import pathlib
import shutil
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
SOURCES = pathlib.Path(os.environ["OUT"]) / "librdkafka"


def main():
    shutil.rmtree(SOURCES, ignore_errors=True)
    shutil.copytree(package() / "librdkafka", SOURCES)
    run("./configure", "--disable-gssapi", "--disable-lz4-ext")
    run("make", "-j2", "libs")
    run("make", "-j2", "-C", "tests", "test-runner")


def package():
    """Where cargo has put the package, in the version that ../rdkafka-tests locks."""
    words = ["cargo", "metadata", "--locked", "--format-version=1"]
    metadata = subprocess.run(words, cwd=HERE.parent / "rdkafka-tests", stdout=subprocess.PIPE, check=True).stdout
    [manifest] = [found["manifest_path"] for found in json.loads(metadata)["packages"] if found["name"] == "rdkafka-sys"]
    return pathlib.Path(manifest).parent


def run(*words):
    subprocess.run(words, cwd=SOURCES, check=True)


main()
