"""A Hugging Face model folder, as an export reads it: config, weights, tokenizer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401 - makes bfloat16 a type of NumPy's, which safetensors asks for
import numpy
from safetensors import SafetensorError, safe_open

from zagreus.errors import InputError

# Keys of config.json with the only value that the exported formats express for a Llama here.
PLAIN = {
    "attention_bias": False,
    "mlp_bias": False,
    "hidden_act": "silu",
}


@dataclass(frozen=True)
class Shape:
    """The shape of a Llama, from its config.json."""

    vocab_size: int
    """Rows of the embedding."""
    hidden_size: int
    """Width of the residual stream."""
    inner_size: int
    """Width of the MLP's hidden layer."""
    layers: int
    """Decoder layers."""
    heads: int
    """Query heads of a layer."""
    kv_heads: int
    """Key and value heads of a layer."""
    head_size: int
    """Width of a head."""
    context: int
    """Longest input in tokens."""
    eps: float
    """Epsilon of RMSNorm."""
    rope_theta: float
    """Base of the rotary positions' wavelengths."""
    tied: bool
    """Whether embedding and output head share their weights."""

    @property
    def kv_width(self) -> int:
        """Length of all keys of a position."""
        return self.kv_heads * self.head_size


class ModelFolder:
    """A model folder: `config`, `shape`, and its tensors one by one."""

    def __init__(self, folder: Path) -> None:
        """Read what describes a model.

        Raises:
            InputError: another architecture than a plain Llama, a file that is missing or broken.
        """
        self.folder = folder
        self.config = read_json(folder / "config.json")
        self.shape = _shape(self.config, folder / "config.json")
        self.tokenizer_config = read_json(folder / "tokenizer_config.json")
        self._files: dict[str, Path] = {}
        for path in sorted(folder.glob("*.safetensors")):
            try:
                with safe_open(path, "numpy") as opened:
                    self._files |= dict.fromkeys(opened.keys(), path)
            except SafetensorError as error:
                raise InputError(f"{path}: not a whole safetensors file ({error})") from None
        if not self._files:
            raise InputError(f"{folder}: no safetensors file, expected a model's weights")

    @property
    def names(self) -> list[str]:
        """The names of all tensors, in order."""
        return sorted(self._files)

    def tensor(self, name: str, *expected: int) -> numpy.ndarray:
        """Return a tensor in float32. Raise `InputError` unless it has the expected shape."""
        if name not in self._files:
            raise InputError(f"{self.folder}: no weight '{name}', expected a transformers Llama")
        with safe_open(self._files[name], "numpy") as opened:
            array: numpy.ndarray = opened.get_tensor(name).astype(numpy.float32)
        if expected and array.shape != expected:
            raise InputError(
                f"{self._files[name]}: '{name}' is {list(array.shape)}, expected {list(expected)}"
            )
        return array

    @property
    def chat_template(self) -> str | None:
        """The chat template, of its own file or of the tokenizer's configuration."""
        path = self.folder / "chat_template.jinja"
        if path.exists():
            return path.read_text(encoding="utf-8")
        template = self.tokenizer_config.get("chat_template")
        return template if isinstance(template, str) else None

    def special(self, name: str) -> str | None:
        """Return a special token's text: `bos_token`, `eos_token`, `pad_token`, `unk_token`."""
        token = self.tokenizer_config.get(name)
        return token.get("content") if isinstance(token, dict) else token

    @property
    def ends(self) -> list[int]:
        """The ids at which generation stops by generation_config.json, or by config.json."""
        path = self.folder / "generation_config.json"
        settings = read_json(path) if path.exists() else self.config
        eos = settings.get("eos_token_id", self.config.get("eos_token_id"))
        return [] if eos is None else eos if isinstance(eos, list) else [eos]


def _shape(config: dict[str, Any], where: Path) -> Shape:
    architectures = config.get("architectures") or [config.get("model_type")]
    if architectures != ["LlamaForCausalLM"]:
        raise InputError(
            f"{where}: architecture {', '.join(map(str, architectures))}, expected LlamaForCausalLM"
        )
    for key, value in PLAIN.items():
        if config.get(key, value) != value:
            raise InputError(f"{where}: {key} is {config[key]!r}, expected {value!r}")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise InputError(f"{where}: rope_type is '{kind}', expected 'default'")
    try:
        heads = int(config["num_attention_heads"])
        return Shape(
            vocab_size=int(config["vocab_size"]),
            hidden_size=int(config["hidden_size"]),
            inner_size=int(config["intermediate_size"]),
            layers=int(config["num_hidden_layers"]),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_size=int(config.get("head_dim") or config["hidden_size"] // heads),
            context=int(config["max_position_embeddings"]),
            eps=float(config["rms_norm_eps"]),
            rope_theta=float(rope.get("rope_theta") or config["rope_theta"]),
            tied=bool(config.get("tie_word_embeddings", False)),
        )
    except KeyError as error:
        raise InputError(f"{where}: no key {error}, expected a Llama's configuration") from None


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file of a model folder. Raise `InputError` where it is missing or broken."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path.parent}: no {path.name}, not a whole model folder") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: invalid JSON ({error})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: {type(content).__name__}, expected a mapping")
    return content
