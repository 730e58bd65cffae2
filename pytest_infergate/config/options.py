"""The options with their ini values.

Loaded in every pytest session, so it must be cheap to load. `settings` parses and combines the values.
"""

from __future__ import annotations

from typing import Any, NamedTuple

# From the strictest to the most lenient.
GATES = ("fail", "warn", "off")
# Sampling ends earlier once the median is known to 1 %; a percentile with a budget may need all of it.
DEFAULT_MAX_TIME = 10.0
"""Time limit of one case in seconds."""
# Fifteen launches of the screen with up to 4 s of blocks each, and fifteen of the confirmation with 8 s.
DEFAULT_PAIRED_MAX_TIME = 180.0
"""Seconds that the timed blocks of one case may take over all process launches of a paired run."""


def flag_of(name: str) -> str:
    """Return the name of an option on the command line: ``--infer-max-time``."""
    # The prefix avoids conflicts with options of pytest and of other plugins.
    return f"--infer-{name.replace('_', '-')}"


class Option(NamedTuple):
    """A command line option, and the ini value of the same name with underscores."""

    name: str
    help: str
    metavar: str | None = None
    asks: bool = False
    """Whether its ini value enables measuring, as every option on the command line does."""
    default: Any = None

    @property
    def flag(self) -> str:
        """The option on the command line: ``--infer-max-time``."""
        return flag_of(self.name)

    @property
    def ini(self) -> str:
        """Name in the ini file: ``infer_max_time``."""
        return f"infer_{self.name}"


OPTIONS = (
    Option("devices", "measure on these devices, comma separated: cpu, cuda, cuda:1, xpu, mps, or auto for "
           "all that are available", "NAMES", asks=True, default=("cpu",)),
    Option("runtimes", "execute the model with each of these: eager, compile, aoti, onnxruntime, openvino; a "
           "mode follows a colon: compile:max-autotune", "NAMES", asks=True),
    Option("dtypes", "measure the model in each of these: float32, bfloat16, autocast:bfloat16, int8, tf32; "
           "channels_last, alone or as in bfloat16:channels_last", "NAMES", asks=True),
    Option("threads", "measure with each of these intra-operator thread counts", "COUNTS",
           asks=True),
    Option("workers", "also measure with this many concurrent processes of the model: 2,4",
           "COUNTS", asks=True, default=()),
    Option("against", "compare call by call with the code at this git revision (its merge base), on this "
           "machine; auto for the upstream branch", "REV", asks=True),
    Option("against_python", "interpreter of the base: other versions of torch, or an earlier install",
           "PATH", asks=True),
    Option("against_runtime", "compare the other runtimes of the same code call by call with this one: "
           "eager", "NAME", asks=True),
    Option("paired_data", "write all timings of a paired run here, for `infergate replay`", "FILE"),
    Option("require", "devices that must be available; without them the run stops with exit code 4",
           "NAMES", asks=True, default=()),
    Option("baseline", "folder of the baselines (default: .infergate/baselines below the rootdir)",
           "FOLDER", default=".infergate/baselines"),
    Option("counters", "folder of the exact counters (default: .infergate/counters below the rootdir)",
           "FOLDER", default=".infergate/counters"),
    Option("history", "also add this session to the history here: a folder, or an address such as "
           "s3://bucket/history", "PLACE"),
    Option("save", "record this session into the baseline; an exceeded budget fails, a regression does not",
           asks=True, default=False),
    Option("counters_only", "take and gate exact counters only: no clock, a second or two per case",
           asks=True, default=False),
    Option("save_contended", "with --infer-save: also record times that other processes disturbed",
           default=False),
    Option("gate", "effect of a failing verdict: fail the test, warn in the summary, or off",
           "{fail,warn,off}", default="fail"),
    Option("strict", "also fail undecided cases: no baseline, inconclusive, not measured",
           default=False),
    Option("tolerance", "tolerated slowdown against the baseline: 25%, or p50=25%,memory=1%,operators=off",
           "SHARE"),
    Option("max_time", "time limit of one case in seconds (default: 10; paired: 180 over all launches)",
           "TIME"),
    Option("max_total", "time limit of all cases in seconds; the rest is not measured",
           "TIME"),
    Option("min_decided", "fail if a smaller share of the cases is decided: 80%", "SHARE"),
    Option("xdist", "under pytest-xdist, lock the machine for each inference case (default) or refuse",
           "{lock,refuse}", default="lock"),
    Option("lock", "lock the machine for each inference case (default), or measure beside other runs: off",
           "{machine,off}", default="machine"),
    Option("demand", "demand to be served: 50/s or 3/min; budgets of usd_per_month need it", "RATE"),
    Option("load", "also serve the model under load: 50/s, single-stream, 8-stream or offline; needs "
           "pytest-infergate[loadgen]", "LOAD"),
    Option("prices", "CSV table of prices, which take precedence over those of infergate", "FILE"),
    Option("energy", "also measure energy if NVML or RAPL can be read; some seconds more per case",
           default=False),
    Option("report", "write the HTML report here", "FILE", asks=True),
    Option("json", "write the results as JSON here", "FILE", asks=True),
    Option("markdown", "write a summary as Markdown here", "FILE", asks=True),
    Option("list", "list the inference cases and stop", default=False),
    Option("disable", "run inference tests once on the CPU without measuring, regardless of other options",
           default=False),
)  # fmt: skip
"""Every option, in the order of ``--help``."""
