"""The pages in a real browser: their own policy lets all of them through, light and dark, at any width."""

import sys

import pytest
from browser import CHROMIUM, Browser

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
