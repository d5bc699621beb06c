"""Chat rows read from the packages.

Valid, the same every time, and tool calls that hassil's own recognizer agrees with.
"""

import functools
import itertools
import json
import zipfile
from collections import Counter
from pathlib import Path

import hassil
import pytest
import yaml
from wheels import wheel

from zagreus.data.chat.chatterbot import read_chatterbot
from zagreus.data.chat.chitchat import read_chitchat, read_chitchat_preferences
from zagreus.data.chat.intents import CLOSE, HOUSEHOLD, OPEN, _unambiguous, read_intents
from zagreus.data.chat.rows import Row, check_row, divide
from zagreus.errors import InputError
from zagreus.posttraining.recipe_file import validation_rows

INTENTS = {"languages": ["it", "en"], "draws": 1}
CASES = [
    (read_chatterbot, "chatterbot-corpus", {"languages": ["italian", "english"]}, 2500),
    (read_intents, "home-assistant-intents", INTENTS, 1400),
    (read_chitchat, "chitchat-dataset", {"turns": 4}, 30000),
    (read_chitchat_preferences, "chitchat-dataset", {"characters": [16, 160]}, 20000),
]


@pytest.mark.parametrize(
    ("reader", "package", "options", "least"), CASES, ids=[case[0].__name__ for case in CASES]
)
def test_rows_are_valid_and_the_same_again(reader, package, options, least):
    rows = list(reader(wheel(package), options))
    assert len(rows) >= least
    assert len({row["id"] for row in rows}) == len(rows)
    for row in rows:
        check_row(row, package)
    assert rows == list(reader(wheel(package), options))


def test_a_question_is_on_one_side_only():
    training, apart = divide(
        read_chatterbot(wheel("chatterbot-corpus"), {"languages": ["english"]}), 0.2
    )
    questions = [
        {row["conversation"][0]["content"].casefold() for row in side} for side in (training, apart)
    ]
    assert apart
    assert not questions[0] & questions[1]


def test_answers_are_not_taken_for_turns():
    """In the topic `emotion` every further line answers the first.

    Each row must be one question and one answer.
    """
    rows = [
        row
        for row in read_chatterbot(wheel("chatterbot-corpus"), {"languages": ["italian"]})
        if "/emotion." in row["id"]
    ]
    assert len(rows) > 150
    assert {len(row["conversation"]) for row in rows} == {2}


def test_preferences_are_on_the_point_and_alike_in_length():
    with zipfile.ZipFile(wheel("chitchat-dataset")) as archive:
        conversations = json.loads(archive.read("chitchat_dataset/dataset.json"))
    rows = list(
        itertools.islice(
            read_chitchat_preferences(wheel("chitchat-dataset"), {"characters": [16, 160]}), 2000
        )
    )
    for row in rows:
        said = "\n".join(
            part["text"].strip()
            for turn in conversations[row["id"].split("/")[0]]["messages"]
            for part in turn
        )
        assert row["chosen"]["content"].split("\n")[0] in said
        assert all(16 <= len(row[side]["content"]) <= 160 for side in ("chosen", "rejected"))
    longer = sum(len(row["chosen"]["content"]) > len(row["rejected"]["content"]) for row in rows)
    assert 0.35 < longer / len(rows) < 0.65  # length alone does not tell them apart


def parts(row: Row) -> tuple[list[dict], str, dict]:
    """Return (the tools of the system message, the user's sentence, the call) of an agentic row."""
    system, user, assistant = (message["content"] for message in row["conversation"])
    tools, _ = json.JSONDecoder().raw_decode(system, system.index("["))
    assert assistant.startswith(OPEN)
    assert assistant.endswith(CLOSE)
    return tools, user, json.loads(assistant.removeprefix(OPEN).removesuffix(CLOSE))


JSON_TYPES = {"string": (str,), "integer": (int,), "number": (int, float)}


def fits(call: dict, tool: dict) -> bool:
    """Return whether a call's arguments fit the JSON schema of its tool."""
    schema = tool["parameters"]
    if not set(schema["required"]) <= set(call["arguments"]) <= set(schema["properties"]):
        return False
    for slot, value in call["arguments"].items():
        types = schema["properties"][slot]["type"]
        allowed = [types] if isinstance(types, str) else types
        if not isinstance(value, tuple(kind for name in allowed for kind in JSON_TYPES[name])):
            return False
    return True


def test_every_tool_call_parses_and_fits_its_tool():
    called = set()
    for row in read_intents(wheel("home-assistant-intents"), {**INTENTS, "draws": 3}):
        tools, sentence, call = parts(row)
        assert len({tool["name"] for tool in tools}) == len(tools) == 3
        (tool,) = [tool for tool in tools if tool["name"] == call["name"]]
        assert fits(call, tool), row
        assert sentence
        assert not set("{}<>[]|") & set(sentence), sentence
        called.add(call["name"])
    assert len(called) > 30


@pytest.mark.parametrize("code", ["it", "en"])
def test_the_templates_own_recognizer_understands_the_sentences(code):
    """hassil, which parses the templates in Home Assistant, must find the intent and the slots that
    we wrote into the call.
    """
    household = yaml.safe_load(HOUSEHOLD.read_text(encoding="utf-8"))[code]
    with zipfile.ZipFile(wheel("home-assistant-intents")) as archive:
        intents = hassil.Intents.from_dict(
            json.loads(archive.read(f"home_assistant_intents/data/{code}.json"))
        )
    names = [
        hassil.TextSlotValue.from_tuple((name, name, {"domain": domain}), allow_template=False)
        for domain, items in household["names"].items()
        for name in items
    ]
    lists = {
        "name": hassil.TextSlotList(name="name", values=names),
        **{
            kind: hassil.TextSlotList.from_strings(household[kind], name=kind)
            for kind in ("area", "floor")
        },
    }
    rows = [
        row
        for row in read_intents(wheel("home-assistant-intents"), {"languages": [code], "draws": 1})
        if row["id"][-1] == "0"
    ]
    tried = rows[:: max(1, len(rows) // 60)]
    understood = 0
    for row in tried:
        _, sentence, call = parts(row)
        recognized = hassil.recognize_all(sentence, intents, slot_lists=lists)
        understood += any(
            result.intent.name == call["name"]
            and {name: entity.value for name, entity in result.entities.items()}
            == call["arguments"]
            for result in recognized
        )
    assert understood >= 0.9 * len(tried)


HOME = {
    "languages": ["it", "en"],
    "intents": ["HassTurnOn", "HassMediaPause", "HassGetCurrentTime"],
    "draws": 6,
    "sentences": 60,
    "tools": 0,
}


def requests(rows):
    """Yield (language, KEY, sentence, call) of each request of the conversations."""
    for row in rows:
        messages = row["conversation"]
        assert [message["role"] for message in messages] == ["user", "assistant"] * (
            len(messages) // 2
        )
        for user, assistant in zip(messages[::2], messages[1::2], strict=True):
            key = row["id"].rsplit("/", 1)[0]
            call = assistant["content"].removeprefix(OPEN).removesuffix(CLOSE)
            yield key[:2], key, user["content"].casefold(), json.loads(call)


def test_the_chosen_intents_are_evenly_sampled_without_a_list_of_tools():
    sampled = list(requests(read_intents(wheel("home-assistant-intents"), HOME)))
    counts = Counter((language, call["name"]) for language, _, _, call in sampled)
    assert {name for _, name in counts} == set(HOME["intents"])
    assert counts["it", "HassTurnOn"] == counts["en", "HassTurnOn"] == 60
    assert len({(language, sentence) for language, _, sentence, _ in sampled}) == len(sampled)


@pytest.mark.parametrize("turns", [1, 3])
def test_a_call_of_two_arguments_is_on_one_side_with_all_its_sentences(turns):
    options = {**HOME, "together": "call", "turns": turns}
    rows = list(read_intents(wheel("home-assistant-intents"), options))
    assert max(len(row["conversation"]) for row in rows) == 2 * turns
    keys: dict = {}
    for language, key, sentence, call in requests(rows):
        whole = sentence if len(call["arguments"]) < 2 else json.dumps(call, sort_keys=True)
        assert keys.setdefault((language, whole), key) == key
    assert len(set(keys.values())) > 50
    single = requests(read_intents(wheel("home-assistant-intents"), HOME))
    assert Counter(map(str, (request[2:] for request in requests(rows)))) == Counter(
        map(str, (request[2:] for request in single))
    )


def test_an_intent_fills_its_slots_alone():
    slots = {"HassTurnOn": ["area", "domain"]}
    rows = read_intents(wheel("home-assistant-intents"), {**HOME, "slots": slots})
    filled: dict = {}
    for _, _, _, call in requests(rows):
        filled.setdefault(call["name"], set()).update(call["arguments"])
    assert filled["HassTurnOn"] == {"area", "domain"}
    assert "name" in filled["HassMediaPause"]


def test_a_sentence_with_two_calls_is_left_out():
    def row(number, sentence, call):
        messages = [{"role": "user", "content": sentence}, {"role": "assistant", "content": call}]
        return {"id": f"en:A.0.{number}/0", "conversation": messages}

    rows = [row(0, "Stop", "a"), row(1, "go", "b"), row(2, "stop", "c"), row(3, "Go", "b")]
    assert list(_unambiguous(rows)) == [rows[1]]


def test_bad_intents_are_named():
    for options, message in (
        ({"intents": ["HassTurnon"]}, "no intent 'HassTurnon' that calls a tool, did you mean"),
        ({"intents": ["HassRespond"]}, "no intent 'HassRespond' that calls a tool"),
        ({"slots": {"HassTurnOf": ["area"]}}, "slots: no intent 'HassTurnOf'"),
        ({"turns": 2}, "expected tools: 0 or turns: 1"),
    ):
        with pytest.raises(InputError, match=message):
            list(read_intents(wheel("home-assistant-intents"), {**INTENTS, **options}))


def test_bad_languages_are_named(tmp_path: Path):
    with pytest.raises(InputError, match="no conversations in 'klingon'"):
        list(read_chatterbot(wheel("chatterbot-corpus"), {"languages": ["klingon"]}))
    with pytest.raises(InputError, match="no intents in 'tlh'"):
        list(read_intents(wheel("home-assistant-intents"), {"languages": ["tlh"]}))
    with pytest.raises(
        InputError, match="household.yaml: no entry for language 'pl', it has en, it"
    ):
        list(read_intents(wheel("home-assistant-intents"), {"languages": ["pl"]}))


SHIPPED = [
    Path("config.yaml"),
    *(Path(f"config/{name}.yaml") for name in ("small", "demo", "test")),
]
READERS = {
    "chatterbot": read_chatterbot,
    "chitchat": read_chitchat,
    "chitchat_preferences": read_chitchat_preferences,
    "intents": read_intents,
}


def stages_from_packages():
    """Every stage of a shipped configuration whose rows a package has.

    (configuration, data set, recipe).
    """
    for path in SHIPPED:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        for model in config["models"].values():
            for stage in model.get("posttrain", ()):
                if config["chat"][stage["data"]]["kind"] == "package":
                    yield pytest.param(
                        config["chat"][stage["data"]],
                        stage["recipe"],
                        id=f"{path.stem}-{stage['data']}-{stage['stage']}",
                    )


@functools.cache
def rows_for_training(entry):
    """How many rows `fetch_chat` leaves of a data set, its entry given as JSON."""
    entry = json.loads(entry)
    rows = READERS[entry["reader"]](wheel(entry["package"]), entry["options"])
    return len(divide(rows, entry.get("heldout", 0), entry.get("limit"))[0])


@pytest.mark.parametrize(("entry", "recipe"), list(stages_from_packages()))
def test_every_shipped_stage_has_rows_to_train_on(entry, recipe):
    """The published recipe holds out 10,000 rows, `agentic` has 5,673."""
    rows = rows_for_training(json.dumps(entry, sort_keys=True))
    settings = yaml.safe_load(Path(recipe).read_text(encoding="utf-8"))
    # A distillation has no such key: the prompts of its data set's held-out rows are its own.
    assert "val_set_size" in settings or "max_completion_length" in settings
    validation_rows(settings.get("val_set_size"), rows, recipe)
