"""What a server counts, in the text format that Prometheus reads."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from served_model import About

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]

_SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120)


class Metrics:
    """Counters of one process; they begin at zero when it begins."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "colorization_requests",
            "Requests, by what was asked for and the status of the answer",
            ["path", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "colorization_request_seconds",
            "From a request's first line to the end of its answer",
            ["path"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._waiting = Gauge(
            "colorization_waiting",
            "Pictures that wait or are being colored",
            registry=self._registry,
        )
        self._model = Gauge(
            "colorization_model", "The model in use", ["model", "version"], registry=self._registry
        )

    def count(self, path: str, status: int, seconds: float) -> None:
        """Count a request; `path` is one that the server has, or "other"."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def text(self, waiting: int, about: About) -> bytes:
        """Write everything."""
        self._waiting.set(waiting)
        self._model.clear()
        self._model.labels(about.label, about.version).set(1)
        return generate_latest(self._registry)
