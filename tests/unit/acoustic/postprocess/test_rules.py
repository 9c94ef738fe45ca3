"""Music-knowledge rules: arithmetic, checks at start, and the rules listed in the reply."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from acoustic.errors import ConfigError
from acoustic.example import example_wav
from acoustic.labels import GENRES, Label, LabelSet
from acoustic.pipeline import Pipeline, PipelineConfig
from acoustic.postprocess.postprocess_config import PostprocessConfig
from acoustic.postprocess.rules import Condition, Rule, Rules, fitting, shift_odds
from acoustic.request import RequestOptions
from acoustic.types import TrackFacts
from deployments.config import load_rules, merge_config
from deployments.strict import parse_strict
from tests.support.paths import ROOT
from tests.support.tracks import facts_at

FAST = Rule(
    name="fast",
    when=(Condition(feature="tempo_bpm", above=140), Condition(feature="beat_strength", above=0.7)),
    genres=("Classical",),
    log_odds=float(np.log(0.3)),
    enabled=True,
)
EVEN = np.full(16, 1 / 16)


def features(**changes: float) -> TrackFacts:
    facts = facts_at([0.0])
    return replace(facts, descriptors=replace(facts.descriptors, **changes))


def test_odds_are_multiplied_and_the_rest_keeps_its_proportions() -> None:
    before = np.array([0.5, 0.3, 0.2])
    after = shift_odds(before, [0], float(np.log(3)))
    assert after.sum() == pytest.approx(1)
    assert after[0] / (1 - after[0]) == pytest.approx(3 * 0.5 / 0.5)
    assert after[1] / after[2] == pytest.approx(1.5)
    np.testing.assert_array_equal(before, [0.5, 0.3, 0.2])


def test_a_rule_fires_where_all_its_conditions_hold() -> None:
    rules = Rules([FAST], GENRES)
    same, none = rules.apply(EVEN, features(tempo_bpm=150, beat_strength=0.6))
    assert none == ()
    np.testing.assert_array_equal(same, EVEN)
    changed, (applied,) = rules.apply(EVEN, features(tempo_bpm=150, beat_strength=0.8))
    assert applied.name == "fast"
    assert applied.genres == ("Classical",)
    assert applied.before == pytest.approx(1 / 16)
    assert applied.after == changed[GENRES.index("Classical")] < applied.before


def test_a_disabled_rule_does_nothing_but_is_checked() -> None:
    off = replace(FAST, enabled=False)
    assert Rules([off], GENRES).apply(EVEN, features(tempo_bpm=150, beat_strength=0.8))[1] == ()
    with pytest.raises(ConfigError, match="unknown genre 'Polka'"):
        Rules([replace(off, genres=("Polka",))], GENRES)


def test_a_model_without_a_rules_genre_can_be_served_while_the_rule_is_off() -> None:
    two = LabelSet([Label(name="Jazz"), Label(name="Polka")])
    Rules([replace(FAST, enabled=False)], two)
    with pytest.raises(ConfigError, match="the model has no genre 'Classical'"):
        Rules([FAST], two)
    both = replace(FAST, genres=("Classical", "polka"))
    assert [rule.genres for rule in fitting([FAST, both], two)] == [("polka",)]


def test_genres_are_found_by_alias() -> None:
    rules = Rules([replace(FAST, genres=("hip hop", "RnB"))], GENRES)
    _, (applied,) = rules.apply(EVEN, features(tempo_bpm=150, beat_strength=0.8))
    assert applied.genres == ("Hip-Hop", "R&B")


def test_an_unknown_feature_is_refused() -> None:
    odd = replace(FAST, when=(Condition(feature="loudness", above=1.0),))
    with pytest.raises(ConfigError, match="unknown feature 'loudness', known are tempo_bpm"):
        Rules([odd], GENRES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"log_odds": 9.0}, "limits are ±5"),
        ({"genres": ()}, "needs a condition and a genre"),
        ({"when": ()}, "needs a condition and a genre"),
    ],
)
def test_rules_that_cannot_work_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(FAST, **changes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs above or below"):
        Condition(feature="tempo_bpm")


@pytest.mark.parametrize("name", ["rules.yaml", "rules-guide.yaml"])
def test_the_files_fit_the_genres(name: str) -> None:
    rules = load_rules(ROOT / "configs" / name)
    Rules(rules, GENRES)
    assert all(rule.enabled == (name == "rules-guide.yaml") for rule in rules)


def test_a_misspelt_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("rules:\n  - {name: a, when: [{feature: tempo_bpm, over: 3}], genres: [Jazz]}")
    with pytest.raises(ConfigError, match=r"rules\.0\.when\.0\.over"):
        load_rules(path)


def test_rules_can_be_set_in_the_running_service() -> None:
    wanted = {"name": "a", "when": [{"feature": "tempo_bpm", "above": 1.0}], "genres": ["Jazz"]}
    merged = merge_config(PostprocessConfig(), {"rules": [{**wanted, "log_odds": 1.0}]})
    assert merged.rules[0].when[0].above == 1.0
    assert parse_strict(PostprocessConfig, {}, "x").rules == ()


def test_the_reply_lists_what_fired_and_keeps_its_coverage(tiny_checkpoint: Path) -> None:
    """The prediction set is formed before the rules, and always contains the answer."""
    always = (Condition(feature="tempo_bpm", above=-1.0),)
    rule = Rule(name="polka", when=always, genres=("World",), log_odds=5.0, enabled=True)
    config = PipelineConfig(postprocess=PostprocessConfig(rules=(rule,), coverage=0.5))
    plain = PipelineConfig(postprocess=PostprocessConfig(coverage=0.5))
    without = Pipeline.from_folder(tiny_checkpoint, plain).classify(
        example_wav(), RequestOptions(top_k=16)
    )
    found = Pipeline.from_folder(tiny_checkpoint, config).classify(
        example_wav(), RequestOptions(top_k=16)
    )
    body = found.to_dict()
    assert [each["name"] for each in body["rules_applied"]] == ["polka"]
    assert without.rules_applied == ()
    before = {s.genre: s.probability for s in without.predictions}["World"]
    after = {s.genre: s.probability for s in found.predictions}["World"]
    assert body["rules_applied"][0]["before"] == pytest.approx(before, abs=1e-5)
    assert body["rules_applied"][0]["after"] == pytest.approx(after, abs=1e-5)
    assert without.prediction_set is not None
    assert found.prediction_set is not None
    members = set(found.prediction_set.genres)
    assert members == set(without.prediction_set.genres) | {found.predictions[0].genre}
    assert found.config_digest != without.config_digest
