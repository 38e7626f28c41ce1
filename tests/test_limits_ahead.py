"""When the mixes that are said to come next are given up."""

import weakref

from scores import BY_ACCURACY, CLASSIFICATION, counted

from soupviz.mixing.averaging import mean_of
from soupviz.recipes.pool import ScoredPool

MANY = 150  # sixty-four workers begin 129
NAMES = [f"m{number}" for number in range(MANY)]
BEST = counted(9, 10)


class Asked:
    """Looks ahead at so many as there are workers for; answers at once."""

    def __init__(self, num_ahead=MANY):
        self.num_ahead = num_ahead
        self.told, self.challenged = {}, {}
        self.pool = ScoredPool(NAMES, CLASSIFICATION, BY_ACCURACY, self.attempt, ahead=self.ahead)

    def attempt(self, mixture, limit):
        self.challenged[mixture] = limit
        return counted(5, 10)

    def ahead(self, likely):
        self.told = dict(pair for pair, _ in zip(likely, range(self.num_ahead), strict=False))

    def greedy(self, start=0):
        mixes = [mean_of(["m0", name]) for name in NAMES]
        for place in range(start, MANY):
            self.pool.challengers((mix, BEST, ()) for mix in mixes[place:])
            yield mixes[place]


def test_what_is_asked_is_given_up_by_the_limit_that_was_told_whatever_the_number_told():
    asked = Asked()
    first = None
    for mix in asked.greedy():
        first = first or dict(asked.told)
        asked.pool.challenge(mix, BEST)
        assert asked.challenged[mix] is first[mix]


def test_an_order_of_units_is_let_go_with_the_mix_that_no_longer_comes_next():
    asked = Asked(num_ahead=3)
    orders = []
    for mix in asked.greedy(start=MANY - 20):
        orders += [weakref.ref(limit.order) for limit in asked.told.values()]
        asked.pool.challenge(mix, BEST)
        asked.challenged.clear()
        assert len({id(order()) for order in orders if order() is not None}) <= 3


def test_a_limit_against_another_best_is_another():
    asked = Asked()
    mix = next(asked.greedy())
    told = asked.told[mix]
    asked.pool.challenge(mix, counted(7, 10))
    assert asked.challenged[mix] is not told
    asked.pool.challenge(mix, BEST, ties=True)
    assert asked.challenged[mix] is not told
