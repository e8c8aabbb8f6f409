"""Errors that are sent to a client, with their HTTP status."""

from lxmert.names import count


class RequestError(Exception):
    """A request that is refused.

    Attributes:
        status: HTTP status code.
        retry_after: seconds after which to try again; None: the request will not succeed.
    """

    def __init__(self, status: int, message: str, *, retry_after: int | None = None) -> None:
        """Describe the error in one sentence."""
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


def too_many_requests(number: int) -> RequestError:
    """Return the error of a full queue."""
    return RequestError(
        429, f"{count(number, 'request')} are already waiting: try again in a moment", retry_after=1
    )


def too_large(limit: int) -> RequestError:
    """Return the error of a body beyond the limit in bytes."""
    return RequestError(
        413, f"the request is larger than {limit >> 20} MiB, the limit of this server: send less"
    )


def failed() -> RequestError:
    """Return the error of a fault of the server, which its log describes."""
    return RequestError(500, "the server failed: see its log")


def too_slow(seconds: float) -> RequestError:
    """Return the error of a request that takes too long."""
    return RequestError(
        503, f"no answer within {seconds:g} seconds: try again later", retry_after=5
    )
