"""A PostgreSQL of the suite's own, as Debian installs it, that lets its changes be read."""

import os
import pathlib
import shutil
import subprocess
import tempfile

from brokers import free_port
from suite import CALL_SECONDS, WORK, Wrong, launch, until

# PostgreSQL refuses to run as root.
USER = "postgres"


class Postgres:
    def __init__(self):
        # Not in WORK: only its owner may look into that.
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="millstream-postgres-"))
        self.port = free_port()
        self.process = None

    def start(self):
        if os.geteuid() == 0:
            shutil.chown(self.directory, USER, USER)
        data = self.directory / "data"
        subprocess.run(self.command("initdb", "-D", data, "-U", USER, "-A", "trust"), check=True, capture_output=True)
        settings = [
            f"port={self.port}",
            "listen_addresses=127.0.0.1",
            f"unix_socket_directories={self.directory}",
            "wal_level=logical",
        ]
        options = [word for setting in settings for word in ("-c", setting)]
        self.process = launch(self.command("postgres", "-D", data, *options), WORK / "postgres.log")
        until(lambda: self.psql("select 1").returncode == 0, "PostgreSQL to start")

    def command(self, program, *arguments):
        """One of PostgreSQL's programs, of the newest version that is installed, as its own user."""
        [*_, folder] = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))
        become = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"] if os.geteuid() == 0 else []
        return [*become, folder / program, *arguments]

    def psql(self, statements):
        words = ["psql", "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(self.port), "-U", USER]
        return subprocess.run(words, input=statements, capture_output=True, text=True, timeout=CALL_SECONDS)

    def run(self, statements):
        """What they print. All are committed, each by itself, when it returns."""
        done = self.psql(statements)
        if done.returncode != 0:
            raise Wrong(f"psql: {done.stderr.strip()}")
        return done.stdout

    def end(self):
        if self.process:
            # SIGINT: disconnect everybody and stop.
            self.process.send_signal(2)
            self.process.wait(CALL_SECONDS)
        shutil.rmtree(self.directory, ignore_errors=True)
