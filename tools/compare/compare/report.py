"""The figures as JSON, and as tables for people."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Metric:
    title: str
    unit: str
    scale: float = 1.0
    digits: int = 2

    def show(self, value):
        scaled = value * self.scale
        digits = self.digits if abs(scaled) < 1000 else 0
        return f"{scaled:,.{digits}f}"


METRICS = {
    "bytes_per_second": Metric("throughput", "MB/s", 1e-6, 1),
    "records_per_second": Metric("records", "million/s", 1e-6, 3),
    "p50_us": Metric("p50", "ms", 1e-3, 3),
    "p99_us": Metric("p99", "ms", 1e-3, 3),
    "p999_us": Metric("p99.9", "ms", 1e-3, 3),
    "max_us": Metric("max", "ms", 1e-3, 1),
    "e2e_p50_us": Metric("end to end p50", "ms", 1e-3, 3),
    "e2e_p99_us": Metric("end to end p99", "ms", 1e-3, 3),
    "cpu_seconds_per_gb": Metric("broker CPU per GB", "s", 1, 3),
    "cpu_us_per_request": Metric("broker CPU per request", "µs", 1, 1),
    "cpu_cores": Metric("broker CPU", "cores", 1, 3),
    "client_cores": Metric("client CPU", "cores", 1, 2),
    "others_cores": Metric("CPU of other programs", "cores", 1, 2),
    "rss_bytes": Metric("peak RSS", "MB", 1e-6, 0),
    "anon_bytes": Metric("of it not files", "MB", 1e-6, 1),
    "anon_bytes_per_connection": Metric("memory per connection", "kB", 1e-3, 2),
    "first_record_ms": Metric("start to first record", "ms", 1, 1),
    "disk_bytes_per_byte": Metric("disk per byte", "bytes", 1, 3),
    "device_bytes_per_byte": Metric("written to the device per byte", "bytes", 1, 3),
    "disk_bytes": Metric("disk", "MB", 1e-6, 1),
    "log_bytes": Metric("in the log", "GB", 1e-9, 1),
    "read_bytes_per_second": Metric("read beside it", "MB/s", 1e-6, 1),
    "resident_share": Metric("in the page cache", "share", 1, 2),
}
# Beside these a ratio says nothing.
WITHOUT_RATIO = {"client_cores", "others_cores", "log_bytes", "resident_share", "read_bytes_per_second"}


def document(machine, options):
    return {
        "machine": machine,
        "run": {"rounds": options.rounds, "seconds": options.seconds, "scale": options.scale},
        "scenarios": {},
    }


def brief(part, metrics):
    """One line while it runs."""
    words = [f"{METRICS[name].title} {METRICS[name].show(value)} {METRICS[name].unit}" for name, value in shown(metrics)]
    return (f"{part}: " if part else "") + ", ".join(words)


def shown(metrics):
    return [(name, metrics[name]) for name in METRICS if name in metrics]


# ---- tables ----


def text(document):
    for name, entry in document["scenarios"].items():
        yield from ["", f"## {name}: {entry['title']}", "", *scenario(entry)]


def scenario(entry):
    """Markdown: the values, their ratios, the aims, and remarks."""
    rows = entry["rows"]
    if rows:
        names = columns(entry)
        yield from table(values_head(names), [values_row(entry, row, names) for row in rows])
        compared = [name for name in names if name not in WITHOUT_RATIO]
        ratios = [row for row in (ratio_row(entry, row, compared) for row in rows) if row]
        if ratios:
            yield from ["", ratio_words(entry), ""]
            yield from table(["", *(METRICS[name].title for name in compared)], ratios)
    if entry["aims"]:
        yield ""
        yield from table(["aim", "found", ""], [aim_row(aim) for aim in entry["aims"]])
    remarks = list(remarked(entry))
    if remarks:
        yield from ["", *(f"- {remark}" for remark in remarks)]


def columns(entry):
    """The metrics that any row has, of those that the scenario wants to show."""
    found = {name for row in entry["rows"] for name in row["metrics"]}
    wanted = entry.get("columns") or METRICS
    return [name for name in wanted if name in found]


def values_head(names):
    return ["", *(f"{METRICS[name].title}, {METRICS[name].unit}" for name in names)]


def values_row(entry, row, names):
    metrics = row["metrics"]
    return [label(entry, row), *(METRICS[name].show(metrics[name]) if name in metrics else "" for name in names)]


def label(entry, row):
    title = entry["brokers"].get(row["broker"], row["broker"])
    marks = "".join(f" ({mark})" for mark in row["marks"])
    return f"{title}, {row['part']}{marks}" if row["part"] else f"{title}{marks}"


def ratio_row(entry, row, names):
    """Each cell: to Kafka's / to the floor's."""
    if not (row["to_rival"] or row["to_floor"]):
        return None
    cells = []
    for name in names:
        pair = [f"{of[name]:.2f}" if name in of else "–" for of in (row["to_rival"], row["to_floor"])]
        if not entry["floor"]:
            pair = pair[:1]
        cells.append(" / ".join(pair) if any(one != "–" for one in pair) else "")
    return [label(entry, row), *cells]


def ratio_words(entry):
    rival = entry["brokers"].get(entry["rival"], "Kafka")
    floor = entry["brokers"].get(entry["floor"])
    return f"As a ratio to {rival}" + (f" / to {floor}:" if floor else ":")


def aim_row(aim):
    return [aim["words"], aim_value(aim), {True: "met", False: "**missed**", None: ""}[aim["met"]]]


def aim_value(aim):
    if aim["value"] is None:
        return "not measured"
    if aim["is_ratio"]:
        return f"{aim['value']:.2f}"
    metric = METRICS[aim["metric"]]
    return f"{metric.show(aim['value'])} {metric.unit}"


def remarked(entry):
    yield f"{entry['rounds']} {'rounds' if entry['rounds'] > 1 else 'round'} of {entry['seconds']:g} s, {entry['measured']}."
    ceiling = entry["client_ceiling_bytes_per_second"]
    if ceiling:
        yield f"The client sends {ceiling / 1e6:,.0f} MB/s to a server that only answers."
    if spread := widest(entry):
        yield spread
    yield from (f"{note}." for note in entry["notes"])
    for broker, whys in entry["failures"].items():
        yield f"{entry['brokers'].get(broker, broker)} failed: {'; '.join(sorted(set(whys)))}"


def widest(entry):
    """How far apart the rounds of a row were, at most."""
    found = []
    for row in entry["rows"]:
        for name in ("bytes_per_second", "p99_us", "first_record_ms"):
            values = row["rounds"].get(name, [])
            if len(values) > 1 and min(values) > 0:
                found.append((max(values) / min(values), METRICS[name].title, label(entry, row)))
    if not found:
        return None
    factor, metric, of = max(found)
    return f"Rounds differed by a factor of {factor:.2f} at most ({metric} of {of})."


def table(head, rows):
    yield "| " + " | ".join(head) + " |"
    yield "|---" + "|---:" * (len(head) - 1) + "|"
    for row in rows:
        yield "| " + " | ".join(row) + " |"
