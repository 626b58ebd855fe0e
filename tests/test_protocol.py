"""Messages survive the wire; anything else is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.protocol import (
    Done,
    Energise,
    Energised,
    Failure,
    Hello,
    Look,
    Measure,
    Measured,
    Message,
    Model,
    Opening,
    Optimise,
    Plan,
    ProtocolError,
    Quit,
    Run,
    Sampling,
    decode,
    encode,
)

text = st.text(max_size=20)
numbers = st.integers(0, 10**12)
facts = st.dictionaries(text, st.one_of(text, numbers, st.none()), max_size=3)
nested = st.dictionaries(text, st.dictionaries(text, text, max_size=2), max_size=2)
messages = st.one_of(
    st.builds(Hello, numbers, text, numbers, facts, nested, nested),
    st.builds(
        Measure,
        text,
        facts,
        st.lists(st.builds(Model, text, text), max_size=3),
        text,
        st.one_of(st.none(), text),
        st.builds(Sampling, sample_ns=numbers, rounds=numbers),
        numbers,
    ),
    st.builds(
        Energise,
        text,
        facts,
        st.lists(st.builds(Model, text, text), max_size=3),
        text,
        facts,
        st.builds(Plan, st.floats(0, 1e4), st.floats(0, 1e4), numbers),
    ),
    st.builds(Energised, text, facts, st.lists(facts, max_size=3)),
    st.builds(Look, st.booleans()),
    st.builds(Optimise, text, facts, text, text),
    st.builds(Run, text, facts, text, text, text),
    st.builds(Quit),
    st.builds(Opening, text),
    st.builds(
        Measured, text, st.lists(st.lists(numbers, max_size=4), max_size=3), numbers, st.floats(0, 1e9), numbers,
        st.lists(numbers, max_size=3), numbers,
    ),
    st.builds(Failure, st.one_of(st.none(), text), text, text),
    st.builds(Done, facts, facts, st.just([]), numbers),
)  # fmt: skip


@given(messages)
def test_a_message_comes_back_as_it_was_sent(message: Message) -> None:
    line = encode(message)
    assert "\n" not in line
    assert decode(line) == message


@pytest.mark.parametrize(
    "line",
    [
        "",
        "hello",
        "[]",
        "3",
        "null",
        "{}",
        json.dumps({"is": "dance"}),
        json.dumps({"is": "opening"}),
        json.dumps({"is": "opening", "id": "1", "colour": "red"}),
        json.dumps({"is": ["opening"]}),
        json.dumps({"is": "measure", "engine": "x", "options": {}, "models": [1], "null_path": "", "sampling": {}}),
        json.dumps({"is": "measure", "engine": "x", "options": {}, "models": 7, "null_path": "", "sampling": {}}),
        json.dumps(
            {"is": "measure", "engine": "x", "options": {}, "models": [], "null_path": "", "sampling": {"a": 1}}
        ),
        json.dumps({"is": "energise", "engine": "x", "options": {}, "models": [1], "meter": "rapl", "plan": {}}),
        json.dumps({"is": "energise", "engine": "x", "options": {}, "models": [], "meter": "rapl", "plan": {"a": 1}}),
        json.dumps({"is": "energise", "engine": "x", "options": {}, "models": []}),
    ],
)
def test_what_is_no_message_is_a_protocol_error(line: str) -> None:
    with pytest.raises(ProtocolError):
        decode(line)


@given(st.text(max_size=80))
def test_any_text_is_a_message_or_a_protocol_error(line: str) -> None:
    try:
        decode(line)
    except ProtocolError:
        return
