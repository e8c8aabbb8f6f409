"""Prometheus metrics of a server."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.values import MutexValue, ValueClass

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)


class ServeMetrics:
    """Requests, latency, batches, queue and cache; with several workers, of all of them.

    Attributes:
        accepted: requests that this process has begun to read.
        answered: how many of them had a response, an error included.
    """

    def __init__(self) -> None:
        """Create the metrics in a registry of their own."""
        self.registry = CollectorRegistry()
        self.accepted = self.answered = 0
        self.requests = Counter(
            "lxmert_requests",
            "Requests by path and status.",
            ["path", "status"],
            registry=self.registry,
        )
        self.errors = Counter(
            "lxmert_errors",
            "Requests that failed by a fault of the server.",
            ["path"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "lxmert_request_seconds",
            "Seconds from the request to its response, by path.",
            ["path"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batch_size = Histogram(
            "lxmert_batch_size", "Items per batch.", buckets=_BATCH_SIZES, registry=self.registry
        )
        self.active = Gauge(
            "lxmert_active_requests",
            "Requests accepted and not yet answered.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.queue_length = Gauge(
            "lxmert_queue_length",
            "Items waiting for the model.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.cache_bytes = Gauge(
            "lxmert_region_cache_bytes",
            "Bytes in the region cache.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self._lookups = Counter(
            "lxmert_region_cache_lookups",
            "Images looked up in the region cache.",
            ["result"],
            registry=self.registry,
        )

    def count_batch(self, size: int) -> None:
        """Count a batch, whose items no longer wait."""
        self.batch_size.observe(size)
        self.queue_length.dec(size)

    def count_lookup(self, *, hit: bool) -> None:
        """Count a look-up of the region cache."""
        self._lookups.labels("hit" if hit else "miss").inc()

    def count_request(self, path: str, status: int, seconds: float) -> None:
        """Count a request; `path` is that of a route, never the client's."""
        self.requests.labels(path, str(status)).inc()
        self.seconds.labels(path).observe(seconds)
        if status >= 500 and path != "/health":
            self.errors.labels(path).inc()

    def render(self) -> tuple[bytes, str]:
        """Return the metrics as text, and its content type."""
        registry = self.registry
        if ValueClass is not MutexValue:  # several workers share files of values
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry), CONTENT_TYPE_LATEST
