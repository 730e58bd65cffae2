"""Deployments with a machine to rent for each. A deployment without a known price cannot be recommended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from pytest_infergate.core.advice.deployments import Deployment
from pytest_infergate.core.domain import instance_types, units
from pytest_infergate.core.domain.instance_types import Instance
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Note, Struct

# The operating system and the server need memory as well.
MEMORY_MARGIN: Final = 1.1
"""Memory that a process needs over what was measured."""


class PricedDeployment(Struct, frozen=True, kw_only=True):
    """A deployment and a machine to rent for it."""

    deployment: Deployment
    instance: Instance
    user_specified: bool
    """Whether the user specified the instance type; otherwise it was found by the hardware class."""
    place: str = ""
    """Description of the hardware, if several measured machines share the instance."""

    @property
    def name(self) -> str:
        """``g6.xlarge``."""
        return f"{self.instance.name}, {self.place}" if self.place else self.instance.name

    @property
    def text(self) -> str:
        """``g6.xlarge (cuda)``."""
        return f"{self.name} ({self.deployment.text})"


def priced_deployments(
    deployments: Iterable[Deployment], table: Iterable[Instance], specified: Mapping[str, Instance]
) -> tuple[tuple[PricedDeployment, ...], tuple[Note, ...]]:
    """Find a machine to rent for each deployment.

    `specified` are the instances that the user specified, by a name of `machine_names` or the start of one.
    Such an instance is used if it is of the measured class or has no class, like own machines; otherwise the
    cheapest instance of the class in the `table` is used. The notes name deployments without a machine, with
    the reason.
    """
    table = tuple(table)
    deployments = tuple(deployments)
    made: list[PricedDeployment] = []
    notes: list[Note] = []
    for deployment in deployments:
        names = machine_names(deployment)
        fitting = [name for name in specified if any(own.startswith(name) for own in names)]
        # The longest name is the most specific: "cuda:1" over "cuda".
        instance = specified[max(fitting, key=len)] if fitting else None
        if instance is None:
            # The measurement holds for every instance of the class, so the cheapest one is taken.
            instance = next(iter(instance_types.proposals(deployment.hardware, table)), None)
        if instance is None:
            notes.append(_unknown_machine(deployment, deployments, table))
        elif (problem := _problem(deployment, instance)) is not None:
            notes.append(problem)
        else:
            made.append(
                PricedDeployment(deployment=deployment, instance=instance, user_specified=bool(fitting))
            )
    machines: dict[Instance, dict[str, str]] = {}
    for priced in made:
        hardware = priced.deployment.hardware
        machines.setdefault(priced.instance, {})[hardware.id] = hardware.text
    placed = tuple(_placed(priced, machines[priced.instance]) for priced in made)
    return placed, (*dict.fromkeys(notes), *_shared_prices(machines))


def machine_names(deployment: Deployment) -> tuple[str, ...]:
    """Return the names of the machine of a deployment: its hardware class, its device, the kind of device."""
    return deployment.hardware.id, deployment.device, deployment.device.partition(":")[0]


def _unknown_machine(
    deployment: Deployment, deployments: Sequence[Deployment], table: Sequence[Instance]
) -> Note:
    """Return a note on a machine without a price, named by its class if several have such a device."""
    # The kind of device names the machine if it is the only one of its kind.
    kind = deployment.device.partition(":")[0]
    if any(
        machine_names(other)[2] == kind and other.hardware.id != deployment.hardware.id
        for other in deployments
    ):
        kind = deployment.hardware.id
    similar = (
        instance.name
        for instance in table
        if (instance.accelerator_count > 0) == (deployment.hardware.accelerator is not None)
    )
    return Note(
        code=NoteCode.UNKNOWN_MACHINE,
        text=f"unknown machine {deployment.hardware.text}: specify its instance type or price",
        hint=f"give --instance {kind}=NAME, for example {next(similar, 'NAME')}, or --price "
        f"{kind}=USD_PER_HOUR, or set it for every run in [tool.infergate.instances]",
    )


def _problem(deployment: Deployment, instance: Instance) -> Note | None:
    """Return a note if a deployment cannot run on an instance as it was measured."""
    difference = ""
    if instance.vcpus:  # an own machine has no hardware class
        difference = instance_types.hardware_difference(instance, deployment.hardware)
    if difference:
        return Note(
            code=NoteCode.OTHER_MACHINE,
            text=f"{instance.name}, configured for {deployment.device}, is another machine: {difference}",
            hint=f"measure on {instance.name}, or give --price {deployment.device}=USD_PER_HOUR for this one",
        )
    needed, available = deployment.host_bytes, instance.memory_gib
    if needed is None or available is None or needed * MEMORY_MARGIN <= available * 2**30:
        return None
    return Note(
        code=NoteCode.INSTANCE_MEMORY,
        text=f"{instance.name} has {available:g} GiB, and {deployment.text} needs {units.bytes_(needed)} of "
        "host memory",
        hint="choose an instance with more memory",
    )


def _placed(priced: PricedDeployment, machines: Mapping[str, str]) -> PricedDeployment:
    """Add the hardware to the name if several `machines`, descriptions by class, share the instance."""
    if len(machines) < 2:  # noqa: PLR2004 - there is nothing to distinguish it from
        return priced
    hardware = priced.deployment.hardware
    # Two classes may have the same description and differ in their drivers.
    distinct = len(set(machines.values())) == len(machines)
    return msgspec.structs.replace(priced, place=hardware.text if distinct else hardware.id)


def _shared_prices(machines: Mapping[Instance, Mapping[str, str]]) -> Iterator[Note]:
    """Yield a note for each price of an own machine that applies to several measured machines."""
    for instance, classes in machines.items():
        if not instance.vcpus and len(classes) > 1:
            yield Note(
                code=NoteCode.ONE_PRICE,
                text=f"{instance.name} is one price for {' and '.join(classes.values())}",
                hint=f"give --price CLASS=USD_PER_HOUR for each: {', '.join(classes)}",
            )
