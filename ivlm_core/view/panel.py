"""The page's texts as HTML. Whatever comes from a recording is escaped: a label is never markup."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from ivlm_core.draw import NEUTRAL_GREY, heat_colors
from ivlm_core.draw.answers import spoken
from ivlm_core.view.moments import Moment, Pair, PairAnswer

# Residuals as `Reconstruction.residuals` names them, for people.
RESIDUALS = {
    "mask_iou": ("outline and mask agree", "{:.0%}"),
    "contact_cm": ("between the contacts", "{:.1f} cm"),
    "penetration_cm": ("object inside the body", "{:.1f} cm"),
    "depth_cm": ("from the measured depth", "{:.1f} cm"),
}
SHOWN_PARTS, LEAST_SCORE = 6, 0.02
_MUTED, _STRONG = "color:#6b7480", "font-weight:600"
_STYLE = "padding:0 .8em .4em .8em;font-size:.84em;line-height:1.45;overflow-wrap:anywhere"


def answer_html(pair: Pair | None, answer: PairAnswer | None, moment: Moment, threshold: float) -> str:
    """What was found about the chosen pair."""
    if pair is None:
        return _block([_muted("Nothing was asked about in this image."), *_notes(moment)])
    title = f"<b style='font-size:1.2em'>{escape(pair.label or '(no label)')}</b>"
    about = [text for text in (pair.object_id, f"person {pair.person_id}" if pair.person_id else "") if text]
    lines = [f"<div>{title} {_span(' · '.join(about))}</div>"]
    if answer is None:
        return _block([*lines, _muted("Not answered in this image."), *_notes(moment)])
    for sentence, confidence in (
        (answer.sentence, answer.confidence),
        (answer.thing_sentence, answer.thing_confidence),
    ):
        if text := spoken(sentence):
            sure = "" if confidence is None else _span(f" {confidence:.0%}")
            lines.append(f"<div style='margin:.2em 0'>“{escape(text)}”{sure}</div>")
    lines += [_warning(reason) for reason in answer.missing]
    lines += _body_parts(answer, threshold)
    if answer.thing is not None and answer.thing.mesh is not None:
        share = float((answer.thing.values >= threshold).mean())
        kind = f"{answer.affordance}: " if answer.affordance else ""
        lines.append(_row("On the object", f"{kind}{share:.0%} of its vertices"))
    lines += _scene(answer)
    for heat in (answer.body, answer.thing, answer.true_body, answer.true_thing):
        if heat is not None and heat.note:
            lines.append(_warning(heat.note) if heat.mesh is None else _muted(heat.note))
    return _block([*lines, *_notes(moment)])


def time_html(moment: Moment, number: int, count: int, first_ns: int, source_notes: Iterable[str]) -> str:
    """Which image is shown."""
    lines = []
    if count > 1:
        lines.append(f"<b>{(moment.stamp_ns - first_ns) / 1e9:.2f} s</b> {_span(f'· image {number + 1} of {count}')}")
    if moment.camera_frame:
        lines.append(_span(f"camera {moment.camera_frame}"))
    if moment.model:
        lines.append(_span(f"model {moment.model}"))
    first = f"<div>{' · '.join(lines)}</div>" if lines else ""
    told = [_muted(text) for text in (moment.picture_note, *source_notes) if text]
    return _block([first, *told])


def legend_html() -> str:
    """The heat colours, and where values begin."""
    stops = heat_colors([0.0, 0.25, 0.5, 0.75, 1.0], (NEUTRAL_GREY,) * 3)
    colors = ", ".join("rgb({}, {}, {})".format(*(int(channel) for channel in stop)) for stop in stops)
    bar = f"<div style='height:.7em;border-radius:.3em;background:linear-gradient(to right, {colors})'></div>"
    scale = "<div style='display:flex;justify-content:space-between'><span>0</span><span>0.5</span><span>1</span></div>"
    told = "contact of the body, affordance of the object; green: usable, and held by nobody"
    return _block([bar, scale, _muted(told)])


def _body_parts(answer: PairAnswer, threshold: float) -> list[str]:
    if not answer.body_parts:
        return []
    shown = [part for part in answer.body_parts if part[1] >= LEAST_SCORE][:SHOWN_PARTS]
    rows = []
    for name, score in shown:
        share = min(max(score, 0.0), 1.0)
        color = "rgb({}, {}, {})".format(*(int(channel) for channel in heat_colors(share, (NEUTRAL_GREY,) * 3)))
        weight = _STRONG if score >= threshold else _MUTED
        rows.append(
            f"<tr><td style='padding:0 .6em 0 0;white-space:nowrap;{weight}'>{escape(name)}</td>"
            f"<td style='width:100%'><div style='height:.6em;border-radius:.2em;width:{100 * share:.1f}%;"
            f"min-width:1px;background:{color}'></div></td>"
            f"<td style='padding:0 0 0 .6em;text-align:right;white-space:nowrap;{weight}'>{score:.2f}</td></tr>"
        )
    return [f"<table style='width:100%;border-spacing:0;margin:.3em 0'>{''.join(rows)}</table>"]


def _scene(answer: PairAnswer) -> list[str]:
    lines = []
    if answer.placement is not None:
        right, down, forward = answer.placement.translation
        aside, height = "right" if right >= 0 else "left", "down" if down >= 0 else "up"
        lines.append(_row("Place", f"{abs(right):.2f} {aside}, {abs(down):.2f} {height}, {forward:.2f} m ahead"))
        lines.append(_row("Size", f"{answer.placement.scale:.2f} × the mesh's"))
        for name, value in answer.residuals.items():
            title, form = RESIDUALS.get(name, (name, "{:.3g}"))
            lines.append(_row(title.capitalize(), form.format(value)))
        if answer.regions:
            areas = ", ".join(f"{region.area_cm2:.0f} cm²" for region in answer.regions[:4])
            lines.append(_row("Free to grasp", areas))
    elif answer.pose_reason:
        lines.append(_warning(f"No pose: {answer.pose_reason}"))
    if answer.contact_area_cm2 is not None:
        lines.append(_row("Skin in contact", f"{answer.contact_area_cm2:.0f} cm²"))
    return [*lines, *(_muted(note) for note in answer.pose_notes)]


def _notes(moment: Moment) -> list[str]:
    return [_warning(note) for note in moment.notes]


def _row(name: str, value: str) -> str:
    return (
        f"<div style='display:flex;justify-content:space-between;gap:1em'>{_span(name)}"
        f"<span style='text-align:right'>{escape(value)}</span></div>"
    )


def _span(text: str) -> str:
    return f"<span style='{_MUTED}'>{escape(text)}</span>"


def _muted(text: str) -> str:
    return f"<div style='{_MUTED}'>{escape(text)}</div>"


def _warning(text: str) -> str:
    return f"<div style='color:#9a5b00'>⚠ {escape(text)}</div>"


def _block(lines: Iterable[str]) -> str:
    return f"<div style='{_STYLE}'>{''.join(lines)}</div>"
