"""Shared by the whole suite. Nothing here imports torch."""

import textwrap

import numpy.random  # noqa: F401
import pytest
import scipy.special  # noqa: F401

import pytest_infergate.devices.accelerator
import pytest_infergate.devices.cpu
import pytest_infergate.measure.lock

# Kept loaded: runs of pytest in this process forget what they load, and halves of the house would be loaded anew.
import pytest_infergate.paired.compare_run
import pytest_infergate.plugin.finish
import pytest_infergate.plugin.fixture
import pytest_infergate.report.html
import pytest_infergate.report.results
import pytest_infergate.storage.baseline_files
import pytest_infergate.testing  # noqa: F401

pytest_plugins = ["pytester"]

CONFTEST = """
    from pathlib import Path

    import pytest

    from pytest_infergate.testing import FakeDevice, FakeKind

    DEVICE = FakeDevice("fake")
    ACCELERATOR = FakeDevice("accel", asynchronous=True)


    def pytest_infergate_devices(config):
        return [
            FakeKind(DEVICE, reason="no second fake device found"),
            FakeKind(ACCELERATOR, kind="accel"),
            FakeKind(kind="ghost", reason="no ghost device found"),
        ]


    @pytest.fixture
    def device():
        return DEVICE


    @pytest.fixture
    def model(infer):
        '''Takes as many seconds as the file says, on the device of the case.'''
        device = ACCELERATOR if infer.device == "accel" else DEVICE

        def run(*args):
            device.spend(float(Path("seconds").read_text()))
            return "output"

        return run
"""


class Project:
    """A little repository with inference tests on fake devices, and ways to run pytest in it."""

    def __init__(self, pytester):
        self.pytester = pytester
        self.path = pytester.path
        pytester.makeconftest(textwrap.dedent(CONFTEST))
        self.takes(0.010)

    def takes(self, seconds):
        """Let a call of the model take so long."""
        (self.path / "seconds").write_text(str(seconds))

    def test(self, arguments="", body="infer(model)", name="test_model", file="test_it.py"):
        """Write a file with one marked test."""
        self.pytester.makepyfile(
            **{
                file.removesuffix(".py"): f"""
                import pytest

                @pytest.mark.inference({arguments})
                def {name}(infer, model, device):
                    {body}
                """
            }
        )

    def run(self, *arguments):
        """Run pytest in this process."""
        return self.pytester.runpytest_inprocess("-p", "pytest_infergate.plugin.hooks", *arguments)

    def measure(self, *arguments):
        """Run pytest on the fake device."""
        return self.run("--infer-devices=fake", *arguments)

    def record(self, *arguments):
        """Record a session, and insist that it went well."""
        result = self.measure("--infer-save", *arguments)
        assert result.ret == 0, result.stdout.str()
        return result


@pytest.fixture
def inner_runs(tmp_path, monkeypatch):
    """Runs of pytest inside tests: no other plugins, and a machine lock of their own."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    locks = tmp_path / "locks"
    locks.mkdir()
    monkeypatch.setenv("TMPDIR", str(locks))
    monkeypatch.setattr("tempfile.tempdir", str(locks))


@pytest.fixture
def project(pytester, inner_runs):
    return Project(pytester)
