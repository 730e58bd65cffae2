"""Commands for price tables: list, import and refresh."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pytest_infergate.cli.command_line import CommandGroup
from pytest_infergate.cli.console import echo
from pytest_infergate.cli.examples import examples
from pytest_infergate.cli.results_files import output_option

if TYPE_CHECKING:
    from pytest_infergate.core.domain.instance_types import Instance
    from pytest_infergate.core.domain.values import Note

_REGIONS = click.option(
    "--region", "regions", multiple=True, metavar="NAME", help="Only this region; may be repeated."
)
_TABLE = output_option("Price table to write, as CSV.", required=True)


@click.group(
    "prices",
    cls=CommandGroup,
    invoke_without_command=True,
    epilog=examples(
        "infergate prices list --accelerator L4",
        "infergate prices refresh --provider aws -o prices.csv",
    ),
)
@click.pass_context
def prices_command(context: click.Context) -> None:
    """List prices of machines, or write a price table."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@prices_command.command(
    "list",
    epilog=examples(
        "infergate prices list",
        "infergate prices list --accelerator A100-80GB --region us-east-1",
        "infergate prices list --prices prices.csv",
    ),
)
@click.option("--accelerator", metavar="NAME", help="Only machines with this accelerator: L4, A100-80GB.")
@_REGIONS
@click.option(
    "--prices",
    "files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Table of your own prices, which take precedence over the included ones; may be repeated.",
)
def list_command(accelerator: str | None, regions: tuple[str, ...], files: tuple[Path, ...]) -> None:
    """List the known prices, in US dollars per hour."""
    from pytest_infergate.core.domain import instance_types
    from pytest_infergate.report.price_table import price_table
    from pytest_infergate.storage.prices import load_prices, today

    known, notes = load_prices(files)
    selected = _selected(known, accelerator, regions)
    ordered = sorted(
        selected,
        key=lambda instance: (
            instance.accelerator or "",
            instance.accelerator_count,
            instance.usd_per_hour,
        ),
    )
    echo(price_table(ordered))
    old = instance_types.stale_price_note(selected, today(), "--prices")
    _show_notes((*notes, *(() if old is None else (old,))))


@prices_command.command(
    "import",
    epilog=examples(
        "infergate prices import offers.csv -o prices.csv",
        "infergate prices import offers.csv --provider aws --as-of 2026-07-20 -o prices.csv",
    ),
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--provider", metavar="NAME", help="Provider of rows that do not name one.")
@click.option("--as-of", metavar="DAY", help="Date of rows that do not have one: 2026-07-20.")
@_REGIONS
@_TABLE
def import_command(
    file: Path, provider: str | None, as_of: str | None, regions: tuple[str, ...], output: Path
) -> None:
    """Write a price table from a catalogue.

    FILE is a CSV file of another tool with one row per offer.
    """
    from pytest_infergate.storage.price_catalogues import import_catalog

    _write_table(import_catalog(file, provider, as_of or ""), regions, output)


@prices_command.command(
    "refresh",
    epilog=examples(
        "infergate prices refresh -o prices.csv",
        "infergate prices refresh --provider gcp --region us-central1 -o prices.csv",
    ),
)
@click.option(
    "--provider", "providers", multiple=True, metavar="NAME", help="Only this provider; may be repeated."
)
@_REGIONS
@_TABLE
def refresh_command(providers: tuple[str, ...], regions: tuple[str, ...], output: Path) -> None:
    """Write a price table of current prices from the network.

    Requires pip install 'pytest-infergate[prices]'.
    """
    from pytest_infergate.storage.price_catalogues import PROVIDERS, refresh

    _write_table(refresh(providers or PROVIDERS), regions, output)


def _write_table(
    catalog: tuple[tuple[Instance, ...], tuple[Note, ...]], regions: Sequence[str], output: Path
) -> None:
    from pytest_infergate.core.domain.units import plural
    from pytest_infergate.report.sanitize import plain
    from pytest_infergate.storage.prices import write_prices

    instances, notes = catalog
    selected = _selected(instances, None, regions)
    write_prices(output, selected)
    _show_notes(notes)
    echo(f"wrote {plain(str(output))}: {plural(len(selected), 'instance')}", err=True)


def _selected(
    instances: Iterable[Instance], accelerator: str | None, regions: Sequence[str]
) -> tuple[Instance, ...]:
    from pytest_infergate.core.domain import instance_types
    from pytest_infergate.errors import ConfigurationError

    try:
        return instance_types.select_instances(instances, accelerator, regions)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def _show_notes(notes: Iterable[Note]) -> None:
    from pytest_infergate.report.sanitize import plain

    for note in notes:
        echo(f"note: {plain(str(note))}", err=True)
