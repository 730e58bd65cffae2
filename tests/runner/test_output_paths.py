from pathlib import Path

import pytest

from pytest_infergate.config.settings import parse_settings
from pytest_infergate.errors import ConfigurationError
from pytest_infergate.runner.output_paths import check_output_paths


@pytest.fixture
def check(tmp_path):
    """Check the outputs of a command line, started in a folder below the rootdir."""
    (tmp_path / "sub").mkdir()
    (tmp_path / ".infergate" / "counters").mkdir(parents=True)
    (tmp_path / ".infergate" / "baselines").mkdir()

    def made(**command):
        command = {"devices": "cpu", **command}
        settings = parse_settings(
            command, {}, rootdir=tmp_path, invocation_dir=tmp_path / "sub", kinds=("cpu",)
        )
        check_output_paths(settings)

    return made


def test_files_in_existing_folders_are_fine(check):
    check()
    check(json="r.json", report="r.html", markdown="../r.md", paired_data="r.data", against="main")
    check(json=".json", baseline="s3://bucket/sub")


@pytest.mark.parametrize(
    "outputs",
    [
        {"json": "."},
        {"report": "no/such/r.html"},
        {"json": "x", "report": "x"},
        {"markdown": "x", "json": "../sub/x"},
        {"paired_data": "x", "json": "x", "against": "main"},
        {"json": "test_it.py"},
        {"json": "../.infergate/baselines/x.json"},
        {"report": "../.infergate/counters/x.html"},
        {"json": "../lib/x.json", "baseline": "lib"},
    ],
    ids=lambda outputs: " ".join(f"{name}={value}" for name, value in outputs.items()),
)
def test_what_cannot_be_written_or_would_overwrite_is_refused(check, tmp_path, snapshot, outputs):
    (tmp_path / "lib").mkdir()
    with pytest.raises(ConfigurationError) as caught:
        check(**outputs)
    assert str(caught.value).replace(str(tmp_path), "<root>") == snapshot


def test_a_link_to_an_output_is_that_output(check, tmp_path):
    (tmp_path / "sub" / "link").symlink_to(tmp_path / "sub" / "r.json")
    with pytest.raises(ConfigurationError, match="must differ from"):
        check(json="r.json", report="link")


def test_a_dash_is_the_standard_output(check, tmp_path):
    check(markdown="-", json="r.json")
    settings = parse_settings(
        {"markdown": "-"}, {}, rootdir=tmp_path, invocation_dir=tmp_path / "sub", kinds=("cpu",)
    )
    assert settings.markdown == Path("-")
