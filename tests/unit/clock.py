"""A clock that stands still until a test moves it."""


class Clock:
    """A node's own clock, which nobody else looks at: to be put in the place of a module's `time`."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now
