"""Addresses of histories: which are refused, and that no credentials are shown."""

import sys

import pytest
from fsspec.registry import _registry
from inputs import message

from pytest_infergate.core.domain.addresses import without_secrets
from pytest_infergate.errors import ConfigurationError, InfergateError, StorageError
from pytest_infergate.history.locations import open_store
from pytest_infergate.history.session_history import SessionHistory


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://me:p@ss/w0rd@db.example/x", "postgresql://db.example/x"),
        ("s3://key:secret@bucket/history", "s3://bucket/history"),
        ("postgresql://db/x?user=me&password=s3cret", "postgresql://db/x?user=me&password=***"),
        ("cannot connect to https://u:p@host/ now", "cannot connect to https://host/ now"),
        ("s3://bucket/history", "s3://bucket/history"),
        ("folder/history", "folder/history"),
    ],
)
def test_credentials_are_not_shown(address, shown):
    assert without_secrets(address) == shown


def test_addresses_that_are_refused(tmp_path, snapshot):
    pytest.importorskip("sqlalchemy")
    asked = ["s4://bucket/x", "http://host/x", "s3://", "postgresql://", "mysql://u:s3cret@host/db", "branch://",
             "branch://history", "sqlite+aiosqlite:///x", "://x", "", "sqlite://", "sqlite:///:memory:", "s3://key:s3cret@bucket/x"]  # fmt: skip
    text = "\n".join(f"{one} -> {message(open_store, one, tmp_path)}" for one in asked)
    assert text.replace(str(tmp_path), "<folder>") == snapshot
    assert "s3cret" not in "".join(line.partition(" -> ")[2] for line in text.splitlines())


@pytest.mark.parametrize(
    ("address", "module", "extra"),
    [
        ("s3://bucket/x", "s3fs", "s3"),
        ("gs://bucket/x", "gcsfs", "gcs"),
        ("az://box/x", "adlfs", "azure"),
        ("sqlite:///x.db", "sqlalchemy", "sql"),
        ("postgresql://u:s3cret@host/x", "psycopg", "sql"),
    ],
)
def test_a_missing_driver_names_its_extra(address, module, extra, tmp_path, monkeypatch):
    pytest.importorskip("sqlalchemy") if module == "psycopg" else None
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(_registry, address.partition(":")[0], raising=False)
    with pytest.raises(ConfigurationError, match=rf"pytest-infergate\[{extra}\]") as refused:
        open_store(address, tmp_path)
    assert "s3cret" not in str(refused.value)


def test_a_database_that_refuses_says_so(postgres_url, tmp_path):
    """A user without rights."""
    import psycopg

    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CREATE ROLE guest LOGIN PASSWORD 's3cret'")
    guest = postgres_url.replace("infergate:s3cret", "guest:s3cret")
    with pytest.raises(StorageError, match="refuses access: permission denied for schema public") as refused:
        open_store(guest, tmp_path).check_writable()
    assert "s3cret" not in str(refused.value)


def test_reading_creates_no_database(tmp_path):
    pytest.importorskip("sqlalchemy")
    assert open_store(f"sqlite:///{tmp_path}/x.db", tmp_path).names() == ()
    with open_store(f"sqlite:///{tmp_path}/x.db", tmp_path).driver() as connection:
        assert connection is None
    assert not list(tmp_path.iterdir())


def test_places_that_do_not_answer(tmp_path, s3_endpoint):
    """A bucket that is missing, a closed port, and a database that is a text file."""
    pytest.importorskip("psycopg")
    (tmp_path / "text.db").write_text("this is not a database " * 200)
    (tmp_path / "file").write_text("")
    for address in (
        "s3://absent/x",
        "postgresql://me:s3cret@127.0.0.1:9/x",
        f"sqlite:///{tmp_path}/text.db",
        f"sqlite:///{tmp_path}/absent/x.db",
        str(tmp_path / "file" / "history"),
    ):
        with pytest.raises(InfergateError, match="Hint: ") as refused:
            SessionHistory(open_store(address, tmp_path)).store.check_writable()
        assert "s3cret" not in str(refused.value)
        assert "Traceback" not in str(refused.value)
