"""Profiles are typed: every wrong key or value is named, and what is saved loads back equal."""

from __future__ import annotations

import copy

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ivlm_core import ConfigError
from ivlm_core.config import PROFILE_DIRECTORY, Profile, load_profile, parse_section, profile_names, save_profile


@pytest.fixture
def tiny() -> dict:
    return yaml.safe_load((PROFILE_DIRECTORY / "tiny.yaml").read_text())


@pytest.mark.parametrize("name", profile_names())
def test_shipped_profiles_load_and_round_trip(name, tmp_path):
    profile = load_profile(name)
    assert profile.name == name
    save_profile(profile, tmp_path / "profile.yaml")
    assert load_profile(tmp_path / "profile.yaml") == profile
    assert load_profile(tmp_path) == profile


def test_unknown_model_lists_what_there_is():
    with pytest.raises(ConfigError, match=r"model: 'huge' is neither.*tiny"):
        load_profile("huge")


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("language", "hiden_size"), 4, r"language\.hiden_size: is not a known key"),
        (("language", "hidden_size"), "big", r"language\.hidden_size: is 'big'"),
        (("language", "hidden_size"), 193, r"language\.hidden_size: is 193"),
        (("language", "layers"), 0, r"language\.layers: is 0"),
        (("language", "layers"), True, r"language\.layers: is True"),
        (("vision", "image_fit"), "stretch", r"vision\.image_fit: is 'stretch'.*'pad' or 'crop'"),
        (("vision", "select_layer"), -9, r"vision\.select_layer"),
        (("sam", "global_blocks"), [9], r"sam\.global_blocks"),
        (("sam", "global_blocks"), 1, r"sam\.global_blocks: is 1 \(give a list"),
        (("sam", "global_blocks"), ["x"], r"sam\.global_blocks\[0\]"),
        (("sam", "prompt_dim"), 20, r"sam\.prompt_dim"),
        (("generation", "max_new_tokens"), 0, r"generation\.max_new_tokens"),
        (("lora", "dropout"), 1.0, r"lora\.dropout"),
        (("sam",), None, r"sam: is None"),
    ],
)
def test_wrong_key_or_value_is_named(tiny, path, value, named):
    section = tiny
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value
    with pytest.raises(ConfigError, match=named):
        parse_section(Profile, tiny, "profile")


def test_missing_key_is_named(tiny):
    del tiny["sam"]["depth"]
    with pytest.raises(ConfigError, match=r"sam\.depth: is missing"):
        parse_section(Profile, tiny, "profile")


@pytest.mark.parametrize("content", ["a: [", "just text", "[1, 2]", "!!python/object/apply:os.system ['true']"])
def test_hostile_or_broken_yaml(tmp_path, content):
    path = tmp_path / "profile.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError):
        load_profile(path)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    ),
    st.sampled_from(["language", "sam", "lora", "tokens", "name", "seed"]),
)
def test_any_value_anywhere_is_refused_clearly(value, key):
    content = copy.deepcopy(yaml.safe_load((PROFILE_DIRECTORY / "tiny.yaml").read_text()))
    content[key] = value
    try:
        profile = parse_section(Profile, content, "profile")
    except ConfigError as error:
        assert error.field.startswith("profile")
    else:
        assert isinstance(profile, Profile)
