"""A folder with a client.toml or a suite.toml: what it is, how it is installed and run."""

import hashlib
import os
import shutil
import subprocess
import time
import tomllib

INSTALL_SECONDS = 1800
# The table's order: by language, then by name.
LANGUAGES = ["C", "Java", "Python", "Go", "Node", "Rust"]


class CannotInstall(Exception):
    pass


class Manifest:
    def __init__(self, path):
        self.here = path.parent
        self.name = path.parent.name
        self.is_suite = path.name == "suite.toml"
        entries = tomllib.loads(path.read_text())
        self.title = entries.pop("title", self.name)
        self.language = entries.pop("language")
        self.library = entries.pop("library", None)
        self.needs = entries.pop("needs", [])
        self.sources = entries.pop("sources", [])
        self.steps = entries.pop("install", [])
        self.command = entries.pop("run")
        self.without = entries.pop("without", [])
        self.seconds = entries.pop("seconds", 600)
        if entries:
            raise ValueError(f"{path}: unknown keys {', '.join(entries)}")
        self.order = (self.is_suite, LANGUAGES.index(self.language), self.name)
        self.out = None

    @staticmethod
    def all(folder):
        paths = [*folder.glob("*/client.toml"), *folder.glob("*/suite.toml")]
        return sorted((Manifest(path) for path in paths), key=lambda manifest: manifest.order)

    def install(self, out):
        """Installs what the folder needs below `out`, unless that was done for its very files. Returns
        the seconds that it took."""
        started = time.monotonic()
        self.out = out / self.name
        for need in self.needs:
            if shutil.which(need) is None:
                raise CannotInstall(f"`{need}` is missing")
        stamp = self.out / "installed"
        wanted = self._digest()
        if not stamp.exists() or stamp.read_text() != wanted:
            self.out.mkdir(parents=True, exist_ok=True)
            for step in self.steps:
                self._install_step(self._fill(step))
            stamp.write_text(wanted)
        return time.monotonic() - started

    def run_command(self):
        return self._fill(self.command)

    def environment(self, broker):
        return {**os.environ, "BOOTSTRAP": broker.address, "OUT": str(self.out)}

    def _install_step(self, step):
        with open(self.out / "install.log", "ab") as log:
            try:
                subprocess.run(
                    step,
                    cwd=self.here,
                    env={**os.environ, "OUT": str(self.out)},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    check=True,
                    timeout=INSTALL_SECONDS,
                )
            except (OSError, subprocess.SubprocessError) as error:
                raise CannotInstall(f"{error}; see {log.name}") from error

    def _fill(self, command):
        return [word.replace("{out}", str(self.out)).replace("{here}", str(self.here)) for word in command]

    def _digest(self):
        """A name for the state of all files that the installation is made from."""
        folders = [self.here, *(self.here / source for source in self.sources)]
        digest = hashlib.sha256(str(self.steps).encode())
        for folder in folders:
            files = sorted(folder.rglob("*")) if folder.is_dir() else [folder]
            for path in files:
                if path.is_file() and "__pycache__" not in path.parts:
                    digest.update(path.name.encode())
                    digest.update(path.read_bytes())
        return digest.hexdigest()
