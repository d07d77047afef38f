"""Every stage of one frame, against the released code's way of doing it, in one run.

`python benchmarks/bench_engine.py` measures `tiny` on a CPU; `--profile interactvlm-13b --device cuda` the full
sizes with random weights made on the device. The baseline keeps no keys and values (every token runs the whole sequence
again), encodes all views again for every query, and answers one query at a time. Where there is no renderer, `--cache`
names a directory with view packs that were cached elsewhere. Neither Open3D nor the body models' packages nor ROS are
needed then.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import report
import torch
from torch import Tensor, nn

from ivlm_core import ViewPack
from ivlm_core.bodies import PART_NAMES, load_body
from ivlm_core.checkpoints import build_model
from ivlm_core.config import GenerationConfig, Profile, TokenConfig, load_profile
from ivlm_core.lift import lift_masks
from ivlm_core.localize import Localizer, covered_patches
from ivlm_core.reason import ContactTokenizer, Reasoner, clip_pixels, contact_questions
from ivlm_core.reason.prompts import SYSTEM
from ivlm_core.reason.static_step import StaticSteps
from ivlm_core.render import HUMAN_VIEWS, load_or_build_view_pack
from ivlm_core.storage import ArrayCache

LABELS = ("chair", "bottle", "cup", "book", "laptop", "backpack", "skateboard", "ball")


def random_model(profile: Profile, device: torch.device, dtype: torch.dtype) -> nn.ModuleDict:
    """The profile's modules with small random weights, made where they are used."""
    model = build_model(profile, ContactTokenizer(), empty=True)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            value = torch.empty(parameter.shape, device=device, dtype=dtype)
            scale = "norm" in type(module).__name__.lower() and name == "weight"
            setattr(module, name, nn.Parameter(value.fill_(1.0) if scale else value.normal_(std=0.02)))
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))
    return model.eval()


class Bench:
    """One model, one picture, one body, and both ways to get from the picture to contact."""

    def __init__(self, profile: Profile, device: torch.device, dtype: torch.dtype, cache: ArrayCache) -> None:
        self.model = random_model(profile, device, dtype)
        self.reasoner: Reasoner = self.model["reason"]  # type: ignore[assignment]
        self.localizer: Localizer = self.model["localize"]  # type: ignore[assignment]
        self.device, self.profile = device, profile
        self.image = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)
        body = load_body("anny").mesh
        self.pack: ViewPack = load_or_build_view_pack(body, HUMAN_VIEWS, profile.sam.image_size, "normals", cache)
        self.views = self.localizer.encode_views(self.pack.images)
        self.patches = None
        if profile.localize.patches == "covered":
            self.patches = covered_patches(self.pack, profile.sam.image_size // profile.sam.patch_size).to(device)

    def time(self, work: Callable[[], Any], repeats: int = 5) -> float:
        """Median ms, with the device's queue emptied."""

        def settled() -> None:
            work()
            if self.device.type == "cuda":
                torch.cuda.synchronize()

        return report.milliseconds(settled, repeats=repeats, warm=1)

    def questions(self, count: int) -> list[Any]:
        return [contact_questions(label, PART_NAMES)[0] for label in LABELS[:count]]

    def masks(self, embeddings: Tensor) -> Tensor:
        return self.localizer(embeddings, self.pack.camera_parameters, self.views, "human", patches=self.patches)

    @torch.inference_mode()
    def ours(self, count: int) -> Tensor:
        """(K, V) contact of K objects: one prefix, one batch, kept views; nothing remembered from the last frame."""
        self.reasoner._memory.clear()
        answers = self.reasoner.answer(self.reasoner.encode_image(self.image), self.questions(count))
        embeddings = torch.stack([answer.embedding for answer in answers if answer.embedding is not None])
        return lift_masks(self.masks(embeddings), self.pack, self.profile.lift.method)

    @torch.inference_mode()
    def again(self, count: int) -> Tensor:
        """The same in a video, where the last frame's answers are verified guesses."""
        answers = self.reasoner.answer(self.reasoner.encode_image(self.image), self.questions(count))
        embeddings = torch.stack([answer.embedding for answer in answers if answer.embedding is not None])
        return lift_masks(self.masks(embeddings), self.pack, self.profile.lift.method)

    @torch.inference_mode()
    def baseline(self, count: int) -> Tensor:
        """The same contacts, query by query, token by token, from nothing."""
        contacts = []
        for question in self.questions(count):
            answer = self.answers[question.text]
            state = self._plain(question, answer)
            embedding = self.reasoner.projection(state[None])
            views = self.localizer.encode_views(self.pack.images)
            masks = self.localizer(embedding, self.pack.camera_parameters, views, "human", patches=self.patches)
            contacts.append(lift_masks(masks, self.pack, self.profile.lift.method))
        return torch.cat(contacts)

    @torch.inference_mode()
    def token_ms(self, mode: str, rows: int, length: int = 384) -> float | None:
        """Milliseconds of one pass over one token of each row, behind `length` tokens.

        Parameters
        ----------
        mode : `growing` (keys and values are put together anew in each pass), `eager` (fixed slots), or `graph`
            (replayed; None where nothing could be captured).
        """
        reasoner = self.reasoner
        ids = torch.randint(3, 200, (1, length), device=self.device)
        prefix = reasoner._extend(None, reasoner.llava.get_input_embeddings()(ids))
        token = torch.full((rows, 1), 7, device=self.device)
        place = torch.full((rows, 1), length, device=self.device)
        mask = torch.ones(rows, length + 1, dtype=torch.long, device=self.device)
        steps = StaticSteps("off" if mode == "growing" else "always")
        steps.graphs = mode == "graph"
        step = steps.start(reasoner.llava.model.language_model, prefix.cache, length, rows, length + 64)
        if step is None:
            cache = prefix.cache
            cache.batch_repeat_interleave(rows)
            grow = reasoner._growing_step(cache)

            def step(*given: Tensor) -> Tensor:
                states = grow(*given)
                # Cutting back costs nothing; the next pass copies what is left, as it would otherwise.
                cache.crop(-1)
                return states

        took = self.time(lambda: step(token, mask, place), repeats=15)
        return None if mode == "graph" and not steps.replays else round(took, 3)

    def prepare(self, count: int) -> None:
        """Learn which tokens each answer has, for the baseline to write the same ones."""
        reasoner = self.reasoner
        asked = self.questions(count)
        given = reasoner.answer(reasoner.encode_image(self.image), asked)
        spelled = [reasoner.tokenizer.encode(" " + answer.answer) for answer in given]
        self.answers = {question.text: ids for question, ids in zip(asked, spelled, strict=True)}
        self.tokens = sum(map(len, spelled)) / len(spelled)

    def _plain(self, question: Any, answer: list[int]) -> Tensor:
        tokenizer = self.reasoner.tokenizer
        head = [tokenizer.bos, *tokenizer.encode(SYSTEM + " USER:"), tokenizer.image_start]
        prompt = [tokenizer.image_end, *tokenizer.encode(f"\n{question.text} ASSISTANT:")]
        pixels = clip_pixels(self.image, self.profile.vision).to(self.device, self.reasoner.dtype)
        for written in range(len(answer)):
            features = self.reasoner.image_features(pixels)
            parts = [self.reasoner._embed(head), features, self.reasoner._embed([*prompt, *answer[:written]])]
            states = self.reasoner.llava.model.language_model(
                inputs_embeds=torch.cat(parts, dim=1), use_cache=False
            ).last_hidden_state
            self.reasoner.llava.lm_head(states[:, -1])
        return states[0, -1]


def limits(bench: Bench) -> dict[str, float]:
    """What the hardware allows: reading the language model's weights once, and its matrix rate."""
    weights = sum(
        parameter.numel() * parameter.element_size()
        for parameter in bench.reasoner.llava.model.language_model.parameters()
    )
    if bench.device.type == "cuda":
        big = torch.empty(1 << 28, device=bench.device, dtype=torch.float32)
        bandwidth = 2 * big.numel() * 4 / (bench.time(lambda: big.clone(), repeats=9) / 1e3)
    else:
        bandwidth = report.copy_bandwidth()
    side = 8192 if bench.device.type == "cuda" else 1024
    left = torch.randn(side, side, device=bench.device, dtype=bench.reasoner.dtype)
    rate = 2 * side**3 / (bench.time(lambda: left @ left, repeats=5) / 1e3)
    return {"token_limit_ms": weights / bandwidth * 1e3, "bandwidth_gb_s": bandwidth / 1e9, "tflops": rate / 1e12}


def main() -> None:
    parser = report.parser(__doc__ or "")
    parser.add_argument("--profile", default="tiny")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cache", type=Path, help="directory with cached view packs")
    options = parser.parse_args()
    device = torch.device(options.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    profile = load_profile(options.profile)
    # Random weights know no grammar; the tokens are those of the shipped tokenizer, the sizes those of the profile.
    profile = dataclasses.replace(profile, tokens=TokenConfig(), generation=GenerationConfig(96, guided=True))
    torch.manual_seed(0)
    bench = Bench(profile, device, dtype, ArrayCache(options.cache))
    with torch.inference_mode():
        bench.prepare(len(LABELS))
        reasoner, localizer = bench.reasoner, bench.localizer
        prefix = reasoner.encode_image(bench.image)
        pixels = clip_pixels(bench.image, profile.vision).to(device, dtype)
        embeddings = torch.randn(1, profile.sam.prompt_dim, device=device, dtype=dtype)
        masks = bench.masks(embeddings)
        question = bench.questions(1)

        def answer_once() -> None:
            reasoner._memory.clear()
            reasoner.answer(prefix, question)

        answering = bench.time(answer_once)
        passes = reasoner.passes
        stages = [
            ("image encode", bench.time(lambda: reasoner.image_features(pixels))),
            ("prefix (system prompt kept)", bench.time(lambda: reasoner.encode_image(bench.image))),
            (f"answer, {passes} passes", answering),
            ("  per pass", answering / passes),
            ("view encode, cold", bench.time(lambda: localizer.encode_views(bench.pack.images), repeats=3)),
            ("view encode, cached", 0.0),
            ("mask decode", bench.time(lambda: bench.masks(embeddings))),
            ("lift", bench.time(lambda: lift_masks(masks, bench.pack, profile.lift.method))),
        ]
        tokens = [(rows, *(bench.token_ms(mode, rows) for mode in ("growing", "eager", "graph"))) for rows in (1, 8)]
        totals = []
        for count in (1, 8):
            slow = bench.time(lambda count=count: bench.baseline(count), repeats=1 if count > 1 else 3)
            fast = bench.time(lambda count=count: bench.ours(count))
            video = bench.time(lambda count=count: bench.again(count))
            worst = float((bench.baseline(count) - bench.ours(count)).abs().max())
            totals.append((count, round(slow), round(fast, 1), round(video, 1), round(slow / fast, 1), f"{worst:.1e}"))
        hardware = limits(bench)
    report.show(
        f"stages, {options.profile}, {dtype}",
        ("stage", "ms"),
        [(name, round(value, 2)) for name, value in stages],
        None,
    )
    report.show(
        f"decode per token, {options.profile}, {dtype}, 384 tokens before it",
        ("rows", "growing cache ms", "fixed slots ms", "graph ms"),
        [tuple("none" if value is None else value for value in row) for row in tokens],
        None,
    )
    report.show(
        f"frame, {options.profile}, {dtype}, {bench.tokens:.0f} tokens an answer",
        ("objects", "baseline ms", "ours ms", "ours in video ms", "ratio", "max difference"),
        totals,
        options.json,
        stages=dict(stages),
        token_ms=[dict(zip(("rows", "growing", "eager", "graph"), row, strict=True)) for row in tokens],
        graph_passes=reasoner.steps.replays,
        slots_gib=round(reasoner.steps.bytes / 2**30, 2),
        eight_over_one=round(totals[1][2] / totals[0][2], 2),
        pass_share_of_limit=round(hardware["token_limit_ms"] / (answering / passes), 3),
        **{name: round(value, 3) for name, value in hardware.items()},
    )


if __name__ == "__main__":
    main()
