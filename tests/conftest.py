"""Shared by the whole suite. Nothing here imports torch."""

import functools
import gc
import textwrap

import pytest
from inner_results import verdicts

from pytest_infergate.measure import output_checks

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

    def several(self, markers, body="infer(model)"):
        """Write a file of marked tests: arguments of the marker by name of the test."""
        tests = "".join(
            f"\n\n@pytest.mark.inference({arguments})\ndef test_{name}(infer, model, device):\n    {body}\n"
            for name, arguments in markers.items()
        )
        (self.path / "test_it.py").write_text(f"import pytest\n{tests}")

    def change(self, line):
        """Add a line to the conftest, which has the devices."""
        conftest = self.path / "conftest.py"
        conftest.write_text(f"{conftest.read_text()}\n{line}\n")

    def run(self, *arguments):
        """Run pytest in this process."""
        return self.pytester.runpytest_inprocess("-p", "pytest_infergate.plugin.hooks", *arguments)

    def measure(self, *arguments):
        """Run pytest on the fake device."""
        return self.run("--infer-devices=fake", *arguments)

    def verdicts(self, *arguments):
        """Measure, and give what was decided of each case of the fake device, by the name of its test."""
        self.measure("--infer-json=verdicts.json", *arguments)
        return self.decided("verdicts.json")

    def decided(self, file):
        """What a file of results says that was decided."""
        return verdicts(self.path / file)

    def failing(self, *arguments):
        """Measure, and name the tests whose cases failed."""
        return [name for name, decided in self.verdicts(*arguments).items() if decided.failed]

    def record(self, *arguments):
        """Record a session, and insist that it went well."""
        result = self.measure("--infer-save", *arguments)
        assert result.ret == 0, result.stdout.str()
        return result


@pytest.fixture(scope="session")
def loaded_once():
    """Load what inner runs use: a run in this process forgets what it loads, and would load it anew.

    What is alive by now is set aside from garbage collection, which each measured case runs once.
    """
    import numpy.random
    import scipy.special

    from pytest_infergate import testing
    from pytest_infergate.advising import advise
    from pytest_infergate.config import case_matrix
    from pytest_infergate.devices import accelerator, cpu
    from pytest_infergate.measure import lock, seed
    from pytest_infergate.paired import compare_run, concurrency
    from pytest_infergate.plugin import measuring, paired_replay
    from pytest_infergate.report import github, html, junit, results_json
    from pytest_infergate.storage import baseline_files, paired_data

    kept = (
        *(numpy.random, scipy.special),
        *(advise, compare_run, concurrency, measuring, paired_replay, case_matrix, testing),
        *(accelerator, cpu, lock, seed, github, html, junit, results_json, baseline_files, paired_data),
    )
    gc.collect()
    gc.freeze()
    yield kept
    gc.unfreeze()


@pytest.fixture(scope="session")
def torch_kept(loaded_once):
    """Torch stays loaded: a run in this process would load it a second time, which ends the process."""
    pytest.importorskip("torch")
    import torch._dynamo
    import torch._inductor.config

    return torch


@pytest.fixture(scope="session")
def software(loaded_once):
    """The environment of a run, looked up once: it reads the metadata of packages, as long as a case takes."""
    from pytest_infergate.runner import run

    return functools.cache(run.software_environment)


@pytest.fixture
def inner_runs(tmp_path, monkeypatch, software):
    """Runs of pytest inside tests: no other plugins, and a machine lock of their own."""
    from pytest_infergate.runner import run

    monkeypatch.setattr(run, "software_environment", software)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    locks = tmp_path / "locks"
    locks.mkdir()
    monkeypatch.setenv("TMPDIR", str(locks))
    monkeypatch.setattr("tempfile.tempdir", str(locks))


@pytest.fixture
def project(pytester, inner_runs):
    return Project(pytester)


@pytest.fixture(autouse=True)
def first_case_of_a_process(monkeypatch):
    """Each test is a process of its own to what remembers the threads of the first case."""
    monkeypatch.setattr(output_checks, "_FIRST_THREADS", {})
