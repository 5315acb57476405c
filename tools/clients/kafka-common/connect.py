"""Kafka Connect: its programs, and a distributed worker with its REST interface."""

import json
import urllib.error
import urllib.request

from brokers import free_port
from suite import KAFKA, WORK, Wrong, launch, until

REST_SECONDS = 10


def start(program, properties, log):
    """Starts one of Connect's programs."""
    java = "-Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1"
    return launch([KAFKA / "tool", program, properties], log, JAVA_OPTS=java, LOG_LEVEL="info")


class Worker:
    """One worker. It asks for topics with three replicas, for that is the default of all their settings."""

    def __init__(self, name, broker, *settings, plugins=None):
        self.name = name
        self.port = free_port()
        self.log = WORK / f"{name}.log"
        self.properties = WORK / f"{name}.properties"
        self.process = None
        lines = [
            f"bootstrap.servers={broker}",
            f"group.id={name}",
            f"listeners=http://127.0.0.1:{self.port}",
            *(f"{kind}.storage.topic={self.topic(kind)}" for kind in ("config", "offset", "status")),
            "offset.flush.interval.ms=1000",
            *([f"plugin.path={plugins}"] if plugins else []),
            *settings,
        ]
        self.properties.write_text("".join(f"{line}\n" for line in lines))

    def topic(self, kind):
        """The internal topic for `config`, `offset` or `status`."""
        return f"{self.name}-{kind}"

    def start(self):
        self.process = start("connect-distributed", self.properties, self.log)
        until(self.is_up, "the worker to start")

    def is_up(self):
        if self.process.poll() is not None:
            raise Wrong(f"the worker ended with status {self.process.returncode}; see {self.log}")
        return self.ask("GET", "/connectors") is not None

    def kill(self):
        """SIGKILL: it has no say."""
        self.process.kill()
        self.process.wait()

    def end(self):
        if self.process and self.process.poll() is None:
            self.kill()

    def connect(self, name, **settings):
        """Creates a connector, or changes its settings, and waits until its task runs."""
        body = {key.replace("_", "."): str(value) for key, value in settings.items()}
        until(lambda: self.ask("PUT", f"/connectors/{name}/config", body) is not None, f"{name} to be taken")
        self.until_running(name)

    def until_running(self, *names):
        for name in names:
            until(lambda: self.states(name) == ["RUNNING", "RUNNING"], f"{name} and its task to run")

    def states(self, name):
        """Of a connector and of its tasks."""
        status = self.ask("GET", f"/connectors/{name}/status")
        if not status:
            return []
        return [status["connector"]["state"], *(task["state"] for task in status["tasks"])]

    def ask(self, method, path, body=None):
        """The answer, or None where there is none now: it starts, it is in a rebalance, its broker is away."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            method=method,
            data=json.dumps(body).encode() if body is not None else None,
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=REST_SECONDS) as answer:
                return json.loads(answer.read() or "{}")
        except urllib.error.HTTPError as error:
            if error.code == 400:
                raise Wrong(f"{method} {path}: {error.read().decode()[:500]}") from error
            return None
        except (OSError, json.JSONDecodeError):
            return None
