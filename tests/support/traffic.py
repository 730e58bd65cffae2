"""A source of requests on a fake clock."""

from pytest_infergate.load.batching_server import Request
from pytest_infergate.testing import FakeClock


class Traffic:
    """Sends requests at moments in nanoseconds.

    It implements `Traffic` of the batching server. The item of a request is its number, modulo `items`.
    """

    def __init__(self, moments, *, clock=None, items=10**9):
        self.clock = clock or FakeClock()
        self.coming = list(enumerate(moments))
        self.items = items
        self.answered = []
        self.p95 = None

    def receive(self, seconds):
        if not self.coming:
            return None
        if self.coming[0][1] > self.clock.now:
            if self.coming[0][1] - self.clock.now > 1e9 * seconds:
                self.clock.advance(seconds)
                return ()
            self.clock.now = self.coming[0][1]
        now = [(number, moment) for number, moment in self.coming if moment <= self.clock.now]
        del self.coming[: len(now)]
        return [Request(number, number % self.items, moment) for number, moment in now]

    def answer(self, requests):
        self.answered += [request.number for request in requests]

    def own_percentile(self, percentile):
        return self.p95 if percentile == 95 else None
