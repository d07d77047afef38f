"""One frame from image to contact: reason → render → localize → lift."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ivlm_core.bodies import PART_NAMES, BodyModel, load_body
from ivlm_core.checkpoints import load_weights, weights_hash
from ivlm_core.config import Profile, load_profile, profile_names
from ivlm_core.errors import ConfigError, IvlmError, shown
from ivlm_core.lift import lift_masks
from ivlm_core.localize import Localizer
from ivlm_core.objects import ObjectMatch, find_object, normalize_for_views
from ivlm_core.reason import ContactTokenizer, Reasoner, Reasoning, affordance_in, contact_questions
from ivlm_core.reason.tokenizer import SHIPPED_TOKENIZER
from ivlm_core.render import HUMAN_VIEWS, OBJECT_VIEWS, load_or_build_view_pack
from ivlm_core.storage import ArrayCache
from ivlm_core.types import Frame, FrameResult, HumanContact, Mesh, ObjectAffordance, ObjectQuery, Unanswered, ViewPack

MAX_QUERIES = 32
# Objects whose views and embeddings stay in memory; about 10 MB each at `tiny`.
OBJECTS_IN_MEMORY = 16


class Pipeline:
    """The whole method for one model on one device. Make it with `Pipeline.load`; `run` may be called by any thread.

    Attributes
    ----------
    profile : sizes and choices of the model.
    body : the body model that human contact is predicted on.
    body_views : its view pack.
    untrained : True while the weights are seeded random numbers.
    weights_hash : 16 hex digits that change with any weight.
    """

    def __init__(
        self,
        profile: Profile,
        model: nn.ModuleDict,
        body: BodyModel,
        cache: ArrayCache,
        reasoning: str = "parts",
        untrained: bool = False,
    ) -> None:
        self.profile = profile
        self.body = body
        self.untrained = untrained
        self.reasoning = reasoning
        self.weights_hash = weights_hash(model)
        self._model = model.eval()
        self._cache = cache
        self._lock = threading.Lock()
        self._objects: OrderedDict[str, tuple[ViewPack, Tensor]] = OrderedDict()
        contact_questions("object", PART_NAMES, reasoning)  # a wrong mode fails here, not at the first frame
        self.body_views = self._view_pack(body.mesh, human=True)
        self._body_embedding = self._view_embedding(self.body_views)

    @classmethod
    def load(
        cls,
        model: str | Path = "tiny",
        device: str = "auto",
        dtype: str = "auto",
        reasoning: str = "parts",
        cache_dir: Path | None = None,
        body: str = "anny",
        body_path: Path | None = None,
    ) -> Pipeline:
        """Load a model and prepare everything that does not depend on a frame.

        Parameters
        ----------
        model : `tiny`, or a checkpoint directory.
        device : `auto` (CUDA when there is one), `cpu`, `cuda` or `cuda:N`.
        dtype : `auto` (bfloat16 on CUDA, float32 on a CPU), `float32` or `bfloat16`.
        reasoning : `parts` (body parts and affordance are named first) or `direct` (the region alone; faster).
        cache_dir : where renders and view embeddings are kept; None for the user's cache directory.
        body, body_path : body model, and its file where it is not shipped (see `load_body`).

        Raises
        ------
        ConfigError : a parameter is out of its range.  CheckpointError : the weights or tokenizer do not fit.
        """
        profile = load_profile(model)
        target, precision = _device(device), _precision(dtype, device)
        directory = None if str(model) in profile_names() else Path(model).expanduser()
        if directory is not None and not directory.is_dir():
            raise ConfigError("model", f"{shown(str(model))} is no directory", "give a checkpoint directory")
        tokenizer_path = directory / "tokenizer.json" if directory else SHIPPED_TOKENIZER
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(profile.seed)
            reasoner = Reasoner(profile, ContactTokenizer(tokenizer_path, profile.tokens))
            modules = nn.ModuleDict({"reason": reasoner, "localize": Localizer(profile)})
        if directory:
            load_weights(directory, modules)
        return cls(
            profile,
            modules.to(target, precision),
            load_body(body, body_path),
            ArrayCache(cache_dir),
            reasoning,
            untrained=directory is None,
        )

    @property
    def device(self) -> torch.device:
        return self._localizer.device

    @property
    def cache_hits(self) -> int:
        return self._cache.hits

    @property
    def cache_misses(self) -> int:
        return self._cache.misses

    @torch.inference_mode()
    def run(self, frame: Frame, queries: Sequence[ObjectQuery]) -> FrameResult:
        """Where each object is touched by the person in the image, on both sides.

        Parameters
        ----------
        frame : the image.
        queries : the objects asked about, at most 32; none gives an empty result.

        Returns
        -------
        one human contact and one object affordance per query that the model answered, in the order of the queries.

        Raises
        ------
        IvlmError : a query's mesh cannot be loaded, there are too many queries, or the device is out of memory.
        """
        if len(queries) > MAX_QUERIES:
            raise ConfigError("objects", f"are {len(queries)}", f"ask about at most {MAX_QUERIES} in one frame")
        seconds: dict[str, float] = {}
        with self._lock, _memory_errors(self.profile, len(queries)), _timed(seconds, "total"):
            matches = [find_object(query) for query in queries]
            with _timed(seconds, "reason"):
                answers = self._reason(frame, queries)
            with _timed(seconds, "render"):
                packs = [self._object_views(match.mesh) for match in matches]
            with _timed(seconds, "localize"):
                human_masks = self._localize([human for human, _ in answers], self.body_views, self._body_embedding)
                object_masks = [
                    self._localize([answer], pack, views, "object")
                    for (_, answer), (pack, views) in zip(answers, packs, strict=True)
                ]
            with _timed(seconds, "lift"):
                bodies = self._lift(human_masks, self.body_views, len(queries), [human for human, _ in answers])
                objects = [
                    self._lift(masks, pack, 1, [answer])[0]
                    for masks, (pack, _), (_, answer) in zip(object_masks, packs, answers, strict=True)
                ]
        human_contacts = [
            self._human_contact(query, answer, probability)
            for query, (answer, _), probability in zip(queries, answers, bodies, strict=True)
            if probability is not None
        ]
        affordances = [
            _object_affordance(query, match, pack, answer, probability)
            for query, match, (pack, _), (_, answer), probability in zip(
                queries, matches, packs, answers, objects, strict=True
            )
            if probability is not None
        ]
        return FrameResult(
            human_contacts=tuple(human_contacts),
            object_affordances=tuple(affordances),
            unanswered=_unanswered(queries, answers),
            seconds=seconds,
            model=self.profile.name,
            untrained=self.untrained,
            stamp_ns=frame.stamp_ns,
            frame_id=frame.frame_id,
        )

    @property
    def _reasoner(self) -> Reasoner:
        return self._model["reason"]  # type: ignore[return-value]

    @property
    def _localizer(self) -> Localizer:
        return self._model["localize"]  # type: ignore[return-value]

    def _reason(self, frame: Frame, queries: Sequence[ObjectQuery]) -> list[tuple[Reasoning, Reasoning]]:
        """The human and the object answer of every query, all in one batch over one image prefix."""
        if not queries:
            return []
        prefix = self._reasoner.encode_image(frame.image)
        questions = [
            question for query in queries for question in contact_questions(query.label, PART_NAMES, self.reasoning)
        ]
        answers = self._reasoner.answer(prefix, questions)
        return list(zip(answers[0::2], answers[1::2], strict=True))

    def _localize(
        self, answers: Sequence[Reasoning], pack: ViewPack, views: Tensor, side: str = "human"
    ) -> Tensor | None:
        """(K', J, h, w) mask logits of the K' answers that have an embedding, or None without any."""
        embeddings = [answer.embedding for answer in answers if answer.embedding is not None]
        return self._localizer(torch.stack(embeddings), pack, views, side) if embeddings else None

    def _lift(
        self, masks: Tensor | None, pack: ViewPack, count: int, answers: Sequence[Reasoning]
    ) -> list[np.ndarray | None]:
        """Contact per vertex for each of `count` answers; None where the model gave no contact token."""
        if masks is None:
            return [None] * count
        lifted = iter(lift_masks(masks, pack, self.profile.lift.method).cpu().numpy())  # (K', V)
        return [next(lifted) if answer.embedding is not None else None for answer in answers]

    def _human_contact(self, query: ObjectQuery, answer: Reasoning, probability: np.ndarray) -> HumanContact:
        return HumanContact(
            object_label=query.label,
            probability=probability,
            body_model=self.body.name,
            mesh=self.body.mesh,
            views=self.body_views,
            body_parts=self.body.part_scores(probability),
            answer=answer.answer,
            confidence=answer.confidence,
            object_id=query.object_id,
            person_id=query.person_id,
        )

    def _object_views(self, mesh: Mesh) -> tuple[ViewPack, Tensor]:
        """Views and view embedding of an object's mesh, from memory, from disk, or made now."""
        key = mesh.content_hash
        if key not in self._objects:
            pack = self._view_pack(normalize_for_views(mesh), human=False)
            self._objects[key] = (pack, self._view_embedding(pack))
            if len(self._objects) > OBJECTS_IN_MEMORY:
                self._objects.popitem(last=False)
        self._objects.move_to_end(key)
        return self._objects[key]

    def _view_pack(self, mesh: Mesh, human: bool) -> ViewPack:
        views = HUMAN_VIEWS if human else OBJECT_VIEWS
        size = self.profile.sam.image_size
        return load_or_build_view_pack(mesh, views, size, "normals" if human else "positions", self._cache)

    def _view_embedding(self, pack: ViewPack) -> Tensor:
        """(J, D, h, w) on the device; kept on disk by what is seen and by the weights that see it."""
        key = hashlib.sha256(f"{pack.content_hash}|{self.weights_hash}|{self._localizer.dtype}".encode()).hexdigest()[
            :32
        ]
        stored = self._cache.load("embeddings", key)
        if stored is not None and "views" in stored and len(stored["views"]) == len(pack.view_names):
            return torch.from_numpy(stored["views"]).to(self.device, self._localizer.dtype)
        embedding = self._localizer.encode_views(pack.images)
        self._cache.store("embeddings", key, {"views": embedding.float().cpu().numpy()})
        return embedding


def _object_affordance(
    query: ObjectQuery, match: ObjectMatch, pack: ViewPack, answer: Reasoning, probability: np.ndarray
) -> ObjectAffordance:
    return ObjectAffordance(
        object_label=query.label,
        probability=probability,
        mesh=match.mesh,
        views=pack,
        affordance=affordance_in(answer.answer),
        answer=answer.answer,
        confidence=answer.confidence,
        mesh_resource=match.resource,
        mesh_source=match.source,
        object_id=query.object_id,
    )


def _unanswered(
    queries: Sequence[ObjectQuery], answers: Sequence[tuple[Reasoning, Reasoning]]
) -> tuple[Unanswered, ...]:
    return tuple(
        Unanswered(query.label, f"no contact token in the answer {shown(answer.answer)}", side, query.object_id)
        for query, pair in zip(queries, answers, strict=True)
        for side, answer in zip(("human", "object"), pair, strict=True)
        if answer.embedding is None
    )


def _device(name: str) -> torch.device:
    available = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if available else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError("device", f"is {shown(name)}", "choose auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError("device", f"is {shown(name)}", "choose auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (not available or (device.index or 0) >= torch.cuda.device_count()):
        raise ConfigError("device", f"{name} is not there", "use 'auto' or 'cpu', or check the CUDA driver")
    return device


def _precision(name: str, device: str) -> torch.dtype:
    choices = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if name == "auto":
        return torch.bfloat16 if _device(device).type == "cuda" else torch.float32
    if name not in choices:
        raise ConfigError("dtype", f"is {shown(name)}", "choose auto, float32 or bfloat16")
    return choices[name]


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] = time.perf_counter() - start


@contextmanager
def _memory_errors(profile: Profile, queries: int) -> Iterator[None]:
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        free, total = torch.cuda.mem_get_info()
        torch.cuda.empty_cache()
        raise IvlmError(
            "device",
            f"is out of memory at {queries} objects with {profile.name} "
            f"({free / 2**30:.1f} of {total / 2**30:.1f} GiB free)",
            "ask about fewer objects at once, use a smaller model, or dtype bfloat16",
        ) from error
