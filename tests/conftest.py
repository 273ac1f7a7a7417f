from __future__ import annotations

import os
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aerogel.system.cores import cores, set_thread_variables

# Before any module imports torch. The processes of pytest-xdist share the cores.
set_thread_variables(processes=int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
# Triton reads this when it is first imported. `make test-gpu` sets AEROGEL_TEST_DEVICE.
if os.environ.get("AEROGEL_TEST_DEVICE", "cpu") == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["the", "a", "and", "of", "to", "is", "was", "in", "it", "that", "film", "good", "bad", "not", "very"]

# Configuration of each family, with its own field names and the smallest sizes with two heads and two layers.
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    "roberta": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    "electra": {
        "embedding_size": 16, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 64,
    },
    "mpnet": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    "albert": {
        "embedding_size": 16, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 64,
    },
    "roberta-prelayernorm": {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    },
    "deberta-v2": {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
        "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "share_att_key": True, "position_buckets": 8,
    },
    "modernbert": {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
        "global_attn_every_n_layers": 2, "local_attention": 8, "bos_token_id": 2, "cls_token_id": 2,
        "eos_token_id": 3, "sep_token_id": 3,
    },
}  # fmt: skip


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Function that returns a free port of 127.0.0.1.

    The ports are below 32768: the system assigns higher ports to any process at any time, also before a test uses one.
    """
    import random
    import socket

    draw = random.SystemRandom()

    def free() -> int:
        for _ in range(100):
            with socket.socket() as tried:
                try:
                    tried.bind(("127.0.0.1", port := draw.randrange(10_000, 32_000)))
                except OSError:
                    continue
                return port
        pytest.fail("no port is free")

    return free


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Number of processes for `-n auto`."""
    return cores()


def tiny_tokenizer(segments: bool = True) -> Any:
    """A WordPiece tokenizer of a few words and all ASCII characters, for single texts and pairs.

    With `segments`, it returns token_type_ids, as for BERT and ELECTRA.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = string.ascii_lowercase + string.digits
    vocab = [*SPECIAL, *WORDS, *string.punctuation]
    vocab += [letter for letter in letters if letter not in vocab] + [f"##{letter}" for letter in letters]
    ids = {token: number for number, token in enumerate(vocab)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=64, pad_token="[PAD]", unk_token="[UNK]",
        cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
        model_input_names=["input_ids", *["token_type_ids"] * segments, "attention_mask"],
    )  # fmt: skip


@pytest.fixture(scope="session", autouse=True)
def no_calibration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Use an empty cache, so that no test depends on a cost model of this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AEROGEL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def fake_cost_model() -> Callable[..., Any]:
    """Factory of cost models with simple numbers.

    A packed product costs ``overhead``, the weights of (1, in, out, page, row lengths), plus `slot` per stored entry;
    DRAM-resident weights cost `dram` times as much. A dense product costs `dense`, the weights of (1, in, out, in out).
    `growth` multiplies the costs of each number of tokens.
    """
    from aerogel.cost.grid import packed_kernels
    from aerogel.cost.machine import Machine
    from aerogel.cost.model import NON_GEMM_VARIANTS, SLOT_FRACTIONS, CostModel, token_counts

    def make(
        *,
        overhead: tuple[float, ...] = (0, 0, 0, 0, 0),
        slot: float = 1.0,
        dram: float = 1.0,
        dense: tuple[float, ...] = (0, 0, 0, 2.0),
        growth: Callable[[int], float] = lambda _: 1.0,
        machine: Any = None,
        non_gemm: Any = None,
    ) -> Any:
        counts = token_counts(16)
        row = [*map(float, overhead), *(slot * fraction for fraction in SLOT_FRACTIONS)]
        kernels = [kernel.name for kernel in packed_kernels()]
        return CostModel(
            machine=machine or Machine("cpu", "avx512", "0" * 64, "1.31.1", 1),
            time="2026-01-02T03:04:05+00:00",
            cache_resident={name: [[growth(n) * cost for cost in row] for n in counts] for name in kernels},
            dram_resident={
                name: [[growth(n) * dram * cost for cost in row] for n in counts] for name in kernels
            },
            dense=[[growth(n) * cost for cost in dense] for n in counts],
            non_gemm=non_gemm or {name: [0.0, 0.0, 0.0, 0.0, 0.0] for name in NON_GEMM_VARIANTS},
        )

    return make


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Factory of masked checkpoint directories of tiny random encoders.

    ``tiny_checkpoint("bert", "SequenceClassification", density=0.1, block=(1, 1), seed=0, **config)`` returns the
    directory. `head` is the part of the class name after ``AutoModelFor``, "" for the plain encoder. With density 1,
    the model has no masks. Equal arguments share one directory: copy it before you change it.
    """
    cache: dict[Any, Path] = {}

    def make(
        family: str = "bert",
        head: str = "SequenceClassification",
        density: float = 0.1,
        block: tuple[int, int] = (1, 1),
        scope: str = "local",
        seed: int = 0,
        **config: Any,
    ) -> Path:
        key = (family, head, density, block, scope, seed, tuple(sorted(config.items())))
        if key in cache:
            return cache[key]
        import torch
        import transformers

        from aerogel import checkpoint
        from aerogel.sparse.masks import top_masks

        tokenizer = tiny_tokenizer(segments=family in ("bert", "electra"))
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = getattr(transformers, f"AutoModelFor{head}" if head else "AutoModel").from_config(
                transformers.AutoConfig.for_model(
                    family,
                    **{"vocab_size": len(tokenizer), "max_position_embeddings": 80, "pad_token_id": 0}
                    | FAMILIES[family]
                    | config,
                )
            )
            for name, parameter in model.named_parameters():
                # The default initialization has zero biases and outputs near zero, which hides errors.
                if parameter.ndim == 1:
                    scale = "norm" in name.lower() and name.endswith("weight")
                    torch.nn.init.normal_(parameter, mean=float(scale), std=0.1)
                else:
                    torch.nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
            weights = {
                f"{name}.weight": module.weight
                for name, module in model.named_modules()
                if isinstance(module, torch.nn.Linear) and any(part.isdigit() for part in name.split("."))
            }
            scores = {name: torch.rand_like(weight).numpy() for name, weight in weights.items()}
        masks = top_masks(scores, density, block, scope) if density < 1 or scope == "global" else {}
        with torch.no_grad():
            for name, mask in masks.items():
                weights[name].mul_(torch.from_numpy(mask))
        record = checkpoint.Record(
            method="random", config={"density": density}, block=block, scope=scope, seed=seed,
            encoder_parameters=sum(
                parameter.numel()
                for name, parameter in model.named_parameters()
                if any(part.isdigit() for part in name.split("."))
            ),
        )  # fmt: skip

        def write(folder: Path) -> None:
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)

        path = tmp_path_factory.mktemp(f"{family}-{head or 'Model'}") / "checkpoint"
        checkpoint.save(path, record, masks, write)
        return cache.setdefault(key, path)

    return make


@pytest.fixture(scope="session")
def exported(
    tiny_checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Factory of exported folders of tiny BERTs with fused encoders: ``exported("SequenceClassification")``."""
    from aerogel.export.config import ExportConfig
    from aerogel.export.run import export

    cache: dict[Any, Path] = {}

    def make(head: str = "", family: str = "bert", **config: Any) -> Path:
        key = (head, family, tuple(sorted(config.items())))
        if key not in cache:
            folder = tmp_path_factory.mktemp(f"{family}-{head}") / "served"
            export(ExportConfig(tiny_checkpoint(family, head, **config), folder / "model.onnx", format="csr"))
            cache[key] = folder
        return cache[key]

    return make


@pytest.fixture(scope="session")
def exported_embedder(
    tiny_checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Factory of exported folders of tiny sentence-transformers models: ``exported_embedder("mean")``.

    The vectors are normalized, and there is a prompt "query".
    """
    import json
    import shutil

    from aerogel.export.config import ExportConfig
    from aerogel.export.run import export

    cache: dict[str, Path] = {}

    def make(pooling: str = "mean") -> Path:
        if pooling not in cache:
            folder = tmp_path_factory.mktemp(f"embedder-{pooling}")
            shutil.copytree(
                tiny_checkpoint("bert", "", density=1),
                folder / "model",
                ignore=shutil.ignore_patterns("aerogel.json", "masks.safetensors"),
            )
            modules = [
                {
                    "idx": index,
                    "name": str(index),
                    "path": path,
                    "type": f"sentence_transformers.models.{kind}",
                }
                for index, (kind, path) in enumerate(
                    [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
                )
            ]
            (folder / "model" / "1_Pooling").mkdir()
            for name, content in {
                "modules": modules,
                "1_Pooling/config": {"word_embedding_dimension": 32, "pooling_mode": pooling},
                "config_sentence_transformers": {"prompts": {"query": "the film: "}},
            }.items():
                (folder / "model" / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
            export(ExportConfig(folder / "model", folder / "served" / "model.onnx", weights="int8"))
            cache[pooling] = folder / "served"
        return cache[pooling]

    return make


@pytest.fixture
def token_model(tmp_path: Path) -> Callable[..., Path]:
    """Factory of small ONNX models of token ids: ``token_model("name.onnx", sparse=True, vocab=50, width=16)``.

    logits = mean over tokens of tanh(E[input_ids] W^T + b) * attention_mask, with E ``[vocab, width]`` and
    W ``[width, width]`` a quarter dense. With `sparse`, the product is a CsrLinear_v1 node and its function.
    The weights depend only on the sizes.
    """

    def make(name: str, *, sparse: bool = False, vocab: int = 50, width: int = 16) -> Path:
        import numpy as np
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        from aerogel.ops.functions import op_for
        from aerogel.sparse.formats import FORMATS

        random = np.random.default_rng(0)
        mask = random.random((width, width)) < 0.25
        weight = np.where(mask, random.standard_normal((width, width)), 0).astype(np.float32)
        arrays = {
            "table": random.standard_normal((vocab, width), np.float32),
            "bias": random.standard_normal(width, np.float32),
            "last": np.array([2], np.int64),
            "tokens": np.array([1], np.int64),
        }
        if sparse:
            packed = FORMATS.get("csr").encode(weight, mask)
            arrays |= packed
            product = [
                helper.make_node(
                    "CsrLinear_v1", ["x", *packed, "bias"], ["y"], domain="aerogel", in_features=width
                )
            ]
        else:
            arrays["weight"] = np.ascontiguousarray(weight.T)
            product = [
                helper.make_node("MatMul", ["x", "weight"], ["product"]),
                helper.make_node("Add", ["product", "bias"], ["y"]),
            ]
        nodes = [
            helper.make_node("Gather", ["table", "input_ids"], ["x"]),
            *product,
            helper.make_node("Tanh", ["y"], ["t"]),
            helper.make_node("Cast", ["attention_mask"], ["float_mask"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["float_mask", "last"], ["column"]),
            helper.make_node("Mul", ["t", "column"], ["kept"]),
            helper.make_node("ReduceMean", ["kept", "tokens"], ["logits"], keepdims=0),
        ]
        graph = helper.make_graph(
            nodes,
            "tokens",
            [
                helper.make_tensor_value_info(item, TensorProto.INT64, ["batch", "sequence"])
                for item in ("input_ids", "attention_mask")
            ],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", width])],
            [numpy_helper.from_array(array, item) for item, array in arrays.items()],
        )
        model = helper.make_model(
            graph,
            ir_version=9,
            opset_imports=[helper.make_opsetid("", 20), *[helper.make_opsetid("aerogel", 1)] * sparse],
            functions=[op_for("csr").proto()] * sparse,
        )
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(model, path)
        return path

    return make


@pytest.fixture
def sentiment(tmp_path: Path) -> Callable[..., Path]:
    """Factory of data directories in the layout of SST-2: label 1 for rows with "good", 0 for rows with "bad"."""

    def make(train: int = 64, dev: int = 16, seed: int = 0) -> Path:
        import random

        draw = random.Random(seed)
        folder = tmp_path / "sentiment"
        folder.mkdir(exist_ok=True)
        for name, rows in (("train.tsv", train), ("dev.tsv", dev)):
            lines = ["sentence\tlabel"]
            for _ in range(rows):
                label = draw.randrange(2)
                words = [*draw.choices(WORDS[:11], k=draw.randint(1, 6)), "good" if label else "bad"]
                draw.shuffle(words)
                lines.append(f"{' '.join(words)} \t{label}")
            (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return folder

    return make
