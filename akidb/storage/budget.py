"""How many requests may be sent besides those that somebody asked for."""

from __future__ import annotations


class Budget:
    """Extra requests as a share of the others, with up to `saved_max` saved for bad times.

    A fixed number of attempts multiplies the load on a store that is failing under load; a share cannot. The idea is
    that of the retry budgets in "The Site Reliability Workbook" (Google, 2018), chapter "Managing Load".
    """

    def __init__(self, share: float, saved_max: float, *, saved: float = 0.0) -> None:
        self._share = share
        self._saved_max = saved_max
        self._saved = saved

    def earn(self) -> None:
        """Notes one request that earns a share of another."""
        self._saved = min(self._saved + self._share, self._saved_max)

    def take(self) -> bool:
        """Whether one extra request may be sent; it counts as sent."""
        if self._saved < 1.0:
            return False
        self._saved -= 1.0
        return True
