"""What people do with the page, in a real browser; every state is checked by axe."""

from __future__ import annotations

import gzip
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from acoustic.pipeline import Pipeline
from acoustic.request import RequestOptions
from deployments.http.page import FOLDER
from tests.page.conftest import KEY, MAX_BODY_BYTES, PageSite
from tests.support.sounds import encode, noise, sweep

axe_runner = pytest.importorskip("axe_playwright_python.sync_playwright")

MAX_GZIPPED_BYTES = 60_000
ANSWER_MS = 30_000
SHOTS = "ACOUSTICSENSE_SCREENSHOTS"
"""Folder for pictures of the states, for the documentation."""

Open = Callable[..., Any]


@pytest.fixture
def open_page(browser: Any, site: PageSite) -> Iterator[Open]:
    """Function that opens the page and fails the test on an error in it or a foreign request."""
    contexts: list[Any] = []
    problems: list[str] = []

    def run(url: str = "", width: int = 1280, height: int = 900, **options: Any) -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": height}, permissions=["microphone"], **options
        )
        contexts.append(context)
        page = context.new_page()
        target = f"{url or site.url}/"
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "console",
            lambda message: (
                problems.append(message.text)
                if message.type == "error" and "Failed to load resource" not in message.text
                else None
            ),
        )
        page.on(
            "request",
            lambda request: (
                problems.append(f"foreign request: {request.url}")
                if not request.url.startswith((target, "blob:", "data:"))
                else None
            ),
        )
        page.goto(target)
        return page

    yield run
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture
def songs(tmp_path: Path) -> list[Path]:
    """Three songs, and a file that is none."""
    paths = []
    for i in range(3):
        path = tmp_path / f"song {i}.flac"
        path.write_bytes(encode(sweep(20.0) * 0.3 + 0.1 * noise(20.0, seed=i), 22_050, "flac"))
        paths.append(path)
    broken = tmp_path / "broken.mp3"
    broken.write_bytes(b"no audio" * 100)
    return [*paths, broken]


def check_accessible(page: Any) -> None:
    # without its preload, which puts a style sheet into the page
    results = axe_runner.Axe().run(page, options={"preload": False}).response
    serious = [
        (each["id"], [node["html"][:120] for node in each["nodes"]])
        for each in results["violations"]
        if each["impact"] in ("serious", "critical")
    ]
    assert serious == []


def shot(page: Any, name: str) -> None:
    if folder := os.environ.get(SHOTS):
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def choose(page: Any, *paths: Path) -> None:
    page.set_input_files("#files", [str(path) for path in paths])


def wait_for_answer(page: Any) -> None:
    page.wait_for_selector(".verdict", timeout=ANSWER_MS)


def test_one_song(open_page: Open, songs: list[Path], pipeline: Pipeline) -> None:
    page = open_page()
    page.wait_for_selector("text=ready")
    shot(page, "start")
    check_accessible(page)
    choose(page, songs[0])
    wait_for_answer(page)
    expected = pipeline.classify(songs[0].read_bytes(), RequestOptions(coverage=0.9, top_k=16))
    shown = page.locator(".bars tbody tr")
    assert shown.count() == len(expected.predictions)
    first = shown.first.inner_text()
    assert expected.predictions[0].genre in first
    assert f"{round(100 * expected.predictions[0].probability)} %" in first
    assert expected.prediction_set is not None
    assert page.locator(".bars tr.member").count() == len(expected.prediction_set.genres)
    page.wait_for_selector(".wave > div", timeout=ANSWER_MS)
    assert page.locator(".windows tbody tr").count() == len(expected.segments)
    for summary in page.locator("summary").all():
        if not summary.evaluate("each => each.parentElement.open"):
            summary.click()
    assert expected.reasons[0].message in page.locator("details").first.inner_text()
    check_accessible(page)
    page.evaluate("window.scrollTo(0, 0)")
    shot(page, "song")


def test_the_set_follows_the_slider(open_page: Open) -> None:
    page = open_page()
    page.click("text=Try an example")  # music by the model, where the noisy sweeps are not
    wait_for_answer(page)
    page.wait_for_selector("text=With 90 % certainty")
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    wide = page.locator(".bars tr.member").count()
    page.locator("input[type=range]").fill("0.5")
    page.wait_for_selector("text=With 50 % certainty", timeout=ANSWER_MS)
    assert page.locator(".bars tr.member").count() < wide
    assert not [url for url in requests if "classify" in url], "the answer had all sets"


def test_what_the_model_sees(open_page: Open, songs: list[Path], pipeline: Pipeline) -> None:
    page = open_page()
    choose(page, songs[0])
    wait_for_answer(page)
    assert page.locator(".windows-seen canvas").count() == 0, (
        "nothing is fetched before somebody looks"
    )
    page.click("text=What the model sees")
    page.wait_for_selector(".windows-seen canvas", timeout=ANSWER_MS)
    features = pipeline.preprocessor.process(songs[0].read_bytes(), "balanced")
    pictures = page.locator(".windows-seen canvas")
    assert pictures.count() == features.n_windows
    loud = int(features.log_mel[0][0, 0]), int(features.log_mel[0].max())
    shown = pictures.first.evaluate(
        """each => {
            const { data } = each.getContext("2d").getImageData(0, 0, each.width, each.height);
            let most = 0;
            for (let i = 0; i < data.length; i += 4) most = Math.max(most, data[i]);
            return [data[4 * (each.height - 1) * each.width], most];
        }"""
    )
    assert tuple(shown) == loud
    check_accessible(page)
    page.locator("summary >> text=What the model sees").scroll_into_view_if_needed()
    shot(page, "seen")


def test_the_example_and_a_recording(open_page: Open) -> None:
    page = open_page()
    page.click("text=Try an example")
    wait_for_answer(page)
    assert "example.wav" in page.locator(".file").inner_text()
    page.wait_for_selector(".wave > div", timeout=ANSWER_MS)
    shot(page, "example")
    page.click("text=Record 10 s")
    page.wait_for_selector("text=recording.wav", timeout=ANSWER_MS)
    wait_for_answer(page)
    assert "WAV" in page.locator(".file").inner_text()


def test_many_files_with_a_broken_one(open_page: Open, songs: list[Path], site: PageSite) -> None:
    page = open_page()
    site.service.most_at_a_time = 0
    choose(page, *songs)
    page.wait_for_selector("text=4 of 4 done, 1 failed", timeout=ANSWER_MS)
    assert site.service.most_at_a_time <= 4
    rows = page.locator(".files tbody tr")
    assert rows.count() == 4
    assert "known audio format" in page.locator("tr.failed").inner_text()
    check_accessible(page)
    shot(page, "many")
    page.select_option("article select", "failed")
    assert rows.count() == 1
    page.select_option("article select", "all")
    page.click("th >> text=file")
    assert "broken.mp3" in rows.first.inner_text()
    with page.expect_download() as download:
        page.click("text=JSON lines")
    lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    assert [("error" in row) for row in found] == [False, False, False, True]
    page.click("text=song 1.flac")
    wait_for_answer(page)
    assert "song 1.flac" in page.locator(".file").inner_text()


def test_a_folder_of_fifty_survives_a_busy_service(
    open_page: Open, songs: list[Path], site: PageSite, tmp_path: Path
) -> None:
    folder = tmp_path / "album"
    folder.mkdir()
    short = encode(sweep(6.0), 22_050, "flac")
    for i in range(50):
        (folder / f"{i:02}.flac").write_bytes(short + bytes(i + 1))
    (folder / "cover.txt").write_text("no audio")
    site.service.n_refusals = 6
    page = open_page()
    page.set_input_files("#folder", str(folder))
    page.wait_for_selector("text=50 of 50 done", timeout=4 * ANSWER_MS)
    assert page.locator("tr.failed").count() == 0
    assert site.service.n_refusals == 0


def test_a_busy_service_is_asked_again(open_page: Open, songs: list[Path], site: PageSite) -> None:
    page = open_page()
    page.wait_for_selector("text=ready")
    site.service.n_refusals = 1
    choose(page, songs[1])
    page.wait_for_selector("text=The service is busy. It is asked again by itself.")
    wait_for_answer(page)


def test_what_only_the_browser_can_read_is_sent_as_wav(
    open_page: Open, songs: list[Path], site: PageSite
) -> None:
    site.service.reads_wav_only = True
    try:
        page = open_page()
        choose(page, songs[0])
        wait_for_answer(page)
    finally:
        site.service.reads_wav_only = False
    assert "0:20 · WAV" in page.locator(".file").inner_text()


def test_errors_say_what_to_do(open_page: Open, tmp_path: Path) -> None:
    page = open_page()
    large = tmp_path / "large.wav"
    large.write_bytes(encode(noise(60.0, 44_100), 44_100)[: MAX_BODY_BYTES + 1000])
    choose(page, large)
    page.wait_for_selector("text=Send a shorter file", timeout=ANSWER_MS)
    assert re.search(r"Request id: \w+", page.locator(".problem").inner_text())
    check_accessible(page)
    shot(page, "error")


def test_a_locked_service_asks_for_its_key(
    open_page: Open, locked_site: PageSite, songs: list[Path]
) -> None:
    page = open_page(locked_site.url)
    page.wait_for_selector("text=This service asks for a key")
    check_accessible(page)
    page.fill("input[type=password]", "wrong")
    page.click("text=Continue")
    page.wait_for_selector("text=This service asks for a key")
    page.fill("input[type=password]", KEY)
    page.click("text=Continue")
    page.wait_for_selector("text=Choose files")
    choose(page, songs[0])
    wait_for_answer(page)


def test_corrections_become_a_manifest(open_page: Open, songs: list[Path]) -> None:
    page = open_page()
    choose(page, songs[2])
    wait_for_answer(page)
    page.select_option(".correct select", "Jazz")
    with page.expect_download() as download:
        page.click("text=Download 1 correction")
    text = Path(download.value.path()).read_text(encoding="utf-8")
    assert text == "file,genre\nsong 2.flac,Jazz\n"


def test_the_service_tab(open_page: Open, pipeline: Pipeline) -> None:
    page = open_page()
    page.click("nav >> text=Service")
    page.wait_for_selector("text=Since the start")
    assert pipeline.classifier.manifest.name in page.locator("main").inner_text()
    check_accessible(page)
    shot(page, "service")


def test_the_keyboard_alone(open_page: Open) -> None:
    page = open_page()
    page.wait_for_selector("text=ready")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "Try an example":
            break
    page.keyboard.press("Enter")
    wait_for_answer(page)


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1280, "dark"), (360, "dark")])
def test_phones_and_the_dark(open_page: Open, songs: list[Path], width: int, scheme: str) -> None:
    page = open_page(width=width, height=800, color_scheme=scheme)
    choose(page, songs[0])
    wait_for_answer(page)
    page.wait_for_selector(".wave > div", timeout=ANSWER_MS)
    wide = page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    assert wide <= 0, "nothing sticks out at the side"
    check_accessible(page)
    shot(page, f"song-{width}-{scheme}")


def test_the_api_pages(open_page: Open, site: PageSite) -> None:
    page = open_page()
    page.goto(f"{site.url}/docs")
    page.wait_for_selector("[data-path='/v1/classify']", timeout=ANSWER_MS)
    shot(page, "api")


def test_the_page_is_light() -> None:
    parts = [path for path in FOLDER.glob("*.*") if path.name not in ("docs.html", "docs.js")]
    parts += [FOLDER / "vendor" / f"{name}.js" for name in ("preact-htm", "wavesurfer", "regions")]
    assert sum(len(gzip.compress(path.read_bytes(), 9)) for path in parts) <= MAX_GZIPPED_BYTES
