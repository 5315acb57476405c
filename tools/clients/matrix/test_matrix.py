"""A client that does its work passes; one that gets anything wrong is caught.

    python3 -m unittest discover -t tools/clients -s tools/clients/matrix
"""

import pathlib
import tempfile
import types
import unittest
from unittest import mock

from . import checks, group, report
from .checks import Cell, Result
from .program import Failed, Unsupported
from .suites import Case, SuiteResult


class Client:
    """A client of an imaginary broker that does everything right. Tests make it go wrong."""

    def __init__(self):
        self.topics = {}
        self.records = {}
        self.commits = {}
        self.codec = "none"
        self.producer_id = -1

    # ---- what the runner asks of the broker ----

    def create(self, topic, partitions):
        self.topics[topic] = {"partitions": partitions, "configs": {"cleanup.policy": "delete"}}

    def send(self, topic, partitions, count):
        self.records.setdefault(topic, []).extend({"number": number} for number in range(count))

    def command(self, *arguments):
        return str(self.topics[arguments[-1]])

    def batches(self, topic):
        return [{"codec": self.codec, "records": 2, "producer_id": self.producer_id}]

    # ---- what the runner asks of the client ----

    def ask(self, subcommand, **arguments):
        [answer] = self.call(subcommand, **arguments)
        return answer

    def call(self, subcommand, **arguments):
        return list(getattr(self, f"do_{subcommand}")(**arguments) or [])

    def do_create(self, topic, partitions, config):
        self.create(topic, partitions)
        self.do_alter(topic, partitions, config)

    def do_alter(self, topic, partitions, config):
        name, value = config.split(":")
        self.topics[topic]["partitions"] = partitions
        self.topics[topic]["configs"][name] = value

    def do_delete(self, topic):
        del self.topics[topic]

    def do_list(self):
        return [{"topics": list(self.topics)}]

    def do_describe(self, topic):
        return [self.topics[topic]]

    def do_produce(self, topic, partitions, count, start, base, codec, idempotent):
        self.codec = codec
        self.producer_id = 7 if idempotent else -1
        self.records[topic] = [
            {
                "partition": number % partitions,
                "offset": number // partitions,
                "key": f"key-{number}",
                "value": f"value-{number}-" + "x" * (number % 200),
                "timestamp": base + 1000 * number,
                "headers": {"n": str(number), "by": "imaginary"},
            }
            for number in range(start, start + count)
        ]
        return [{"acked": count}]

    def do_consume(self, topic, partitions):
        return self.records[topic]

    def do_seek(self, topic, timestamp):
        found = [record for record in self.records[topic] if record["timestamp"] >= timestamp]
        return [found[0] if found else {"offset": None}]

    def do_commit(self, group, topic, partition, offset, metadata):
        self.commits[group] = {str(partition): {"offset": offset, "metadata": metadata}}

    def do_committed(self, group, topic, partitions):
        return [self.commits.get(group, {})]

    def do_lag(self, group, topic, partitions):
        return [{"0": {"committed": 20, "end": 50, "lag": 30}}]

    def do_member(self, group, topic, max):
        start = self.commits.get(group, 0)
        self.commits[group] = start + max
        return [{"processed": [0, offset]} for offset in range(start, start + max)]


class Subject(checks.Subject):
    def __init__(self, client):
        self.name = "imaginary"
        self.without = []
        self.broker = self.program = client


SINGLE = {name: check for name, check in checks.CAPABILITIES.items() if name != "group"}


class Capabilities(unittest.TestCase):
    def outcome(self, name, client):
        return checks.attempt(SINGLE[name], Subject(client)).state

    def test_a_client_that_does_its_work_passes(self):
        for name in SINGLE:
            with self.subTest(name):
                self.assertEqual(self.outcome(name, Client()), "ok")

    def test_what_a_library_does_not_have_is_no_failure(self):
        client = Client()
        client.do_lag = mock.Mock(side_effect=Unsupported("no"))
        self.assertEqual(self.outcome("lag", client), "cannot")

    def test_each_wrong_field_of_a_record_is_caught(self):
        wrong = {
            "key": "key-0",
            "value": "",
            "timestamp": 0,
            "offset": 99,
            "headers": {"by": "imaginary", "n": "x"},
        }
        for field, value in wrong.items():
            with self.subTest(field):
                client = Client()
                right = client.do_consume

                def consume(topic, partitions, field=field, value=value, right=right):
                    records = [dict(record) for record in right(topic, partitions)]
                    records[5][field] = value
                    return records

                client.do_consume = consume
                self.assertEqual(self.outcome("zstd", client), "failed")

    def test_lost_doubled_and_swapped_records_are_caught(self):
        changes = {
            "lost": lambda records: records[:-1],
            "doubled": lambda records: [*records, records[0]],
            "swapped": lambda records: [records[3], *records[1:3], records[0], *records[4:]],
        }
        for name, change in changes.items():
            with self.subTest(name):
                client = Client()
                right = client.do_consume
                client.do_consume = lambda topic, partitions, change=change, right=right: change(
                    right(topic, partitions)
                )
                self.assertEqual(self.outcome("none", client), "failed")

    def test_another_codec_or_no_producer_id_is_caught(self):
        client = Client()
        client.batches = lambda topic: [{"codec": "none", "records": 2, "producer_id": -1}]
        self.assertEqual(self.outcome("gzip", client), "failed")
        self.assertEqual(self.outcome("idempotent", client), "failed")
        client.batches = lambda topic: []
        self.assertEqual(self.outcome("none", client), "failed")
        self.assertEqual(self.outcome("idempotent", client), "failed")

    def test_administration_without_effect_is_caught(self):
        for name in ("create", "alter", "delete"):
            with self.subTest(name):
                client = Client()
                setattr(client, f"do_{name}", lambda **arguments: None)
                self.assertEqual(self.outcome(name, client), "failed")

    def test_a_wrong_offset_is_caught(self):
        client = Client()
        client.do_seek = lambda topic, timestamp: [{"offset": 41, "timestamp": timestamp, "key": "key-41"}]
        client.do_commit = lambda **arguments: None
        client.do_lag = lambda **arguments: [{"0": {"committed": 20, "end": 50, "lag": 20}}]
        client.do_member = lambda group, topic, max: [{"processed": [0, offset]} for offset in range(max)]
        for name in ("seek", "commit", "lag", "resume"):
            with self.subTest(name):
                self.assertEqual(self.outcome(name, client), "failed")


class Groups(unittest.TestCase):
    def setUp(self):
        self.trial = group.Trial(Subject(Client()), "topic")

    def test_a_record_that_comes_again_before_its_commit_is_fine(self):
        self.trial.note("first", {"processed": [0, 5]})
        self.trial.note("second", {"processed": [0, 5]})
        self.trial.note("second", {"committed": [[0, 6]]})
        self.trial.check_nothing_came_again()

    def test_a_record_that_comes_again_after_its_commit_is_caught(self):
        self.trial.note("first", {"processed": [0, 5]})
        self.trial.note("first", {"committed": [[0, 6]]})
        self.trial.note("second", {"processed": [0, 6]})
        self.trial.check_nothing_came_again()
        self.trial.note("second", {"processed": [0, 5]})
        with self.assertRaises(Failed):
            self.trial.check_nothing_came_again()

    def test_a_record_that_nobody_processed_is_missed(self):
        self.trial.burst()
        for partition in range(group.PARTITIONS):
            for offset in range(self.trial.ends[partition]):
                self.trial.note("first", {"processed": [partition, offset]})
        self.assertEqual(self.trial.left(), 0)
        self.trial.burst()
        self.trial.note("first", {"processed": [0, 0]})
        self.assertEqual(self.trial.left(), group.BURST)


class Suites(unittest.TestCase):
    def test_what_was_not_expected_is_wrong(self):
        self.assertFalse(Case("a", "pass").is_wrong())
        self.assertTrue(Case("a", "fail").is_wrong())
        self.assertFalse(Case("a", "fail", expected=True).is_wrong())
        self.assertTrue(Case("a", "pass", expected=True).is_wrong())
        self.assertFalse(Case("a", "skip").is_wrong())


class ThePage(unittest.TestCase):
    def test_it_keeps_the_table_of_outside_tools(self):
        """No run can write that table."""
        with tempfile.TemporaryDirectory() as folder:
            page = pathlib.Path(folder) / "clients.md"
            report.write([], page)
            self.assertIn(report.TOOLS.read_text(), page.read_text())
        self.assertIn("| Tool | Run |", report.TOOLS.read_text())


class TheLastLine(unittest.TestCase):
    def test_it_counts_clients_and_suites(self):
        client, suite = (types.SimpleNamespace(is_suite=is_suite) for is_suite in (False, True))
        cells = {"create": Cell("ok"), "lag": Cell("cannot", "no such thing"), "group": Cell("failed", "lost")}
        cases = [Case("a", "pass"), Case("b", "fail", expected=True), Case("c", "fail")]
        results = [Result(client, cells=cells), checks.not_installed(client, "no go"), SuiteResult(suite, cases=cases)]
        words = "2 of 3 clients and suites ran, 1 capabilities ok, 1 failed, 1 that a library does not have"
        self.assertEqual(report.tally(results), f"{words}, 1 cases pass, 1 not as expected")
        self.assertEqual(report.tally(results[1:2]), "0 of 1 clients and suites ran")


if __name__ == "__main__":
    unittest.main()
