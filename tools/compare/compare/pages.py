"""What is written: docs/performance/figures.json, a page and a plot for each scenario beside it, and the tables of
docs/performance.md, whose other words are written by hand."""

import json
import re
import subprocess
import textwrap

from . import report, venv

WIDTH = 100
OURS = "millstream"
HINT = "<!-- Written by tools/compare/run --write; its words come from tools/compare/workload.toml. -->"


def write(document, scenarios, docs, root, say):
    """All of it. Scenarios that were not run keep their figures; all take their words from the workload file."""
    folder = docs / "performance"
    folder.mkdir(exist_ok=True)
    path = folder / "figures.json"
    document = worded(merged(document, path), scenarios)
    path.write_text(json.dumps(document, indent=1) + "\n")
    try:
        plot(path, folder, root)
    except (venv.Missing, subprocess.SubprocessError) as error:
        say(f"no plots: {error}")
    write_pages(document, scenarios, docs)


def write_pages(document, scenarios, docs):
    """The pages alone, from figures that were measured before."""
    for page, text in pages(document, scenarios, docs).items():
        page.write_text(text)


def pages(document, scenarios, docs):
    """Each page with its text."""
    document = worded(document, scenarios)
    folder = docs / "performance"
    found = {folder / page_of(name): "\n".join(page(name, entry, folder)) + "\n" for name, entry in document["scenarios"].items()}
    overview = docs / "performance.md"
    return found | {overview: filled(overview.read_text(), generated(document))}


def read(docs):
    """The figures as they were written."""
    return json.loads((docs / "performance" / "figures.json").read_text())


def merged(document, path):
    if not path.exists():
        return document
    before = json.loads(path.read_text())
    return {**document, "scenarios": ordered({**before["scenarios"], **document["scenarios"]})}


def ordered(scenarios):
    return dict(sorted(scenarios.items(), key=lambda item: place(item[0])))


def place(name):
    """S2 before S10, and all of them before the other letters."""
    letters, number = re.fullmatch(r"(\D*)(\d*)", name).groups()
    return letters != "S", letters, int(number or 0)


def worded(document, scenarios):
    """Titles, columns and words as the workload file has them now."""
    words = {one.name: {"title": one.title, "about": one.about, "columns": list(one.columns)} for one in scenarios}
    entries = {name: entry | words.get(name, {}) for name, entry in document["scenarios"].items()}
    return {**document, "scenarios": entries}


# ---- a scenario's page ----


def page_of(name):
    return f"{name.lower()}.md"


def page(name, entry, folder):
    yield from [f"# {name}: {entry['title']}", "", HINT, "", textwrap.fill(" ".join(entry["about"].split()), WIDTH), ""]
    yield from ["[performance.md](../performance.md) says how it is measured and on which machine.", ""]
    picture = folder / f"{name.lower()}.svg"
    if picture.exists():
        yield from [f"![{name}]({picture.name})", ""]
    yield from report.scenario(entry)


# ---- the page that leads to them ----


def generated(document):
    """The text of each marker of docs/performance.md."""
    return {
        "machine": "\n".join(report.table(["", ""], [[*pair] for pair in document["machine"].items()])),
        "scenarios": "\n".join(report.table(HEAD, [headline(name, entry) for name, entry in document["scenarios"].items()])),
        "aims": "\n".join(overview(document)),
    }


HEAD = ["", "figure", "Millstream", "Kafka"]


def headline(name, entry):
    """One figure of Millstream beside its rival's: the one that the first aim is about, of the last part."""
    metric = entry["aims"][0]["metric"] if entry["aims"] else report.columns(entry)[0]
    broker = next((row["broker"] for row in entry["rows"] if row["broker"].startswith(OURS)), OURS)
    parts = [row["part"] for row in entry["rows"] if row["broker"] == broker and metric in row["metrics"]]
    part = parts[-1] if parts else ""
    title = f"{entry['title']} ({part})" if part else entry["title"]
    rows = {(row["broker"], row["part"]): row for row in entry["rows"]}
    ours, rivals = (shown(rows.get((one, part)), metric) for one in (broker, entry["rival"]))
    known = report.METRICS[metric]
    return [link(name, f"{name}: {title}"), f"{known.title}, {known.unit}", ours, rivals + how(entry)]


def shown(row, metric):
    return report.METRICS[metric].show(row["metrics"][metric]) if row and metric in row["metrics"] else "–"


def how(entry):
    """How the rival was run, if not as it ships."""
    _, separator, settings = entry["brokers"].get(entry["rival"], "").partition(", ")
    return f" ({settings})" if separator else ""


def overview(document):
    """How many aims are met, and those that are not."""
    rows = [
        [link(name, name), *report.aim_row(aim)] for name, entry in document["scenarios"].items() for aim in entry["aims"]
    ]
    missed = [row[:-1] for row in rows if row[-1] != "met"]
    yield f"{len(rows) - len(missed)} of {len(rows)} aims are met. These are not:"
    yield ""
    yield from report.table(["", "aim", "found"], missed)


def link(name, text):
    return f"[{text}](performance/{page_of(name)})"


def filled(page, blocks):
    """The page with the blocks between its markers; text outside of them stays."""

    def fill(found):
        name = found.group(1)
        body = blocks.get(name, found.group(2).strip())
        return f"<!-- generated: {name} -->\n{body}\n<!-- end -->"

    return re.sub(r"<!-- generated: (\S+) -->\n(.*?)<!-- end -->", fill, page, flags=re.DOTALL)


def plot(figures, folder, root):
    words = [venv.python(root), root / "tools" / "compare" / "plot.py", figures, folder]
    subprocess.run([str(word) for word in words], check=True, timeout=300)
