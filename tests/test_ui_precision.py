"""Two precisions side by side."""

from scores import a_step

from soupviz.recipes.trajectory import Step
from soupviz.tasks.classes.class_metrics import ACCURACY
from soupviz.ui.soup.precision import other_than, table, verdict


def step(number: int, name: str, accuracy: float | None, accepted: bool) -> Step:
    return a_step(number, name, accuracy, 0.7, accepted, at_most=accuracy or 0.69)


OWN = [step(0, "a", 0.70, True), step(1, "b", 0.71, True), step(2, "c", None, False)]
SAME = [step(0, "a", 0.70, True), step(1, "b", 0.72, True), step(2, "c", 0.68, False)]
DIFFERENT = [step(0, "b", 0.71, True), step(1, "a", 0.70, False), step(2, "c", 0.72, True)]


def test_the_sentence_says_whether_the_same_ingredients_are_accepted():
    assert verdict(OWN, SAME, "float32", "bfloat16") == "Yes: both accept a, b."
    assert verdict(OWN, DIFFERENT, "float32", "bfloat16") == "No: float32 accepts a, b; bfloat16 accepts b, c."


def test_the_table_follows_the_first_search_and_finds_each_ingredient_in_the_second():
    rows = table(ACCURACY, OWN, DIFFERENT, "float32", "bfloat16")
    assert rows["ingredient"].tolist() == ["a", "b", "c"]
    assert rows["float32"].tolist() == ["start", "accepted", "rejected early"]
    assert rows["bfloat16"].tolist() == ["rejected", "start", "accepted"]
    assert rows["accuracy in bfloat16"].tolist() == ["70.0 %", "71.0 %", "72.0 %"]


def test_a_kitchen_in_reduced_precision_is_compared_with_float32():
    assert (other_than("float32"), other_than("float16")) == ("bfloat16", "float32")
