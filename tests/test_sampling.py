"""What is drawn of more things than a picture can show."""

from itertools import pairwise

import pytest

from soupviz.pictures.sampling import leading, thinned, told


@pytest.mark.parametrize(("number", "most"), [(0, 5), (4, 5), (5, 5), (6, 5), (2000, 7), (1000, 500)])
def test_as_many_are_drawn_as_there_are_or_as_may_be_in_their_order(number: int, most: int) -> None:
    drawn = thinned(range(number), most)
    assert len(drawn) == min(number, most)
    assert drawn == sorted(set(drawn))


def test_what_has_to_be_there_is_drawn_and_the_rest_thinned_out_evenly() -> None:
    drawn = thinned(range(100), 10, keeps=lambda one: one in (3, 99))
    assert {3, 99} <= set(drawn) and len(drawn) == 10
    gaps = [after - before for before, after in pairwise(drawn)]
    assert max(gaps) <= 16
    assert thinned(range(100), 2, keeps=lambda one: one < 5) == [0, 1, 2, 3, 4]


def test_the_first_are_drawn_and_what_has_to_be_there() -> None:
    assert leading(range(100), 3, keeps=lambda one: one == 50) == [0, 1, 2, 50]


def test_it_is_said_what_is_not_drawn() -> None:
    assert told(5, 5, "models", "the best") == ""
    assert "60 of 2,102 models: the best" in told(60, 2102, "models", "the best")
