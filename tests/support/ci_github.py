"""A local server that speaks as much of GitHub's API as the `comment` command needs."""

import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from ci_repositories import SECRET

BOT = "github-actions[bot]"


class GitHub:
    """One repository, its runs, pull requests and comments, as the API shows them."""

    def __init__(self):
        self.address = ""
        self.runs, self.pulls, self.comments, self.asked = {}, [], [], []
        self.refuse = {}
        """Status by method."""
        self.moved_to = None
        self.before = lambda method, path: None
        """Called as a request arrives: another run may do something first."""
        self._next = 100

    def run(self, run_id, sha, branch="feature", owner="owner", **fields):
        """Let a run have ended."""
        known = {
            "id": run_id, "run_attempt": 1, "event": "pull_request", "conclusion": "success", "head_sha": sha,
            "head_branch": branch, "html_url": f"https://git.example/runs/{run_id}", "pull_requests": [],
            "head_repository": {"full_name": f"{owner}/name", "owner": {"login": owner}, "private": False},
            "name": "Inference",
        }  # fmt: skip
        self.runs[run_id] = {**known, **fields}

    def pull(self, number, sha, branch="feature", owner="owner"):
        """Open a pull request, or push to it."""
        self.pulls = [pull for pull in self.pulls if pull["number"] != number]
        self.pulls.append(
            {"number": number, "state": "open", "head": {"sha": sha, "label": f"{owner}:{branch}"}}
        )

    def comment(self, body, login=BOT):
        """Somebody comments."""
        self._next += 1
        self.comments.append({"id": self._next, "body": body, "user": {"login": login, "type": "Bot"}})
        return self._next

    def bodies(self, login=BOT):
        """What one user wrote there."""
        return [comment["body"] for comment in self.comments if comment["user"]["login"] == login]

    def answer(self, method, target, body, token):
        """Status and content of an answer."""
        parts = urlsplit(target)
        path, query = parts.path.removeprefix("/repos/owner/name"), parse_qs(parts.query)
        self.asked.append(f"{method} {path}")
        self.before(method, path)
        if self.moved_to is not None:
            return 307, None
        if token != f"Bearer {SECRET}":
            return 401, {"message": "Bad credentials"}
        if method in self.refuse:
            return self.refuse[method], {"message": "Resource not accessible by integration"}
        return self._done(method, path, query, body)

    def _done(self, method, path, query, body):
        if found := re.fullmatch(r"/actions/runs/(\d+)", path):
            run = self.runs.get(int(found[1]))
            return (200, run) if run else (404, {"message": "Not Found"})
        if path == "/pulls":
            assert query["state"] == ["open"]
            return 200, [pull for pull in self.pulls if pull["head"]["label"] == query["head"][0]]
        if path == "/issues/7/comments":
            if method == "POST":
                self.comment(body["body"])
                return 201, {}
            size, page = int(query["per_page"][0]), int(query["page"][0])
            return 200, self.comments[(page - 1) * size : page * size]
        found = re.fullmatch(r"/issues/comments/(\d+)", path)
        (comment,) = [comment for comment in self.comments if comment["id"] == int(found[1])]
        if method == "DELETE":
            self.comments.remove(comment)
            return 204, None
        comment["body"] = body["body"]
        return 200, {}


@contextmanager
def served():
    """The API at a local address."""
    hub = GitHub()

    class Handler(BaseHTTPRequestHandler):
        def reply(self):
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, content = hub.answer(self.command, self.path, body, self.headers.get("Authorization"))
            data = b"" if content is None else json.dumps(content).encode()
            self.send_response(status)
            if hub.moved_to is not None:
                self.send_header("Location", hub.moved_to + self.path)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_DELETE = reply  # noqa: N815 - names of http.server

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
