"""How good a model in training is: free generation on scenes that it does not learn from, and pictures of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from torch import Tensor, nn

from ivlm_core.bodies import PART_NAMES, load_body
from ivlm_core.checkpoints import build_model
from ivlm_core.config import Profile
from ivlm_core.evaluate.metrics import contact_scores
from ivlm_core.localize import Localizer
from ivlm_core.reason import ContactTokenizer
from ivlm_core.storage import ArrayCache, atomic_path
from ivlm_core.types import ByteArray, FloatArray, Frame, ObjectQuery

# A hand counts as marked from this many of its vertices on.
HAND_VERTICES = 20


class Monitor:
    """Validates weights through the pipeline itself.

    Parameters
    ----------
    profile : of the model. tokenizer : its own.
    records : scenes to answer. out : where renders are kept and pictures are written.
    reasoning, name_object : as the model was trained to be asked.
    """

    def __init__(
        self,
        profile: Profile,
        tokenizer: ContactTokenizer,
        records: Sequence[Any],
        out: Path,
        reasoning: str = "parts",
        name_object: bool = True,
    ) -> None:
        self._profile, self._tokenizer = profile, tokenizer
        self.records = list(records)
        self._out, self._reasoning, self._name_object = out, reasoning, name_object
        self._cache = ArrayCache(out / "cache")

    def model(self, weights: Mapping[str, Tensor]) -> nn.ModuleDict:
        """A model with these weights."""
        model = build_model(self._profile, self._tokenizer, empty=False)
        model.load_state_dict(dict(weights))
        return model.eval()

    def validate(
        self, weights: Mapping[str, Tensor], picture: Path | None = None, masks: bool = True
    ) -> dict[str, float]:
        """Mean contact scores over all touched objects of the scenes; an answer without contact scores 0.

        Parameters
        ----------
        picture : where pictures of the first scenes are written.
        masks : whether MV-Loc is in training, so that it is worth a look of its own.

        Returns
        -------
        `f1`, `precision`, `recall`; `answered`, the share of answers with a contact token; `refused`, the share of
        untouched objects rightly answered without one; `lifted_f1` of MV-Loc alone where there is a vertex branch; and
        of one-handed grips the shares `right_hand`, `wrong_hand` and `both_hands`, where there are any.
        """
        from ivlm_core.pipeline import Pipeline

        model = self.model(weights)
        pipeline = Pipeline(self._profile, model, load_body(), self._cache, self._reasoning, "human")
        predicted, lifted, truth, modes = [], [], [], []
        answered, untouched, refused = [], 0, 0
        shown: list[ByteArray] = []
        localizer = cast(Localizer, model["localize"])
        branch = localizer.vertex_branch
        for record in self.records:
            labels = [thing.label if self._name_object else "object" for thing in record.objects]
            queries = [ObjectQuery(label, object_id=str(number)) for number, label in enumerate(labels)]
            contacts = {item.object_id: item for item in pipeline.run(Frame(record.image), queries).human_contacts}
            alone: dict[str, FloatArray] = {}
            if branch is not None and masks:
                localizer.vertex_branch = None
                plain = pipeline.run(Frame(record.image), queries).human_contacts
                alone = {item.object_id: item.probability for item in plain}
                localizer.vertex_branch = branch
            for number, thing in enumerate(record.objects):
                found = contacts.get(str(number))
                if not thing.body_contact.any():
                    untouched += 1
                    refused += found is None
                    continue
                nothing = np.zeros(len(thing.body_contact), dtype=np.float32)
                answered.append(found is not None)
                predicted.append(found.probability if found else nothing)
                lifted.append(alone.get(str(number), nothing))
                truth.append(thing.body_contact)
                modes.append(thing.mode)
                if picture is not None and len(shown) < 8:
                    text = found.answer if found else "no contact"
                    title = f"{thing.label}: {text}"
                    shown.append(_row(record.image, pipeline.body_views, thing.body_contact, predicted[-1], title))
        if picture is not None and shown:
            self._write(picture, np.concatenate(shown))
        scores = dict(contact_scores(np.array(predicted), np.array(truth)).mean())
        scores["answered"] = float(np.mean(answered))
        if untouched:
            scores["refused"] = refused / untouched
        if branch is not None and masks:
            scores["lifted_f1"] = contact_scores(np.array(lifted), np.array(truth)).mean()["f1"]
        return scores | _hand_shares(predicted, modes, load_body().part_labels)

    def prior_f1(self, prior: Mapping[str, FloatArray]) -> float:
        """F1 of the categories' mean contacts at the best threshold there is."""
        things = [thing for record in self.records for thing in record.objects if thing.body_contact.any()]
        guesses = [prior.get(thing.label, np.zeros(len(thing.body_contact), np.float32)) for thing in things]
        truth = np.array([thing.body_contact for thing in things])
        return max(
            contact_scores(np.array(guesses), truth, threshold=level).mean()["f1"] for level in (0.2, 0.3, 0.4, 0.5)
        )

    def _write(self, name: Path, picture: ByteArray) -> None:
        with atomic_path(name) as temporary:
            cv2.imwrite(str(temporary), picture[:, :, ::-1])


def _hand_shares(predicted: Sequence[FloatArray], modes: Sequence[str], labels: np.ndarray) -> dict[str, float]:
    counts = {"right_hand": 0, "wrong_hand": 0, "both_hands": 0}
    total = 0
    sides = {side: labels == PART_NAMES.index(f"{side} hand") for side in ("left", "right")}
    for probability, mode in zip(predicted, modes, strict=True):
        if mode not in ("left hand", "right hand"):
            continue
        total += 1
        true = mode.split()[0]
        marked = {side: int((probability[which] >= 0.5).sum()) >= HAND_VERTICES for side, which in sides.items()}
        other = marked["right" if true == "left" else "left"]
        if marked[true]:
            counts["both_hands" if other else "right_hand"] += 1
        elif other:
            counts["wrong_hand"] += 1
    return {name: count / total for name, count in counts.items()} if total else {}


def _row(image: ByteArray, pack: Any, truth: np.ndarray, probability: FloatArray, title: str) -> ByteArray:
    """The picture, the true contact in the views, the predicted one."""
    side = 160
    height = round(image.shape[0] * side / image.shape[1])
    small = np.full((side, side, 3), 255, np.uint8)
    small[(side - height) // 2 :][:height] = cv2.resize(image, (side, height), interpolation=cv2.INTER_AREA)
    tiles: list[np.ndarray] = [small]
    for values, color in ((truth.astype(np.float32), (20, 150, 60)), (probability, (210, 60, 20))):
        for view in (0, 1):
            ids = np.maximum(pack.pixel_to_vertex[view], 0)
            heat = values[ids].mean(axis=-1)[..., None]
            shown = pack.face_index[view][..., None] >= 0
            gray = pack.images[view].mean(axis=-1, keepdims=True)
            mixed = np.where(shown, gray * (1 - heat) + np.array(color) * heat, 255)
            tiles.append(cv2.resize(mixed.astype(np.uint8), (side, side), interpolation=cv2.INTER_AREA))
    row = np.concatenate(tiles, axis=1)
    caption = np.full((16, row.shape[1], 3), 255, np.uint8)
    cv2.putText(caption, title[:130], (4, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([caption, row])


def plain_weights(model: nn.Module, average: Mapping[str, Tensor], lora_scale: float) -> dict[str, Tensor]:
    """The model's tensors: running means where there are some, adapters added to what they adapt.

    Parameters
    ----------
    lora_scale : what the product of an adapter's two matrices is multiplied by.
    """
    weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    weights |= {name: tensor.detach().clone() for name, tensor in average.items() if name in weights}
    plain = {name: tensor for name, tensor in weights.items() if ".lora_" not in name and ".base_layer." not in name}
    for name, tensor in weights.items():
        layer, found, rest = name.partition(".base_layer.")
        if found:
            update = weights[f"{layer}.lora_B.default.weight"] @ weights[f"{layer}.lora_A.default.weight"]
            plain[f"{layer}.{rest}"] = tensor + lora_scale * update.to(tensor.dtype)
    return plain
