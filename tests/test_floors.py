"""The floors of the house: a room imports from its own floor and below, and never in a circle."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]

FLOORS: list[set[str]] = [
    {"compiled", "config", "drift", "errors", "exchange", "files", "folder_lock", "inference"}
    | {"metrics", "order_statistics", "own_code", "regular_files", "provenance", "records"}
    | {"launcher", "threads"},
    {"attacks", "data"},
    {"backbones", "detectors"},
    {"evaluation", "reporting", "training"},
    {"api", "artefacts", "assessment", "clock", "deciding", "experiments", "outlook", "pipeline"}
    | {"planning", "rehearsal", "run_folder", "run_options", "run_state", "scoring"},
    {"calibrate", "commands", "export", "reproduce", "score"},
]
BESIDE = {("detectors", "backbones"), ("reporting", "evaluation")}
"""Rooms of one floor of which the first may import from the second, below floor 4."""


def imports_of(folder: Path) -> dict[str, set[str]]:
    """Modules of `atd`, and what they import of it: within functions and for types too."""
    files = {module_of(file, folder): file for file in sorted(folder.rglob("*.py"))}
    return {name: imported(file, set(files)) - {name} for name, file in files.items()}


def module_of(file: Path, folder: Path) -> str:
    parts = file.relative_to(folder.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def imported(file: Path, known: set[str]) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("atd"):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else node.module for name in names}
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & known
    return found


def room_of(module: str) -> str:
    """`atd.data.images` is in `data`; `atd` itself holds the version and opens `api` on demand."""
    return module.split(".")[1] if "." in module else ""


def rooms(imports: dict[str, set[str]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for module, others in imports.items():
        found.setdefault(room_of(module), set()).update(map(room_of, others))
    return {room: others - {room, ""} for room, others in found.items() if room}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Members of a circle, in order; empty where there is none."""
    done: set[str] = set()

    def walk(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        for other in sorted(graph.get(node, set())):
            if found := walk(other, [*path, node]):
                return found
        done.add(node)
        return []

    return next((found for node in sorted(graph) if (found := walk(node, []))), [])


def violations(graph: dict[str, set[str]]) -> list[str]:
    floor = {room: number for number, group in enumerate(FLOORS) for room in group}
    return [
        f"{room} imports {other}"
        for room, others in sorted(graph.items())
        for other in sorted(others)
        if floor[other] > floor[room]
        or (0 < floor[other] < 4 and floor[other] == floor[room] and (room, other) not in BESIDE)
    ]


def test_every_room_has_a_floor():
    assert set(rooms(imports_of(ROOT / "atd"))) == set().union(*FLOORS)


def test_a_room_imports_only_from_below():
    assert violations(rooms(imports_of(ROOT / "atd"))) == []


def test_no_rooms_import_in_a_circle():
    assert circle(rooms(imports_of(ROOT / "atd"))) == []


def test_attacks_know_no_detectors_and_training_knows_no_reports():
    graph = rooms(imports_of(ROOT / "atd"))
    assert not graph["attacks"] & {"detectors", "backbones", "data"}
    assert "reporting" not in graph["training"] | graph["evaluation"]
    assert not graph["reporting"] & {"training", "backbones"}


def test_a_violation_and_a_circle_are_found(tmp_path):
    package = tmp_path / "atd"
    (package / "data").mkdir(parents=True)
    (package / "data" / "images.py").write_text("def f():\n    from atd.training.loop import go\n")
    (package / "training").mkdir()
    (package / "training" / "loop.py").write_text("import atd.data.images\n")
    graph = rooms(imports_of(package))
    assert violations(graph) == ["data imports training"]
    assert circle(graph) == ["data", "training", "data"]
