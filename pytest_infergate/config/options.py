"""The options with their ini twins.

Loaded in every pytest session, so it is cheap to load: values are combined in `settings`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from pytest_infergate.config.parse import (
    parse_choice,
    parse_counts,
    parse_demand_text,
    parse_devices,
    parse_dtypes,
    parse_flag,
    parse_folder,
    parse_min_decided,
    parse_seconds,
    parse_tolerances,
)

GATES = ("fail", "warn", "off")
DEFAULT_MAX_TIME = 10.0
"""Seconds that one case may take."""
DEFAULT_PAIRED_MAX_TIME = 180.0
"""Seconds that the timed blocks of one case may take over all process launches of a paired run."""


class Option(NamedTuple):
    """A command line option; its ini twin has the same name with underscores."""

    name: str
    help: str
    parse: Callable[[str], Any]
    metavar: str | None = None
    asks: bool = False
    """Whether an ini value of it switches measuring on, as any option on the command line does."""

    @property
    def flag(self) -> str:
        """The option on the command line: ``--infer-max-time``."""
        return f"--infer-{self.name.replace('_', '-')}"

    @property
    def ini(self) -> str:
        """Its twin in the ini file: ``infer_max_time``."""
        return f"infer_{self.name}"


OPTIONS = (
    Option("devices", "measure on these devices, comma separated: cpu, cuda, cuda:1, xpu, mps, "
           "or auto for all that are there", parse_devices, "NAMES", asks=True),
    Option("dtypes", "measure the model cast to each of these dtypes", parse_dtypes, "NAMES", asks=True),
    Option("threads", "measure with each of these numbers of threads inside an operator",
           parse_counts, "COUNTS", asks=True),
    Option("workers", "measure also with so many processes of the model at once: 2,4", parse_counts,
           "COUNTS", asks=True),
    Option("against", "compare call by call with the code at this git revision (its merge base), on this "
           "machine; auto for the upstream branch", str, "REV", asks=True),
    Option("against_python", "interpreter of the base: other versions of torch, or an earlier install",
           str, "PATH", asks=True),
    Option("paired_data", "write every turn of a paired run here, for `infergate replay`", str, "FILE"),
    Option("require", "devices that must be there: without them the run stops with exit code 4",
           parse_devices, "NAMES", asks=True),
    Option("baseline", "folder of the baselines (default: .infergate/baselines below the rootdir)",
           str, "FOLDER"),
    Option("counters", "folder of the exact counters (default: .infergate/counters below the rootdir)",
           parse_folder, "FOLDER"),
    Option("save", "record this session into the baseline; never fails on a regression", parse_flag, asks=True),
    Option("gate", "what a failing verdict does: fail the test, warn in the summary, or off",
           parse_choice(*GATES), "{fail,warn,off}"),
    Option("strict", "also fail what could not be decided: no baseline, inconclusive, not measured", parse_flag),
    Option("tolerance", "tolerated slowdown against the baseline: 25%, or p50=25%,memory=1%,operators=off",
           parse_tolerances, "SHARE"),
    Option("max_time", "seconds that one case may take (default: 10; paired: 180 over all launches)",
           parse_seconds, "TIME"),
    Option("max_total", "seconds that all cases together may take; the rest is not measured",
           parse_seconds, "TIME"),
    Option("min_decided", "fail if a smaller share of the cases was decided: 80%", parse_min_decided, "SHARE"),
    Option("xdist", "under pytest-xdist, lock the machine for each inference case (default) or refuse",
           parse_choice("lock", "refuse"), "{lock,refuse}"),
    Option("demand", "what is to be served, 50/s or 3/min; budgets of usd_per_month need it", parse_demand_text, "RATE"),
    Option("prices", "CSV table of prices, over those that come with infergate (infergate prices list)",
           str, "FILE"),
    Option("energy", "measure energy too, where NVML or RAPL can be read; some seconds more a case", parse_flag),
    Option("report", "write the HTML report here", str, "FILE", asks=True),
    Option("json", "write the results as JSON here", str, "FILE", asks=True),
    Option("markdown", "write a summary as Markdown here", str, "FILE", asks=True),
    Option("list", "list the inference cases and stop", parse_flag),
    Option("disable", "run inference tests once on the CPU without measuring, whatever else asks for it",
           parse_flag),
)  # fmt: skip
"""Every option, in the order of ``--help``."""
