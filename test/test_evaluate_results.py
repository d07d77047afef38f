"""The results page: tables from files, what is missing said so, damaged files named."""

from __future__ import annotations

import copy
import json

import pytest

from ivlm_core import ConfigError, InputError
from ivlm_core.evaluate.results import write_results
from ivlm_core.evaluate.scene_results import SCENE_RUNS


def block(f1: float) -> dict:
    row = {"f1": f1, "precision": 0.5, "recall": 0.5, "geodesic_cm": 3.0, "geodesic_reverse_cm": 4.0, "f1_area": 0.6}
    row |= {"f1_error": 0.01, "samples": 10}
    thing = {"sim": 0.7, "auc": 0.9, "aiou": 0.4, "mae": 0.1, "samples": 10, "per_category": {}}
    part = {"f1": f1, "precision": 0.5, "recall": 0.5, "samples": 4}
    return {
        "binary": row,
        "semantic": {
            **row,
            "per_category": {"chair": row},
            "per_group": {"furniture": row},
            "per_part": {"head": part},
        },
        "object": thing,
        "untouched": {"samples": 1, "marked": 0.0},
        "wrong_hand_rate": 0.05,
    }


REPORT = {
    "scenes": 8,
    "seed": 4,
    **block(0.71),
    "baselines": {"category_prior": block(0.52), "deco_style": {**block(0.6), "object": None}},
    "ceilings": {"prior_through_masks": 0.5, "oracle_through_masks": 0.8, "ground_truth_through_masks": 0.9},
}


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "results"
    made.mkdir()
    return made


def put(path, report):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(report))


def test_page_without_measurements_holds_no_figure(folder):
    (page,) = write_results(folder)
    text = page.read_text()
    assert text.count("Not measured yet") == 5 + len(SCENE_RUNS)
    assert "0." not in text.split("## Main results")[1]


def test_main_table_and_ceilings(folder):
    put(folder / "test.json", REPORT)
    written = write_results(folder)
    text = written[0].read_text()
    assert "| **InteractVLM, `tiny`** | 0.710 ± 0.010 |" in text
    assert "| category prior | 0.520 ± 0.010 |" in text
    assert "| no language model | not fitted |" in text
    assert "70% of the way" in text
    assert "seed 4" in text
    assert text.count("Not measured yet") == 4 + len(SCENE_RUNS)
    assert (folder / "test_categories.svg") in written


def test_runs_of_several_seeds_become_mean_and_deviation(folder):
    for seed, f1 in enumerate((0.6, 0.7, 0.8)):
        put(folder / "ablation" / f"no_mvloc.{seed}.json", {**REPORT, **block(f1)})
        put(folder / "data" / f"25.{seed}.json", {**REPORT, **block(f1)})
    put(folder / "ablation" / "own_idea.0.json", REPORT)
    text = write_results(folder)[0].read_text()
    assert "| no MV-Loc (two-layer MLP) | 0.700 ± 0.100 | 0.700 ± 0.100 |" in text
    assert "| own_idea | 0.710 |" in text
    assert "| MV-Loc and vertex branch, as shipped | not run |" in text
    assert "| 25 % | 0.700 ± 0.100 |" in text
    assert "Not run: 1 %, 5 %, 10 %, 50 %, 100 %." in text


def test_one_table_leaves_the_others_and_the_words_around_as_they_are(folder):
    put(folder / "test.json", REPORT)
    page = write_results(folder)[0]
    page.write_text(page.read_text().replace("# Results on SynthHOI", "# My results"))
    changed = copy.deepcopy(REPORT)
    changed["semantic"]["f1"] = 0.123
    put(folder / "test.json", changed)
    write_results(folder, "data")
    assert "0.710" in page.read_text()
    write_results(folder, "main")
    assert "0.123" in page.read_text()
    assert page.read_text().startswith("# My results")


def test_writing_twice_changes_nothing(folder):
    put(folder / "test.json", REPORT)
    first = [path.read_bytes() for path in write_results(folder)]
    assert [path.read_bytes() for path in write_results(folder)] == first


def test_bad_files_are_named(folder):
    (folder / "test.json").write_text("{cut")
    with pytest.raises(InputError, match=r"test\.json cannot be read"):
        write_results(folder)
    (folder / "test.json").write_text("[]")
    with pytest.raises(InputError, match="holds no report"):
        write_results(folder)
    (folder / "test.json").unlink()
    put(folder / "data" / "half.0.json", REPORT)
    with pytest.raises(InputError, match=r"half\.0\.json is not named"):
        write_results(folder)
    with pytest.raises(ConfigError, match="--table"):
        write_results(folder, "nothing")
    folder.with_suffix(".md").write_text("# a page of somebody else")
    with pytest.raises(InputError, match="no section 'main'"):
        write_results(folder, "main")


def test_what_every_run_was_given_is_told_where_they_agree(folder):
    def run(steps):
        return {"trained": {"steps": steps, "pictures": 6 * steps}, "start": {"from": "tiny", "weights": "0" * 16}}

    for seed in (0, 1):
        put(folder / "ablation" / f"base.{seed}.json", {**REPORT, "run": run(800)})
    assert (
        "Each run: 800 steps, 4800 pictures, begun with `tiny`; 8 test scenes." in write_results(folder)[0].read_text()
    )
    put(folder / "ablation" / "no_mvloc.0.json", {**REPORT, "run": run(900)})
    assert "Each run" not in write_results(folder)[0].read_text()
