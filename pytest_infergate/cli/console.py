"""What the commands print: text that neither a terminal nor a CI runner obeys."""

from __future__ import annotations

import click


def echo(text: str, *, err: bool = False) -> None:
    """Print a text that ends its last line, without commands that a CI runner would obey."""
    # Imported here, because --help should not wait for it.
    from pytest_infergate.report.sanitize import without_commands

    click.echo(without_commands(text), err=err, nl=not text.endswith("\n"))
