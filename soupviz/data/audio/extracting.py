"""What a transformers checkpoint's feature extractor makes of recordings; nothing is ever downloaded."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soupviz.data.sources import content
from soupviz.errors import DataError
from soupviz.extras import needed
from soupviz.models.usercode import guarded

SETTINGS = "preprocessor_config.json"


@dataclass(frozen=True, slots=True)
class Extractor:
    """make: of one recording's samples the model's arguments. argument: the one that holds the recording. rate: at
    which it wants samples. identity: what it depends on."""

    make: Callable[[NDArray[np.float32]], Mapping[str, NDArray[Any]]]
    argument: str
    rate: int
    identity: list[Any]


def load(where: str, folder: Path) -> Extractor:
    """The feature extractor of a folder.

    Raises:
        DataError: there is none, or transformers is not installed.
    """
    place = f"{where}.processor: {folder}"
    if not (folder / SETTINGS).is_file():
        raise DataError(f"{place} holds no {SETTINGS}; expected the folder of a checkpoint of transformers.")
    with needed(place, DataError):
        from transformers import AutoFeatureExtractor
    with guarded(lambda told: DataError(f"{place} holds no feature extractor that can be read: {told}")):
        extractor = AutoFeatureExtractor.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        argument, rate = str(extractor.model_input_names[0]), int(extractor.sampling_rate)

    def make(samples: NDArray[np.float32]) -> Mapping[str, NDArray[Any]]:
        with guarded(lambda told: DataError(f"{place}: the feature extractor fails with {told}")):
            found = extractor(samples, sampling_rate=rate, return_tensors="np")
            return {name: np.asarray(values)[0] for name, values in found.items()}

    return Extractor(make, argument, rate, content(folder / SETTINGS))
