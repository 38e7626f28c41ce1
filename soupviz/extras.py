"""The packages that only some work needs, and the command that installs what is missing."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution

from soupviz.errors import SoupError

EXTRAS = {
    "dashboard": ("streamlit", "plotly", "altair", "sklearn", "jinja2", "vl_convert"),
    "vision": ("torchvision", "timm", "PIL"),
    "text": ("transformers", "tokenizers", "pyarrow"),
    "audio": ("soundfile", "rapidfuzz"),
    "search": ("optuna", "cmaes"),
    "ray": ("ray",),
    "remote": ("fsspec", "s3fs", "aiohttp", "huggingface_hub"),
}
"""By the extra of `pip install soupviz[EXTRA]`, the modules that it brings and that are told where they are missing."""

PACKAGES = {"PIL": "pillow", "sklearn": "scikit-learn", "vl_convert": "vl-convert-python", "authlib": "streamlit[auth]"}
"""What pip calls a package whose module has another name."""


@contextmanager
def needed(purpose: str, kind: type[SoupError] = SoupError) -> Iterator[None]:
    """Within it packages are imported that only some work needs.

    Args:
        purpose: what needs them: the beginning of a sentence, which goes on with the missing one's name.
    Raises:
        SoupError: of the kind given, where one is not installed. What is broken propagates as it is.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        raise kind(f"{purpose} needs {lacking(module)}") from None


def lacking(*modules: str) -> str:
    """That packages are not installed, and the command that installs them."""
    names = [PACKAGES.get(module, module) for module in modules]
    verb = "which is" if len(names) == 1 else "which are"
    return f"{' and '.join(names)}, {verb} not installed: {command(*modules)}"


def command(*modules: str) -> str:
    """What installs them: the extras that have them, or their own names where soupviz was not installed by pip."""
    extras = [next((extra for extra, brings in EXTRAS.items() if module in brings), None) for module in modules]
    if None not in extras and _is_installed():
        return f"pip install 'soupviz[{','.join(dict.fromkeys(map(str, extras)))}]'"
    return f"pip install {' '.join(PACKAGES.get(module, module) for module in modules)}"


def _is_installed() -> bool:
    """Whether pip knows soupviz; a checkout that runs by itself is not known."""
    try:
        distribution("soupviz")
    except PackageNotFoundError:
        return False
    return True
