"""One frame from image to contact, and to objects in the scene: reason → render → localize → lift → reconstruct."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from ivlm_core.bodies import PART_NAMES, BodyMap, BodyModel, body_map, load_body, load_body_map
from ivlm_core.checkpoints import build_model, checkpoint_hash, load_weights, place, weights_hash
from ivlm_core.config import MODES, Profile, load_profile
from ivlm_core.errors import CheckpointError, ConfigError, IvlmError, shown
from ivlm_core.lift import lift_masks
from ivlm_core.localize import NO_CAMERA, Localizer, covered_patches, resize_masks
from ivlm_core.model_files import checkpoint_of
from ivlm_core.objects import (
    ObjectLibrary,
    ObjectMatch,
    default_vertices,
    find_object,
    library_mesh,
    normalize_for_views,
    open_library,
)
from ivlm_core.reason import (
    ContactTokenizer,
    Question,
    Reasoner,
    Reasoning,
    affordance_in,
    mode_questions,
    pictures_of_people,
    quantize_language_model,
)
from ivlm_core.render import HUMAN_VIEWS, OBJECT_VIEWS, load_or_build_view_pack
from ivlm_core.storage import ArrayCache
from ivlm_core.types import (
    Frame,
    FrameResult,
    HumanContact,
    ImageContact,
    Mesh,
    ObjectAffordance,
    ObjectQuery,
    Reconstruction,
    Unanswered,
    ViewPack,
)

if TYPE_CHECKING:
    from ivlm_core.reconstruct import Reconstructor, SceneSettings

MAX_QUERIES = 32
STAGES = ("reason", "render", "localize", "lift", "reconstruct")
QUANTIZATIONS = ("none", "int8")
GRAPHS = ("auto", "off")
# The modes that need the objects' meshes.
OBJECT_MODES = ("joint", "affordance", "object_contact")
# The modes whose objects can be put into the scene.
SCENE_MODES = ("joint", "human", "affordance", "object_contact")
# Objects whose meshes are remembered, so that one object keeps its mesh from frame to frame.
OBJECTS_REMEMBERED = 64
# Objects whose views and embeddings stay in memory; about 10 MB each at `tiny`.
OBJECTS_IN_MEMORY = 16


# The object that a person stands on or leans against when no object is named.
SCENE = "scene"
# The label of a contact with whichever of the objects.
ANY = "any object"


@dataclass(frozen=True)
class _Asked:
    """One question about one object, and the answer to it. `number` is the query's place in its frame."""

    number: int
    query: ObjectQuery
    question: Question
    answer: Reasoning


@dataclass(frozen=True)
class _Views:
    """What is kept of one mesh: its views, their (J, D, h, w) embedding, and the patches to decode (None for all)."""

    pack: ViewPack
    embedding: Tensor
    patches: Tensor | None


class Pipeline:
    """The whole method for one model on one device. Make it with `Pipeline.load`; `run` may be called by any thread.

    Attributes
    ----------
    profile : sizes and choices of the model.
    body : the body model that human contact is given on.
    body_views : its view pack.
    mode, reasoning : what is asked, and how (see `load`).
    weights_hash : 16 hex digits that change with any weight.
    """

    def __init__(
        self,
        profile: Profile,
        model: nn.ModuleDict,
        body: BodyModel,
        cache: ArrayCache,
        reasoning: str = "parts",
        mode: str = "joint",
        output: tuple[BodyModel, BodyMap] | None = None,
        weights: str | None = None,
        library: ObjectLibrary | None = None,
        reconstructor: Reconstructor | None = None,
    ) -> None:
        if reconstructor is not None and mode not in SCENE_MODES:
            raise ConfigError(
                "reconstruct", f"is asked for in the mode {shown(mode)}", f"choose {', '.join(SCENE_MODES)}"
            )
        self.profile = profile
        self._predicted = body
        self.body = output[0] if output else body
        self.reasoning = reasoning
        self.mode = mode
        self.weights_hash = weights or weights_hash(model)
        self._model = model.eval()
        self._cache = cache
        self._lock = threading.Lock()
        self._objects: OrderedDict[str, _Views] = OrderedDict()
        self._library, self._reconstructor = library, reconstructor
        self._matches: OrderedDict[tuple[str, str], ObjectMatch] = OrderedDict()
        self._questions(ObjectQuery("object"))  # a wrong mode fails here, not at the first frame
        self._body = self._views(body.mesh, human=True)
        self._body_map = output[1] if output else None
        self.body_views = self._view_pack(self.body.mesh, human=True) if output else self._body.pack

    @classmethod
    def load(
        cls,
        model: str | Path = "tiny",
        device: str = "auto",
        dtype: str = "auto",
        reasoning: str = "parts",
        mode: str = "joint",
        cache_dir: Path | None = None,
        body: str = "anny",
        body_path: Path | None = None,
        quantize: str = "none",
        graphs: str = "auto",
        output_body: str = "",
        output_body_path: Path | None = None,
        body_map_path: Path | None = None,
        library: Path | None = None,
        reconstruct: bool | SceneSettings = False,
        tracking: bool = True,
        sam: Path | None = None,
    ) -> Pipeline:
        """Load a model and prepare everything that does not depend on a frame.

        Parameters
        ----------
        model : `tiny`, a released profile whose converted checkpoint lies in the model directory (`ivlm doctor`), or
            a checkpoint directory.
        device : `auto` (CUDA when there is one), `cpu`, `cuda` or `cuda:N`.
        dtype : `auto` (bfloat16 on CUDA, float32 on a CPU), `float32` or `bfloat16`.
        reasoning : `parts` (body parts and affordance are named first) or `direct` (the region alone; faster).
        mode : `joint` (human contact and affordance per object), `human` (human contact per object), `binary` (human
            contact with any of the objects), `scene` (human contact with ground and surroundings; no object needed),
            `affordance` or `object_contact` (object side alone), `image` (human contact on the picture itself).
        cache_dir : where renders and view embeddings are kept; None for the user's cache directory.
        quantize : `none`, or `int8` for int8 weights in the language model (half the memory, slightly other answers).
        body, body_path : body model that contact is predicted on, and its file where it is not shipped (see
            `load_body`).
        graphs : `auto` (on CUDA the short passes of the language model are captured once and replayed) or `off`.
        output_body, output_body_path : body model that human contact is converted to; empty for none.
        body_map_path : a map from `body` to `output_body` (see `load_body_map`); None to compute one.
        library : folder of an object library (`ivlm objects`), looked into before the built-in one.
        reconstruct : whether objects are fitted into the scene; of each frame that needs the camera's intrinsics and
            a posed body or keypoints; or the settings to do so with. tracking : whether a fit goes on from the last
            frame's pose, where no settings are given.
        sam : file with the weights of the Segment Anything model, for the masks of objects that have only a box; None
            to cut them out by their colours.

        Raises
        ------
        ConfigError : a parameter is out of its range.  CheckpointError : the weights or tokenizer do not fit.
        MeshError : the file of a body or of a map cannot be read or does not fit.
        IvlmError : the device has too little memory.
        """
        predicted, cache = load_body(body, body_path), ArrayCache(cache_dir)
        output = _output(predicted, output_body, output_body_path, body_map_path, cache)
        if graphs not in GRAPHS:
            raise ConfigError("graphs", f"is {shown(graphs)}", f"choose {' or '.join(GRAPHS)}")
        if not reconstruct and sam is not None:
            raise ConfigError("sam", "is given, and nothing is to be fitted", "set reconstruct, or leave it out")
        meshes = open_library(library) if library is not None else None
        directory = checkpoint_of(model)
        profile = load_profile(directory)
        target, precision = _device(device), _precision(dtype, device)
        tokenizer = ContactTokenizer(directory / "tokenizer.json", profile.tokens)
        modules = build_model(profile, tokenizer, empty=True)
        if quantize not in QUANTIZATIONS:
            raise ConfigError("quantize", f"is {shown(quantize)}", f"choose {' or '.join(QUANTIZATIONS)}")
        reasoner = cast(Reasoner, modules["reason"])
        reasoner.steps.mode = cast(Literal["auto", "off"], graphs)
        numbers = sum(parameter.numel() for parameter in modules.parameters())
        memory = _memory_errors(
            f"while the {numbers / 1e9:.1f} billion weights of {profile.name} are loaded, "
            f"{numbers * precision.itemsize / 2**30:.1f} GiB as {str(precision).removeprefix('torch.')}",
            "use dtype bfloat16, quantize int8, a smaller model, or device cpu",
        )
        with memory:
            load_weights(directory, modules, "cpu" if quantize == "int8" else target, precision)
            if quantize == "int8":
                # Before anything moves, so that the device never has to hold the large weights.
                quantize_language_model(reasoner.llava)
            return cls(
                profile,
                cast(nn.ModuleDict, place(modules, target, precision)),
                predicted,
                cache,
                reasoning,
                mode,
                output=output,
                weights=checkpoint_hash(directory, str(precision), quantize),
                library=meshes,
                reconstructor=_reconstructor(
                    cache, reconstruct, tracking, sam, (predicted, *(output or ())[:1]), target
                ),
            )

    def forget(self) -> None:
        """Answer the next frame as a fresh pipeline would, to the last bit, whatever was asked before."""
        with self._lock:
            self._reasoner.forget()
            self._matches.clear()
            if self._reconstructor is not None:
                self._reconstructor.forget()

    def digest(self) -> str:
        """16 hex digits of the weights alone, wherever they were loaded from; reads all of them."""
        return weights_hash(self._model)

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
    def run(
        self,
        frame: Frame,
        queries: Sequence[ObjectQuery],
        follow: bool = True,
        begins: Callable[[str], None] | None = None,
    ) -> FrameResult:
        """Where the person in the image touches each object, by the pipeline's mode.

        Parameters
        ----------
        frame : the image.
        queries : the objects asked about, at most 32; none gives an empty result, except in the mode `scene`.
        follow : whether the frame belongs to the stream in which objects and people are followed by their identifiers;
            if not, it is fitted by itself.
        begins : told the name of every stage of `STAGES` before it begins; what it raises ends the run.

        Returns
        -------
        one contact per query and side that the model answered, in the order of the queries; in the mode `binary` one
        human contact of each person, the vertex-wise maximum over the objects, which at any threshold is the union of
        theirs.

        Raises
        ------
        IvlmError : a query's mesh cannot be loaded, there are too many queries, the weights give NaN, or the device is
            out of memory.
        """
        if len(queries) > MAX_QUERIES:
            raise ConfigError("objects", f"are {len(queries)}", f"ask about at most {MAX_QUERIES} in one frame")
        if self.mode == "scene":
            queries = [ObjectQuery(SCENE)]
        seconds: dict[str, float] = {}
        memory = _memory_errors(
            f"at {len(queries)} objects with {self.profile.name}",
            "ask about fewer objects at once, use a smaller model, dtype bfloat16 or quantize int8",
            self._reasoner.steps.release,
        )
        with self._lock, memory, _timed(seconds, "total"):
            matches = self._find_objects(frame, queries, follow)
            with _timed(seconds, "reason", begins):
                asked = self._reason(frame, queries)
            with _timed(seconds, "render", begins):
                objects = [self._object_views(match.mesh) for match in matches] if self.mode in OBJECT_MODES else []
            answered = [item for item in asked if item.answer.embedding is not None]
            bodies = [item for item in answered if item.question.side == "human"]
            pictures = [item for item in answered if item.question.side == "general"]
            things = [
                (item, matches[item.number], objects[item.number])
                for item in answered
                if item.question.side == "object"
            ]
            with _timed(seconds, "localize", begins):
                body_masks = self._localize(bodies, self._body)
                thing_masks = [
                    None if self._known_object(match) else self._localize([item], views)
                    for item, match, views in things
                ]
                picture_masks = self._localize_on_photo(pictures, frame)
            with _timed(seconds, "lift", begins):
                human = self._corrected(bodies, self._lift(body_masks, self._body.pack))
                if self._body_map is not None:
                    human = self._body_map.convert(human)
                lifted = [
                    self._lift_object(item, match, masks, views.pack)
                    for masks, (item, match, views) in zip(thing_masks, things, strict=True)
                ]
            self._check_numbers((human, *lifted, picture_masks), answered)
            human_contacts = [
                self._human_contact(item, probability) for item, probability in zip(bodies, human, strict=True)
            ]
            affordances = [
                _object_affordance(item, match, views.pack, probability)
                for (item, match, views), probability in zip(things, lifted, strict=True)
            ]
            scene: tuple[Reconstruction, ...] = ()
            if self._reconstructor is not None:
                touched = {item.number: contact for item, contact in zip(bodies, human_contacts, strict=True)}
                used = {item.number: affordance for (item, _, _), affordance in zip(things, affordances, strict=True)}
                with _timed(seconds, "reconstruct", begins):
                    scene = self._reconstruct(frame, queries, matches, touched, used, follow)
        if self.mode == "binary":
            people = dict.fromkeys(contact.person_id for contact in human_contacts)
            human_contacts = [
                self._union([contact for contact in human_contacts if contact.person_id == name]) for name in people
            ]
        return FrameResult(
            human_contacts=tuple(human_contacts),
            object_affordances=tuple(affordances),
            unanswered=tuple(_unanswered(item) for item in asked if item.answer.embedding is None),
            image_contacts=tuple(
                _image_contact(item, probability) for item, probability in zip(pictures, picture_masks, strict=True)
            ),
            reconstructions=scene,
            seconds=seconds,
            model=self.profile.name,
            stamp_ns=frame.stamp_ns,
            frame_id=frame.frame_id,
        )

    def _find_objects(self, frame: Frame, queries: Sequence[ObjectQuery], follow: bool) -> list[ObjectMatch]:
        """The mesh of every query; where objects are put into the scene, the one that looks most like the picture's."""
        if self._reconstructor is None:
            if self.mode not in OBJECT_MODES:
                return []
            return [find_object(query, library=self._library) for query in queries]
        if not follow:
            return [find_object(query, frame, self._library) for query in queries]
        return [self._remembered(frame, query) for query in queries]

    def _remembered(self, frame: Frame, query: ObjectQuery) -> ObjectMatch:
        """An object with an identifier keeps the mesh that was chosen when it was first seen."""
        key = (query.object_id, query.label)
        if not query.object_id or query.mesh is not None or frame.intrinsics is None:
            # Without a camera, sizes are not known: what is chosen now may be wrong.
            return find_object(query, frame, self._library)
        if key not in self._matches:
            self._matches[key] = find_object(query, frame, self._library)
            if len(self._matches) > OBJECTS_REMEMBERED:
                self._matches.popitem(last=False)
        self._matches.move_to_end(key)
        return self._matches[key]

    def _reconstruct(
        self,
        frame: Frame,
        queries: Sequence[ObjectQuery],
        matches: Sequence[ObjectMatch],
        touched: Mapping[int, HumanContact],
        used: Mapping[int, ObjectAffordance],
        follow: bool,
    ) -> tuple[Reconstruction, ...]:
        """Every query's object in the scene."""
        from ivlm_core.reconstruct import FitRequest

        requests = []
        for number, (query, match) in enumerate(zip(queries, matches, strict=True)):
            contact, affordance = touched.get(number), used.get(number)
            requests.append(
                FitRequest(
                    query,
                    match.mesh,
                    contact.probability if contact is not None else None,
                    self.body,
                    affordance.probability if affordance is not None else None,
                    match.scale,
                )
            )
        assert self._reconstructor is not None
        reconstructor = self._reconstructor if follow else self._reconstructor.once()
        # Poses are found along gradients.
        with torch.inference_mode(False), torch.enable_grad():
            scene = reconstructor.run(frame, requests)
        return tuple(
            replace(
                fitted,
                mesh_resource=match.resource,
                mesh_source=match.source,
                notes=(match.note, *fitted.notes) if match.note else fitted.notes,
            )
            for fitted, match in zip(scene, matches, strict=True)
        )

    @property
    def _reasoner(self) -> Reasoner:
        return self._model["reason"]  # type: ignore[return-value]

    @property
    def _localizer(self) -> Localizer:
        return self._model["localize"]  # type: ignore[return-value]

    def _questions(self, query: ObjectQuery) -> tuple[Question, ...]:
        if self.mode in MODES and self.mode not in self.profile.modes:
            raise ConfigError(
                "mode",
                f"{self.mode!r} is not what {self.profile.name} was trained for",
                f"choose {', '.join(self.profile.modes)}",
            )
        quoted = "object_prompt_quotes" in self.profile.released_quirks
        return mode_questions(query.label, PART_NAMES, self.mode, self.reasoning, quoted)

    def _reason(self, frame: Frame, queries: Sequence[ObjectQuery]) -> list[_Asked]:
        """All questions about all queries and their answers, in one batch over the image's prefix; person by person
        where there are several.
        """
        asked: list[_Asked] = []
        for picture, numbers in pictures_of_people(frame.image, queries):
            pairs = [(number, question) for number in numbers for question in self._questions(queries[number])]
            prefix = self._reasoner.encode_image(picture)
            answers = self._reasoner.answer(prefix, [question for _, question in pairs])
            asked += [
                _Asked(number, queries[number], question, answer)
                for (number, question), answer in zip(pairs, answers, strict=True)
            ]
        return sorted(asked, key=lambda item: item.number)

    def _localize(self, items: Sequence[_Asked], views: _Views) -> Tensor | None:
        """(K, J, h, w) mask logits of K answers of one side on one mesh, or None without any."""
        if not items:
            return None
        cameras = views.pack.camera_parameters
        side = items[0].question.side
        if side == "object" and "object_camera_distance" in self.profile.released_quirks:
            cameras = np.concatenate([np.full_like(cameras[:, :1], 2.0), cameras[:, 1:]], axis=1)
        branches = [item.answer.branch for item in items]
        return self._localizer(_embeddings(items), cameras, views.embedding, side, branches, views.patches)

    def _localize_on_photo(self, items: Sequence[_Asked], frame: Frame) -> np.ndarray:
        """(K, H, W) contact probability on the frame's own pixels."""
        if not items:
            return np.zeros((0, *frame.image.shape[:2]), dtype=np.float32)
        embedding, fitted = self._localizer.encode_photo(frame.image)
        cameras = np.tile(np.array(NO_CAMERA, dtype=np.float32), (self.profile.localize.views, 1))
        branches = [item.answer.branch for item in items]
        masks = self._localizer(_embeddings(items), cameras, embedding, "general", branches)  # (K, 1, h, w)
        height, width = frame.image.shape[:2]
        logits = resize_masks(masks, self._localizer.image_size, fitted, (height, width))
        return torch.sigmoid(logits[:, 0]).cpu().numpy()

    def _lift(self, masks: Tensor | None, pack: ViewPack) -> np.ndarray:
        """(K, V) contact per vertex; no rows without masks."""
        if masks is None:
            return np.zeros((0, len(pack.mesh.vertices)), dtype=np.float32)
        human = pack is self._body.pack
        threshold = None if human else self.profile.lift.object_vote_threshold
        return lift_masks(masks, pack, self.profile.lift.method, threshold).cpu().numpy()

    def _check_numbers(self, contact: Sequence[np.ndarray], answered: Sequence[_Asked]) -> None:
        """Damaged weights make NaN of what they touch, which is neither contact nor the absence of it."""
        sure = all(np.isfinite(item.answer.confidence) for item in answered)
        if not (sure and all(np.isfinite(values).all() for values in contact)):
            raise CheckpointError(
                f"model {self.profile.name}",
                "gives values that are NaN or infinite",
                "its weights are damaged: copy them again",
            )

    def _corrected(self, items: Sequence[_Asked], lifted: np.ndarray) -> np.ndarray:
        """Lifted contact (K, V) of the body with what the model's vertex branch knows beside it, where it has one."""
        branch = self._localizer.vertex_branch
        if branch is None or not items or self._predicted.name != "anny":
            return lifted
        return branch(_embeddings(items), torch.from_numpy(lifted).to(self.device)).cpu().numpy()

    def _known_object(self, match: ObjectMatch) -> tuple[str, np.ndarray] | None:
        """The category of a mesh that the branch of objects knows, and its vertices there; None where masks speak."""
        branch = self._localizer.object_branch
        found = default_vertices(match.entry, match.mesh) if branch is not None else None
        if branch is None or found is None or not branch.knows(found[0], len(library_mesh(found[0]).vertices)):
            return None
        return found

    def _lift_object(self, item: _Asked, match: ObjectMatch, masks: Tensor | None, pack: ViewPack) -> np.ndarray:
        """(V,) contact of an object: from its masks, or where they were not drawn, from the branch that knows it."""
        known = self._known_object(match) if masks is None else None
        if known is None:
            return self._lift(masks, pack)[0]
        branch = self._localizer.object_branch
        assert branch is not None
        contact = branch(known[0], _embeddings([item]), torch.from_numpy(known[1]).to(self.device))
        return cast(np.ndarray, contact[0].cpu().numpy())

    def _human_contact(self, item: _Asked, probability: np.ndarray) -> HumanContact:
        return HumanContact(
            object_label=item.query.label,
            probability=probability,
            body_model=self.body.name,
            mesh=self.body.mesh,
            views=self.body_views,
            body_parts=self.body.part_scores(probability),
            answer=item.answer.answer,
            confidence=item.answer.confidence,
            object_id=item.query.object_id,
            person_id=item.query.person_id,
        )

    def _union(self, contacts: Sequence[HumanContact]) -> HumanContact:
        """Contact with any object: the maximum per vertex, so that thresholding it is the union at that threshold."""
        probability = np.max([contact.probability for contact in contacts], axis=0)
        return replace(
            contacts[0],
            object_label=ANY,
            object_id="",
            probability=probability,
            body_parts=self.body.part_scores(probability),
            answer=" ".join(contact.answer for contact in contacts),
            confidence=min(contact.confidence for contact in contacts),
        )

    def _object_views(self, mesh: Mesh) -> _Views:
        """What is kept of an object's mesh, from memory, from disk, or made now."""
        key = mesh.content_hash
        if key not in self._objects:
            self._objects[key] = self._views(normalize_for_views(mesh), human=False)
            if len(self._objects) > OBJECTS_IN_MEMORY:
                self._objects.popitem(last=False)
        self._objects.move_to_end(key)
        return self._objects[key]

    def _views(self, mesh: Mesh, human: bool) -> _Views:
        pack = self._view_pack(mesh, human)
        sam = self.profile.sam
        patches = None
        if self.profile.localize.patches == "covered":
            patches = covered_patches(pack, sam.image_size // sam.patch_size).to(self.device)
        return _Views(pack, self._view_embedding(pack), patches)

    def _view_pack(self, mesh: Mesh, human: bool) -> ViewPack:
        distance = self.profile.views.object_distance
        near = {name: replace(spec, distance=distance) for name, spec in OBJECT_VIEWS.items()}
        views = HUMAN_VIEWS if human else near
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


def _embeddings(items: Sequence[_Asked]) -> Tensor:
    """(K, D) of answers that have one."""
    return torch.stack([item.answer.embedding for item in items if item.answer.embedding is not None])


def _object_affordance(item: _Asked, match: ObjectMatch, pack: ViewPack, probability: np.ndarray) -> ObjectAffordance:
    return ObjectAffordance(
        object_label=item.query.label,
        probability=probability,
        mesh=match.mesh,
        views=pack,
        affordance=affordance_in(item.answer.answer),
        answer=item.answer.answer,
        confidence=item.answer.confidence,
        mesh_resource=match.resource,
        mesh_source=match.source,
        object_id=item.query.object_id,
        person_id=item.query.person_id,
        number=item.number,
    )


def _image_contact(item: _Asked, probability: np.ndarray) -> ImageContact:
    return ImageContact(
        object_label=item.query.label,
        probability=probability,
        answer=item.answer.answer,
        confidence=item.answer.confidence,
        object_id=item.query.object_id,
    )


def _unanswered(item: _Asked) -> Unanswered:
    reason = f"no contact token in the answer {shown(item.answer.answer)}"
    return Unanswered(item.query.label, reason, item.question.side, item.query.object_id)


def _output(
    predicted: BodyModel, name: str, path: Path | None, map_path: Path | None, cache: ArrayCache
) -> tuple[BodyModel, BodyMap] | None:
    """The body that contact is converted to and the way there; None where it stays on the predicted one."""
    if not name:
        for field, given in (("output_body_path", path), ("body_map_path", map_path)):
            if given is not None:
                raise ConfigError(field, "is given without output_body", "name the body model, too, or leave it out")
        return None
    try:
        target = load_body(name, path)
    except ConfigError as error:
        field = "output_body_path" if "path" in error.field else "output_body"
        raise ConfigError(field, error.problem, error.remedy) from error
    return target, load_body_map(map_path, predicted, target) if map_path else body_map(predicted, target, cache)


def _reconstructor(
    cache: ArrayCache,
    wanted: bool | SceneSettings,
    tracking: bool,
    sam: Path | None,
    bodies: Sequence[BodyModel],
    device: torch.device,
) -> Reconstructor | None:
    """What puts objects into the scene, if it is wanted; imported late, because it brings Open3D."""
    if not wanted:
        return None
    from ivlm_core.reconstruct import Reconstructor, SamSegmenter, SceneSettings

    segmenter = SamSegmenter(sam, str(device)) if sam is not None else None
    settings = SceneSettings(tracking=tracking) if wanted is True else wanted
    return Reconstructor(settings, cache, segmenter, {body.name: body for body in bodies})


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
def _timed(seconds: dict[str, float], stage: str, begins: Callable[[str], None] | None = None) -> Iterator[None]:
    if begins is not None:
        begins(stage)
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] = time.perf_counter() - start


@contextmanager
def _memory_errors(doing: str, remedy: str, release: Callable[[], None] | None = None) -> Iterator[None]:
    """Says what a full device was doing, how much it holds, and what to lower; `release` gives back what can be."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        free, total = torch.cuda.mem_get_info()
        if release is not None:
            release()
        torch.cuda.empty_cache()
        raise IvlmError(
            "device",
            f"is out of memory {doing} ({free / 2**30:.1f} of {total / 2**30:.1f} GiB free)",
            remedy,
        ) from error
