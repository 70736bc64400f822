"""The picture of docs/web-page.md: two small runs on generated data with planted titles, side by side in a browser.

    python -m scripts.page_screenshot docs/web-page.png

It needs Chromium with its driver (`apt-get install chromium chromium-driver`), and selenium of the development extras.
"""

import argparse
import contextlib
import io
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.validate import validate

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
GENRES = ("comedy", "crime", "drama", "fantasy", "history", "music", "mystery", "nature", "romance", "western")
FIRST = ("Quiet", "Last", "Crimson", "Hidden", "Paper", "Northern", "Silver", "Broken", "Long", "Hollow")
SECOND = ("Harbour", "Letters", "Winter", "Orchard", "Witness", "Frontier", "Sonata", "Garden", "Crown", "Rivière")
ENTER = "\ue007"
WAIT_S = 120.0
COLOURS = 128  # of the picture, which keeps it small


@contextlib.contextmanager
def chromium(width: int, height: int) -> Iterator[Any]:
    """A headless one (selenium's driver). Raises SeqrecError where something of it is missing."""
    program, driver = next(filter(None, map(shutil.which, BROWSERS)), None), shutil.which("chromedriver")
    try:
        from selenium import webdriver
    except ImportError:
        raise SeqrecError("selenium is not installed: pip install -e '.[dev]'") from None
    if program is None or driver is None:
        raise SeqrecError("chromium or chromedriver is missing: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", f"window-size={width},{height}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield found
    finally:
        found.quit()


def planted(folder: Path, users: int) -> list[str]:
    """Writes a generated log with a title and a genre for each of its 100 items; the settings that read it."""
    from seqrec_cli.data.sources.synthetic import Config, read

    sizes = [f"dataset.users={users}", "dataset.items=100", f"dataset.categories={len(GENRES)}"]
    cfg = validate("train", compose("train", ["dataset=synthetic", *sizes])).dataset  # type: ignore[attr-defined]
    assert isinstance(cfg, Config)
    raw = read(cfg, None)
    assert raw.times_N is not None
    events = zip(raw.users_N.tolist(), raw.items_N.tolist(), raw.times_N.tolist(), strict=True)
    lines = ["user,item,time", *(f"{user},{item},{when}" for user, item, when in events)]
    (folder / "log.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    categories = raw.item_attributes["category"]
    films = ["item,title,genre"]
    for item, (category,) in zip(categories.ids.tolist(), categories.values, strict=True):
        genre = GENRES[int(category.rpartition("-")[2])]
        films.append(f"{item},{FIRST[(item - 1) // 10]} {SECOND[(item - 1) % 10]},{genre}")
    (folder / "films.csv").write_text("\n".join(films) + "\n", encoding="utf-8")
    return [
        "dataset=csv",
        f"dataset.archive={folder / 'log.csv'}",
        f"dataset.item_file={folder / 'films.csv'}",
        "dataset.title_column=title",
        "dataset.item_attribute_columns=[genre]",
        f"data_dir={folder / 'data'}",
    ]


@contextlib.contextmanager
def served(folder: Path, *overrides: str) -> Iterator[str]:
    """The address of `seqrec serve` with these settings."""
    command = [sys.executable, "-m", "seqrec_cli", "serve", "port=0", *overrides]
    with (folder / "served.txt").open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
    try:
        limit = time.monotonic() + WAIT_S
        while not (found := re.search(r"(http://\S+)/recommend", (folder / "served.txt").read_text())):
            if process.poll() is not None or time.monotonic() > limit:
                raise SeqrecError(f"serve did not start: {(folder / 'served.txt').read_text()}")
            time.sleep(0.1)
        yield found[1]
    finally:
        process.terminate()
        process.wait()


def photograph(address: str, width: int, height: int) -> bytes:
    """A PNG of the page with a short history, one item's reasons shown, and what `silver s` finds."""
    with chromium(width, height) as driver:

        def until(holds: Callable[[], Any]) -> Any:
            limit = time.monotonic() + WAIT_S
            while not (found := holds()):
                if time.monotonic() > limit:
                    raise SeqrecError("the page did not show what was asked for")
                time.sleep(0.05)
            return found

        def count(selector: str) -> int:
            return int(driver.execute_script("return document.querySelectorAll(arguments[0]).length", selector))

        def reasons() -> bool:
            return count(".run li") > 0 and count(".run li") == count(".run .because:not(:empty)")

        driver.get(f"{address}/")
        typed = driver.find_element("id", "typed")
        for events, words in enumerate(("quiet har", "paper win", "rivière", "silver cr"), 1):
            until(typed.is_enabled)
            typed.send_keys(words)
            until(lambda: count("#found li:not([hidden])") and typed.get_attribute("aria-expanded") == "true")
            typed.send_keys(ENTER)
            until(lambda events=events: count("#history li") == events)
        time.sleep(0.5)  # past the page's own wait, so that the reasons are those of the whole history
        until(reasons)
        driver.find_element("css selector", ".why").click()
        typed.send_keys("silver s")
        until(lambda: typed.get_attribute("aria-expanded") == "true")
        picture: bytes = driver.get_screenshot_as_png()
        return picture


def smaller(picture: bytes) -> bytes:
    """The PNG with a palette."""
    from PIL import Image

    with Image.open(io.BytesIO(picture)) as image:
        written = io.BytesIO()
        image.convert("RGB").quantize(COLOURS).save(written, "PNG", optimize=True)
    return written.getvalue()


def main(arguments: list[str]) -> int:
    import seqrec_cli

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the PNG to write")
    parser.add_argument("--users", type=int, default=2000, help="of the generated log (default: 2000)")
    parser.add_argument("--epochs", type=int, default=5, help="of the encoder's training (default: 5)")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = [*planted(folder, asked.users), "evaluation.baselines=false"]
        small = ["model.embed_dim=32", "model.max_length=30", f"trainer.max_epochs={asked.epochs}"]
        seqrec_cli.run("train", [*log, "model=sasrec", *small, f"run_dir={folder / 'sasrec'}"])
        seqrec_cli.run("train", [*log, "model=itemknn", f"run_dir={folder / 'itemknn'}"])
        with served(folder, f"ckpt={folder / 'sasrec'}", f"beside={folder / 'itemknn'}", "top=6") as address:
            asked.out.write_bytes(smaller(photograph(address, 1200, 1000)))
    print(f"{asked.out}: {asked.out.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
