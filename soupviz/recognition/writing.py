"""A proposal as a kitchen.yaml whose comments say where each value is from."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from soupviz.data import splitting
from soupviz.recognition.proposal import Proposal

WIDTH = 120


def text_of(proposal: Proposal) -> str:
    """The kitchen.yaml, commented."""
    sources = {fact.key: fact.source for fact in proposal.facts}
    head = [f"# Proposed by soupviz new from {proposal.what}; change what you know better."]
    head += [f"# Note: {note}" for note in proposal.notes]
    return "\n".join([*head, *_lines(proposal.document, sources, "", "")]) + "\n"


def write(proposal: Proposal) -> Path | None:
    """Write the kitchen.yaml; returns where one that was there is kept.

    Raises:
        KitchenError: something has to be asked first, or the file cannot be written.
    """
    proposal.spec()
    kept = splitting.kept_as(proposal.file) if proposal.file.is_file() else None
    splitting.write_text(text_of(proposal), proposal.file)
    return kept


def _lines(values: Mapping[str, Any], sources: Mapping[str, str], place: str, indent: str) -> Iterator[str]:
    for key, value in values.items():
        where = f"{place}{key}"
        source = sources.get(where)
        if isinstance(value, Mapping) and where not in ("model.args",) and not where.endswith(".transform"):
            yield from _commented(f"{indent}{key}:", source, indent)
            yield from _lines(value, sources, f"{where}.", f"{indent}  ")
        else:
            yield from _commented(f"{indent}{flow(key)}: {flow(value)}", source, indent)


def _commented(line: str, source: str | None, indent: str) -> Iterator[str]:
    if source and len(line) + len(source) + 4 <= WIDTH:
        yield f"{line}  # {source}"
        return
    if source:
        yield f"{indent}# {source}"
    yield line


def flow(value: Any) -> str:
    """A value on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), sort_keys=False, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
