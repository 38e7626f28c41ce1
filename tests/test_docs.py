"""What the documents show exists and holds: links, commands, kitchens, Python; the reference is what the code says."""

import ast
import re
import shlex
from importlib import import_module, util
from pathlib import Path
from typing import Any

import pytest
import yaml
from documents import CHANGES, PAGES, README, ROOT, WRITTEN, anchors, blocks, inline_code, leaves, links
from pydantic import BaseModel, Field
from typer.main import get_command

from docs import fields, generate
from soupviz.cli.options import given
from soupviz.cli.run import application
from soupviz.data.images.transforms import SEVERITIES
from soupviz.recipes import MENU, PATHS, own_parameters, parse
from soupviz.spec import CORRUPTIONS, Spec
from soupviz.yaml_file import validate

COMMAND_LINE: Any = get_command(application())
COMMANDS: dict[str, Any] = COMMAND_LINE.commands
OPTIONS = {name for command in COMMANDS.values() for one in command.params for name in one.opts}
OTHERS = {
    "--help", "--model-ema", "--output-dir", "--val_best", "--num", "--num-epoch-checkpoints",
    "--checkpoint-upper-bound", "--epoch", "--avg", "--quick", "--use-averaged-model", "--merge-style",
    "--log_samples", "--output_path", "--build-arg", "--initial-checkpoint", "--checkpoint", "--resume", "--test-only",
}  # fmt: skip
"""Options that are spoken of and are not soupviz's own: click, timm, torchvision, lm-eval, Docker, other averagers."""

RECIPES_OWN = {name for kind in MENU.values() for name in own_parameters(kind)}


def of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def shown(language: str) -> list[Any]:
    texts = [(page, number, text) for page in WRITTEN for number, text in enumerate(blocks(page, language))]
    return [pytest.param(text, id=f"{of(page)}-{number}") for page, number, text in texts]


def lines_of_soupviz() -> list[str]:
    found = []
    for page in WRITTEN:
        for block in blocks(page, "sh"):
            found += [line for line in block.splitlines() if re.match(r"(\S*python -m )?soupviz ", line)]
    return sorted(set(found))


def test_the_reference_is_what_the_code_says() -> None:
    made = generate.pages()
    committed = {page.name: page.read_text(encoding="utf-8") for page in generate.FOLDER.glob("*.md")}
    stale = sorted(name for name in {*made, *committed} if made.get(name) != committed.get(name))
    assert not stale, "run: python -m docs.generate"


def test_the_reference_says_something_of_every_key_parameter_and_option() -> None:
    for name, text in generate.pages().items():
        for line in text.splitlines():
            if line.startswith("| `"):
                cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
                assert all(cells), f"{name}: {line}"


def test_the_reference_has_every_recipe_and_every_key() -> None:
    made = generate.pages()
    assert {f"### {name}" for name in (*MENU, *PATHS)} <= set(made["recipes.md"].splitlines())
    for key in {key for kind in Spec.__subclasses__() for key in kind.model_fields}:
        assert f"| `{key}` |" in made["kitchen.md"]


def test_a_description_may_tell_a_default_that_is_no_constant() -> None:
    class Told(BaseModel):
        size: int | None = Field(None, gt=0, description="pixels; default: as it is")
        seed: int = Field(7, description="of what is random")

    lines = fields.fields_table("key", Told.model_fields).splitlines()
    assert lines[2] == "| `size` | whole number above 0 | as it is | pixels |"
    assert lines[3] == "| `seed` | whole number | `7` | of what is random |"


def test_every_corruption_has_its_severities() -> None:
    assert tuple(SEVERITIES) == CORRUPTIONS
    assert all(len(amounts) == 5 for _, amounts in SEVERITIES.values())


@pytest.mark.parametrize("page", PAGES, ids=of)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in links(page):
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


def test_every_page_can_be_reached() -> None:
    linked = {(page.parent / target.partition("#")[0]).resolve() for page in PAGES for target in links(page)}
    assert [of(page) for page in PAGES[1:] if page not in linked] == []


def test_every_picture_is_shown_somewhere() -> None:
    linked = {(page.parent / target).resolve() for page in PAGES for target in links(page)}
    assert [of(picture) for picture in (ROOT / "docs").rglob("*.png") if picture not in linked] == []


@pytest.mark.parametrize("line", lines_of_soupviz())
def test_every_command_line_shown_is_one_that_is_accepted(line: str) -> None:
    name, *arguments = shlex.split(line.partition("soupviz ")[2], comments=True)
    parameters = COMMANDS[name].make_context(name, arguments).params
    if name == "soup" and not parameters["recipe"].endswith(".yaml"):
        own = {key: value for key, value in parameters.items() if key in RECIPES_OWN}
        parse({"method": parameters["recipe"], "batchnorm": parameters["batchnorm"]} | given(own))


@pytest.mark.parametrize("page", [page for page in WRITTEN if page != CHANGES], ids=of)
def test_every_command_and_option_spoken_of_exists(page: Path) -> None:
    for text in inline_code(page):
        if found := re.match(r"(?:python -m )?soupviz ([a-z]\w*)", text):
            assert found[1] in COMMANDS, text
        for option in re.findall(r"(?<!\S)--[a-z][\w-]*", text):
            assert option in OPTIONS | OTHERS, text


@pytest.mark.parametrize("text", shown("yaml"))
def test_every_kitchen_shown_is_one_that_is_accepted(text: str) -> None:
    validate(yaml.safe_load(text), "shown")


def imported(tree: ast.AST) -> set[str]:
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return names | {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}


@pytest.mark.parametrize("text", shown("python") + shown("py"))
def test_every_piece_of_python_shown_imports_what_exists(text: str) -> None:
    tree = ast.parse(text)
    for package in {"timm", "transformers"} & {name.partition(".")[0] for name in imported(tree)}:
        if util.find_spec(package) is None:
            pytest.skip(f"needs {package}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert all(util.find_spec(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = import_module(str(node.module))
            assert all(hasattr(module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sv":
            assert hasattr(import_module("soupviz"), node.attr), node.attr


@pytest.mark.parametrize("page", WRITTEN, ids=of)
def test_every_file_of_the_project_that_is_named_is_there(page: Path) -> None:
    for text in inline_code(page):
        if re.fullmatch(r"(app\.py|(soupviz|pages|tests|benchmarks|docs)/[\w./]*)", text):
            assert (ROOT / text).exists(), text


@pytest.mark.parametrize("page", PAGES, ids=of)
def test_no_page_names_a_place_of_one_machine(page: Path) -> None:
    assert not re.search(r"(?<![\w.])/(?:home|root|work|opt|usr|tmp)/", page.read_text(encoding="utf-8"))


def test_the_python_of_the_readme_makes_a_soup_of_a_folder(
    demo_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trainer_output").symlink_to(demo_copy.parent)
    monkeypatch.chdir(tmp_path)
    [code] = blocks(README, "python")
    assert leaves(code)["soup"].coefficients
    assert (tmp_path / "soup.safetensors").is_file()


def test_the_python_of_the_how_to_runs(demo_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(demo_copy.parent)
    [code] = blocks(ROOT / "docs" / "how-to" / "use-python.md", "python")
    leaves(code)
    assert (demo_copy.parent / "again.safetensors").is_file()
    assert (demo_copy.parent / "soup.html").is_file()


def test_the_python_for_a_table_of_scores_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "results").mkdir()
    rows = ["model,test,blur", "a,0.7,0.5", "b,0.8,0.7", "c,0.9,0.9", "uniform soup,0.8,0.8"]
    (tmp_path / "results" / "scores.csv").write_text("\n".join(rows), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    [code, _] = blocks(ROOT / "docs" / "how-to" / "draw-scores.md", "python")
    above = leaves(code)["points"].set_index("name")["above"]
    assert above["uniform soup"] == pytest.approx(0.1)
