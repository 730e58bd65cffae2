"""What the machine of a case costs: the user's word and tables become a price, or why there is none."""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import cached_property

from pytest_infergate.config.toml import Pricing
from pytest_infergate.core.domain import hardware_names, instance_types
from pytest_infergate.core.domain.instance_types import Instance
from pytest_infergate.core.domain.model import Hardware, Note
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.outcome import Price
from pytest_infergate.errors import ConfigurationError
from pytest_infergate.storage import prices

_INSTANCES = "[tool.infergate.instances]"
_OWN_PRICE = "{ usd_per_hour = ... }"


class PriceList:
    """The instances that devices stand for, and what they cost. Tables are read when first asked for."""

    def __init__(self, pricing: Pricing) -> None:
        self.pricing = pricing

    @cached_property
    def instances(self) -> tuple[Instance, ...]:
        """All that may be meant: of the user's regions, with the user's discounts.

        Raises `StorageError` for a table that cannot be read, `ConfigurationError` for a pattern or a region
        that no instance of it has.
        """
        table = self.pricing.table
        found, _ = prices.load_prices(() if table is None else (table,))
        for pattern in self.pricing.discounts:
            if not any(fnmatchcase(one.full_name, pattern) for one in found):
                raise ConfigurationError(
                    f"pyproject.toml: [tool.infergate.discounts]: no instance is called {pattern!r}; "
                    "a key is provider/name, with * and ?, as infergate prices list shows it"
                )
        regions = self.pricing.regions
        for region in regions:
            if region not in {one.region for one in found}:
                known = ", ".join(sorted({one.region for one in found}))
                raise ConfigurationError(
                    f"pyproject.toml: [tool.infergate] region: no price is of {region!r}; known are {known}"
                )
        regional = (one for one in found if not regions or one.region in regions)
        return instance_types.discounted(regional, self.pricing.discounts)

    def check(self) -> None:
        """Raise, before anything is measured, where `price` could not read or find what the user named."""
        if self.pricing.table is not None or self.pricing.regions or self.pricing.discounts:
            _ = self.instances
        for device in self.pricing.instances:
            self._standing(device)

    def price(self, device: str, hardware: Hardware) -> Price | Note:
        """What an hour of the machine costs that a device stands for, or why nobody can say."""
        kind = device.partition(":")[0]
        key = device if device in self.pricing.instances else kind
        standing = self._standing(key) if key in self.pricing.instances else None
        if isinstance(standing, float):
            source = f"own hardware, by {_INSTANCES}"
            return Price(usd_per_hour=standing, utilisation=self.pricing.utilisation, source=source)
        if standing is None:
            text = f"it needs a price, and nobody said what the machine of {device} stands for"
            return Note(code=NoteCode.UNPRICED, text=text, hint=self._hint(kind, hardware))
        other = instance_types.hardware_difference(standing, hardware)
        if other:
            text = f"{standing.full_name}, which {key} stands for, is another machine: {other}"
            return Note(code=NoteCode.OTHER_MACHINE, text=text, hint=self._hint(key, hardware))
        return instance_types.price_of(standing, self.pricing.utilisation, self._remarks(standing))

    def _remarks(self, standing: Instance) -> tuple[Note, ...]:
        """What makes the price of an instance doubtful."""
        old = instance_types.stale_price_note([standing], prices.today())
        alike = [
            one
            for one in self.instances
            if one.provider == standing.provider
            and hardware_names.same_accelerator(one.accelerator, standing.accelerator)
        ]
        return (*(() if old is None else (old,)), *instance_types.price_doubts(alike))

    def _standing(self, device: str) -> Instance | float:
        """What a device stands for. Raises `ConfigurationError` for a name that is not in the table."""
        said = self.pricing.instances[device]
        if isinstance(said, float):
            return said
        try:
            return instance_types.find_instance(self.instances, said)
        except ValueError as error:
            raise ConfigurationError(
                f"pyproject.toml: {_INSTANCES} {device}: {error}; infergate prices list shows what there is, "
                "--infer-prices adds to it"
            ) from None

    def _hint(self, device: str, hardware: Hardware) -> str:
        """How to give a device a price, with the instance that this machine looks like."""
        key = f'"{device}"' if ":" in device else device
        same = instance_types.proposals(hardware, self.instances)
        if same:
            return (
                f'write {key} = "{same[0].full_name}", which this machine looks like, into {_INSTANCES} of '
                f"pyproject.toml, or {key} = {_OWN_PRICE}"
            )
        return (
            f"write {key} = {_OWN_PRICE} into {_INSTANCES} of pyproject.toml, or measure on the instance "
            "that it is to stand for"
        )
