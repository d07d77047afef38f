"""The runs behind a table: each once, at one budget, with the questions its model knows, and on after a restart."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ivlm_core.cli import main
from ivlm_core.config import LanguageConfig, Profile, SamConfig, VisionConfig, load_profile, save_profile
from ivlm_core.datasets.synthetic import generate_scene
from ivlm_core.datasets.synthetic.split import TRAINING_SEED
from ivlm_core.datasets.synthetic.store import Manifest, encode, with_shard, write_shard
from ivlm_core.errors import ConfigError, IvlmError
from ivlm_core.evaluate.ablation import Outcome, Plan, Run, fill_table
from ivlm_core.evaluate.answers import Detection, ModelAnswers, Picture
from ivlm_core.evaluate.results import ABLATIONS, PERCENTS
from ivlm_core.evaluate.synthhoi import Setup
from ivlm_core.objects import library_mesh
from ivlm_core.types import FrameResult

SEED = 43


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four training and two test scenes on disk."""
    root = tmp_path_factory.mktemp("scenes")
    for split, count in (("train", 4), ("test", 2)):
        folder = root / split
        folder.mkdir()
        scenes = [generate_scene(SEED, split, index) for index in range(count)]
        shard = write_shard(folder, 0, [encode(scene) for scene in scenes])
        vertices = len(scenes[0].objects[0].body_contact)
        with_shard(Manifest(split, SEED, count, body_vertices=vertices), shard).write(folder)
    return root


class Fake:
    """Trains and evaluates in no time, and remembers what it was asked."""

    def __init__(self, fails: str = "", stops: int = 1000) -> None:
        self.runs: list[Run] = []
        self.setups: list[Setup] = []
        self.fails, self.stops = fails, stops

    def train(self, run: Run) -> dict[str, Any]:
        if len(self.runs) == self.stops:
            raise KeyboardInterrupt
        self.runs.append(run)
        if run.row == self.fails:
            raise IvlmError("loss", "is not finite", "lower the rate")
        for name in ("model", "checkpoints"):
            (run.folder / name).mkdir(parents=True)
        (run.folder / "log.jsonl").write_text("{}")
        return {"steps": run.recipe.steps, "seconds": 1.0}

    def evaluate(self, run: Run, setup: Setup) -> dict[str, Any]:
        assert run.model.is_dir()
        self.setups.append(setup)
        scores = {"f1": 0.1 * run.seed + 0.5, "geodesic_cm": 2.0}
        return {"semantic": scores, "binary": scores, "object": {"sim": 0.6}}

    def __call__(self, plan: Plan) -> Outcome:
        return fill_table(plan, self.train, self.evaluate, say=lambda line: None)


@pytest.fixture
def plan(data: Path, tmp_path: Path) -> Plan:
    runs, results = tmp_path / "runs", tmp_path / "results"
    return Plan("ablation", data, results, runs, steps=5, seeds=(0, 1), scenes=2, test_data=data)


def test_every_row_of_table_s4_is_run_with_every_seed(plan: Plan) -> None:
    fake = Fake()
    outcome = fake(plan)
    assert {path.stem for path in (plan.results / "ablation").iterdir()} == {
        f"{row}.{seed}" for row in ABLATIONS for seed in (0, 1)
    }
    assert len(outcome.made) == 2 * len(ABLATIONS)
    assert {run.recipe.steps for run in fake.runs} == {5}
    assert [run.seed for run in fake.runs] == sorted(run.seed for run in fake.runs)
    for run in fake.runs:
        assert run.row in ("base", "no_mvloc") or not run.profile.localize.vertex_branch
    # Two names of the same settings are one run.
    assert len({run.settings for run in fake.runs}) == len(fake.runs) < 2 * len(ABLATIONS)
    again = json.loads((plan.results / "ablation" / "no_vertex_branch+valid_mask_3d.1.json").read_text())
    assert again["run"]["same_as"].startswith("ablation/no_vertex_branch")
    assert again["semantic"]["f1"] == 0.6


def test_a_model_is_asked_what_it_was_taught(plan: Plan) -> None:
    fake = Fake()
    fake(replace(plan, seeds=(0,), rows=("base", "no_vertex_branch+no_parts_text", "no_vertex_branch+no_object_name")))
    assert [(setup.reasoning, setup.name_objects) for setup in fake.setups] == [
        ("parts", True),
        ("direct", True),
        ("parts", False),
    ]
    assert all(setup.split == "test" and not setup.compare for setup in fake.setups)


def test_a_run_without_mvloc_has_no_object_side(plan: Plan) -> None:
    Fake()(replace(plan, rows=("no_mvloc", "base")))
    folder = plan.results / "ablation"
    assert json.loads((folder / "no_mvloc.0.json").read_text())["object"] is None
    assert json.loads((folder / "base.0.json").read_text())["object"] == {"sim": 0.6}


def test_shares_of_the_data(plan: Plan) -> None:
    fake = Fake()
    fake(replace(plan, table="data"))
    shares = sorted(100 * run.recipe.data_fraction for run in fake.runs if run.seed == 0)
    assert shares == pytest.approx(sorted(PERCENTS))
    # All of the data is the base run of the ablations, if it had the same length.
    before = len(fake.runs)
    outcome = fake(replace(plan, rows=("base",)))
    assert len(outcome.made) == 2
    assert len(fake.runs) == before


def test_it_goes_on_after_an_interruption(plan: Plan) -> None:
    with pytest.raises(KeyboardInterrupt):
        Fake(stops=3)(plan)
    assert len(list((plan.results / "ablation").iterdir())) == 3
    fake = Fake()
    outcome = fake(plan)
    assert len(outcome.existing) == 3
    assert len(outcome.made) == 2 * len(ABLATIONS) - 3
    assert Fake(stops=0)(plan).made == ()


def test_a_finished_run_leaves_its_log_alone(plan: Plan) -> None:
    fake = Fake()
    fake(replace(plan, rows=("base",), seeds=(0,)))
    assert [path.name for path in fake.runs[0].folder.iterdir()] == ["log.jsonl"]


def test_a_run_that_fails_does_not_stop_the_others(plan: Plan) -> None:
    outcome = Fake(fails="no_vertex_branch+no_camera")(replace(plan, seeds=(0,)))
    assert list(outcome.failed) == ["no_vertex_branch+no_camera.0"]
    assert len(outcome.made) == len(ABLATIONS) - 1


def test_runs_that_begin_with_a_model_differ_in_nothing_but_their_row(plan: Plan) -> None:
    fake = Fake()
    fake(replace(plan, start_from="tiny", seeds=(0,)))
    base = next(run for run in fake.runs if run.row == "base").recipe
    assert base.frozen_sight
    assert base.stage(0.0) == "masks"
    assert len(base.start) == 16
    for run in fake.runs:
        # Of the recipe only what the row's name says; all begin with the same weights and see as much.
        mine = {**asdict(run.recipe), "masks": True, "whole_masks": False, "mesh_loss": True, "style": None}
        assert mine == {**asdict(base), "style": None}, run.row
    report = json.loads((plan.results / "ablation" / "base.0.json").read_text())
    assert report["run"]["start"] == {"from": "tiny", "weights": base.start}
    # What a run begins with is part of what it is.
    with pytest.raises(ConfigError, match="other length, data or model"):
        fake(replace(plan, seeds=(0,)))


def test_a_start_that_knows_contact_is_refused_for_shares_of_the_data(plan: Plan) -> None:
    with pytest.raises(ConfigError, match=r"--start-from: tiny has learned contact"):
        replace(plan, table="data", start_from="tiny")


@pytest.mark.parametrize("other", [{"steps": 6}, {"steps": 0, "minutes": 5.0}, {"scenes": 1}, {"profile": "toy"}])
def test_runs_of_other_settings_are_not_mixed(plan: Plan, tmp_path: Path, other: dict[str, Any]) -> None:
    if "profile" in other:
        save_profile(toy_profile(), tmp_path / "toy.yaml")
        other = {"profile": str(tmp_path / "toy.yaml")}
    Fake()(replace(plan, rows=("base",), seeds=(0,)))
    with pytest.raises(ConfigError, match="other length, data or model"):
        Fake()(replace(plan, **other))


def test_a_report_that_a_person_made_stays(plan: Plan) -> None:
    path = plan.results / "ablation" / "base.0.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"semantic": {"f1": 0.9}}')
    outcome = Fake()(replace(plan, rows=("base",), seeds=(0,)))
    assert outcome.existing == ("base.0",)
    assert json.loads(path.read_text()) == {"semantic": {"f1": 0.9}}


def test_test_scenes_are_generated_once(plan: Plan) -> None:
    fake = Fake()
    fake(replace(plan, test_data=None, rows=("base",), workers=0))
    assert len({setup.data for setup in fake.setups}) == 1
    assert fake.setups[0].data is not None
    assert (fake.setups[0].data / "test").is_dir()


@pytest.mark.parametrize("seed", [SEED, TRAINING_SEED])
def test_test_scenes_of_a_training_seed_are_refused(plan: Plan, seed: int) -> None:
    with pytest.raises(ConfigError, match="seed"):
        Fake()(replace(plan, test_data=None, seed=seed))


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ([], "--data"),
        (["--data", "nowhere"], "--steps-each"),
        (["--data", "nowhere", "--steps-each", "3", "--minutes-each", "3"], "--steps-each"),
        (["--data", "nowhere", "--steps-each", "3"], "manifest.json"),
        (["--data", "nowhere", "--steps-each", "-3"], "train.steps"),
        (["--data", "nowhere", "--steps-each", "3", "--seeds", "a"], "--seeds"),
        (["--data", "nowhere", "--steps-each", "3", "--seeds", "1,1"], "--seeds"),
        (["--data", "nowhere", "--steps-each", "3", "--row", "nothing"], "--row"),
        (["--data", "nowhere", "--steps-each", "3", "--workers", "-1"], "--workers"),
        (
            ["--data", "DATA", "--test-data", "DATA", "--scenes", "2", "--steps-each", "3", "--start-from", "no_such"],
            "--start-from",
        ),
    ],
)
def test_bad_input_is_one_line_and_status_two(
    data: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], field: str
) -> None:
    given = [str(data) if word == "DATA" else word for word in arguments]
    assert main(["evaluate", "--run", "ablation", "--json", *given]) == 2
    assert field in json.loads(capsys.readouterr().out)["error"]["field"]


def test_objects_without_names_keep_their_meshes() -> None:
    asked = []

    class Pipeline:
        body = type("Body", (), {"mesh": library_mesh("box")})

        def forget(self) -> None: ...

        def run(self, frame: Any, queries: Any) -> FrameResult:
            asked.extend(queries)
            return FrameResult((), (), (), seconds={}, model="")

    picture = Picture(np.zeros((8, 8, 3), np.uint8), None, (Detection("sports ball", None),))
    (answer,) = ModelAnswers(Pipeline(), name_objects=False)(picture)  # type: ignore[arg-type]
    assert asked[0].label == "object"
    assert asked[0].mesh is library_mesh("ball")
    assert answer.thing is not None
    assert len(answer.thing) == len(library_mesh("ball").vertices)


def test_a_table_from_training_to_page(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_profile(toy_profile(), tmp_path / "toy.yaml")
    results = ["--results", str(tmp_path / "results")]
    rows = ["base", "no_mvloc", "no_vertex_branch+no_parts_text", "no_vertex_branch+no_object_name"]
    options = ["--data", str(data), "--test-data", str(data), "--scenes", "2", "--workers", "0", "--device", "cpu"]
    options += ["--model", str(tmp_path / "toy.yaml"), "--runs", str(tmp_path / "runs"), "--steps-each", "2"]
    options += ["--seeds", "0", *results, *(word for row in rows for word in ("--row", row))]
    assert main(["evaluate", "--run", "ablation", "--json", *options]) == 0
    assert json.loads(capsys.readouterr().out)["made"] == [f"{row}.0" for row in rows]
    report = json.loads((tmp_path / "results" / "ablation" / "no_mvloc.0.json").read_text())
    assert report["run"]["trained"]["steps"] == 2
    assert report["scenes"] == 2
    assert main(["evaluate", "--table", "ablation", *results]) == 0
    page = (tmp_path / "results.md").read_text()
    assert f"| {ABLATIONS['no_mvloc']} | {report['semantic']['f1']:.3f} |" in page


def test_shares_of_the_data_begin_with_a_model_that_knows_no_contact(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = tmp_path / "toy.yaml"
    save_profile(toy_profile(), profile)
    seeing = ["--variant", "no_contact", "--steps", "3", "--validation", "0", "--device", "cpu"]
    seeing += ["--out", str(tmp_path / "seeing"), "--export", str(tmp_path / "seeing-model")]
    assert main(["train", "--data", str(data), "--profile", str(profile), *seeing]) == 0
    options = ["--data", str(data), "--test-data", str(data), "--scenes", "2", "--workers", "0", "--device", "cpu"]
    options += ["--model", str(profile), "--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    options += ["--steps-each", "2", "--seeds", "0", "--row", "50", "--start-from", str(tmp_path / "seeing-model")]
    capsys.readouterr()
    assert main(["evaluate", "--run", "data", "--json", *options]) == 0
    assert json.loads(capsys.readouterr().out)["made"] == ["50.0"]
    report = json.loads((tmp_path / "results" / "data" / "50.0.json").read_text())
    assert report["run"]["start"]["from"] == "seeing-model"
    assert report["object"] is None


def toy_profile() -> Profile:
    tiny = load_profile("tiny")
    return replace(
        tiny,
        language=LanguageConfig(hidden_size=32, layers=2, heads=2, intermediate_size=48, max_positions=256),
        vision=VisionConfig(
            image_size=32, patch_size=16, hidden_size=32, layers=1, heads=2, intermediate_size=48, select_layer=-1
        ),
        sam=SamConfig(
            image_size=64,
            patch_size=16,
            embed_dim=16,
            depth=1,
            heads=2,
            global_blocks=(0,),
            window_size=0,
            prompt_dim=32,
            decoder_depth=1,
            decoder_heads=2,
            decoder_mlp=32,
            iou_hidden=16,
        ),
        localize=replace(tiny.localize, vertex_branch=4),
    )
