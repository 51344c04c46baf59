"""The key of a served model: it is sent to its server, and written nowhere."""

from __future__ import annotations

import os
import re
from typing import Any, Self

from r2p_dspy.errors import ConfigError

# A user's name and password before a host, and parameters of an address that are named as secrets are.
_LOGIN = re.compile(r"(://)[^/?#\s]*@|(?<!\S)[^/?#\s@:]+:[^/?#\s]+@")
_SECRET_PARAMETER = re.compile(r"([?&][^=&#\s]*(?:key|token|secret|passw|sig)[^=&#\s]*=)[^&#\s]*", re.IGNORECASE)
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


def without_credentials(text: str) -> str:
    """An address, or a text with addresses, without the names, passwords and keys in them.

    Examples:
        >>> without_credentials("http://ada:pass@host:8000/v1?api-version=2&api-key=sk-123")
        'http://***@host:8000/v1?api-version=2&api-key=***'
    """
    return _SECRET_PARAMETER.sub(r"\1***", _LOGIN.sub(r"\1***@", text))


def refuse_login(address: str) -> None:
    """Refuse an address with a user's name or password: DSPy's client cannot send them; ConfigError."""
    if _LOGIN.search(address):
        raise ConfigError(
            f"the address {without_credentials(address)} holds a user's name or a password, which cannot be sent; "
            "leave them out, and set the model's key in the environment, such as OPENAI_API_KEY"
        )
