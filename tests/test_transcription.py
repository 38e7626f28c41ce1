"""The task transcription: decoded by hand, counted as jiwer counts, rescored without the model."""

import json
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import soupviz as sv
from soupviz.data.labels import as_codes, as_text, padded
from soupviz.data.split import Split
from soupviz.errors import CompatibilityError, DataError, KitchenError, ModelError
from soupviz.tasks.finding import find_task
from soupviz.tasks.metric import bound_of
from soupviz.tasks.outcomes import Outcomes
from soupviz.tasks.speech import edits
from soupviz.tasks.speech.ctc import collapsed
from soupviz.tasks.speech.transcription import CER, WER, Transcription

TOKENS = ["_", " ", "a", "b", "c"]


def task(folder=None, **parameters):
    return find_task("transcription", {"vocabulary": TOKENS} | parameters, folder)


def labels(*texts):
    return torch.from_numpy(np.stack(padded([as_codes(text) for text in texts])))


def frames(*said, tokens=TOKENS, longest=None):
    """What a sure model says of each utterance, a token in each frame, as the task answers."""
    longest = longest or max(map(len, said))
    logits = torch.zeros(len(said), longest, len(tokens) + 1)
    for row, tokens_said in enumerate(said):
        for frame, token in enumerate(tokens_said):
            logits[row, frame, tokens.index(token)] = 5.0
            logits[row, frame, -1] = 1.0
    return logits


def outcomes(own, said, *texts):
    targets = labels(*texts)
    return Outcomes.of(own.outcomes(frames(*said), targets), own.targets(targets))


def heard(found):
    return [as_text(row) for row in found["hypothesis"]]


# Decoding


def test_greedy_decoding_collapses_repeats_then_drops_blanks():
    numbers = np.array([[2, 2, 0, 2, 3, 3, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0], [4, 0, 4, 4, 1, 1, 2, 4]])
    assert collapsed(numbers, 0) == [[2, 2, 3], [], [4, 4, 1, 2, 4]]


def test_decoding_a_batch_equals_decoding_each_frame_by_frame():
    def by_hand(row, blank):
        found, before = [], None
        for number in row:
            if number != before and number != blank:
                found.append(number)
            before = number
        return found

    numbers = np.random.default_rng(0).integers(0, 4, size=(50, 30))
    for blank in (0, 3):
        assert collapsed(numbers, blank) == [by_hand(row, blank) for row in numbers.tolist()]


def test_frames_beyond_an_utterances_end_decide_nothing():
    own = task()
    answers = frames("a_b", "cc", longest=6)
    noisy = answers.clone()
    noisy[:, :, :-1] += (noisy[:, :, -1:] == 0) * 9 * torch.rand(answers[:, :, :-1].shape)
    assert heard(own.outcomes(noisy, labels("ab", "c"))) == ["ab", "c"]


class Says:
    """A model that returns what it was given to say."""

    def __init__(self, output):
        self.output = output

    def __call__(self, *_arguments, **_named):
        return self.output


BATCH = {"waves": torch.zeros(2, 60), "input_lengths": torch.tensor([60, 21])}


@pytest.mark.parametrize("form", ["named", "second", "of the batch", "in proportion"])
def test_where_an_utterance_ends_is_found_wherever_it_is_said(form):
    logits, lengths = torch.zeros(2, 6, 5), torch.tensor([6, 3])
    batch = dict(BATCH)
    if form == "named":
        output = {"logits": logits, "lengths": lengths}
    elif form == "second":  # as torchaudio has it
        output = (logits, lengths)
    else:
        output = logits
        batch |= {"frames": lengths} if form == "of the batch" else {}
    answers = task().answer_batch(Says(output), batch)
    assert answers.shape == (2, 6, 6)
    assert answers[:, :, -1].sum(1).tolist() == [6, 3]  # 21 of 60 samples: the frames that begin within them


def test_the_model_is_not_given_what_is_the_tasks_own():
    given = {}

    def model(**named):
        given.update(named)
        return torch.zeros(2, 6, 5)

    task().answer_batch(model, BATCH | {"frames": torch.tensor([6, 3])})
    assert given.keys() == {"waves"}


def test_answers_are_float32_whatever_the_precision_is():
    assert task().answer_batch(Says(torch.zeros(2, 6, 5, dtype=torch.bfloat16)), BATCH).dtype == torch.float32


@pytest.mark.parametrize("shape", [(2, 6, 7), (2, 5), (3, 6, 5)])
def test_logits_of_another_shape_are_refused_with_both(shape):
    with pytest.raises(ModelError, match=r"5 tokens") as error:
        task().answer_batch(Says(torch.zeros(shape)), BATCH)
    assert str(shape) in str(error.value)


# Vocabularies


def words_of(vocabulary, numbers, folder=None, **parameters):
    return task(folder, vocabulary=vocabulary, **parameters).decoder.vocabulary.text(numbers)


def test_a_vocabulary_of_transformers_has_its_pad_as_blank_and_its_bar_as_space(tmp_path):
    tokens = {"<s>": 1, "<pad>": 0, "</s>": 2, "<unk>": 3, "|": 4, "E": 5, "T": 6}
    tokens = {"E": 0, "T": 1, "|": 2, "<pad>": 3, "<unk>": 4}
    (tmp_path / "vocab.json").write_text(json.dumps(tokens))
    own = task(tmp_path, vocabulary="vocab.json")
    assert own.decoder.vocabulary.blank == 3
    assert own.decoder.vocabulary.text([1, 0, 2, 4, 1]) == "TE T"
    assert all(part in own.decoder.vocabulary.told for part in ("'<pad>' (3)", "'|'", "<unk>"))
    assert task(tmp_path, vocabulary="vocab.json", blank=0).decoder.vocabulary.blank == 0
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "vocab.json").write_text(json.dumps(tokens))
    assert task(tmp_path, vocabulary="checkpoint").decoder.vocabulary == own.decoder.vocabulary


def test_a_text_file_has_a_token_in_each_line_or_with_its_number(tmp_path):
    (tmp_path / "vocab.txt").write_text("_\n \na\nb\n")
    (tmp_path / "tokens.txt").write_text("a 2\n<blk> 0\n▁b 1\n▁ 3\n")
    assert words_of("vocab.txt", [2, 1, 3], tmp_path) == "a b"
    assert words_of("tokens.txt", [1, 2, 1, 3, 2], tmp_path) == "ba b a"


def test_where_tokens_are_words_they_are_joined_by_spaces():
    assert words_of(["_", "zero", "one", "o"], [1, 2, 3]) == "zero one o"
    assert words_of(["_", "a", "b"], [1, 2]) == "ab"
    assert words_of(["_", "<space>", "a", "b"], [2, 1, 3]) == "a b"


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({}, "needs a vocabulary"),
        ({"vocabulary": "nowhere.txt"}, "nowhere.txt"),
        ({"vocabulary": 3}, "3"),
        ({"vocabulary": []}, "list of tokens"),
        ({"vocabulary": ["a", "b", "a"]}, "'a' twice"),
        ({"vocabulary": TOKENS, "blank": 9}, "from 0 to 4"),
        ({"vocabulary": TOKENS, "blanc": 0}, "blanc"),
        ({"vocabulary": TOKENS, "normalizer": "upper"}, "lower_no_punctuation"),
        ({"vocabulary": "gaps.json"}, "without gaps"),
        ({"vocabulary": "broken.json"}, "broken.json"),
    ],
)
def test_a_parameter_that_is_none_is_refused_in_one_line(parameters, told, tmp_path):
    (tmp_path / "gaps.json").write_text('{"a": 0, "b": 2}')
    (tmp_path / "broken.json").write_text('{"a": ')
    with pytest.raises(KitchenError) as error:
        find_task("transcription", parameters, tmp_path)
    assert told in str(error.value) and "\n" not in str(error.value)


def transcripts(*texts):
    return Split("test", {"": torch.zeros(len(texts), 1)}, labels(*texts), None, None, "f")


def test_characters_outside_the_vocabulary_are_told_once_with_how_many_utterances_have_them():
    own = task()
    told = own.check_split(transcripts("ab", "axb?", "xc"), 4)
    assert len(told) == 1
    assert "2 of 3" in told[0] and "'?', 'x'" in told[0]
    assert own.check_split(transcripts("ab c"), 4) == []


def test_small_letters_are_in_a_vocabulary_of_capitals_where_the_normaliser_makes_them_alike():
    capitals = ["_", "|", "A", "B"]
    assert task(vocabulary=capitals, normalizer="lower").check_split(transcripts("ab a"), 4) == []
    assert task(vocabulary=capitals).check_split(transcripts("ab a"), 4)


# Counting


def test_edits_by_hand():
    own = task()
    found = outcomes(own, ["a_b c", "b", "a c"], "ab b c", "b", "c")
    assert [found[kind].tolist() for kind in edits.KINDS] == [[0, 0, 0], [1, 0, 0], [0, 0, 1]]
    assert [found["words"].tolist(), found["characters"].tolist()] == [[3, 1, 1], [6, 1, 1]]
    assert WER.value(found) == Fraction(2, 5)
    assert [found[f"character_{kind}"].tolist() for kind in edits.KINDS] == [[0, 0, 0], [2, 0, 0], [0, 0, 2]]
    assert CER.value(found) == Fraction(4, 8)


def test_the_rate_is_of_the_corpus_not_the_mean_of_utterances():
    found = outcomes(task(), ["a", "c b c b"], "b", "c b c b")
    assert WER.value(found) == Fraction(1, 5)


def test_an_empty_transcript_is_in_no_denominator_but_what_is_inserted_counts():
    own = task()
    found = outcomes(own, ["ab", "a b", "___"], "ab", "", "")
    assert found["words"].tolist() == [1, 0, 0]
    assert found["insertions"].tolist() == [0, 2, 0]
    assert WER.value(found) == Fraction(2, 1)
    assert CER.value(found) == Fraction(3, 2)
    assert own.hardness(found).tolist() == [0.0, math.inf, 0.0]
    assert own.facts(found, 0)["empty_references"] == 2
    # Without a word there is no rate.
    assert WER.value(outcomes(own, ["a"], "")) is None


def test_an_answer_that_is_not_finite_is_heard_as_nothing():
    own = task()
    answers = frames("ab", "b")
    answers[0, 0, 0] = torch.nan
    found = Outcomes.of(own.outcomes(answers, labels("ab", "b")), own.targets(labels("ab", "b")))
    assert found["finite"].tolist() == [False, True]
    assert heard(found) == ["", "b"]
    assert found["deletions"].tolist() == [1, 0]
    assert "not finite" in own.told(found, 0, [])


def test_utterances_with_two_tokens_near_each_other_are_told_and_padding_is_none():
    own, targets = task(), labels("ab", "b")
    answers = frames("ab", "b")
    before = own.facts(Outcomes.of(own.outcomes(answers, targets), own.targets(targets)), 0)["num_close"]
    answers[0, 0, :-1] = 1.0
    answers[0, 0, 1] += 1e-5
    columns = own.outcomes(answers, targets)
    for told in (columns, own.recounted(columns, targets)):
        assert (before, own.facts(Outcomes.of(told, own.targets(targets)), 0)["num_close"]) == (0, 1)
    kept = {name: values for name, values in columns.items() if name != "close"}  # before there was such a count
    told = own.recounted(kept, targets)
    assert own.facts(Outcomes.of(told, own.targets(targets)), 0)["num_close"] is None


def test_unseen_utterances_are_taken_for_perfect_in_the_bound():
    own = task()
    targets = labels("ab", "b c", "a a a")
    found = Outcomes.blank(3, own.targets(targets))
    found.write(np.array([1]), own.outcomes(frames("b"), targets[1:2]))
    assert bound_of(WER, found) == Fraction(1, 6)
    found.write(np.array([0, 2]), own.outcomes(frames("a", "a a a"), targets[[0, 2]]))
    assert bound_of(WER, found) == WER.value(found) == Fraction(2, 6)


@pytest.mark.extras
def test_counts_equal_jiwers_on_random_texts():
    jiwer = pytest.importorskip("jiwer")
    random = np.random.default_rng(0)

    def text(least):
        """Words of a few letters, with one space between them or two: a model may hear a space twice."""
        words = ["".join(random.choice(list("abc"), random.integers(1, 4))) for _ in range(random.integers(least, 9))]
        return "".join(word + " " * random.integers(1, 3) for word in words).strip()

    references, hypotheses = [text(1) for _ in range(300)], [text(0) for _ in range(300)]
    found = edits.counted(references, hypotheses)
    for prefix, output in (
        ("", jiwer.process_words(references, hypotheses)),
        ("character_", jiwer.process_characters(references, hypotheses)),
    ):
        counts = [output.substitutions, output.deletions, output.insertions]
        assert [int(found[prefix + kind].sum()) for kind in edits.KINDS] == counts
    each = [jiwer.process_words(*pair) for pair in zip(references, hypotheses, strict=True)]
    assert found["substitutions"].tolist() == [one.substitutions for one in each]
    assert found["deletions"].tolist() == [one.deletions for one in each]
    total = sum(len(one.split()) for one in references)
    assert sum(found[kind].sum() for kind in edits.KINDS) / total == pytest.approx(jiwer.wer(references, hypotheses))


def test_five_thousand_utterances_are_counted_and_judged_in_under_a_second():
    import time

    random = np.random.default_rng(1)
    own = task()

    def text():
        return " ".join("".join(random.choice(list("abc"), 5)) for _ in range(12))

    said = [text() for _ in range(5000)]
    texts = [" ".join(word if random.random() > 0.1 else "cab" for word in one.split()) for one in said]
    targets = labels(*texts)
    columns = {"finite": np.ones(5000, bool), "close": np.zeros(5000, bool)}
    columns["hypothesis"] = np.array([*map(as_codes, said), None], dtype=object)[:-1]
    started = time.perf_counter()
    found = Outcomes.of(own.recounted(columns, targets), own.targets(targets))
    counted = time.perf_counter()
    value = WER.value(found)
    assert 0.05 < float(value) < 0.15
    assert time.perf_counter() - counted < 0.1
    assert counted - started < 5  # on a machine that does other things too


# Normalisers


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("none", "It's  O'Neill’s: twenty-one, 'quoted' – yes!"),
        ("lower", "it's  o'neill’s: twenty-one, 'quoted' – yes!"),
        ("lower_no_punctuation", "it's o'neill's twenty one quoted yes"),
    ],
)
def test_normalisers_do_what_their_names_say(name, expected):
    assert task(normalizer=name).normalized(" It's  O'Neill’s: twenty-one, 'quoted' – yes! ") == expected


def test_a_normaliser_of_ones_own_is_a_function_of_a_text(tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(
        "def short(text):\n    return text.replace('uh ', '')\ndef bad(text):\n    return 3\n"
    )
    own = task(tmp_path, normalizer="own.py:short")
    assert own.normalized("uh a  b ") == "a  b"
    with pytest.raises(DataError, match=r"own\.py:bad gave int"):
        task(tmp_path, normalizer="own.py:bad")
    (tmp_path / "own.py").write_text(
        "from helper_of_own import WORD\ndef short(text):\n    return text.replace(WORD, '')\n"
    )
    (tmp_path / "helper_of_own.py").write_text("WORD = 'uh'\n")
    monkeypatch.syspath_prepend(tmp_path)
    known = task(tmp_path, normalizer="own.py:short")
    assert known.key != own.key
    (tmp_path / "helper_of_own.py").write_text("WORD = 'um'\n")
    assert task(tmp_path, normalizer="own.py:short").key != known.key


def test_a_normaliser_of_a_package_is_another_once_its_file_is(tmp_path, monkeypatch):
    (tmp_path / "spelling_of_own.py").write_text("def short(text):\n    return text.replace('uh ', '')\n")
    monkeypatch.syspath_prepend(tmp_path)
    own = task(tmp_path, normalizer="spelling_of_own:short")
    assert own.normalized("uh a  b ") == "a  b"
    (tmp_path / "spelling_of_own.py").write_text("def short(text):\n    return text\n")
    assert task(tmp_path, normalizer="spelling_of_own:short").key != own.key


def test_another_normaliser_counts_anew_what_was_heard():
    plain, small = (task(vocabulary=["_", " ", "A", "B"], normalizer=name) for name in ("none", "lower"))
    targets = labels("a b")
    logits = frames("A B", tokens=["_", " ", "A", "B"])
    columns = plain.outcomes(logits, targets)
    assert WER.value(Outcomes.of(columns, plain.targets(targets))) == 1
    assert WER.value(Outcomes.of(small.recounted(columns, targets), small.targets(targets))) == 0
    assert plain.answers_key == small.answers_key and plain.key != small.key


# Losses and ensembles


def test_the_loss_is_pytorchs_ctc_loss_over_the_frames_that_are_there():
    own = task()
    answers = torch.randn(2, 9, 6, generator=torch.Generator().manual_seed(0))
    answers[:, :, -1] = torch.tensor([[1.0] * 9, [1.0] * 5 + [0.0] * 4])
    logits = answers[:, :, :-1].requires_grad_()
    found = own.loss(torch.cat([logits, answers[:, :, -1:]], dim=2), labels("ab c", "ca"))
    targets = torch.tensor([2, 3, 1, 4, 4, 2])
    expected = F.ctc_loss(
        logits.log_softmax(2).transpose(0, 1), targets, torch.tensor([9, 5]), torch.tensor([4, 2]), blank=0
    )
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    (slope,) = torch.autograd.grad(found, logits)
    assert not slope[1, 5:].any() and slope[1, :5].any()


def test_a_transcript_longer_than_its_frames_has_no_loss_instead_of_an_infinite_one():
    assert task().loss(frames("a"), labels("ab a")).item() == 0.0


def test_a_teachers_frames_are_learned_by_their_divergence_and_padding_has_no_part_in_it():
    own = task()
    answers = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))
    teacher = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(1))
    for one in (answers, teacher):
        one[:, :, -1] = torch.tensor([[1.0] * 4, [1.0, 0.0, 0.0, 0.0]])
    student, wanted = ((one[:, :, :-1] / 2).softmax(2) for one in (answers, teacher))
    each = (wanted * (wanted / student).log()).sum(2)
    expected = 4 * (each[0].sum() + each[1, 0]) / 5
    assert own.soft_loss(answers, teacher, 2.0).item() == pytest.approx(expected.item(), rel=1e-5)
    assert own.soft_loss(answers, answers, 2.0).item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("output", ["probabilities", "logits"])
def test_an_ensemble_averages_frame_by_frame(output):
    own = task()
    members = [frames("ab_", "c").numpy() * np.float32(scale) for scale in (1.0, 2.0)]
    for one in members:
        one[:, :, -1] = frames("ab_", "c")[:, :, -1]
    found = own.averaged(members, [0.25, 0.75], output)
    logits = [torch.from_numpy(one[:, :, :-1]) for one in members]
    parts = [one.softmax(2) if output == "probabilities" else one for one in logits]
    mean = 0.25 * parts[0] + 0.75 * parts[1]
    expected = mean.log() if output == "probabilities" else mean
    assert torch.allclose(found[0, :, :-1], expected[0], atol=1e-6)
    assert not found[1, 1:].any()
    assert heard(own.outcomes(found, labels("ab", "c"))) == ["ab", "c"]


def test_an_ensemble_of_other_frames_is_refused():
    with pytest.raises(CompatibilityError, match="frames"):
        task().averaged([frames("ab").numpy(), frames("abc").numpy()], [0.5, 0.5], "logits")


def test_what_the_task_has_and_has_not():
    own = task()
    assert (own.has_loss, own.has_soft_loss, own.has_ensembles, own.has_logits) == (True, True, True, False)
    assert isinstance(own, Transcription) and isinstance(own, sv.Task)
    assert [metric.name for metric in own.metrics] == ["wer", "cer"]
