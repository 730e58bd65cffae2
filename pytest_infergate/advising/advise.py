"""The `advise` command: options become a question, results become answers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from pytest_infergate.config.toml import Pricing, pricing_of
from pytest_infergate.core.advice import demand as demands
from pytest_infergate.core.advice import deployments, recommendation
from pytest_infergate.core.advice.demand import Backlog
from pytest_infergate.core.advice.deployments import Deployment, PricedDeployment
from pytest_infergate.core.advice.planning import Question
from pytest_infergate.core.domain import energy, instance_types, units
from pytest_infergate.core.domain.advice_values import SCALE_UP, Advice, Demand
from pytest_infergate.core.domain.instance_types import Instance
from pytest_infergate.core.domain.model import Note
from pytest_infergate.core.domain.outcome import CaseResult, Session
from pytest_infergate.core.gate.merge import flat_session
from pytest_infergate.errors import ConfigurationError
from pytest_infergate.runner.price_lookup import PriceList
from pytest_infergate.storage.prices import today

KINDS = ("cpu", "cuda", "mps", "xpu")
"""Devices that may be given a price although none was measured."""
OWN = "own"
"""Provider of machines that the user has, at a price that the user says."""

Offered = Mapping[str, tuple[tuple[PricedDeployment, ...], tuple[Note, ...]]]
"""By model: machines that it can run on, and what was left out."""


class Answers(NamedTuple):
    """What can be answered, and what must be known for the rest."""

    given: tuple[Advice, ...] = ()
    unanswered: Mapping[str, tuple[Note, ...]] = {}
    """By model."""


def answered(  # noqa: PLR0913 - an option each
    sessions: Sequence[Session],
    form: str,
    *,
    demand: str | None = None,
    streams: int | None = None,
    items: str | None = None,
    deadline: str | None = None,
    limit_ms: float | None = None,
    utilisation: float | None = None,
    min_instances: int = 1,
    day: str | None = None,
    scale_up: str | None = None,
    grid: str = "world",
    instances: Iterable[str] = (),
    usd_per_hour: Iterable[str] = (),
    prices: Path | None = None,
    region: str | None = None,
) -> str:
    """Answer in a form, ``text``, ``markdown``, ``json`` or ``html``.

    Raises `ConfigurationError` for what cannot be asked, or answered with these results; `StorageError` for
    a table of prices that cannot be read.
    """
    asked = _asked(demand, streams, items, deadline)
    limit = _limit(limit_ms)
    hours, ahead = _hours(day, scale_up)
    pricing = _pricing(utilisation, prices, region)
    known = PriceList(pricing).instances
    said = {"--instance": _named(instances, known), "--price": _priced(usd_per_hour)}
    _check_machines(said, deployments.deployments(sessions))
    told = {**_standing(pricing.instances, known), **said["--instance"], **said["--price"]}
    offered = _offered(sessions, known, told)
    if isinstance(asked, Backlog):
        return _backlogs(asked, offered, form)
    question = Question(
        demand=asked,
        limit=limit,
        utilisation=pricing.utilisation,
        least=min_instances,
        day=hours,
        scale_up=ahead,
        grid=_grid(grid),
    )
    return _rendered(_answers(offered, dict.fromkeys(offered, question)), sessions, form)


def advised(session: Session, prices: PriceList, asked: Demand | None) -> Answers:
    """Advice beside the report of a run: for each model with a demand and a machine with a price.

    `asked` holds for every model; without it each has the demand of its own test. No limit is asked for: a
    budget's p95 is that of a single caller. Times of a paired run hold for its workers alone: no advice.
    """
    if session.against is not None:
        return Answers()
    own = {deployments.model_name(one.case): one for one in session.cases if one.demand or asked is not None}
    if not own:
        return Answers()
    known, said = prices.instances, prices.pricing
    offered = _by_model([session], known, _standing(said.instances, known))
    wanted = {
        model: Question(demand=asked or _demanded(case), utilisation=said.utilisation)
        for model, case in own.items()
    }
    return _answers(offered, wanted)


def _demanded(result: CaseResult) -> Demand:
    """What the test of a case says is to be served."""
    if result.demand is None:
        raise ValueError(f"{result.nodeid} has no demand")
    if result.streams is None:
        return Demand(rate=result.demand)
    return Demand(rate=result.demand, pattern="periodic", streams=result.streams)


def _answers(offered: Offered, wanted: Mapping[str, Question]) -> Answers:
    """Answer for every model that is asked for and has a machine with a price."""
    asked = {model: found for model, found in offered.items() if model in wanted}
    return Answers(
        tuple(
            recommendation.advise(wanted[model], made, (*notes, *_doubts(made)))
            for model, (made, notes) in asked.items()
            if made
        ),
        {model: notes for model, (made, notes) in asked.items() if not made},
    )


def _pricing(utilisation: float | None, prices: Path | None, region: str | None) -> Pricing:
    """What the project says of prices, and the command over it."""
    if utilisation is not None and not 0 < utilisation <= 1:
        raise ConfigurationError(
            f"--utilisation: {utilisation:g} is no share above 0 and up to 1, such as 0.6"
        )
    said = pricing_of(Path.cwd())
    return dataclasses.replace(
        said,
        table=said.table if prices is None else prices,
        utilisation=said.utilisation if utilisation is None else utilisation,
        regions=said.regions if region is None else (region,),
    )


def _doubts(found: Iterable[PricedDeployment]) -> tuple[Note, ...]:
    """What makes the prices that were used doubtful."""
    used = [priced.instance for priced in found if priced.instance.provider != OWN]
    old = instance_types.stale_price_note(used, today())
    return () if old is None else (old,)


def _asked(
    demand: str | None, streams: int | None, items: str | None, deadline: str | None
) -> Demand | Backlog:
    if demand is not None and items is not None:
        raise ConfigurationError("--demand and --items exclude each other: what arrives, or what lies there")
    try:
        if items is not None:
            if deadline is None:
                raise ConfigurationError("--items needs a --deadline, such as 2h")
            return demands.parse_backlog(items, deadline)
        if demand is None:
            raise ConfigurationError("say what is to be served: --demand 50/s, or --items 1e6 --deadline 2h")
        return demands.parse_demand(demand, streams)
    except ValueError as error:
        option = "--items, --deadline" if items is not None else "--demand"
        raise ConfigurationError(f"{option}: {error}") from None


def _limit(milliseconds: float | None) -> float | None:
    if milliseconds is not None and not 0 < milliseconds < math.inf:
        raise ConfigurationError(
            f"--p95-ms: {milliseconds:g} is no number of milliseconds above 0, such as 100"
        )
    return None if milliseconds is None else milliseconds / 1e3


def _hours(day: str | None, scale_up: str | None) -> tuple[tuple[float, ...], float]:
    """Shares of the peak by the hour, and seconds from the order of a machine until it serves."""
    if day is None and scale_up is not None:
        raise ConfigurationError("--scale-up: machines come and go only where --day says when")
    try:
        hours = () if day is None else demands.parse_day(day)
    except ValueError as error:
        raise ConfigurationError(f"--day: {error}") from None
    try:
        return hours, SCALE_UP if scale_up is None else units.parse_duration(scale_up)
    except ValueError as error:
        raise ConfigurationError(f"--scale-up: {error}") from None


def _grid(name: str) -> str:
    if name not in energy.GRID:
        raise ConfigurationError(f"--grid: no factor of {name!r} is known, only of {', '.join(energy.GRID)}")
    return name


def _standing(said: Mapping[str, str | float], known: Sequence[Instance]) -> dict[str, Instance]:
    """What `[tool.infergate.instances]` says of machines."""
    where = "pyproject.toml: [tool.infergate.instances]"
    return {
        device: _own(device, what) if isinstance(what, float) else _found(known, what, where)
        for device, what in said.items()
    }


def _named(pairs: Iterable[str], known: Sequence[Instance]) -> dict[str, Instance]:
    """What ``cpu=c7i.xlarge`` or ``cpu=aws/c7i.xlarge`` says of machines."""
    said = (_halves(pair, "--instance", "cpu=c7i.xlarge") for pair in pairs)
    return {machine: _found(known, name, "--instance") for machine, name in said}


def _check_machines(said: Mapping[str, Mapping[str, Instance]], found: Iterable[Deployment]) -> None:
    """Refuse a word for a machine that means none of those that were measured."""
    known = dict.fromkeys(name for deployment in found for name in deployments.machine_names(deployment))
    for option, told in said.items():
        for machine in told:
            named = machine.partition(":")[0] in KINDS or any(name.startswith(machine) for name in known)
            if known and not named:
                raise ConfigurationError(
                    f"{option}: {machine!r} is no machine that was measured: {', '.join(known)}"
                )


def _found(known: Sequence[Instance], name: str, where: str) -> Instance:
    try:
        return instance_types.find_instance(known, name)
    except ValueError as error:
        raise ConfigurationError(
            f"{where}: {error}; infergate prices list shows what there is, --prices FILE adds to it"
        ) from None


def _priced(pairs: Iterable[str]) -> dict[str, Instance]:
    """What ``cpu=1.20`` says an own machine costs an hour."""
    found = {}
    for pair in pairs:
        machine, text = _halves(pair, "--price", "cpu=1.20")
        try:
            price = float(text)
        except ValueError:
            price = math.nan
        if not 0 < price <= instance_types.MOST_USD:
            raise ConfigurationError(f"--price: {text!r} is no price in USD an hour, such as 1.20")
        found[machine] = _own(machine, price)
    return found


def _own(machine: str, price: float) -> Instance:
    """A machine that the user has."""
    return Instance(
        provider=OWN, region="", name=f"own {machine}", vcpus=0, memory_gib=None, usd_per_hour=price, as_of=""
    )


def _halves(pair: str, option: str, example: str) -> tuple[str, str]:
    machine, equals, value = pair.partition("=")
    if not (machine.strip() and equals and value.strip()):
        raise ConfigurationError(f"{option}: {pair!r} is not such as {example}")
    return machine.strip(), value.strip()


def _by_model(
    sessions: Sequence[Session], table: Sequence[Instance], told: Mapping[str, Instance]
) -> Offered:
    """The offers for each model that was measured, and why others are none."""
    left = deployments.left_out(sessions)
    models: dict[str, list[Deployment]] = {model: [] for model in left}
    for deployment in deployments.deployments(sessions):
        models.setdefault(deployment.model, []).append(deployment)
    offered = {}
    for model, found in sorted(models.items()):
        made, notes = deployments.priced_deployments(found, table, told)
        offered[model] = made, (*notes, *left.get(model, ()))
    return offered


def _offered(sessions: Sequence[Session], table: Sequence[Instance], told: Mapping[str, Instance]) -> Offered:
    """The offers for each model. Raises `ConfigurationError` where no machine has a price."""
    offered = _by_model(sessions, table, told)
    if any(made for made, _ in offered.values()):
        return offered
    notes = dict.fromkeys(note for _, notes in offered.values() for note in notes)
    questions = [str(note) for note in notes if note.hint]
    if questions:
        raise ConfigurationError("; ".join(questions))
    why = "".join(f"; {note}" for note in list(notes)[:1])
    raise ConfigurationError(
        "the results hold no case whose times can be used: run the tests with --infer-json, "
        f"without --infer-against{why}"
    )


def _backlogs(work: Backlog, offered: Offered, form: str) -> str:
    from pytest_infergate.report import advice as words

    try:
        found = {
            model: recommendation.plan_backlog(work, made) for model, (made, _) in offered.items() if made
        }
    except ValueError as error:
        raise ConfigurationError(f"--deadline: {error}") from None
    if form == "json":
        return _json({"items": work.items, "deadline": work.deadline, "jobs": found})
    if form != "text":
        raise ConfigurationError(f"--format: a backlog is told as text or json, not as {form}")
    return "\n\n".join(words.jobs(work, jobs, model) for model, jobs in found.items())


def _rendered(answers: Answers, sessions: Sequence[Session], form: str) -> str:
    from pytest_infergate.report import advice as words

    given, unanswered = answers
    if form == "json":
        return _json({"answers": given, "assumed": words.ASSUMPTIONS, "unanswered": unanswered})
    if form == "html":
        from pytest_infergate.report import html

        return html.render_html(flat_session(sessions), advice=given, unanswered=unanswered, leading=True)
    return (words.advice_markdown if form == "markdown" else words.advice_text)(given, unanswered)


def _json(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value, order="sorted"), indent=1).decode() + "\n"
