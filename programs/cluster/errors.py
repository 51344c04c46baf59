"""Errors of workers, which the command raises as if they were its own."""

import pickle
import traceback

from dspy.utils.exceptions import LMError

from r2p_dspy.errors import CheckError, R2PError

_PLAIN = (str, int, float, list, type(None))


def as_bytes(error: Exception) -> bytes:
    """An exception to be raised by the driver; one that is a fault of ours says where it was raised."""
    if not isinstance(error, R2PError | LMError):
        error.add_note("".join(traceback.format_exception(error)))
    # What else an error holds, such as the response of an HTTP client, may not be picklable, and stays behind.
    portable = type(error).__new__(type(error), *error.args)
    vars(portable).update({name: value for name, value in vars(error).items() if isinstance(value, _PLAIN)})
    if isinstance(error, CheckError) and error.__cause__ is not None:  # whose frames are the user's
        vars(portable)["traceback"] = "".join(traceback.format_exception(error.__cause__))
    try:
        pickled = pickle.dumps(portable)
        pickle.loads(pickled)  # nosec B301  # whether the driver can
        return pickled
    except Exception:
        return pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
