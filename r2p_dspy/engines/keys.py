"""The key of a served model: it is sent to its server, and written nowhere."""

from __future__ import annotations

import os
from typing import Any, Self

_NO_KEY = "none"  # what a server without keys is sent; clients refuse to send nothing


class ApiKey(str):
    """A key, as text for HTTP clients. Its `repr` hides it, and a copy in memory keeps it.

    A pickle holds the environment variable of the key instead, which is read again by the process that loads it.

    Examples:
        >>> import pickle
        >>> key = ApiKey("sk-123", variable="NO_SUCH_KEY")
        >>> key, key == "sk-123", str(pickle.loads(pickle.dumps(key)))
        (***, True, 'none')
    """

    variable: str

    def __new__(cls, key: str, *, variable: str) -> Self:
        made = super().__new__(cls, key)
        made.variable = variable
        return made

    def __repr__(self) -> str:
        return "***"

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __copy__(self) -> Self:
        return self

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        return key_of, (self.variable,)


def key_of(variable: str) -> ApiKey:
    """The key in an environment variable, or what a server without keys is sent."""
    return ApiKey(os.environ.get(variable) or _NO_KEY, variable=variable)
