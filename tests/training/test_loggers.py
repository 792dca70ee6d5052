"""Who else is told of a run: loggers, plugins, TensorBoard."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from training_runs import recipe, trainer

from toolkit.errors import MissingError
from toolkit.options import to_mapping
from toolkit.training.log import TrainingLog, read_log
from toolkit.training.loop import Trainer
from toolkit.training.recipe import Recipe
from toolkit.training.tensorboard import TensorBoard

Run = Callable[..., tuple[int, str, str]]
PLUGIN = """
import json
from toolkit import hookimpl

@hookimpl
def toolkit_training_record(folder, record):
    with open(folder / "mine.jsonl", "a") as file:
        file.write(json.dumps(record) + "\\n")
    record.clear()  # a copy: nobody else's changes
    {last}
"""


@pytest.fixture(autouse=True)
def _every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrainingLog, "every", 0.0)


def logged(plan: Recipe, out: Path, *loggers: Callable[..., None]) -> Trainer:
    """As ``trainer``, with loggers."""
    made = trainer(plan, out)
    return Trainer(made.parts["model"], plan, out, loggers=loggers)


def test_a_logger_is_told_what_is_written(photos: Path, tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    logged(recipe(photos), tmp_path, lambda record: told.append(dict(record))).run()
    assert told == read_log(tmp_path / "log.jsonl")
    assert [record["kind"] for record in told].count("step") == 12
    assert told[-1]["kind"] == "validation"


@pytest.mark.parametrize("fault", [False, True])
def test_plugins_are_told(photos: Path, tmp_path: Path, toolkit_main: Run, fault: bool) -> None:
    out, plugin, path = tmp_path / "run", tmp_path / "mine.py", tmp_path / "recipe.yaml"
    plugin.write_text(PLUGIN.format(last="raise OSError('full')" if fault else ""))
    path.write_text(json.dumps(to_mapping(recipe(photos))))
    status, _, errors = toolkit_main("train", path, "--out", out, "--plugin", plugin)
    assert status == 0
    told = [json.loads(line) for line in (out / "mine.jsonl").read_text().splitlines()]
    written = read_log(out / "log.jsonl")
    assert told == (written[:1] if fault else written)
    assert errors.count("toolkit_training_record raised OSError: full; left out") == fault


def test_the_tracker_of_the_page(photos: Path, tmp_path: Path, toolkit_main: Run) -> None:
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    (block,) = re.findall(r"```python\n(# tracker.py.*?)```", page, re.DOTALL)
    (tmp_path / "tracker.py").write_text(block)
    (tmp_path / "recipe.yaml").write_text(json.dumps(to_mapping(recipe(photos))))
    given = ("--out", tmp_path / "run", "--plugin", tmp_path / "tracker.py")
    status, told, _ = toolkit_main("train", tmp_path / "recipe.yaml", *given)
    assert status == 0
    assert re.search(r"^run 12 \d\.\d{3}/\d+\.\d\d ", told, re.MULTILINE)


def test_tensorboard_shows_the_log(photos: Path, tmp_path: Path) -> None:
    """A run that was killed after steps beyond its checkpoint, and went on."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    plan = recipe(photos)
    first = logged(plan, tmp_path, TensorBoard(tmp_path))
    for step in range(7):
        first.train_step()
        if step == 3:
            first.save()
    logged(plan, tmp_path, TensorBoard(tmp_path)).run()
    records = read_log(tmp_path / "log.jsonl")
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    for name in ("loss", "bpp", "psnr", "gradient_norm"):
        found = [(event.step, event.value) for event in events.Scalars(f"training/{name}")]
        wanted = [(r["step"], r[name]) for r in records if r["kind"] == "step"]
        assert found == [(step, pytest.approx(value, rel=1e-6)) for step, value in wanted]
    (*_, validation) = (r for r in records if r["kind"] == "validation")
    for row in validation["rows"]:
        last = events.Scalars(f"held out, rate {row['rate']:.2f}/psnr")[-1]
        assert (last.step, last.value) == (12, pytest.approx(row["psnr"], rel=1e-6))


def test_tensorboard_on_the_command_line(
    photos: Path, tmp_path: Path, toolkit_main: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = tmp_path / "recipe.yaml", tmp_path / "run"
    path.write_text(json.dumps(to_mapping(recipe(photos))))
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "torch.utils.tensorboard.writer", None)
        status, _, errors = toolkit_main("train", path, "--out", out, "--tensorboard")
        assert status == 4
        assert "[tensorboard]" in errors
        with pytest.raises(MissingError):
            TensorBoard(out)
    pytest.importorskip("tensorboard")
    assert toolkit_main("train", path, "--out", out, "--tensorboard")[0] == 0
    assert list((out / "tensorboard").glob("events.*"))
