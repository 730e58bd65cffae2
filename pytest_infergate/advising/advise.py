"""Advice from measured results: `(sessions, questions, prices) -> Recommendations`.

The plugin advises on a run once, when it finishes, and `infergate advise` answers questions about stored
results. Both use the functions of this module, so that they agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from pytest_infergate.core.advice import deployments, projected_plans, recommendation, rules
from pytest_infergate.core.advice.demand import Backlog
from pytest_infergate.core.advice.deployments import Deployment
from pytest_infergate.core.advice.planning import Question
from pytest_infergate.core.advice.priced_deployments import PricedDeployment, priced_deployments
from pytest_infergate.core.advice.projected_plans import ProjectionOffer
from pytest_infergate.core.advice.recommendation import Job
from pytest_infergate.core.domain import instance_types
from pytest_infergate.core.domain.advice_values import Demand, Recommendations
from pytest_infergate.core.domain.instance_types import Instance
from pytest_infergate.core.domain.outcome import Session
from pytest_infergate.core.domain.values import Note
from pytest_infergate.errors import ConfigurationError
from pytest_infergate.runner.price_lookup import PriceList
from pytest_infergate.storage.hardware_tables import accelerator_sheets
from pytest_infergate.storage.prices import today

OWN: Final = "own"
"""Provider of machines that the user owns, at a price that the user specifies."""
GPU_KINDS: Final = ("cuda", "mps", "xpu")
"""Kinds of devices that are GPUs."""


class ModelOffers(NamedTuple):
    """The priced deployments of one model, notes on those that were left out, and GPUs that can be rented."""

    priced: tuple[PricedDeployment, ...]
    notes: tuple[Note, ...]
    gpus: tuple[Instance, ...] = ()
    projection: ProjectionOffer | None = None
    """``None`` if the model has no case on the CPU whose work could be projected."""


def advise_run(session: Session, prices: PriceList, demand: Demand | None) -> Recommendations | None:
    """Advise on each model of a run that has a demand, see `advise_demands`.

    A paired run gets no advice, because its times are only valid for its own workers.
    """
    return None if session.against is not None else advise_demands([session], prices, demand)


def advise_demands(
    sessions: Sequence[Session], prices: PriceList, demand: Demand | None = None
) -> Recommendations | None:
    """Advise on each model that has a demand, over all machines; ``None`` if no model has one.

    `demand` applies to every model; without it each model has the demand of its own test. There is no
    latency limit, because a budget for p95 applies to a single caller.

    Raises `StorageError` for a price table that cannot be read, and `ConfigurationError` for an instance type
    that is not in the table.
    """
    questions = {}
    for result in (result for session in sessions for result in session.cases):
        asked = demand
        if asked is None and result.demand and result.streams is None:
            asked = Demand(rate=result.demand)
        elif asked is None and result.demand and result.streams is not None:
            asked = Demand(rate=result.demand, pattern="periodic", streams=result.streams)
        if asked is not None:
            model = deployments.model_name(result.case)
            questions[model] = Question(demand=asked, utilisation=prices.pricing.utilisation)
    if not questions:
        return None
    # The price table is only read if a question needs it.
    known = prices.instances
    offers = price_models(sessions, known, configured_machines(prices.pricing.instances, known))
    given = answer_questions(offers, questions)
    return given if given.answers or given.unanswered else None


def price_models(
    sessions: Sequence[Session], known: Sequence[Instance], specified: Mapping[str, Instance]
) -> dict[str, ModelOffers]:
    """Price the measured deployments of each model.

    `known` is the price table. `specified` maps a device, or the beginning of a hardware class, to an
    instance type; other machines are looked up by their class.
    """
    left = deployments.left_out(sessions)
    models: dict[str, list[Deployment]] = {model: [] for model in left}
    for deployment in deployments.deployments(sessions):
        models.setdefault(deployment.model, []).append(deployment)
    # A GPU of the user may be cheaper than any of the table.
    own = (machine for name, machine in specified.items() if name.partition(":")[0] in GPU_KINDS)
    gpus = (*(instance for instance in known if instance.accelerator_count), *own)
    works, sheets = projected_plans.projectable_works(sessions), accelerator_sheets()
    machines = projected_plans.projectable_machines(known, sheets)
    offers = {}
    for model, measured in sorted(models.items()):
        priced, notes = priced_deployments(measured, known, specified)
        work = works.get(model)
        projection = None if work is None else ProjectionOffer(work, sheets, machines)
        offers[model] = ModelOffers(tuple(priced), (*notes, *left.get(model, ())), gpus, projection)
    return offers


def require_offers(offers: Mapping[str, ModelOffers]) -> None:
    """Raise `ConfigurationError` if no deployment of any model has a price."""
    # One priced model is sufficient for an answer: the others get a note.
    if any(each.priced for each in offers.values()):
        return
    notes = list(dict.fromkeys(note for each in offers.values() for note in each.notes))
    questions = [str(note) for note in notes if note.hint]
    if questions:
        raise ConfigurationError("; ".join(questions))
    reason = "".join(f": {note}" for note in notes[:1])
    raise ConfigurationError(
        f"the results contain no case with usable times{reason}. Hint: run the tests with --infer-json, "
        "without --infer-against and --infer-counters-only"
    )


def answer_questions(
    offers: Mapping[str, ModelOffers],
    questions: Mapping[str, Question],
    *,
    option: str = "--infer-prices",
    finished: Callable[[], None] = lambda: None,
) -> Recommendations:
    """Answer the question about each model with a price; others get notes on what is missing.

    `option` is the one that takes a price table. `finished` is called after each model.
    """
    answers = []
    asked = {model: each for model, each in offers.items() if model in questions}
    for model, (priced, notes, gpus, projection) in asked.items():
        if priced:
            all_notes = (*notes, *_stale_prices(priced, option))
            answers.append(recommendation.advise(questions[model], priced, all_notes, gpus, projection))
        finished()
    return Recommendations(answers=tuple(answers), unanswered=unpriced_models(asked))


def tabulate_demands(
    offers: Mapping[str, ModelOffers],
    question: Question,
    *,
    option: str = "--infer-prices",
    finished: Callable[[], None] = lambda: None,
) -> Recommendations:
    """Answer several demands for each model with a price, see `answer_questions`."""
    tables = []
    for priced, notes, gpus, projection in offers.values():
        if priced:
            all_notes = (*notes, *_stale_prices(priced, option))
            tables.append(recommendation.demand_table(question, priced, all_notes, gpus, projection))
        finished()
    return Recommendations(tables=tuple(tables), unanswered=unpriced_models(offers))


def unpriced_models(offers: Mapping[str, ModelOffers]) -> dict[str, tuple[Note, ...]]:
    """Return the models without a deployment that has a price, with the reasons."""
    return {model: each.notes for model, each in offers.items() if not each.priced}


def _stale_prices(priced: Sequence[PricedDeployment], option: str) -> tuple[Note, ...]:
    """Return a note if a price is old. An own machine has the price that the user specifies."""
    rented = [each.instance for each in priced if each.instance.provider != OWN]
    old = instance_types.stale_price_note(rented, today(), option)
    return () if old is None else (old,)


def plan_backlogs(work: Backlog, offers: Mapping[str, ModelOffers]) -> dict[str, tuple[Job, ...]]:
    """Plan a backlog for each model with a price. Raises `ValueError` for a deadline that is too early."""
    return {
        model: recommendation.plan_backlog(work, each.priced) for model, each in offers.items() if each.priced
    }


def backlog_notes(offers: Mapping[str, ModelOffers]) -> tuple[Note, ...]:
    """Return the notes on the plans of backlogs: assumed prices, and deployments that were left out."""
    return tuple(
        dict.fromkeys(
            note
            for each in offers.values()
            if each.priced
            for note in (*rules.assumption_notes(each.priced), *each.notes, *rules.answer_notes(each.priced))
        )
    )


def configured_machines(
    instances: Mapping[str, str | float], known: Sequence[Instance]
) -> dict[str, Instance]:
    """Return the instance types of the table ``[tool.infergate.instances]``, by device."""
    where = "pyproject.toml: [tool.infergate.instances]"
    return {
        device: own_machine(device, value) if isinstance(value, float) else named_machine(value, known, where)
        for device, value in instances.items()
    }


def named_machine(name: str, known: Sequence[Instance], where: str) -> Instance:
    """Find an instance type by name. Raises `ConfigurationError`, which begins with `where`, if unknown."""
    try:
        return instance_types.find_instance(known, name)
    except ValueError as error:
        raise ConfigurationError(
            f"{where}: {error} (infergate prices list shows all instance types, --prices FILE adds others)"
        ) from None


def own_machine(machine: str, usd_per_hour: float) -> Instance:
    """Return an instance for a machine that the user owns."""
    return Instance(
        provider=OWN,
        region="",
        name=f"own {machine}",
        vcpus=0,
        memory_gib=None,
        usd_per_hour=usd_per_hour,
    )
