"""Which columns of a table hold what, by their names; what these do not say is asked."""

import re

from soupviz.errors import DataError
from soupviz.recognition.places import Place
from soupviz.recognition.runs import LABEL, TEXT, Question

TEXT_COLUMNS = (
    "text", "sentence", "sentence1", "premise", "question", "question1", "review", "content", "document",
    "tokens", "words",
)  # fmt: skip
PAIR_COLUMNS = {"sentence1": "sentence2", "premise": "hypothesis", "question1": "question2", "question": "sentence"}
LABEL_COLUMNS = ("label", "labels", "target", "class", "sentiment", "category", "ner_tags", "tags", "pos_tags")
CONTEXT_COLUMNS = (
    "context", "question", "ctx", "premise", "prompt", "sent1", "startphrase", "article", "passage", "sent2",
)  # fmt: skip
OPTION_COLUMNS = ("options", "choices", "endings")
ANSWER_COLUMNS = ("answer", "label", "gold")
NUMBERED = re.compile(r"(option|choice|ending|answer|sol|solution)[ _]?\d+")
"""Columns of one option each."""
FILE_COLUMNS = ("file", "path", "filename", "file_name", "audio", "audio_filepath", "wav")
TRANSCRIPT_COLUMNS = ("transcript", "transcription", "text", "sentence", "normalized_text")
SPEAKER_COLUMNS = ("speaker", "speaker_id", "client_id")


def text_columns(
    place: Place, text: str = "", label: str = "", *, is_alone: bool = False
) -> tuple[dict[str, str], list[Question]]:
    """Which columns hold the text, its pair and the label, as format `text` names them, and what has to be asked.

    Args:
        is_alone: the text is all that is wanted: it has neither pair nor label.
    """
    check_columns(place, text, label)
    lower = {name.lower(): name for name in place.columns}
    chosen = text or next((lower[name] for name in TEXT_COLUMNS if name in lower), "")
    target = label or next((lower[name] for name in LABEL_COLUMNS if name in lower), "")
    if is_alone:
        [first, *others] = place.columns
        chosen, target = chosen or ("" if others else first), ""
    elif len(place.columns) == 2 and bool(chosen) != bool(target):
        other = next(name for name in place.columns if name != (chosen or target))
        chosen, target = chosen or other, target or other
    keys, questions = {}, []
    wanted = [(TEXT, chosen, "the sentences"), *([] if is_alone else [(LABEL, target, "the labels")])]
    for key, value, what in wanted:
        if value:
            keys[key] = value
        else:
            choices = tuple(name for name in place.columns if name not in (chosen, target))
            questions.append(Question(key, f"which column of {place.path.name} holds {what}", choices))
    if not text and not is_alone and (pair := lower.get(PAIR_COLUMNS.get(chosen.lower(), ""))):
        keys["pair"] = pair
    return keys, questions


def audio_columns(
    place: Place, text: str = "", label: str = "", *, is_transcript: bool
) -> tuple[dict[str, str], list[Question]]:
    """Which columns hold the files, what is said or the label, and the speaker, as format `audio` names them, and what
    has to be asked.

    Args:
        text, label: the column of what is said, and of labels, if the user named it. is_transcript: the former counts.
    """
    key, named, known = ("transcript", text, TRANSCRIPT_COLUMNS) if is_transcript else ("label", label, LABEL_COLUMNS)
    check_columns(place, text, label)
    lower = {name.lower(): name for name in place.columns}
    files, group = (
        next((lower[name] for name in names if name in lower), "") for names in (FILE_COLUMNS, SPEAKER_COLUMNS)
    )
    chosen = named or next((lower[name] for name in known if name in lower), "")
    keys = {"file": files, key: chosen, "group": group}
    questions = []
    if not files:
        raise DataError(
            f"{place.path}: names recordings, but no column is called {', '.join(FILE_COLUMNS)}; rename the one of the "
            "files."
        )
    if not chosen:
        what = "what is said" if is_transcript else "the labels"
        choices = tuple(name for name in place.columns if name not in (files, group))
        asked = TEXT if is_transcript else LABEL
        questions.append(Question(asked, f"which column of {place.path.name} holds {what}", choices))
    return {key: value for key, value in keys.items() if value}, questions


def choice_columns(place: Place, text: str = "", label: str = "") -> tuple[dict[str, str | list[str]], list[Question]]:
    """Which columns hold the context, the options and the answer, as format `choices` names them, and what has to be
    asked: a question and its passage may stand in two columns, of which one alone is half a context.

    Args:
        text, label: the columns of the context and of the answer, if the user named them.
    Raises:
        DataError: the names of the columns do not say.
    """
    check_columns(place, text, label)
    lower = {name.lower(): name for name in place.columns}
    contexts = [text] if text else [lower[name] for name in CONTEXT_COLUMNS if name in lower]
    options, answer = (
        next((lower[name] for name in names if name in lower), "") for names in (OPTION_COLUMNS, ANSWER_COLUMNS)
    )
    answer = label or answer
    numbered = [name for name in place.columns if NUMBERED.fullmatch(name.lower())]
    if not contexts or not (options or len(numbered) > 1) or not answer:
        raise DataError(
            f"{place.path}: its columns are {', '.join(place.columns)}; expected a context (such as "
            f"{CONTEXT_COLUMNS[0]}), options (a list, or one each, such as option1) and an answer. Rename them, or "
            "write kitchen.yaml with `format: choices` and their names."
        )
    keys: dict[str, str | list[str]] = {"options": options or numbered, "answer": answer}
    if len(contexts) > 1:
        what = f"which column of {place.path.name} holds all that stands before the options (join two, if it is two)"
        return keys, [Question(TEXT, what, tuple(contexts))]
    return {"context": contexts[0], **keys}, []


def has_transcripts(place: Place) -> bool | None:
    """Whether a table of recordings tells what is said in them, by its columns; None where these do not say."""
    lower = {name.lower() for name in place.columns}
    said, labelled = (any(name in lower for name in names) for names in (TRANSCRIPT_COLUMNS, LABEL_COLUMNS))
    return said if said != labelled else None


def check_columns(place: Place, *named: str) -> None:
    """Refuse columns that a table has not.

    Raises:
        DataError: naming those that it has.
    """
    for asked in filter(None, named):
        if asked not in place.columns:
            raise DataError(f"{place.path}: has no column {asked!r}; its columns are {', '.join(place.columns)}.")
