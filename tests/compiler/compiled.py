"""Rounds of a step, for the tests of compiled ones."""

from helpers import make_round

from fgan import tree


def rounds(algorithm, step, conditional=False, count=2):
    """States and infos of `count` rounds; each state is copied before it is donated."""
    state, path = algorithm.init(), []
    for index in range(count):
        inputs = make_round(algorithm, (2,), conditional, index=index)
        state, info = step(state, *inputs)
        path.append((tree.clone(state), info))
    return path
