"""A suite: tests and tools of others, which judge themselves case by case."""

import subprocess
from dataclasses import dataclass, field

from .program import Failed, parse


@dataclass
class Case:
    name: str
    result: str
    why: str = ""
    expected: bool = False

    def is_wrong(self):
        return self.expected if self.result == "pass" else self.result == "fail" and not self.expected


@dataclass
class SuiteResult:
    manifest: object
    about: str = ""
    cases: list = field(default_factory=list)
    trouble: str = ""

    def wrong(self):
        return [case for case in self.cases if case.is_wrong()]

    def failed(self, strict):
        return bool(self.trouble or self.wrong() or not self.cases)

    def count(self, result):
        return sum(case.result == result for case in self.cases)

    def summary(self):
        counts = f"{self.count('pass')} passed, {self.count('fail')} failed, {self.count('skip')} skipped"
        if self.trouble:
            return f"FAILED: {self.trouble} ({counts})"
        if self.wrong():
            names = "; ".join(f"{case.name} ({case.why or case.result})" for case in self.wrong())
            return f"FAILED: {names} ({counts})"
        return counts


def run(manifest, broker, work):
    log = work / f"{manifest.name}.log"
    scratch = work / manifest.name
    scratch.mkdir()
    result = SuiteResult(manifest)
    environment = {
        **manifest.environment(broker),
        "DATA_DIR": str(broker.data),
        "MILLSTREAM": str(broker.binary),
        "WORK": str(scratch),
    }
    try:
        with open(log, "wb") as errors:
            done = subprocess.run(
                manifest.run_command(),
                cwd=manifest.here,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                timeout=manifest.seconds,
            )
        lines = done.stdout.splitlines()
        if done.returncode != 0:
            result.trouble = f"exit status {done.returncode}; see {log}"
    except subprocess.TimeoutExpired as error:
        lines = (error.stdout or b"").decode().splitlines()
        result.trouble = f"no end after {manifest.seconds} s; see {log}"
    try:
        for line in lines:
            take(parse(line), result)
    except (Failed, KeyError) as error:
        result.trouble = str(error)
    return result


def take(entry, result):
    if "about" in entry:
        result.about = entry["about"]
    else:
        case = Case(entry["case"], entry["result"], entry.get("why", ""), entry.get("expected", False))
        result.cases.append(case)
