"""Deployments with a machine to rent for each, whose price is known, found by its class, or assumed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from pytest_infergate.core.advice.assumed_prices import assumed_price
from pytest_infergate.core.advice.deployments import Deployment
from pytest_infergate.core.domain import instance_types, units
from pytest_infergate.core.domain.instance_types import Instance
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Hardware, Note, Struct

# The operating system and the server need memory as well.
MEMORY_MARGIN: Final = 1.1
"""Memory that a process needs over what was measured."""
_CODES: Final = re.compile(r" *\(\d+/\d+\)$")


class PricedDeployment(Struct, frozen=True, kw_only=True):
    """A deployment and a machine to rent for it."""

    deployment: Deployment
    instance: Instance
    user_specified: bool
    """Whether the user specified the instance type; otherwise it was found by the hardware class."""
    assumed: str = ""
    """How the price was assumed, if the machine is not in the price table; `instance` is not this machine."""
    price_ends: tuple[float, float] | None = None
    """Range of an assumed price in USD per hour, if it is wide."""
    place: str = ""
    """Description of the hardware, if several measured machines share the instance."""

    @property
    def name(self) -> str:
        """``g6.xlarge``, or ``2-core AMD EPYC`` for a machine whose price is assumed."""
        name = machine_text(self.deployment.hardware) if self.assumed else self.instance.name
        return f"{name}, {self.place}" if self.place else name

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
    cheapest instance of the class in the `table` is used, or else the price is assumed. The notes name
    instances that are other machines, and deployments without a machine, with the reason.
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
        if instance is not None and instance.vcpus:  # an own machine has no hardware class
            difference = instance_types.hardware_difference(instance, deployment.hardware)
            if difference:
                notes.append(_other_machine(deployment, instance, difference))
                instance = None
        if instance is not None and not _has_memory(instance, deployment):
            notes.append(_too_small(deployment, instance))
        elif instance is not None:
            made.append(PricedDeployment(deployment=deployment, instance=instance, user_specified=True))
        elif (found := _found(deployment, table)) is not None:
            made.append(found)
        else:
            name = machine_key(deployment, deployments)
            notes.append(
                Note(
                    code=NoteCode.UNKNOWN_MACHINE,
                    text=f"unknown machine {deployment.hardware.text}: the price table has none of its kind",
                    hint=f"give --price {name}=USD_PER_HOUR, or leave out --region",
                )
            )
    machines: dict[tuple[str, Instance], dict[str, str]] = {}
    # Machines with one name may have different assumed prices, by the memory that they need.
    named: dict[str, dict[str, str]] = {}
    for priced in made:
        hardware = priced.deployment.hardware
        machines.setdefault((priced.name, priced.instance), {})[hardware.id] = hardware.text
        named.setdefault(priced.name, {})[hardware.id] = hardware.text
    placed = tuple(_placed(priced, named[priced.name]) for priced in made)
    return placed, (*dict.fromkeys(notes), *_shared_prices(machines))


def _found(deployment: Deployment, table: Sequence[Instance]) -> PricedDeployment | None:
    """Return a deployment on the cheapest instance of its class, or at an assumed price."""
    # The measurement holds for every instance of the class, so the cheapest one is taken.
    enough = [instance for instance in table if _has_memory(instance, deployment)]
    same = next(iter(instance_types.proposals(deployment.hardware, enough)), None)
    if same is not None:
        return PricedDeployment(deployment=deployment, instance=same, user_specified=False)
    price = assumed_price(deployment.hardware, enough) or assumed_price(deployment.hardware, table)
    if price is None:
        return None
    return PricedDeployment(
        deployment=deployment,
        instance=price.instance,
        user_specified=False,
        assumed=price.reason,
        price_ends=price.ends,
    )


def machine_text(hardware: Hardware) -> str:
    """Return a name for a machine that has no name of a provider: ``2-core AMD EPYC``, ``2 x NVIDIA L4``."""
    if hardware.accelerator is None:
        # The codes of the family and the model, as in "AMD EPYC (25/17)", name no product.
        return f"{hardware.cores}-core {_CODES.sub('', hardware.cpu_model)}"
    count = "" if hardware.accelerator_count == 1 else f"{hardware.accelerator_count} x "
    return f"{count}{hardware.accelerator} machine"


def machine_names(deployment: Deployment) -> tuple[str, ...]:
    """Return the names of the machine of a deployment: its hardware class, its device, the kind of device."""
    return deployment.hardware.id, deployment.device, deployment.device.partition(":")[0]


def machine_key(deployment: Deployment, deployments: Iterable[Deployment]) -> str:
    """Return the name by which a price is given: the device, or the class if several machines have one."""
    kind = deployment.device.partition(":")[0]
    ambiguous = any(
        machine_names(other)[2] == kind and other.hardware.id != deployment.hardware.id
        for other in deployments
    )
    return deployment.hardware.id if ambiguous else kind


def _other_machine(deployment: Deployment, instance: Instance, difference: str) -> Note:
    """Return a note on an instance that is not the machine that was measured."""
    return Note(
        code=NoteCode.OTHER_MACHINE,
        text=f"{instance.name}, configured for {deployment.device}, is another machine: {difference}",
        hint=f"measure on {instance.name}, or give --price {deployment.device}=USD_PER_HOUR for this one",
    )


def _has_memory(instance: Instance, deployment: Deployment) -> bool:
    needed, available = deployment.host_bytes, instance.memory_gib
    return needed is None or available is None or needed * MEMORY_MARGIN <= available * 2**30


def _too_small(deployment: Deployment, instance: Instance) -> Note:
    """Return a note on an instance without the memory that a deployment needs."""
    return Note(
        code=NoteCode.INSTANCE_MEMORY,
        text=f"{instance.name} has {instance.memory_gib:g} GiB, and {deployment.text} needs "
        f"{units.bytes_(deployment.host_bytes or 0)} of host memory",
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


def _shared_prices(machines: Mapping[tuple[str, Instance], Mapping[str, str]]) -> Iterator[Note]:
    """Yield a note for each price of an own machine that applies to several measured machines."""
    for (_, instance), classes in machines.items():
        if not instance.vcpus and len(classes) > 1:
            yield Note(
                code=NoteCode.ONE_PRICE,
                text=f"{instance.name} is one price for {' and '.join(classes.values())}",
                hint=f"give --price CLASS=USD_PER_HOUR for each: {', '.join(classes)}",
            )
