#!/usr/bin/env python3
"""Draws figures.json: plot.py FIGURES FOLDER. A plot for each scenario, a bar for each row."""

import json
import pathlib
import sys

import matplotlib

matplotlib.use("svg")
# The same figures give the same file.
matplotlib.rcParams["svg.hashsalt"] = "millstream"

from matplotlib import pyplot  # noqa: E402

# What is drawn of a scenario: the first of these groups that its rows have.
GROUPS = {
    "throughput": (("bytes_per_second",), 1e-6, "MB/s", False),
    "latency": (("p50_us", "p99_us", "p999_us"), 1e-3, "ms", True),
    "start": (("first_record_ms",), 1, "ms until the first record", True),
    "memory": (("rss_bytes", "anon_bytes"), 1e-6, "MB", True),
}
OF_KIND = {
    "latency": "latency",
    "at-rate": "latency",
    "partitions": "latency",
    "cold-reader": "latency",
    "connections": "latency",
    "first-record": "start",
    "killed": "start",
    "idle": "memory",
}
NAMES = {"p50_us": "p50", "p99_us": "p99", "p999_us": "p99.9", "rss_bytes": "peak RSS", "anon_bytes": "of it not files"}
COLOURS = {"millstream": "#0b6e8f", "kafka": "#b8621b", "floor": "#8a8a8a"}
SHADES = (1.0, 0.65, 0.35)


def main():
    figures, folder = map(pathlib.Path, sys.argv[1:])
    for name, entry in json.loads(figures.read_text())["scenarios"].items():
        if entry["rows"]:
            draw(name, entry, folder / f"{name.lower()}.svg")


def draw(name, entry, path):
    metrics, scale, unit, is_log = GROUPS[OF_KIND.get(entry["kind"], "throughput")]
    rows = [row for row in entry["rows"] if any(metric in row["metrics"] for metric in metrics)][::-1]
    height = 0.8 / len(metrics)
    figure, axes = pyplot.subplots(figsize=(8, 1.2 + 0.42 * len(rows)))
    for number, metric in enumerate(metrics):
        at = [place + 0.4 - height * (number + 0.5) for place in range(len(rows))]
        values = [row["metrics"].get(metric, 0) * scale for row in rows]
        colours = [colour(row["broker"]) for row in rows]
        bars = axes.barh(at, values, height, color=colours, alpha=SHADES[number])
        axes.bar_label(bars, [short(value) for value in values], fontsize=7, padding=2)
    axes.set_yticks(range(len(rows)), [label(entry, row) for row in rows], fontsize=8)
    if is_log:
        axes.set_xscale("log")
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    kinds = ", ".join(NAMES[metric] for metric in metrics if metric in NAMES)
    axes.set_xlabel(f"{unit} ({kinds}, top to bottom)" if kinds else unit, fontsize=8)
    axes.set_title(f"{name}: {entry['title']}", fontsize=10, loc="left")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    # matplotlib leaves blanks at the ends of lines.
    path.write_text("".join(f"{line.rstrip()}\n" for line in path.read_text().splitlines()))


def label(entry, row):
    title = entry["brokers"].get(row["broker"], row["broker"])
    return f"{title}\n{row['part']}" if row["part"] else title


def colour(broker):
    return next((value for key, value in COLOURS.items() if broker.startswith(key)), "#5b4a8a")


def short(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    main()
