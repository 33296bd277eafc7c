"""Linux and macOS: what only Linux has stands in guarded places, with something in its stead elsewhere. No Windows."""

from __future__ import annotations

import ast
import fcntl
import resource
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import heatmap_pipeline
from heatmap_pipeline.api import descriptors
from heatmap_pipeline.store import spare

HOUSE = Path(heatmap_pipeline.__file__).parent
CHECKOUT = HOUSE.parent

_LINUX_ONLY = {
    *("F_SETLEASE", "F_GETLEASE", "F_SETSIG", "F_NOTIFY", "F_ADD_SEALS", "F_SETPIPE_SZ", "F_OFD_SETLK"),
    *("O_DIRECT", "O_NOATIME", "O_PATH", "O_TMPFILE", "RLIMIT_SIGPENDING", "RLIMIT_RTTIME", "prlimit"),
    *("sched_getaffinity", "sched_setaffinity", "posix_fadvise", "posix_fallocate", "copy_file_range", "splice"),
    *("memfd_create", "eventfd", "pidfd_open", "pidfd_send_signal", "getrandom", "setns", "unshare", "prctl"),
    *("epoll", "inotify_init", "signalfd", "sigwaitinfo", "sigtimedwait", "SO_PEERCRED", "accept4", "sendfile"),
    *("SOCK_CLOEXEC", "SOCK_NONBLOCK", "MSG_NOSIGNAL", "TCP_USER_TIMEOUT", "TCP_QUICKACK", "mallopt", "FICLONE"),
    *("getxattr", "setxattr", "listxattr", "removexattr", "fdatasync", "process_cpu_count"),
}
"""Names that macOS does not have, or that do something else there."""

_GUARDED = {
    "store/spare.py": {"F_SETLEASE", "F_SETSIG", "/proc/self/mountinfo"},
    "api/memory.py": {"mallopt"},
}
"""Where one is used all the same; the tests below take it away."""


def linux_only(file: Path) -> Iterator[str]:
    """Yield what a file says that only Linux has: attributes, imported names, names that `getattr` is given."""
    tree = ast.parse(file.read_text(), str(file))
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Attribute):
            names = [node.attr]
        elif isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = [node.value]
            if node.value.startswith(("/proc/", "/sys/", "/dev/shm")):  # noqa: S108  # a text that is looked for
                yield node.value
        yield from (name for name in names if name in _LINUX_ONLY)


def test_what_only_linux_has_stands_in_guarded_places() -> None:
    used = {str(file.relative_to(HOUSE)): set(linux_only(file)) for file in sorted(HOUSE.rglob("*.py"))}
    assert {file: names for file, names in used.items() if names} == _GUARDED


def test_without_leases_a_file_counts_as_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a publication copies all of it, which is always right."""
    for name in ("F_SETLEASE", "F_GETLEASE", "F_SETSIG"):
        monkeypatch.delattr(fcntl, name, raising=False)
    file = tmp_path / "file"
    file.touch()
    assert not spare.unread(file)


def test_without_mountinfo_no_file_system_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: Path, **_: object) -> str:
        raise FileNotFoundError(2, "No such file or directory", str(path))

    monkeypatch.setattr(Path, "read_text", missing)
    assert not spare._is_local(tmp_path)


def test_without_shared_blocks_a_file_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> int:
        raise OSError(25, "Inappropriate ioctl for device")

    monkeypatch.setattr(fcntl, "ioctl", refused)
    (tmp_path / "source").write_bytes(b"content")
    assert not spare.clone(tmp_path / "source", tmp_path / "target")


@pytest.mark.parametrize(("hard", "most"), [(resource.RLIM_INFINITY, 10240), (4096, 4096)])
def test_the_limit_of_open_files_is_raised_as_far_as_macos_lets(
    monkeypatch: pytest.MonkeyPatch, hard: int, most: int
) -> None:
    """It says "without limit" and refuses more than 10,240."""
    limits = [(256, hard)]

    def refuse(_: int, wanted: tuple[int, int]) -> None:
        if wanted[0] == resource.RLIM_INFINITY or wanted[0] > 10240:
            raise ValueError("current limit exceeds maximum limit")
        limits.append(wanted)

    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert descriptors.raise_limit() == most
    assert limits[-1] == (most, hard)


@pytest.mark.parametrize(
    "name", ["heatmap_pipeline.cli", "heatmap_pipeline.definitions", "heatmap_pipeline.model.book"]
)
def test_windows_is_told_in_one_line_that_it_is_not_supported(name: str) -> None:
    """Before anything is imported that fails there, as click itself does when it takes this for Windows."""
    code = f"import sys; sys.platform = 'win32'; import {name}"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=CHECKOUT)
    assert said.returncode == 1
    assert said.stdout == ""
    assert said.stderr == ("heatmap: Windows is not supported, only Linux and macOS; use WSL 2 or a Linux container\n")


def test_the_versions_of_python_are_the_same_everywhere() -> None:
    """Those that are declared, those that are tested, and those that a reader is told."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    opening = "Programming Language :: Python :: 3."
    said = [line.removeprefix(opening) for line in project["project"]["classifiers"] if line.startswith(opening)]
    minors = sorted(int(minor) for minor in said)
    lowest, highest = minors[0], minors[-1]
    assert minors == list(range(lowest, highest + 1))
    assert project["project"]["requires-python"] == f">=3.{lowest},<3.{highest + 1}"
    assert f'python: ["3.{lowest}", "3.{highest}"]' in (CHECKOUT / ".github" / "workflows" / "ci.yml").read_text()
    assert f"Python 3.{lowest} to 3.{highest}" in (CHECKOUT / "README.md").read_text()
    assert f"sys.version_info < (3, {lowest})" in (CHECKOUT / "setup.sh").read_text()
    assert lowest <= sys.version_info.minor <= highest
