"""One logic for sync and async: a module's steps are a generator, and two drivers make the calls that it asks for.

A generator yields a `Call` and is sent what the call returns, or thrown what it raises. It may also yield a list of
generators: these run side by side, and it is sent their results in order. A `dspy.context` that is open in a generator
is in force while its calls run, since a driver runs in the generator's own context.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar, cast

import dspy

Result = TypeVar("Result")


@dataclass(frozen=True)
class Call:
    """A call to make: the function, its async twin and the keyword arguments."""

    sync: Callable[..., Any]  # what a DSPy module returns is its author's choice
    asynchronous: Callable[..., Awaitable[Any]]
    arguments: Mapping[str, Any]


# What is sent is the result of the call, or the list of results; so its type is the generator's own knowledge.
Steps: TypeAlias = Generator["Call | list[Steps[Any]]", Any, Result]


def call(module: dspy.Module, arguments: Mapping[str, Any]) -> Call:
    """The call of a module."""
    return Call(module, module.acall, arguments)


def run(steps: Steps[Result]) -> Result:
    """Run steps to their result; several at once run in threads, each in a copy of this context."""
    try:
        request = next(steps)
        while True:
            try:
                if isinstance(request, Call):
                    answer = request.sync(**request.arguments)
                else:
                    with ThreadPoolExecutor(len(request)) as pool:
                        # Plain threads would not see DSPy's settings.
                        futures = [pool.submit(copy_context().run, run, parallel) for parallel in request]
                        answer = [future.result() for future in futures]
            except BaseException as error:
                request = steps.throw(error)
            else:
                request = steps.send(answer)
    except StopIteration as done:
        return cast(Result, done.value)


async def arun(steps: Steps[Result]) -> Result:
    """Run steps to their result; several at once run as tasks, each in a copy of this context."""
    try:
        request = next(steps)
        while True:
            try:
                if isinstance(request, Call):
                    answer = await request.asynchronous(**request.arguments)
                else:
                    answer = await _gathered(request)
            except BaseException as error:
                request = steps.throw(error)
            else:
                request = steps.send(answer)
    except StopIteration as done:
        return cast(Result, done.value)


async def _gathered(parallel: list[Steps[Any]]) -> list[Any]:
    """The results of steps that run as tasks; where one raises, the others are cancelled and make no more calls."""
    tasks = [asyncio.ensure_future(arun(steps)) for steps in parallel]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        raise
