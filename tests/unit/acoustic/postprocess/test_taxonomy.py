"""Genres joined, renamed and left out: probabilities add up and sets stay valid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.errors import ConfigError, InvalidOptionError
from acoustic.labels import GENRES, Label, LabelSet
from acoustic.postprocess.calibration import uncalibrated
from acoustic.postprocess.conformal import (
    SET_METHODS,
    SetMethod,
    fit_quantiles,
    prediction_sets,
    true_scores,
)
from acoustic.postprocess.postprocess_config import PostprocessConfig
from acoustic.postprocess.postprocessor import Postprocessor
from acoustic.postprocess.rules import Condition, Rule
from acoustic.postprocess.taxonomy import GenreMap, Taxonomy
from acoustic.request import RequestOptions
from acoustic.styles import Styles
from deployments.built_in import TAXONOMIES, built_in
from deployments.taxonomies import load_taxonomies, load_taxonomy
from tests.support.properties import quick
from tests.support.tracks import track_logits

OWN = Taxonomy(
    name="own",
    genres={"Heavy": ("Rock", "Metal"), "Beats": ("Hip Hop", "Rap"), "jazz!": ("Jazz",)},
    drop=("World", "Latin"),
)


@st.composite
def taxonomies(draw: st.DrawFn) -> Taxonomy:
    """Each genre is kept, joined into one of three, or left out; two or more remain."""
    places = draw(st.lists(st.integers(-1, 4), min_size=16, max_size=16))
    genres: dict[str, tuple[str, ...]] = {}
    for name, place in zip(GENRES.names, places, strict=True):
        if 0 <= place < 3:
            genres[f"joined {place}"] = (*genres.get(f"joined {place}", ()), name)
    drop = [n for n, place in zip(GENRES.names, places, strict=True) if place == -1]
    return Taxonomy(name="drawn", genres=genres, drop=tuple(drop[:12]))


@quick
@given(taxonomy=taxonomies(), seed=st.integers(0, 1000))
def test_probabilities_add_up_and_no_genre_is_lost(taxonomy: Taxonomy, seed: int) -> None:
    p = np.random.default_rng(seed).dirichlet(np.full(16, 0.3))
    try:
        genre_map = GenreMap(GENRES, taxonomy)
    except ConfigError:
        return  # everything was joined into one
    joined = genre_map.join(genre_map.possible(p))
    assert joined.sum() == pytest.approx(1)
    assert genre_map.left_out(p) == pytest.approx(p[indices(taxonomy.drop)].sum())
    for name, parts in taxonomy.genres.items():
        expected = p[indices(parts)].sum() / (1 - genre_map.left_out(p))
        assert joined[genre_map.labels.index(name)] == pytest.approx(expected, abs=1e-6)


@quick
@given(taxonomy=taxonomies(), seed=st.integers(0, 1000), method=st.sampled_from(SET_METHODS))
def test_a_joined_set_holds_what_the_set_of_the_model_holds(
    taxonomy: Taxonomy, seed: int, method: SetMethod
) -> None:
    try:
        genre_map = GenreMap(GENRES, taxonomy)
    except ConfigError:
        return
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(16, 0.3), 200)
    truth = np.array([rng.choice(16, p=row) for row in p])
    quantile = fit_quantiles(true_scores(p, truth, method))["0.90"]
    members = prediction_sets(p[:1], quantile, method)[0]
    joined = genre_map.join_set(members)
    for i, name in enumerate(GENRES.names):
        joined_name = genre_map.name_of(name)
        if members[i] and joined_name is not None:
            assert joined[genre_map.labels.index(joined_name)]
    if method == "lac":  # with fewer genres to share it, every probability rises
        possible = prediction_sets(genre_map.possible(p[:1]), quantile, method)[0]
        kept = np.array([genre_map.name_of(name) is not None for name in GENRES.names])
        assert possible[members & kept].all()


def indices(names: tuple[str, ...]) -> list[int]:
    return [GENRES.index(name) for name in names]


def test_what_is_not_named_keeps_its_name_and_families_stay() -> None:
    genre_map = GenreMap(GENRES, OWN)
    assert "Blues" in genre_map.labels.names
    assert genre_map.labels.labels[genre_map.labels.index("Heavy")].parent == "Rock & Metal"
    assert (genre_map.name_of("Metal"), genre_map.name_of("World")) == ("Heavy", None)
    assert (genre_map.only_part("jazz!"), genre_map.only_part("Heavy")) == ("Jazz", None)
    assert GenreMap(GENRES).labels.names == GENRES.names


def test_genres_that_a_model_lacks_are_passed_over() -> None:
    labels = LabelSet([Label(name="Rock"), Label(name="Jazz"), Label(name="Polka")])
    assert GenreMap(labels, OWN).labels.names == ("Heavy", "jazz!", "Polka")


@pytest.mark.parametrize(
    ("genres", "drop", "message"),
    [
        ({"a": ("Rokc",)}, (), "unknown genre 'Rokc'"),
        ({"a": GENRES.names}, (), "two labels or more"),
        ({"Blues": ("Rock",), "b": ("Jazz",)}, (), None),
    ],
)
def test_a_taxonomy_that_cannot_work_is_refused(
    genres: dict[str, tuple[str, ...]], drop: tuple[str, ...], message: str | None
) -> None:
    taxonomy = Taxonomy(name="t", genres=genres, drop=drop)
    if message is None:  # joined with the genre that has that name already
        assert GenreMap(GENRES, taxonomy).only_part("Blues") is None
        return
    with pytest.raises(ConfigError, match=message):
        GenreMap(GENRES, taxonomy)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"genres": {"a": ("Rock",)}, "drop": ("rock",)}, "names 'Rock' twice"),
        ({"genres": {"a": ("Rap",), "b": ("Rap",)}}, "names 'Rap' twice"),
        ({"genres": {"a": ()}}, "'a' joins no genre"),
    ],
)
def test_a_genre_stands_in_one_place(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Taxonomy(name="t", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("file", sorted(path.name for path in built_in(TAXONOMIES).glob("*.yaml")))
def test_the_built_in_taxonomies_fit_the_sixteen_genres(file: str) -> None:
    genre_map = GenreMap(GENRES, load_taxonomy(built_in(TAXONOMIES) / file))
    assert len(genre_map.labels) < 16


@pytest.mark.parametrize("method", SET_METHODS)
def test_answers_by_a_taxonomy(tiny_checkpoint: Path, method: SetMethod) -> None:
    folder = CheckpointFolder.open(tiny_checkpoint)
    taxonomies = (OWN, *load_taxonomies(built_in(TAXONOMIES)))
    config = PostprocessConfig(taxonomies=taxonomies, set_method=method)
    stage = Postprocessor.from_folder(folder, config)
    track = track_logits(np.random.default_rng(3).normal(0, 2, (3, 16)))
    plain = stage.process(track, RequestOptions(top_k=16, coverage=0.9, timeline=True))
    own = stage.process(
        track, RequestOptions(top_k=12, coverage=0.9, timeline=True, taxonomy="own")
    )
    p = {each.genre: each.probability for each in plain.predictions}
    q = {each.genre: each.probability for each in own.predictions}
    assert sum(q.values()) == pytest.approx(1)
    kept = 1 - p["World"] - p["Latin"]
    assert q["Heavy"] == pytest.approx((p["Rock"] + p["Metal"]) / kept)
    assert own.confidence == max(q.values())
    assert plain.prediction_set is not None
    assert own.prediction_set is not None
    genre_map = GenreMap(GENRES, OWN)
    joined = {genre_map.name_of(name) for name in plain.prediction_set.genres} - {None}
    assert joined <= set(own.prediction_set.genres)
    assert own.config_digest != plain.config_digest
    assert all(window.genre in genre_map.labels for window in own.timeline or ())
    with pytest.raises(InvalidOptionError, match="known are own, families, gtzan"):
        stage.process(track, RequestOptions(taxonomy="mine"))
    with pytest.raises(InvalidOptionError, match="limits are 1 to 12"):
        stage.process(track, RequestOptions(taxonomy="own", top_k=13))


def test_a_track_of_a_genre_that_is_left_out_is_flagged(tiny_checkpoint: Path) -> None:
    folder = CheckpointFolder.open(tiny_checkpoint)
    stage = Postprocessor.from_folder(folder, PostprocessConfig(taxonomies=(OWN,)))
    logits = np.zeros((3, 16), np.float32)
    logits[:, GENRES.index("World")] = 9
    answer = stage.process(track_logits(logits), RequestOptions(taxonomy="own"))
    reason = next(each for each in answer.reasons if each.code == "OUTSIDE_TAXONOMY")
    assert reason.value > 0.9
    assert "World" not in {each.genre for each in answer.predictions}


def test_scores_of_styles_are_joined_by_the_largest_and_no_rule_changes_them() -> None:
    names = ("Bebop", "Hard rock", "Thrash")
    styles = Styles(
        output="sigmoid", names=names, genres=("Jazz", "Rock", "Metal"), thresholds=(0.1,) * 3
    )
    labels = LabelSet([Label(name=name) for name in ("Jazz", "Rock", "Metal")])
    rule = Rule(name="r", when=(Condition(feature="tempo_bpm", above=1.0),), genres=("Jazz",),
                log_odds=5.0)  # fmt: skip
    config = PostprocessConfig(taxonomies=(OWN,), rules=(rule,))
    stage = Postprocessor(labels, uncalibrated("d"), 5.0, config, styles)
    logits = np.array([[0.0, -1.0, 2.0], [0.0, -1.0, 2.0]], np.float32)
    answer = stage.process(track_logits(logits), RequestOptions(taxonomy="own", timeline=True))
    shown = {each.genre: each.probability for each in answer.predictions}
    assert shown == pytest.approx({"Heavy": expit(2.0), "jazz!": 0.5})
    assert answer.rules_applied == ()
    assert answer.uncertainty.margin == pytest.approx(1 - (expit(2.0) - 0.5))
    assert {window.genre for window in answer.timeline or ()} == {"Heavy"}
    assert not answer.model.calibrated
    with pytest.raises(InvalidOptionError, match="the model is not calibrated"):
        stage.process(track_logits(logits), RequestOptions(coverage=0.9))
