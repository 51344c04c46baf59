"""What a command's errors become: one line, or a traceback, and an exit code.

0 done; 1 a fault of ours; 2 bad input, or a model that cannot be used; 3 finished with failed rows; 130 interrupted.
"""

import errno
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import click

from programs.ui.interrupts import INTERRUPTED, prompt_interrupts
from programs.ui.private_logs import public_message

FAULT, BAD_INPUT, FAILED_ROWS = 1, 2, 3
_AFTER_INTERRUPT = {  # for commands without --resume
    "data": "a download goes on with the same command; of data that were being made, nothing was kept",
    "models": "nothing was kept; the same command starts again",
}
_CHECKOUT = Path(__file__).parents[2]
_OURS = tuple(str(_CHECKOUT / name) for name in ("cli.py", "finetune/", "programs/", "metrics/", "r2p_dspy/"))
_INSTALLED = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))


class CommandGroup(click.Group):
    """A group of commands whose errors are clear, and whose exit codes are those of this module."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order of their definition

    def main(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["standalone_mode"] = False
        try:
            return super().main(*args, **kwargs)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message())
            sys.exit(0)
        except click.ClickException as error:
            _stop(error.format_message())
        except click.Abort:
            sys.exit(INTERRUPTED)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with prompt_interrupts():
                return super().invoke(ctx)
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except KeyboardInterrupt:
            goes_on = _AFTER_INTERRUPT.get(
                ctx.invoked_subcommand or "", "the run goes on with the same command and --resume"
            )
            click.echo(f"stopped; {goes_on}", err=True)
            sys.exit(INTERRUPTED)
        except Exception as error:
            _explain(error)


def _explain(error: Exception) -> NoReturn:
    """Say what went wrong, and exit. Unexpected errors keep their traceback."""
    from dspy.utils.exceptions import LMError

    from r2p_dspy.errors import R2PError

    users = _user_traceback(error)
    if isinstance(error, R2PError):
        click.echo(users or getattr(error, "traceback", ""), err=True, nl=False)
        _stop(f"{error}{_notes(error)}")
    if isinstance(error, LMError):
        _stop(_of_model(error))
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" of {error.filename}" if error.filename else ""
        _stop(f"the disk{where} is full; free some space, then go on with --resume")
    if users:
        frame = _user_frames(error)[-1]
        click.echo(users, err=True, nl=False)
        _stop(f"your code failed in {frame.filename}, line {frame.lineno} ({_name(error)}); correct it and run again")
    if isinstance(error, OSError):
        if error.filename is None:
            _stop(f"a file or a connection failed ({_name(error)}); correct this, then run again")
        _stop(f"{error.filename} cannot be used ({error.strerror}); check that it exists and its permissions")
    if isinstance(error, ModuleNotFoundError):
        _stop(f"{error.name} is not installed; `pip install '.[local,cli]'` installs what the commands need")
    for cause in _causes(error):  # not `print_exception`, which prints messages as they are
        frames = "".join(traceback.format_tb(cause.__traceback__))
        click.echo(f"Traceback (most recent call last):\n{frames}{_name(cause)}", err=True)
    click.echo("This is a fault of r2p-dspy, not yours. Please report it, with the lines above.", err=True)
    sys.exit(FAULT)


def _stop(message: str) -> NoReturn:
    from r2p_dspy.engines.keys import without_credentials

    message = without_credentials(message)
    click.echo(f"Error: {' '.join(message.split())}", err=True)
    sys.exit(BAD_INPUT)


def _of_model(error: Exception) -> str:
    """A failure of a language model in one line."""
    from dspy.utils.exceptions import LMAuthError

    advice = "set its key in the environment" if isinstance(error, LMAuthError) else "check --model and --api-base"
    return f"the language model failed ({public_message(error)}{_notes(error)}); {advice}, then go on with --resume"


def _notes(error: Exception) -> str:
    return "".join(f"; {note}" for note in getattr(error, "__notes__", ()))


def _name(error: BaseException) -> str:
    return f"{type(error).__name__}: {public_message(error)}"


def _user_traceback(error: Exception) -> str:
    """The error as the user's own code raised it, in its frames alone; empty if it comes from our code."""
    for cause in _causes(error):
        if frames := _user_frames(cause, reraised=cause is not error):
            listed = "".join(traceback.format_list(frames))
            return f"Traceback (in your code):\n{listed}{''.join(traceback.format_exception_only(cause))}"
    return ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it was raised from, the first cause first."""
    if error is not None:
        yield from _causes(error.__cause__)
        yield error


def _user_frames(error: BaseException, reraised: bool = False) -> list[traceback.FrameSummary]:
    """The frames of the user's own files: of a task file, a check or a metric.

    An error that our code raised counts only if our code turned it into another one (`reraised`).
    """
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_installed(frame.filename)]
    if not frames or (_is_ours(frames[-1].filename) and not reraised):
        return []
    return [frame for frame in frames if not _is_ours(frame.filename)]


def _is_ours(file: str) -> bool:
    return str(Path(file).absolute()).startswith(_OURS)


def _is_installed(file: str) -> bool:
    return file.startswith("<") or str(Path(file).absolute()).startswith(_INSTALLED)
