"""A Postgres server of the tests' own, by Debian's programs: in a temporary folder, on a free port of 127.0.0.1."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

USER, PASSWORD = "heatmap", "it's-a/secret@%"
"""Letters that an address has to escape."""


@dataclass(frozen=True)
class Postgres:
    """A server; each test has a database of its own in it."""

    programs: Path
    folder: Path
    port: int
    runner: dict[str, Any]

    def start(self) -> None:
        self._run("pg_ctl", "start", "-w", "-s", "-t", "60", "-D", "data", "-l", "log")

    def restart(self) -> None:
        """Cut every connection, as a crash of the machine does, and be there again."""
        self._run("pg_ctl", "restart", "-w", "-s", "-t", "60", "-m", "immediate", "-D", "data", "-l", "log")

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "-w", "-s", "-t", "60", "-m", "immediate", "-D", "data")

    def database(self, name: str) -> dict[str, str]:
        """Make a database, and return the variables that deploy/dagster.yaml reads to find it."""
        self.ask("postgres", f"CREATE DATABASE {name}")
        where = {"HOST": "127.0.0.1", "PORT": str(self.port), "DB": name, "USER": USER, "PASSWORD": PASSWORD}
        return {f"POSTGRES_{key}": value for key, value in where.items()}

    def ask(self, database: str, statement: str) -> list[str]:
        """Return the lines that psql answers, columns by |."""
        where = ("-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-d", database)
        words = [str(self.programs / "psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", *where, "-c", statement]
        environment = {**os.environ, "PGPASSWORD": PASSWORD}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout.splitlines()

    def connected(self, database: str) -> Any:
        """Return a connection of psycopg2, to hold a transaction open; to be closed."""
        psycopg2 = pytest.importorskip("psycopg2")
        return psycopg2.connect(host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, dbname=database)

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self.programs / program), *arguments],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
            **self.runner,
        )
        log = self.folder / "log"
        assert done.returncode == 0, f"{program}: {done.stderr} {log.read_text() if log.exists() else ''}"


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Run a server; skip where this machine has no Postgres, or nobody who may run it."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    on_path = shutil.which("initdb")
    if not found and on_path is None:
        pytest.skip("no Postgres here: neither /usr/lib/postgresql/*/bin/initdb nor initdb on the PATH")
    programs = found[-1].parent if found else Path(str(on_path)).resolve().parent
    runner: dict[str, Any] = {}
    folder = Path(tempfile.mkdtemp(prefix="heatmap-postgres-"))
    try:
        if os.getuid() == 0:  # whom Postgres refuses
            try:
                nobody = next(pwd.getpwnam(name) for name in ("postgres", "nobody"))
            except KeyError:
                pytest.skip("Postgres does not run as root, and there is no user postgres or nobody")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            runner = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        server = Postgres(programs, folder, port, runner)
        (folder / "password").write_text(PASSWORD)
        os.chmod(folder / "password", 0o644)  # noqa: PTH101
        # Without waiting for the disk: what is tested is a restart of the server, not a power cut.
        server._run(
            "initdb",
            "-D",
            "data",
            "-U",
            USER,
            "-A",
            "scram-sha-256",
            "--pwfile",
            "password",
            "-N",
            "--locale",
            "C",
            "-E",
            "UTF8",
        )
        with (folder / "data" / "postgresql.conf").open("a") as settings:
            settings.write(
                f"port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\n"
                "fsync = off\nfull_page_writes = off\nshared_buffers = 16MB\nmax_connections = 100\n"
            )
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
