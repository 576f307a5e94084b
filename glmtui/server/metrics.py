"""What ``/metrics`` tells, in Prometheus' text format."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

from glmtui.protocol.events import Cancelled, Done, Event, Failed, Started, Tokens

SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
TOKEN_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5)


class Counter:
    """A number that only grows."""

    kind = "counter"

    def __init__(self, name: str, help_text: str) -> None:
        self.name, self.help, self.value = name, help_text, 0

    def add(self, count: int = 1) -> None:
        """Let it grow by `count`."""
        self.value += count

    def lines(self) -> Iterator[str]:
        """Yield its samples."""
        yield f"{self.name} {self.value}"


class Gauge:
    """A number as it is now."""

    kind = "gauge"

    def __init__(self, name: str, help_text: str, read: Callable[[], int]) -> None:
        self.name, self.help, self._read = name, help_text, read

    def lines(self) -> Iterator[str]:
        """Yield its sample."""
        yield f"{self.name} {self._read()}"


class Histogram:
    """How often something took how many seconds."""

    kind = "histogram"

    def __init__(self, name: str, help_text: str, bounds: Sequence[float]) -> None:
        self.name, self.help, self._bounds = name, help_text, bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, seconds: float, count: int = 1) -> None:
        """Count something that took `seconds`, `count` times."""
        self._counts[bisect_left(self._bounds, seconds)] += count
        self._sum += seconds * count

    def lines(self) -> Iterator[str]:
        """Yield its samples: how many were at most so long."""
        totals = list(accumulate(self._counts))
        for bound, total in zip((*self._bounds, "+Inf"), totals, strict=True):
            yield f'{self.name}_bucket{{le="{bound}"}} {total}'
        yield f"{self.name}_sum {self._sum:.6f}"
        yield f"{self.name}_count {totals[-1]}"


class Metrics:
    """All figures of one server."""

    def __init__(self) -> None:
        self.rejected = Counter("glmtui_requests_rejected_total", "Requests refused as the queue was full.")
        self.done = Counter("glmtui_requests_done_total", "Requests answered to their end.")
        self.cancelled = Counter("glmtui_requests_cancelled_total", "Requests whose client left.")
        self.failed = Counter("glmtui_requests_failed_total", "Requests that did not work.")
        self.prompt_tokens = Counter("glmtui_prompt_tokens_total", "Tokens of prompts.")
        self.generated_tokens = Counter("glmtui_generated_tokens_total", "Tokens of answers.")
        self.first_token = Histogram(
            "glmtui_time_to_first_token_seconds", "From the request to its first token.", SECONDS
        )
        self.per_token = Histogram(
            "glmtui_time_per_output_token_seconds", "From one token to the next.", TOKEN_SECONDS
        )
        self.duration = Histogram("glmtui_request_seconds", "From the request to the end.", SECONDS)
        self._series: list[Counter | Gauge | Histogram] = [
            self.done, self.cancelled, self.failed, self.rejected, self.prompt_tokens, self.generated_tokens,
            self.first_token, self.per_token, self.duration,
        ]  # fmt: skip

    def gauge(self, name: str, help_text: str, read: Callable[[], int]) -> None:
        """Add a number that is read when it is asked for."""
        self._series.append(Gauge(name, help_text, read))

    def text(self) -> str:
        """Return all of it."""
        lines = []
        for series in self._series:
            lines += [f"# HELP {series.name} {series.help}", f"# TYPE {series.name} {series.kind}"]
            lines += series.lines()
        return "\n".join(lines) + "\n"


class Measure:
    """Counts what becomes of one request.

    Args:
        metrics: the figures of all.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._began = time.monotonic()
        self._token: float | None = None  # when the last one came

    @property
    def age(self) -> float:
        """Seconds since the request came."""
        return time.monotonic() - self._began

    def event(self, event: Event) -> None:
        """Note what the engine told."""
        metrics = self._metrics
        if isinstance(event, Started):
            metrics.prompt_tokens.add(event.prompt_tokens)
        elif isinstance(event, Tokens) and event.count:
            now = time.monotonic()
            if self._token is None:
                metrics.first_token.add(self.age)
            else:
                metrics.per_token.add((now - self._token) / event.count, event.count)
            self._token = now
            metrics.generated_tokens.add(event.count)

    def end(self, end: Event) -> None:
        """Note how it ended."""
        metrics = self._metrics
        counter = metrics.cancelled if isinstance(end, Cancelled) else metrics.done
        (metrics.failed if isinstance(end, Failed) else counter).add()
        if isinstance(end, Done):
            metrics.duration.add(self.age)
