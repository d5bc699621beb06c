"""Tool calls made from the sentence templates of home-assistant-intents (Apache-2.0).

`home_assistant_intents/data/LANGUAGE.json` has, for each intent, blocks of sentence templates in
hassil's language, with lists of values (colours, states, ranges of numbers); `intents.json`
describes the intents and their slots. An intent is a tool, a slot is an argument. A row is: a
system message that lists some tools as JSON, a sentence drawn from a template, and the call that it
means. What the package leaves to a household (rooms, devices, free text) comes from household.yaml.

No sentence of a language comes twice, so that no sentence for training is held out too. A sentence
that two templates give two calls comes not at all: neither call would be right.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import random
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hassil
import yaml

from zagreus.data.chat.rows import Row, alternate, key_of
from zagreus.errors import InputError

HOUSEHOLD = Path(__file__).with_name("household.yaml")
OPEN, CLOSE = "<tool_call>", "</tool_call>"
# Groups of the KEYs of a language, whose sentences make conversations of several requests.
GROUPS = 60
# Intents that call nothing: they make the assistant talk or drop the matter.
WITHOUT_EFFECT = {"HassRespond", "HassNevermind"}


@dataclass(frozen=True)
class Language:
    """The templates of a language, and what a household adds."""

    intents: hassil.Intents
    household: Mapping[str, Any]


def read_intents(wheel: Path, options: Mapping[str, Any]) -> Iterator[Row]:
    """Yield SFT rows.

    Options:
        languages: ISO 639-1 codes, for example `[it, en]`; each must be in the package and in
            household.yaml.
        intents: names of the intents to take, for example `[HassTurnOn, HassTurnOff]` (all when
            not given).
        slots: the slots that an intent may fill, by intent, for example
            `{HassTurnOn: [area, domain]}`; calls with another one are left out.
        draws: sentences drawn from each template (4 when not given).
        sentences: at most so many sentences of an intent in a language, an even sample of what was
            drawn (all when not given). Intents with many templates do not crowd out the others.
        together: what is held out as a whole. `template` (when not given): a template with its
            sentences. `call`: a call of two or more arguments (the light in the kitchen) with its
            sentences, whatever their templates; of other calls, a sentence. `sentence`: a sentence.
        turns: requests in a conversation (1 when not given). With more than one, what is held out
            as a whole is divided into groups, and a conversation has the sentences of one group.
        tools: how many tools the system message lists, the right one among them (3 when not given).
            With 0 there is no system message: the model learns the tools by heart.

    Raises:
        InputError: a language or an intent that the package does not have.
    """
    draws, shown = options.get("draws", 4), options.get("tools", 3)
    if shown and options.get("turns", 1) > 1:
        raise InputError(
            "reader intents: several turns are for conversations without a list of tools, expected "
            "tools: 0 or turns: 1"
        )
    with zipfile.ZipFile(wheel) as archive:
        described = json.loads(archive.read("home_assistant_intents/intents.json"))
        for code in options["languages"]:
            language = _load(archive, wheel, code)
            tools = _tools(language, described)
            taken = _taken(options.get("intents", sorted(tools)), tools, f"{wheel}, '{code}'")
            _taken(options.get("slots", {}), tools, f"{wheel}, '{code}', slots")
            drawn = (
                row
                for intent in taken
                for number, block in enumerate(language.intents.intents[intent].data)
                for index in range(len(block.sentence_texts))
                for draw in range(draws)
                if (
                    row := _row(
                        language,
                        tools,
                        shown,
                        intent,
                        number,
                        index,
                        f"{code}:{intent}.{number}.{index}/{draw}",
                    )
                )
                is not None
            )
            allowed = _within(_unambiguous(drawn), options.get("slots", {}))
            rows = _sample(allowed, options.get("sentences"))
            together = options.get("together", "template")
            if together != "template":
                rows = [_with_key(row, together) for row in rows]
            yield from _conversations(rows, code, options.get("turns", 1))


def _taken(names: Iterable[str], tools: Mapping[str, Any], where: str) -> list[str]:
    """Return the wanted intents in the order of their names."""
    unknown = sorted(set(names) - set(tools))
    if unknown:
        near = difflib.get_close_matches(unknown[0], tools, n=3)
        expected = f"did you mean {' or '.join(near)}?" if near else f"one of {', '.join(tools)}"
        raise InputError(f"{where}: no intent '{unknown[0]}' that calls a tool, {expected}")
    return sorted(set(names))


def _unambiguous(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield the first row of each sentence, without the sentences that have two calls."""
    first: dict[str, Row] = {}
    calls: dict[str, set[str]] = {}
    for row in rows:
        sentence, call = (message["content"] for message in row["conversation"][-2:])
        first.setdefault(sentence.casefold(), row)
        calls.setdefault(sentence.casefold(), set()).add(call)
    yield from (row for sentence, row in first.items() if len(calls[sentence]) == 1)


def _sample(rows: Iterable[Row], most: int | None) -> list[Row]:
    """Return at most `most` rows of each intent, by their ids' sha256; all with None."""
    kept, count = [], Counter[str]()
    for row in sorted(rows, key=lambda row: _hash(row["id"])) if most else rows:
        intent = row["id"].split(".")[0]
        count[intent] += 1
        if most is None or count[intent] <= most:
            kept.append(row)
    return kept


def _within(rows: Iterable[Row], slots: Mapping[str, Sequence[str]]) -> Iterator[Row]:
    """Yield the rows whose arguments are among the slots of their intent, where it has some."""
    for row in rows:
        intent = row["id"].split(".")[0].partition(":")[2]
        if intent not in slots or set(_arguments(row)) <= set(slots[intent]):
            yield row


def _arguments(row: Row) -> dict[str, Any]:
    call = row["conversation"][-1]["content"]
    return json.loads(call.removeprefix(OPEN).removesuffix(CLOSE))["arguments"]


def _with_key(row: Row, together: str) -> Row:
    """Return the row under an id whose KEY stands for its sentence, or, together by `call`, for its
    call where that one has two arguments or more.
    """
    sentence, call = (message["content"] for message in row["conversation"][-2:])
    by_call = together == "call" and len(_arguments(row)) > 1
    whole = call if by_call else sentence.casefold()
    intent = row["id"].split(".")[0]
    return {**row, "id": f"{intent}.{_hash(whole):016x}/{_hash(sentence):016x}"}


def _conversations(rows: Sequence[Row], code: str, turns: int) -> Iterator[Row]:
    """Yield conversations of 1 to `turns` requests, each of the rows of one group of KEYs."""
    if turns == 1:
        yield from rows
        return
    groups: dict[int, list[Row]] = {}
    for row in rows:
        groups.setdefault(_hash(key_of(row)) % GROUPS, []).append(row)
    for group, members in sorted(groups.items()):
        members.sort(key=lambda row: _hash(row["id"]))
        number = 0
        while members:
            size = 1 + _hash(members[0]["id"]) % turns
            taken, members = members[:size], members[size:]
            conversation = [message for row in taken for message in row["conversation"]]
            yield {"id": f"{code}:{group}/{number}", "conversation": conversation}
            number += 1


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest()[:8], "big")


def tool_call(name: str, arguments: Mapping[str, Any]) -> str:
    """Return a call in the form that the assistant writes."""
    return f"{OPEN}{json.dumps({'name': name, 'arguments': arguments}, ensure_ascii=False)}{CLOSE}"


def _load(archive: zipfile.ZipFile, wheel: Path, code: str) -> Language:
    household = yaml.safe_load(HOUSEHOLD.read_text(encoding="utf-8"))
    member = f"home_assistant_intents/data/{code}.json"
    if member not in archive.namelist():
        raise InputError(f"{wheel}: no intents in '{code}' ({member})")
    if code not in household:
        raise InputError(
            f"{HOUSEHOLD.name}: no entry for language '{code}', it has "
            f"{', '.join(sorted(household))}"
        )
    return Language(hassil.Intents.from_dict(json.loads(archive.read(member))), household[code])


def _tools(language: Language, described: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each intent's tool.

    Name, description, and the JSON schema of its arguments, the types taken from the lists in use.
    """
    tools = {}
    for name, intent in language.intents.intents.items():
        if name not in described or name in WITHOUT_EFFECT:
            continue
        slots = described[name].get("slots") or {}
        types: dict[str, set[str]] = {slot: set() for slot in slots}
        for block in intent.data:
            for slot, value in block.slots.items():
                types.setdefault(slot, set()).add(_json_type(value))
            for sentence in block.sentences:
                for reference in _references(sentence, language):
                    types.setdefault(reference.slot_name, set()).update(
                        _list_types(language, reference.list_name)
                    )
        properties = {slot: {"type": _one_or_more(sorted(kinds))} for slot, kinds in types.items()}
        tools[name] = {
            "name": name,
            "description": described[name]["description"],
            "parameters": {
                "type": "object",
                "properties": properties,
                "required": [slot for slot, facts in slots.items() if facts.get("required")],
            },
        }
    return tools


def _one_or_more(types: list[str]) -> str | list[str]:
    """Return a JSON schema's `type`; a slot that no template of the language fills is a string."""
    return types if len(types) > 1 else types[0] if types else "string"


def _json_type(value: Any) -> str:
    return (
        "integer" if isinstance(value, int) else "number" if isinstance(value, float) else "string"
    )


def _list_types(language: Language, name: str) -> set[str]:
    values = language.intents.slot_lists.get(name)
    if isinstance(values, hassil.RangeSlotList):
        return {"number" if values.fraction_type else "integer"}
    if isinstance(values, hassil.TextSlotList):
        return {_json_type(value.value_out) for value in values.values}
    return {"string"}


def _references(sentence: hassil.Sentence, language: Language) -> Iterator[hassil.ListReference]:
    """Yield the lists that a template draws from, those of its expansion rules included."""
    if isinstance(sentence.expression, hassil.Group):
        yield from sentence.expression.list_references(language.intents.expansion_rules)


def _row(
    language: Language,
    tools: Mapping[str, Any],
    shown: int,
    intent: str,
    number: int,
    index: int,
    identity: str,
) -> Row | None:
    """Return one drawn row, or None where the template needs what a sentence alone does not say
    (the speaker's room).
    """
    chance = random.Random(hashlib.sha256(identity.encode("utf-8")).digest())
    block = language.intents.intents[intent].data[number]
    sampler = _Sampler(language, block, chance)
    sentence = hassil.normalize_whitespace(sampler.text(block.sentences[index].expression)).strip()
    # In one order: templates of one meaning name their slots in several.
    arguments = dict(sorted({**block.slots, **sampler.slots}.items()))
    if any(slot not in arguments for slot in tools[intent]["parameters"]["required"]):
        return None
    system = None
    if shown:
        listed = [intent, *chance.sample(sorted(set(tools) - {intent}), shown - 1)]
        chance.shuffle(listed)
        listing = json.dumps([tools[name] for name in listed], ensure_ascii=False)
        system = language.household["system"].format(tools=listing)
    if chance.random() < 0.5:  # people write both
        sentence = sentence[:1].upper() + sentence[1:]
    return {
        "id": identity,
        "conversation": alternate([sentence, tool_call(intent, arguments)], system),
    }


class _Sampler:
    """Draws one sentence from a template; `slots` then holds what was drawn for each slot."""

    def __init__(self, language: Language, block: hassil.IntentData, chance: random.Random) -> None:
        self.language, self.block, self.chance = language, block, chance
        self.slots: dict[str, Any] = {}

    def text(self, expression: hassil.Expression) -> str:
        """Return a sentence, or a part of one, that the expression accepts."""
        if isinstance(expression, hassil.TextChunk):
            return expression.original_text
        if isinstance(expression, hassil.RuleReference):
            rules = {**self.language.intents.expansion_rules, **self.block.expansion_rules}
            return self.text(rules[expression.rule_name].expression)
        if isinstance(expression, hassil.ListReference):
            said, value = self._draw(expression.list_name)
            self.slots[expression.slot_name] = value
            return said
        if isinstance(expression, hassil.Alternative):
            return self.text(self.chance.choice(expression.items))
        if isinstance(expression, hassil.Permutation):
            parts = [self.text(item) for item in expression.items]
            self.chance.shuffle(parts)
            return "".join(parts)
        if isinstance(expression, hassil.Sequence):
            return "".join(self.text(item) for item in expression.items)
        raise InputError(
            f"home-assistant-intents: an expression of kind {type(expression).__name__}, which is "
            "not known here"
        )

    def _draw(self, name: str) -> tuple[str, Any]:
        """Return (what is said, what it means) for a value of the list."""
        household = self.language.household
        values = self.language.intents.slot_lists.get(name)
        if isinstance(values, hassil.TextSlotList):
            value = self.chance.choice(values.values)
            return self.text(value.text_in), value.value_out
        if isinstance(values, hassil.RangeSlotList):
            number = self.chance.choice(list(values.get_numbers()))
            return str(number), round(number * values.multiplier) if values.multiplier else number
        if name == "name":
            domains = self.block.requires_context.get("domain", ["light", "switch", "media_player"])
            names = [item for domain in domains for item in household["names"].get(domain, ())]
            if not names:
                raise InputError(f"{HOUSEHOLD.name}: no device of the domains {domains}")
            said = self.chance.choice(names)
        elif name in household:
            said = self.chance.choice(household[name])
        else:
            raise InputError(f"{HOUSEHOLD.name}: nothing to put in the place of '{name}'")
        return said, said
