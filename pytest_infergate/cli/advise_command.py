"""The ``advise`` command: parse a question from options, answer it from results, and render the answer."""

from __future__ import annotations

import dataclasses
import math
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypedDict

import click

from pytest_infergate.cli.examples import examples
from pytest_infergate.cli.results_files import FILES, OUTPUT, keep_inputs, read_sessions, write_output
from pytest_infergate.errors import ConfigurationError

# Modules are imported when they are needed: --help and errors should not wait for them.
if TYPE_CHECKING:
    from pytest_infergate.advising.advise import ModelOffers
    from pytest_infergate.config.toml import Pricing
    from pytest_infergate.core.advice.demand import Backlog
    from pytest_infergate.core.advice.planning import Question
    from pytest_infergate.core.domain.advice_values import Recommendations
    from pytest_infergate.core.domain.instance_types import Instance
    from pytest_infergate.core.domain.outcome import Session

DEVICE_KINDS: Final = ("cpu", "cuda", "mps", "xpu")
"""Devices that may have a price although no result was measured on them."""


MIN_LIMIT_MS: Final = 1e-6
MAX_LIMIT_MS: Final = 1e12
"""Bounds of a limit, beyond which no latency lies."""
PROGRESS_SECONDS: Final = 2.0
"""Time after which a progress bar appears."""
PROGRESS_TICK: Final = 0.5
"""Seconds between two updates of the bar."""


class AdviseOptions(TypedDict):
    """Options of the command as click parses them; ``None`` if not given."""

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


@click.command(
    "advise",
    epilog=examples(
        "infergate advise results.json",
        "infergate advise cpu.json gpu.json --demand 50/s --p95-ms 100",
        "infergate advise results.json --items 1e6 --deadline 2h",
    ),
)
@FILES
@click.option(
    "--demand",
    metavar="RATE",
    help="Rate at which requests arrive: 50/s, 3/min, 30/s:periodic. [default: a table of several]",
)
@click.option(
    "--streams",
    type=click.IntRange(min=1),
    help="Number of streams of a periodic demand, for example of cameras.",
)
@click.option("--items", metavar="COUNT", help="Number of items of a backlog, instead of a demand: 1e6.")
@click.option("--deadline", metavar="TIME", help="Time within which the backlog must be finished: 2h.")
@click.option(
    "--p95-ms", "limit_ms", type=float, metavar="MS", help="Time within which 95 % of requests are answered."
)
@click.option(
    "--utilisation",
    type=float,
    default=None,
    help="Maximum utilisation of a machine, as a share of its capacity. [default: 0.6]",
)
@click.option(
    "--min-instances",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Minimum number of instances, whatever the demand is.",
)
@click.option(
    "--day",
    metavar="24 NUMBERS",
    help="Demand of each hour of a day, scaled to a peak of --demand: 2,1,...,9.",
)
@click.option(
    "--scale-up", metavar="TIME", help="Time from ordering a machine until it serves. [default: 5min]"
)
@click.option("--grid", default="world", show_default=True, help="Electricity grid for CO2e: DEU, FRA, USA.")
@click.option(
    "--instance",
    "instances",
    multiple=True,
    metavar="DEVICE=NAME",
    help="Instance type of a measured machine, by device or beginning of its hardware class: cpu=c7i.xlarge.",
)
@click.option(
    "--price", "usd_per_hour", multiple=True, metavar="DEVICE=USD", help="Price per hour of your own machine."
)
@click.option(
    "--prices", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Table of your own prices."
)
@click.option("--region", default=None, help="Use only prices of this region.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "markdown", "json", "html"]),
    default="text",
    show_default=True,
    help="Format of the advice.",
)
@OUTPUT
def advise_command(files: tuple[Path, ...], form: str, output: Path | None, **options: Any) -> None:
    """Recommend where to run each model for a demand, with the cost.

    Without a demand, a table answers for several. Machines without a price get an assumed one.
    """
    from pytest_infergate.report.sanitize import without_commands

    keep_inputs(files, output)
    # A file and a pipe have no width.
    width = shutil.get_terminal_size().columns if output is None and sys.stdout.isatty() else None
    asked = AdviseOptions(**options)  # type: ignore[typeddict-item]
    content = advice_content(read_sessions(files), form, asked, width)
    write_output(without_commands(content) if form in ("text", "markdown") else content, output)


def advice_content(sessions: Sequence[Session], form: str, options: AdviseOptions, width: int | None) -> str:
    """Render the answer as ``text``, ``markdown``, ``json`` or ``html``; text with lines of at most `width`.

    Raises `ConfigurationError` for an invalid question or one that these results cannot answer, and
    `StorageError` for a price table that cannot be read.
    """
    from pytest_infergate.advising import advise
    from pytest_infergate.config.toml import pricing_of
    from pytest_infergate.core.advice.demand import Backlog
    from pytest_infergate.core.domain.instance_types import MIN_UTILISATION
    from pytest_infergate.report import advice_pages
    from pytest_infergate.report.results_json import formatted_json

    configured, utilisation = pricing_of(Path.cwd()), options["utilisation"]
    # At a utilisation near 1, requests wait forever; the option only refuses what is impossible.
    if utilisation is not None and not MIN_UTILISATION <= utilisation <= 1:
        raise ConfigurationError(
            f"--utilisation must be {MIN_UTILISATION:g} to 1, got {utilisation:g}. Hint: try 0.6"
        )
    pricing = dataclasses.replace(
        configured,
        table=configured.table if options["prices"] is None else options["prices"],
        utilisation=configured.utilisation if utilisation is None else utilisation,
        regions=configured.regions if options["region"] is None else (options["region"],),
    )
    question = _question(options, pricing.utilisation)
    offers = _offers(sessions, options, pricing)
    advise.require_offers(offers)
    if not isinstance(question, Backlog):
        with progress(len(offers)) as finished:
            if options["demand"] is None:
                given = advise.tabulate_demands(offers, question, option="--prices", finished=finished)
            else:
                questions = dict.fromkeys(offers, question)
                given = advise.answer_questions(offers, questions, option="--prices", finished=finished)
        return _rendered(given, sessions, form, width)
    with _naming("--deadline"):
        jobs = advise.plan_backlogs(question, offers)
    notes, unanswered = advise.backlog_notes(offers), advise.unpriced_models(offers)
    if form == "json":
        work = {"items": question.items, "deadline": question.deadline}
        return formatted_json({**work, "jobs": jobs, "notes": notes, "unanswered": unanswered})
    if form != "text":
        raise ConfigurationError(f"--format must be text or json for a backlog, got {form}")
    return advice_pages.backlogs_text(question, jobs, notes, unanswered)


def advice_by_default(sessions: Sequence[Session]) -> Recommendations:
    """Answer for the demands of the tests, or if no test has one, with a table of several.

    Raises `ConfigurationError` if the sessions contain nothing to advise on, and `StorageError` for a price
    table that cannot be read.
    """
    from pytest_infergate.advising import advise
    from pytest_infergate.config.toml import pricing_of
    from pytest_infergate.core.advice.planning import Question
    from pytest_infergate.core.domain.advice_values import Demand
    from pytest_infergate.runner.price_lookup import PriceList

    pricing = pricing_of(Path.cwd())
    prices = PriceList(pricing)
    given = advise.advise_demands(sessions, prices)
    if given is not None:
        return given
    known = prices.instances
    offers = advise.price_models(sessions, known, advise.configured_machines(pricing.instances, known))
    advise.require_offers(offers)
    question = Question(demand=Demand(rate=1.0), utilisation=pricing.utilisation)
    return advise.tabulate_demands(offers, question, option="--prices")


@contextmanager
def progress(models: int) -> Iterator[Callable[[], None]]:
    """Yield a function to call after each model. If they take long, a bar shows seconds."""
    begin, ended, done = time.monotonic(), threading.Event(), 0

    def finished() -> None:
        nonlocal done
        done += 1

    def shown() -> None:
        if ended.wait(PROGRESS_SECONDS):
            return
        with click.progressbar(
            length=models, label="advising", file=sys.stderr, item_show_func=lambda seconds: seconds
        ) as bar:
            before, last = 0, False
            # Seconds go on while one model takes long.
            while not last:
                last = ended.wait(PROGRESS_TICK)
                bar.update(done - before, f"{time.monotonic() - begin:.0f} s")
                before = done

    thread = threading.Thread(target=shown, daemon=True)
    thread.start()
    try:
        yield finished
    finally:
        ended.set()
        thread.join()


@contextmanager
def _naming(option: str) -> Iterator[None]:
    """Convert the `ValueError` of a parser into an error that names the option."""
    try:
        yield
    except ValueError as error:
        raise ConfigurationError(f"{option}: {error}") from None


def _question(options: AdviseOptions, utilisation: float) -> Question | Backlog:
    """Parse the demand or the backlog. Raises `ConfigurationError` that names the option."""
    from pytest_infergate.core.advice.demand import parse_day, parse_demand
    from pytest_infergate.core.advice.planning import Question
    from pytest_infergate.core.domain import energy, units
    from pytest_infergate.core.domain.advice_values import SCALE_UP, Demand

    demand, items, limit_ms = options["demand"], options["items"], options["limit_ms"]
    if demand is not None and items is not None:
        raise ConfigurationError(
            "--demand and --items are mutually exclusive: use one for arrivals, the other for a backlog"
        )
    if limit_ms is not None and not MIN_LIMIT_MS <= limit_ms <= MAX_LIMIT_MS:
        raise ConfigurationError(
            f"--p95-ms must be {MIN_LIMIT_MS:g} to {MAX_LIMIT_MS:g}, got {limit_ms:g}. Hint: try 100"
        )
    if items is not None:
        return _backlog(items, options)
    for option in ("streams", "day"):
        if demand is None and options[option] is not None:
            raise ConfigurationError(f"--{option} requires --demand. Hint: write for example --demand 50/s")
    # An option without effect would hide a mistake.
    if options["deadline"] is not None:
        raise ConfigurationError("--deadline requires --items. Hint: --p95-ms limits the latency of a demand")
    if options["day"] is None and options["scale_up"] is not None:
        raise ConfigurationError("--scale-up requires --day. Hint: give the demand of each hour with --day")
    grid = options["grid"]
    if grid not in energy.GRID:
        raise ConfigurationError(f"--grid must be one of {', '.join(energy.GRID)}, got {grid!r}")
    with _naming("--demand"):
        # Without a demand, several are answered; this one only has the form of a demand.
        arriving = Demand(rate=1.0) if demand is None else parse_demand(demand, options["streams"])
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


def _backlog(items: str, options: AdviseOptions) -> Backlog:
    """Parse a backlog. Raises `ConfigurationError` for an option that only a demand has."""
    from pytest_infergate.core.advice.demand import parse_backlog

    if options["deadline"] is None:
        raise ConfigurationError("--items requires --deadline. Hint: write for example --deadline 2h")
    for option in ("streams", "day", "scale_up"):
        if options[option] is not None:
            flag = f"--{option.replace('_', '-')}"
            raise ConfigurationError(
                f"{flag} requires --demand. Hint: a backlog has no arrivals; leave it out"
            )
    with _naming("--items, --deadline"):
        return parse_backlog(items, options["deadline"])


def _offers(sessions: Sequence[Session], options: AdviseOptions, pricing: Pricing) -> dict[str, ModelOffers]:
    """Price the measured deployments on the machines that the project and the command line specify."""
    from pytest_infergate.advising import advise
    from pytest_infergate.core.advice import deployments, priced_deployments
    from pytest_infergate.core.domain.instance_types import MAX_USD_PER_HOUR, MIN_USD_PER_HOUR
    from pytest_infergate.runner.price_lookup import PriceList

    prices = PriceList(pricing) if options["region"] is None else PriceList(pricing, "--region")
    known = prices.instances
    named = {
        machine: advise.named_machine(name, known, "--instance")
        for machine, name in _pairs(options["instances"], "--instance", "cpu=c7i.xlarge")
    }
    own: dict[str, Instance] = {}
    for machine, text in _pairs(options["usd_per_hour"], "--price", "cpu=1.20"):
        try:
            price = float(text)
        except ValueError:
            price = math.nan
        if not MIN_USD_PER_HOUR <= price <= MAX_USD_PER_HOUR:
            raise ConfigurationError(
                f"--price must be a number of USD per hour from {MIN_USD_PER_HOUR:f} to "
                f"{MAX_USD_PER_HOUR:,.0f}, got {text!r}. Hint: write for example cpu=1.20"
            )
        own[machine] = advise.own_machine(machine, price)
    measured = dict.fromkeys(
        name
        for deployment in deployments.deployments(sessions)
        for name in priced_deployments.machine_names(deployment)
    )
    specified = [*(("--instance", machine) for machine in named), *(("--price", machine) for machine in own)]
    for option, machine in specified:
        kind = machine.partition(":")[0]
        # A misspelt device would otherwise have no effect, and its machine no price.
        if measured and kind not in DEVICE_KINDS and not any(name.startswith(machine) for name in measured):
            raise ConfigurationError(
                f"{option}: {machine!r} does not match any measured machine. "
                f"Hint: known are {', '.join(measured)}"
            )
    configured = advise.configured_machines(pricing.instances, known)
    # Later entries take precedence: the command line over the project, and a price over an instance type.
    return advise.price_models(sessions, known, {**configured, **named, **own})


def _pairs(texts: Iterable[str], option: str, example: str) -> Iterator[tuple[str, str]]:
    """Split ``DEVICE=VALUE``."""
    for text in texts:
        machine, equals, value = (part.strip() for part in text.partition("="))
        if not (machine and equals and value):
            raise ConfigurationError(
                f"{option} must be DEVICE=VALUE, got {text!r}. Hint: write for example {example}"
            )
        yield machine, value


def _rendered(given: Recommendations, sessions: Sequence[Session], form: str, width: int | None) -> str:
    from pytest_infergate.report import advice_pages
    from pytest_infergate.report.advice import ASSUMPTIONS
    from pytest_infergate.report.results_json import formatted_json

    if form == "json":
        return formatted_json(
            {
                "answers": given.answers,
                "assumed": ASSUMPTIONS,
                "unanswered": given.unanswered,
                "tables": given.tables,
            }
        )
    if form == "html":
        import msgspec

        from pytest_infergate.core.gate.merge import flat_session
        from pytest_infergate.report.html import render_html

        # Advice of a stored run answers the question of that run, not this one.
        page = msgspec.structs.replace(flat_session(sessions), advice=given)
        return render_html(page, leading=True)
    if form == "markdown":
        return advice_pages.advice_markdown(given)
    return advice_pages.advice_text(given, width)
