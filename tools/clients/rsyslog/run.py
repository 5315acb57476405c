"""rsyslog's omkafka sends the lines of a file, while the broker is killed."""

import pathlib
import re
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "kafka-common"))

import suite  # noqa: E402
from brokers import Millstream  # noqa: E402
from lines import Lines  # noqa: E402
from suite import CALL_SECONDS, WORK, case, equal, launch  # noqa: E402

BROKER = Millstream(WORK / "broker", "--auto-create-topics")
LINES = Lines(BROKER)
SETTINGS = WORK / "rsyslog.conf"


class Daemon:
    """An rsyslogd of the suite's own: it listens nowhere and reads one file."""

    process = None

    def start(self):
        command = ["rsyslogd", "-n", "-f", SETTINGS, "-i", WORK / "rsyslogd.pid"]
        self.process = launch(command, WORK / "rsyslogd.log")

    def stop(self):
        self.process.terminate()
        self.process.wait(CALL_SECONDS)

    def end(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


DAEMON = Daemon()


def settings():
    """Two topics: one with the producer's defaults, one with an idempotent producer."""
    actions = action("plain") + action("once", "enable.idempotence=true")
    return f"""
global(workDirectory="{WORK}")
module(load="imfile")
module(load="omkafka")
template(name="line" type="string" string="%msg%")
input(type="imfile" file="{LINES.path}" tag="lines" ruleset="lines")
ruleset(name="lines") {{
{actions}
}}
"""


def action(topic, *parameters):
    parameters = ", ".join(f'"{parameter}"' for parameter in ("acks=all", *parameters))
    return f"""
    action(type="omkafka" topic="{topic}" broker=["{BROKER.address}"] template="line" confParam=[{parameters}]
        resubmitOnFailure="on" keepFailedMessages="on" failedMsgFile="{WORK}/failed-{topic}" closeTimeout="60000"
        action.resumeRetryCount="-1" action.resumeInterval="1")
"""


@case("lines are sent while the broker is killed twice (SIGKILL)")
def killed_broker():
    SETTINGS.write_text(settings())
    LINES.grow(10)
    DAEMON.start()
    LINES.grow_while_broker_is_killed()
    LINES.until_sent("plain", "once")


@case("the topic has every line, at least once")
def plain():
    equal(sorted(set(LINES.sent("plain"))), sorted(LINES.written))


@case("the topic of an idempotent producer has every line in order, once")
def once():
    equal(LINES.sent("once"), LINES.written)


@case("rsyslogd is stopped and started again: it goes on where it was")
def stopped():
    DAEMON.stop()
    LINES.grow(500)
    DAEMON.start()
    LINES.until_sent("plain", "once")
    once()


def version():
    printed = subprocess.run(["rsyslogd", "-v"], capture_output=True, text=True, check=True).stdout
    return re.search(r"rsyslogd\s+([\d.]+)", printed)[1]


def main():
    try:
        BROKER.start()
        # A case goes on where the one before it stopped.
        suite.run(f"rsyslog {version()}, its module omkafka.", jobs=1)
    finally:
        DAEMON.end()
        BROKER.end()


if __name__ == "__main__":
    main()
