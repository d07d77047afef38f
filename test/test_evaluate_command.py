"""`ivlm evaluate` as a user types it, on a few generated scenes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from ivlm_core.cli import BASELINES, SOURCES, TABLES, TASKS, main
from ivlm_core.datasets.synthetic import SAMPLE, generate_scene
from ivlm_core.datasets.synthetic.split import TRAINING_SEED
from ivlm_core.datasets.synthetic.store import Manifest, encode, with_shard, write_shard
from ivlm_core.evaluate import command, fit_judge, results, synthhoi
from ivlm_core.evaluate.baselines import LABEL_FREE
from ivlm_core.evaluate.priors import load_priors
from ivlm_core.evaluate.scene_results import FITTED_SCENES, SCENE_RUNS

SEED = 41


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Six training and three test scenes on disk."""
    root = tmp_path_factory.mktemp("scenes")
    for split, count in (("train", 6), ("test", 3)):
        folder = root / split
        folder.mkdir()
        scenes = [generate_scene(SEED, split, index) for index in range(count)]
        shard = write_shard(folder, 0, [encode(scene) for scene in scenes])
        vertices = len(scenes[0].objects[0].body_contact)
        with_shard(Manifest(split, SEED, count, body_vertices=vertices), shard).write(folder)
    return root


@pytest.fixture(scope="module")
def fitted(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("baselines")
    arguments = ["--fit-baselines", str(data), "--only", "category_prior", "--baselines", str(folder)]
    assert main(["evaluate", *arguments]) == 0
    return folder


def test_choices_are_those_of_the_rooms_behind():
    # One more is judged: what one of them says without being told the label.
    assert tuple(name for name in synthhoi.BASELINES if name != LABEL_FREE) == BASELINES
    assert {"all", "scene-mix", *results.TABLES} == set(TABLES)
    assert set(get_args(fit_judge.Source)) == set(SOURCES)
    assert {"contact", *(run.task for run in SCENE_RUNS)} == set(TASKS)


def test_fitting_the_prior(fitted):
    priors = load_priors(fitted / "priors.npz")
    assert priors.source["seeds"] == [SEED]
    assert priors.source["scenes"] == 6
    assert {"prior", "oracle", "prior/128", "oracle/128", "ground truth/128"} <= set(priors.thresholds)
    assert (fitted / "priors.npz").stat().st_size < 1.5e6


def test_evaluation_of_stored_scenes(data, fitted, tmp_path, capsys):
    path = tmp_path / "report.json"
    arguments = ["--task", "contact", "--split", "test", "--scenes", "3", "--data", str(data), "--workers", "0"]
    assert main(["evaluate", *arguments, "--device", "cpu", "--baselines", str(fitted), "--json", str(path)]) == 0
    report = json.loads(path.read_text())
    assert report["scenes"] == 3
    for block in (report, report["baselines"]["category_prior"]):
        assert set(block["binary"]) >= {"f1", "precision", "recall", "geodesic_cm", "f1_area"}
        assert set(block["semantic"]) >= {"f1", "precision", "recall", "geodesic_cm", "per_category", "per_part"}
        assert set(block["object"]) >= {"sim", "auc", "aiou", "mae"}
    assert set(report["ceilings"]) >= {
        "prior_through_masks",
        "oracle_through_masks",
        "ground_truth_through_masks",
    }
    assert "wrong_hand_rate" in report
    assert "category_prior" in capsys.readouterr().out


def test_fresh_scenes_in_worker_processes_are_those_of_one_process(fitted, tmp_path):
    reports = []
    for workers in ("0", "2"):
        path = tmp_path / f"{workers}.json"
        arguments = ["--scenes", "3", "--seed", "9", "--workers", workers, "--device", "cpu", "--json", str(path)]
        assert main(["evaluate", *arguments, "--baselines", str(fitted)]) == 0
        reports.append(json.loads(path.read_text()))
    one, two = reports
    assert one.pop("seconds") > 0
    assert two.pop("seconds") > 0
    assert one["semantic"]["samples"] == two["semantic"]["samples"]
    # The same scenes and the same models; a worker's one thread adds up in another order than this process's.
    for block in ("baselines", "ceilings"):
        assert _rounded(one[block]) == _rounded(two[block])


def _rounded(value):
    """Numbers to four places, everywhere in a report."""
    return json.loads(json.dumps(value), parse_float=lambda text: round(float(text), 4))


def test_scene_mix_before_any_training(data, tmp_path, capsys):
    path = tmp_path / "mix.json"
    arguments = ["--table", "scene-mix", "--data", str(data), "--test-data", str(data), "--json", str(path)]
    assert main(["evaluate", *arguments]) == 0
    assert "| **all** |" in capsys.readouterr().out
    mix = json.loads(path.read_text())
    assert mix["scenes"] == 3
    overall = mix["overall"]
    assert 0 <= overall["prior"] <= 1
    assert overall["ground_truth_through_masks"] > 0.7
    assert sum(row["samples"] for row in mix["per_category"].values()) == overall["samples"]


def test_tables_of_nothing(tmp_path, capsys):
    assert main(["evaluate", "--table", "ablation", "--results", str(tmp_path / "results"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"written": [str(tmp_path / "results.md")]}
    assert "Not measured yet" in (tmp_path / "results.md").read_text()


def test_objects_and_bodies_in_the_scene(tmp_path, capsys):
    path = tmp_path / "report.json"
    common = ["evaluate", "--scenes", "1", "--data", str(SAMPLE), "--workers", "0", "--device", "cpu"]
    assert main([*common, "--task", "reconstruct", "--contacts", "ground-truth", "--json", str(path)]) == 0
    report = json.loads(path.read_text())
    wanted = {"chamfer_cm", "rotation_deg", "translation_cm", "scale_error", "penetration_cm", "mask_iou"}
    wanted |= {"success_5cm", "seconds_per_object"}
    assert set(report["variants"]) == {"no_contact", "part_priors", "released_energy"}
    for block in (report, *report["variants"].values()):
        assert wanted <= set(block)
    assert (report["contacts"], report["masks"]) == ("ground-truth", "ground-truth")
    assert report["chamfer_cm"] < 5
    assert main([*common, "--task", "bodies", "--json", str(path)]) == 0
    assert json.loads(path.read_text())["keypoints"]["fitted"] == 1.0
    assert "root-aligned" in capsys.readouterr().out


def test_tables_measure_what_is_missing_and_keep_what_is_there(tmp_path, monkeypatch):
    measured = []

    def task(options):
        measured.append((options.task, options.contacts, options.masks, options.scenes))
        Path(options.json).write_text("{}")

    monkeypatch.setattr(command, "_task", task)
    monkeypatch.setattr(results, "write_results", lambda folder, table: [])
    for _ in range(2):
        assert main(["evaluate", "--table", "scene", "--results", str(tmp_path), "--scenes", "7"]) == 0
    assert measured == [
        ("reconstruct", "predicted", None, 7),
        ("reconstruct", "predicted", "ground-truth", 7),
        ("reconstruct", "ground-truth", None, 7),
        ("bodies", "predicted", None, 7),
        ("retrieve", "predicted", None, 7),
    ]
    # Figures of other weights are measured again.
    (tmp_path / "reconstruct.json").write_text('{"weights": "others"}')
    assert main(["evaluate", "--table", "scene", "--results", str(tmp_path)]) == 0
    assert measured[5:] == [("reconstruct", "predicted", None, FITTED_SCENES)]


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["--task", "reconstruct", "--seed", str(TRAINING_SEED)], "seed"),
        (["--task", "bodies", "--scenes", "0"], "scenes"),
        (["--task", "reconstruct", "--workers", "-1"], "--workers"),
        (["--seed", str(TRAINING_SEED)], "seed"),
        (["--seed", str(SEED)], "seed"),
        (["--seed", "-1"], "seed"),
        (["--scenes", "0"], "scenes"),
        (["--split", "training"], "split"),
        (["--workers", "-1"], "--workers"),
        (["--data", "nowhere"], "manifest.json"),
        (["--table", "scene-mix"], "--data"),
        (["--fit-baselines", "nowhere"], "manifest.json"),
        (["--model", "nothing"], "model"),
    ],
)
def test_bad_input_is_one_line_and_status_two(fitted, capsys, arguments, field):
    assert main(["evaluate", "--json", "--workers", "0", "--baselines", str(fitted), *arguments]) == 2
    captured = capsys.readouterr()
    assert field in json.loads(captured.out.splitlines()[-1])["error"]["field"]
    assert [line for line in captured.err.splitlines() if line.startswith("ivlm: ")]
