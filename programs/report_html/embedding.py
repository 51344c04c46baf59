"""Putting data, styles and scripts into a page so that no text in them can leave its place."""

import base64
import hashlib
import json
import re
import zlib
from typing import Any

from markupsafe import Markup

# Within a script element, HTML looks for `</script` and `<!--`; JSON's own escapes hide them, and mean the same.
_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&"}
_EMBEDDED = re.compile(r'<script type="(?:application/json|text/plain)" id="(index|block-\d+)">([^<]*)</script>')


def json_block(data: Any) -> Markup:
    """JSON for a script element that is not executed; it is ASCII alone.

    Examples:
        >>> print(json_block(["</script>", "\\u2028", "é"]))
        ["\\u003c/script\\u003e","\\u2028","\\u00e9"]
    """
    return Markup(_json(data).translate(_ESCAPES))  # nosec B704 - escaped above


def packed_block(data: Any) -> Markup:
    """Compressed JSON for a script element that is not executed, in base64."""
    packed = zlib.compress(_json(data).encode("ascii"), level=9)
    return Markup(base64.b64encode(packed).decode("ascii"))  # nosec B704 - base64 has no markup


def unpacked(block: str) -> Any:
    """The data of a `packed_block`.

    Examples:
        >>> unpacked(packed_block({"half": "\\ud83d"}))
        {'half': '\\ud83d'}
    """
    return json.loads(zlib.decompress(base64.b64decode(block)))


def embedded(page: str) -> dict[str, Any]:
    """The data that a page holds for its script, by the ids of the elements: `index`, `block-0`, `block-1`, …

    Raises:
        ValueError: it cannot be read.
    """
    try:
        return {name: json.loads(text) if name == "index" else unpacked(text) for name, text in _EMBEDDED.findall(page)}
    except zlib.error as error:
        raise ValueError(f"a block cannot be unpacked: {error}") from None


def without_embedded(page: str) -> str:
    """A page without that data."""
    return _EMBEDDED.sub("", page)


def content_hash(source: str) -> str:
    """The hash by which a Content-Security-Policy allows a script or a style."""
    return f"sha256-{base64.b64encode(hashlib.sha256(source.encode('utf-8')).digest()).decode('ascii')}"


def _json(data: Any) -> str:
    return json.dumps(data, separators=(",", ":"))
