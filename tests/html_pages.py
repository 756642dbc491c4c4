"""Reads the HTML pages that the program writes, as text and in a browser."""

import json
import shutil
import subprocess
from html.parser import HTMLParser

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "chromium-headless-shell")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
VOID = {"meta", "img", "br", "wbr", "link", "input", "hr"}


class Reader(HTMLParser):
    """Text, tags and attributes; fails where tags are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.texts, self.tags = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join("".join(self.texts).split())


def opened(page, folder):
    """The page's DOM, what the browser says, and what the page asks others for (the browser's own requests aside)."""
    log = folder / "requests.json"
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"]
    command = [
        *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", *quiet),
        *(f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}", "--enable-logging=stderr"),
        *("--window-size=1280,1000", "--dump-dom", page.as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    requests = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    asked = [one["url"] for one in requests if one.get("initiator", "not an origin") != "not an origin"]
    return done.stdout, done.stderr, asked
