"""One queue and one thread: items are processed in batches, and a failing batch item by item."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

Waiting = tuple[Item, Future[Result]]
Process = Callable[[Sequence[Waiting[Item, Result]]], None]
"""Finishes the future of each item; raises if it cannot."""


class BatchQueue(Generic[Item, Result]):
    """Collects items into batches for one thread.

    A batch ends when it has `max_batch` items, or when `max_wait` seconds have passed since its
    first item. If processing raises, each item without a result is processed alone, so that only
    the item at fault fails.
    """

    def __init__(
        self,
        process: Process[Item, Result],
        *,
        max_batch: int,
        max_wait: float,
        prepare: Callable[[], None] = lambda: None,
        observe: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Create the queue; `start` starts its thread.

        Args:
            process: processes the items of a batch, in the queue's thread.
            max_batch: maximum number of items in a batch.
            max_wait: seconds to wait for more items.
            prepare: called first in the thread; if it raises, the thread ends and `failure` is set.
            observe: called with the size of each batch.
        """
        self._process, self._prepare, self._observe = process, prepare, observe
        self._max_batch, self._max_wait = max_batch, max_wait
        self._items: queue.SimpleQueue[Waiting[Item, Result] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="lxmert-model", daemon=True)
        self.ready = threading.Event()
        self.failure: Exception | None = None

    def __len__(self) -> int:
        return self._items.qsize()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, item: Item) -> "Future[Result]":
        """Add an item, and return the future of its result."""
        future: Future[Result] = Future()
        self._items.put((item, future))
        return future

    def stop(self) -> None:
        """Process what is waiting, and end the thread."""
        self._items.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            self._prepare()
        except Exception as error:  # reported by whoever waits for `ready`
            self.failure = error
            return
        finally:
            self.ready.set()
        while batch := self._collect():
            self._observe(len(batch))
            # A future that was cancelled while waiting, since its client has left, is skipped.
            self._work([pair for pair in batch if pair[1].set_running_or_notify_cancel()])

    def _collect(self) -> list[Waiting[Item, Result]]:
        """Return the next batch; an empty list ends the thread."""
        first = self._items.get()
        if first is None:
            return []
        batch, end = [first], time.monotonic() + self._max_wait
        while len(batch) < self._max_batch:
            try:
                pair = self._items.get(timeout=max(end - time.monotonic(), 0))
            except queue.Empty:
                break
            if pair is None:
                self._items.put(None)  # ends the thread after this batch
                break
            batch.append(pair)
        return batch

    def _work(self, batch: Sequence[Waiting[Item, Result]]) -> None:
        if not batch:
            return
        try:
            self._process(batch)
        except Exception as error:
            left = [pair for pair in batch if not pair[1].done()]
            if len(batch) == 1:
                for _, future in left:
                    future.set_exception(error)
            else:
                for pair in left:
                    self._work([pair])
