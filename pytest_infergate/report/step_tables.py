"""The table of the best plans of each model for several demands, where no demand is stated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.advice_values import DemandTable, Plan, Projections
from pytest_infergate.core.domain.values import Struct
from pytest_infergate.report import gpu_advice
from pytest_infergate.report.amounts import interval, labelled
from pytest_infergate.report.latency_promises import p95_text
from pytest_infergate.report.plan_names import plan_price, plan_text, price_label
from pytest_infergate.report.sanitize import plain
from pytest_infergate.report.table import Column


class StepRow(Struct, frozen=True, kw_only=True):
    """One demand of a table of demands, and the best plan of one model for it."""

    model: str
    rate: float
    plan: Plan | None
    projections: Projections = Projections()

    @property
    def measured(self) -> Plan | None:
        """The measured plan, unless a projected one costs less at both ends."""
        return None if self.projections.recommended else self.plan

    @property
    def text(self) -> str:
        """The plan in words."""
        if self.projections.recommended:
            return gpu_advice.projected_text(self.projections)
        return plan_text(self.plan) if self.plan else "none meets the limit"

    @property
    def month(self) -> str:
        """Cost of the plan, or its interval."""
        bound = self.projections.bound
        if bound is not None:
            return labelled(interval(*gpu_advice.projected_costs(self.projections)), price_label(bound))
        if self.plan is None:
            return units.UNKNOWN
        return labelled(units.dollars(self.plan.usd_per_month), price_label(self.plan))


STEP_COLUMNS: Final[tuple[Column[StepRow], ...]] = (
    Column("model", "model", lambda row: plain(row.model), left=True),
    Column("demand", "demand", lambda row: units.rate(row.rate)),
    Column("plan", "plan", lambda row: plain(row.text), left=True),
    Column(
        "basis",
        "basis",
        lambda row: gpu_advice.basis(row.projections, planned=row.plan is not None),
        left=True,
        shown=lambda rows: any(row.projections.plans for row in rows),
    ),
    Column("usd_per_month", "USD/month", lambda row: row.month),
    Column("batch", "batch", lambda row: str(row.measured.max_batch) if row.measured else units.UNKNOWN),
    Column("p95", "p95", lambda row: p95_text(row.measured) if row.measured else units.UNKNOWN),
    Column(
        "usd_per_million",
        "USD/million requests",
        lambda row: units.dollars(row.measured.usd_per_million if row.measured else None),
    ),
)


def step_rows(tables: Iterable[DemandTable]) -> list[StepRow]:
    """Return one row for each model and demand."""
    return [
        StepRow(model=table.model, rate=step.rate, plan=step.plan, projections=step.projections)
        for table in tables
        for step in table.steps
    ]


def table_prices(tables: Iterable[DemandTable]) -> list[str]:
    """Return the prices of the plans of a table, each once."""
    return list(
        dict.fromkeys(
            plan_price(step.plan) for table in tables for step in table.steps if step.plan is not None
        )
    )


def table_question(tables: Sequence[DemandTable]) -> str:
    """Describe the conditions that the plans of a table meet."""
    limit = ", no latency limit"
    if tables[0].limit is not None:
        limit = f", 95 % within {units.seconds(tables[0].limit)}"
    utilisation = units.percent(tables[0].utilisation, signed=False, decimals=0)
    return f"Poisson arrivals{limit}, utilisation of each machine at most {utilisation}"


def table_remarks(tables: Iterable[DemandTable]) -> list[str]:
    """Return the notes of a table, each once."""
    return list(dict.fromkeys(plain(str(note)) for table in tables for note in table.notes))
