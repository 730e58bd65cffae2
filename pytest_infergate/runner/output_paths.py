"""Output paths of a run, checked before anything is measured."""

from __future__ import annotations

from pathlib import Path

from pytest_infergate.config.settings import Settings
from pytest_infergate.errors import ConfigurationError


def check_output_paths(settings: Settings) -> None:
    """Check that each output can be written without overwriting another output, a recorded file or a test.

    Raises `ConfigurationError` with the option, the path and a hint.
    """
    outputs = {
        "--infer-report": settings.report,
        "--infer-json": settings.json,
        "--infer-markdown": settings.markdown,
        "--infer-paired-data": settings.paired_data,
    }
    recorded = [Path(settings.counters).resolve()]
    if "://" not in settings.baseline:
        recorded.append(Path(settings.baseline).resolve())
    options: dict[Path, str] = {}
    for option, path in outputs.items():
        if path is None:
            continue
        if path.is_dir():
            raise ConfigurationError(f"{option} must be a file, got the folder {path}. Hint: add a file name")
        if not path.parent.is_dir():
            raise ConfigurationError(
                f"{option} must be in an existing folder, got {path}. Hint: create {path.parent}"
            )
        place = path.resolve()
        if any(folder in place.parents for folder in recorded):
            raise ConfigurationError(
                f"{option} must be outside of the folders of baselines and counters, got {path}. "
                "Hint: choose another folder"
            )
        # A shifted argument, as in --infer-json tests/test_it.py, would overwrite the test.
        if place.suffix == ".py":
            raise ConfigurationError(
                f"{option} must not be a Python file, got {path}. Hint: choose another name"
            )
        if place in options:
            raise ConfigurationError(
                f"{option} must differ from {options[place]}, got {path} for both. Hint: choose another name"
            )
        options[place] = option
