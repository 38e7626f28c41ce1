"""What the documentation's site adds to this folder: where each page stands, and the texts of the repository's top."""

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

DOCS = Path(__file__).resolve().parent
FOLDERS = {"How-tos": "how-to", "Reference": "reference", "Explanation": "explanation"}
AT_THE_TOP = {name: f"{name.lower()}.md" for name in ("CHANGELOG", "CONTRIBUTING", "SECURITY")}
"""In the repository's top folder; by what each is called in the site."""


def on_config(config: Any) -> Any:
    """Called by MkDocs before anything else: every page of a folder is in its tab."""
    tabs = [
        {tab: [f"{folder}/{path.name}" for path in sorted((DOCS / folder).glob("*.md"))]}
        for tab, folder in FOLDERS.items()
    ]
    own = [{"Start": "README.md"}, {"Tutorial": "tutorial.md"}, {"Pages": "dashboard.md"}]
    config.nav = [*own, *tabs, {"Internals": ["internals.md", *AT_THE_TOP.values()]}]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Called by MkDocs with all files of the site."""
    for name, page in AT_THE_TOP.items():
        text = (DOCS.parent / f"{name}.md").read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text.replace("](docs/", "](")))
    return files


def on_page_markdown(markdown: str, **_context: Any) -> str:
    """Called by MkDocs with the text of a page."""
    for name, page in AT_THE_TOP.items():
        markdown = markdown.replace(f"](../{name}.md)", f"]({page})").replace(f"]({name}.md)", f"]({page})")
    return markdown
