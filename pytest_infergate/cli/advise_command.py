"""The ``advise`` command: options become a question about results, and the answers are rendered."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypedDict

import click

from pytest_infergate.cli.results_files import FILES, OUTPUT, keep_inputs, read_sessions, write_output
from pytest_infergate.errors import ConfigurationError

if TYPE_CHECKING:
    from pytest_infergate.advising.advise import ModelOffers
    from pytest_infergate.config.toml import Pricing
    from pytest_infergate.core.advice.demand import Backlog
    from pytest_infergate.core.advice.planning import Question
    from pytest_infergate.core.domain.advice_values import Recommendations
    from pytest_infergate.core.domain.instance_types import Instance
    from pytest_infergate.core.domain.outcome import Session

DEVICE_KINDS: Final = ("cpu", "cuda", "mps", "xpu")
"""Devices that may be given a price although none of the results is of one."""


class AdviseOptions(TypedDict):
    """Options of the command as click parses them; ``None`` where not given."""

    demand: str | None
    streams: int | None
    items: str | None
    deadline: str | None
    limit_ms: float | None
    utilisation: float | None
    min_instances: int
    day: str | None
    scale_up: str | None
    grid: str
    instances: tuple[str, ...]
    usd_per_hour: tuple[str, ...]
    prices: Path | None
    region: str | None


@click.command("advise")
@FILES
@click.option("--demand", metavar="RATE", help="Requests that arrive: 50/s, 3/min, 30/s:periodic.")
@click.option("--streams", type=click.IntRange(min=1), help="Streams of a periodic demand, such as cameras.")
@click.option("--items", metavar="COUNT", help="Items of a backlog, in place of a demand: 1e6.")
@click.option("--deadline", metavar="TIME", help="When the backlog must be done: 2h.")
@click.option(
    "--p95-ms", "limit_ms", type=float, metavar="MS", help="95 % of requests are to be answered within."
)
@click.option(
    "--utilisation",
    type=float,
    default=None,
    help="Share of its capacity that a machine may use. [default: 0.6]",
)
@click.option(
    "--min-instances",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Instances that run whatever the demand is.",
)
@click.option(
    "--day",
    metavar="24 NUMBERS",
    help="Demand of each hour of a day, of which --demand is the peak: 2,1,...,9.",
)
@click.option(
    "--scale-up", metavar="TIME", help="From the order of a machine until it serves. [default: 5min]"
)
@click.option(
    "--grid", default="world", show_default=True, help="Whose electricity CO2e is told of: DEU, FRA, USA."
)
@click.option(
    "--instance",
    "instances",
    multiple=True,
    metavar="DEVICE=NAME",
    help="What a measured machine is: cpu=c7i.xlarge. Device, or the beginning of a hardware class.",
)
@click.option(
    "--price", "usd_per_hour", multiple=True, metavar="DEVICE=USD", help="What an own machine costs an hour."
)
@click.option(
    "--prices", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Table of own prices."
)
@click.option("--region", default=None, help="Region of prices that are looked up by class.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "markdown", "json", "html"]),
    default="text",
    show_default=True,
)
@OUTPUT
def advise_command(files: tuple[Path, ...], form: str, output: Path | None, **options: Any) -> None:
    """Say where each model should run for a demand, and what that costs."""
    from pytest_infergate.report.sanitize import without_commands

    keep_inputs(files, output)
    content = advice_content(read_sessions(files), form, AdviseOptions(**options))  # type: ignore[typeddict-item]
    write_output(without_commands(content) if form in ("text", "markdown") else content, output)


def advice_content(sessions: Sequence[Session], form: str, options: AdviseOptions) -> str:
    """Answer in a form: ``text``, ``markdown``, ``json`` or ``html``.

    Raises `ConfigurationError` for what cannot be asked, or answered with these results; `StorageError` for
    a table of prices that cannot be read.
    """
    from pytest_infergate.advising import advise
    from pytest_infergate.config.toml import pricing_of
    from pytest_infergate.core.advice.demand import Backlog
    from pytest_infergate.report import advice_pages
    from pytest_infergate.report.results import formatted_json

    configured, utilisation = pricing_of(Path.cwd()), options["utilisation"]
    if utilisation is not None and not 0 < utilisation <= 1:
        raise ConfigurationError(
            f"--utilisation: {utilisation:g} is no share above 0 and up to 1, such as 0.6"
        )
    pricing = dataclasses.replace(
        configured,
        table=configured.table if options["prices"] is None else options["prices"],
        utilisation=configured.utilisation if utilisation is None else utilisation,
        regions=configured.regions if options["region"] is None else (options["region"],),
    )
    asked = _question(options, pricing.utilisation)
    offers = _offers(sessions, options, pricing)
    advise.require_offers(offers)
    if not isinstance(asked, Backlog):
        return _rendered(advise.answer_questions(offers, dict.fromkeys(offers, asked)), sessions, form)
    with _naming("--deadline"):
        jobs = advise.plan_backlogs(asked, offers)
    if form == "json":
        return formatted_json({"items": asked.items, "deadline": asked.deadline, "jobs": jobs})
    if form != "text":
        raise ConfigurationError(f"--format: a backlog is told as text or json, not as {form}")
    return "\n\n".join(advice_pages.backlog_text(asked, found, model) for model, found in jobs.items())


@contextmanager
def _naming(option: str) -> Iterator[None]:
    """Turn the error of a parser into one that names the option."""
    try:
        yield
    except ValueError as error:
        raise ConfigurationError(f"{option}: {error}") from None


def _question(options: AdviseOptions, utilisation: float) -> Question | Backlog:
    """Parse what is to be served. Raises `ConfigurationError` that names the option."""
    from pytest_infergate.core.advice.demand import parse_backlog, parse_day, parse_demand
    from pytest_infergate.core.advice.planning import Question
    from pytest_infergate.core.domain import energy, units
    from pytest_infergate.core.domain.advice_values import SCALE_UP

    demand, items, limit_ms = options["demand"], options["items"], options["limit_ms"]
    if demand is not None and items is not None:
        raise ConfigurationError("--demand and --items exclude each other: what arrives, or what lies there")
    if limit_ms is not None and not 0 < limit_ms < math.inf:
        raise ConfigurationError(f"--p95-ms: {limit_ms:g} is no number of milliseconds above 0, such as 100")
    if items is not None:
        if options["deadline"] is None:
            raise ConfigurationError("--items needs a --deadline, such as 2h")
        with _naming("--items, --deadline"):
            return parse_backlog(items, options["deadline"])
    if demand is None:
        raise ConfigurationError("say what is to be served: --demand 50/s, or --items 1e6 --deadline 2h")
    if options["day"] is None and options["scale_up"] is not None:
        raise ConfigurationError("--scale-up: machines come and go only where --day says when")
    grid = options["grid"]
    if grid not in energy.GRID:
        raise ConfigurationError(f"--grid: no factor of {grid!r} is known, only of {', '.join(energy.GRID)}")
    with _naming("--demand"):
        arriving = parse_demand(demand, options["streams"])
    with _naming("--day"):
        day = () if options["day"] is None else parse_day(options["day"])
    with _naming("--scale-up"):
        scale_up = SCALE_UP if options["scale_up"] is None else units.parse_duration(options["scale_up"])
    return Question(
        demand=arriving,
        limit=None if limit_ms is None else limit_ms / 1e3,
        utilisation=utilisation,
        min_instances=options["min_instances"],
        day=day,
        scale_up=scale_up,
        grid=grid,
    )


def _offers(sessions: Sequence[Session], options: AdviseOptions, pricing: Pricing) -> dict[str, ModelOffers]:
    """Price the deployments of the results on the machines that project and command line name."""
    from pytest_infergate.advising import advise
    from pytest_infergate.core.advice import deployments, priced_deployments
    from pytest_infergate.core.domain.instance_types import MAX_USD_PER_HOUR
    from pytest_infergate.runner.price_lookup import PriceList

    known = PriceList(pricing).instances
    named = {
        machine: advise.named_machine(name, known, "--instance")
        for machine, name in _pairs(options["instances"], "--instance", "cpu=c7i.xlarge")
    }
    owned: dict[str, Instance] = {}
    for machine, text in _pairs(options["usd_per_hour"], "--price", "cpu=1.20"):
        try:
            price = float(text)
        except ValueError:
            price = math.nan
        if not 0 < price <= MAX_USD_PER_HOUR:
            raise ConfigurationError(f"--price: {text!r} is no price in USD an hour, such as 1.20")
        owned[machine] = advise.own_machine(machine, price)
    measured = dict.fromkeys(
        name for one in deployments.deployments(sessions) for name in priced_deployments.machine_names(one)
    )
    for option, machine in [*(("--instance", one) for one in named), *(("--price", one) for one in owned)]:
        kind = machine.partition(":")[0]
        if measured and kind not in DEVICE_KINDS and not any(name.startswith(machine) for name in measured):
            raise ConfigurationError(
                f"{option}: {machine!r} is no machine that was measured: {', '.join(measured)}"
            )
    configured = advise.configured_machines(pricing.instances, known)
    return advise.price_models(sessions, known, {**configured, **named, **owned})


def _pairs(texts: Iterable[str], option: str, example: str) -> Iterator[tuple[str, str]]:
    """Split ``DEVICE=VALUE``."""
    for text in texts:
        machine, equals, value = (part.strip() for part in text.partition("="))
        if not (machine and equals and value):
            raise ConfigurationError(f"{option}: {text!r} is not such as {example}")
        yield machine, value


def _rendered(given: Recommendations, sessions: Sequence[Session], form: str) -> str:
    from pytest_infergate.report import advice_pages
    from pytest_infergate.report.advice import ASSUMPTIONS
    from pytest_infergate.report.results import formatted_json

    if form == "json":
        return formatted_json(
            {"answers": given.answers, "assumed": ASSUMPTIONS, "unanswered": given.unanswered}
        )
    if form == "html":
        import msgspec

        from pytest_infergate.core.gate.merge import flat_session
        from pytest_infergate.report.html import render_html

        page = msgspec.structs.replace(flat_session(sessions), advice=given)
        return render_html(page, leading=True)
    return advice_pages.advice_markdown(given) if form == "markdown" else advice_pages.advice_text(given)
