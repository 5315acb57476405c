"""Libraries that only plots and librdkafka need, in an environment of their own."""

import os
import pathlib
import subprocess
import sys

INSTALL_SECONDS = 600


class Missing(Exception):
    pass


def python(root):
    """The environment's interpreter. Installs it first, unless that was done for the same requirements."""
    wanted = (root / "tools" / "compare" / "requirements.txt").read_text()
    place = root / os.environ.get("CARGO_TARGET_DIR", "target") / "compare" / "venv"
    stamp = place / "installed"
    if not stamp.exists() or stamp.read_text() != wanted:
        run([sys.executable, "-m", "venv", place])
        run([place / "bin" / "pip", "install", "--quiet", "-r", root / "tools" / "compare" / "requirements.txt"])
        stamp.write_text(wanted)
    return pathlib.Path(place) / "bin" / "python"


def run(words):
    try:
        subprocess.run([str(word) for word in words], check=True, capture_output=True, timeout=INSTALL_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        raise Missing(f"it cannot be installed: {error}") from error
