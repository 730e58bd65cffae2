"""A history as one self-contained page: no script, no external resource, filters by links."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Final, NamedTuple

from markupsafe import Markup

from pytest_infergate import __version__
from pytest_infergate.core.domain import units
from pytest_infergate.core.gate.trends import Trend
from pytest_infergate.report.charts.history_lines import HISTORY_HEIGHT, HistoryPicture, history_picture
from pytest_infergate.report.charts.scale import BOX
from pytest_infergate.report.history_text import drift_text
from pytest_infergate.report.html import page_environment
from pytest_infergate.report.sanitize import plain

MAX_FILTERS: Final = 40
"""Number of test files, and of hardware classes, that have a filter."""
MAX_ROWS: Final = 20
"""Number of sessions in the table of a series, the last ones."""
MAX_TABLES: Final = 300
"""Number of series that have a table of figures, so that the page opens quickly."""

MAX_STEPS: Final = 5
"""Number of change points that the text of a series names, the last ones."""


class HistoryFilter(NamedTuple):
    """A link that shows some of the series."""

    anchor: str
    text: str
    series: int


class ShownSeries(NamedTuple):
    """One series on the page."""

    anchor: str
    name: str
    hardware: str
    kind: str
    """``slower``, ``faster`` or ``steady``."""
    filters: str
    """Names of the filters that show it."""
    sessions: str
    last: str
    drift: str
    since: str
    change: str
    sentence: str
    picture: HistoryPicture
    accepted: tuple[str, ...]
    rows: tuple[tuple[str, str, str, str], ...]
    """Session, measured, corrected, and commit or release."""


def render_history(
    trends: Sequence[Trend], location: str, notes: Sequence[str] = (), *, simulated: bool = False
) -> str:
    """Render series, which are sorted by drift, as one HTML document. `location` names the history."""
    files = _numbered([trend.series.case.module for trend in trends])
    machines = _numbered([trend.series.hardware for trend in trends])
    shown = [_shown(trend, index, files, machines) for index, trend in enumerate(trends)]
    kinds = [
        HistoryFilter(f"k-{kind}", kind, sum(one.kind == kind for one in shown))
        for kind in ("slower", "faster", "steady")
    ]
    filters = {
        "Drift": [one for one in kinds if one.series],
        "Machine": _filters(machines, "m", [trend.series.hardware for trend in trends]),
        "File": _filters(files, "f", [trend.series.case.module for trend in trends]),
    }
    filters = {title: links for title, links in filters.items() if len(links) > 1}
    style = (
        page_environment()
        .get_template("history.css")
        .render(anchors=[link.anchor for links in filters.values() for link in links])
    )
    return (
        page_environment()
        .get_template("history.html")
        .render(
            style=Markup(style),  # noqa: S704 - the package's own style sheet and numbers
            style_hash="sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
            headline=history_headline(trends),
            location=plain(location),
            version=__version__,
            simulated=simulated,
            notes=list(map(plain, notes)),
            filters=filters,
            series=shown,
            span=_span(trends),
            height=HISTORY_HEIGHT,
            box=BOX,
        )
    )


def history_headline(trends: Sequence[Trend]) -> str:
    """Return one sentence: how many series became slower, and which one the most."""
    slower = [trend for trend in trends if _kind(trend) == "slower"]
    faster = sum(_kind(trend) == "faster" for trend in trends)
    text = f"{len(slower)} of {len(trends):,} series became slower"
    if slower:
        worst = slower[0]
        found = worst.largest_change
        since = ""
        if found is not None:
            since = f" since {_since(worst)}"
        text += f": {plain(worst.name)} the most, {units.percent(worst.drift)}{since}"
    return f"{text}; {faster} became faster" if faster else text


def _kind(trend: Trend) -> str:
    if trend.drift is None or not trend.clear:
        return "steady"
    return "slower" if trend.drift > 0 else "faster"


def _numbered(names: Sequence[str]) -> dict[str, int]:
    return {name: index for index, name in enumerate(sorted(set(names))) if index < MAX_FILTERS}


def _filters(numbers: dict[str, int], letter: str, names: Sequence[str]) -> list[HistoryFilter]:
    return [
        HistoryFilter(f"{letter}{number}", plain(name), names.count(name)) for name, number in numbers.items()
    ]


def _span(trends: Sequence[Trend]) -> str:
    created = [
        point.created for trend in trends for point in (trend.series.points[0], trend.series.points[-1])
    ]
    sessions = {point.created for trend in trends for point in trend.series.points}
    first, last = min(created)[:10], max(created)[:10]
    size = max(trend.series.runs_a_point for trend in trends)
    counted = units.plural(len(sessions), "session")
    if size > 1:
        counted = f"{units.plural(len(sessions), 'point')} of {size} sessions each"
    return f"{counted} from {plain(first)} to {plain(last)}"


def _shown(trend: Trend, index: int, files: dict[str, int], machines: dict[str, int]) -> ShownSeries:
    series = trend.series
    found = trend.largest_change
    kind = _kind(trend)
    classes = [f"k-{kind}"]
    classes += [f"f{files[series.case.module]}"] if series.case.module in files else []
    classes += [f"m{machines[series.hardware]}"] if series.hardware in machines else []
    return ShownSeries(
        anchor=f"s{index}",
        name=plain(trend.name),
        hardware=plain(series.hardware),
        kind=kind,
        filters=" ".join(classes),
        sessions=units.count(len(series.points)),
        last=units.seconds(trend.seconds[-1]),
        drift=drift_text(trend),
        since=_since(trend),
        change=units.UNKNOWN if found is None else units.percent(found[1]),
        sentence=_sentence(trend),
        picture=history_picture(trend),
        accepted=tuple(f"{plain(created[:10])}: {plain(reason)}" for created, reason in series.accepted),
        rows=()
        if index >= MAX_TABLES
        else tuple(
            (
                plain(point.created[:16].replace("T", " ")),
                units.seconds(point.p50),
                units.seconds(value),
                plain(" ".join(filter(None, (point.release, (point.commit or "")[:10])))),
            )
            for point, value in list(zip(series.points, trend.seconds, strict=True))[-MAX_ROWS:]
        ),
    )


def _day(trend: Trend, index: int) -> str:
    return plain(trend.series.points[index].created[:10])


def _since(trend: Trend) -> str:
    found = trend.largest_change
    if found is None:
        return units.UNKNOWN
    return f"{_day(trend, trend.changes[0][0])}, gradually" if trend.gradual else _day(trend, found[0])


def _sentence(trend: Trend) -> str:
    """State what drifted, since when, and by how much."""
    if trend.drift is None:
        return "Too few sessions for a drift."
    since = "the last accepted change" if trend.series.accepted else trend.series.points[0].created[:10]
    drift = f"{units.percent(trend.drift)} since {plain(since)}"
    drift = f"Drift {drift}" if trend.clear else f"Drift within the noise: {drift}"
    gradually = ", gradually" if trend.gradual else ""
    return f"{drift}{gradually}.{_steps(trend)}"


def _steps(trend: Trend) -> str:
    """Name the change points, the last ones if there are many."""
    shown = trend.changes[-MAX_STEPS:]
    if not shown:
        return ""
    texts = []
    for index, change in shown:
        commit = trend.series.points[index].commit
        at = f" at commit {plain(commit[:10])}" if commit else ""
        texts.append(f"{units.percent(change)} on {_day(trend, index)}{at}")
    title = "Change point" if len(trend.changes) == 1 else "Change points"
    earlier = len(trend.changes) - len(shown)
    return f" {title}: {', '.join(texts)}{f'; {earlier} earlier' if earlier else ''}."
