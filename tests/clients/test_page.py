"""The page of `atd.export --formats web` in a real browser, without a network."""

from __future__ import annotations

import csv
import functools
import http.server
import json
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atd.commands import export

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def written(detector, tmp_path_factory, need, program):
    """What the command wrote, with ONNX Runtime from npm."""
    pytest.importorskip("onnxscript", reason="ONNX is optional: requirements-dev.txt")
    npm, tmp_path = program("npm"), tmp_path_factory.mktemp("page")
    shutil.copytree(
        ROOT / "examples" / "web",
        tmp_path / "web",
        ignore=shutil.ignore_patterns("node_modules"),
    )
    install = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(
        install, cwd=tmp_path / "web", capture_output=True, text=True, timeout=300
    )
    need(done.returncode == 0, f"the npm registry: {done.stderr.strip()[-200:]}")
    output = tmp_path / "export"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path / "web")
        export.main([str(detector.folder), "--formats", "web", "--output", str(output)])
    return output / "web"


@pytest.fixture
def page_folder(written, tmp_path):
    """A copy, to do harm to."""
    return shutil.copytree(written, tmp_path / "page")


@pytest.fixture
def address(page_folder):
    """The page, served as any static host serves it."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=page_folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def browser(need, program):
    """Headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs pip's playwright")
    with playwright.sync_playwright() as driver:
        path = program("chromium", "chromium-browser", "google-chrome")
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def visit(browser, address, notes=None):
    """A new tab on the page; `notes` is told what it asks others for, and what goes wrong in it."""
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    note = [].append if notes is None else notes.append
    tab.on("request", lambda request: note(request.url))
    tab.on("pageerror", lambda error: note(f"error: {error}"))
    tab.on("console", lambda line: note(f"{line.type}: {line.text}"))
    tab.set_default_timeout(60_000)
    tab.goto(address)
    return tab


def scores_of(tab, tmp_path):
    """The rows of the page's CSV, once every picture is done."""
    tab.wait_for_selector("#progress.done", state="attached")
    with tab.expect_download() as started:
        tab.click("#save")
    started.value.save_as(tmp_path / "scores.csv")
    with (tmp_path / "scores.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    return [
        {
            "path": row["path"],
            "score": float(row["score"]) if row["score"] else None,
            "is_ood": row["is_ood"] == "true",
            "error": row["error"],
        }
        for row in table
    ]


@pytest.mark.slow
def test_a_visit(browser, address, detector, pictures, tmp_path, same):
    notes = []
    tab = visit(browser, address, notes)
    tab.wait_for_selector("#drop:visible")
    assert tab.text_content("#name") == "detector"
    assert "cat, dog" in tab.text_content(".lead")
    assert tab.is_hidden("#warning")
    assert "verified" in tab.text_content("#about")

    tab.set_input_files("#folder", pictures)
    rows = scores_of(tab, tmp_path)
    expected = [
        {**row, "path": str(Path(row["path"]).relative_to(pictures.parent))}
        for row in detector.rows
    ]
    same(rows, expected, tolerance=1e-5)
    counts = {kind: tab.text_content(f"#tally .{kind} strong") for kind in ("in", "out", "error")}
    flags = [row["is_ood"] for row in expected if not row["error"]]
    assert counts == {
        "in": str(flags.count(False)),
        "out": str(flags.count(True)),
        "error": str(len(expected) - len(flags)),
    }
    assert "notes.txt" in tab.text_content("#others")
    look_closer(tab, expected)
    sort(tab, expected)
    tab.screenshot(path=tmp_path / "desktop.png")
    phone(tab, tmp_path)
    foreign = [note for note in notes if not note.startswith((address, "blob:", "data:"))]
    assert foreign == []


def look_closer(tab, expected):
    """A picture's card opens its explanation, on which the arrow keys go on to the next one."""
    first = next(row for row in expected if row["score"] is not None)
    tab.click(f".card:has-text('{Path(first['path']).name}') button")
    words = tab.text_content("#detail-words")
    assert f"lies {'above' if first['is_ood'] else 'at or below'} the threshold" in words
    assert "accepts half of the pictures of a test" in words
    assert "50 in-distribution pictures it was calibrated with" in words
    assert tab.locator("#detail-strip .pin").count() == 1
    assert tab.locator("#detail-strip .bar").count() > 10
    tab.click("#occlude")
    tab.wait_for_selector("#occlude-words:has-text('64 places were covered')")
    before = tab.text_content("#detail-name")
    tab.keyboard.press("ArrowRight")
    assert tab.text_content("#detail-name") != before
    tab.keyboard.press("Escape")
    assert tab.is_hidden("#detail")
    tab.click(".card.error button >> nth=0")
    assert "never taken for in-distribution" in tab.text_content("#detail-words")
    assert tab.is_hidden("#occlude")
    tab.click("#close")


def sort(tab, expected):
    """Highest score first, after those in doubt."""
    names = [Path(row["path"]).name for row in expected]
    assert tab.locator(".card .name").all_text_contents() == names
    tab.select_option("#order", "score")
    ordered = sorted(expected, key=lambda row: float("-inf") if row["error"] else -row["score"])
    shown = tab.locator(".card .name").all_text_contents()
    assert shown == [Path(row["path"]).name for row in ordered]


def phone(tab, tmp_path):
    """Nothing is wider than a phone."""
    tab.set_viewport_size({"width": 360, "height": 740})
    tab.emulate_media(color_scheme="dark")
    tab.screenshot(path=tmp_path / "phone.png")
    assert tab.evaluate("document.documentElement.scrollWidth") == 360
    assert np.asarray(Image.open(tmp_path / "phone.png").convert("L"))[5, 5] < 60, "not dark"


@pytest.mark.slow
def test_dropped_and_pasted_pictures(browser, address, pictures, tmp_path):
    tab = visit(browser, address)
    tab.wait_for_selector("#drop:visible")
    content = list((pictures / "exact size.png").read_bytes())
    give = """([kind, property, content, name]) => {
      const data = new DataTransfer();
      data.items.add(new File([new Uint8Array(content)], name));
      dispatchEvent(new (kind === "drop" ? DragEvent : ClipboardEvent)(kind, {[property]: data}));
    }"""
    tab.evaluate(give, ["drop", "dataTransfer", content, "=1\n\u202eé\U000e0001.png"])
    tab.wait_for_selector(".card.in, .card.out")
    tab.evaluate(give, ["paste", "clipboardData", content, "paste.png"])
    tab.wait_for_selector(".card >> nth=1")
    rows = scores_of(tab, tmp_path)
    hidden = r"./=1\n\u202eé\U000e0001.png"  # as `atd.score` writes it
    assert [row["path"] for row in rows] == [hidden, "paste.png"]
    assert rows[0]["score"] == rows[1]["score"] is not None
    tab.click("#clear")
    assert tab.is_hidden("#results")


@pytest.mark.slow
def test_a_dropped_folder(browser, address, detector, pictures, tmp_path, same):
    """As the browser itself drops it, with the entries of its file system."""
    tab = visit(browser, address)
    tab.wait_for_selector("#drop:visible")
    here = tab.locator("#drop").bounding_box()
    place = {"x": here["x"] + 20, "y": here["y"] + 20}
    data = {"items": [], "files": [str(pictures)], "dragOperationsMask": 1}
    session = tab.context.new_cdp_session(tab)
    for kind in ("dragEnter", "dragOver"):
        session.send("Input.dispatchDragEvent", {"type": kind, "data": data, **place})
    assert "over" in tab.get_attribute("#drop", "class")
    session.send("Input.dispatchDragEvent", {"type": "drop", "data": data, **place})
    tab.wait_for_selector(".card")
    expected = [
        {**row, "path": str(Path(row["path"]).relative_to(pictures.parent))}
        for row in detector.rows
    ]
    same(scores_of(tab, tmp_path), expected, tolerance=1e-5)
    assert "inner/notes.txt" in tab.text_content("#others")
    tab.screenshot(path=tmp_path / "folder.png")


@pytest.mark.slow
def test_what_a_browser_reads_otherwise_is_refused(browser, address, tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 4), np.uint8)
    pictures = {
        "cmyk.jpg": ("a CMYK picture", Image.fromarray(noise, "CMYK"), {}),
        "deep.png": ("more than 8 bits", Image.fromarray(noise[..., 0].astype(np.uint16)), {}),
        "icon.png": ("of no format", Image.fromarray(noise), {"format": "ICO"}),
        "huge.png": ("too many pixels", Image.new("1", (20_000, 10_000)), {}),
        "turned.webp": (
            "turned by its EXIF",
            Image.fromarray(noise[..., :3]),
            {"exif": turned, "lossless": True},
        ),
    }
    for name, (_, image, options) in pictures.items():
        image.save(tmp_path / name, **options)
    tab = visit(browser, address)
    tab.wait_for_selector("#drop:visible")
    tab.set_input_files("#pictures", [tmp_path / name for name in pictures])
    for row in scores_of(tab, tmp_path):
        assert pictures[row["path"]][0] in row["error"]
        assert row["is_ood"]
        assert row["score"] is None


@pytest.mark.slow
def test_a_detector_that_is_not_the_exported_one_is_not_used(browser, address, page_folder):
    manifest = json.loads((page_folder / "manifest.json").read_text())
    manifest["check"]["scores"][0] += 1
    (page_folder / "manifest.json").write_text(json.dumps(manifest))
    tab = visit(browser, address)
    tab.wait_for_selector("#status.warn")
    assert "other scores than the detector's" in tab.text_content("#status")
    assert tab.is_hidden("#drop")
    with (page_folder / "detector.onnx").open("ab") as file:
        file.write(b"\0")
    tab = visit(browser, address)
    tab.wait_for_selector("#status.warn")
    assert "not the file that manifest.json describes" in tab.text_content("#status")
