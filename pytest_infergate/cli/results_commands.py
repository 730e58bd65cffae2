"""Commands on results files: merge, gate, report, replay and schema."""

from __future__ import annotations

from pathlib import Path

import click

from pytest_infergate.cli.examples import examples
from pytest_infergate.cli.exit_codes import gate_exit_code
from pytest_infergate.cli.results_files import (
    FILES,
    OUTPUT,
    keep_inputs,
    merged_document,
    output_option,
    read_sessions,
    write_output,
)


@click.command(
    "merge",
    epilog=examples(
        "infergate merge cpu.json gpu.json -o all.json",
        "infergate merge cpu.json gpu.json > all.json",
    ),
)
@FILES
@OUTPUT
def merge_command(files: tuple[Path, ...], output: Path | None) -> None:
    """Merge results of several machines into one file. Order and repetition do not matter."""
    write_output(merged_document(files), output)


@click.command(
    "gate",
    epilog=examples(
        "infergate gate results.json",
        "infergate gate cpu.json gpu.json",
    ),
)
@FILES
def gate_command(files: tuple[Path, ...]) -> int:
    """Decide about the results of several machines together.

    The exit code is 1 if a case failed, and 2 if there are cases but none was decided.
    """
    from pytest_infergate.core.gate.merge import flat_session
    from pytest_infergate.report import text

    session = flat_session(read_sessions(files))
    # The summary is the same as at the end of a run.
    write_output(text.terminal_summary(session), None)
    return gate_exit_code(session.gate)


@click.command(
    "report",
    epilog=examples(
        "infergate report results.json",
        "infergate report cpu.json gpu.json -o machines.html",
    ),
)
@FILES
@output_option("File to write.", default=Path("report.html"), show_default=True)
def report_command(files: tuple[Path, ...], output: Path) -> None:
    """Write an HTML page with the results of one or more machines."""
    from pytest_infergate.core.gate.merge import flat_session
    from pytest_infergate.report import html

    keep_inputs(files, output)
    write_output(html.render_html(flat_session(read_sessions(files))), output)


@click.command(
    "replay",
    epilog=examples(
        "pytest --infer-against=main --infer-paired-data=paired.jsonl",
        "infergate replay paired.jsonl",
    ),
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def replay_command(file: Path) -> int:
    """Decide a paired run again, without measuring.

    FILE is written by --infer-paired-data. The exit code is 1 if a case fails, and 2 if there are cases but
    none was decided.
    """
    from pytest_infergate.cli.replay import decide_again
    from pytest_infergate.report import text
    from pytest_infergate.storage.paired_data import read_paired_data

    session = decide_again(read_paired_data(file))
    write_output(text.terminal_summary(session), None)
    return gate_exit_code(session.gate)


@click.command(
    "schema",
    epilog=examples(
        "infergate schema > results.schema.json",
        "infergate schema baseline > baseline.schema.json",
    ),
)
@click.argument("what", type=click.Choice(["results", "baseline"]), default="results")
def schema_command(what: str) -> None:
    """Print the JSON Schema of results files (default) or baseline files."""
    if what == "results":
        from pytest_infergate.report.results_json import results_schema as schema
    else:
        from pytest_infergate.storage.baseline_format import baseline_schema as schema
    click.echo(schema(), nl=False)
