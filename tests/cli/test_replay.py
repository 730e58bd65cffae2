import json
import re

import msgspec
import pytest
from refusals import refused

from pytest_infergate.cli import main
from pytest_infergate.cli.replay import decide_again
from pytest_infergate.core.domain.launch_times import Launch
from pytest_infergate.core.domain.outcome import Against, Verdict
from pytest_infergate.core.domain.values import Case
from pytest_infergate.core.gate.launch_location import Spread
from pytest_infergate.core.gate.paired_times import PairedTerms
from pytest_infergate.report import text
from pytest_infergate.report.wording import explain
from pytest_infergate.storage.atomic import atomic_write
from pytest_infergate.storage.paired_data import (
    PAIRED_DATA_VERSION,
    PairedCaseData,
    PairedData,
    encode_paired_data,
    read_paired_data,
)


def launches(effect, count, base=0.010):
    """Launches evenly spread about an effect."""
    found = []
    for index in range(count):
        ratio = (1 + effect) * (1 + 0.002 * (-1) ** index * (1 + index % 3) / 3)
        found.append(Launch(base=(base,) * 10, candidate=(base * ratio,) * 10))
    return tuple(found)


def of_case(name="test_a", screen=(), confirm=(), nodeid=None, **plan):
    case = Case(test=f"tests/test_a.py::{name}", device="cpu")
    nodeid = case.name if nodeid is None else nodeid
    return PairedCaseData(case=case, nodeid=nodeid, plan=PairedTerms(**plan), screen=screen, confirm=confirm)


EQUIVALENT = of_case("test_same", launches(0, 5))
REGRESSED = of_case("test_slow", launches(0.05, 5), launches(0.05, 5))
IMPROVED = of_case("test_fast", launches(-0.05, 5))
OPEN = of_case("test_open", launches(0.05, 5))


@pytest.fixture
def replay(capsys, tmp_path):
    path = tmp_path / "turns.json"

    def run(*arguments):
        with pytest.raises(SystemExit) as done:
            main.main(["replay", *map(str, arguments)])
        out, err = capsys.readouterr()
        return done.value.code, out, err

    def replay(*cases, raw=None, **fields):
        if raw is None:
            against = Against(revision="main", commit="1234567" + "0" * 33, launches=7, seconds=42.0)
            raw = encode_paired_data(PairedData(**{"against": against, "cases": cases, **fields}))
        atomic_write(path, raw)
        return run(path)

    replay.path, replay.run = path, run
    return replay


def test_an_equivalent_case_passes(replay):
    code, out, err = replay(EQUIVALENT)
    assert (code, err) == (0, "")
    assert "main (merge base 1234567)" in out
    assert re.search(r"tests/test_a.py::test_same\[cpu\] .* equivalent\n", out)


def test_a_regressed_case_fails(replay):
    code, out, err = replay(EQUIVALENT, REGRESSED)
    assert (code, err) == (1, "")
    assert re.search(r"test_slow\[cpu\] +10.0 ms +10.5 ms +\+5.0.?%.* 5 +regressed\n", out)


def test_another_runtime_is_named_in_place_of_the_base():
    compiled = msgspec.structs.replace(
        REGRESSED, case=msgspec.structs.replace(REGRESSED.case, runtime="compile")
    )
    data = PairedData(against=Against(runtime="eager", launches=10), cases=(compiled,))
    [verdict] = decide_again(data).gate.verdicts
    explained = str(msgspec.to_builtins(explain(verdict)))
    assert "10.5 ms, 10.0 ms in eager: +5.0 %" in explained
    assert "runtimes=[...]" in explained
    assert "base" not in explained
    assert "Infergate-Accept" not in explained


def test_the_table_is_that_of_the_run(replay):
    _, out, _ = replay(EQUIVALENT, REGRESSED, IMPROVED, OPEN)
    assert out == text.terminal_summary(decide_again(read_paired_data(replay.path))) + "\n"
    header = next(line for line in out.splitlines() if line.startswith("case "))
    assert re.split(r" {2,}", header) == [
        "case",
        "was",
        "now",
        "change",
        "99 % interval",
        "launches",
        "verdict",
    ]
    words = {
        name: re.search(rf"test_{name}\[cpu\].* (\S+)\n", out)[1] for name in ("same", "slow", "fast", "open")
    }
    assert words == {"same": "equivalent", "slow": "regressed", "fast": "improved", "open": "inconclusive"}


def test_other_cases_count_as_they_did_in_the_run(replay):
    unsure = launches(0.004, 1) + launches(-0.006, 1) + launches(0.008, 1)
    assert " inconclusive" in replay(of_case("test_a", unsure))[1]
    settled = msgspec.structs.replace(
        of_case("test_a", unsure), others={3: Spread(squares=40 * 0.008**2, degrees=40)}
    )
    assert " equivalent" in replay(settled)[1]


def test_launches_that_ran_out_decide_nothing(replay):
    for case in (OPEN, of_case()):
        code, out, _ = replay(case)
        assert code == 2
        assert out.splitlines()[-1].startswith("nothing was decided: 1 case")
    assert replay(OPEN, EQUIVALENT)[0] == 0


def test_a_file_without_cases(replay):
    code, out, _ = replay()
    assert code == 0
    assert "test_a.py" not in out


def test_the_plan_of_the_case_holds(replay):
    assert replay(of_case("a", REGRESSED.screen, REGRESSED.confirm, tolerance=0.1))[0] == 0


def test_the_level_is_shared_as_in_the_run(replay):
    def spread(width):
        return tuple(
            Launch(base=(0.01,) * 10, candidate=(0.0105 * (1 + width * offset),) * 10)
            for offset in (-1, 1, -0.5, 0.5, 0)
        )

    unsteady = of_case("test_a", launches(0.05, 5), spread(0.015))
    assert replay(unsteady, confirming=1)[0] == 1
    assert replay(unsteady, confirming=20)[0] == 2


def test_a_moved_control_makes_the_run_invalid(replay):
    code, out, _ = replay(EQUIVALENT, REGRESSED, control=launches(0.03, 5))
    assert code == 1
    assert re.findall(r"test_(same|slow)\[cpu\].* invalid\n", out) == ["same", "slow"]
    assert not re.search(r" (regressed|equivalent)\n", out)
    assert "+3" in out  # by how much


def test_a_control_that_stayed(replay):
    assert replay(EQUIVALENT, control=launches(0.001, 5))[0] == 0
    assert replay(EQUIVALENT, control=launches(0.5, 1))[0] == 0


HOSTILE = ("\x1b[31mred\x1b[0m\x07", "two\nlines\r\t", "\u202eesrever", "nul\0", "line\u2028separator \x85")


def test_names_are_printed_safely(replay):
    for name in HOSTILE:
        case = of_case("test_a", REGRESSED.screen, REGRESSED.confirm, nodeid=f"tests/test_a.py::{name}")
        against = Against(revision=name, commit="0" * 40, accepted={f"{name}-other": name})
        code, out, _ = replay(case, against=against)
        assert code == 1
        assert all(line.isprintable() for line in out.split("\n"))
        assert len(re.findall(r" 5  regressed$", out, re.MULTILINE)) == 1, name


def test_a_long_name_is_cut(replay):
    _, out, _ = replay(of_case("test_a", EQUIVALENT.screen, nodeid="tests/" + "x" * 5000 + "::test_a"))
    assert max(map(len, out.splitlines())) <= 110


# Files that are none


def test_what_is_not_a_file_of_turns_is_refused(replay, tmp_path, snapshot):
    newer = f'{{"schema_version": {PAIRED_DATA_VERSION + 1}}}'
    contents = ("", "{}", "nonsense", newer, "[" * 100_000)
    paths = [tmp_path / f"{index}.json" for index in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_text(content)
    asked = {content[:30] or "nothing": (path,) for path, content in zip(paths, contents, strict=True)}
    asked |= {"absent": (tmp_path / "nowhere.json",), "a folder": (tmp_path,), "no argument": ()}
    assert refused(replay.run, asked, folder=tmp_path) == snapshot


def changed(**fields):
    """A file that is well-formed, with figures that no run wrote."""
    content = json.loads(encode_paired_data(PairedData(against=Against(), cases=(REGRESSED,))))
    content["cases"][0].update(fields)
    return json.dumps(content)


def test_figures_that_no_run_wrote_are_no_crash(replay):
    for fields in (
        {"plan": {"tolerance": -1}},
        {"plan": {"tolerance": -7.5}},
        {"plan": {"floor": -1}},
        {"screen": [{"base": [1e-320], "candidate": [1e8]}] * 5},
        {"screen": [{"base": [1e-300], "candidate": [1.0]}, {"base": [1.0], "candidate": [1e-300]}], "confirm": []},
        {"screen": [{"base": [1e-30], "candidate": [1.0]}, {"base": [1.0], "candidate": [1e-30]}], "confirm": []},
    ):  # fmt: skip
        code, _, err = replay(raw=changed(**fields))
        assert code in (0, 1, 2, 4), fields
        assert (code == 4) == err.startswith("Error: "), fields


def test_any_number_of_cases_in_confirmation(replay):
    for confirming in (-1, 0, 10**6, 10**18):
        assert replay(REGRESSED, confirming=confirming)[0] in (0, 1, 2), confirming


def test_replay_is_a_session_against_the_base(tmp_path):
    against = Against(revision="main", commit="1" * 40)
    session = decide_again(PairedData(against=against, cases=(REGRESSED, EQUIVALENT)))
    assert session.against == against
    assert [verdict.verdict for verdict in session.gate.verdicts] == [Verdict.REGRESSED, Verdict.EQUIVALENT]
    assert session.gate.new == session.gate.missing == ()
    assert session.gate.verdicts[0].comparisons[0].evidence == "paired"
