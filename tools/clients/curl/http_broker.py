"""A broker of a suite's own with HTTP. The suites `requests` and `rest-proxy-clients` use it too."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "kafka-common"))

from brokers import Millstream, Process, free_port, log_of  # noqa: E402
import suite  # noqa: E402
from suite import MILLSTREAM  # noqa: E402


class HttpBroker(Millstream):
    """It can be killed and started again at its addresses."""

    def __init__(self, directory, *options):
        super().__init__(directory, *options)
        self.http = f"127.0.0.1:{free_port()}"
        self.url = f"http://{self.http}"

    def start(self):
        place = ["--data-dir", self.directory, "--listen", self.address, "--http", self.http]
        self.running = Process([MILLSTREAM, "serve", *place, *self.options], log_of(self))
        return self.running


def run_suite(broker, about):
    """Runs a suite's cases one by one, for some of them kill the broker."""
    try:
        broker.start()
        suite.run(about, jobs=1)
    finally:
        broker.end()
