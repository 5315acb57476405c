"""What the runner prints, and docs/clients.md."""

import pathlib
import textwrap

from .checks import CAPABILITIES, Result

# A part of docs/clients.md that no run can write.
TOOLS = pathlib.Path(__file__).resolve().parent.parent / "tools.md"
MARKS = {"ok": "✓", "failed": "✗", "cannot": "–", "": " "}


def say(manifest, text):
    print(f"{manifest.name:28} {text}", flush=True)


def print_matrix(results):
    clients = [result for result in results if isinstance(result, Result)]
    if not clients:
        return
    print()
    width = max(len(title(result)) for result in clients)
    for height in range(max(map(len, CAPABILITIES))):
        letters = (name.rjust(max(map(len, CAPABILITIES)))[height] for name in CAPABILITIES)
        print(" " * width + "  " + " ".join(letters))
    for result in clients:
        print(f"{title(result):{width}}  " + " ".join(mark(result, name) for name in CAPABILITIES))


def tally(results):
    """One line on all of them."""
    ran = [result for result in results if not getattr(result, "not_installed", "")]
    states = [cell.state for result in ran if not result.manifest.is_suite for cell in result.cells.values()]
    cases = [case for result in ran if result.manifest.is_suite for case in result.cases]
    words = [f"{len(ran)} of {len(results)} clients and suites ran"]
    if states:
        words.append(
            f"{states.count('ok')} capabilities ok, {states.count('failed')} failed, "
            f"{states.count('cannot')} that a library does not have"
        )
    if cases:
        good = sum(case.result == "pass" for case in cases)
        words.append(f"{good} cases pass, {sum(case.is_wrong() for case in cases)} not as expected")
    return ", ".join(words)


def title(result):
    return f"{result.manifest.title} {result.version or '(not installed)'}"


def mark(result, capability):
    cell = result.cells.get(capability)
    return MARKS[cell.state if cell else ""]


def write(results, path):
    clients = [result for result in results if isinstance(result, Result)]
    suites = [result for result in results if not isinstance(result, Result)]
    text = "\n".join([HEAD, *table(clients), "", *footnotes(clients), TOOLS.read_text(), *sections(suites)])
    path.write_text(text.rstrip() + "\n")


def table(clients):
    yield "| Language | Client | " + " | ".join(CAPABILITIES) + " |"
    yield "|---|---|" + "---|" * len(CAPABILITIES)
    for result in clients:
        marks = " | ".join(mark(result, name) for name in CAPABILITIES)
        yield f"| {result.manifest.language} | {title(result)} | {marks} |"


def footnotes(clients):
    """Why there is no mark of success, client by client."""
    for state, words in (("cannot", "What a library does not have (–):"), ("failed", "What failed (✗):")):
        lines = list(reasons(clients, state))
        if lines:
            yield from [words, "", *lines, ""]
    missing = [result for result in clients if result.not_installed]
    for result in missing:
        yield f"{result.manifest.title} could not be installed where this was run.\n"


def reasons(clients, state):
    for result in clients:
        of = {}
        for name, cell in result.cells.items():
            if cell.state == state:
                of.setdefault(cell.why, []).append(name)
        for why, names in of.items():
            yield f"- **{result.manifest.title}**, {', '.join(names)}: {why}"
        if state == "cannot" and result.manifest.without:
            yield f"- **{result.manifest.title}**: not compared, for it cannot show or set them: " + ", ".join(
                result.manifest.without
            )


def sections(suites):
    for suite in suites:
        yield f"## {suite.manifest.title}"
        yield ""
        if not hasattr(suite, "about") or suite.manifest.out is None:
            yield "Could not be installed where this was run.\n"
            continue
        if suite.about:
            yield from [*textwrap.wrap(suite.about, 100), ""]
        yield f"{suite.count('pass')} passed, {suite.count('fail')} failed, {suite.count('skip')} skipped."
        yield ""
        yield from cases(suite)


def cases(suite):
    passed = [f"`{case.name}`" for case in suite.cases if case.result == "pass"]
    if passed:
        yield from textwrap.wrap("Pass: " + ", ".join(passed), 100, break_long_words=False, break_on_hyphens=False)
        yield ""
    others = [case for case in suite.cases if case.result != "pass"]
    if others:
        yield "| Case | | Why |"
        yield "|---|---|---|"
        for case in others:
            words = {"fail": "fails, as expected" if case.expected else "**fails**", "skip": "left out"}
            yield f"| `{case.name}` | {words[case.result]} | {case.why} |"
        yield ""


HEAD = """# Clients

What was run against Millstream, and how it went. `tools/clients/run --write` rewrites this page;
[tools/clients/README.md](../tools/clients/README.md) says what each column asks.

- **create, describe, alter, delete**: topics, their partition counts and configs, through the client's
  own administration.
- **none, gzip, snappy, lz4, zstd**: records with keys, headers and timestamps, in that codec, acks=all,
  to three partitions; all fields read back by the same client and compared; the stored batches
  have that codec.
- **idempotent**: the same with an idempotent producer.
- **group**: three members, one of which joins late, one leaves and one is killed (SIGKILL); every record is
  processed, and none again once its offset is committed.
- **resume**: a member goes on where the one before it stopped. **commit**: an offset with metadata, committed
  and read back. **seek**: to the first record of a timestamp. **lag**: committed against end.
"""
