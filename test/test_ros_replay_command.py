"""`ivlm replay` as a user types it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from ivlm_core.cli import main
from ivlm_core.datasets import read_contacts
from ivlm_ros.replay.command import main as replay

_spec = importlib.util.spec_from_file_location("replay_bags", Path(__file__).with_name("test_ros_replay_offline.py"))
assert _spec is not None
assert _spec.loader is not None
bags: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(bags)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from ivlm_core.datasets.synthetic import write_demo_bag

    path = tmp_path_factory.mktemp("recording") / "walk"
    write_demo_bag(path, frames=2, seed=3)
    return path


@pytest.fixture(scope="module")
def report(recording: Path) -> dict[str, Any]:
    """The report of the whole recording, written to the default folder beside it."""
    assert main(["replay", str(recording)]) == 0
    facts: dict[str, Any] = json.loads((recording.with_name("walk-replay") / "report.json").read_text())
    return facts


def test_results_lie_beside_the_bag(recording: Path, report: dict[str, Any]) -> None:
    out = recording.with_name("walk-replay")
    assert sorted(path.name for path in out.iterdir()) == ["bag", "report.html", "report.json"]
    assert report["frames"] == {"in": 11, "out": 11, "dropped": {}}
    assert report["bag"]["storage"] == "mcap"
    assert {entry["topic"] for entry in report["output"]["topics"]} >= {"/ivlm_contact/human_contacts", "/detections"}
    assert report["model"]["name"] == "tiny"
    assert len(report["model"]["weights_hash"]) == 16
    stages = report["latency"]
    assert {"convert", "reason", "localize", "lift", "write", "total"} <= set(stages)
    assert all(0 <= stage["p50_ms"] <= stage["p95_ms"] <= stage["max_ms"] for stage in stages.values())


def test_scores_are_those_of_the_messages_in_the_new_bag(recording: Path, report: dict[str, Any]) -> None:
    from ivlm_core.bodies import load_body
    from ivlm_core.evaluate import body_surface, score_replay
    from ivlm_core.evaluate.scoring import Scorer

    bag = recording.with_name("walk-replay") / "bag"
    body = load_body("anny")
    expected = score_replay(
        read_contacts(recording, "/ground_truth"),
        read_contacts(bag, "/ivlm_contact"),
        Scorer(body, body_surface(body.name)),
    ).summary()
    scores = report["ground_truth"]
    assert scores["semantic"]["f1"] == pytest.approx(expected["semantic"]["f1"])
    assert scores["object"]["auc"] == pytest.approx(expected["object"]["auc"])
    assert scores["known"] == expected["known"] == 12
    assert set(scores["semantic"]["per_category"]) <= {"bottle", "handbag", "laptop", "chair", "bicycle", "backpack"}


def test_json_is_one_object_and_nothing_else(recording: Path, tmp_path: Path, capfd: Any) -> None:
    arguments = ["replay", str(recording), "--out", str(tmp_path), "--frames", "1", "--label", "bottle", "--json"]
    assert main([*arguments, "--storage", "sqlite3", "--no-html", "--ground-truth", "/elsewhere"]) == 0
    printed = capfd.readouterr()
    facts = json.loads(printed.out)
    assert facts["settings"]["labels"] == ["bottle"]
    assert facts["ground_truth"] is None
    assert printed.err == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bag", "report.json"]
    assert (tmp_path / "bag" / "bag.db3").is_file()


def test_bag_in_which_nothing_fits_together_is_status_1(tmp_path: Path, capsys: Any) -> None:
    messages = [item for item in bags.usual(2) if item[1] != "/detections"]
    messages.append((9, "/detections", "ivlm_ros/msg/DetectedObjectArray", bags.detections(99)))
    bag = bags.record(tmp_path / "bag", messages)
    assert main(["replay", str(bag), "--no-html"]) == 1
    assert "2 in, 0 answered, dropped: 2 no_detections" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--rate", "5"], "--rate: is for --online"),
        (["--online", "--model", "tiny"], "--model: has no effect on a node that is running"),
        (["--online", "--rate", "0"], "--rate: is 0"),
        (["--threshold", "2"], "--threshold: is 2"),
        (["--frames", "0"], "--frames: is 0"),
        (["--start", "-1"], "--start: is -1"),
        (["--duration", "nan"], "--duration: is nan"),
        (["--sync-slop", "5"], "--sync-slop: is 5"),
        (["--label", "<image>"], "--label"),
        (["--ground-truth", "truth"], "--ground-truth"),
        (["--image-topic", "/nothing"], "--image-topic"),
        (["--out", "{bag}"], "--out"),
        (["--out", "{bag}/within"], "--out"),
    ],
)
def test_wrong_options_are_one_line(options: list[str], told: str, tmp_path: Path, capsys: Any) -> None:
    bag = bags.record(tmp_path / "bag", bags.usual(1))
    given = [option.format(bag=bag) for option in options]
    assert main(["replay", str(bag), *given]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("ivlm: ")
    assert told in error
    assert not (tmp_path / "bag-replay").exists()


@pytest.mark.parametrize("way", [[], ["--online"]])
def test_missing_bag_is_one_line(tmp_path: Path, capsys: Any, way: list[str]) -> None:
    assert replay([str(tmp_path / "none"), *way]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ivlm: bag: ")
    assert "does not exist" in line


@pytest.mark.parametrize(
    ("start", "lasts"), [("100", "is 100 s, but the recording lasts 0.45 s"), ("0.5", "lasts 0.45 s")]
)
def test_start_behind_the_end_is_one_line(tmp_path: Path, capsys: Any, start: str, lasts: str) -> None:
    bag = bags.record(tmp_path / "bag", bags.usual(5))
    assert main(["replay", str(bag), "--start", start]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ivlm: --start: ")
    assert lasts in line
    assert not (tmp_path / "bag-replay" / "bag").exists()


def test_terminal_tells_that_the_model_is_loaded(tmp_path: Path, capsys: Any) -> None:
    bag = bags.record(tmp_path / "bag", bags.usual(5))
    out = tmp_path / "bag-replay"
    assert main(["replay", str(bag), "--start", "0.4", "--no-html"]) == 0
    output = capsys.readouterr()
    assert output.err.splitlines()[:2] == [f"{bag} → {out}", "loading the model"]
    assert "1 in, 1 answered" in output.out


def test_stale_page_does_not_stay(tmp_path: Path) -> None:
    bag = bags.record(tmp_path / "bag", bags.usual(1))
    out = tmp_path / "bag-replay"
    out.mkdir()
    (out / "report.html").write_text("of an earlier run")
    assert main(["replay", str(bag), "--no-html"]) == 0
    assert not (out / "report.html").exists()
