"""Places of histories for tests: a folder, a memory file system, S3 by moto, SQLite, PostgreSQL, branches of git."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

BINARIES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def postgres_absence() -> str:
    """Why PostgreSQL cannot be started here; empty if it can."""
    if BINARIES is None:
        return "PostgreSQL is not installed"
    if os.getuid() == 0 and _user() is None:
        return "PostgreSQL refuses to run as root, and there is no user postgres"
    return ""


def _user():
    with suppress(KeyError):
        return pwd.getpwnam("postgres")


@contextmanager
def postgres() -> Iterator[str]:
    """Start a server in a temporary folder, and yield its address; as root, it runs as the user postgres."""
    folder = Path(tempfile.mkdtemp(prefix="infergate-pg-", dir="/tmp"))
    identity = {}
    if os.getuid() == 0:
        user = _user()
        os.chown(folder, user.pw_uid, user.pw_gid)
        identity = {"user": user.pw_uid, "group": user.pw_gid}

    def run(name, *arguments):
        subprocess.run(
            [BINARIES / name, *arguments],
            check=True,
            capture_output=True,
            cwd=folder,
            timeout=120,
            **identity,
        )

    try:
        run("initdb", "-D", folder / "data", "-A", "trust", "-U", "infergate", "-N")
        port = free_port()
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        run("pg_ctl", "-D", folder / "data", "-w", "-l", folder / "log", "-o", options, "start")
        try:
            yield f"postgresql+psycopg://infergate:s3cret@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-D", folder / "data", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def repository(folder: Path) -> Path:
    """A repository of git with a commit."""
    folder.mkdir(parents=True, exist_ok=True)
    for arguments in (
        ["init", "-q", "-b", "main"],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "--allow-empty", "-m", "first"],
    ):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
    return folder
