"""Segmentation: counts of pixels, metrics from them, masks in folders; and one clear line for what is no mask."""

import re
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kitchens import change_yaml, run_command
from PIL import Image
from shapes import CLASSES, VOID, shapes_kitchen, write_pair
from torch import Tensor, nn

import soupviz as sv
from soupviz.data.images import transforms
from soupviz.spec import TransformSpec
from soupviz.tasks.masks.mask_metrics import DICE, MEAN_IOU, PIXEL_ACCURACY, PIXEL_LOSS
from soupviz.tasks.masks.mask_runs import LARGEST, as_runs, from_runs, made_small
from soupviz.tasks.masks.segmentation import Segmentation
from soupviz.tasks.outcomes import Outcomes


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shapes_kitchen(tmp_path_factory.mktemp("shapes") / "k", num_ingredients=2, number=6, steps=20)


@pytest.fixture
def file(built: Path, tmp_path: Path) -> Path:
    return shutil.copytree(built.parent, tmp_path / "k") / "kitchen.yaml"


def judged(logits: Tensor, masks: Tensor, task: Segmentation | None = None) -> Outcomes:
    task = task or Segmentation()
    return Outcomes.of(task.outcomes(logits, masks), task.targets(masks))


def random_case(seed: int, number: int = 5, classes: int = 4, side: int = 6) -> tuple[Tensor, Tensor]:
    """Logits and masks; the last class is rare, and some pixels are not judged."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(number, classes, side, side, generator=generator)
    masks = torch.randint(0, classes - 1, (number, side, side), generator=generator).to(torch.uint8)
    masks[torch.rand(masks.shape, generator=generator) < 0.1] = VOID
    return logits, masks


# Counts and metrics


def test_counts_of_a_case_by_hand():
    masks = torch.tensor([[[0, 1], [1, VOID]]], dtype=torch.uint8)
    logits = torch.tensor([[[[2.0, 3.0], [0.0, 9.0]], [[0.0, 1.0], [1.0, 0.0]]]])
    found = judged(logits, masks)
    assert found["target"].tolist() == [[1, 2]]
    assert (found["intersection"].tolist(), found["predicted"].tolist()) == ([[1, 1]], [[2, 1]])
    assert MEAN_IOU.value(found) == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert DICE.value(found) == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert PIXEL_ACCURACY.value(found) == Fraction(2, 3)
    nats = [np.log1p(np.exp(-2)), np.log1p(np.exp(2)), np.log1p(np.exp(-1))]
    assert PIXEL_LOSS.value(found) == pytest.approx(np.mean(nats))


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_metrics_are_those_of_scikit_learn_and_torchmetrics(seed):
    from sklearn.metrics import accuracy_score, f1_score, jaccard_score

    logits, masks = random_case(seed)
    keep = masks != VOID
    truth, said = masks[keep].numpy(), logits.argmax(1)[keep].numpy()
    found = judged(logits, masks)
    assert MEAN_IOU.value(found) == pytest.approx(jaccard_score(truth, said, average="macro"), abs=1e-12)
    assert DICE.value(found) == pytest.approx(f1_score(truth, said, average="macro"), abs=1e-12)
    assert float(PIXEL_ACCURACY.value(found)) == pytest.approx(accuracy_score(truth, said), abs=1e-12)
    assert PIXEL_LOSS.value(found) == pytest.approx(
        float(nn.functional.cross_entropy(logits, masks.long(), ignore_index=VOID)), abs=1e-6
    )


def test_a_class_that_is_nowhere_is_left_out_and_one_that_is_only_predicted_counts_as_nothing():
    masks = torch.zeros(1, 2, 2, dtype=torch.uint8)
    right = torch.stack([torch.ones(2, 2), torch.zeros(2, 2), -torch.ones(2, 2)])[None]
    assert MEAN_IOU.value(judged(right, masks)) == 1.0
    wrong = right.clone()
    wrong[0, 2, 0, 0] = 5
    assert MEAN_IOU.value(judged(wrong, masks)) == pytest.approx((3 / 4 + 0) / 2)


def test_of_no_pixel_that_is_judged_metrics_say_nothing():
    masks = torch.full((2, 3, 3), VOID, dtype=torch.uint8)
    found = judged(torch.randn(2, 3, 3, 3), masks)
    assert [metric.value(found) for metric in Segmentation.metrics] == [None] * 4
    assert float(Segmentation().loss(torch.randn(2, 3, 3, 3), masks)) == 0.0


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_the_bound_is_the_value_of_perfect_images_that_wait(seed):
    logits, masks = random_case(seed)
    logits = torch.cat([logits, torch.full((5, 1, 6, 6), -9.0)], dim=1)  # a class that no mask has
    task = Segmentation()
    seen = np.array([0, 3])
    part = Outcomes.blank(5, task.targets(masks))
    assert MEAN_IOU.bound(part) is None
    part.write(seen, task.outcomes(logits[seen], masks[seen]))
    perfect = 30 * nn.functional.one_hot(masks.long() % VOID, 5).permute(0, 3, 1, 2).float()
    perfect[seen] = logits[seen]
    best = judged(perfect, masks)
    for metric in (MEAN_IOU, DICE, PIXEL_ACCURACY):
        assert metric.bound(part) == metric.value(best)
        assert metric.bound(part) >= metric.value(judged(logits, masks))
    assert PIXEL_LOSS.bound(part) == pytest.approx(PIXEL_LOSS.value(best))


def test_resamples_weigh_images():
    found = judged(*random_case(1))
    weights = np.array([[1.0, 1, 1, 1, 1], [2, 0, 1, 0, 2]])
    picked = found.take(np.array([0, 0, 2, 4, 4]))
    for metric in Segmentation.metrics:
        whole, again = metric.values(found, weights)
        assert whole == pytest.approx(float(metric.value(found)))
        assert again == pytest.approx(float(metric.value(picked)))


def test_no_part_of_a_batch_changes_what_comes_of_an_image(monkeypatch):
    logits, masks = random_case(3, number=7)
    whole = judged(logits, masks)
    monkeypatch.setattr("soupviz.tasks.masks.segmentation.AT_ONCE", 1)
    alone = judged(logits, masks)
    for name in ("intersection", "predicted", "pixels"):
        assert np.array_equal(whole[name], alone[name])
    assert whole["loss"] == pytest.approx(alone["loss"], abs=1e-9)


def test_an_image_without_a_finite_answer_has_no_pixel_right_and_is_worse_than_all():
    logits, masks = random_case(2)
    logits[1, 0, 0, 0] = torch.nan
    found = judged(logits, masks)
    assert found["finite"].tolist() == [True, False, True, True, True]
    assert not found["intersection"][1].any() and not found["predicted"][1].any()
    assert np.argmax(Segmentation().hardness(found)) == 1
    assert not MEAN_IOU.judges_nonfinite  # so that any mix without such an image is above
    assert len(found["said"][1]) == 0
    assert PIXEL_LOSS.value(found) == pytest.approx(PIXEL_LOSS.value(found.take(np.array([0, 2, 3, 4]))))


def test_smaller_logits_are_resized_to_the_mask_as_transformers_does():
    logits, masks = random_case(4)
    small = logits[:, :, ::2, ::2]
    larger = nn.functional.interpolate(small, size=(6, 6), mode="bilinear", align_corners=False)
    assert np.array_equal(judged(small, masks)["intersection"], judged(larger, masks)["intersection"])


def test_one_channel_is_the_logit_of_the_second_class():
    task = Segmentation()
    one = torch.randn(3, 1, 4, 4)
    for output in (one, one[:, 0]):
        both = task.answers({"out": output})
        assert torch.equal(both, torch.cat([torch.zeros_like(one), one], dim=1)) and task.width(both) == 2
    masks = torch.randint(0, 2, (3, 4, 4), dtype=torch.uint8)
    expected = nn.functional.binary_cross_entropy_with_logits(one[:, 0], masks.float())
    assert float(task.loss(both, masks)) == pytest.approx(float(expected), abs=1e-6)


def test_what_is_no_map_of_logits_is_refused():
    with pytest.raises(sv.SoupError, match=r"shape \(3, 4\); expected \(batch, classes, height, width\)"):
        Segmentation().answers(torch.zeros(3, 4))


def test_a_perfect_student_has_no_soft_loss_and_the_loss_has_a_gradient():
    task = Segmentation()
    logits, masks = random_case(5)
    assert float(task.soft_loss(logits, logits, 2.0)) == pytest.approx(0, abs=1e-6)
    assert float(task.soft_loss(logits, logits.flip(1), 2.0)) > 0.1
    wanted = logits.clone().requires_grad_()
    task.loss(wanted, masks).backward()
    assert wanted.grad is not None and not wanted.grad[:, :, 0, 0][masks[:, 0, 0] == VOID].any()


def test_an_ensemble_averages_the_chances_of_each_pixel():
    one, other = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    found = Segmentation().averaged([one.numpy(), other.numpy()], [0.25, 0.75], "probabilities")
    assert found.softmax(1) == pytest.approx((0.25 * one.softmax(1) + 0.75 * other.softmax(1)).numpy(), abs=1e-6)


@pytest.mark.parametrize("ignore", [None, 7, [0, 7]])
def test_pixels_that_are_not_judged_are_those_the_task_names(ignore):
    masks = torch.tensor([[[0, 1], [7, 1]]])
    said = torch.zeros(1, 8, 2, 2)
    found = judged(said, masks, Segmentation(ignore))
    assert found["pixels"].tolist() == [{None: 4, 7: 3}.get(ignore, 2) if not isinstance(ignore, list) else 2]
    assert Segmentation(ignore).key != Segmentation(3).key


def test_a_value_that_no_byte_holds_leaves_all_pixels_of_a_mask_of_bytes_judged():
    masks = torch.tensor([[[0, 1], [44, 156]]], dtype=torch.uint8)
    task = Segmentation([300, -100])  # of which a byte would keep 44 and 156
    assert judged(torch.zeros(1, 200, 2, 2), masks, task)["pixels"].tolist() == [4]


# Small pictures of masks


def test_runs_give_a_mask_back():
    mask = np.array([[0, 0, 2], [2, 2, 1]])
    assert as_runs(mask).tolist() == [2, 3, 0, 2, 2, 3, 1, 1]
    assert np.array_equal(from_runs(as_runs(mask)), mask)
    assert from_runs(as_runs(mask)[:0]) is None
    random = np.random.default_rng(0).integers(0, 9, (LARGEST, LARGEST))
    assert np.array_equal(from_runs(as_runs(random)), random)


def test_large_masks_are_made_small_for_people():
    large = torch.arange(3).repeat_interleave(100)[None, None].expand(2, 150, 300)
    small = made_small(large)
    assert small.shape == (2, 64, 128) and small[0, 0].unique().tolist() == [0, 1, 2]


# Masks in folders


def test_masks_are_cut_as_their_images_are(tmp_path):
    picture = np.zeros((10, 20, 3), dtype=np.uint8)
    picture[:, :10] = 200
    mask = (np.arange(20) < 10).astype(np.uint8)[None].repeat(10, axis=0)
    for spec in ({"resize": 6}, {"resize": [4, 8]}, {"resize": [9, 12], "crop": 8}, {}):
        transform = TransformSpec(**spec)
        image = transforms.pipeline(transform, nn.Identity()).to_uint8(Image.fromarray(picture), 0)
        found = transforms.mask_cut("data.test", transform)(mask)
        assert found.shape == image.shape[1:] and np.array_equal(found == 1, image[0] > 100)


def test_a_preset_of_torchvisions_segmentation_resizes_and_does_not_crop():
    preset = TransformSpec(preset="LRASPP_MobileNet_V3_Large_Weights.COCO_WITH_VOC_LABELS_V1")
    assert transforms.mask_cut("data.test", preset)(np.zeros((60, 80), np.uint8)).shape == (520, 693)
    picture = Image.fromarray(np.zeros((60, 80, 3), np.uint8))
    assert transforms.pipeline(preset, nn.Identity()).to_uint8(picture, 0).shape == (3, 520, 693)


def test_masks_are_mapped_into_memory_and_files_are_named(file):
    held_out = sv.Kitchen.load(file).splits.load("held_out")
    assert held_out.labels.shape == (6, 24, 24) and held_out.labels.dtype == torch.uint8
    assert held_out.files[:2] == ("000.png", "001.png") and held_out.classes == tuple(CLASSES)
    wanted = np.asarray(Image.open(file.parent / "held_out/masks/003.png"))
    assert np.array_equal(held_out.labels[3], wanted)


def test_masks_of_sixteen_bits_have_more_than_255_classes(tmp_path):
    file = shapes_kitchen(tmp_path, num_ingredients=1, number=3, steps=1, args={"classes": 400}, classes=None)
    for path in tmp_path.glob("*/masks/*.png"):
        Image.fromarray(np.asarray(Image.open(path)).astype(np.uint16) + 300).save(path)
    change_yaml(file, lambda keys: keys.update(task={"name": "segmentation", "ignore": 555}) or keys.pop("classes"))
    kitchen = sv.Kitchen.load(file)
    assert kitchen.splits.load("held_out").labels.dtype == torch.int32
    assert kitchen.scores.score((("m_0", 1.0),)).facts["class_pixels"][300] > 0


def test_images_of_a_folder_within_folders_find_their_masks_and_idle_masks_are_told(file):
    folder = file.parent / "held_out"
    for kind in ("images", "masks"):
        (folder / kind / "deep").mkdir()
        (folder / kind / "004.png").rename(folder / kind / "deep" / "x.png")
    shutil.copy(folder / "masks/000.png", folder / "masks/lonely.png")
    held_out = sv.Kitchen.load(file).splits.load("held_out")
    assert "deep/x.png" in held_out.files
    assert any("lonely.png" in note and "masks of no image" in note for note in held_out.notes)


def test_a_damaged_mask_is_left_out_with_its_image_where_damaged_images_are(file):
    mask = file.parent / "held_out/masks/002.png"
    mask.write_bytes(mask.read_bytes()[:60])
    with pytest.raises(sv.SoupError, match=r"1 of 6 images cannot be decoded.*its mask .*002\.png"):
        sv.Kitchen.load(file).splits.load("held_out")
    held_out = sv.Kitchen.load(file, skip_corrupt=True).splits.load("held_out")
    assert len(held_out) == len(held_out.labels) == 5 and "002.png" not in held_out.files


def test_arrays_and_data_sets_of_python_have_masks_too(file):
    held_out = sv.Kitchen.load(file).splits.load("held_out")
    inputs = held_out.take(torch.arange(6), torch.device("cpu"))[""].numpy()
    np.savez(file.parent / "h.npz", inputs=inputs, labels=held_out.labels.numpy().astype(np.int64))
    (file.parent / "data.py").write_text(
        "import numpy as np\n\ndef build():\n    with np.load('%s') as f:\n"
        "        return [(x, y) for x, y in zip(f['inputs'], f['labels'])]\n" % (file.parent / "h.npz")
    )
    wanted = sv.Kitchen.load(file).scores.score((("m_0", 1.0),)).values
    for split in ({"format": "arrays", "path": "h.npz"}, {"format": "python", "path": "data.py:build"}):
        change_yaml(file, lambda keys, split=split: keys["data"].update(held_out=split))
        kitchen = sv.Kitchen.load(file)
        assert kitchen.splits.load("held_out").labels.dtype == torch.uint8
        found = kitchen.scores.score((("m_0", 1.0),)).values
        assert {name: float(value) for name, value in found.items()} == pytest.approx(
            {name: float(value) for name, value in wanted.items()}, abs=1e-6
        )


# Bad input


def spoilt(what: str, file: Path) -> None:
    folder = file.parent / "held_out"
    mask = np.asarray(Image.open(folder / "masks/001.png")).copy()
    if what == "missing":
        (folder / "masks/001.png").unlink()
    elif what == "size":
        Image.fromarray(mask[:-3]).save(folder / "masks/001.png")
    elif what == "value":
        mask[0, 0] = 9
        Image.fromarray(mask).save(folder / "masks/001.png")
    elif what == "colours":
        Image.fromarray(mask).convert("RGB").save(folder / "masks/001.png")
    elif what == "twice":
        shutil.copy(folder / "images/001.png", folder / "images/001.bmp")
    elif what == "other size":
        write_pair(folder, "zz", np.zeros((30, 24, 3), np.uint8), np.zeros((30, 24), np.uint8))
    elif what == "nothing judged":
        for path in (folder / "masks").iterdir():
            Image.fromarray(np.full_like(mask, 255)).save(path)
    elif what == "no folder":
        shutil.rmtree(folder / "masks")
    elif what == "no images":
        shutil.rmtree(folder / "images")
        (folder / "images").mkdir()


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("missing", "1 of 6 images have no mask in .*masks: 001; expected masks/001.png"),
        ("size", r"001\.png has 24 x 21 pixels, its image 24 x 24"),
        ("value", r"the mask of 001\.png has the value 9, .* 3 classes \(0 to 2; 255 is not judged\)"),
        ("colours", r"001\.png has colours \(RGB\)"),
        ("twice", r"001\.bmp and 001\.png|001\.png and 001\.bmp|001\.bmp and"),
        ("other size", r"zz\.png has shape \(3, 30, 24\).*give the transform a resize"),
        ("nothing judged", "none of 6 masks has a pixel that is judged"),
        ("no folder", "masks is not a folder"),
        ("no images", "holds no images"),
    ],
)
def test_a_mask_that_is_none_is_told_in_one_line(what, told, file, capsys):
    spoilt(what, file)
    status, _, err = run_command(capsys, "score", file)
    assert status == 2 and "Traceback" not in err
    line = err.strip().splitlines()[-1]
    assert re.search(told, line), line


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda keys: keys["data"]["held_out"].pop("masks"), "format masks needs masks"),
        (lambda keys: keys["data"]["held_out"].update(format="imagefolder"), "takes no masks, which goes with masks"),
        (lambda keys: keys.update(task="classification"), "or the task segmentation"),
        (lambda keys: keys.update(task={"name": "segmentation", "ignore": "void"}), "task.ignore is 'void'"),
        (lambda keys: keys.update(task={"name": "segmentation", "ignored": 3}), "ignored"),
        (lambda keys: keys.update(classes=["a", "b"]), "2 classes .* head has 3 outputs"),
        (lambda keys: keys["data"]["held_out"].update(transform={"corrupt": "rotate"}), "corrupt rotate moves"),
        (lambda keys: keys["data"]["held_out"].update(transform={"crop": 30}), "fewer than the crop of 30"),
        (lambda keys: keys["data"]["held_out"].update(restrict_classes=True), "restrict_classes"),
    ],
)
def test_a_kitchen_that_does_not_go_with_masks_is_told_in_one_line(change, told, file, capsys):
    change_yaml(file, change)
    status, _, err = run_command(capsys, "score", file)
    assert status == 2 and "Traceback" not in err
    assert re.search(told, err), err


def test_a_folder_of_classes_has_no_masks(file, capsys, tmp_path):
    for index in range(2):
        (tmp_path / "few" / "a").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (24, 24)).save(tmp_path / "few" / "a" / f"{index}.png")
    split = {"format": "imagefolder", "path": str(tmp_path / "few")}
    change_yaml(file, lambda keys: keys["data"].update(held_out=split) or keys.pop("classes"))
    status, _, err = run_command(capsys, "score", file)
    assert status == 2 and "take format masks" in err
