"""YAML and JSON that others wrote, read so that a small file cannot ask for a large machine."""

import json
from pathlib import Path
from typing import Any

import yaml

LARGEST = 16_000_000
"""Bytes of a YAML file: a hundred times what the recipe of a soup of thousands of checkpoints has."""

MOST = 2_000_000
"""Values that a YAML file may come to, with each alias counted as all that it stands for."""

DEEPEST = 100
"""How deep values may lie in one another."""

FAST = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MERGE = "<<"


def yaml_in(file: Path, loader: Any = FAST) -> Any:
    """What a YAML file holds.

    Args:
        loader: makes values of it; none but plain data, unless it says otherwise.
    Raises:
        yaml.YAMLError: it is not YAML, has a key twice, or comes to more than any such file holds.
        OSError: it cannot be read.
    """
    if (size := file.stat().st_size) > LARGEST:
        raise yaml.YAMLError(f"it has {size:,} bytes; expected at most {LARGEST:,}")
    text = file.read_text(encoding="utf-8")
    try:
        _check(text)
        return yaml.load(text, loader)
    except yaml.MarkedYAMLError as error:  # it knows the text, and tells of it as a "<unicode string>"
        mark = error.problem_mark
        raise yaml.YAMLError(f"{error.problem}" + (f" (line {mark.line + 1})" if mark else "")) from None
    except (ValueError, TypeError, OverflowError) as error:  # of a date, say, that no calendar has
        raise yaml.YAMLError(f"a value that is none: {error}") from None


def _check(text: str) -> None:
    """Look at a text piece by piece, as far as it is worth: nothing is made of it yet."""
    sizes: dict[str | None, int] = {}  # of what an anchor stands for
    open_: list[tuple[str | None, int, set[str] | None]] = []  # its anchor, where it began, and a mapping's keys
    waits: list[bool] = []  # whether a mapping's next value is a key
    count = 0
    for event in yaml.parse(text, FAST):
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, began, _ = open_.pop()
            waits.pop()
            sizes |= {anchor: count - began} if anchor else {}
            continue
        if not isinstance(event, yaml.NodeEvent):
            continue
        if isinstance(event, yaml.AliasEvent) and any(anchor == event.anchor for anchor, *_ in open_):
            raise yaml.YAMLError(f"{event.anchor!r} holds itself{_place(event)}")
        count += sizes.get(event.anchor, 1) if isinstance(event, yaml.AliasEvent) else 1
        if count > MOST:
            raise yaml.YAMLError(f"it comes to more than {MOST:,} values{_place(event)}")
        if open_ and (keys := open_[-1][2]) is not None:
            if waits[-1] and isinstance(event, yaml.ScalarEvent) and event.value != MERGE:
                if event.value in keys:
                    raise yaml.YAMLError(f"the key {event.value!r} stands there twice{_place(event)}; keep one")
                keys.add(event.value)
            waits[-1] = not waits[-1]
        if isinstance(event, yaml.CollectionStartEvent):
            if len(open_) == DEEPEST:
                raise yaml.YAMLError(f"values lie more than {DEEPEST} deep in one another{_place(event)}")
            open_.append((event.anchor, count - 1, set() if isinstance(event, yaml.MappingStartEvent) else None))
            waits.append(True)
        elif event.anchor and isinstance(event, yaml.ScalarEvent):
            sizes[event.anchor] = 1


def _place(event: Any) -> str:
    return f" (line {event.start_mark.line + 1})"


def json_of(text: str | bytes) -> Any:
    """What a JSON text holds.

    Raises:
        json.JSONDecodeError: it is not JSON, or lies too deep in itself.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise json.JSONDecodeError("values lie too deep in one another", "", 0) from None
