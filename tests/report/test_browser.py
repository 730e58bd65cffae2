"""The page in a real browser: its own policy lets all of it through, light and dark, and nothing runs."""

import re
import shutil
import subprocess
from html import escape

import pytest
from test_accessible import everything

from pytest_infergate.report import html

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine"),
]
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr",
)  # fmt: skip


def browse(page, tmp_path, *options):
    command = [CHROMIUM, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", *options, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.fixture
def page(sample, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(html.render_html(sample.many(5)), encoding="utf-8")
    return path


def test_the_policy_of_the_page_lets_its_own_style_through(page, tmp_path):
    done = browse(page, tmp_path, "--dump-dom")
    assert "</html>" in done.stdout
    assert "Content Security Policy" not in done.stderr
    assert "CONSOLE" not in done.stderr


def test_light_and_dark_differ(page, tmp_path):
    shots = []
    for name, scheme in (("light", 1), ("dark", 0)):
        shot = tmp_path / f"{name}.png"
        browse(page, tmp_path, f"--blink-settings=preferredColorScheme={scheme}", f"--screenshot={shot}")
        shots.append(shot.read_bytes())
    assert shots[0] != shots[1]


WIDTHS = """
<!DOCTYPE html><meta charset="utf-8"><pre id="told"></pre>
<script>
addEventListener("load", () => {
  const told = [...document.querySelectorAll("iframe")].map(frame => {
    const page = frame.contentDocument;
    page.querySelectorAll("details").forEach(one => { one.open = true; });
    return frame.width + ":" + page.documentElement.scrollWidth;
  });
  document.getElementById("told").textContent = told.join(" ");
});
</script>
"""
"""Writes into itself how wide each page in it is, with all that is folded unfolded."""


def test_no_page_is_wider_than_its_screen(sample, tmp_path):
    pages = (everything(sample), html.render_html(sample.hostile_session()))
    widths = (320, 390, 920, 1280)
    frames = (
        f'<iframe width="{width}" height="800" frameborder="0" srcdoc="{escape(page)}"></iframe>'
        for page in pages
        for width in widths
    )
    outer = tmp_path / "widths.html"
    outer.write_text(WIDTHS + "\n".join(frames), encoding="utf-8")
    done = browse(outer, tmp_path, "--dump-dom")
    told = re.search(r'<pre id="told">(.*?)</pre>', done.stdout)[1]
    assert told == " ".join(f"{width}:{width}" for _ in pages for width in widths)
