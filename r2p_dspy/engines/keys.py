"""The key and the addresses of a served model. A key is sent to its server, and written nowhere."""

from __future__ import annotations

import os
import re
from typing import Any, Self

from r2p_dspy.errors import ConfigError

# A user's name and password before a host, and parameters of an address that are named as secrets are.
_LOGIN = re.compile(r"(://)[^/?#\s]*@|(?<!\S)[^/?#\s@:]+:[^/?#\s]+@")
_SECRET_PARAMETER = re.compile(r"([?&][^=&#\s]*(?:key|token|secret|passw|sig)[^=&#\s]*=)[^&#\s]*", re.IGNORECASE)
_SECRET_VARIABLE = re.compile(r"(?:KEY|TOKEN|SECRET|PASSWORD)$", re.IGNORECASE)
_SHORTEST = 8  # characters of a secret; shorter values are words such as "none" and "true"
_given: set[str] = set()  # the keys of this process
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
        if len(key) >= _SHORTEST:
            _given.add(str(key))
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
    """A text without the names, passwords and keys in its addresses, and without the keys of this process.

    Servers quote the key that they refuse. Keys are the values of environment variables named KEY, TOKEN, SECRET or
    PASSWORD, and those given to `connect`.

    Examples:
        >>> without_credentials("http://ada:pass@host:8000/v1?api-version=2&api-key=sk-123")
        'http://***@host:8000/v1?api-version=2&api-key=***'
    """
    for secret in sorted(_secrets(), key=len, reverse=True):
        text = text.replace(secret, "***")
    return _SECRET_PARAMETER.sub(r"\1***", _LOGIN.sub(r"\1***@", text))


def _secrets() -> set[str]:
    named = {value for name, value in os.environ.items() if _SECRET_VARIABLE.search(name) and len(value) >= _SHORTEST}
    return named | _given


def refuse_login(address: str) -> None:
    """Refuse an address with a user's name or password: DSPy's client cannot send them; ConfigError."""
    if _LOGIN.search(address):
        raise ConfigError(
            f"the address {without_credentials(address)} holds a user's name or a password, which cannot be sent; "
            "leave them out, and set the model's key in the environment, such as OPENAI_API_KEY"
        )


def split_addresses(api_base: str) -> tuple[str, ...]:
    """The different addresses in a text that has commas between them; ConfigError for one that is empty.

    Examples:
        >>> split_addresses("http://one/v1, http://two/v1")
        ('http://one/v1', 'http://two/v1')
    """
    addresses = [address.strip() for address in api_base.split(",")]
    if len(addresses) > 1 and not all(addresses):
        raise ConfigError(f"api_base {api_base!r} has an empty address; write URL,URL")
    return tuple(dict.fromkeys(addresses))
