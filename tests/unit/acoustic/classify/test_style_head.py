"""Scores of many labels as logits of few genres."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, log_softmax, logsumexp

from acoustic.classify.style_head import MIN_LOGIT, StyleHead
from acoustic.labels import Label, LabelSet
from acoustic.styles import Output, Styles

LABELS = LabelSet([Label(name="Jazz"), Label(name="Rock"), Label(name="Folk")])
LOGITS = np.array([[2.0, -1.0, 0.5, -3.0, 1.0], [-9.0, 4.0, 4.5, 1.0, 0.0]], np.float32)


def styles(output: Output, **changes: tuple[str, ...]) -> Styles:
    return Styles(
        output=output,
        names=("Bebop", "Hard rock", "Indie rock", "Speech", "Music"),
        genres=("Jazz", "Rock", "Rock", None, None),
        thresholds=(0.1,) * 5,
        **changes,
    )


def test_a_genre_is_as_likely_as_its_most_likely_style() -> None:
    found = StyleHead(styles("sigmoid"), LABELS).genre_logits(LOGITS)
    np.testing.assert_array_equal(found[:, 0], LOGITS[:, 0])
    np.testing.assert_array_equal(found[:, 1], LOGITS[:, 1:3].max(axis=1))
    np.testing.assert_array_equal(found[:, 2], MIN_LOGIT)


def test_probabilities_of_a_softmax_add_up() -> None:
    found = StyleHead(styles("softmax"), LABELS).genre_logits(LOGITS)
    expected = logsumexp(log_softmax(LOGITS, axis=1)[:, 1:3], axis=1)
    np.testing.assert_allclose(found[:, 1], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("output", ["sigmoid", "softmax"])
def test_scores_lie_between_0_and_1(output: Output) -> None:
    found = StyleHead(styles(output), LABELS).scores(LOGITS)
    expected = expit(LOGITS) if output == "sigmoid" else np.exp(log_softmax(LOGITS, axis=1))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_music_is_what_the_labels_of_music_say() -> None:
    head = StyleHead(styles("sigmoid", music=("Music",)), LABELS)
    np.testing.assert_array_equal(head.music(LOGITS), LOGITS[:, 4])
    head = StyleHead(styles("sigmoid", not_music=("Speech",)), LABELS)
    np.testing.assert_array_equal(head.music(LOGITS), -LOGITS[:, 3])
    assert StyleHead(styles("sigmoid"), LABELS).music(LOGITS) is None


def test_log_odds_of_a_softmax_are_those_of_its_probability() -> None:
    head = StyleHead(styles("softmax", not_music=("Speech",)), LABELS)
    p = np.exp(log_softmax(LOGITS, axis=1))[:, 3]
    found = head.music(LOGITS)
    assert found is not None
    np.testing.assert_allclose(found, np.log((1 - p) / p), rtol=1e-4)


def test_a_window_does_not_depend_on_the_others() -> None:
    head = StyleHead(styles("softmax"), LABELS)
    np.testing.assert_array_equal(head.genre_logits(LOGITS)[1:], head.genre_logits(LOGITS[1:]))


def test_a_style_of_an_unknown_genre_is_refused() -> None:
    with pytest.raises(ValueError, match="'Rock', which is not a genre"):
        StyleHead(styles("sigmoid"), LabelSet([Label(name="Jazz"), Label(name="Folk")]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"genres": ("Jazz",)}, "differ in length"),
        ({"music": ("Noise",)}, "no style is named 'Noise'"),
        ({"output": "linear"}, "output is 'linear'"),
    ],
)
def test_styles_that_contradict_themselves_are_refused(
    changes: dict[str, object], message: str
) -> None:
    fields = {"output": "sigmoid", "names": ["a", "b"], "genres": ["Jazz", None]}
    with pytest.raises(ValueError, match=message):
        Styles.from_dict({**fields, "thresholds": [0.1, 0.1], **changes})
