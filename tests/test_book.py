"""The built book in a real browser: wide and narrow, nothing overflows, fails or is fetched.

The book is built by `make book`; these tests look at what is in `_build/html`.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import pytest
from common import axe_violations, browser, contrasts, press, served

from tinyamp.data import SIMULATED

ROOT = Path(__file__).resolve().parents[1]
HTML = ROOT / "_build" / "html"
PAGES = sorted(
    path.relative_to(HTML).as_posix()
    for path in HTML.rglob("*.html")
    if "_static" not in path.parts and path.name != "index.html"
)
WIDTHS = {1280: 900, 390: 844}
# Pages with players, also in a page within the page, whose text is escaped.
HEARD = [
    path
    for path in PAGES
    if re.search("(?:<|&lt;)audio ", (HTML / path).read_text(encoding="utf-8"))
]

if not PAGES:
    pytest.skip("The book is not built: run make book first.", allow_module_level=True)


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    """The address under which the built book is served."""
    with served(HTML) as address:
        yield address


@pytest.fixture(scope="module")
def chromium():
    with browser() as started:
        yield started


class Visit:
    """One page, opened at one width, with everything that it asked for and complained about."""

    def __init__(self, browser, origin: str, path: str, width: int, scheme: str = "light") -> None:
        self.complaints: list[str] = []
        self.elsewhere: list[str] = []
        size = {"width": width, "height": WIDTHS[width]}
        self.context = browser.new_context(viewport=size, color_scheme=scheme)
        self.page = self.context.new_page()
        self.page.set_default_timeout(120_000)  # other tests may take their share of the machine
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("response", self._response)
        self.page.on("request", lambda request: self._request(request.url, origin))
        self.page.goto(origin + path, wait_until="load")
        # An equation is drawn after the page has loaded.
        self.page.wait_for_function(
            "() => !document.querySelector('.math') || window.MathJax?.startup?.promise"
        )
        self.page.evaluate("() => window.MathJax?.startup?.promise")

    def _console(self, message) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def _response(self, response) -> None:
        if response.status >= 400:
            self.complaints.append(f"{response.status} {response.url}")

    def _request(self, url: str, origin: str) -> None:
        if not url.startswith((origin, "data:", "blob:")):
            self.elsewhere.append(url)


@pytest.fixture(params=[(path, width) for path in PAGES for width in WIDTHS], ids=str)
def visit(request, chromium, origin) -> Iterator[Visit]:
    visit = Visit(chromium, origin, *request.param)
    yield visit
    visit.context.close()


# What a reader sees outside code, without what MathJax has drawn.
_TEXT = """() => {
  const copy = document.querySelector("main").cloneNode(true);
  for (const element of copy.querySelectorAll("pre, code, mjx-container, script, style"))
    element.remove();
  return copy.textContent;
}"""
_IMAGES = """() => Promise.all([...document.images].map(async image => {
  image.loading = "eager";
  await image.decode().catch(() => {});
  return [image.currentSrc.slice(0, 120), image.naturalWidth, image.getAttribute("alt")];
}))"""
_SOUNDS = """() => Promise.all([...document.querySelectorAll("audio")].map(audio =>
  new Promise(resolve => {
    const label = audio.getAttribute("aria-label") ?? "";
    const done = () => resolve([label, audio.duration, audio.error?.message ?? ""]);
    if (audio.readyState >= 1 || audio.error) return done();
    audio.addEventListener("loadedmetadata", done);
    audio.addEventListener("error", done);
    setTimeout(done, 10000);
    audio.preload = "metadata";
    audio.load();
  })))"""


def test_page_is_whole(visit: Visit) -> None:
    page = visit.page
    assert page.locator("main h1").count() >= 1, "a page without a heading"

    text = page.evaluate(_TEXT)
    raw = re.findall(r"\$[^$\n]{1,60}\$|\\[a-zA-Z]{2,}|\{(?:eq|numref|cite|ref)[^}]*\}`", text)
    assert not raw, f"raw markup in the text: {raw}"
    equations = page.locator(".math").count()
    assert page.locator("mjx-container").count() >= equations
    assert page.locator("mjx-merror, [data-mjx-error]").count() == 0, "an equation with an error"

    for source, width, alt in page.evaluate(_IMAGES):
        assert width > 0, f"an image that does not load: {source}"
        assert alt is not None, f"an image without alt text: {source}"
        assert "_images/" not in alt and "/" not in alt, f"alt text that is a path: {alt}"
    for label, duration, error in page.evaluate(_SOUNDS):
        assert label, "a player without a label"
        assert duration and duration > 0, f"{label} does not play: {error}"

    width, visible = page.evaluate("() => [document.scrollingElement.scrollWidth, innerWidth]")
    assert width <= visible, f"the page is {width} px wide, the window {visible}: " + str(
        page.evaluate(
            """() => [...document.querySelectorAll("main *")]
            .filter(e => e.getBoundingClientRect().right > innerWidth + 1)
            .slice(0, 5).map(e => `${e.tagName}.${e.className}`)"""
        )
    )
    assert not visit.complaints
    assert not visit.elsewhere, "the book should be readable offline"


def test_dark_page_is_legible(chromium, origin: str) -> None:
    """Text and its background are far apart in the dark, in players and outputs too."""
    assert HEARD, "no page has a player"
    visit = Visit(chromium, origin, HEARD[0], 390, "dark")
    try:
        found = contrasts(
            visit.page,
            "main p, main h1, main h2, .tinyamp-player span, .tinyamp-players small",
        )
    finally:
        visit.context.close()
    assert found
    assert not [pair for pair in found if pair[1] < 4.5]


def _documents(page) -> Iterator:
    """The page itself and the pages within it, with all that is folded in them open."""
    frames = [page.main_frame]
    for element in page.locator("iframe").all():
        element.scroll_into_view_if_needed()  # some load only then
        frames.append(element.element_handle().content_frame())
        frames[-1].wait_for_function(
            "() => document.readyState === 'complete' && document.body?.childElementCount"
        )
    for frame in frames:
        folded = frame.locator("details:not([open]):has(audio) > summary")
        while folded.count():
            folded.first.click()
        yield frame


@pytest.mark.parametrize(
    "visit", [(path, width) for path in HEARD for width in WIDTHS], ids=str, indirect=True
)
def test_every_player_plays_alone_when_it_is_pressed(visit: Visit) -> None:
    """Each is in reach, is pressed as a reader does, and stops the one before it."""
    page = visit.page
    if page.locator("tinyamp-bench").count():
        page.wait_for_function("() => document.querySelector('.ta-table td')")
    pressed = 0
    for frame in _documents(page):
        # None comes to its end by itself: what stops has been stopped.
        frame.evaluate("() => document.querySelectorAll('audio').forEach(a => (a.loop = true))")
        players = frame.locator("audio").all()
        for number, player in enumerate(players):
            label = player.get_attribute("aria-label")
            found = press(player, by_keyboard=number == 1)
            assert found == "plays", f"{label!r} was pressed, and {found}"
            box = player.bounding_box()
            left, right = box["x"], box["x"] + box["width"]
            assert left >= 0 and right <= page.viewport_size["width"], f"{label!r} is cut off"
        if players:
            assert press(players[-1]) == "stops", "pressed again, it should stop"
        pressed += len(players)
    assert pressed, "no player was found"
    assert not visit.complaints


def test_chapters_with_sounds_have_players() -> None:
    """Also the landing page: the dry guitar, and each device and its network."""
    for path in sorted((ROOT / "book").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        if "players(" in code:
            assert f"book/{path.stem}.html" in HEARD, f"{path.name} has lost its players"
    landing = (HTML / "book" / "intro.html").read_text(encoding="utf-8")
    hear_it = landing.split('<section id="hear-it">')[1].split("<section ")[0]
    assert hear_it.count("<audio ") == 1 + 2 * len(SIMULATED)


@pytest.mark.parametrize("path", PAGES)
def test_page_is_accessible(path: str, chromium, origin: str) -> None:
    """axe-core finds nothing serious, wide and light as well as narrow and dark."""
    serious = []
    for width, scheme in ((1280, "light"), (390, "dark")):
        visit = Visit(chromium, origin, path, width, scheme)
        try:
            if visit.page.locator("tinyamp-bench").count():
                visit.page.wait_for_function("() => document.querySelector('.ta-table td')")
            visit.page.wait_for_timeout(300)  # book.js follows MathJax
            found = axe_violations(visit.page)
        finally:
            visit.context.close()
        serious += [
            (rule["id"], width, scheme, [node["html"][:90] for node in rule["nodes"]])
            for rule in found
            if rule["impact"] in ("serious", "critical")
        ]
    assert serious == []


def test_the_heaviest_pages_are_light_enough(chromium, origin: str) -> None:
    """The page with the widgets: what it loads by itself, and what it may load on demand."""
    pages = [path for path in PAGES if "<tinyamp-" in (HTML / path).read_text(encoding="utf-8")]
    assert "book/intro.html" in pages, "the widgets are missing: build the book with make book"
    for path in pages:
        visit = Visit(chromium, origin, path, 1280)
        try:
            visit.page.wait_for_function("() => document.querySelector('.ta-table td')")
            loaded = visit.page.evaluate(
                """() => performance.getEntriesByType("resource")
                  .map(({ name, decodedBodySize }) => [name, decodedBodySize])"""
            )
        finally:
            visit.context.close()
        weight = (HTML / path).stat().st_size + sum(size for _, size in loaded)
        assert weight < 8e6
    on_demand = (HTML / "_static" / "play").iterdir()
    assert sum(file.stat().st_size for file in on_demand) < 6e6


def _links(path: str) -> set[str]:
    text = (HTML / path).read_text(encoding="utf-8")
    return set(re.findall(r"""<(?:a|link|script|img)\b[^>]*?\b(?:href|src)="([^"]+)\"""", text))


@functools.lru_cache
def _anchors(path: Path) -> frozenset[str]:
    return frozenset(re.findall(r'\bid="([^"]+)"', path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", PAGES)
def test_links_between_pages_lead_somewhere(path: str) -> None:
    broken = []
    for link in _links(path):
        address, anchor = urldefrag(urljoin(f"http://book/{path}", link.replace("&amp;", "&")))
        if urlsplit(address).netloc != "book":
            continue
        target = HTML / unquote(urlsplit(address).path).lstrip("/")
        target = target / "index.html" if target.is_dir() else target
        if not target.is_file() or (
            anchor and target.suffix == ".html" and unquote(anchor) not in _anchors(target)
        ):
            broken.append(link)
    assert not broken


def test_every_chapter_was_built() -> None:
    listed = re.findall(r"(?:file|root): *(\S+)", (ROOT / "_toc.yml").read_text(encoding="utf-8"))
    assert listed
    assert [name for name in listed if f"{name}.html" not in PAGES] == []


def test_colab_button_opens_the_chapter() -> None:
    from tinyamp.book import repository

    url, branch = repository()
    colab = url.replace("https://github.com/", "https://colab.research.google.com/github/")
    for path in sorted((ROOT / "book").glob("*.ipynb")):
        page = f"book/{path.stem}.html"
        if page not in PAGES:
            pytest.fail(f"{path.name} is not in the built book: run make book.")
        found = [link for link in _links(page) if link.startswith(colab)]
        assert set(found) == {f"{colab}/blob/{branch}/book/{path.name}"}
