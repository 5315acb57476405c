"""Debezium tells Millstream what changes in a PostgreSQL, while the broker and the worker are killed."""

import json
import os
import pathlib
import random
import re
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "kafka-common"))

import suite  # noqa: E402
from brokers import Millstream  # noqa: E402
from connect import Worker  # noqa: E402
from postgres import USER, Postgres  # noqa: E402
from suite import WORK, case, equal, millstream, until  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
BROKER = Millstream(WORK / "broker", "--clamp-replication-factor")
DATABASE = Postgres()
JSON = [
    line
    for side in ("key", "value")
    for line in (f"{side}.converter=org.apache.kafka.connect.json.JsonConverter", f"{side}.converter.schemas.enable=false")
]
WORKER = Worker("debezium", BROKER.address, *JSON, plugins=pathlib.Path(os.environ["OUT"]) / "plugins")
TOPIC = "shop.public.accounts"
FIRST_ROWS = 100


class Accounts:
    """A table, and of each of its rows all that became of it: balances, and None when it was deleted."""

    def __init__(self):
        self.history = {}
        self.random = random.Random(7)
        self.changes = 0

    def create(self):
        DATABASE.run("create table accounts (id int primary key, balance int not null);")
        DATABASE.run("".join(self.insert() for _ in range(FIRST_ROWS)))

    def change(self, count=20):
        """Changes rows, each in a transaction of its own."""
        DATABASE.run("".join(self.any_change() for _ in range(count)))

    def change_until(self, is_enough):
        while not is_enough.wait(0.05):
            self.change()

    def any_change(self):
        there = [row for row, balances in self.history.items() if balances[-1] is not None]
        return self.random.choice([self.insert, self.update, self.update, self.delete])(self.random.choice(there))

    def insert(self, _=None):
        row = len(self.history)
        self.history[row] = [self.next_balance()]
        return f"insert into accounts values ({row}, {self.history[row][0]});\n"

    def update(self, row):
        self.history[row].append(self.next_balance())
        return f"update accounts set balance = {self.history[row][-1]} where id = {row};\n"

    def delete(self, row):
        self.history[row].append(None)
        return f"delete from accounts where id = {row};\n"

    def next_balance(self):
        """Never the same, so that a change that is told twice can be seen."""
        self.changes += 1
        return self.changes


ACCOUNTS = Accounts()


@case("a snapshot of a table that has rows")
def snapshot():
    ACCOUNTS.create()
    WORKER.start()
    WORKER.connect(
        "shop",
        connector_class="io.debezium.connector.postgresql.PostgresConnector",
        tasks_max=1,
        database_hostname="127.0.0.1",
        database_port=DATABASE.port,
        database_user=USER,
        database_dbname="postgres",
        topic_prefix="shop",
        plugin_name="pgoutput",
        table_include_list="public.accounts",
    )
    until_told()
    equal([event["op"] for event in events()], ["r"] * FIRST_ROWS)


@case("rows are inserted, updated and deleted while the broker is killed twice (SIGKILL)")
def killed_broker():
    is_enough = threading.Event()
    changing = threading.Thread(target=ACCOUNTS.change_until, args=(is_enough,))
    changing.start()
    for _ in range(2):
        until_more_changes(300)
        BROKER.kill_and_start()
    until_more_changes(300)
    is_enough.set()
    changing.join()
    until_told()


def until_more_changes(count):
    enough = ACCOUNTS.changes + count
    until(lambda: ACCOUNTS.changes >= enough, f"{count} changes")


@case("every change of every row is told, in order, at least once")
def complete():
    until_told()
    equal({row: list(dict.fromkeys(balances)) for row, balances in told().items()}, ACCOUNTS.history)


@case("the topic, with the last record of each key, is the table")
def table():
    last = {key["id"]: value for key, value in records()}
    found = sorted((row, value["after"]["balance"]) for row, value in last.items() if value)
    rows = [tuple(map(int, line.split("|"))) for line in DATABASE.run("select * from accounts order by id").split()]
    equal(found, rows)
    # Who was deleted has a tombstone, which compaction would take in time.
    deleted = sorted(row for row, value in last.items() if value is None)
    equal(deleted, [row for row, balances in ACCOUNTS.history.items() if balances[-1] is None])


@case("the worker is killed (SIGKILL) and started again: it goes on where it was")
def killed_worker():
    # Offsets are flushed every second.
    time.sleep(3)
    before = len(records())
    WORKER.kill()
    ACCOUNTS.change(500)
    WORKER.start()
    WORKER.until_running("shop")
    complete()
    table()
    equal(len(records()) < 2 * before, True)


def until_told():
    last = {row: balances[-1] for row, balances in ACCOUNTS.history.items()}
    until(lambda: {row: balances[-1] for row, balances in told().items()} == last, "the last change of each row")


def told():
    """Of each row what became of it, by the topic's events."""
    history = {}
    for event in events():
        row = (event["after"] or event["before"])["id"]
        history.setdefault(row, []).append(event["after"] and event["after"]["balance"])
    return history


def events():
    """Without the tombstones behind deletions."""
    return [value for _, value in records() if value]


def records():
    """Key and value of each record; there are none before there is a topic."""
    try:
        printed = millstream("consume", TOPIC, "--json", "--bootstrap", BROKER.address)
    except suite.Wrong:
        return []
    found = [(record["key"], record["value"]) for record in map(json.loads, printed.splitlines())]
    return [(json.loads(key), value and json.loads(value)) for key, value in found]


def version():
    return re.search(r"<version>([\d.]+Final)<", (HERE / "pom.xml").read_text())[1]


def main():
    try:
        DATABASE.start()
        BROKER.start()
        server = DATABASE.run("show server_version").split()[0]
        # A case goes on where the one before it stopped.
        suite.run(f"Debezium {version()} on Kafka Connect {suite.kafka_version()}, with PostgreSQL {server}.", jobs=1)
    finally:
        WORKER.end()
        DATABASE.end()
        BROKER.end()


if __name__ == "__main__":
    main()
