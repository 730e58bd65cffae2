"""The pages in a real browser: their own policy lets all of them through, light and dark, at any width."""

import sys

import pytest
from browser import CHROMIUM, Browser
from sessions import SMALL, advised, answer

from pytest_infergate.report import html

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None or sys.platform == "win32", reason="no chromium on this machine"),
]


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def files(pages, tmp_path_factory):
    """The pages as files by name."""
    folder = tmp_path_factory.mktemp("pages")
    paths = {name: folder / f"{name.replace(' ', '-')}.html" for name in pages}
    for name, path in paths.items():
        path.write_text(pages[name].markup, encoding="utf-8")
    return paths


def test_a_page_that_breaks_its_policy_is_seen(browser, files, tmp_path):
    """Otherwise the tests below would see nothing."""
    page = tmp_path / "evil.html"
    text = files["empty"].read_text(encoding="utf-8")
    page.write_text(text.replace("</main>", "<p style='color:red'></p><script>1</script></main>"), "utf-8")
    browser.open(page)
    assert len(browser.complaints) == 2
    page.write_text(text.replace("</main>", "</main><pre>" + "x" * 2000 + "</pre>"), "utf-8")
    browser.open(page)
    browser.resize(320)
    assert browser.evaluate("document.documentElement.scrollWidth") > 320


def test_the_policy_of_a_page_lets_its_own_style_through_and_nothing_else_is_asked_for(browser, files):
    for name, path in files.items():
        browser.open(path)
        assert browser.complaints == [], name
        assert browser.evaluate("document.styleSheets[0].cssRules.length") > 50, name


def test_light_and_dark_differ(browser, files):
    browser.open(files["regressed"])
    grounds = []
    for scheme in ("light", "dark"):
        browser.scheme(scheme)
        grounds.append(browser.evaluate("getComputedStyle(document.body).backgroundColor"))
    light, dark = (sum(map(int, ground.strip("rgb()").split(","))) for ground in grounds)
    assert light > 600
    assert dark < 200


def test_no_page_is_wider_than_its_screen(browser, files):
    """With all that is folded unfolded."""
    for name, path in files.items():
        browser.open(path)
        browser.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        for width in (320, 390, 920, 1280):
            browser.resize(width)
            assert browser.evaluate("innerWidth") == width
            assert browser.evaluate("document.documentElement.scrollWidth") == width, (name, width)


def test_tables_of_advice_are_read_on_a_phone_without_scrolling(browser, files):
    browser.open(files["everything"])
    browser.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    tables = "[...document.querySelectorAll('.scroll:has(.stack)')]"
    for width in (320, 390, 1280):
        browser.resize(width)
        assert browser.evaluate(f"{tables}.length") >= 3
        wide = browser.evaluate(f"{tables}.filter(one => one.scrollWidth > one.clientWidth).length")
        assert wide == 0, width


def test_the_answers_of_a_run_that_passes_are_on_the_first_screen(browser, sample, tmp_path):
    path = tmp_path / "advised.html"
    answers = (answer(), SMALL, answer(model="tests/test_c.py::test_third"))
    path.write_text(html.render_html(advised(sample.many(9), *answers)), encoding="utf-8")
    browser.open(path)
    browser.resize(1280)
    assert browser.evaluate("document.querySelectorAll('.sum tbody tr').length") == 4
    # The height of the window is 800.
    assert browser.evaluate("document.querySelector('.sum tbody').getBoundingClientRect().bottom") < 800
