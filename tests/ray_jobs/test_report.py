"""The report of a study: what stands in it, and that it needs nothing but a browser."""

import re
from copy import copy
from html.parser import HTMLParser
from pathlib import Path

import pytest

from browser import CHROMIUM, browser
from planted_study import choose, open_planted, plant, plant_whole
from report import main
from report_page import write_report
from study_record import StudyRecord

HOSTILE = "<img src=http://evil.example/x onerror=\"document.title='owned'\"></script>&{{ 7*7 }}"
LIMIT = 15_000_000


class Parts(HTMLParser):
    """What a page holds: its visible text by section, and every address in it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text: dict[str, str] = {}
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self._section, self._silent = "", False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
        self._silent = tag in ("script", "style")
        if tag in ("td", "th"):
            self.handle_data(" ")
        if tag == "section":
            self._section = values.get("id") or self._section
        self.addresses += [v for k, v in attrs if k in ("src", "href", "data", "action") and v]

    def handle_endtag(self, tag):
        self._silent = False

    def handle_data(self, data):
        if not self._silent:
            self.text[self._section] = self.text.get(self._section, "") + data

    def words(self, section: str) -> str:
        return re.sub(r"\s+", " ", self.text[section])


@pytest.fixture(scope="module")
def storage(tmp_path_factory) -> Path:
    """A study that has ended, with a registered winner, a failure with a hostile reason."""
    storage = tmp_path_factory.mktemp("report")
    study = plant_whole(storage, reason=HOSTILE)
    test = {"against_gray": 0.65, "ab_mae": 0.09, "ab_jsd": 0.61}
    choose(study, 1, version="3", test=test, test_gray={"ab_mae": 0.14, "ab_jsd": 0.6})
    return storage


@pytest.fixture(scope="module")
def page(storage) -> Path:
    assert main(["planted", "--storage", str(storage), "--price-per-hour", "3"]) == 0
    return storage / "studies" / "planted" / "report.html"


@pytest.fixture(scope="module")
def parts(page) -> Parts:
    return Parts(page.read_text(encoding="utf-8"))


def test_it_begins_with_the_winner_why_and_what_to_beware_of(parts):
    answer = parts.words("answer")
    assert "The winner: trial 1 is the best in ab_mae and ab_jsd at once." in answer
    assert "colorizer-gan version 3" in answer
    assert "measure no generalization" in answer
    assert "On the test pictures it is no better than leaving them gray in ab_jsd." in answer
    assert "0.0750" in answer  # its ab_mae
    assert "0.1400" in answer  # leave-gray's on the test pictures
    assert "recipe resnet_gan (trial 0)" in answer


def test_the_ranking_has_every_scored_trial_leave_gray_and_marks(parts):
    ranking = parts.words("ranking")
    gray = "gray is as good in a score"  # 0.6000 against 0.5800 of ab_jsd
    assert re.search(rf"1 1 winner front {gray} 0\.6000 0\.0750 0\.6000 finished 4 30 s", ranking)
    assert re.search(rf"0 {gray} recipe resnet_gan 0\.8000", ranking)
    assert "3 1.1000 0.1375 1.1000 stopped early" in ranking
    assert "leave gray 1.0000 0.1300 0.5800" in ranking


def test_each_part_that_helps_to_choose_is_there(parts):
    assert "!loguniform [1, 1000]" in parts.words("settings")
    assert "leave-gray a -0.2000" in parts.words("channels")
    assert "Over 8 validation pictures" in parts.words("channels")
    assert "of fewer than 5 a rank correlation says nothing" in parts.words("curves")
    for plot in ("Optimization history", "Pareto front", "What mattered", "side by side"):
        assert plot in parts.words("search")
    assert "No plot" not in parts.words("search") + parts.words("curves")
    assert "4 failed diverged 1" in parts.words("failures")


def test_time_is_split_and_priced(parts):
    # 5 trials of 30 s on 2 workers with half a GPU each.
    time = parts.words("time")
    assert "training and scoring 2 min" in time
    assert "starting 50 s" in time
    assert "held 0.0417 GPU-hours, 0.12 at 3 per hour" in time


def test_pictures_are_those_of_trials_whose_models_are_there(parts):
    pictures = parts.words("pictures")
    assert pictures.count("trial 1 winner") == 5
    assert pictures.count("trial 0 recipe resnet_gan") == 5
    assert "trial 2 is not shown: its checkpoints are gone" in pictures
    images = [a for a in parts.addresses if a.startswith("data:image/jpeg;base64,")]
    assert len(images) == 5 * 4


def test_nothing_is_loaded_from_anywhere_and_it_stays_small(page, parts):
    strange = [a for a in parts.addresses if not a.startswith(("data:", "#"))]
    assert strange == []
    styles = re.findall(r"<style>(.*?)</style>", page.read_text(), re.S)
    assert styles
    assert not re.search(r"url\(|@import", "".join(styles))
    assert page.stat().st_size < LIMIT


def test_what_users_and_errors_wrote_is_text(page, parts):
    assert HOSTILE in parts.text["failures"]
    assert "evil.example" not in "".join(parts.addresses)
    assert "<img src=http" not in page.read_text()


def test_a_study_without_scores_has_a_report_that_says_so(tmp_path):
    study = open_planted(tmp_path, "new")
    study.next()
    before = (tmp_path / "studies/new/optuna.journal").read_bytes()
    write_report(StudyRecord.open(tmp_path, "new"), tmp_path / "new.html")
    found = Parts((tmp_path / "new.html").read_text())
    assert "No trial has a score yet." in found.words("answer")
    assert "No plot: no trial was trained to its end yet." in found.words("search")
    assert "0 unfinished" in found.words("failures")
    assert "--name new --resume" in found.words("next")
    assert (tmp_path / "studies/new/optuna.journal").read_bytes() == before


def test_finalists_stand_with_mean_deviation_and_what_tells_them_apart(tmp_path):
    study = plant_whole(tmp_path)
    study.qualified = [1, 0]
    for seed in (1, 2, 3):
        for of, level in ((1, 0.6), (0, 0.8)):
            number, _ = study.add_final(of, seed)
            values = {"against_gray": level + seed / 100, "ab_mae": level, "ab_jsd": level}
            study.record_epoch(number, 1, 1, values)
            study.complete(number)
    choose(study, 1, run=9, ranking=[1, 0])
    write_report(StudyRecord.open(tmp_path, "planted"), tmp_path / "report.html")
    found = Parts((tmp_path / "report.html").read_text())
    assert "1 winner 3 0.6200 ± 0.0100 0.6000 ± 0.0000" in found.words("finalists")
    assert "ab_mae +0.2000 (95%: +0.2000 to +0.2000)" in found.words("finalists")
    ranking = found.words("ranking")
    assert " 9 " not in ranking.split("settings")[0]  # finalists' runs are none of the search


def test_a_study_of_hundreds_of_trials_stays_below_the_limit(tmp_path):
    study = open_planted(tmp_path, trials=400, name="large")
    assert study.complete(plant(study, 0.7)) is None
    record = StudyRecord.open(tmp_path, "large")
    (first,) = record.past.trials
    for number in range(1, 400):
        another = copy(first)
        another.number, another.values = number, [0.09 + number / 1e4, 0.7 - number / 1e4]
        record.past.trials.append(another)
    assert write_report(record, tmp_path / "large.html") < LIMIT


def test_an_unknown_study_and_a_wrong_price_are_one_message(storage, capsys):
    assert main(["nothing", "--storage", str(storage)]) == 2
    assert "no study 'nothing'" in capsys.readouterr().err
    assert main(["planted", "--storage", str(storage), "--price-per-hour", "-1"]) == 2
    assert "--price-per-hour: found -1.0" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: the page is not looked at")
def test_a_browser_without_network_shows_it_at_two_widths_without_complaint(page):
    with browser() as shown:
        for width in (1400, 400):
            shown.open(page, width)
            wide = "document.documentElement.scrollWidth <= innerWidth"
            assert shown.evaluate(wide), f"scrolls sideways at {width}"
            drawn = shown.evaluate("document.querySelectorAll('.plot .main-svg').length")
            assert drawn >= 8
        assert shown.complaints == []
        assert {address.split(":")[0] for address in shown.requests} <= {"file", "data", "blob"}
        assert shown.evaluate("document.title") == "planted: report"

        row = "document.querySelector('#ranking tbody tr th').textContent"
        shown.evaluate("document.querySelectorAll('#ranking thead button')[1].focus()")
        shown.press("Enter")
        assert shown.evaluate(row).strip() == "0"  # by number, the least first
        shown.press("Enter")
        assert shown.evaluate(row).strip() == "4"


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: the page is not looked at")
def test_pictures_are_enlarged_stepped_through_and_zoomed_by_keys(page):
    with browser() as shown:
        shown.open(page, 1400)
        shown.evaluate("document.querySelector('.enlarge').focus()")
        shown.press("Enter")
        name = "document.getElementById('viewer-name').textContent"
        panes = "document.querySelectorAll('#panes img').length"
        assert shown.evaluate("document.getElementById('viewer').open")
        assert "gray" in shown.evaluate(name)
        assert shown.evaluate(panes) == 1
        shown.press("ArrowRight")
        assert "trial 1" in shown.evaluate(name)
        shown.press("ArrowDown")
        assert "picture 2 of 5" in shown.evaluate(name)
        shown.press("a")
        assert shown.evaluate(panes) == 4
        shown.press("+")
        images = "[...document.querySelectorAll('#panes img')]"
        where = f"[...new Set({images}.map(image => getComputedStyle(image).transform))]"
        (before,) = shown.evaluate(where)  # all at the same place
        assert before.startswith("matrix(1.5")
        shown.press("ArrowRight", modifiers=8)
        (after,) = shown.evaluate(where)
        assert after != before
        shown.press("Escape")
        assert not shown.evaluate("document.getElementById('viewer').open")
        assert shown.complaints == []
