"""The price of a case's machine, or the reason why it has none, from the user's settings and price tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from functools import cached_property

from pytest_infergate.config.toml import Pricing
from pytest_infergate.core.domain import hardware_names, instance_types, metrics
from pytest_infergate.core.domain.instance_types import Instance
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.outcome import Price
from pytest_infergate.core.domain.values import Hardware, Note
from pytest_infergate.errors import ConfigurationError
from pytest_infergate.storage import prices

_INSTANCES = "[tool.infergate.instances]"
_OWN_PRICE = "{ usd_per_hour = ... }"


class PriceList:
    """The instance types and prices that are configured for devices. Tables are read on first use.

    `region_setting` names the source of the regions in errors.
    """

    def __init__(
        self, pricing: Pricing, region_setting: str = "pyproject.toml: region in [tool.infergate]"
    ) -> None:
        self.pricing = pricing
        self._region_setting = region_setting

    @cached_property
    def instances(self) -> tuple[Instance, ...]:
        """All instance types in the user's regions, with the user's discounts.

        Raises `StorageError` for a table that cannot be read, and `ConfigurationError` for a pattern or a
        region without any instance type.
        """
        table = self.pricing.table
        known, _ = prices.load_prices(() if table is None else (table,))
        for pattern in self.pricing.discounts:
            if not any(fnmatchcase(instance.full_name, pattern) for instance in known):
                raise ConfigurationError(
                    "pyproject.toml: a key of [tool.infergate.discounts] must match an instance type, got "
                    f"{pattern!r}. Hint: keys are provider/name with * and ?; see infergate prices list"
                )
        regions = self.pricing.regions
        known_regions = {instance.region for instance in known}
        for region in regions:
            if region not in known_regions:
                raise ConfigurationError(
                    f"{self._region_setting} must be a region with prices, got {region!r}. Hint: known are "
                    f"{', '.join(sorted(known_regions))}"
                )
        regional = (instance for instance in known if not regions or instance.region in regions)
        return instance_types.discounted(regional, self.pricing.discounts)

    def check(self) -> None:
        """Raise, before anything is measured, what `price` would raise for a table or a name of the user."""
        if self.pricing.table is not None or self.pricing.regions or self.pricing.discounts:
            _ = self.instances
        for device in self.pricing.instances:
            self._configured(device)

    def case_price(
        self, device: str, machine: Callable[[], Hardware], budgets: Iterable[str]
    ) -> Price | Note | None:
        """Return the price of the machine of a case; without a price, a note only if a budget needs it.

        `machine` is called only if a price is needed, because it may import torch to look for accelerators.
        """
        needed = any(metrics.metric(name).dollars is not None for name in budgets)
        if not (needed or self.pricing.instances):
            return None
        price = self.price(device, machine())
        return price if needed or isinstance(price, Price) else None

    def price(self, device: str, machine: Hardware) -> Price | Note:
        """Return the hourly price of the machine of a device, or a note on why it is unknown."""
        # An entry for cuda:1 takes precedence over one for cuda.
        kind = device.partition(":")[0]
        key = device if device in self.pricing.instances else kind
        configured = self._configured(key) if key in self.pricing.instances else None
        if isinstance(configured, float):
            # An explicit price is that of the machine at hand: there is no hardware to compare it with.
            source = f"own hardware, by {_INSTANCES}"
            return Price(usd_per_hour=configured, utilisation=self.pricing.utilisation, source=source)
        if configured is None:
            text = f"it needs a price, and no instance type or price is configured for {device}"
            return Note(code=NoteCode.UNPRICED, text=text, hint=self._hint(kind, machine))
        difference = instance_types.hardware_difference(configured, machine)
        if difference:
            # A price of another machine would be the cost of nothing that was measured.
            text = f"{configured.full_name}, configured for {key}, is another machine: {difference}"
            return Note(code=NoteCode.OTHER_MACHINE, text=text, hint=self._hint(key, machine))
        return instance_types.price_of(configured, self.pricing.utilisation, self._doubts(configured))

    def _doubts(self, configured: Instance) -> tuple[Note, ...]:
        """Return notes on what makes the price of an instance type doubtful."""
        stale = instance_types.stale_price_note([configured], prices.today())
        # A public catalogue had one GPU for 4.20 and for 9.80 USD an hour at the same provider.
        alike = [
            instance
            for instance in self.instances
            if instance.provider == configured.provider
            and hardware_names.same_accelerator(instance.accelerator, configured.accelerator)
        ]
        return (*(() if stale is None else (stale,)), *instance_types.price_doubts(alike))

    def _configured(self, device: str) -> Instance | float:
        """Return the instance type or USD per hour of a device. Raises `ConfigurationError` if unknown."""
        configured = self.pricing.instances[device]
        if isinstance(configured, float):
            return configured
        try:
            return instance_types.find_instance(self.instances, configured)
        except ValueError as error:
            raise ConfigurationError(
                f"pyproject.toml: {_INSTANCES} {device}: {error} (infergate prices list shows all instance "
                "types, --infer-prices adds others)"
            ) from None

    def _hint(self, device: str, machine: Hardware) -> str:
        """Return how to configure a price for a device, with the instance type that matches this machine."""
        key = f'"{device}"' if ":" in device else device
        same = instance_types.proposals(machine, self.instances)
        if same:
            return (
                f'add {key} = "{same[0].full_name}", which matches this machine, to {_INSTANCES} of '
                f"pyproject.toml, or {key} = {_OWN_PRICE}"
            )
        return (
            f"add {key} = {_OWN_PRICE} to {_INSTANCES} of pyproject.toml, or measure on an instance type of "
            "the price table"
        )
