"""That nothing is in no part, and that a part says how it went.

    python3 -m unittest discover -t tools -s tools/nightly_parts
"""

import pathlib
import re
import tempfile
import tomllib
import unittest

from . import parts
from .running import LINE_CHARACTERS_MAX, Failed, Running, summary

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def arguments_of(prefixes):
    return sorted(word for part in parts.PARTS if part.name.startswith(prefixes) for word in part.arguments)


class Everything(unittest.TestCase):
    def test_every_client_and_suite_is_in_one_part(self):
        manifests = [*ROOT.glob("tools/clients/*/client.toml"), *ROOT.glob("tools/clients/*/suite.toml")]
        self.assertEqual(arguments_of(("clients-", "suites-", "tools-")), sorted(path.parent.name for path in manifests))

    def test_every_fuzz_target_is_in_one_part(self):
        targets = tomllib.loads((ROOT / "fuzz" / "Cargo.toml").read_text())["bin"]
        self.assertEqual(arguments_of(("fuzz-",)), sorted(target["name"] for target in targets))

    def test_every_fault_of_the_harness_is_in_a_part(self):
        faults = re.search(r"^enum Fault \{\n(.*?)^\}", (ROOT / "tools/torture/src/main.rs").read_text(), re.M | re.S)
        faults = {name.lower() for name in re.findall(r"^    ([A-Z][a-z]+)[ ({]", faults.group(1), re.M)}
        self.assertLessEqual({"kill", "power"}, faults)
        # It is no fault: `power --failed-syncs` starts it.
        faults.remove("medium")
        self.assertEqual(faults - set(arguments_of(("torture-",))), set())

    def test_the_clients_of_ci_are_clients(self):
        listed = re.search(r"^clients=\((.*)\)$", (ROOT / ".ci" / "run").read_text(), re.M).group(1).split()
        self.assertEqual(len(listed), 6)
        for name in listed:
            self.assertTrue((ROOT / "tools" / "clients" / name / "client.toml").exists(), name)

    def test_names_are_given_once(self):
        names = [part.name for part in parts.PARTS]
        self.assertEqual(len(set(names)), len(names))


class APart(unittest.TestCase):
    def running(self, seconds=600):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return Running(ROOT, 7, pathlib.Path(folder.name) / "log", seconds)

    def test_a_command_that_fails_fails_the_part_and_says_why(self):
        running = self.running()
        with self.assertRaisesRegex(Failed, "status 3: no such thing"):
            running.run("sh", "-c", "echo fine; echo no such thing >&2; exit 3")
        self.assertIn("no such thing", running.tail())

    def test_a_command_is_ended_when_the_parts_time_is_over(self):
        with self.assertRaisesRegex(Failed, "time was over"):
            # The child of the child has to go too, or the output would stay open.
            self.running(seconds=0).run("sh", "-c", "sleep 600 & wait")

    def test_lines_are_seen_as_they_come_and_the_environment_is_passed_on(self):
        seen = []
        output = self.running().run("sh", "-c", 'echo "a $SEED"; echo b', on_line=seen.append, SEED=7)
        self.assertEqual((output, seen), ("a 7\nb\n", ["a 7\n", "b\n"]))

    def test_the_last_line_has_name_commit_seed_result_and_counts(self):
        part = parts.Part("p", "", None)
        self.assertEqual(summary(part, "abc", 7, 61.2, counted="3 cycles"), "nightly p: commit abc, seed 7, passed in 61 s: 3 cycles")
        self.assertEqual(summary(part, "abc", 7, 1, failed="why"), "nightly p: commit abc, seed 7, FAILED in 1 s: why")
        long = summary(part, "abc", 7, 1, failed="two\nlines" + "!" * 1000)
        self.assertIn("two lines!", long)
        self.assertEqual(len(long), LINE_CHARACTERS_MAX)
        without = parts.Part("p", "", None, has_seed=False)
        self.assertIn(", no seed, ", summary(without, "abc", 7, 1, counted=""))


class Counting(unittest.TestCase):
    def test_tortures_summary_is_understood(self):
        good = 'kill: seed 7\n{"fault":"kill","seed":7,"seconds":60,"cycles":1200,"records_sent":5,"lost":0,"violation":null}\n'
        self.assertEqual(parts.tortured(0, good), "1,200 cycles, 5 records sent, 0 violations")
        bad = good.replace("null", '"lost offset 3"')
        with self.assertRaisesRegex(Failed, "VIOLATION: lost offset 3"):
            parts.tortured(1, bad)
        with self.assertRaisesRegex(Failed, "status 2: no xfs"):
            parts.tortured(2, "no xfs\n")

    def test_what_other_programs_print_is_understood(self):
        self.assertEqual(parts.fuzzed("stat::number_of_executed_units: 12345\n"), 12345)
        self.assertEqual(parts.tests_passed("test result: ok. 3 passed; 0 failed\ntest result: ok. 4 passed\n"), "7 tests passed")
        for understand in (parts.fuzzed, parts.tests_passed):
            with self.assertRaises(Failed):
                understand("something else")


if __name__ == "__main__":
    unittest.main()
