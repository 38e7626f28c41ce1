"""Detection: what matches what, average precision as pycocotools has it, resamples, bounds, what a model returns."""

import time

import numpy as np
import pytest
import torch
from detections import as_dict, labels_of, outcomes_of, random_case, reference, reference_by_class, truth

from soupviz.data.detection.readings import overlaps
from soupviz.errors import KitchenError, ModelError
from soupviz.tasks import resampling
from soupviz.tasks.boxes import average_precision
from soupviz.tasks.boxes.average_precision import MeanAP, of_each
from soupviz.tasks.boxes.detection import Detection
from soupviz.tasks.boxes.detector import alike
from soupviz.tasks.boxes.fusing import fused
from soupviz.tasks.boxes.matching import Detections, rank_within
from soupviz.tasks.finding import find_task
from soupviz.tasks.outcomes import FINITE, Outcomes, joined

MAP, MAP50, *SIZED = Detection.metrics


def box(*corners, score=0.9, label=1):
    return [*corners, score, label]


def arrays(*rows):
    return np.array(rows, dtype=np.float64).reshape(-1, len(rows[0]) if rows else 7)


# What is counted


def test_the_overlap_of_two_boxes_is_their_intersection_over_their_union_and_of_a_crowd_over_the_box():
    one, other = np.array([0.0, 0, 4, 2]), np.array([2.0, 0, 6, 2])
    assert float(overlaps(one, other, False)) == pytest.approx(4 / 12)
    assert float(overlaps(one, other, True)) == pytest.approx(4 / 8)
    assert float(overlaps(one, other + 10, False)) == 0.0


def test_average_precision_by_hand():
    """Two objects; the surest detection is wrong, the next two right: precision 1/2 and 2/3, so 2/3 at every recall."""
    truths = [arrays(truth(0, 0, 10, 10), truth(20, 0, 30, 10))]
    found = [
        arrays(box(50, 50, 60, 60, score=0.9), box(0, 0, 10, 10, score=0.8), box(20, 0, 30, 10, score=0.7)),
    ]
    assert MAP.value(outcomes_of(truths, found)) == pytest.approx(2 / 3)
    missed = [found[0][:2]]  # recall 1/2: 51 of 101 recalls are reached, at a precision of 1/2
    assert MAP.value(outcomes_of(truths, missed)) == pytest.approx(51 / 101 / 2)


def test_an_overlap_of_two_thirds_counts_at_four_of_ten_thresholds():
    truths, found = [arrays(truth(0, 0, 10, 12))], [arrays(box(0, 0, 10, 8))]
    outcomes = outcomes_of(truths, found)
    assert MAP.value(outcomes) == pytest.approx(0.4)
    assert MAP50.value(outcomes) == pytest.approx(1.0)


def test_a_crowd_takes_any_number_of_detections_and_counts_for_nothing():
    truths = [arrays(truth(0, 0, 40, 40, crowd=True), truth(60, 0, 70, 10))]
    found = [arrays(*[box(0, 0, 20, 40, score=0.9 - k / 10) for k in range(4)], box(60, 0, 70, 10, score=0.1))]
    assert MAP.value(outcomes_of(truths, found)) == pytest.approx(1.0)


def test_one_object_is_found_once():
    truths = [arrays(truth(0, 0, 10, 10), truth(60, 0, 70, 10))]
    found = [arrays(box(0, 0, 10, 10), box(0, 0, 10, 10, score=0.8), box(60, 0, 70, 10, score=0.7))]
    assert MAP.value(outcomes_of(truths, found)) == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_sizes_are_those_of_the_annotations_areas():
    truths = [arrays([0, 0, 40, 40, 1, 0, 1000.0], truth(60, 0, 160, 100))]
    found = [arrays(box(0, 0, 40, 40), box(60, 0, 160, 100, score=0.8))]
    outcomes = outcomes_of(truths, found)
    assert [metric.value(outcomes) for metric in SIZED] == [pytest.approx(1.0), None, pytest.approx(1.0)]


def test_of_a_class_in_an_image_the_hundred_surest_count():
    crowd = [box(200, 200, 210, 210, score=0.5)] * 100
    truths = [arrays(truth(0, 0, 10, 10), truth(60, 0, 70, 10, label=2))]
    found = [arrays(*crowd, box(0, 0, 10, 10, score=0.4), box(60, 0, 70, 10, score=0.1, label=2))]
    outcomes = outcomes_of(truths, found)
    assert len(outcomes["score"][0]) == 101
    assert average_precision.by_class(outcomes)[1].mean() == 0.0
    assert average_precision.by_class(outcomes)[2].mean() == 1.0


def test_without_an_object_there_is_no_value_and_without_a_detection_it_is_zero():
    nothing = np.empty((0, 6))
    assert MAP.value(outcomes_of([arrays()], [arrays(box(0, 0, 1, 1))])) is None
    assert MAP.value(outcomes_of([arrays(truth(0, 0, 10, 10))], [nothing])) == 0.0


@pytest.mark.extras
def test_every_metric_is_that_of_pycocotools_on_random_cases():
    pytest.importorskip("pycocotools")
    for seed in range(60):
        truths, found = random_case(seed, num_images=1 + seed % 17)
        if not sum(map(len, found)):
            continue
        outcomes = outcomes_of(truths, found)
        own = {metric.name: metric.value(outcomes) for metric in Detection.metrics}
        assert own == pytest.approx(reference(truths, found), abs=1e-9), seed


@pytest.mark.extras
def test_average_precision_by_class_is_that_of_pycocotools_on_random_cases():
    pytest.importorskip("pycocotools")
    for seed in range(20):
        truths, found = random_case(seed)
        facts = Detection().facts(outcomes_of(truths, found), 0)
        assert facts["class_map"] == pytest.approx(reference_by_class(truths, found), abs=1e-9), seed


def test_batches_change_no_outcome():
    truths, found = random_case(3)
    whole, single = (outcomes_of(truths, found, size) for size in (None, 1))
    for name in whole.columns:
        assert all(np.array_equal(a, b) for a, b in zip(whole[name], single[name], strict=True))


def test_rows_are_ranked_among_those_with_the_same_keys():
    assert rank_within(np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 2])).tolist() == [0, 0, 0, 1, 0]
    assert len(Detections(*(np.zeros(0, np.int64),) * 2, np.zeros(0), np.zeros((0, 4))).best().image) == 0


# Resamples and bounds


def repeated(outcomes, counts):
    return outcomes.take(np.repeat(np.arange(len(outcomes)), counts))


def without_ties(case, num_images, seed=0):
    """Of equal scores the order among copies of an image, and among models, would say which is first."""
    truths, found = random_case(case, num_images)
    scores = np.random.default_rng(seed)
    for rows in found:
        rows[:, 4] = scores.random(len(rows))
    return outcomes_of(truths, found)


@pytest.mark.parametrize("metric", Detection.metrics, ids=lambda metric: metric.name)
def test_a_resample_is_the_value_of_its_images(metric):
    outcomes = without_ties(4, 30)
    counts = np.random.default_rng(0).multinomial(30, np.full(30, 1 / 30), size=20)
    values = metric.values(outcomes, counts.astype(np.float64))
    assert values == pytest.approx([metric.value(repeated(outcomes, row)) for row in counts], abs=1e-12)
    assert metric.values(outcomes, np.ones((1, 30)))[0] == metric.value(outcomes)


def test_a_permutation_is_a_weighing_of_both_models_images():
    new, old = without_ties(5, 15), without_ties(5, 15, seed=1)
    both = joined([new, old])
    swaps = np.random.default_rng(0).integers(0, 2, 15)
    mixed = Outcomes.of({name: np.where(swaps, old[name], new[name]) for name in new.columns}, new.targets)
    weights = np.concatenate([1 - swaps, swaps])[None].astype(np.float64)
    assert MAP.values(both, weights)[0] == pytest.approx(MAP.value(mixed), abs=1e-12)
    assert 0 < resampling.permutation_p(MAP, new, old, draws=50) <= 1


def test_no_more_is_drawn_than_a_ranked_metric_needs():
    assert resampling.draws_of(MAP, 10_000) == MAP.draws == 1_000
    assert resampling.draws_of(MAP, 100) == 100


@pytest.mark.parametrize("metric", Detection.metrics, ids=lambda metric: metric.name)
def test_the_bound_is_the_value_with_perfect_images_and_falls_to_the_value(metric):
    truths, found = random_case(6, num_images=20)
    whole = outcomes_of(truths, found)
    assert metric.bound(Outcomes.blank(20, whole.targets)) is None
    seen = Outcomes.blank(20, whole.targets)
    bounds = []
    for row in range(20):
        part = {name: values[row : row + 1] for name, values in whole.columns.items()}
        seen.write(np.array([row]), part)
        bounds.append(metric.bound(seen))
        perfect = [
            found[index]
            if index <= row
            else np.column_stack([of[:, :4], np.full(len(of), 2.0), of[:, 4]])[of[:, 5] == 0]
            for index, of in enumerate(truths)
        ]
        told = metric.value(outcomes_of(truths, [np.asarray(one, dtype=np.float32) for one in perfect]))
        assert bounds[-1] == pytest.approx(told, abs=1e-9)
    known = [one for one in bounds if one is not None]
    assert known == sorted(known, reverse=True)
    assert bounds[-1] == metric.value(whole)


def many(num_images, per_image, num_classes=3):
    """Outcomes of so many images and detections, a tenth of them right, without matching them."""
    random = np.random.default_rng(0)
    total = num_images * per_image
    # Objects are looked up by row: each image's own are of the classes that its right detections have.
    label = random.integers(1, num_classes + 1, (num_images, per_image))
    hits = random.random((num_images, per_image)) < 0.1
    best = random.integers(1, 11, (num_images, per_image))
    bits = np.where(hits, (1 << best) - 1, 0).astype(np.uint16)
    truths = [
        np.array([truth(0, 0, 50, 50, label=one) for one in row[hit]]).reshape(-1, 7)
        for row, hit in zip(label, hits, strict=True)
    ]
    scores = random.random(total).reshape(num_images, per_image).astype(np.float32)

    def column(values):
        found = np.empty(num_images, dtype=object)
        for index, one in enumerate(values):
            found[index] = one
        return found

    matched = np.repeat(bits[:, :, None], 4, axis=2)
    columns = {
        FINITE: np.ones(num_images, dtype=np.bool_),
        "category": column(label.astype(np.int32)),
        "score": column(scores),
        "box": column(np.tile(np.float32([0, 0, 50, 50]), (num_images, per_image, 1))),
        "matched": column(matched),
        "ignored": column(np.zeros_like(matched)),
    }
    return Outcomes.of(columns, {"truths": column(truths)})


def test_a_thousand_resamples_of_500_images_with_50_000_detections_take_two_seconds_at_most():
    outcomes = many(500, 100)
    start = time.process_time()
    found = resampling.bootstrap_values(MAP, outcomes, draws=1000)
    assert time.process_time() - start < 2.0
    assert len(found) == 1000 and found.std() > 0


def test_all_that_is_told_of_5_000_images_is_computed_in_a_second():
    outcomes = many(5000, 20)
    start = time.process_time()
    for metric in Detection.metrics:
        metric.value(outcomes)
    assert time.process_time() - start < 1.0


# One image


def test_an_image_alone_is_judged_by_its_own_average_precision():
    truths = [arrays(truth(0, 0, 10, 10), truth(20, 0, 30, 10)), arrays(), arrays()]
    found = [
        arrays(box(50, 50, 60, 60, score=0.9, label=2), box(0, 0, 10, 10, score=0.8)),
        arrays(box(0, 0, 5, 5, score=0.3)),
        np.empty((0, 6)),
    ]
    outcomes, task = outcomes_of(truths, found), Detection()
    assert of_each(outcomes) == pytest.approx([0.25, np.nan, np.nan], nan_ok=True)
    assert task.hardness(outcomes) == pytest.approx([0.75, 0.3, 0.0])
    assert task.target(outcomes, 0, ["", "cell"]) == "2 cell" and task.target(outcomes, 1, []) == "no objects"
    assert task.told(outcomes, 0, []) == "found 1 of 2, AP of the image 25.0 %"
    assert task.told(outcomes, 1, []) == "found 1, where nothing is; surest 0.30"
    assert task.told(outcomes, 2, []) == "found 0, where nothing is"


def test_facts_tell_classes_and_what_may_be_wrong():
    truths = [arrays(truth(0, 0, 10, 10), truth(0, 0, 10, 10, label=3, crowd=True))]
    found = [arrays(box(0, 0, 10, 10), box(5, 5, 2, 9, score=0.25, label=7))]
    facts = Detection().facts(outcomes_of(truths, found), 0)
    assert facts["class_map"] == {"1": 1.0} and facts["class_count"] == {"1": 1}
    assert (facts["lowest_score"], facts["unknown_classes"], facts["num_without_area"]) == (0.25, {"7": 1}, 1)


def test_an_answer_that_is_not_finite_leaves_the_image_without_one():
    truths = [arrays(truth(0, 0, 10, 10))] * 2
    found = [arrays(box(0, 0, 10, 10)), arrays(box(0, 0, np.nan, 10), box(0, 0, 10, 10, score=0.5))]
    outcomes = outcomes_of(truths, found)
    assert outcomes[FINITE].tolist() == [True, False] and outcomes.num_nonfinite == 1
    assert [len(one) for one in outcomes["score"]] == [1, 1]
    assert np.isinf(Detection().hardness(outcomes)[1])


# What a detector returns


class Dropping(torch.nn.Module):
    """A detector that, as torchvision's, leaves out boxes whose score is no number above a threshold."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(1, 1, 1)
        torch.nn.init.ones_(self.layer.weight)
        torch.nn.init.zeros_(self.layer.bias)

    def forward(self, images):
        found = []
        for image in images:
            score = (self.layer(image[None]).flatten() / image.numel()).softmax(dim=0)[:1]
            kept = score > 0.01
            boxes = torch.tensor([[0.0, 0, 10, 10]])[kept]
            found.append({"boxes": boxes, "scores": score[kept], "labels": torch.ones(1)[kept]})
        return found


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_an_image_whose_boxes_the_detector_dropped_as_no_numbers_has_no_finite_answer(number):
    images = [torch.ones(1, 4, 4), torch.ones(1, 4, 4), torch.ones(1, 4, 4)]
    images[1][0, 0, 0] = number
    task, labels = Detection(), labels_of([arrays(truth(0, 0, 10, 10))] * 3)
    model = Dropping().eval().requires_grad_(False)
    together = task.answer_batch(model, {"": images})
    alone = [task.answer_batch(model, {"": [image]}) for image in images]
    assert task.outcomes(together, labels)[FINITE].tolist() == [True, False, True]
    for row, one in zip(together, alone, strict=True):
        assert torch.equal(row[: one.shape[1]], one[0]) or (row.isnan().any() and one.isnan().any())


def test_numbers_that_only_overflow_when_they_are_summed_are_finite():
    images = [torch.full((1, 4, 4), 3e38)]
    with torch.no_grad():
        answers = Detection().answer_batch(Dropping().eval(), {"": images})
    assert answers.isfinite().all() and answers[0, 0, 6] == 1


def test_nothing_is_left_in_a_model_that_was_watched():
    model = Dropping().eval()
    Detection().answer_batch(model, {"": [torch.ones(1, 4, 4)]})
    assert not any(module._forward_hooks for module in model.modules())


def test_labels_are_shifted_where_the_detectors_first_class_is_one():
    task = Detection(label_offset=1)
    answers = task.answers([as_dict(arrays(box(0, 0, 10, 10, label=1)))])
    outcomes = task.outcomes(answers, labels_of([arrays(truth(0, 0, 10, 10, label=0))]))
    assert [one.tolist() for one in outcomes["category"]] == [[0]]
    assert task.key != Detection().key


@pytest.mark.parametrize(
    ("output", "named"),
    [
        (torch.zeros(2, 3), "Tensor"),
        ({"boxes": 1}, "dict"),
        ([{"boxes": torch.zeros(1, 4), "scores": torch.zeros(1)}], "boxes, scores for image 0"),
        ([{"boxes": torch.zeros(2, 4), "scores": torch.zeros(1), "labels": torch.zeros(1)}], "(2, 4)"),
    ],
)
def test_another_output_is_refused_by_what_it_is(output, named):
    with pytest.raises(ModelError) as error:
        Detection().answers(output)
    assert (named in str(error.value) and "boxes, scores and labels" in str(error.value)) or "expected" in str(
        error.value
    )


@pytest.mark.parametrize("parameters", [{"offset": 1}, {"label_offset": "one"}, {"label_offset": True}])
def test_other_parameters_are_refused(parameters, tmp_path):
    with pytest.raises(KitchenError, match="label_offset"):
        find_task("detection", parameters, tmp_path)


def test_images_of_one_shape_are_called_together_and_on_a_cpu_not_too_many():
    shapes = [(3, 20, 30), (3, 30, 20), (3, 20, 30), (3, 1000, 1500), (3, 1000, 1500)]
    assert alike([torch.zeros(shape) for shape in shapes]) == [[0, 2], [1], [3], [4]]


def test_a_batch_gives_what_single_images_give():
    class Padding(torch.nn.Module):
        def forward(self, images):
            height, width = (max(side) for side in zip(*(one.shape[1:] for one in images), strict=True))
            return [
                {"boxes": torch.tensor([[0.0, 0, width, height]]), "scores": torch.ones(1), "labels": torch.ones(1)}
                for _ in images
            ]

    images = [torch.zeros(3, 4, 6), torch.zeros(3, 5, 5), torch.zeros(3, 4, 6)]
    answers = Detection().answer_batch(Padding().eval(), {"": images})
    assert answers[:, 0, 2:4].tolist() == [[6, 4], [5, 5], [6, 4]]


def test_metrics_have_their_names_units_and_direction():
    assert [metric.name for metric in Detection.metrics] == ["map", "map50", "map_small", "map_medium", "map_large"]
    assert all(metric.unit == "%" and metric.higher_is_better for metric in Detection.metrics)
    assert isinstance(MAP, MeanAP)


# Ensembles


def found_by(*rows, image=0):
    held = np.array(rows, dtype=np.float64).reshape(-1, 6)
    return Detections(np.full(len(held), image), held[:, 5].astype(np.int64), held[:, 4], held[:, :4])


def test_boxes_of_two_detectors_are_fused_by_hand():
    """Overlap 9/11 joins: the corner is (0 x 0.8 + 1 x 0.4) / 1.2, the score their mean; one alone counts half."""
    one = found_by(box(0, 0, 10, 10, score=0.8), box(50, 50, 60, 60, score=0.6))
    other = found_by(box(1, 0, 11, 10, score=0.4), box(0, 0, 10, 10, score=0.5, label=2))
    together = fused([one, other], [0.5, 0.5])
    assert together.label.tolist() == [1, 1, 2]
    assert together.score == pytest.approx([0.6, 0.3, 0.25])
    assert together.boxes[0] == pytest.approx([1 / 3, 0, 10 + 1 / 3, 10])
    assert together.boxes[1].tolist() == [50, 50, 60, 60]


def test_weights_of_fused_detectors_multiply_their_scores():
    one, other = found_by(box(0, 0, 10, 10, score=0.4)), found_by(box(0, 0, 10, 10, score=0.8))
    assert fused([one, other], [0.75, 0.25]).score == pytest.approx([(1.5 * 0.4 + 0.5 * 0.8) / 2])


def test_a_fused_box_moves_with_each_that_joins_and_more_than_there_are_models_add_nothing():
    one = found_by(box(0, 0, 10, 10, score=0.8), box(2, 0, 12, 10, score=0.7), box(3, 0, 13, 10, score=0.6))
    together = fused([one], [1.0])
    assert together.score == pytest.approx([0.7])
    assert together.boxes[0, 0] == pytest.approx((2 * 0.7 + 3 * 0.6) / 2.1)


def test_an_ensemble_of_one_detector_twice_is_that_detector_where_boxes_lie_apart():
    truths, found = (
        [arrays(truth(0, 0, 10, 10), truth(50, 0, 60, 10))] * 2,
        [
            arrays(box(0, 0, 10, 9, score=0.7), box(50, 0, 60, 10, score=0.6, label=2)),
            arrays(box(0, 0, 9, 10, score=0.5)),
        ],
    )
    task = Detection()
    answers = task.answers([as_dict(one) for one in found])
    together = task.averaged([answers.numpy()] * 2, [0.5, 0.5], "outputs")
    assert together == pytest.approx(answers, abs=1e-6)
    assert task.outcomes(together, labels_of(truths))["matched"][0].tolist()


def test_an_ensemble_has_no_finite_answer_where_a_member_has_none():
    task = Detection()
    good = task.answers([as_dict(arrays(box(0, 0, 1, 1))), as_dict(np.empty((0, 6)))]).numpy()
    bad = good.copy()
    bad[1] = np.nan
    together = task.averaged([good, bad], [0.5, 0.5], "outputs")
    outcomes = task.outcomes(together, labels_of([arrays(truth(0, 0, 1, 1))] * 2))
    assert outcomes[FINITE].tolist() == [True, False]
