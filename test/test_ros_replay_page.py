"""The report's page: one file without a network, whose texts cannot become markup."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ivlm_ros.replay.command import write_report
from ivlm_ros.replay.findings import Findings
from ivlm_ros.replay.outcome import Sample
from ivlm_ros.replay.page import MAX_BYTES
from ivlm_ros.replay.settings import ReplaySettings

_spec = importlib.util.spec_from_file_location("replay_bags", Path(__file__).with_name("test_ros_replay_offline.py"))
assert _spec is not None
assert _spec.loader is not None
bags: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(bags)

HOSTILE = "</script><img onerror=alert(1) src=http://evil.example/x>"


class Elements(HTMLParser):
    """All elements with their attributes, and the text in each kind of them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._within = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._within = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    def handle_data(self, data: str) -> None:
        if self._within == "script":
            self.scripts[-1] += data


def report(tmp_path: Path, pipeline: Any, messages: list[Any], **settings: Any) -> tuple[str, dict[str, Any]]:
    bag = bags.record(tmp_path / "bag", messages)
    outcome, findings = bags.replay(bag, pipeline, **settings)
    facts = write_report(ReplaySettings(bag, tmp_path / "out", **settings), outcome, findings)
    return (tmp_path / "out" / "report.html").read_text(encoding="utf-8"), facts


def test_page_needs_no_network(tmp_path: Path, fake_pipeline: Any) -> None:
    from plotly.offline import get_plotlyjs

    page, _ = report(tmp_path, fake_pipeline, bags.usual())
    elements = Elements(page)
    assert page.count(get_plotlyjs()) == 1
    own = page.replace(get_plotlyjs(), "")
    for tag, attributes in elements.found:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, name)
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|https?://|//\w+\.\w", own)
    policy = next(attributes["content"] for _, attributes in elements.found if "http-equiv" in attributes)
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    assert len(page.encode()) < MAX_BYTES


def test_hostile_texts_stay_texts(tmp_path: Path, fake_pipeline: Any) -> None:
    """In labels, frames, topics, findings and the ground truth."""
    messages = bags.usual(3)
    for number in range(3):
        # A label of the kind is refused before the model; the ground truth and the frames are not asked about.
        messages[3 * number] = (number, "/image", "sensor_msgs/msg/Image", bags.image(number, frame=HOSTILE))
    messages[2] = (*messages[2][:3], bags.detections(0, HOSTILE, "cup"))
    messages.append((3, "/odd", "std_msgs/msg/String", bags.TYPES.make("std_msgs/msg/String", data=HOSTILE)))
    run = fake_pipeline.run

    def renamed(frame: Any, queries: Any, **options: Any) -> Any:
        import dataclasses

        result = run(frame, queries, **options)
        contacts = [dataclasses.replace(item, object_label=HOSTILE) for item in result.human_contacts]
        things = [dataclasses.replace(item, object_label=HOSTILE) for item in result.object_affordances]
        return dataclasses.replace(result, human_contacts=tuple(contacts), object_affordances=tuple(things))

    fake_pipeline.run = renamed
    page, facts = report(tmp_path, fake_pipeline, messages)
    assert facts["objects"][0]["label"] == HOSTILE, "the report itself tells it as it is"
    elements = Elements(page)
    assert not [attributes for _, attributes in elements.found if "onerror" in attributes]
    assert {attributes["src"][:5] for _, attributes in elements.found if attributes.get("src")} <= {"data:"}
    assert len(elements.scripts) == 3
    data = json.loads(elements.scripts[0])
    # To plotly, too, which reads markup of its own in its texts.
    assert "<img" not in json.dumps(data["figures"])
    assert any(HOSTILE in view["name"] for view in data["views"])


def test_figures_show_the_answers(tmp_path: Path, fake_pipeline: Any) -> None:
    page, facts = report(tmp_path, fake_pipeline, bags.usual(4))
    data = json.loads(Elements(page).scripts[0])
    heat = data["figures"]["timeline"]["data"]
    assert [trace["y"] for trace in heat] == [["head", "left hand", "the object (grasp)"]]
    assert heat[0]["x"] == pytest.approx([0.05, 0.15, 0.25, 0.35], abs=1e-3)
    assert heat[0]["z"] == [[0.25] * 4, [0.75] * 4, [1.0] * 4]
    assert sum(len(trace["x"]) for trace in data["figures"]["latency"]["data"]) == 4
    assert facts["objects"][0]["body_parts"]["left hand"] == {"mean": 0.75, "max": 0.75, "share_touched": 1.0}
    assert "4 of 4" in page
    assert "carries no ground truth" in page


def test_meshes_are_unpacked_as_they_were(tmp_path: Path, fake_pipeline: Any) -> None:
    page, _ = report(tmp_path, fake_pipeline, bags.usual(1))
    data = json.loads(Elements(page).scripts[0])
    view = data["views"][0]
    for side, mesh, contact in (
        ("body", fake_pipeline.body.mesh, [2, 5]),
        ("thing", fake_pipeline.object_mesh, list(range(6, 12))),
    ):
        part = view[side][0]
        packed = data["meshes"][part["mesh"]]
        places = np.frombuffer(base64.b64decode(packed["vertices"]), "<u2").reshape(-1, 3)
        vertices = np.array(packed["low"]) + places * np.array(packed["step"])
        np.testing.assert_allclose(vertices, mesh.vertices, atol=2e-5)
        faces = np.frombuffer(base64.b64decode(packed["faces"]), "<u4" if packed["wide"] else "<u2").reshape(-1, 3)
        np.testing.assert_array_equal(faces, mesh.faces)
        values = np.frombuffer(base64.b64decode(part["values"]), np.uint8)
        assert np.flatnonzero(values).tolist() == contact


def test_fitted_scene_is_shown_in_metres(tmp_path: Path, fake_pipeline: Any) -> None:
    fake_pipeline.fits = True
    page, _ = report(tmp_path, fake_pipeline, bags.usual(1), reconstruct=True)
    data = json.loads(Elements(page).scripts[0])
    scene = next(view for view in data["views"] if "scene" in view)
    assert [part["name"] for part in scene["scene"]] == ["person", "cup"]
    assert data["meshes"][scene["scene"][0]["mesh"]]["low"][2] == pytest.approx(3.0, abs=0.01)


def test_large_pictures_are_thinned_out(tmp_path: Path, fake_pipeline: Any) -> None:
    bag = bags.record(tmp_path / "bag", bags.usual(12))
    outcome, findings = bags.replay(bag, fake_pipeline)
    noise = np.random.default_rng(0).bytes(2 * 2**20)
    outcome.samples = [Sample(sample.key, noise) for sample in outcome.samples]
    write_report(ReplaySettings(bag, tmp_path / "out"), outcome, findings)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert len(page.encode()) <= MAX_BYTES
    assert page.count("<figure>") == 2, "of twelve, each halving leaves every second"


def test_report_without_any_answer_can_be_read(tmp_path: Path, fake_pipeline: Any) -> None:
    messages = [item for item in bags.usual(3) if item[1] != "/detections"]
    messages.append((9, "/detections", "ivlm_ros/msg/DetectedObjectArray", bags.detections(99)))
    page, facts = report(tmp_path, fake_pipeline, messages)
    assert facts["frames"] == {"in": 3, "out": 0, "dropped": {"no_detections": 3}}
    assert "3 images dropped: no detections" in page
    assert "No object was answered" in page


def test_findings_of_unknown_kinds_are_a_mistake() -> None:
    with pytest.raises(KeyError):
        Findings().add("no such kind", "text")
