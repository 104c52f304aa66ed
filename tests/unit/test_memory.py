"""How much memory a container may use, told by files as the kernel writes them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from talkinghead.memory import GIB, limits, ram_gib

UNLIMITED_V1 = 9223372036854771712


class Host:
    """A /proc and a /sys/fs/cgroup of a test's own."""

    def __init__(self, folder: Path) -> None:
        self.process = folder / "proc"
        self.process.mkdir()
        self._sys = folder / "sys"
        self.mounts = [f"31 23 0:28 / {self._sys} rw,relatime - tmpfs tmpfs rw,mode=755"]

    def mount(self, kind: str, options: str, root: str = "/", name: str = "") -> Path:
        point = self._sys / name
        point.mkdir(parents=True, exist_ok=True)
        self.mounts.append(f"32 31 0:29 {root} {point} rw shared:9 - {kind} {kind} rw{options}")
        return point

    def limits(self, *groups: str) -> list[int]:
        (self.process / "mountinfo").write_text("\n".join(self.mounts) + "\n")
        (self.process / "cgroup").write_text("\n".join(groups) + "\n")
        return sorted(limits(self.process))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def write(path: Path, limit: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{limit}\n")


def test_version_2_seen_from_inside_its_container(host: Host) -> None:
    write(host.mount("cgroup2", "") / "memory.max", 5 * GIB)
    assert host.limits("0::/") == [5 * GIB]


def test_version_2_without_a_limit(host: Host) -> None:
    write(host.mount("cgroup2", "") / "memory.max", "max")
    assert host.limits("0::/") == []


def test_version_2_nested_counts_every_group_around_it(host: Host) -> None:
    point = host.mount("cgroup2", "")
    write(point / "kubepods" / "memory.max", 64 * GIB)
    write(point / "kubepods" / "pod1" / "memory.max", 8 * GIB)
    write(point / "kubepods" / "pod1" / "worker" / "memory.max", "max")
    write(point / "kubepods" / "pod2" / "memory.max", GIB)
    assert host.limits("0::/kubepods/pod1/worker") == [8 * GIB, 64 * GIB]


def test_version_1_with_the_hosts_path_and_its_own_group_mounted(host: Host) -> None:
    point = host.mount("cgroup", ",memory", root="/docker/abc", name="memory")
    write(point / "memory.limit_in_bytes", 6 * GIB)
    write(point / "inner" / "memory.limit_in_bytes", 3 * GIB)
    assert host.limits("4:memory:/docker/abc", "0::/") == [6 * GIB]
    assert host.limits("4:memory:/docker/abc/inner", "0::/") == [3 * GIB, 6 * GIB]


def test_version_1_nested_beside_an_empty_version_2(host: Host) -> None:
    point = host.mount("cgroup", ",memory", name="memory")
    host.mount("cgroup", ",cpu,cpuacct", name="cpu")
    host.mount("cgroup2", "", name="unified")
    write(point / "memory.limit_in_bytes", UNLIMITED_V1)
    write(point / "jobs" / "a" / "memory.limit_in_bytes", 2 * GIB)
    groups = ("9:name=systemd:/", "4:memory,hugetlb:/jobs/a", "1:cpu,cpuacct:/jobs", "0::/")
    assert host.limits(*groups) == [2 * GIB, UNLIMITED_V1]


@pytest.mark.parametrize("path", ["/../elsewhere", "/of/another/namespace"])
def test_a_path_of_another_namespace_is_that_of_what_is_mounted(host: Host, path: str) -> None:
    write(host.mount("cgroup2", "", root="/own") / "memory.max", 4 * GIB)
    assert host.limits(f"0::{path}") == [4 * GIB]


def test_a_system_without_proc_has_no_limits(tmp_path: Path) -> None:
    assert list(limits(tmp_path)) == []


def test_the_container_counts_where_it_may_use_less_than_the_host_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("talkinghead.memory.limits", lambda process: iter([]))
    host_gib = ram_gib()
    assert 0 < host_gib < math.inf
    monkeypatch.setattr("talkinghead.memory.limits", lambda process: iter([UNLIMITED_V1, GIB]))
    assert ram_gib() == 1


def test_a_mount_point_with_a_blank_is_found_and_lines_that_are_none_do_no_harm(
    host: Host,
) -> None:
    """The kernel writes a blank as \\040."""
    point = host.mount("cgroup2", "", name="a b\\c")
    host.mounts[-1] = host.mounts[-1].replace("\\", "\\134").replace("a b", "a\\040b")
    host.mounts += ["", "-", "33 31 - cgroup2", "33 31 0:29 / /x rw -", "33 31 0:29 / /x rw - a"]
    write(point / "memory.max", 5 * GIB)
    assert host.limits("0::/", "", "nonsense", "4:memory") == [5 * GIB]
