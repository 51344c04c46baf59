"""Bearer tokens: who may ask, and whose users they ask for. Only hashes of tokens are kept.

acme:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
acme:60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752:2027-01-31
"""

import hashlib
import os
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from hmac import compare_digest
from pathlib import Path

from r2p_dspy.errors import ConfigError
from r2p_dspy.stores.rows import user_name

VARIABLE = "R2P_TOKENS"
_LINE = re.compile(r"(?P<tenant>[A-Za-z0-9_-]{1,64}):(?P<digest>[0-9a-f]{64})(:(?P<last>\d{4}-\d\d-\d\d))?")


@dataclass(frozen=True)
class Token:
    """A token as it is kept: whose it is, the SHA-256 of its text in hex, the last day (UTC) on which it is good."""

    tenant: str
    digest: str
    last: date | None = None


@dataclass(frozen=True)
class Refused:
    """Why a request has no tenant, in one sentence."""

    reason: str


class Tokens:
    """The tokens of a service; without any, everybody is the tenant "".

    Examples:
        >>> tokens = Tokens([Token("acme", hashlib.sha256(b"secret").hexdigest())])
        >>> tokens.tenant("Bearer secret"), tokens.tenant("Bearer guess")
        ('acme', Refused(reason='the token is unknown; ask the operator of this service for one'))
    """

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens

    def __bool__(self) -> bool:
        return bool(self._tokens)

    def tenant(self, header: str | None) -> str | Refused:
        """The tenant of a request with this Authorization header."""
        if not self._tokens:
            return ""
        scheme, _, text = (header or "").partition(" ")
        if scheme.lower() != "bearer" or not text.strip():
            return Refused("a token is missing; send it as Authorization: Bearer TOKEN")
        digest = hashlib.sha256(text.strip().encode("utf-8", "replace")).hexdigest()
        # All are compared, so that the time says nothing of where a token stands.
        matching = [token for token in self._tokens if compare_digest(token.digest, digest)]
        if not matching:
            return Refused("the token is unknown; ask the operator of this service for one")
        today = datetime.now(UTC).date()
        good = [token for token in matching if token.last is None or today <= token.last]
        return good[0].tenant if good else Refused(f"the token expired on {matching[0].last}; ask for a new one")


def read_tokens(file: str | None) -> Tokens:
    """The tokens of a file or, without one, of the environment's `R2P_TOKENS`, separated by white space or commas.

    Raises:
        ConfigError: a file that cannot be read or holds none, or an entry that is none; no token is shown.
    """
    where = file or VARIABLE
    if file is None:
        text = os.environ.get(VARIABLE, "")
    else:
        try:
            text = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise ConfigError(f"{file} cannot be read ({reason}); give the file of the tokens") from None
    lines = [line.partition("#")[0] for line in text.splitlines()]
    entries = [entry for line in lines for entry in re.split(r"[\s,]+", line) if entry]
    if file is not None and not entries:
        raise ConfigError(f"{file} holds no token; a line is TENANT:SHA256 or TENANT:SHA256:LAST_DAY")
    return Tokens([_token(entry, f"{where}, entry {number}") for number, entry in enumerate(entries, start=1)])


def _token(entry: str, where: str) -> Token:
    match = _LINE.fullmatch(entry)
    try:
        last = date.fromisoformat(match["last"]) if match and match["last"] else None
    except ValueError:
        match = None
    if match is None:
        raise ConfigError(
            f"{where} is no token: write TENANT:SHA256 or TENANT:SHA256:LAST_DAY, as in acme:9f86…0a08:2027-01-31"
        )
    return Token(match["tenant"], match["digest"], last)


def in_tenant(tenant: str, user: str) -> str:
    """A user's name in the store: tenants are kept apart by a prefix, which no user's name can forge.

    Raises:
        ConfigError: no name that a store keeps.

    Examples:
        >>> in_tenant("acme", "ada"), in_tenant("", "ada")
        ('acme/ada', 'ada')
    """
    return user_name(f"{tenant}/{user}" if tenant else user)
