"""Places that every test of a contract runs on. Servers are started once."""

import subprocess
import uuid

import pytest
from history_places import free_port, postgres, postgres_absence, repository

from pytest_infergate.history.locations import open_store


@pytest.fixture(scope="session")
def postgres_url():
    pytest.importorskip("sqlalchemy")
    pytest.importorskip("psycopg")
    if reason := postgres_absence():
        pytest.skip(reason)
    with postgres() as url:
        yield url


@pytest.fixture(scope="session")
def s3_endpoint():
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server")
    started = server.ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
    started.start()
    patch = pytest.MonkeyPatch()
    patch.setenv("AWS_ACCESS_KEY_ID", "testing")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{started._port}")
    import boto3

    boto3.client("s3").create_bucket(Bucket="bucket")
    yield
    patch.undo()
    started.stop()


@pytest.fixture
def address(request, tmp_path):
    """Return a function that makes an address of a kind of place, which is empty."""

    def address(kind):  # noqa: PLR0911
        unique = uuid.uuid4().hex
        if kind == "s3":
            request.getfixturevalue("s3_endpoint")
            return f"s3://bucket/{unique}"
        if kind == "memory":
            return f"memory://{unique}"
        if kind == "sqlite":
            pytest.importorskip("sqlalchemy")
            return f"sqlite:///{tmp_path}/{unique}.db"
        if kind == "postgresql":
            url = request.getfixturevalue("postgres_url")
            import psycopg

            with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE d{unique}")
            return url.replace("/postgres", f"/d{unique}")
        if kind.startswith("branch"):
            repository(tmp_path)
            if kind == "branch":
                return "branch://history"
            subprocess.run(["git", "init", "-q", "--bare", str(tmp_path / "remote.git")], check=True)
            subprocess.run(
                ["git", "remote", "add", "origin", str(tmp_path / "remote.git")], cwd=tmp_path, check=True
            )
            return "branch://history?remote=origin"
        return str(tmp_path / unique)

    return address


KINDS = ["folder", "memory", "s3", "sqlite", "postgresql", "branch", "branch-remote"]


@pytest.fixture(params=KINDS)
def place(request, address):
    """The address of an empty place of each kind."""
    return address(request.param)


@pytest.fixture
def opened(place, tmp_path):
    """Open the place again, as another process would."""
    return lambda: open_store(place, tmp_path)
