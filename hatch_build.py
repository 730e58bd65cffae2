"""Metadata of the package that depends on the address of the repository: URLs, and links of the README.

The address is that of git's remote `origin`, or in a source distribution the one it was built with. Without
an address, as in a repository without a remote, there are no URLs and the links stay relative.
"""

from __future__ import annotations

import email
import re
import subprocess
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface

_REMOTE = re.compile(
    r"(?:(?:https?|ssh)://(?:[^@/]+@)?|[\w.-]+@)(?P<host>[\w.-]+)(?::\d+(?=/))?[:/]/?(?P<path>.+?)(?:\.git)?/?"
)
_LINK = re.compile(r"(?<=\]\()(?!\w+:)(?P<file>[^)#\s]*)(?P<heading>#[^)\s]*)?(?=\))")


def web_address(remote: str) -> str | None:
    """Return the page of a repository from the address of a remote; ``None`` for a folder."""
    found = _REMOTE.fullmatch(remote.strip())
    return found and f"https://{found['host']}/{found['path']}"


def repository_address(root: Path) -> str | None:
    """Return the page of the repository to which a folder belongs."""
    information = root / "PKG-INFO"
    if information.is_file():
        urls = email.message_from_string(information.read_text(encoding="utf-8")).get_all("Project-URL", [])
        return dict(url.split(", ", 1) for url in urls).get("Repository")
    if not (root / ".git").exists():  # a copy inside another repository does not belong to that one
        return None
    command = ["git", "remote", "get-url", "origin"]
    try:
        found = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None
    return web_address(found)


def absolute_links(text: str, address: str) -> str:
    """Let links lead to the repository: a package index has no other files, and no anchors of headings."""

    def absolute(link: re.Match[str]) -> str:
        page = f"{address}/blob/HEAD/{link['file']}" if link["file"] else address
        return page + (link["heading"] or "")

    return _LINK.sub(absolute, text)


class RepositoryMetadata(MetadataHookInterface):
    """The hook of hatchling."""

    def update(self, metadata: dict[str, object]) -> None:
        """Set the readme and the URLs of a project."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        address = repository_address(Path(self.root))
        metadata["urls"] = {}
        if address is not None:
            text = absolute_links(text, address)
            metadata["urls"] = {
                "Repository": address,
                "Documentation": f"{address}/tree/HEAD/docs",
                "Changelog": f"{address}/blob/HEAD/CHANGELOG.md",
                "Issues": f"{address}/issues",
            }
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
