"""What the documentation's site adds to this folder: where each page stands, and the changelog."""

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

DOCS = Path(__file__).resolve().parent
CHANGELOG = DOCS.parent / "CHANGELOG.md"
FOLDERS = {"How-tos": "how-to", "Reference": "reference", "Explanation": "explanation"}


def on_config(config: Any) -> Any:
    """Called by MkDocs before anything else: every page of a folder is in its tab."""
    tabs = [
        {tab: [f"{folder}/{path.name}" for path in sorted((DOCS / folder).glob("*.md"))]}
        for tab, folder in FOLDERS.items()
    ]
    own = [{"Start": "README.md"}, {"Tutorial": "tutorial.md"}, {"Pages": "dashboard.md"}]
    config.nav = [*own, *tabs, {"Internals": ["internals.md", CHANGELOG.name.lower()]}]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Called by MkDocs with all files of the site."""
    files.append(File.generated(config, CHANGELOG.name.lower(), content=CHANGELOG.read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, **_context: Any) -> str:
    """Called by MkDocs with the text of a page."""
    return markdown.replace(f"(../{CHANGELOG.name})", f"({CHANGELOG.name.lower()})")
