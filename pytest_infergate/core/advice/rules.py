"""The rules of an advice: what to measure next, and what the user must know about an answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_infergate.core.advice.priced_deployments import PricedDeployment, machine_key
from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.sampled import Sampled
from pytest_infergate.core.domain.stats import TAIL_CALLS
from pytest_infergate.core.domain.values import Note


def next_steps(candidates: Sequence[PricedDeployment]) -> Iterator[Note]:
    """Yield measurements that might show a better deployment."""
    for priced in candidates:
        deployment = priced.deployment
        cores, sizes = deployment.hardware.cores, deployment.service.batch_sizes
        same_machine = [
            other.deployment
            for other in candidates
            if other.deployment.hardware == deployment.hardware
            and other.deployment.device == deployment.device
        ]
        if len(sizes) == 1:
            yield Note(
                code=NoteCode.ONE_BATCH_SIZE,
                text=f"only batches of {sizes[0]} were measured on {deployment.device}: larger ones may pay",
                hint="give the marker batch_sizes=[1, 8, 32]",
            )
        if deployment.device == "cpu" and cores > 1 and all(other.workers == 1 for other in same_machine):
            yield Note(
                code=NoteCode.SINGLE_WORKER,
                text=f"only one worker was measured on {units.plural(cores, 'core')}",
                hint=f"measure whether several serve more with --infer-workers={cores}",
            )
    if all(priced.deployment.hardware.accelerator is None for priced in candidates):
        yield Note(
            code=NoteCode.NO_ACCELERATOR,
            text="no GPU was measured: what is stated of GPUs rests on prices and on projections",
            hint="run the tests with --infer-devices=cpu,cuda --infer-json=gpu.json on a machine with a GPU, "
            "and add that file",
        )


def answer_notes(candidates: Sequence[PricedDeployment]) -> Iterator[Note]:
    """Yield what the user must know about the deployments of an advice."""
    yield from _not_promised(candidates)
    for priced in candidates:
        deployment = priced.deployment
        yield from deployment.doubts
        if deployment.dtype is not None:
            yield Note(
                code=NoteCode.ACCURACY,
                text=f"the model runs in {deployment.dtype}; the test must check whether that is accurate",
            )
        if not (priced.user_specified or priced.assumed):
            yield Note(
                code=NoteCode.ASSUMED_INSTANCE,
                text=f"{deployment.hardware.text} is assumed to be {priced.instance.full_name}, by its class",
                hint=f"confirm it with --instance {deployment.device}={priced.instance.name}",
            )


def _not_promised(candidates: Sequence[PricedDeployment]) -> Iterator[Note]:
    """Yield one note on the deployments whose p95 is not promised.

    It has no figures of a model, so that it is the same for all models with the same deployments.
    """
    weak: dict[str, list[Sampled]] = {}
    for priced in candidates:
        deployment = priced.deployment
        rests = [deployment.sampled_up_to(size) for size in deployment.service.batch_sizes]
        if found := [each for each in rests if each is not None and not each.promised]:
            weak.setdefault(priced.text, []).extend(found)
    if not weak:
        return
    every = [each for found in weak.values() for each in found]
    few = f"fewer than {TAIL_CALLS} calls of a batch size were sampled"
    calls = few if any(each.calls < TAIL_CALLS for each in every) else ""
    order = "" if all(each.ordered for each in every) else "the order of calls is not known"
    first, *others = weak
    more = f" and {units.plural(len(others), 'other deployment')}" if others else ""
    yield Note(
        code=NoteCode.P95_NOT_PROMISED,
        text=f"the p95 of {first}{more} is not promised: {' and '.join(filter(None, (calls, order)))}",
        hint=f"measure with --infer-demand=50/s, which takes {TAIL_CALLS} calls of each case, "
        "and with a longer --infer-max-time if calls are slow",
    )


def assumption_notes(candidates: Sequence[PricedDeployment]) -> Iterator[Note]:
    """Yield the label of each price that is assumed, with the line that replaces it for good."""
    for priced in candidates:
        if not priced.assumed:
            continue
        key = machine_key(priced.deployment, (other.deployment for other in candidates))
        usd = f"{priced.instance.price:.4g}"
        hint = (
            f"to set its price for good, write {key} = {{ usd_per_hour = {usd} }} with your own figure "
            "below [tool.infergate.instances] in pyproject.toml"
        )
        # A key of that table is a kind of device; several machines of a kind have prices of their own.
        if key == priced.deployment.hardware.id:
            hint = f"give its price with --price {key}={usd}, with your own figure"
        yield Note(
            code=NoteCode.ASSUMED_PRICE,
            text=f"assumed: {priced.name} costs {usd} USD per hour, {priced.assumed}",
            hint=hint,
        )
