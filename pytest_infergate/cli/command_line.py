"""Commands of click whose errors say what to type instead."""

from __future__ import annotations

from typing import Final

import click

from pytest_infergate.core.domain.spelling import not_one_of

NAME_PATTERN: Final = click.option(
    "-k",
    "pattern",
    metavar="NAME",
    default="",
    help="Only cases whose name contains this text, or matches it.",
)
"""Selects cases of a history or a baseline."""


class CommandGroup(click.Group):
    """A group of commands that lists them if a name is unknown, and takes ``help`` for ``--help``."""

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Add a command with both forms of the option for help, also where its context has no parent."""
        cmd.context_settings.setdefault("help_option_names", ["-h", "--help"])
        super().add_command(cmd, name)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse ``help`` and ``help COMMAND`` as a question for help."""
        if args[:1] == ["help"]:
            args = [*args[1:], "--help"]
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command. An unknown one is a usage error with the nearest name."""
        if self.get_command(ctx, args[0]) is None:
            ctx.fail(not_one_of("the command", args[0], self.commands))
        return super().resolve_command(ctx, args)


class PytestCommand(click.Command):
    """A command that passes arguments to pytest."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse options. Where one is unknown, say how pytest gets it."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if error.possibilities:
                raise
            hint = f"Hint: pytest gets what follows --, as in {ctx.command_path} -- tests -k x"
            raise click.NoSuchOption(error.option_name, f"{error.message} {hint}", ctx=ctx) from None
