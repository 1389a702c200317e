"""What the kernel answers when it refuses a request, in the three kinds a caller can tell apart.

Callers act on two of them: what is already gone (`NotFound`) or already there (`AlreadyExists`) is often what was
wanted. Everything else is a `DataplaneError`, with the request that failed in words, so that a log line is enough.
"""

import errno


class DataplaneError(Exception):
    """The kernel refused `request` with the error number `code`; `detail` is its own explanation, if it gave one."""

    def __init__(self, request: str, code: int = 0, *, detail: str = "") -> None:
        super().__init__(request, code, detail)
        self.request = request
        self.code = code
        self.detail = detail

    def __str__(self) -> str:
        reasons = [errno.errorcode.get(self.code, f"error {self.code}")] if self.code else []
        return ": ".join([self.request, *reasons, *([self.detail] if self.detail else [])])


class NotFound(DataplaneError):
    """What the request names does not exist."""


class AlreadyExists(DataplaneError):
    """What the request would make exists."""


_BY_CODE: dict[int, type[DataplaneError]] = {
    errno.ENOENT: NotFound,
    errno.ENODEV: NotFound,
    errno.ESRCH: NotFound,
    errno.EEXIST: AlreadyExists,
}


def from_errno(request: str, code: int, *, detail: str = "") -> DataplaneError:
    """Choose the error class for what the kernel said. ESRCH is its answer for a route that is not there."""
    return _BY_CODE.get(code, DataplaneError)(request, code, detail=detail)
