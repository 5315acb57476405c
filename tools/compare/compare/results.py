"""What was measured, and what follows from it: medians over rounds, ratios, marks, aims met or not."""

import statistics

from .bench import CEILING_MARGIN, CLIENT_BUSY_CORES, OTHERS_CORES_MAX

CLIENT_BOUND = "client-bound"
DISTURBED = "disturbed"
# An aim for every part is held against the worst of them.
EVERY_PART = "*"


class Results:
    """Every value of every round: by scenario, broker, part and metric."""

    def __init__(self):
        self.values = {}
        self.failures = {}

    def add(self, scenario, broker, parts):
        for part, metrics in parts.items():
            row = self.values.setdefault(scenario, {}).setdefault((broker, part), {})
            for metric, value in metrics.items():
                row.setdefault(metric, []).append(value)

    def failed(self, scenario, broker, why):
        self.failures.setdefault(scenario, {}).setdefault(broker, []).append(why)

    def rows(self, scenario):
        return self.values.get(scenario, {})

    def median(self, scenario, broker, part, metric):
        """None if it was not measured."""
        values = self.rows(scenario).get((broker, part), {}).get(metric)
        return statistics.median(values) if values else None

    def ceiling(self, scenario):
        """Bytes a second that the client sends to a server that only answers."""
        found = [value for row in self.rows(scenario).values() for value in row.get("ceiling_bytes_per_second", [])]
        return statistics.median(found) if found else None


def summary(scenario, results):
    """A scenario's entry of the JSON."""
    rows = [row(scenario, results, broker, part) for broker, part in results.rows(scenario.name)]
    return {
        "title": scenario.title,
        "kind": scenario.kind,
        "parameters": scenario.parameters,
        "floor": scenario.floor,
        "rival": scenario.rival,
        "client_ceiling_bytes_per_second": results.ceiling(scenario.name),
        "rows": rows,
        "failures": results.failures.get(scenario.name, {}),
        "aims": [aimed(scenario, results, aim) for aim in scenario.aims],
    }


def row(scenario, results, broker, part):
    rounds = results.rows(scenario.name)[broker, part]
    return {
        "broker": broker,
        "part": part,
        "marks": marks(scenario, results, broker, part),
        "metrics": {metric: statistics.median(values) for metric, values in rounds.items()},
        "rounds": rounds,
        "to_floor": ratios(scenario, results, broker, part, scenario.floor),
        "to_rival": ratios(scenario, results, broker, part, scenario.rival),
    }


def ratios(scenario, results, broker, part, of):
    """Each metric divided by another broker's. Empty for that broker itself and where it was not run."""
    if not of or of == broker:
        return {}
    found = {}
    for metric in results.rows(scenario.name)[broker, part]:
        mine = results.median(scenario.name, broker, part, metric)
        other = results.median(scenario.name, of, part, metric)
        if other:
            found[metric] = mine / other
    return found


def marks(scenario, results, broker, part):
    """What keeps a row from saying how fast its broker is."""
    found = [CLIENT_BOUND] if is_client_bound(scenario, results, broker, part) else []
    others = results.median(scenario.name, broker, part, "others_cores") or 0
    return [*found, DISTURBED] if others > OTHERS_CORES_MAX else found


def is_client_bound(scenario, results, broker, part):
    """Whether the client, and not the broker, may have been the limit."""
    if "rate_of" in scenario.parameters or scenario.kind in ("latency", "partitions", "clients", "http-requests", "http-keys"):
        return False
    moved = results.median(scenario.name, broker, part, "bytes_per_second")
    ceiling = results.ceiling(scenario.name)
    if moved is None:
        return False
    if ceiling is not None:
        return ceiling < CEILING_MARGIN * moved
    busy = results.median(scenario.name, broker, part, "client_cores")
    return busy is not None and busy >= CLIENT_BUSY_CORES


def aimed(scenario, results, aim):
    """An aim with the value found for it; `met` is None where it could not be measured."""
    parts = [part for broker, part in results.rows(scenario.name) if broker == aim.broker]
    values = [found(scenario, results, aim, part) for part in (parts if aim.part == EVERY_PART else [aim.part])]
    values = [value for value in values if value is not None]
    worst = min if aim.at_least is not None else max
    value = worst(values) if values else None
    met = None if value is None else aim.holds(value)
    return {"words": aim.words, "metric": aim.metric, "is_ratio": aim.is_ratio, "value": value, "met": met}


def found(scenario, results, aim, part):
    value = results.median(scenario.name, aim.broker, part, aim.metric)
    if value is None or not aim.is_ratio:
        return value
    of_part = part if aim.of_part is None else aim.of_part
    bases = [results.median(scenario.name, aim.of or aim.broker, of_part, aim.metric)]
    if aim.and_part is not None:
        bases.append(results.median(scenario.name, aim.broker, aim.and_part, aim.metric))
    return value / sum(bases) if all(bases) else None
