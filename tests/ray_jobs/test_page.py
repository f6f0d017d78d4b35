"""The server's page in a browser: a photograph comes in, is compared, chosen and taken away."""

import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from browser import CHROMIUM, Page, browser
from colorization.inference import PictureColorizer
from local_server import InProcess, local_server
from picture_service import PictureService
from planted_deeplab import plant
from served_model import About
from tiny_colorizers import Tones
from web_limits import Limits

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: the page is not looked at"),
]

LABEL = "colorizer-cvae version 3 (champion)"


@dataclass(frozen=True)
class Visit:
    """A page that is open, where it is from, and what the server was asked."""

    page: Page
    address: str
    backend: InProcess


class Same(Tones):
    """Draws nothing."""

    stochastic = False


def visit(model: Tones) -> Iterator[Visit]:
    about = About(LABEL, "3", "cvae", model.stochastic, takes_reference=False)
    backend = InProcess(PictureService(PictureColorizer(model, 64), about, megapixels=1))
    with local_server(backend, Limits(megabytes=2)) as address, browser() as page:
        page.open(address, 1280)
        page.wait(f"document.getElementById('model').textContent === '{LABEL}'")
        yield Visit(page, address, backend)
        strange = [
            url for url in page.requests if not url.startswith((address, f"blob:{address[:-1]}"))
        ]
        assert not strange, "the page asked for something elsewhere"


@pytest.fixture
def drawing() -> Iterator[Visit]:
    yield from visit(Tones())


@pytest.fixture
def fixed() -> Iterator[Visit]:
    yield from visit(Same())


def encoded(kind: str = "JPEG", size: tuple[int, int] = (300, 200)) -> bytes:
    buffer = BytesIO()
    Image.fromarray(data.coffee()).resize(size).convert("L").save(buffer, kind)
    return buffer.getvalue()


def colored(page: Page) -> None:
    page.wait("document.getElementById('status').textContent.startsWith('Colored in')")


def at(page: Page) -> str:
    return page.evaluate("getComputedStyle(document.getElementById('after')).clipPath")


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(content)).convert("RGB")).astype(int)


def test_a_dropped_photograph_is_colored_compared_and_taken_away(
    fixed: Visit, tmp_path: Path
) -> None:
    page = fixed.page
    photograph = encoded()
    page.drop_file("grandmother 1932.jpg", "image/jpeg", photograph)
    colored(page)
    assert page.evaluate("document.getElementById('after').naturalWidth") == 300
    assert at(page) == "inset(0px 0px 0px 50%)"
    x, y, width, _ = page.place("#compare")
    page.mouse((x + width / 2, y + 60), (x + width / 3, y + 60), (x + width / 4, y + 60))
    assert at(page) == "inset(0px 0px 0px 25%)"
    page.press("ArrowRight")
    page.press("ArrowRight")
    assert at(page) == "inset(0px 0px 0px 27%)"
    page.press("End")
    assert at(page) == "inset(0px 0px 0px 100%)"
    file = page.download("#download", tmp_path)
    assert file.name == "grandmother 1932-colored.jpg"
    query = "saturation=1&gain=1"
    request = urllib.request.Request(
        f"{fixed.address}api/colorize?{query}", photograph, {"Content-Type": "image/jpeg"}
    )
    with urllib.request.urlopen(request) as answer:
        assert file.read_bytes() == answer.read()
    for hidden in ("of-drawing", "of-temperature", "of-reference", "samples"):
        assert page.evaluate(f"document.getElementById('{hidden}').hidden"), hidden
    assert page.complaints == []


def test_options_reach_the_server_and_change_the_picture(fixed: Visit, tmp_path: Path) -> None:
    page = fixed.page
    (tmp_path / "old.png").write_bytes(encoded("PNG"))
    page.choose_file("#file", tmp_path / "old.png")
    colored(page)
    page.evaluate("document.getElementById('saturation').focus()")
    page.press("Home")
    page.wait(
        "document.querySelector('output[for=saturation]').textContent === '0.00' && "
        "document.getElementById('status').textContent.startsWith('Colored')"
    )
    assert fixed.backend.asked[-1].options["saturation"] == "0"
    gray = pixels(page.download("#download", tmp_path).read_bytes())
    assert np.ptp(gray, axis=2).max() == 0
    page.click("#auto-gain")
    page.wait("document.getElementById('status').textContent.startsWith('Colored')")
    assert fixed.backend.asked[-1].options["gain"] == "auto"
    page.evaluate("document.getElementById('reset').click()")
    page.wait("document.querySelector('output[for=saturation]').textContent === '1.00'")
    colored(page)
    assert fixed.backend.asked[-1].options["gain"] == "1"
    assert page.complaints == []


def test_the_foreground_alone_is_offered_where_its_weights_are(
    fixed: Visit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, option = fixed.page, "document.getElementById('of-foreground').hidden"
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "nothing"))
    page.open(fixed.address, 1280)
    page.wait(f"document.getElementById('model').textContent === '{LABEL}'")
    assert page.evaluate(option)
    plant("resnet101", tmp_path, monkeypatch)
    page.open(fixed.address, 1280)
    page.wait(f"!{option}")
    page.drop_file("old.png", "image/png", encoded("PNG"))
    colored(page)
    whole = pixels(page.download("#download", tmp_path / "whole").read_bytes())
    page.click("#foreground")
    page.wait("document.getElementById('status').textContent.startsWith('Coloring')")
    colored(page)
    assert fixed.backend.asked[-1].options["foreground"] == "all"
    alone = pixels(page.download("#download", tmp_path / "alone").read_bytes())
    assert np.ptp(whole, axis=2).mean() > np.ptp(alone, axis=2).mean()
    assert page.complaints == []


def test_one_of_several_samples_is_chosen(drawing: Visit, tmp_path: Path) -> None:
    page = drawing.page
    (tmp_path / "old.jpg").write_bytes(encoded())
    page.choose_file("#file", tmp_path / "old.jpg")
    colored(page)
    first = page.evaluate("document.getElementById('after').src")
    page.click(".choices label:nth-child(3)")
    page.wait("document.querySelectorAll('#strip img').length === 4")
    colored(page)
    page.evaluate("document.querySelector('#strip input').focus()")
    page.press("ArrowRight")
    page.press("ArrowRight")
    page.wait("document.getElementById('download').download === 'old-colored-3.jpg'")
    assert page.evaluate("document.getElementById('after').src") != first
    third = pixels(page.download("#download", tmp_path).read_bytes())
    options = drawing.backend.asked[-1].options
    assert (options["samples"], options["seed"]) == ("4", "0")
    assert "temperature" not in options
    page.click("#redraw")
    page.evaluate("document.getElementById('temperature').focus()")
    page.press("ArrowLeft")
    page.wait("document.querySelector('output[for=temperature]').textContent === '0.95'")
    colored(page)
    options = drawing.backend.asked[-1].options
    assert (options["temperature"], options["seed"]) == ("0.95", "1")
    other = pixels(page.download("#download", tmp_path / "again").read_bytes())
    assert np.abs(third - other).max() > 3
    assert page.complaints == []


def test_a_kind_that_browsers_do_not_know_is_shown_all_the_same(fixed: Visit) -> None:
    fixed.page.drop_file("scan.tif", "image/tiff", encoded("TIFF"))
    colored(fixed.page)
    for image in ("before", "after"):
        assert fixed.page.evaluate(f"document.getElementById('{image}').naturalWidth") == 300
    assert fixed.page.evaluate("document.getElementById('download').download").endswith(".png")


def test_what_is_wrong_is_said_in_words(fixed: Visit) -> None:
    page = fixed.page
    fault = "document.getElementById('fault').textContent"
    page.drop_file("letter.txt", "text/plain", b"dear all")
    page.wait(f"{fault}.includes('found text')")
    page.drop_file("huge.png", "image/png", encoded("PNG", (1200, 1000)))
    page.wait(f"{fault}.includes('1200 x 1000 pixels')")
    page.drop_file("heavy.jpg", "image/jpeg", bytes(2_100_000))
    page.wait(f"{fault}.includes('2.1 MB')")
    assert page.evaluate("document.getElementById('download').getAttribute('href')") is None
    page.drop_file("good.png", "image/png", encoded("PNG"))
    colored(page)
    assert page.evaluate(fault) == ""
    page.call(
        "Network.emulateNetworkConditions",
        offline=True, latency=0, downloadThroughput=0, uploadThroughput=0,
    )  # fmt: skip
    page.evaluate("document.getElementById('auto-gain').click()")
    page.wait(f"{fault}.includes('cannot be reached')")
    assert not page.evaluate("document.getElementById('again').hidden")
    known = ("status of 4", "ERR_INTERNET_DISCONNECTED")  # the browser's own words
    assert all(any(word in complaint for word in known) for complaint in page.complaints)


def test_a_photograph_that_comes_while_another_is_colored_takes_its_place(fixed: Visit) -> None:
    page = fixed.page
    fixed.backend.may.clear()
    page.drop_file("first.png", "image/png", encoded("PNG", (300, 200)))
    while not fixed.backend.asked:
        page.evaluate("document.body")
    page.wait("document.getElementById('status').textContent.startsWith('Coloring')")
    assert not page.evaluate("document.getElementById('progress').hidden")
    page.drop_file("second.png", "image/png", encoded("PNG", (200, 300)))
    fixed.backend.may.set()
    colored(page)
    assert page.evaluate("document.getElementById('after').naturalWidth") == 200
    name = page.evaluate("document.getElementById('download').download")
    assert name == "second-colored.png"
    assert page.complaints == []


@pytest.mark.parametrize(("width", "dark"), [(390, False), (390, True), (1280, True)])
def test_it_fits_the_window_and_every_control_has_a_name(
    drawing: Visit, width: int, dark: bool
) -> None:
    page = drawing.page
    page.open(drawing.address, width, dark=dark)
    page.drop_file("old.png", "image/png", encoded("PNG", (640, 480)))
    colored(page)
    page.evaluate("document.getElementById('of-reference').hidden = false")
    root = "document.documentElement"
    assert page.evaluate(f"{root}.scrollWidth") == page.evaluate(f"{root}.clientWidth")
    tree = page.call("Accessibility.getFullAXTree")["nodes"]
    roles = {"slider", "checkbox", "radio", "button", "link"}
    controls = [node for node in tree if node.get("role", {}).get("value") in roles]
    names = [node.get("name", {}).get("value", "").strip() for node in controls]
    assert len(controls) >= 12
    assert all(names), names
    assert page.complaints == []
