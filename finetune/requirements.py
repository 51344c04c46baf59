"""Whether what trains is installed: an extra, since most people only ask models."""

from importlib.util import find_spec

from r2p_dspy.errors import ConfigError

_NEEDED = ("torch", "transformers", "trl", "datasets", "peft", "accelerate")


def check_installed() -> None:
    """Refuse to train where something is missing.

    Raises:
        ValueError: one line that says what, and what installs it.
    """
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise ConfigError(f"training needs {', '.join(missing)}: pip install '.[local,cli,train]'")
