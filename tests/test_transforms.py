import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import models
from torchvision import transforms as T
from torchvision.transforms import InterpolationMode

from soupviz.data.images.transforms import corrupt, normalize, pipeline
from soupviz.errors import DataError
from soupviz.recognition.trainer import transform
from soupviz.spec import CORRUPTIONS, TransformSpec


def picture(width: int = 41, height: int = 29, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """Smooth shapes with a little noise: resizing and blurring change it, but not beyond recognition."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / 5 + shift) * np.cos(y / 4 - shift) for shift in (0.0, 1.0, 2.0)]
    pixels = 128 + 90 * np.stack(waves, -1) + np.random.default_rng(seed).normal(0, 8, (height, width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8), "RGB").convert(mode)


def applied(image: Image.Image, index: int = 0, **keys) -> np.ndarray:
    return pipeline(TransformSpec(**keys), nn.Identity()).to_uint8(image, index)


def as_array(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def test_without_keys_an_image_is_its_rgb_pixels():
    found = applied(picture())
    assert found.dtype == np.uint8
    assert np.array_equal(found, as_array(picture()))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_every_mode_of_image_becomes_rgb_or_grey(mode):
    image = picture(mode=mode)
    assert np.array_equal(applied(image), as_array(image.convert("RGB")))
    assert np.array_equal(applied(image, channels=1), as_array(image.convert("L")))


@pytest.mark.parametrize("size", [(41, 29), (29, 41), (32, 32), (20, 90)])
def test_resize_then_square_centre_crop_as_torchvision_does_on_tensors(size):
    image = picture(*size)
    reference = T.Compose([T.PILToTensor(), T.Resize(24), T.CenterCrop(24)])(image)
    assert np.array_equal(applied(image, resize=24), reference.numpy())
    reference = T.Compose([T.PILToTensor(), T.Resize(24), T.CenterCrop(16)])(image)
    assert np.array_equal(applied(image, resize=24, crop=16), reference.numpy())


def test_two_numbers_squash_to_height_and_width_and_nothing_is_cut_unless_asked_for():
    image = picture(60, 90)
    reference = T.Compose([T.PILToTensor(), T.Resize((24, 32))])(image)
    assert np.array_equal(applied(image, resize=[24, 32]), reference.numpy())
    assert np.array_equal(applied(image, resize=[24, 32], crop=16), T.CenterCrop(16)(reference).numpy())
    for wrong in ([24], [24, 0], [1, 2, 3]):
        with pytest.raises(ValueError, match="resize"):
            TransformSpec(resize=wrong)


@pytest.mark.extras
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("ViTImageProcessor", {"size": {"height": 24, "width": 32}}),
        ("ViTImageProcessor", {"size": {"height": 24, "width": 24}, "resample": 3}),
        ("DeiTImageProcessor", {"size": {"height": 32, "width": 32}, "crop_size": {"height": 24, "width": 24}}),
        ("CLIPImageProcessor", {"size": {"shortest_edge": 24}, "crop_size": {"height": 24, "width": 24}}),
    ],
)
def test_what_a_preprocessor_config_says_is_what_transformers_does_up_to_rounding(kind, options):
    transformers = pytest.importorskip("transformers")
    processor = getattr(transformers, kind)(**options)
    values, notes = transform(json.loads(processor.to_json_string()))
    steps = pipeline(TransformSpec(**values), nn.Identity())
    image = picture(60, 90)
    ours = normalize(torch.from_numpy(steps.to_uint8(image, 0))[None], steps.mean, steps.std)
    theirs = processor(image, return_tensors="pt")["pixel_values"]
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) <= 1.01 / 255 / min(steps.std)
    assert notes == []


@pytest.mark.parametrize("name", ["nearest", "bilinear", "bicubic"])
def test_interpolation_changes_the_resizing(name):
    reference = T.Compose([T.PILToTensor(), T.Resize(17, InterpolationMode(name))])(picture(30, 30))
    assert np.array_equal(applied(picture(30, 30), resize=17, interpolation=name), reference.numpy())


def test_a_crop_alone_does_not_resize():
    assert np.array_equal(applied(picture(), crop=8), as_array(T.CenterCrop(8)(picture())))


def test_normalization_is_totensor_and_normalize():
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    steps = [T.PILToTensor(), T.Resize(24), T.ConvertImageDtype(torch.float32), T.Normalize(mean, std)]
    reference = T.Compose([*steps[:2], T.CenterCrop(24), *steps[2:]])(picture())
    kept = torch.tensor(applied(picture(), resize=24))
    found = normalize(kept[None], mean, std)[0]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, reference, rtol=0, atol=1e-6)


def test_normalization_leaves_the_kept_images_unchanged():
    kept = torch.full((1, 1, 2, 2), 51, dtype=torch.uint8)
    assert normalize(kept, (0.1,), (0.5,)).unique().item() == pytest.approx(0.2)
    assert kept.unique().tolist() == [51]


def test_without_mean_and_std_values_lie_between_0_and_1():
    steps = pipeline(None, nn.Identity())
    assert (steps.mean, steps.std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert pipeline(TransformSpec(channels=1), nn.Identity()).mean == (0.0,)


def test_a_torchvision_preset_does_what_torchvision_does():
    image = picture(300, 260)
    name = "ResNet50_Weights.IMAGENET1K_V2"
    steps = pipeline(TransformSpec(preset=name), nn.Identity())
    found = normalize(torch.tensor(steps.to_uint8(image, 0))[None], steps.mean, steps.std)[0]
    reference = models.get_weight(name).transforms()(image)
    assert found.shape == reference.shape == (3, 224, 224)
    torch.testing.assert_close(found, reference, rtol=0, atol=1e-5)


@pytest.mark.extras
@pytest.mark.parametrize("size", [(300, 260), (150, 400), (32, 32)])
@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize(
    "arguments",
    [{}, {"input_size": [3, 32, 32]}, {"input_size": [1, 40, 48], "mean": [0.4], "std": [0.3]}, {"crop_pct": 1.0}],
)
def test_a_timm_preset_does_what_timm_does_pixel_for_pixel(size, crop_mode, arguments):
    timm = pytest.importorskip("timm")
    model = timm.create_model("test_resnet.r160_in1k", pretrained=False)
    model.pretrained_cfg = model.pretrained_cfg | {"crop_mode": crop_mode, "interpolation": "bicubic"}
    spec = TransformSpec(preset="timm", args=arguments)
    steps = pipeline(spec, model)
    image = picture(*size)
    found = torch.tensor(steps.to_uint8(image, 0))
    config = timm.data.resolve_data_config(dict(arguments), model=model)
    reference = timm.data.create_transform(**config)
    image = image.convert("L") if len(steps.mean) == 1 else image
    assert np.array_equal(found, timm.data.create_transform(**config, normalize=False)(image))
    torch.testing.assert_close(normalize(found[None], steps.mean, steps.std)[0], reference(image), rtol=0, atol=1e-6)


@pytest.mark.extras
def test_timms_numbers_and_its_crop_mode_are_part_of_the_description():
    timm = pytest.importorskip("timm")
    model = timm.create_model("test_resnet.r160_in1k", pretrained=False)
    described = {str(pipeline(TransformSpec(preset="timm"), model).description)}
    for change in ({"crop_mode": "squash"}, {"crop_pct": 0.5}, {"interpolation": "bicubic"}):
        model.pretrained_cfg = model.pretrained_cfg | change
        described.add(str(pipeline(TransformSpec(preset="timm"), model).description))
    assert len(described) == 4
    with pytest.raises(DataError, match=r"transform\.args .* are not taken by timm"):
        pipeline(TransformSpec(preset="timm", args={"input_size": 3}), model)


def test_timms_arguments_go_with_its_preset_only():
    with pytest.raises(ValueError, match="args go with the preset timm only"):
        TransformSpec(resize=3, args={"crop_pct": 1.0})


def test_a_preset_can_be_corrupted():
    image = picture(300, 260)
    name = "ResNet50_Weights.IMAGENET1K_V2"
    clean, dark = (applied(image, preset=name, **keys) for keys in ({}, {"corrupt": "contrast", "severity": 5}))
    assert dark.std() < clean.std() / 2


@pytest.mark.parametrize(
    ("preset", "message"),
    [("FasterRCNN_ResNet50_FPN_Weights.COCO_V1", "expected timm or a torchvision name of a classifier"),
     ("NoSuch_Weights.X", "transform.preset is 'NoSuch_Weights.X'; expected timm or a torchvision name of a"),
     ("timm", "transform.preset is 'timm', but the model is not timm's; name a torchvision preset")],
)  # fmt: skip
def test_an_unknown_preset_is_refused(preset, message):
    with pytest.raises(DataError, match=message.replace(".", r"\.")):
        pipeline(TransformSpec(preset=preset), nn.Identity())


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_corruption_keeps_size_and_mode_and_grows_with_severity(name, mode):
    image = picture(64, 64, mode)
    original = np.asarray(image, dtype=float)
    results = [corrupt(image, name, severity, index=3) for severity in range(1, 6)]
    assert {(result.size, result.mode) for result in results} == {(image.size, mode)}
    distances = [np.abs(np.asarray(result, dtype=float) - original).mean() for result in results]
    assert distances[0] > 0
    assert distances == sorted(distances)
    assert distances[4] > 1.15 * distances[0]
    assert np.array_equal(np.asarray(image, dtype=float), original)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_repeats_and_its_chance_comes_from_the_examples_position(name):
    image = picture(32, 32)
    first, again = (np.asarray(corrupt(image, name, 3, index=5)) for _ in range(2))
    assert np.array_equal(first, again)
    others = [np.asarray(corrupt(image, name, 3, index=index)) for index in range(8)]
    varies = any(not np.array_equal(first, other) for other in others)
    assert varies == (name in ("gaussian_noise", "rotate"))


def test_the_documented_parameters_of_a_corruption_are_those_applied():
    flat = Image.new("L", (8, 8), 100)
    assert np.unique(corrupt(flat, "brightness", 5, 0)).tolist() == [round(100 + 0.3 * 255)]
    assert np.unique(corrupt(flat, "contrast", 5, 0)).tolist() == [100]
    two = Image.fromarray(np.array([[0, 200]], dtype=np.uint8), "L")
    assert np.asarray(corrupt(two, "contrast", 3, 0)).tolist() == [[60, 140]]


def test_corruption_comes_after_the_crop():
    image = picture(60, 40)
    found = applied(image, resize=24, corrupt="jpeg", severity=5)
    cut = T.Compose([T.PILToTensor(), T.Resize(24), T.CenterCrop(24), T.ToPILImage()])(image)
    reference = corrupt(cut, "jpeg", 5, 0)
    assert np.array_equal(found, as_array(reference))


def test_a_description_changes_with_all_that_changes_pixels_and_with_nothing_else():
    def described(**keys):
        return pipeline(TransformSpec(**keys), nn.Identity()).description

    plain = described(resize=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    variants = [
        described(resize=16, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        described(resize=32, crop=16, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        described(resize=32, interpolation="bicubic", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        described(resize=32, corrupt="rotate", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        described(resize=32, corrupt="rotate", severity=4, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        described(resize=32, mean=(0.4, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    ]
    assert len({plain, *variants}) == 7
    assert described(resize=32, crop=32, severity=2, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)) == plain
