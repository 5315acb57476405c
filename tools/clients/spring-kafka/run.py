"""Spring Kafka with retry topics and a dead letter topic, while the broker is killed."""

import os
import pathlib
import re
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "kafka-common"))

import suite  # noqa: E402
from brokers import Millstream  # noqa: E402
from suite import CALL_SECONDS, WORK, Wrong, case, equal, launch, millstream, produce_slowly, until  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
OUT = os.environ["OUT"]
BROKER = Millstream(WORK / "broker")
EVENTS = WORK / "events.txt"


class Application:
    process = None

    def start(self):
        java = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        classes = ["-cp", f"{OUT}/classes:{OUT}/lib/*", f"-Dorg.slf4j.simpleLogger.logFile={WORK}/application.log"]
        self.process = launch([*java, *classes, "Orders", BROKER.address], EVENTS)

    def is_running(self):
        if self.process.poll() is not None:
            raise Wrong(f"the application ended; see {WORK}/application.log")
        return True

    def end(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(CALL_SECONDS)


APPLICATION = Application()

SENT = []
# Where an order is tried, and where it ends if it is never handled.
TRIED = ["orders", "orders-retry-200", "orders-retry-400"]
DEAD = "orders-dlt"


@case("the application starts: retry topics and a dead letter topic are created")
def start():
    APPLICATION.start()
    send(100)
    until_handled()
    listed = millstream("topic", "list", "--bootstrap", BROKER.address)
    names = sorted(line.split()[0] for line in listed.splitlines() if line.startswith("orders"))
    equal(names, sorted([*TRIED, DEAD]))


@case("orders are handled while the broker is killed twice (SIGKILL): each, at least once")
def killed_broker():
    sending = threading.Thread(target=send, args=(2000,))
    sending.start()
    for count in (600, 1400):
        until(lambda: len(SENT) > count, f"{count} orders")
        BROKER.kill_and_start()
    sending.join()
    until_handled()


@case("an order that fails is tried again in each retry topic, and no other")
def tried():
    for topic, orders in zip(TRIED, (set(SENT), ending(0) | ending(5), ending(0))):
        equal(told(f"tried {topic} "), orders)
    equal((told("done "), told("dead ")), (set(SENT) - ending(0), ending(0)))


@case("what was handled is committed: the application starts again and handles only what is new")
def committed():
    APPLICATION.end()
    EVENTS.unlink()
    APPLICATION.start()
    before = len(SENT)
    send(100)
    until_handled(before)
    equal(told(f"tried {TRIED[0]} "), set(SENT[before:]))


def send(count):
    produce_slowly("orders", new_orders(count), 0.005, BROKER.address)


def new_orders(count):
    for _ in range(count):
        SENT.append(f"order-{len(SENT)}")
        yield SENT[-1]


def ending(digit):
    return {order for order in SENT if order.endswith(str(digit))}


def until_handled(first=0):
    until(lambda: APPLICATION.is_running() and handled() == set(SENT[first:]), "all orders to be done or dead")


def handled():
    return told("done ") | told("dead ")


def told(start):
    """The orders of the events that start so."""
    return {line.removeprefix(start) for line in EVENTS.read_text().splitlines() if line.startswith(start)}


def version():
    return re.search(r"<artifactId>spring-kafka</artifactId>\s*<version>([\d.]+)<", (HERE / "pom.xml").read_text())[1]


def main():
    try:
        BROKER.start()
        # A case goes on where the one before it stopped.
        suite.run(f"Spring Kafka {version()}: a listener with retry topics and a dead letter topic.", jobs=1)
    finally:
        APPLICATION.end()
        BROKER.end()


if __name__ == "__main__":
    main()
