"""The cost of a deployment against demand: a staircase, because machines are rented as a whole.

A step ends at the largest demand that a number of machines serves. Without a latency limit this is the rate
of the target utilisation, exactly. With one, it is located by simulations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from pytest_infergate.core.advice.planning import Question, at_demand, server_of, waits
from pytest_infergate.core.advice.priced_deployments import PricedDeployment
from pytest_infergate.core.advice.sizing import EDGE_NOISE, MAX_INSTANCES, Sizing
from pytest_infergate.core.domain import instance_types
from pytest_infergate.core.domain.bisection import integer_between, last_below, last_that_holds

EDGE_PRECISION: Final = 1.003
"""Ratio of two demands between which the end of a step is located exactly enough."""
LOWEST_SHARE: Final = 1e-4
"""Share of the rate at the target utilisation below which no demand is looked for."""
EVERY_STEP: Final = 200
"""Number of machines up to which each step is computed; then a machine is half a per cent of the cost."""
STRIDE: Final = 1.005
"""Ratio of the numbers of machines of two steps from there on."""
# Many machines with one queue wait less than few, by a share that falls with the root of their number.
SIMULATED: Final = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 17, 20, 24, 32, 45, 64)
"""Numbers of machines that are simulated; the capacity of others is interpolated between these."""


class Staircase:
    """Cost of one deployment for every demand of the pattern of a question, simulated when needed."""

    def __init__(self, priced: PricedDeployment, question: Question) -> None:
        self.priced = priced
        self.question = question
        sizes = priced.deployment.service.batch_sizes
        asked = [server_of(priced, question, size, wait) for size in sizes for wait in waits(size, question)]
        # Most capacity first, and without waits, so that the others have little left to show.
        self._servers = sorted(asked, key=lambda server: (server.max_wait > 0, -server.rate_at(1)))
        self._each = max(server.rate_at(1) for server in asked)
        self._simulated: dict[int, float] = {}

    def capacity(self, machines: int) -> float:
        """Return the largest demand in requests per second that so many machines serve; 0 if none."""
        below, low = 0, 0
        for number in SIMULATED:
            if number not in self._simulated:
                self._simulated[number] = self._located(number, below)
            # A machine that is too slow for one whole stream shows nothing of the time that requests wait.
            full = 0 < self._most(number) * (1 - EDGE_NOISE) <= self._simulated[number]
            if full and machines >= number:
                # More machines wait less, so that from here on only the utilisation counts.
                return self._most(machines)
            if machines == number:
                return self._simulated[number]
            below, low = number, below
            if machines < number:
                break
        first, last = self._simulated[low] / low, self._simulated[below] / below
        share = (low**-0.5 - machines**-0.5) / (low**-0.5 - below**-0.5)
        located = utilised_rate(machines * (first + share * (last - first)), self.question)
        return min(located, self._most(machines))

    def needed(self, rate: float) -> int | None:
        """Return the fewest machines that serve a demand, by its step; ``None`` if no number does."""
        return self._fewest(rate, lambda machines: self.capacity(machines) >= rate * (1 - EDGE_NOISE))

    def needed_once(self) -> int | None:
        """Return the fewest machines for the demand of the question, without its steps."""
        demand = self.question.demand

        def enough(machines: int) -> bool:
            return any(server.excess(demand, machines) <= 0 for server in self._servers)

        return self._fewest(demand.rate, enough)

    def _fewest(self, rate: float, enough: Callable[[int], bool]) -> int | None:
        """Return the fewest machines that are enough for a rate, and no fewer than always run."""
        passing = max(1, math.ceil(rate / self._each * (1 - EDGE_NOISE)))
        failing = passing - 1
        # With a hundred times as many machines, hardly a request waits.
        most = min(max(SIMULATED[-1], 100 * passing), MAX_INSTANCES)
        if passing > MAX_INSTANCES:
            return None
        while not enough(passing):
            if passing >= most:
                return None
            failing, passing = passing, min(2 * passing, most)
        fewer = last_that_holds(lambda machines: not enough(machines), failing, passing, integer_between)
        return max(fewer + 1, self.question.min_instances)

    def usd_per_month(self, machines: int | None) -> float | None:
        """Return the cost of so many machines."""
        return (
            None if machines is None else instance_types.usd_per_month(self.priced.instance.price, machines)
        )

    def steps(self, high: float) -> Iterator[tuple[float, int]]:
        """Yield the largest demand that a number of machines serves, and the number, up to a demand."""
        machines = self.question.min_instances
        while machines <= MAX_INSTANCES:
            rate = self.capacity(machines)
            if rate:
                yield rate, machines
            elif machines > SIMULATED[-1]:
                return
            if rate >= high:
                return
            machines = machines + 1 if machines < EVERY_STEP else math.ceil(machines * STRIDE)

    def _most(self, machines: int) -> float:
        return utilised_rate(self._each * machines, self.question)

    def _located(self, machines: int, fewer: int) -> float:
        """Return the largest demand that so many machines serve with any server, given that of `fewer`."""
        best = self._simulated[fewer] if fewer else 0.0
        # Many machines mostly serve as much as several groups of few, and more.
        groups = utilised_rate(best / max(fewer, 1) * machines, self.question)
        over: float | None = None
        if groups > best:
            over = self._servers[0].excess(at_demand(self.question, groups).demand, machines)
            best, over = (groups, over) if over <= 0 else (best, None)
        for server in tuple(self._servers):
            found = largest_rate(server, machines, self.question, best, over)
            over = None
            if found > best:
                best = found
                # It is likely to serve most with more machines as well; then the others take one look each.
                self._servers.remove(server)
                self._servers.insert(0, server)
        return best


def merged_steps(
    candidates: Sequence[Staircase], highest: float
) -> Iterator[tuple[float, float, list[float | None]]]:
    """Yield the demands above which and up to which no cost changes, and the cost of each deployment there.

    A cost is ``None`` where no number of machines serves the demand; the last demands are those that some
    deployment serves.
    """
    steps = [list(stairs.steps(highest)) for stairs in candidates]
    position = [0] * len(steps)
    low = 0.0
    while low < highest:
        costs = [
            stairs.usd_per_month(mine[at][1]) if at < len(mine) else None
            for stairs, mine, at in zip(candidates, steps, position, strict=True)
        ]
        ends = [mine[at][0] for mine, at in zip(steps, position, strict=True) if at < len(mine)]
        if not ends:
            return
        yield low, min(ends), costs
        low = min(ends)
        for index, mine in enumerate(steps):
            while position[index] < len(mine) and mine[position[index]][0] <= low * (1 + EDGE_NOISE):
                position[index] += 1


def utilised_rate(rate: float, question: Question) -> float:
    """Return a demand at the target utilisation: below capacity, and of whole streams."""
    rate *= min(1.0, (1 - 2 * EDGE_NOISE) / question.utilisation)
    if question.demand.pattern != "periodic":
        return rate
    each = question.demand.rate / question.demand.streams
    return math.floor(rate / each * (1 + EDGE_NOISE)) * each


def largest_rate(
    server: Sizing, machines: int, question: Question, low: float, over: float | None = None
) -> float:
    """Return the largest demand that so many machines with such a server serve; `low` if none above it.

    `low` is a demand that is known to be served, or 0. `over` is `Sizing.excess` of this server there, if it
    is known.
    """
    # Where machines never rest, no simulation would decide.
    busiest = min(server.rate_at(machines), (1 - EDGE_NOISE) * server.stable_rate(machines))
    most = utilised_rate(busiest, question)

    def excess(rate: float) -> float:
        return server.excess(at_demand(question, rate).demand, machines)

    if most <= low:
        return low
    if low and over is None:
        over = excess(next_rate(question, low))
        if over > 0:
            return low
    beyond = excess(most)
    if beyond <= 0:
        return most
    lowest = LOWEST_SHARE * most
    while not low and question.demand.pattern != "periodic":
        if most <= lowest:
            return 0.0
        half = excess(most / 2)
        if half <= 0:
            low, over = most / 2, half
        else:
            most, beyond = most / 2, half
    steps, rate_of = rates_between(question, low, most)
    ends = -math.inf if over is None else over, beyond
    return rate_of(last_below(lambda step: excess(rate_of(step)), 0, steps, ends))


def rates_between(question: Question, low: float, high: float) -> tuple[int, Callable[[int], float]]:
    """Return the number of steps between two rates, and a function from a step to its rate.

    Steps are whole streams, or equal ratios of at most `EDGE_PRECISION`.
    """
    if question.demand.pattern == "periodic":
        each = question.demand.rate / question.demand.streams
        first = round(low / each)
        return round(high / each) - first, lambda step: (first + step) * each
    # A power of 2, so that each halving of a range ends at a step.
    steps = 1 << math.ceil(math.log2(max(1.0, math.log(high / low) / math.log(EDGE_PRECISION))))
    ratio = (high / low) ** (1 / steps)
    return steps, lambda step: low * ratio**step


def next_rate(question: Question, rate: float) -> float:
    """Return the next demand that is worth telling apart."""
    demand = question.demand
    return rate + demand.rate / demand.streams if demand.pattern == "periodic" else rate * EDGE_PRECISION
