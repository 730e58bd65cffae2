"""A paired run in every report: the terminal, the failure section, the HTML page, JSON and JUnit."""

from __future__ import annotations

import itertools
import json
import re

import jsonschema
import msgspec
import pytest
from test_html import Page, table, tables, words

from pytest_infergate.core.domain.outcome import Against, Comparison, Outcome, Verdict
from pytest_infergate.report import html, junit, results, rows, text, wording

COMMIT = "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d"
TRAILER = (
    "if the change is meant, end the message of a commit with: Infergate-Accept: test_embedder[cpu] REASON"
)
MAIN = Against(revision="main", commit=COMMIT, launches=7, seconds=181.0)
HEADERS = ["Case", "Was", "Now", "Change", "99 % interval", "Launches", "Verdict"]


def time(sample, verdict=Verdict.EQUIVALENT, effect=0.003, **fields):
    """A time that was compared call by call."""
    known = {
        "evidence": "paired",
        "low": effect - 0.01,
        "high": effect + 0.01,
        "tolerance": 0.02,
        "smallest_detectable": 0.014,
        "sessions": 7,
    }
    return sample.time(verdict, effect, **{**known, **fields})


def uncompared(sample, verdict=Verdict.NO_BASELINE, reason="the base has no test of this name", **fields):
    """A time without another side."""
    note = sample.note(reason, code="no-base")
    return Comparison(metric="p50", verdict=verdict, evidence="paired", tolerance=0.02, note=note, **fields)


def differs(sample, words="the output: shape (1, 4) on the base, (1, 5) now", hint="say so"):
    return Comparison(
        metric="outputs", verdict=Verdict.MISMATCH, evidence="parity", note=sample.note(words, hint)
    )


def judged(sample, name="test_embedder", verdict=Verdict.EQUIVALENT, comparisons=None, **fields):
    """A result and its verdict in a paired run."""
    comparisons = (time(sample, verdict),) if comparisons is None else comparisons
    case = sample.case(f"tests/test_model.py::{name}")
    return sample.pair(case, verdict, comparisons=comparisons, **fields)


def paired(sample, pairs, against=MAIN, **gate):
    return msgspec.structs.replace(sample.session(pairs, **gate), against=against)


def every_kind(sample):
    """A run with a case of each kind that a paired run knows."""
    hint = "if that is meant, say so with @pytest.mark.inference(parity=False), or a tolerance there"
    moved = sample.note(
        "identical code differed by +1.8 % between the two sides", "measure on another, or later"
    )
    accepted = sample.note("accepted: the new tokenizer is worth it", code="accepted")
    spent = sample.note("the effect is so near the tolerance that about 40 launches would settle it", "wait")
    slower = time(sample, Verdict.REGRESSED, 0.087)
    pairs = [
        judged(sample, "test_slower", Verdict.REGRESSED, (slower,), failed=True),
        judged(
            sample, "test_other", Verdict.MISMATCH, (time(sample), differs(sample, hint=hint)), failed=True
        ),
        judged(sample, "test_taken", Verdict.REGRESSED, (slower,), notes=(accepted,)),
        judged(sample, "test_moved", Verdict.INVALID, (time(sample, Verdict.INVALID, 0.02, note=moved),)),
        judged(
            sample,
            "test_near",
            Verdict.INCONCLUSIVE,
            (time(sample, Verdict.INCONCLUSIVE, 0.019, note=spent),),
        ),
        judged(sample, "test_new", Verdict.NO_BASELINE, (uncompared(sample, candidate=0.04),)),
        judged(sample, "test_faster", Verdict.IMPROVED, (time(sample, Verdict.IMPROVED, -0.12),)),
        judged(sample, "test_same"),
        judged(
            sample,
            "test_skipped",
            Verdict.NOT_MEASURED,
            (),
            result={
                "outcome": Outcome.SKIPPED,
                "hardware": None,
                "reason": sample.note("the test was skipped"),
            },
        ),
    ]
    against = msgspec.structs.replace(MAIN, accepted={"test_taken*": "the new tokenizer is worth it"})
    return paired(
        sample,
        pairs,
        against,
        passed=False,
        headline="FAILED: 7 of 9 cases decided, 1 regressed, 1 mismatch",
        reasons=("1 case regressed", "1 case mismatched"),
    )


def hostile(sample):
    """A paired run in which every text that a user or a system may set is hostile."""
    pairs = []
    for name in sample.hostile:
        note = sample.note(name, name)
        comparisons = (
            time(sample, Verdict.REGRESSED, 0.5, note=note),
            differs(sample, name, name),
            uncompared(sample, Verdict.INVALID, name),
        )
        pairs.append(judged(sample, name, Verdict.REGRESSED, comparisons, failed=True, notes=(note,)))
    python, revision = "".join(sample.hostile[:2]), "".join(sample.hostile)
    return paired(
        sample,
        pairs,
        Against(
            revision=revision,
            commit=sample.hostile[5],
            python=python,
            launches=2,
            seconds=3.0,
            accepted={name: name for name in sample.hostile},
        ),
    )


def pair_of(pair):
    return rows.row(rows.Judged(*pair)).pair


# Rows


def test_a_row_says_what_was_and_what_is(sample):
    assert pair_of(judged(sample, comparisons=(time(sample, Verdict.REGRESSED, 0.087),))) == rows.Pair(
        was="40.0 ms", now="43.5 ms", change="+8.7 %", interval="+7.7 % to +9.7 %", launches="7"
    )


def test_a_row_without_another_side_has_the_candidate_alone(sample):
    assert pair_of(judged(sample, comparisons=(uncompared(sample, candidate=0.04),))) == rows.Pair(
        now="40.0 ms"
    )
    assert pair_of(judged(sample, comparisons=(uncompared(sample),))) == rows.Pair()


@pytest.mark.parametrize("bound", ["low", "high"])
def test_an_interval_needs_both_ends(sample, bound):
    pair = pair_of(judged(sample, comparisons=(time(sample, **{bound: None}),)))
    assert (pair.change, pair.interval) == ("+0.3 %", "-")


@pytest.mark.parametrize("name", ["stored", "counters", "outputs", "unjudged"])
def test_only_a_paired_time_makes_a_pair(sample, name):
    comparisons = {
        "stored": (sample.time(), sample.memory()),
        "counters": (sample.counter(now=101),),
        "outputs": (differs(sample),),
    }
    pair = (sample.result(), None) if name == "unjudged" else judged(sample, comparisons=comparisons[name])
    assert pair_of(pair) is None
    assert pair_of(judged(sample, comparisons=(sample.memory(), time(sample)))) is not None


# The terminal


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"revision": "main", "commit": COMMIT}, "main (merge base 1a2b3c4)"),
        ({"revision": "main"}, "main"),
        ({"python": "/opt/old/bin/python"}, "/opt/old/bin/python"),
        (
            {"revision": "v1", "commit": COMMIT, "python": "/old/python"},
            "v1 (merge base 1a2b3c4) with /old/python",
        ),
        (
            {"revision": "a\nb\x1b", "commit": "\x07" * 8},
            r"a\nb\x1b (merge base \x07\x07\x07\x07\x07\x07\x07)",
        ),
    ],
)
def test_the_opponent_in_words(sample, fields, named):
    assert wording.described_base(Against(**fields)) == named


@pytest.mark.parametrize(
    ("launches", "seconds", "took"),
    [(7, 181.0, "7 launches in all, 3 min"), (1, 4.2, "1 launch in all, 4 s")],
)
def test_a_paired_run_begins_with_its_opponent(sample, launches, seconds, took):
    against = msgspec.structs.replace(MAIN, launches=launches, seconds=seconds)
    session = paired(sample, [judged(sample)], against)
    assert text.base_lines(session) == f"against main (merge base 1a2b3c4), call by call: {took}"
    assert text.terminal_summary(session).startswith(text.base_lines(session) + "\n\ncase ")


def test_changes_that_a_commit_accepts_are_told(sample):
    against = msgspec.structs.replace(
        MAIN, accepted={"test_*": "it is worth it", "test_b": "", "a\nb": "c\x1b"}
    )
    assert text.base_lines(paired(sample, [], against)).splitlines()[1:] == [
        "  accepted by a commit: test_*: it is worth it",
        "  accepted by a commit: test_b: no reason was given",
        r"  accepted by a commit: a\nb: c\x1b",
    ]


def test_a_stored_run_has_no_opponent(sample):
    assert text.base_lines(sample.session([sample.pair()])) == ""
    assert "against" not in text.terminal_summary(sample.session())


def test_the_table_of_a_paired_run(sample):
    pairs = [
        judged(sample, verdict=Verdict.REGRESSED, comparisons=(time(sample, Verdict.REGRESSED, 0.087),)),
        judged(sample, "test_new", Verdict.NO_BASELINE, (uncompared(sample, candidate=0.04),)),
    ]
    assert text.case_table(rows.rows(paired(sample, pairs)), 120) == (
        """
case                                         was      now  change     99 % interval  launches  verdict
---------------------------------------  -------  -------  ------  ----------------  --------  -----------
tests/test_model.py::test_embedder[cpu]  40.0 ms  43.5 ms  +8.7 %  +7.7 % to +9.7 %         7  regressed
tests/test_model.py::test_new[cpu]             -  40.0 ms       -                 -         -  no-baseline
"""
    ).strip("\n")


def test_a_case_that_was_not_compared_has_no_times_under_was_and_now(sample):
    """One that failed or was invalid after it had been timed: its p95 is no "now"."""
    reason = sample.note("a launch ended without a time of both sides")
    lost = judged(
        sample,
        "test_lost",
        Verdict.INVALID,
        (),
        result={"outcome": Outcome.INVALID, "measurement": sample.measurement(), "reason": reason},
    )
    session = paired(sample, [judged(sample, "test_fine"), lost])
    line = next(
        line
        for line in text.case_table(rows.rows(session), 120).splitlines()
        if line.startswith("tests/test_model.py::test_lost")
    )
    assert line.split()[1:] == ["-", "-", "-", "-", "-", "invalid"]


@pytest.mark.parametrize("width", [90, 100, 140])
def test_names_give_way_in_a_paired_table(sample, width):
    case = sample.case("tests/" + "very_" * 40 + "deep/test_model.py::test_embedder")
    pair = sample.pair(case, Verdict.REGRESSED, comparisons=(time(sample, Verdict.REGRESSED, 0.087),))
    lines = text.case_table(rows.rows(paired(sample, [pair])), width).splitlines()
    assert max(map(len, lines)) <= width
    assert lines[2].startswith("…")
    assert "test_embedder[cpu]  " in lines[2]
    assert " ".join(lines[2].split()[1:]) == "40.0 ms 43.5 ms +8.7 % +7.7 % to +9.7 % 7 regressed"


@pytest.mark.parametrize("width", [80, 100])
def test_a_paired_table_of_unknown_figures_keeps_the_width(sample, width):
    """Its headers are then the widest cells of their columns."""
    case = sample.case("tests/" + "x" * 200 + ".py::test_embedder")
    pair = sample.pair(case, Verdict.NO_BASELINE, comparisons=(uncompared(sample),))
    lines = text.case_table(rows.rows(paired(sample, [pair])), width).splitlines()
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize("width", [1, 20, 80, 200])
def test_nothing_that_a_terminal_obeys_is_printed(sample, width):
    printed = text.terminal_summary(hostile(sample), width)
    assert all(line.isprintable() for line in printed.split("\n"))


def test_the_terminal_names_mismatches_as_failures_and_invalid_times_as_worth_a_look(sample):
    printed = text.terminal_summary(every_kind(sample), 140)
    analyses = printed[printed.index("worth a look") :]
    assert "test_moved[cpu]\n    invalid: p50 latency" in analyses
    assert "test_other[cpu]\n" not in analyses


# Messages


def explained(sample, verdict, *comparisons, failed=True, **fields):
    return wording.explain(
        sample.verdict(verdict, failed=failed, comparisons=comparisons, **fields), sample.result()
    )


def test_a_paired_regression_fails_with_all_that_is_known(sample):
    verdict = sample.verdict(
        Verdict.REGRESSED,
        failed=True,
        comparisons=(time(sample, Verdict.REGRESSED, 0.087), sample.counter()),
    )
    assert text.failure_message(verdict, sample.result()) == (
        f"""
regressed: p50 latency 43.5 ms, 40.0 ms on the base: +8.7 %, allowed +2.0 %

  p50 latency, call by call: regressed
    now                  43.5 ms
    on the base          40.0 ms, 7 launches of both
    change               +8.7 %, allowed +2.0 %
    how sure             99 % interval +7.7 % to +9.7 %
    smallest detectable  +1.4 %, in 9 of 10 runs
    the model's work     unchanged: no exact counter moved

  next
    - {TRAILER}
    - or allow it for this test: @pytest.mark.inference(tolerance={{"p50": "10%"}})
    - or report it without failing: @pytest.mark.inference(gate="warn")
"""
    ).strip("\n")


def test_the_work_that_moved_stands_beside_a_paired_time(sample):
    moved = sample.counter(now=104, causes=(sample.cause(),))
    message = explained(sample, Verdict.REGRESSED, time(sample, Verdict.REGRESSED, 0.087), moved)
    assert dict(message.sections[0].lines)["the model's work"] == "+4 aten::clone in layers.{0-3}"


def test_a_name_with_spaces_is_accepted_by_a_pattern_without(sample):
    verdict = sample.verdict(
        Verdict.REGRESSED,
        failed=True,
        nodeid="tests/test_a.py::test_b[two words]",
        comparisons=(time(sample, Verdict.REGRESSED, 0.087),),
    )
    assert wording.explain(verdict).cures[0].endswith("Infergate-Accept: test_b[two?words] REASON")


@pytest.mark.parametrize("comparison", ["time", "counter"])
def test_a_paired_regression_is_accepted_in_a_commit_and_never_recorded(sample, comparison):
    counter = sample.counter(now=104)
    found = (time(sample, Verdict.REGRESSED, 0.087),) if comparison == "time" else (time(sample), counter)
    cures = explained(sample, Verdict.REGRESSED, *found).cures
    assert cures[0] == TRAILER
    assert not any("--infer-save" in hint for hint in cures)


def test_a_stored_regression_is_recorded_and_not_accepted(sample):
    cures = explained(sample, Verdict.REGRESSED, sample.time(Verdict.REGRESSED, 0.3)).cures
    assert cures[0] == "if the change is meant, record it with --infer-save"
    assert not any("Infergate-Accept" in hint for hint in cures)


def test_a_change_that_a_commit_accepts_is_not_to_be_accepted_again(sample):
    accepted = sample.note("accepted: it is worth it", code="accepted")
    message = explained(
        sample, Verdict.REGRESSED, time(sample, Verdict.REGRESSED, 0.087), failed=False, notes=(accepted,)
    )
    assert message.title.startswith("regressed: p50 latency 43.5 ms")
    assert not any("Infergate-Accept" in hint for hint in message.cures)


def test_a_case_in_order_is_told_in_its_title(sample):
    assert explained(sample, Verdict.EQUIVALENT, time(sample), failed=False) == wording.Message(
        title="equivalent: p50 latency 40.1 ms, 40.0 ms on the base: +0.3 %, allowed +2.0 %"
    )


def test_a_mismatch_says_what_differs(sample):
    hint = "if that is meant, say so with @pytest.mark.inference(parity=False), or a tolerance there"
    message = explained(sample, Verdict.MISMATCH, time(sample), differs(sample, hint=hint))
    what = "the output: shape (1, 4) on the base, (1, 5) now"
    assert message.title == f"mismatch: it does not compute what the base does: {what}"
    assert message.sections == (
        wording.MetricSection(text="outputs", verdict="mismatch", lines=(("difference", what),)),
    )
    assert message.cures == (hint, 'or report it without failing: @pytest.mark.inference(gate="warn")')


def test_a_mismatch_beside_a_regression_is_told_after_it(sample):
    slower = time(sample, Verdict.REGRESSED, 0.087)
    message = explained(sample, Verdict.REGRESSED, differs(sample), slower)
    assert [section.text for section in message.sections] == ["p50 latency, call by call", "outputs"]
    assert "; it does not compute what the base does: " in message.title
    assert message.cures[0] == TRAILER
    assert "say so" in message.cures


def test_a_case_without_a_base_says_why(sample):
    message = explained(sample, Verdict.NO_BASELINE, uncompared(sample, candidate=0.04), failed=False)
    why = "the base has no test of this name"
    assert message.title == f"no-baseline: p50 latency was not compared: {why}"
    assert message.sections[0].lines == (("now", "40.0 ms"), ("note", why))
    assert not any("--infer-save" in hint for hint in message.cures)


def test_a_case_without_a_stored_baseline_is_still_to_be_recorded(sample):
    message = explained(sample, Verdict.NO_BASELINE, sample.time(Verdict.NO_BASELINE), failed=False)
    assert "record a baseline with --infer-save, and commit it" in message.cures


def test_a_control_that_moved_is_told_with_the_time_that_it_spoils(sample):
    note = sample.note("identical code differed by +1.8 % between the two sides", "measure later")
    message = explained(
        sample, Verdict.INVALID, time(sample, Verdict.INVALID, 0.087, note=note), failed=False
    )
    assert message.title == (
        "invalid: p50 latency 43.5 ms, 40.0 ms on the base: +8.7 %, allowed +2.0 %: "
        "identical code differed by +1.8 % between the two sides"
    )
    assert dict(message.sections[0].lines)["note"] == note.text
    assert message.cures == ("measure later",)


def test_an_inconclusive_case_tells_what_more_would_settle_it(sample):
    note = sample.note("about 40 launches would settle it", "measure on a quieter machine")
    message = explained(
        sample, Verdict.INCONCLUSIVE, time(sample, Verdict.INCONCLUSIVE, 0.019, note=note), failed=False
    )
    assert message.title == "inconclusive: p50 latency 40.8 ms, 40.0 ms on the base: +1.9 %, allowed +2.0 %"
    assert dict(message.sections[0].lines)["note"] == "about 40 launches would settle it"
    assert message.cures == ("measure on a quieter machine",)


def test_what_is_not_known_of_a_paired_time_is_left_out(sample):
    bare = time(
        sample,
        Verdict.INCONCLUSIVE,
        low=None,
        high=None,
        smallest_detectable=None,
        sessions=0,
        tolerance=None,
    )
    assert explained(sample, Verdict.INCONCLUSIVE, bare).sections[0].lines == (
        ("now", "40.1 ms"),
        ("on the base", "40.0 ms"),
        ("change", "+0.3 %"),
    )


def test_one_launch_is_singular(sample):
    row = time(sample, Verdict.INCONCLUSIVE, sessions=1)
    assert dict(explained(sample, Verdict.INCONCLUSIVE, row).sections[0].lines)["on the base"] == (
        "40.0 ms, 1 launch of both"
    )


def test_messages_of_a_paired_run_are_plain(sample):
    for verdict in hostile(sample).gate.verdicts:
        message = wording.explain(verdict)
        told = [text for section in message.sections for line in section.lines for text in line]
        assert all(text.isprintable() for text in (message.title, *told, *message.cures))


# The HTML page


def main_table(page):
    (found,) = re.findall(r'<table class="cases[^"]*">.*?</table>', page, re.DOTALL)
    header, *lines = [
        [words(cell) for cell in re.findall(r"<t[hd]\b[^>]*>(.*?)</t[hd]>", line, re.DOTALL)]
        for line in re.findall(r"<tr[^>]*>(.*?)</tr>", found, re.DOTALL)
    ]
    return header, {line[0].rpartition(" | ")[2]: line[1:] for line in lines}


def test_the_page_has_the_columns_of_a_paired_run(sample):
    header, cells = main_table(html.render_html(every_kind(sample)))
    assert header == HEADERS
    unknown = ["-"] * 5
    assert cells == {
        "test_slower[cpu]": ["40.0 ms", "43.5 ms", "+8.7 %", "+7.7 % to +9.7 %", "7", "regressed"],
        "test_taken[cpu]": ["40.0 ms", "43.5 ms", "+8.7 %", "+7.7 % to +9.7 %", "7", "regressed (accepted)"],
        "test_other[cpu]": ["40.0 ms", "40.1 ms", "+0.3 %", "-0.7 % to +1.3 %", "7", "mismatch"],
        "test_moved[cpu]": ["40.0 ms", "40.8 ms", "+2.0 %", "+1.0 % to +3.0 %", "7", "invalid"],
        "test_near[cpu]": ["40.0 ms", "40.8 ms", "+1.9 %", "+0.9 % to +2.9 %", "7", "inconclusive"],
        "test_new[cpu]": ["-", "40.0 ms", "-", "-", "-", "no-baseline"],
        "test_faster[cpu]": ["40.0 ms", "35.2 ms", "-12.0 %", "-13.0 % to -11.0 %", "7", "improved"],
        "test_same[cpu]": ["40.0 ms", "40.1 ms", "+0.3 %", "-0.7 % to +1.3 %", "7", "equivalent"],
        "test_skipped[cpu]": [*unknown, "not-measured"],
    }


def test_the_page_of_a_stored_run_has_its_own_columns(sample):
    page = html.render_html(sample.session([sample.pair(comparisons=(sample.time(),))]))
    assert main_table(page)[0] == [
        "Case", "p50", "p95", "Throughput", "Peak memory", "Budget", "Verdict",
    ]  # fmt: skip
    assert "Compared call by call" not in page
    assert table(page, "Latency of one call").header[6] == "Expected p50"


def test_the_page_names_what_it_compares_with(sample):
    page = html.render_html(every_kind(sample))
    line = words(re.search(r"<p>(Compared call by call.*?)</p>", page)[1])
    assert line == (
        "Compared call by call with | main (merge base 1a2b3c4) | on one machine: 7 launches of both sides, 3 min."
    )
    found = next(
        each for each in tables(page) if each.caption.startswith("Latency of one call, with 99 % bounds")
    )
    assert "whose memory settings and pinned threads are not those of a service" in Page(page).text
    assert found.header[6] == "Base p50"
    assert found.rows[0][6] == "40.0 ms"
    assert "median of the base" in Page(page).text
    assert "median expected from the baseline" not in page


def test_the_page_counts_one_launch(sample):
    against = msgspec.structs.replace(MAIN, launches=1)
    assert ": 1 launch of both sides, " in html.render_html(paired(sample, [judged(sample)], against))


def test_the_page_lists_what_a_commit_accepts(sample):
    against = msgspec.structs.replace(MAIN, accepted={"test_a*": "it is worth it", "test_b": ""})
    page = html.render_html(paired(sample, [judged(sample)], against))
    listed = re.search(r"<p>Accepted by commits since the base:</p>\s*<ul[^>]*>(.*?)</ul>", page, re.DOTALL)[
        1
    ]
    assert re.findall(r"<li>(.*?)</li>", listed) == [
        "test_a*: it is worth it",
        "test_b: no reason was given",
    ]
    assert "Accepted by" not in html.render_html(paired(sample, [judged(sample)]))


def test_the_page_does_not_explain_a_change_by_earlier_sessions(sample):
    """Where nothing is stored, the words below must not say that the base is a history."""
    assert "earlier sessions" not in Page(html.render_html(every_kind(sample))).text


@pytest.mark.parametrize("label", ["Was", "Now", "Change", "Interval", "Launches"])
def test_the_figures_of_a_paired_run_are_labelled_on_narrow_screens(sample, label):
    """The header is hidden there: each cell says by its own label what it is."""
    labels = re.findall(r'::before\{content:"([^"]+)"\}', html.render_html(every_kind(sample)))
    assert label.lower() in [each.lower() for each in labels]


def test_both_failures_are_told_with_what_to_do(sample):
    said = Page(html.render_html(every_kind(sample))).text
    assert TRAILER.partition(" test_embedder")[0] in said
    assert "it does not compute what the base does" in said
    assert "p50 latency, call by call: regressed" in said
    assert said.count("What failed, and why") == 1


@pytest.mark.parametrize("build", [every_kind, hostile, lambda sample: paired(sample, [])])
def test_every_paired_page_is_well_formed(sample, build):
    page = html.render_html(build(sample))
    parsed = Page(page)
    assert parsed.open == []
    assert page.encode()
    ids = [attributes["id"] for _, attributes, _ in parsed.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert all(attributes["href"][1:] in ids for _, attributes, _ in parsed.elements if "href" in attributes)
    assert len(parsed.find("caption")) == len(parsed.find("table"))
    assert all(attributes.get("scope") in {"col", "row"} for attributes in parsed.find("th"))
    levels = [int(tag[1]) for tag, _, _ in parsed.elements if re.fullmatch(r"h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_a_paired_page_loads_runs_and_styles_nothing(sample):
    for tag, attributes, _ in Page(html.render_html(hostile(sample))).elements:
        assert tag not in {"script", "img", "link", "iframe", "object", "embed", "base", "form", "video"}
        assert not [name for name in attributes if name.startswith("on") or name in {"style", "src"}]


@pytest.mark.parametrize(
    "text", ["<script>alert(1)", "<img src=x", '"><img', "\x1b", "\u202e", "\x00", "\udc80", "\u200b"]
)
def test_nothing_hostile_survives(sample, text):
    assert text not in html.render_html(hostile(sample))


def test_hostile_revisions_and_trailers_are_escaped_and_made_plain(sample):
    page = html.render_html(hostile(sample))
    line = re.search(r"<p>Compared call by call(.*?)</p>", page, re.DOTALL)[1]
    trailers = "".join(
        re.findall(r"<p>Accepted by commits since the base:</p>\s*<ul[^>]*>(.*?)</ul>", page, re.DOTALL)
    )
    for place in (line, trailers):
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in place
        assert "{{ 7*7 }} {% raw %}" in place
        assert r"two\nlines\r\tand a tab" in place
        assert r"\x1b[31mred" in place
        assert r"\udc80" in place
    assert trailers.count("&lt;script&gt;") == 2  # the pattern and the reason


# Files


def schema_of_results():
    return jsonschema.Draft202012Validator(json.loads(results.results_schema()))


@pytest.mark.parametrize("build", [every_kind, hostile])
def test_a_paired_session_reads_back_and_meets_the_schema(sample, build):
    written = results.render_results(build(sample))
    assert schema_of_results().is_valid(json.loads(written))
    assert results.render_results(results.parse_results(written, "r.json")) == written


@pytest.mark.parametrize(
    "against",
    [
        None,
        Against(),
        Against(python="/old/python", launches=1, seconds=2.5),
        msgspec.structs.replace(MAIN, accepted={"test_*": "worth it", "test_b": ""}),
    ],
)
def test_what_a_run_was_compared_with_is_kept(sample, against):
    session = paired(sample, [judged(sample)], against)
    assert results.parse_results(results.render_results(session), "r.json").against == against


def test_a_file_of_before_paired_runs_has_no_opponent(sample):
    data = json.loads(results.render_results(sample.session([sample.pair()])))
    data.pop("against", None)
    assert schema_of_results().is_valid(data)
    assert results.parse_results(json.dumps(data), "r.json").against is None


@pytest.mark.parametrize("value", ["main", {"launches": "7"}, {"accepted": {"a": 1}}])
def test_a_broken_opponent_is_refused(sample, value):
    data = json.loads(results.render_results(paired(sample, [judged(sample)])))
    data["against"] = value
    assert not schema_of_results().is_valid(data)
    with pytest.raises(Exception, match=r"r\.json: \$\.against"):
        results.parse_results(json.dumps(data), "r.json")


def test_the_properties_of_a_paired_case(sample):
    result, verdict = judged(
        sample,
        verdict=Verdict.REGRESSED,
        comparisons=(time(sample, Verdict.REGRESSED, 0.087), sample.counter(now=104), differs(sample)),
        failed=True,
    )
    found = junit.properties(result, verdict)
    assert found[-4:] == [
        ("infergate.verdict", "regressed"),
        ("infergate.failed", "true"),
        ("infergate.p50_change_percent", "8.7"),
        ("infergate.operators_change_percent", "4"),
    ]
    assert dict(found)["infergate.p50_ms"] == "40"


def test_a_case_without_a_base_has_no_change(sample):
    result, verdict = judged(sample, verdict=Verdict.NO_BASELINE, comparisons=(uncompared(sample),))
    found = dict(junit.properties(result, verdict))
    assert found["infergate.verdict"] == "no-baseline"
    assert not [name for name in found if "change" in name]


def test_the_properties_of_hostile_cases_are_plain(sample):
    session = hostile(sample)
    for result, verdict in zip(session.cases, session.gate.verdicts, strict=True):
        assert all(value.isprintable() for _, value in junit.properties(result, verdict))
