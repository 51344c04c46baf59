"""A PostgreSQL server of the tests' own."""

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

_BINARIES = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]


class Server:
    """A PostgreSQL server on a socket in a directory of its own. Root cannot run one, so the user `postgres` does."""

    def __init__(self, binaries, directory):
        self._binaries, self.directory, self._data = binaries, directory, directory / "data"
        self._user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if self._user:
            shutil.chown(directory, "postgres")
        self._run("initdb", "-D", self._data, "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-sync")

    @property
    def url(self):
        return f"postgresql+psycopg://tester:secret-word@/postgres?host={self.directory}"

    def start(self):
        options = f"-k {self.directory} -c listen_addresses="
        self._run("pg_ctl", "start", "-w", "-D", self._data, "-l", self.directory / "log", "-o", options)

    def stop(self):
        self._run("pg_ctl", "stop", "-m", "immediate", "-D", self._data)

    def _run(self, name, *arguments):
        command = [*self._user, str(self._binaries / name), *map(str, arguments)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=self.directory)


@pytest.fixture(scope="session")
def postgres():
    """A server that runs; skips where PostgreSQL's binaries or its driver are missing."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install '.[stores]'")
    if not _BINARIES:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    if os.geteuid() == 0 and "postgres" not in {entry.pw_name for entry in pwd.getpwall()}:
        pytest.skip("root cannot run PostgreSQL, and there is no user postgres")
    directory = Path(tempfile.mkdtemp(prefix="r2p-postgres-"))
    server = Server(_BINARIES[0], directory)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(directory, ignore_errors=True)
