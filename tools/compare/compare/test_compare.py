"""What the figures are made of can be told right from wrong without running a broker.

    python3 -m unittest discover -t tools/compare -s tools/compare/compare
"""

import pathlib
import struct
import tempfile
import unittest

from . import bench, brokers, clients, figures, measure, machine, pages, report, results, wire, workload

HERE = pathlib.Path(__file__).resolve().parent
WORKLOAD = HERE.parent / "workload.toml"
DOCS = HERE.parent.parent.parent / "docs"
# An overview is read in one sitting.
OVERVIEW_LINES_MAX = 160


def scenario(**changes):
    fields = {
        "name": "S1",
        "title": "t",
        "kind": "produce",
        "about": "a",
        "brokers": ("ours", "kafka", "floor"),
        "aims": (),
        "parameters": {"load": {}},
        "floor": "floor",
    }
    return workload.Scenario(**{**fields, **changes})


def measured(**rows):
    """Results of S1 with the rounds of one metric for each broker."""
    found = results.Results()
    for broker, values in rows.items():
        for value in values:
            found.add("S1", broker, {"": {"bytes_per_second": value}})
    return found


class TheWorkload(unittest.TestCase):
    def test_every_scenario_can_be_run_and_shown(self):
        for one in workload.load(WORKLOAD).scenarios:
            self.assertIn(one.kind, figures.KINDS, one.name)
            self.assertEqual(set(one.columns) - set(report.METRICS), set(), one.name)
            for aim in one.aims:
                self.assertIn(aim.metric, report.METRICS, one.name)
                self.assertNotEqual(aim.at_least is None, aim.at_most is None, aim.words)
            for broker in (one.floor, *(aim.of for aim in one.aims)):
                self.assertIn(broker, {"", *one.brokers}, one.name)

    def test_only_what_is_asked_for_is_chosen(self):
        loaded = workload.load(WORKLOAD)
        chosen = workload.select(loaded, ["S1"], ["kafka"], [])
        self.assertEqual([(one.name, one.brokers) for one in chosen.scenarios], [("S1", ("kafka",))])
        for wrong in (["S99"], []), ([], ["nobody"]):
            with self.assertRaises(workload.Wrong):
                workload.select(loaded, *wrong, [])

    def test_an_address_joins_where_no_broker_is_restarted(self):
        one, two = scenario(name="S1"), scenario(name="S2", parameters={"restarts": True})
        address = workload.Spec(name="mine", kind="address", title="mine", address="h:1")
        chosen = workload.select(workload.Workload({}, {}, [one, two]), [], [], [address])
        self.assertEqual(["mine" in one.brokers for one in chosen.scenarios], [True, False])


class Figures(unittest.TestCase):
    def test_ratios_are_of_medians_and_not_to_oneself(self):
        found = measured(ours=[200, 100, 300], kafka=[100], floor=[400])
        entry = results.summary(scenario(), found)
        ours, kafka, floor = entry["rows"]
        self.assertEqual(ours["to_rival"]["bytes_per_second"], 2)
        self.assertEqual(ours["to_floor"]["bytes_per_second"], 0.5)
        self.assertEqual((kafka["to_rival"], floor["to_floor"]), ({}, {}))

    def test_an_aim_is_met_missed_or_unknown(self):
        found = measured(ours=[70], floor=[100])
        aim = workload.Aim(words="w", metric="bytes_per_second", broker="ours", of="floor", at_least=0.75)
        missed = results.aimed(scenario(), found, aim)
        self.assertEqual((missed["value"], missed["met"]), (0.7, False))
        found.add("S1", "ours", {"": {"bytes_per_second": 90}})
        self.assertTrue(results.aimed(scenario(), found, aim)["met"])
        self.assertIsNone(results.aimed(scenario(), measured(ours=[70]), aim)["met"])

    def test_an_aim_may_compare_parts(self):
        found = results.Results()
        found.add("S1", "ours", {"one": {"p99_us": 10}, "many": {"p99_us": 40}})
        aim = workload.Aim(words="", metric="p99_us", broker="ours", part="many", of_part="one", at_most=3)
        self.assertEqual(results.aimed(scenario(), found, aim)["value"], 4)
        self.assertFalse(results.aimed(scenario(), found, aim)["met"])

    def test_an_aim_for_every_part_is_held_against_the_worst(self):
        found = results.Results()
        found.add("S1", "ours", {"a": {"p99_us": 30}, "b": {"p99_us": 10}})
        found.add("S1", "kafka", {"a": {"p99_us": 10}, "b": {"p99_us": 10}})
        aim = workload.Aim(words="", metric="p99_us", broker="ours", part="*", of="kafka", at_most=1)
        self.assertEqual(results.aimed(scenario(), found, aim)["value"], 3)

    def test_what_comes_close_to_the_clients_ceiling_is_marked(self):
        found = measured(ours=[800], kafka=[100])
        found.add("S1", "kafka", {"": {"ceiling_bytes_per_second": 1000}})
        self.assertEqual(results.marks(scenario(), found, "ours", ""), ["client-bound"])
        self.assertEqual(results.marks(scenario(), found, "kafka", ""), [])
        at_a_rate = scenario(parameters={"rate_of": "S2"})
        self.assertEqual(results.marks(at_a_rate, found, "ours", ""), [])

    def test_a_reader_that_is_never_idle_is_marked(self):
        found = results.Results()
        found.add("S1", "ours", {"": {"bytes_per_second": 1, "client_cores": 0.99}})
        found.add("S1", "kafka", {"": {"bytes_per_second": 1, "client_cores": 0.5}})
        self.assertEqual(results.marks(scenario(kind="consume"), found, "ours", ""), ["client-bound"])
        self.assertEqual(results.marks(scenario(kind="consume"), found, "kafka", ""), [])

    def test_a_row_measured_while_others_worked_is_marked(self):
        found = measured(ours=[100])
        found.add("S1", "ours", {"": {"others_cores": 0.5}})
        self.assertEqual(results.marks(scenario(), found, "ours", ""), ["disturbed"])

    def test_perfs_output_is_understood(self):
        printed = {
            "written": {"bytes_per_second": 5.0, "records_per_second": 1.0},
            "read": {"bytes_per_second": 7.0, "records_per_second": 2.0},
            "acknowledged_us": {"p50": 1.0, "p99": 2.0, "p99.9": 3.0, "max": 4.0},
            "end_to_end_us": {"p50": 9.0},
        }
        metrics = bench.of_perf(printed)
        self.assertEqual((metrics["bytes_per_second"], metrics["p999_us"], metrics["e2e_p50_us"]), (5.0, 3.0, 9.0))
        self.assertEqual(list(bench.as_flags({"a": 1, "b": True})), ["--a", 1, "--b"])


class Measuring(unittest.TestCase):
    def test_cpu_time_is_read_whatever_the_name(self):
        stat = "7 (a) b (c) S " + " ".join(["0"] * 10) + " 150 50 " + "0 " * 30
        self.assertEqual(measure.parse_cpu_seconds(stat), (150 / measure.TICKS, 50 / measure.TICKS))

    def test_user_time_and_what_the_host_took_are_read_of_the_machine(self):
        stat = "cpu  100 20 300 400 5 0 7 8 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n"
        self.assertEqual(measure.parse_machine_seconds(stat), (120 / measure.TICKS, 8 / measure.TICKS))

    def test_cpu_time_between_samples_is_even(self):
        samples = [(0.0, 10.0), (1.0, 20.0), (2.0, 20.0)]
        self.assertEqual([measure.at(samples, at) for at in (-1, 0.5, 1, 1.5, 9)], [10, 15, 20, 20, 20])

    def test_memory_is_in_bytes(self):
        status = "Name:\tx\nVmHWM:\t  100 kB\nVmRSS:\t 90 kB\nRssAnon:\t 8 kB\n"
        self.assertEqual(measure.parse_memory(status), {"VmHWM": 102400, "VmRSS": 92160, "RssAnon": 8192})

    def test_what_was_written_to_a_device_is_counted_in_sectors(self):
        stat = "  100 0 200 5 300 1 4096 7 0 8 9 0 0 0 0 0 0"
        self.assertEqual(measure.parse_device_written_bytes(stat), 4096 * 512)

    def test_pages_of_a_file_just_written_are_in_the_page_cache(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "file"
            path.write_bytes(b"x" * (3 * measure.PAGE))
            self.assertEqual(measure.resident_pages(path), (3, 3))
            self.assertEqual(measure.resident_share(folder), 1.0)
            path.write_bytes(b"")
            self.assertEqual(measure.resident_share(folder), 0.0)

    def test_the_innermost_file_system_is_told(self):
        mounts = "a / ext4 rw 0 0\nb /tmp tmpfs rw,size=1 0 0\nc /tmpfoo xfs ro 0 0\n"
        self.assertEqual(machine.file_system("/tmp/x", mounts), "tmpfs (rw,size=1)")
        self.assertEqual(machine.file_system("/srv", mounts), "ext4 (rw)")


class TheProtocol(unittest.TestCase):
    def test_the_checksum_is_castagnolis(self):
        self.assertEqual(wire.crc32c(b"123456789"), 0xE3069283)

    def test_varints_are_zigzag(self):
        self.assertEqual([wire.varint(value) for value in (0, -1, 1, 64, 100)], [b"\0", b"\1", b"\2", b"\x80\1", b"\xc8\1"])

    def test_a_batch_says_its_own_length(self):
        batch = wire.batch(b"x" * 100)
        self.assertEqual(struct.unpack_from(">i", batch, 8)[0], len(batch) - 12)
        self.assertEqual(struct.unpack_from(">I", batch, 17)[0], wire.crc32c(batch[21:]))

    def test_a_frame_says_its_own_length(self):
        frame = wire.fetch_frame("topic", 5)
        self.assertEqual(struct.unpack_from(">ihh", frame), (len(frame) - 4, 1, 4))

    def test_errors_in_replies_are_found(self):
        created = struct.pack(">ii", 0, 1) + wire.string("t") + struct.pack(">h", 36) + struct.pack(">h", -1)
        self.assertEqual(wire.created(wire.Reader(created)), 36)
        partition = struct.pack(">ihqqq", 0, 3, -1, -1, -1)
        produced = wire.array(wire.string("t") + wire.array(partition)) + struct.pack(">i", 0)
        self.assertEqual(wire.produced(wire.Reader(produced)), 3)


class OtherPrograms(unittest.TestCase):
    def test_the_same_limits_are_set_in_each_brokers_words(self):
        limits = {"retention_bytes": 5, "segment_bytes": 6}
        self.assertIn("--log-retention-bytes", brokers.millstream_limits(limits))
        self.assertIn("log.retention.bytes=5", brokers.kafka_limits(limits))
        self.assertIn("log.segment.bytes=6", brokers.kafka_limits(limits))
        self.assertEqual(brokers.kafka_limits({}), [])

    def test_kafkas_producer_tool_is_understood(self):
        line = "{} records sent, 12,345.6 records/sec (12.06 MB/sec), 3.4 ms avg latency, 300.0 ms max latency, {} ms 50th, 5 ms 95th, 10 ms 99th, 20 ms 99.9th.\n"
        metrics = clients.sent(line.format(10, 1) + line.format(500, 2))
        self.assertEqual(metrics, {"records_per_second": 12345.6, "p50_us": 2000, "p99_us": 10000, "p999_us": 20000})
        with self.assertRaises(bench.Failed):
            clients.sent("it broke")

    def test_kafkas_consumer_tool_is_understood(self):
        output = (
            "start.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, "
            "rebalance.time.ms, fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec\n"
            "2026-01-01 00:00:00:000, 2026-01-01 00:00:01:000, 100, 50, 1000, 500, 100, 900, 111.5, 1111.0\n"
        )
        metrics = clients.received(output)
        self.assertEqual(metrics, {"bytes_per_second": 111.5 * (1 << 20), "records_per_second": 1111.0})


class TheReport(unittest.TestCase):
    def entry(self):
        found = measured(ours=[2e8, 4e8], kafka=[1e8])
        found.failed("S1", "floor", "no such file")
        aim = workload.Aim(words="fast", metric="bytes_per_second", broker="ours", at_least=1e9)
        entry = results.summary(scenario(aims=(aim,)), found)
        return entry | {
            "notes": ["8 GB instead of 20 GB"],
            "rounds": 2,
            "seconds": 8.0,
            "measured": "today",
            "brokers": {"ours": "Ours", "kafka": "Kafka"},
        }

    def test_it_says_what_missed_what_failed_and_how_far_rounds_differed(self):
        page = "\n".join(report.scenario(self.entry()))
        for words in ("| Ours | 300.0 |", "| Ours | 3.00 / – |", "**missed**", "factor of 2.00", "no such file", "instead of 20"):
            self.assertIn(words, page)


class ThePages(unittest.TestCase):
    def document(self):
        entry = TheReport().entry() | {"about": "Is it fast?", "rival": "kafka"}
        return {"machine": {"cores": "2"}, "run": {}, "scenarios": {"S1": entry}}

    def test_a_scenario_has_a_page_and_its_first_aims_figure_in_the_overview(self):
        with tempfile.TemporaryDirectory() as folder:
            docs = pathlib.Path(folder)
            (docs / "performance").mkdir()
            (docs / "performance" / "s1.svg").touch()
            (docs / "performance.md").write_text("by hand\n<!-- generated: scenarios -->\n<!-- end -->\n")
            words = scenario(title="ingest", about="Is it\nfast?")
            found = pages.pages(self.document(), [words], docs)
        self.assertEqual(set(found), {docs / "performance.md", docs / "performance" / "s1.md"})
        page = found[docs / "performance" / "s1.md"]
        for part in ("# S1: ingest\n", "\nIs it fast?\n", "![S1](s1.svg)", "(../performance.md)", "| Ours | 300.0 |"):
            self.assertIn(part, page)
        self.assertIn("by hand\n", found[docs / "performance.md"])

    def test_the_overview_compares_the_last_part_with_the_rivals(self):
        rows = [("millstream-fsync", "one", 1e6), ("millstream-fsync", "many", 2e6), ("kafka", "one", 3e6), ("kafka", "many", 4e6)]
        rows = [{"broker": broker, "part": part, "metrics": {"bytes_per_second": value}} for broker, part, value in rows]
        entry = {"title": "t", "aims": [{"metric": "bytes_per_second"}], "rows": rows, "rival": "kafka"}
        line = pages.headline("S7", entry | {"brokers": {"kafka": "Kafka, flush.messages=1"}})
        self.assertEqual(line, ["[S7: t (many)](performance/s7.md)", "throughput, MB/s", "2.0", "4.0 (flush.messages=1)"])
        without = pages.headline("S7", entry | {"brokers": {}, "rows": rows[:2]})
        self.assertEqual(without[2:], ["2.0", "–"])

    def test_scenarios_that_were_not_run_keep_their_figures(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "figures.json"
            path.write_text('{"scenarios": {"S10": {"title": "ten"}, "S2": {"title": "old"}}}')
            merged = pages.merged({"scenarios": {"S2": {"title": "new"}}}, path)
        self.assertEqual(list(merged["scenarios"]), ["S2", "S10"])
        self.assertEqual(merged["scenarios"]["S2"]["title"], "new")

    def test_the_pages_are_what_the_figures_and_the_workload_make(self):
        scenarios = workload.load(WORKLOAD).scenarios
        for page, text in pages.pages(pages.read(DOCS), scenarios, DOCS).items():
            self.assertEqual(page.read_text(), text, f"{page} is stale: tools/compare/run --pages")

    def test_the_overview_is_one_page(self):
        lines = (DOCS / "performance.md").read_text().splitlines()
        self.assertLessEqual(len(lines), OVERVIEW_LINES_MAX)

    def test_only_text_between_markers_is_replaced(self):
        page = "by hand\n<!-- generated: S1 -->\nold\n<!-- end -->\nrest\n<!-- generated: S2 -->\nkept\n<!-- end -->\n"
        filled = pages.filled(page, {"S1": "new"})
        self.assertEqual(filled, page.replace("old", "new"))
        self.assertEqual(pages.filled(filled, {"S1": "new"}), filled)


if __name__ == "__main__":
    unittest.main()
