"""Commands on baselines: list, show, accept, prune, export and import."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from pytest_infergate.cli.command_line import NAME_PATTERN, CommandGroup
from pytest_infergate.cli.console import echo
from pytest_infergate.cli.examples import examples
from pytest_infergate.core.domain.units import plural
from pytest_infergate.errors import ConfigurationError

if TYPE_CHECKING:
    from pytest_infergate.core.domain.records import Baseline, BaselineCase
    from pytest_infergate.storage.baseline_store import Store

_BASELINE: Final = click.option(
    "--baseline",
    "place",
    metavar="PLACE",
    default=".infergate/baselines",
    show_default=True,
    help="Folder or address of the baselines.",
)


@click.group(
    "baseline",
    cls=CommandGroup,
    invoke_without_command=True,
    epilog=examples(
        "infergate baseline list",
        'infergate baseline accept -k embedder --reason "larger vocabulary"',
    ),
)
@click.pass_context
def baseline_command(context: click.Context) -> None:
    """Look at recorded baselines, accept changes, and copy them."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@baseline_command.command(
    "list",
    epilog=examples("infergate baseline list", "infergate baseline list --baseline s3://bucket/history"),
)
@_BASELINE
@NAME_PATTERN
def list_baseline_command(place: str, pattern: str) -> None:
    """List the recorded cases of each hardware class, with their median over the last sessions."""
    from pytest_infergate.report.baseline_text import baseline_table

    echo(baseline_table([(baseline, entries) for baseline, entries in _selected(place, pattern)]))


@baseline_command.command(
    "show",
    epilog=examples(
        "infergate baseline show -k embedder", "infergate baseline show --baseline sqlite:///history.db"
    ),
)
@_BASELINE
@NAME_PATTERN
def show_baseline_command(place: str, pattern: str) -> None:
    """Show every recorded session of cases, their anchor, and what was accepted."""
    from pytest_infergate.report.baseline_text import baseline_details

    echo("\n\n".join(baseline_details(baseline, entries) for baseline, entries in _selected(place, pattern)))


@baseline_command.command(
    "accept",
    epilog=examples(
        'infergate baseline accept -k test_embedder --reason "larger vocabulary"',
        'infergate baseline accept --reason "torch 2.14" --baseline s3://bucket/history',
    ),
)
@_BASELINE
@NAME_PATTERN
@click.option("--reason", required=True, help="Why the change is accepted.")
def accept_baseline_command(place: str, pattern: str, reason: str) -> None:
    """Accept a change of cases: later runs are not compared with what was recorded before.

    A new segment begins. Record the next session with --infer-save; until then, the cases have no baseline.
    """
    from datetime import datetime, timezone

    import msgspec

    from pytest_infergate.core.domain.records import AcceptedChange

    if not reason.strip():
        raise ConfigurationError("--reason must not be empty. Hint: say why the cases changed")
    change = AcceptedChange(
        created=datetime.now(timezone.utc).isoformat(timespec="milliseconds"), reason=reason.strip()
    )
    store = _store(place)
    for baseline, entries in _selected(place, pattern):
        accepted = tuple(
            msgspec.structs.replace(entry, sessions=(), anchor=(), accepted=(change,)) for entry in entries
        )
        store.record(msgspec.structs.replace(baseline, cases=accepted, packages={}))
        for entry in entries:
            echo(f"accepted {entry.case.name} on {baseline.hardware.text}: {change.reason}")


@baseline_command.command(
    "prune",
    epilog=examples(
        "infergate baseline prune -k test_old", "infergate baseline prune --before 2026-01-01 -k embedder"
    ),
)
@_BASELINE
@NAME_PATTERN
@click.option("--before", metavar="DATE", help="Remove only cases whose last session is before this date.")
@click.option("--dry-run", is_flag=True, help="Show what would be removed, and remove nothing.")
def prune_baseline_command(place: str, pattern: str, before: str | None, *, dry_run: bool) -> None:
    """Remove cases from baselines in a folder. A history is append-only, so nothing is removed from one."""
    from datetime import date

    from pytest_infergate.history.locations import is_history
    from pytest_infergate.storage.baseline_files import FileStore

    if is_history(place):
        raise ConfigurationError(
            "a history is append-only: nothing is removed from it. Hint: cases not measured any more "
            "do not count, and a change is accepted with infergate baseline accept"
        )
    if not pattern and before is None:
        raise ConfigurationError("prune needs -k or --before, or it would remove everything")
    try:
        limit = "9999" if before is None else date.fromisoformat(before).isoformat()
    except ValueError:
        raise ConfigurationError(f"--before must be a date like 2026-01-31, got {before!r}") from None
    store = FileStore(place)
    for baseline, entries in list(_selected(place, pattern)):
        gone = [
            entry for entry in entries if max((point.created for point in entry.sessions), default="") < limit
        ]
        if not dry_run:
            store.remove(baseline.hardware.id, [entry.case for entry in gone])
        for entry in gone:
            echo(f"{'would remove' if dry_run else 'removed'} {entry.case.name} on {baseline.hardware.text}")


@baseline_command.command(
    "export",
    epilog=examples(
        "infergate baseline export s3://bucket/history",
        "infergate baseline export copy --baseline sqlite:///history.db",
    ),
)
@click.argument("target")
@_BASELINE
def export_baseline_command(target: str, place: str) -> None:
    """Copy the baselines to another place, where they are merged with what is there."""
    _copy(_store(place), place, _store(target), target)


@baseline_command.command(
    "import",
    epilog=examples(
        "infergate baseline import s3://bucket/history", "infergate baseline import results.json"
    ),
)
@click.argument("source")
@_BASELINE
def import_baseline_command(source: str, place: str) -> None:
    """Merge the baselines of another place, or the times of a results file, into the baselines.

    Of a results file, cases that failed or were disturbed are left out, as with --infer-save.
    """
    if not Path(source).is_file():
        _copy(_store(source), source, _store(place), place)
        return
    from pytest_infergate.cli.results_files import read_sessions
    from pytest_infergate.core.gate.baseline import baselines_from_results, disturbed_results

    store = _store(place)
    for session in read_sessions([Path(source)]):
        if session.against is not None:
            raise ConfigurationError(
                f"{source}: the times of a paired run are valid for its two sides only. Hint: measure "
                "without --infer-against"
            )
        failed = {verdict.case for verdict in session.gate.verdicts if verdict.failed}
        disturbed = {result.case for result in disturbed_results(session.cases)}
        sound = [result for result in session.cases if result.case not in failed | disturbed]
        made = baselines_from_results(sound, session.created, session.environment.packages)
        for baseline in made.values():
            store.record(baseline)
            echo(f"recorded {plural(len(baseline.cases), 'case')} on {baseline.hardware.text} into {place}")
        left = len(session.cases) - sum(len(baseline.cases) for baseline in made.values())
        if left:
            echo(f"left out {plural(left, 'case')} that failed, were disturbed or have no times")


def _store(place: str) -> Store:
    from pytest_infergate.history.locations import is_history
    from pytest_infergate.storage.baseline_files import FileStore

    if is_history(place):
        from pytest_infergate.config.toml import project_name
        from pytest_infergate.history.history_baselines import opened_baselines

        return opened_baselines(place, Path.cwd(), project_name(Path.cwd()))
    if "://" in place or not place.strip():
        from pytest_infergate.history.locations import open_store

        open_store(place, Path.cwd())  # it says what is wrong with the address
    return FileStore(place)


def _selected(place: str, pattern: str) -> Iterator[tuple[Baseline, list[BaselineCase]]]:
    """Yield each baseline with those of its cases that match. Raises `ConfigurationError` if none does."""
    from pytest_infergate.core.domain.addresses import without_secrets
    from pytest_infergate.report.case_listing import name_matches
    from pytest_infergate.storage.baseline_store import load_all

    found = False
    for baseline in load_all(_store(place)).values():
        entries = [entry for entry in baseline.cases if name_matches(entry.case.name, pattern)]
        if entries:
            found = True
            yield baseline, entries
    if not found:
        what = f"case that matches {pattern!r}" if pattern else "case"
        raise ConfigurationError(
            f"{without_secrets(place)} has no {what}. Hint: record one with --infer-save, or see --baseline"
        )


def _copy(source: Store, where: str, target: Store, to: str) -> None:
    from pytest_infergate.core.domain.addresses import without_secrets
    from pytest_infergate.storage.baseline_store import load_all

    found = load_all(source)
    if not found:
        raise ConfigurationError(
            f"{without_secrets(where)} has no baseline. Hint: record one with --infer-save"
        )
    for baseline in found.values():
        target.record(baseline)
        cases = plural(len(baseline.cases), "case")
        echo(f"copied {cases} on {baseline.hardware.text} to {without_secrets(to)}")
