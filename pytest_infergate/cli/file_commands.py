"""Commands on results files of several runs or of other tools: compare, show, export and import."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pytest_infergate.cli.examples import examples
from pytest_infergate.cli.exit_codes import gate_exit_code
from pytest_infergate.cli.results_files import (
    FILES,
    OUTPUT,
    keep_inputs,
    output_option,
    read_sessions,
    write_output,
)
from pytest_infergate.errors import ConfigurationError

if TYPE_CHECKING:
    from pytest_infergate.core.domain.outcome import Session

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(
    "compare",
    epilog=examples(
        "infergate compare before.json after.json",
        "infergate compare monday.json tuesday.json after.json --strict",
    ),
)
@click.argument("recorded", nargs=-1, required=True, type=_FILE)
@click.argument("candidate", type=_FILE)
@click.option("--strict", is_flag=True, help="Also fail undecided cases, as --infer-strict does.")
def compare_command(recorded: tuple[Path, ...], candidate: Path, *, strict: bool) -> int:
    """Compare results files: the last with the earlier ones.

    The earlier files are the baseline, one recorded session each: the more there are, the smaller the
    slowdown that can be detected. Times are compared within one class of hardware. The exit code is 1 if a
    case fails, and 2 if there are cases but none was decided.
    """
    from pytest_infergate.core.domain.outcome import Policy
    from pytest_infergate.core.gate.merge import flat_session
    from pytest_infergate.core.gate.recorded_results import decide_against
    from pytest_infergate.report import text

    earlier = [session for file in recorded for session in read_sessions([file])]
    try:
        decided = [
            decide_against(earlier, session, Policy(strict=strict)) for session in read_sessions([candidate])
        ]
    except ValueError as error:
        raise ConfigurationError(
            f"{error}. Hint: compare files of runs without --infer-against, or use infergate gate for each"
        ) from None
    session = flat_session(decided)
    write_output(text.terminal_summary(session), None)
    return gate_exit_code(session.gate)


@click.command(
    "show",
    epilog=examples(
        "infergate show results.json -k embedder --sort p95",
        "infergate show cpu.json gpu.json --sort peak_memory",
    ),
)
@FILES
@click.option(
    "-k",
    "pattern",
    metavar="NAME",
    help="Only cases whose name contains this text, or matches it if it contains * or ?.",
)
@click.option("--sort", metavar="COLUMN", help="Sort by a column, the worst first: p50, p95, throughput, ...")
def show_command(files: tuple[Path, ...], pattern: str | None, sort: str | None) -> None:
    """Show the table of cases of results files. Of a single case, show everything that is known."""
    from pytest_infergate.core.gate.merge import flat_session
    from pytest_infergate.report import case_listing

    write_output(case_listing.listing(flat_session(read_sessions(files)), pattern or "", sort), None)


@click.command(
    "export",
    epilog=examples(
        "infergate export results.json --format customSmallerIsBetter -o benchmark.json",
        "infergate export results.json --format openmetrics --metric p95_ms --metric throughput_per_s",
    ),
)
@FILES
@click.option(
    "--format",
    "form",
    required=True,
    metavar="FORMAT",
    help="customSmallerIsBetter or customBiggerIsBetter (github-action-benchmark), bmf (Bencher), "
    "pytest-benchmark, csv, or openmetrics.",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME",
    help="A metric, named as in a budget, or accuracy; may be repeated (default: p50_ms, p95_ms, "
    "peak_memory_mb, and those of streams and accuracy).",
)
@click.option("--timestamps", is_flag=True, help="Give the samples of openmetrics the time of their run.")
@OUTPUT
def export_command(
    files: tuple[Path, ...], form: str, metrics: tuple[str, ...], output: Path | None, *, timestamps: bool
) -> None:
    """Write results in the format of another tool."""
    from pytest_infergate.core.domain.spelling import not_one_of
    from pytest_infergate.report.exports import EXPORT_FORMATS, rendered_export

    if form not in EXPORT_FORMATS:
        raise ConfigurationError(not_one_of("--format", form, EXPORT_FORMATS))
    keep_inputs(files, output)
    write_output(rendered_export(read_sessions(files), form, metrics, timestamps=timestamps), output)


@click.command(
    "import",
    epilog=examples(
        "pytest --benchmark-json=benchmark.json",
        "infergate import benchmark.json -o results.json",
    ),
)
@click.argument("file", type=_FILE)
@output_option("Results file to write.", required=True)
@click.option("--device", default="cpu", show_default=True, help="Device that the benchmarks ran on.")
def import_results_command(file: Path, output: Path, device: str) -> None:
    """Turn the JSON of pytest-benchmark into a results file.

    The times of single rounds must be in the file, as --benchmark-json and --benchmark-save-data write them.
    """
    from pytest_infergate.report.results_json import render_results
    from pytest_infergate.storage.pytest_benchmark_file import parse_pytest_benchmark

    keep_inputs([file], output)
    session: Session = parse_pytest_benchmark(file.read_bytes(), str(file), device)
    write_output(render_results(session), output)
