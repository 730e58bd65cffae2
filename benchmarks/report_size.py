"""Size and rendering time of the HTML report.

    python benchmarks/report_size.py

Reports of 1, 200 and 5,000 cases, eight per test, are rendered with every section: stored and paired figures,
counters, energy, cost, notes, roofline, and advice for the numbers of models in `MODELS`. Seconds are
processor time, the median of a few renderings. Targets: 500 kB for 200 cases with advice for one model, 3 s
for 5,000 cases.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from conftest import Sample
from full_session import advised, full

from pytest_infergate.report import html

COUNTS = (1, 200, 5_000)
MODELS = (0, 1, 25)
"""Numbers of models with advice: none, one, and all models of 200 cases."""
ROUNDS = 3


def rendered(count: int, models: int, *, paired: bool) -> tuple[int, float]:
    """Return the bytes of a report, and the median processor time for rendering it in seconds."""
    session, advice = full(Sample, count, paired=paired), advised(models)
    seconds = []
    for _ in range(ROUNDS):
        begin = time.process_time()
        page = html.render_html(session, advice=advice)
        seconds.append(time.process_time() - begin)
    return len(page.encode()), median(seconds)


def main() -> None:
    """Print the table."""
    rendered(1, 1, paired=False)
    print(f"{'cases':>6}  {'run':<6}  {'models':>6}  {'bytes':>12}  {'seconds':>8}")
    for count in COUNTS:
        for paired in (False, True):
            for models in MODELS:
                size, seconds = rendered(count, models, paired=paired)
                kind = "paired" if paired else "stored"
                print(f"{count:>6,}  {kind:<6}  {models:>6}  {size:>12,}  {seconds:>8.3f}")


if __name__ == "__main__":
    main()
