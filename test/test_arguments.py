"""Wrong options are one line that names the command, what is wrong with it, and where help is."""

from __future__ import annotations

import argparse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivlm_core.arguments import OneLineParser
from ivlm_core.cli import _parser


def refused(capsys: pytest.CaptureFixture[str], parser: argparse.ArgumentParser, *words: str) -> str:
    """The only line that is printed."""
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(words)
    output = capsys.readouterr()
    assert (ended.value.code, output.out) == (2, "")
    (line,) = output.err.splitlines()
    return line


@pytest.mark.parametrize(
    ("command", "words", "told"),
    [
        ("contact", "a.jpg --out x --mode humam", "--mode: invalid choice: 'humam' (choose from"),
        ("contact", "a.jpg", "the following arguments are required: --out"),
        ("contact", "a.jpg --object", "--object: expected one argument"),
        ("contact", "a.jpg extra --out x", "unrecognized argument extra"),
        ("contact", "a.jpg -q --out x", "unrecognized argument -q"),
        ("contact", "a.jpg --modle tiny", "unrecognized option --modle, did you mean --model?"),
        ("contact", "a.jpg --modle=tiny --out x", "unrecognized option --modle, did you mean --model?"),
        ("contact", "a.jpg --out x --xyzzy", "unrecognized option --xyzzy (see"),
        ("view", "bag --port abc", "--port: invalid int value: 'abc'"),
        ("replay", "bag --max-object 3 --modle x", "unrecognized option --modle, did you mean --model?"),
        ("objects add", "", "the following arguments are required: LIBRARY, MESH"),
        ("objects add", "library mesh --lable chair", "unrecognized option --lable, did you mean --label?"),
        ("objects", "ad", "ACTION: invalid choice: 'ad'"),
        ("synth generate", "x --splitt test", "unrecognized option --splitt, did you mean --split?"),
        ("synth", "--bagg x", "unrecognized option --bagg, did you mean --bag?"),
        ("", "contac a.jpg", "COMMAND: invalid choice: 'contac'"),
        ("", "--versio1 contact", "unrecognized option --versio1, did you mean --version?"),
        ("", "", "the following arguments are required: COMMAND"),
    ],
)
def test_wrong_arguments(capsys: pytest.CaptureFixture[str], command: str, words: str, told: str) -> None:
    name = f"ivlm {command}".strip()
    line = refused(capsys, _parser(), *command.split(), *words.split())
    assert line.startswith(f"{name}: {told}")
    assert line.endswith(f" (see '{name} --help')")


def test_text_that_steers_a_terminal_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, _parser(), "contact", "a.jpg", "--out", "x", "--evil\x1b[2J\n")
    assert line.isprintable()


@given(value=st.text(min_size=1, max_size=20).filter(lambda text: not text.startswith("-")))
def test_values_are_taken_as_they_are(value: str) -> None:
    parser = OneLineParser(prog="it")
    parser.add_argument("--label", action="append")
    parser.add_argument("name")
    found = parser.parse_args(["--label", value, f"--label=--{value}", "--", f"--{value}"])
    assert (found.label, found.name) == ([value, f"--{value}"], f"--{value}")


def test_beginnings_of_options_stand_for_them() -> None:
    parser = OneLineParser(prog="it")
    parser.add_argument("--threshold", type=float)
    assert parser.parse_args(["--thr", "-0.5"]).threshold == -0.5
