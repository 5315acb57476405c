"""The machine that the figures were measured on."""

import os
import pathlib
import platform
import re


def describe(data_dir, client_core, broker_cores):
    """Words for people, by what they are about."""
    cpuinfo = read("/proc/cpuinfo")
    memory = int(first(r"MemTotal:\s+(\d+)", read("/proc/meminfo"), "0")) / 1e6
    return {
        "processor": first(r"model name\s*:\s*(.+)", cpuinfo, platform.machine()),
        "cores": f"{os.cpu_count()}, the client on {client_core}, the broker on "
        + ", ".join(map(str, sorted(broker_cores))),
        "memory": f"{memory:.1f} GB",
        "kernel": platform.release(),
        "file system": file_system(data_dir, read("/proc/mounts")),
        "virtual machine": "yes" if "hypervisor" in cpuinfo else "no",
    }


def file_system(folder, mounts):
    """Type and options of what a folder lies on."""
    folder = str(pathlib.Path(folder).resolve())
    best, found = "", "unknown"
    for line in mounts.splitlines():
        _, place, kind, options = line.split()[:4]
        inside = folder == place or folder.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= len(best):
            best, found = place, f"{kind} ({options})"
    return found


def first(pattern, text, otherwise):
    found = re.search(pattern, text)
    return found.group(1).strip() if found else otherwise


def read(path):
    try:
        return pathlib.Path(path).read_text()
    except OSError:
        return ""
