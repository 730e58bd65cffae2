"""What the built distributions say and hold."""

import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(not (ROOT / "hatch_build.py").exists(), reason="the build files are not here")
HOME = "https://host.example/owner/infergate"


@pytest.fixture
def build(monkeypatch):
    pytest.importorskip("hatchling")
    monkeypatch.syspath_prepend(ROOT)
    import hatch_build

    return hatch_build


def relative_links(text):
    return [link for link in re.findall(r"\]\(([^)\s]*)\)", text) if not re.match(r"\w+:", link)]


@pytest.mark.parametrize(
    ("remote", "page"),
    [
        (f"{HOME}.git\n", HOME),
        (HOME, HOME),
        ("https://me:secret@host.example/owner/infergate", HOME),
        ("git@host.example:owner/infergate.git", HOME),
        ("ssh://git@host.example:22/owner/infergate.git", HOME),
        ("https://host.example/group/sub/infergate/", "https://host.example/group/sub/infergate"),
        ("/home/me/infergate", None),
        ("../infergate", None),
        ("file:///home/me/infergate.git", None),
    ],
)
def test_the_page_of_a_remote(build, remote, page):
    assert build.web_address(remote) == page


def test_links_of_the_readme_lead_to_files_of_the_repository(build):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = build.absolute_links(text, HOME)
    before = relative_links(text)
    assert len(before) > 10
    assert relative_links(found) == []
    assert found.count(HOME) == len(before)
    for link in before:
        place, _, _ = link.partition("#")
        assert (ROOT / place).exists(), link
        target = f"{HOME}/blob/HEAD/{link}" if place else f"{HOME}{link}"
        assert f"]({target})" in found
    # Nothing else has changed.
    assert found.replace(f"{HOME}/blob/HEAD/", "").replace(HOME, "") == text


def test_a_source_distribution_holds_what_the_readme_links():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    included = settings["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    for link in relative_links((ROOT / "README.md").read_text(encoding="utf-8")):
        place = f"/{link.partition('#')[0]}"
        assert place == "/" or any(place == name or fnmatch(place, f"{name}/*") for name in included), link
    assert [name for name in included if not (ROOT / name[1:]).exists()] == []


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_address_is_that_of_origin_or_of_the_source_distribution(build, tmp_path):
    def git(*arguments):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init", "--quiet")
    (tmp_path / "README.md").write_text("[a](docs/a.md#b)")
    assert build.repository_address(tmp_path) is None
    hook = build.RepositoryMetadata(str(tmp_path), {})
    hook.update(plain := {})
    assert plain == {"urls": {}, "readme": {"content-type": "text/markdown", "text": "[a](docs/a.md#b)"}}
    git("remote", "add", "origin", f"{HOME}.git")
    (tmp_path / "copy").mkdir()
    assert build.repository_address(tmp_path / "copy") is None
    hook.update(found := {})
    assert found["urls"]["Repository"] == HOME
    assert found["readme"]["text"] == f"[a]({HOME}/blob/HEAD/docs/a.md#b)"
    # As hatchling writes it.
    urls = "".join(f"Project-URL: {name}, {url}\n" for name, url in found["urls"].items())
    (tmp_path / "copy" / "PKG-INFO").write_text(f"Metadata-Version: 2.4\n{urls}\n{HOME}/other\n")
    assert build.repository_address(tmp_path / "copy") == HOME
