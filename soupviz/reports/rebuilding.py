"""How a soup is made again from its report: its recipe, pinned by fingerprints, and the command that rebuilds it."""

import base64
from pathlib import Path
from typing import Any

import yaml

from soupviz.mixing.aggregation import OUTPUTS
from soupviz.soups.exports import pinned_record
from soupviz.soups.placing import RECIPE_TITLE
from soupviz.soups.soup import Soup


def instructions(soup: Soup, folder: Path) -> dict[str, str]:
    """The recipe as text, the command that makes the soup again from it, and a link that saves it."""
    if soup.recipe.aggregation in OUTPUTS:
        values: dict[str, Any] = {
            "recipe": soup.recipe.model_dump(mode="json"),
            "ingredients": {name: soup.kitchen.weights.resolve(name).fingerprint for name, _ in soup.mix},
        }
        how = "An ensemble has no weights of its own to rebuild. Cook its recipe again in its kitchen:"
        method = values["recipe"]["method"]
        return {
            "how": how, "command": f"python -m soupviz soup {soup.kitchen.file.name} --recipe {method}",
            "text": _yaml(values), "link": "", "file": "",
        }  # fmt: skip
    record = pinned_record(soup, folder)
    kitchen = f" --kitchen {soup.kitchen.file.name}" if record.needs_data or record.computed else ""
    text = RECIPE_TITLE.format("a soup") + "\n" + _yaml(record.model_dump(mode="json"))
    result = "again up to rounding; its kitchen has the data" if record.needs_data else "bit for bit"
    encoded = base64.b64encode(text.encode()).decode()
    return {
        "how": "Save this as recipe.yaml in the folder of this report, beside which it looks for the ingredients. The "
        f"command makes the soup {result}, and fails if a checkpoint has changed:",
        "command": f"python -m soupviz bake recipe.yaml --out soup.safetensors{kitchen}",
        "text": text,
        "link": f"data:text/yaml;charset=utf-8;base64,{encoded}",
        "file": "recipe.yaml",
    }


def _yaml(values: Any) -> str:
    """Short lists in a line each, so that the recipe is no longer than it must be."""
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)
