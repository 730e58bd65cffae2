"""`--infer-history`: the session is in the history at the end of the run, or kept until it can be."""

import importlib
from contextlib import suppress

import pytest

from pytest_infergate.core.domain.history_values import HistorySession
from pytest_infergate.history.locations import open_store
from pytest_infergate.history.session_history import SessionHistory
from pytest_infergate.report.results_json import parse_results

SUITE = """
    import pytest

    @pytest.mark.inference(devices=["fake"], batch_sizes=[1, 8])
    def test_model(infer, model):
        infer(model)
"""


@pytest.fixture(scope="module", autouse=True)
def _drivers_loaded_once():
    """An inner run forgets what it loads, and these cannot be loaded twice."""
    for name in ("sqlalchemy.dialects.postgresql", "psycopg", "psycopg_binary", "s3fs"):
        with suppress(ImportError):
            importlib.import_module(name)


@pytest.fixture
def run(project):
    """Run a suite of two cases on a fake device."""
    project.pytester.makepyfile(SUITE)
    project.pytester.makepyprojecttoml('[project]\nname = "Demo Project"\nversion = "1"\n')
    return lambda *arguments: project.run("--infer-devices=fake", *arguments)


def sessions(place, folder) -> list[HistorySession]:
    return list(SessionHistory(open_store(place, folder)).sessions())


def test_each_run_is_a_session(run, pytester):
    for _ in range(2):
        result = run("--infer-history=history")
        result.stdout.fnmatch_lines(["added this session to the history in history"])
    first, second = sessions("history", pytester.path)
    assert first.project == "Demo Project"
    assert [entry.case.batch_size for entry in first.entries] == [1, 8]
    assert [entry.p50 for entry in first.entries] == [0.01, 0.01]
    assert second.created > first.created
    assert not list((pytester.path / ".infergate" / "pending").glob("*.json"))


def test_a_history_that_cannot_be_reached_loses_nothing_and_fails_nothing(run, pytester):
    (pytester.path / "history").write_text("a file in the place of the folder")
    for _ in range(2):
        result = run("--infer-history=history")
        result.assert_outcomes(passed=2)
        assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "not added to the history: *history*Hint: *",
            "kept 2 sessions in .infergate/pending; to add later: infergate history push --history history",
        ]
    )
    (pytester.path / "history").unlink()
    run("--infer-history=history").stdout.fnmatch_lines(["added 3 sessions to the history in history"])
    assert len(sessions("history", pytester.path)) == 3


def test_credentials_are_neither_printed_nor_written(run, pytester):
    pytest.importorskip("psycopg")
    secret = "s3cret"
    result = run(
        f"--infer-history=postgresql://me:{secret}@127.0.0.1:9/x",
        "--infer-report=r.html",
        "--infer-json=r.json",
    )
    result.stdout.fnmatch_lines(["not added to the history: postgresql://127.0.0.1:9/x cannot be reached: *"])
    assert secret not in result.stdout.str()
    for path in (*pytester.path.glob("r.*"), *(pytester.path / ".infergate" / "pending").iterdir()):
        assert secret not in path.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--infer-history=s4://bucket/x"], "*the scheme of a history must be one of *"),
        (["--infer-history=gs://bucket/x"], "*pip install 'pytest-infergate?gcs?'*"),
        (["--infer-history="], "*--infer-history must not be empty*"),
        (["--infer-history=h", "--infer-against-python=python"], "*cannot be combined with a paired run*"),
    ],
)
def test_what_is_refused_before_anything_is_measured(run, arguments, message):
    if any("gs:" in one for one in arguments):
        try:
            import gcsfs  # noqa: F401
        except ImportError:
            pass
        else:
            pytest.skip("gcsfs is installed")
    result = run(*arguments)
    assert result.ret == 4
    result.stderr.fnmatch_lines([message])


def test_an_ini_value_adds_every_session_that_measures(run, project, pytester):
    pytester.makeini("[pytest]\ninfer_history = kept/history\n")
    run()
    assert len(sessions("kept/history", pytester.path)) == 1
    project.run().assert_outcomes(passed=1)  # nothing is measured
    assert len(sessions("kept/history", pytester.path)) == 1


def test_the_gate_gives_the_same_verdicts_from_every_place(run, project, pytester, address):
    """By changing an address, on real servers: of equal code, and of code that takes five times as long."""
    decided = {}
    for kind in ("folder", "sqlite", "postgresql", "s3"):
        place = address(kind)
        project.takes(0.010)
        for _ in range(3):
            run(f"--infer-baseline={place}", "--infer-save")
        decided[kind] = []
        for seconds in (0.010, 0.050):
            project.takes(seconds)
            results = run(f"--infer-baseline={place}", "--infer-json=r.json")
            session = parse_results((pytester.path / "r.json").read_bytes(), "r.json")
            verdicts = [(one.verdict.value, one.comparisons[0]) for one in session.gate.verdicts]
            decided[kind].append((results.ret, verdicts))
    (equal, as_before), (slower, later) = decided["folder"]
    assert (equal, slower) == (0, 1)
    assert {verdict for verdict, _ in as_before} == {"equivalent"}
    assert {verdict for verdict, _ in later} == {"regressed"}
    assert [row.sessions for _, row in as_before] == [3, 3]
    assert all(one == decided["folder"] for one in decided.values())
