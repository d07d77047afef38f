"""The documentation is true: its examples run, its links, commands and names exist, its rules and sentences hold."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import yaml
from PIL import Image

from ivlm_core.arguments import OneLineParser
from ivlm_core.cli import _parser

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")])
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}

# An example that begins with this says what the reader brings; it is compiled, not run.
NEEDS = "# needs "
# Examples of pages that say it in their text instead: page and first line → what is missing.
NOT_RUN = {("README.md", "fitted = result.reconstructions[0]"): "a frame with a camera and a person"}

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")


def examples(page: str) -> list[str]:
    return [body for language, body in FENCE.findall(TEXTS[page]) if language == "python"]


def prose(page: str) -> str:
    return FENCE.sub("", TEXTS[page])


@pytest.mark.parametrize("page", [page for page in TEXTS if examples(page)])
def test_examples_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The one file that every reader has.
    Image.fromarray(np.full((480, 640, 3), 127, np.uint8)).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__docs__"}
    for number, body in enumerate(examples(page)):
        code = compile(body, f"{page}, example {number + 1}", "exec")
        if not body.startswith(NEEDS) and (page, body.splitlines()[0]) not in NOT_RUN:
            exec(code, names)


def test_examples_that_are_left_out_are_there() -> None:
    first_lines = {(page, body.splitlines()[0]) for page in TEXTS for body in examples(page)}
    assert NOT_RUN.keys() <= first_lines


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    plain = LINK.sub(lambda match: match["text"], heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def anchors(text: str) -> set[str]:
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)}


@pytest.mark.parametrize("page", TEXTS)
def test_links_lead_somewhere(page: str) -> None:
    for match in LINK.finditer(prose(page)):
        target, _, anchor = match["target"].partition("#")
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        place = (ROOT / page).parent / target if target else ROOT / page
        assert place.exists(), f"{page} links to {match['target']}"
        if anchor and place.suffix == ".md":
            assert anchor in anchors(place.read_text(encoding="utf-8")), f"{page} links to {match['target']}"


def test_every_page_is_in_the_index() -> None:
    linked = {match["target"].partition("#")[0] for match in LINK.finditer(TEXTS["docs/README.md"])}
    pages = {page.removeprefix("docs/") for page in TEXTS if page.startswith("docs/")}
    assert pages - linked == {"README.md"}


@pytest.mark.parametrize("page", TEXTS)
def test_linked_functions_exist(page: str) -> None:
    for match in LINK.finditer(prose(page)):
        target = match["target"]
        if target.endswith(".py") and (named := re.fullmatch(r"`([\w.]+)`", match["text"])) and ".py" not in named[1]:
            source = ((ROOT / page).parent / target).read_text(encoding="utf-8")
            for name in named[1].split("."):
                assert re.search(rf"^\s*(?:def|class) {name}\b|^{name}\b.* = ", source, re.MULTILINE), (
                    f"{page}: {named[1]} is not in {target}"
                )


@pytest.mark.parametrize("page", TEXTS)
def test_named_files_exist(page: str) -> None:
    folders = "ivlm_core|ivlm_ros|test|docs|config|scripts|benchmarks|requirements|launch|msg|srv|action"
    for code in CODE.findall(prose(page)):
        # Upper-case parts stand for what the reader chooses.
        if re.fullmatch(rf"(?:{folders})/[a-z0-9_./-]+", code):
            assert (ROOT / code).exists(), f"{page} names {code}"


class Refused(Exception):
    """What the argument parser says instead of ending the program."""


def refuse(_parser: argparse.ArgumentParser, message: str) -> NoReturn:
    raise Refused(message)


def command_lines(page: str) -> Iterator[tuple[list[str], bool]]:
    """The arguments of every `ivlm` command, and whether it is one to be typed as it stands."""
    for language, body in FENCE.findall(TEXTS[page]):
        if language in ("", "sh", "bash", "shell"):
            for line in body.replace("\\\n", " ").splitlines():
                yield from ((words, True) for words in ivlm_words(line))
    for code in CODE.findall(prose(page)):
        yield from ((words, False) for words in ivlm_words(code.replace("\\|", "|")))


def ivlm_words(line: str) -> Iterator[list[str]]:
    for part in re.split(r"&&|;| \| ", line):
        try:
            words = shlex.split(part, comments=True)
        except ValueError:  # an apostrophe: what a program prints, not a command
            continue
        while words and re.fullmatch(r"\w+=\S*", words[0]):
            words = words[1:]
        if words[:1] == ["ivlm"]:
            yield words[1:]


def alternatives(words: list[str]) -> list[list[str]]:
    """`add|index` are two commands; brackets hold what may be left out."""
    lines: list[list[str]] = [[]]
    for word in words:
        kept = word if "=" in word else word.strip("[]")
        choices = kept.split("|") if not kept.startswith("-") else [kept]
        lines = [[*line, choice] for line in lines for choice in choices]
    return lines


def parser_of(words: list[str]) -> tuple[argparse.ArgumentParser, list[str]]:
    """The parser of the innermost subcommand, and the words behind its name."""
    parser, rest = _parser(), list(words)
    while rest and (inner := [item for item in parser._actions if isinstance(item, argparse._SubParsersAction)]):
        if rest[0].startswith("-"):
            break
        assert rest[0] in inner[0].choices, f"there is no command {rest[0]!r}"
        parser, rest = inner[0].choices[rest[0]], rest[1:]
    return parser, rest


def filled(parser: argparse.ArgumentParser, rest: list[str]) -> list[str]:
    """Placeholders (N, SPLIT, DIR) as something that their option takes."""
    result, option = [], None
    for word in rest:
        if word.startswith("--"):
            option = parser._option_string_actions.get(word.partition("=")[0])
            assert option is not None, f"{parser.prog} has no option {word}"
        if option is not None and re.fullmatch(r"[A-Z][A-Z0-9_]*", word):
            word = str(next(iter(option.choices))) if option.choices else "1" if option.type in (int, float) else word
        result.append(word)
    return result


@pytest.mark.parametrize("page", TEXTS)
def test_commands_parse(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OneLineParser, "error", refuse)
    for typed, whole in command_lines(page):
        cut = "…" in typed
        for words in alternatives([word for word in typed if word != "…"]):
            told = f"{page}: ivlm {' '.join(words)}"
            try:
                parser, rest = parser_of(words)
                known = filled(parser, rest)
                _parser().parse_args([*words[: len(words) - len(rest)], *known])
            except AssertionError as error:
                pytest.fail(f"{told}: {error}")
            except Refused as error:
                # A mention need not be complete.
                assert cut or not whole, f"{told}: {error}"
                assert re.search("are required|expected .* argument", str(error)), f"{told}: {error}"
            except SystemExit:  # --help, --version
                pass


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page, text in TEXTS.items():
        named = re.findall(r"(?:^|`)make ([a-z-]+)", "\n".join(re.findall(r"`[^`]+`|^make .*", text, re.MULTILINE)))
        assert not set(named) - targets, f"{page}: make has no target of these names: {set(named) - targets}"


def test_launch_arguments_exist() -> None:
    parameters = set(yaml.safe_load((ROOT / "config" / "contact_node.yaml").read_text())["/**"]["ros__parameters"])
    launched = set(re.findall(r'"(\w+)"', (ROOT / "launch" / "contact.launch.py").read_text()))
    topics = set(re.findall(r"^\| in \| `(\w+)`", TEXTS["README.md"], re.MULTILINE))
    for page, text in TEXTS.items():
        # After `-r` or a slash or tilde it is a remapping of any name.
        named = set(re.findall(r"(?<![\w/~])(?<!-r )(\w+):=", text)) - {"__ns", "__node"}
        unknown = named - parameters - launched - topics
        assert not unknown, f"{page}: neither parameters, arguments nor topics: {unknown}"


def core_imports(package: str) -> set[str]:
    """The core's other packages that a package imports; scripts that build its assets left out."""
    folder, found = ROOT / "ivlm_core" / package, set()
    for path in folder.rglob("*.py"):
        if not path.name.startswith("build_"):
            found |= set(re.findall(r"(?:from|import) ivlm_core\.(\w+)", path.read_text(encoding="utf-8")))
    return {name for name in found - {package} if (ROOT / "ivlm_core" / name).is_dir()}


def test_rooms_import_what_the_page_allows() -> None:
    table = TEXTS["docs/architecture.md"].split("<!-- imports: begin")[1].split("<!-- imports: end")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", table, re.MULTILINE)
    assert {"reason", "render", "localize", "lift", "reconstruct"} <= {package for package, _ in rows}
    for package, allowed in rows:
        assert core_imports(package) <= set(re.findall(r"`(\w+)`", allowed)), package


# Parts of sentences end at these; what is between is compared word by word.
BREAKS = re.compile(r"[:;,.()…'\"*|`]|\d\S*|\S*[/_=]\S*")
# What a program puts into a sentence.
ANY = "⟨⟩"


def word_triples(text: str) -> set[tuple[str, ...]]:
    triples = set()
    for part in BREAKS.split(text):
        words = part.split()
        triples |= {tuple(words[place : place + 3]) for place in range(len(words) - 2)}
    return triples


@cache
def told_by_the_programs() -> frozenset[tuple[str, ...]]:
    """Every three words in a row of every text in the sources; `ANY` where something is put in."""
    triples = set()
    for path in [*ROOT.glob("ivlm_core/**/*.py"), *ROOT.glob("ivlm_ros/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [str(part.value) if isinstance(part, ast.Constant) else f" {ANY} " for part in node.values]
                triples |= word_triples("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                triples |= word_triples(node.value)
    for script in ("scripts/setup.sh", "env.sh"):
        triples |= word_triples((ROOT / script).read_text(encoding="utf-8").replace("\\\n", " "))
    return frozenset(triples)


# What other programs say.
OTHERS = ("command not found", "operator torchvision", "The message type")


def test_troubleshooting_quotes_the_programs_own_sentences() -> None:
    known = told_by_the_programs()
    quoted = 0
    for sentence in re.findall(r"`([^`]+)`", prose("docs/troubleshooting.md")):
        plain = " ".join(sentence.split())
        if any(other in plain for other in OTHERS) or re.match(r"(ivlm|ros2|docker|df|ls|ln|\. )", plain):
            continue
        for triple in word_triples(plain):
            gaps = [triple, *((*triple[:place], ANY, *triple[place + 1 :]) for place in range(3))]
            assert any(gap in known for gap in gaps), f"no program says {' '.join(triple)!r}, as in {plain!r}"
            quoted += 1
    assert quoted > 200
