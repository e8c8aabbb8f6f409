"""A uvicorn server that answers what it has accepted before it ends."""

import asyncio
import socket

import uvicorn

_FIRST_REQUEST_SECONDS = 2.0
"""How long an accepted connection has to send its first request once the server ends."""


class DrainingServer(uvicorn.Server):
    """Stops listening, then waits for the first request of each connection.

    uvicorn closes connections on which nothing has arrived yet, so that a client whose request is
    on its way would lose it.
    """

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, answer accepted requests, and end."""
        for listener in (*self.servers, *(sockets or ())):
            listener.close()
        end = asyncio.get_running_loop().time() + _FIRST_REQUEST_SECONDS
        while self._has_new_connections() and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.01)
        await super().shutdown(sockets)

    def _has_new_connections(self) -> bool:
        # Both HTTP protocols of uvicorn set `cycle` when the header of a request is complete.
        return any(getattr(each, "cycle", self) is None for each in self.server_state.connections)
