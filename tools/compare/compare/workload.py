"""The workload file: which brokers there are, what is asked of them, and what is aimed at."""

import dataclasses
import tomllib

KINDS = ("millstream", "kafka", "floor", "floor-http", "reference", "address")


class Wrong(Exception):
    """The workload file, or what was asked on the command line, does not fit together."""


@dataclasses.dataclass(frozen=True)
class Spec:
    """A broker that may be started; see brokers.py for what each kind is."""

    name: str
    kind: str
    title: str
    arguments: tuple = ()
    settings: tuple = ()
    java: str = ""
    address: str = ""
    warmup_seconds: float = 0


@dataclasses.dataclass(frozen=True)
class Aim:
    """A bound on one metric of one broker; with `of` or `of_part`, on its ratio to the same metric of
    another broker, or of another part of the same scenario; with `and_part`, on its ratio to the sum of that and of
    this broker's own in that part."""

    words: str
    metric: str
    broker: str
    part: str = ""
    of: str = ""
    of_part: str | None = None
    and_part: str | None = None
    at_least: float | None = None
    at_most: float | None = None

    def holds(self, value):
        above = self.at_least is None or value >= self.at_least
        return above and (self.at_most is None or value <= self.at_most)

    @property
    def is_ratio(self):
        return bool(self.of) or self.of_part is not None


@dataclasses.dataclass(frozen=True)
class Scenario:
    name: str
    title: str
    kind: str
    about: str
    brokers: tuple
    aims: tuple
    parameters: dict
    floor: str = ""
    rival: str = "kafka"
    rounds: int | None = None
    columns: tuple = ()

    def __getitem__(self, key):
        return self.parameters[key]

    def get(self, key, otherwise=None):
        return self.parameters.get(key, otherwise)


@dataclasses.dataclass(frozen=True)
class Workload:
    run: dict
    specs: dict
    scenarios: list


def load(path):
    entries = tomllib.loads(path.read_text())
    specs = {name: spec(name, entry) for name, entry in entries["brokers"].items()}
    scenarios = [scenario(entry, specs) for entry in entries["scenario"]]
    names = [one.name for one in scenarios]
    if len(set(names)) != len(names):
        raise Wrong("two scenarios have one name")
    return Workload(entries["run"], specs, scenarios)


def spec(name, entry):
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    found = Spec(name=name, **fields)
    if found.kind not in KINDS:
        raise Wrong(f"broker {name}: there is no kind {found.kind}")
    return found


def scenario(entry, specs):
    entry = dict(entry)
    named = {key: entry.pop(key) for key in ("name", "title", "kind", "about")}
    brokers = tuple(entry.pop("brokers"))
    aims = tuple(Aim(**aim) for aim in entry.pop("aim", []))
    optional = {key: entry.pop(key) for key in ("floor", "rival", "rounds") if key in entry}
    columns = tuple(entry.pop("columns", ()))
    mentioned = {*brokers, *(aim.broker for aim in aims), *(aim.of for aim in aims if aim.of)}
    unknown = mentioned - set(specs)
    if unknown:
        raise Wrong(f"{named['name']}: unknown brokers {', '.join(sorted(unknown))}")
    return Scenario(**named, brokers=brokers, aims=aims, columns=columns, parameters=entry, **optional)


def select(workload, only, brokers, addresses):
    """The scenarios asked for, each with the brokers asked for. Addresses join wherever no broker is
    started anew."""
    known = {one.name for one in workload.scenarios}
    if missing := set(only) - known:
        raise Wrong(f"there is no scenario {', '.join(sorted(missing))}")
    if missing := set(brokers) - set(workload.specs):
        raise Wrong(f"there is no broker {', '.join(sorted(missing))}")
    specs = {**workload.specs, **{one.name: one for one in addresses}}
    chosen = []
    for one in workload.scenarios:
        if only and one.name not in only:
            continue
        of = [name for name in one.brokers if not brokers or name in brokers]
        if not one.get("restarts"):
            of += [address.name for address in addresses]
        chosen.append(dataclasses.replace(one, brokers=tuple(of)))
    return dataclasses.replace(workload, specs=specs, scenarios=chosen)
