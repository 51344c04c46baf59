"""Asking with what another process would get of a function and of examples; see `programs.calls.asking.Each`."""

import pickle

from programs.calls.asking import asked


class Pickled:
    """Sends functions, examples and outcomes through pickles, as a cluster does, and asks here."""

    def __call__(self, name, ask, examples, end):
        from ray import cloudpickle

        packed = cloudpickle.dumps(ask)
        for example in examples:
            outcome = asked(name, pickle.loads(packed), pickle.loads(cloudpickle.dumps(example)))
            end(pickle.loads(pickle.dumps(outcome)))
