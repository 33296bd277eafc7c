"""The image of deploy/Dockerfile made and started without Docker: its steps in a clean root, of Debian's debootstrap.

It takes root, Debian's `debootstrap`, and `unshare`, `nsenter` and `ip`. What differs from Docker: Python is Debian's
(3.13 of trixie, as in the Dockerfile), not that of the image on the hub, and there are no limits of memory.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import string
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

DEBIAN = "trixie"
"""Debian whose Python is that of the Dockerfile."""
PROGRAMS = ("debootstrap", "unshare", "nsenter", "ip")
NOTHING_SET: Mapping[str, str] = {}
_SUBMOUNTS = "mount --bind {0} {0} && mount -t proc proc {0}/proc && mount --rbind /dev {0}/dev"
_UNPRIVILEGED = ("--clear-groups", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all")


@dataclass
class Stage:
    """A stage of the Dockerfile as far as it is done; the last one is the image.

    Attributes:
        root: its files.
        variables: what ENV says.
        arguments: what ARG says.
        folder: that commands run in.
        user: and group, by number.
        volumes: folders that are written to.
        entrypoint: words before every command.
        command: that is run where none is given.
        health: the command that says whether that one is well.
    """

    root: Path
    variables: dict[str, str] = field(default_factory=lambda: {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    arguments: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = "0:0"
    volumes: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)

    def words(self, command: Sequence[str], more: Mapping[str, str]) -> list[str]:
        """Return the words that run a command in the root, with the variables of the stage and some more."""
        variables = {"HOME": "/root", **self.variables, **more}
        named = [f"{name}={value}" for name, value in variables.items()]
        return ["chroot", str(self.root), "/usr/bin/env", "-i", "-C", self.folder, *named, *command]


def clean_root(folder: Path) -> Path:
    """Return a Debian with nothing but Python in it, below a folder; it is made where it is not there yet."""
    root = folder / DEBIAN
    if not (root / "usr/bin/python3").exists():
        shutil.rmtree(root, ignore_errors=True)
        made = root.with_suffix(".new")
        shutil.rmtree(made, ignore_errors=True)
        _run("debootstrap", "--variant=minbase", "--include=python3,python3-venv", DEBIAN, str(made))
        made.rename(root)
    return root


def build(dockerfile: Path, context: Path, clean: Path, folder: Path) -> Stage:
    """Do what a Dockerfile says, each stage in a copy of a clean root.

    Args:
        dockerfile: of which every instruction has to be known here.
        context: folder that is copied from, but for what its .dockerignore names.
        clean: root of every stage.
        folder: for the stages.
    """
    stages: dict[str, Stage] = {}
    stage = Stage(clean)
    for word, rest in instructions(dockerfile.read_text()):
        match word:
            case "FROM":
                image, _, name = rest.partition(" AS ")
                has = _run("chroot", str(clean), "python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])")
                assert image.startswith(f"python:{has.strip()}-"), f"{DEBIAN} has Python {has}, and not that of {image}"
                stage = stages[name] = Stage(folder / (name or "image"))
                _run("cp", "-a", str(clean), str(stage.root))
                shutil.copyfile("/etc/resolv.conf", stage.root / "etc/resolv.conf")
            case "WORKDIR":
                stage.folder = rest
                (stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
            case "ENV":
                stage.variables |= _assigned(rest, stage.variables)
            case "ARG":
                stage.arguments |= _assigned(rest, stage.variables)
            case "COPY":
                _copy(stage, rest, stages, context)
            case "RUN":
                _run_in(stage, rest)
            case "USER":
                stage.user = rest
            case "VOLUME":
                stage.volumes = json.loads(rest)
            case "ENTRYPOINT":
                stage.entrypoint = json.loads(rest)
            case "CMD":
                stage.command = json.loads(rest)
            case "HEALTHCHECK":
                stage.health = json.loads(rest.partition("CMD ")[2])
            case _:
                assert word == "EXPOSE", f"{dockerfile}: {word} is not known here"
    return stage


def instructions(text: str) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile: first word, and the others without the ends of lines between them."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    return [(line.partition(" ")[0], line.partition(" ")[2].strip()) for line in joined if line.strip()]


def _assigned(text: str, variables: Mapping[str, str]) -> dict[str, str]:
    pairs = (word.partition("=") for word in shlex.split(text))
    return {name: string.Template(value).safe_substitute(variables) for name, _, value in pairs}


def _copy(stage: Stage, rest: str, stages: Mapping[str, Stage], context: Path) -> None:
    *options, source, target = rest.split()
    place = stage.root / os.path.join(stage.folder, target).lstrip("/")  # noqa: PTH118 - one may be absolute
    if options:
        (name,) = (option.removeprefix("--from=") for option in options)
        place.mkdir(parents=True, exist_ok=True)
        _run("cp", "-a", f"{stages[name].root}{source}/.", str(place))
        return
    patterns = (context / ".dockerignore").read_text().split()

    def ignored(folder: str, names: list[str]) -> list[str]:
        within = Path(folder).relative_to(context)
        return [name for name in names if any(_is_meant(within / name, pattern) for pattern in patterns)]

    shutil.copytree(context / source, place, ignore=ignored, dirs_exist_ok=True)


def _is_meant(path: Path, pattern: str) -> bool:
    """Whether a pattern of .dockerignore, without slashes but for a leading **/, means a file or folder."""
    anywhere = pattern.removeprefix("**/")
    return fnmatch.fnmatch(path.name if anywhere != pattern else str(path), anywhere)


def _run_in(stage: Stage, command: str) -> None:
    """Run a command with the network, and with the settings of pip that this machine needs; none of them stays."""
    settings = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    mounts = [_SUBMOUNTS.format(stage.root)]
    for path in _of_pip(settings):
        inside = stage.root / str(path).lstrip("/")
        make = f"mkdir -p {inside}" if path.is_dir() else f"mkdir -p {inside.parent} && touch {inside}"
        mounts.append(f"{make} && mount --bind {path} {inside}")
    words = stage.words(["/bin/sh", "-c", command], {**stage.arguments, **settings})
    _run("unshare", "--mount", "--pid", "--fork", "sh", "-c", " && ".join([*mounts, f"exec {shlex.join(words)}"]))


def _of_pip(settings: Mapping[str, str]) -> list[Path]:
    """Return the files and folders of this machine that pip is told of, by its variables and its files."""
    pip = (sys.executable, "-m", "pip", "config")
    files = re.findall(r"^ *(/\S+), exists: True$", _run(*pip, "debug"), re.MULTILINE)
    said = " ".join([_run(*pip, "list"), *settings.values()])
    named = re.findall(r"(?<![\w/:])(?:file://)?(/[^\s'\"]+)", said)
    paths = (Path(name) for name in dict.fromkeys([*files, *named]))
    # The links of a local index lead beside it.
    return [path.parent if path.name == "simple" else path for path in paths if path.exists()]


class Container:
    """An image that is started as deploy/compose.yaml does: its root is read-only, its user has no capability.

    It has a network of its own, without any other machine.
    """

    def __init__(self, image: Stage, process: int) -> None:
        self.image = image
        self._enter = ["nsenter", "--target", str(process), "--mount", "--pid", "--net", "--ipc"]

    def words(self, *command: str, root: bool = False, settings: Mapping[str, str] = NOTHING_SET) -> list[str]:
        """Return the words that run a command in it, without the entrypoint."""
        user, group = self.image.user.split(":")
        drop = [] if root else ["setpriv", "--reuid", user, "--regid", group, *_UNPRIVILEGED]
        return [*self._enter, *self.image.words([*drop, *command], settings)]

    def run(self, *command: str, root: bool = False) -> subprocess.CompletedProcess[str]:
        """Run a command in it to its end."""
        words = self.words(*command, root=root)
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=600)

    @contextmanager
    def running(
        self, log: Path, *command: str, settings: Mapping[str, str] = NOTHING_SET
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run a command in it meanwhile, by the entrypoint."""
        with log.open("wb") as out:
            words = self.words(*self.image.entrypoint, *command, settings=settings)
            process = subprocess.Popen(words, stdout=out, stderr=out)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(timeout=60)


@contextmanager
def started(image: Stage, volumes: Path, names: Sequence[str] = ()) -> Iterator[Container]:
    """Give the image as a container, with new volumes in a folder, and names of hosts that are itself."""
    (image.root / "etc/hosts").write_text(f"127.0.0.1 localhost {' '.join(names)}\n")
    mounts = [_SUBMOUNTS.format(image.root), f"mount -t tmpfs -o mode=1777 tmpfs {image.root / 'tmp'}"]
    for volume in image.volumes:
        place, inside = volumes / volume.lstrip("/"), image.root / volume.lstrip("/")
        _run("cp", "-a", str(inside), str(place))  # a new volume begins with what is there, and is whose that is
        mounts.append(f"mount --bind {place} {inside}")
    script = [*mounts, f"mount -o remount,bind,ro {image.root}", "ip link set lo up", "echo up", "exec sleep infinity"]
    words = ["unshare", "--mount", "--pid", "--net", "--ipc", "--fork", "--kill-child", "sh", "-c", " && ".join(script)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            yield Container(image, int(children[0]))
        finally:
            process.kill()


def _run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=1200)
    assert done.returncode == 0, f"{shlex.join(words)[:300]}: {done.stdout[-2000:]} {done.stderr[-2000:]}"
    return done.stdout
