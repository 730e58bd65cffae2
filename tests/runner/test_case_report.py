import msgspec
from core_values import case, result

from pytest_infergate.core.domain.outcome import CaseVerdict, Judged, Outcome, Verdict
from pytest_infergate.core.domain.values import Note
from pytest_infergate.runner.case_report import CollectedCases, ReportedCases, case_report, portable_text

HOSTILE = "\ud800\x1b[31m##[error]\n::error::x"


def test_whatever_a_case_contains_reaches_the_controller():
    note = Note(code="x", text=HOSTILE, hint=HOSTILE)
    of = case(params=HOSTILE)
    found = msgspec.structs.replace(result(Outcome.FAILED, of=of), reason=note)
    verdict = CaseVerdict(
        case=of, nodeid=found.nodeid, verdict=Verdict.NOT_MEASURED, failed=True, notes=(note,)
    )
    sent = case_report(Judged(result=found, verdict=verdict), ("other.py", 4, "test"))
    assert all(str(value).isascii() for value in sent.values())
    reported = ReportedCases()
    reported.add(sent)
    assert (sent["outcome"], reported.results, reported.verdicts) == ("failed", (found,), (verdict,))


def test_whatever_is_collected_reaches_the_controller():
    collected = CollectedCases(cases=(case(HOSTILE),), modules=(HOSTILE,), selected=1)
    reported = ReportedCases()
    reported.add_collection(portable_text(collected))
    assert reported.collected == collected
