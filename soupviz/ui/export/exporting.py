"""The Export page's jobs: writing a soup, preparing a download, loading a soup back."""

import hashlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePath
from urllib.parse import unquote

import streamlit as st

from soupviz.addresses import is_remote
from soupviz.errors import ExportError
from soupviz.files import cache_folder, replacing
from soupviz.kitchen import Kitchen
from soupviz.soups.about import TIMM, library_of
from soupviz.soups.as_adapter import adapter_of
from soupviz.soups.exports import check_target, export
from soupviz.soups.forms import Form
from soupviz.soups.provenance import Dtype, read_record
from soupviz.soups.restore import checked, restore
from soupviz.soups.scaling import calibrate, no_division
from soupviz.soups.soup import mix_in, recall
from soupviz.store.runs import Run
from soupviz.ui import download, session, work, workspace
from soupviz.ui.charts import Place
from soupviz.ui.jobs import Job
from soupviz.ui.verbatim import code, verbatim
from soupviz.weights.sharding import SUFFIX


def file_name(title: str) -> str:
    """A soup's title as a file name without suffix."""
    return re.sub(r"[^a-z0-9.]+", "-", title.lower()).strip("-.") or "soup"


def target(folder: str, name: str) -> Path:
    """The file to write, below the dashboard's folders.

    Raises:
        SoupError: the name leads into another folder, or the folder is not among the dashboard's.
    """
    _check_name(name)
    return workspace.allowed(workspace.allowed(folder) / name)


def target_of_weights(folder: str, name: str, form: Form = "dense") -> Path | str:
    """The same of a soup's file, whose folder may be an address, such as one in a bucket.

    Raises:
        SoupError: the address takes no files.
    """
    if not is_remote(folder):
        return target(folder, name)
    _check_name(name)
    address = f"{folder.rstrip('/')}/{name}"
    check_target(address, form=form)
    return address


def _check_name(name: str) -> None:
    if Path(name).name != name or "\\" in name:
        raise ExportError(f"{name!r} is not a plain file name; the folder has a field of its own.")


IN_CARD, IN_WEIGHTS = "in the card", "in the weights"
TEMPERATURES = ("none", IN_CARD, IN_WEIGHTS)


ADAPTER, FOLDER = "adapter", "folder"
"""Formats that are a folder each."""

TOLD = {
    ADAPTER: "An adapter is a folder that peft loads over the members' base.",
    FOLDER: "A folder has the model's configuration, tokenizer and preprocessor too: transformers or timm opens it.",
}


@dataclass(frozen=True, slots=True)
class How:
    """How a soup is to be written. suffix: of the file; a folder has none. rank: of an adapter; None: exact."""

    suffix: str
    form: Form = "dense"
    rank: int | None = None
    dtype: Dtype = "ingredients"
    temperature: str = TEMPERATURES[0]
    shard_size: str | None = None


def choose(opened: Kitchen, run: Run, place: Place, size: Place) -> How:
    """What is asked of how a soup is written; as an adapter only where it is one.

    Args:
        size: where it is asked in how many parts.
    """
    folders = [ADAPTER] if _is_adapter(opened, run) else []
    folders += [FOLDER] if library_of(opened.evaluator.model) else []
    formats = [".safetensors", ".pt", *folders]
    usual = FOLDER if FOLDER in formats else formats[0]  # which its own library opens
    told = " ".join(TOLD[one] for one in folders) or None
    suffix = place.segmented_control("Format", formats, default=usual, required=True, help=told)
    if suffix == ADAPTER:
        help_ = "0: exact, at the sum of the members' ranks; else the nearest adapter of this rank."
        rank = size.number_input("Rank", 0, value=0, help=help_)
        return How("", "adapter", int(rank) or None)
    numbers = place.segmented_control(
        "Numbers", ("ingredients", "float32"), default="ingredients", required=True,
        help="As the ingredients have them.",
    )  # fmt: skip
    dtype: Dtype = "float32" if numbers == "float32" else "ingredients"
    temperature = choose_temperature(opened, place)
    if suffix == FOLDER:
        parts = choose_shards(size, SUFFIX if library_of(opened.evaluator.model) != TIMM else FOLDER)
        return How("", "folder", dtype=dtype, temperature=temperature, shard_size=parts)
    return How(suffix, dtype=dtype, temperature=temperature, shard_size=choose_shards(size, suffix))


def _is_adapter(opened: Kitchen, run: Run) -> bool:
    if not any(item.adapter for item in opened.ingredients):
        return False
    try:
        adapter_of(opened, mix_in(run))
    except ExportError:
        return False
    return True


def choose_temperature(opened: Kitchen, place: Place) -> str:
    """Where a temperature is told; not asked of a task whose answers have none."""
    if not opened.task.has_temperature:
        return TEMPERATURES[0]
    reason = no_division(opened.task)
    return str(
        place.segmented_control(
            "Temperature", TEMPERATURES[:2] if reason else TEMPERATURES, default=TEMPERATURES[0], required=True,
            help="Fitted on held_out, so that confidence means what it says"
            + (f". {reason}" if reason else "; in the weights, the last layer is divided."),
        )
    )  # fmt: skip


ONE_FILE = "one file"
SHARDS = (ONE_FILE, "5 GB each", "2 GB each", "500 MB each")


def choose_shards(place: Place, suffix: str) -> str | None:
    """The size of the files that the weights are written in; a format without shards has one."""
    if suffix != SUFFIX:
        place.selectbox("Files", [ONE_FILE], disabled=True, help=f"Shards are {SUFFIX} files.")
        return None
    chosen = place.selectbox("Files", SHARDS, help="Larger weights are written in shards, with an index.")
    return None if chosen == ONE_FILE else chosen.removesuffix(" each")


def _write(opened: Kitchen, run: Run, file: Path | str, how: How, job: Job) -> list[Path | str]:
    """Write a soup; where a temperature is asked for it is fitted to it first."""
    soup = recall(opened, run)
    scaled = None if how.temperature == TEMPERATURES[0] else calibrate(soup, job.progress)
    job.progress(0, 1, f"writing {PurePath(file).name}")
    return export(
        soup, file, form=how.form, rank=how.rank, dtype=how.dtype, temperature=scaled.temperature if scaled else None,
        bake_temperature=how.temperature == IN_WEIGHTS, shard_size=how.shard_size, progress=job.progress,
    )  # fmt: skip


def write_job(opened: Kitchen, run: Run, target: Path | str, how: How) -> Job:
    """Write a soup with its recipe and card; the job's result are the files, and what is told of an adapter."""

    def write(job: Job) -> tuple[list[str], str]:
        written = _write(opened, run, target, how, job)
        one = read_record(written[0]).adapter
        return [str(path) for path in written], f"\n\nAn adapter {one.in_words()}." if one else ""

    return work.jobs().submit(f"export {opened.file}", f"Exporting {run.name}", write, kitchen=str(opened.file))


def download_job(opened: Kitchen, run: Run, name: str, how: How) -> Job:
    """Write a soup where the download route finds it, a folder as a zip archive; the job's result is its address."""

    file = target(str(download.folder()), name)

    def prepare(job: Job) -> str:
        _write(opened, run, file, how, job)
        return download.address(Path(shutil.make_archive(str(file), "zip", file)) if file.is_dir() else file)

    key = f"download {opened.file}"
    return work.jobs().submit(key, f"Preparing {run.name}", prepare, kitchen=str(opened.file))


def show_written(opened: Kitchen) -> None:
    """What the last export and the last download of this kitchen came to."""
    if job := work.jobs().find(f"export {opened.file}"):
        if not session.watch(job) and job.state == "finished":
            written, told = job.result
            st.success("Written:\n" + "\n".join(f"- {code(path)}" for path in written) + told)
    if job := work.jobs().find(f"download {opened.file}"):
        if not session.watch(job) and job.state == "finished":
            st.link_button(
                f"Download {verbatim(unquote(job.result.rpartition('/')[2]))}", job.result, icon=":material/download:"
            )


def load_job(opened: Kitchen, file: Path) -> Job:
    """Load a recipe.yaml or an exported soup; the job's result is the run's key, and what was checked of the soup."""

    def load(job: Job) -> tuple[str, str]:
        record = read_record(file)
        soup = restore(opened, record, file, job.progress)
        return soup.key, checked(record, soup)

    return work.jobs().submit(f"load {opened.file}", f"Loading {file.name}", load, kitchen=str(opened.file))


def chosen_file() -> Path | None:
    """The file to load a soup from: uploaded, or typed and below the dashboard's folders."""
    uploaded = st.file_uploader(
        "A recipe.yaml or an exported soup", type=["yaml", "yml", "safetensors", "pt"], key="upload"
    )
    typed = st.text_input("or its path", key="load path", placeholder="soups/soup.safetensors")
    if uploaded is not None:
        download.drop_old(cache_folder("uploads"))
        content = uploaded.getbuffer()
        place = cache_folder("uploads", hashlib.sha256(content).hexdigest()[:16]) / Path(uploaded.name).name
        if not place.is_file():  # one of the same content is there already, and may be mapped into memory
            with replacing(place) as temporary:
                temporary.write_bytes(content)
        return place
    return workspace.allowed(typed) if typed else None
