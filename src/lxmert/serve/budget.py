"""Bounds what requests hold in memory at the same time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Budget:
    """Units, such as bytes, that holders share; a holder waits until enough of them are free."""

    def __init__(self, units: int) -> None:
        """Allow so many units; a larger request is allowed when it is alone."""
        self._units, self.held = units, 0
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def hold(self, units: int) -> AsyncIterator[None]:
        """Hold units while the context lasts."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self.held or self.held + units <= self._units)
            self.held += units
        try:
            yield
        finally:
            self.held -= units
            async with self._changed:
                self._changed.notify_all()
