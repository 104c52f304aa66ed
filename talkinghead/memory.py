"""How much memory there is."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

GIB = 2**30
OWN = Path("/proc/self")


def ram_gib() -> float:
    """The host's memory, or what the container may use of it."""
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([host, *limits(OWN)]) / GIB


def limits(process: Path) -> Iterator[int]:
    """The memory limits of the control groups around a process, bytes; `process` is its /proc.

    A group is bound by those around it, too, so all of them are read, as far as they can be seen
    from here: a container often sees its own group alone, as if it were the root.
    """
    for folder, name in _own_groups(process):
        with contextlib.suppress(OSError, ValueError):  # not there, or "max"
            yield int((folder / name).read_text(encoding="ascii"))


def _own_groups(process: Path) -> Iterator[tuple[Path, str]]:
    """The folder of each group that the process is in, and the name of the limit's file in it."""
    try:
        lines = (process / "cgroup").read_text(errors="surrogateescape").splitlines()
        mounts = (process / "mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:  # another system than Linux
        return
    # A line is id:controllers:path; version 2 has one line, without controllers.
    parts = [line.split(":", 2) for line in lines if line.count(":") >= 2]
    paths = {kind: path for _, kinds, path in parts for kind in kinds.split(",")}
    for mount in mounts:
        place, _, what = mount.partition(" - ")
        if len(place.split()) < 5 or len(what.split()) < 3:
            continue
        root, point = map(_unescaped, place.split()[3:5])
        kind, options = what.split()[0], what.split()[-1].split(",")
        if kind == "cgroup2":
            name, path = "memory.max", paths.get("")
        elif kind == "cgroup" and "memory" in options:
            name, path = "memory.limit_in_bytes", paths.get("memory")
        else:
            continue
        inner = _below(root, path or "/")
        for folder in (inner, *inner.parents):
            yield Path(point, folder), name


def _unescaped(path: str) -> str:
    """A path as it is: the kernel writes blanks, line ends and backslashes as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)


def _below(root: str, path: str) -> PurePosixPath:
    """Where in a mount, whose root is the group `root`, the group `path` is.

    A path that is not in it is that of another namespace: what is mounted is then our own group.
    """
    own = PurePosixPath(path)
    inside = own.is_relative_to(root) and ".." not in own.parts
    return own.relative_to(root) if inside else PurePosixPath()
