"""The drivers of a module's steps: the same in sync and async, in the generator's own context."""

import asyncio

import dspy
import pytest

from r2p_dspy.modules.steps import Call, arun, run

DRIVERS = pytest.mark.parametrize("drive", [run, lambda steps: asyncio.run(arun(steps))], ids=["sync", "async"])


def asking(function):
    """A call of a function, in either way."""

    async def twin(**arguments):
        await asyncio.sleep(0)
        return function(**arguments)

    return lambda **arguments: Call(function, twin, arguments)


setting = asking(lambda: dspy.settings.r2p_test)
double = asking(lambda number: 2 * number)
divide = asking(lambda number: 1 / number)


@DRIVERS
def test_results_are_sent_in_order(drive):
    def steps():
        first = yield double(number=2)
        second = yield double(number=first)
        return first, second

    assert drive(steps()) == (4, 8)


@DRIVERS
def test_context_holds_during_a_call(drive):
    def steps():
        with dspy.context(r2p_test="inner"):
            inner = yield setting()
        return inner, (yield setting())

    with dspy.context(r2p_test="outer"):
        assert drive(steps()) == ("inner", "outer")
        assert dspy.settings.r2p_test == "outer"


@DRIVERS
def test_exception_is_thrown_at_the_call(drive):
    def steps():
        try:
            yield divide(number=0)
        except ZeroDivisionError:
            return (yield divide(number=2))

    assert drive(steps()) == 0.5


@DRIVERS
def test_uncaught_exception_closes_contexts(drive):
    closed = []

    def steps():
        try:
            with dspy.context(r2p_test="inner"):
                yield divide(number=0)
        finally:
            closed.append(dspy.settings.get("r2p_test"))

    with pytest.raises(ZeroDivisionError), dspy.context(r2p_test="outer"):
        drive(steps())
    assert closed == ["outer"]


@DRIVERS
def test_parallel_steps_have_their_own_context(drive):
    def step(number):
        with dspy.context(r2p_test=(dspy.settings.r2p_test, number)):
            yield double(number=number)
            return (yield setting())

    def steps():
        with dspy.context(r2p_test="shared"):
            results = yield [step(number) for number in range(5)]
            return results, (yield setting())

    assert drive(steps()) == ([("shared", number) for number in range(5)], "shared")


@DRIVERS
@pytest.mark.parametrize("error", [KeyboardInterrupt, StopIteration])
def test_parallel_exception_is_raised(drive, error):
    def fail():
        raise error

    def steps():
        yield Call(fail, fail, {})

    with pytest.raises(RuntimeError if error is StopIteration else error):
        drive(steps())


def test_failure_cancels_what_runs_beside_it():
    """Else the calls of the other candidates would go on, and cost."""
    done = []

    def slow():
        for _ in range(100):
            yield double(number=1)
        done.append("slow")

    def failing():
        yield divide(number=0)

    def steps():
        yield [slow(), failing()]

    async def main():
        with pytest.raises(ZeroDivisionError):
            await arun(steps())
        await asyncio.sleep(0.1)

    asyncio.run(main())
    assert done == []
