from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from aerogel.errors import UsageError
from aerogel.system.atomic_io import sha256
from aerogel.train.distill import Distillation
from aerogel.train.loss import target_counts
from aerogel.train.run import TrainConfig, train


class Fixed(nn.Module):
    """A model with constant outputs."""

    def __init__(self, layers: int = 2, width: int = 3, **outputs: Any) -> None:
        super().__init__()
        self.config = type("Config", (), {"num_hidden_layers": layers, "hidden_size": width})
        self.outputs = outputs

    def forward(self, input_ids: Any, attention_mask: Any = None, output_hidden_states: bool = False) -> Any:
        del input_ids, attention_mask
        assert output_hidden_states == ("hidden_states" in self.outputs)
        return type("Outputs", (dict,), {"__getattr__": dict.__getitem__})(self.outputs)


def settings(**values: Any) -> TrainConfig:
    return TrainConfig(task="sst2", out=Path("out"), teacher="teacher", **values)


def loss_of(config: TrainConfig, student: Fixed, teacher: Fixed, **targets: torch.Tensor) -> float:
    ids = torch.ones(len(next(iter(targets.values()))), 4, dtype=torch.long)
    mask = torch.tensor([[1, 1, 1, 0]]).expand(len(ids), 4)
    rows = {"input_ids": ids, "attention_mask": mask, **targets}
    return float(Distillation(teacher, student, config)(student, rows, target_counts(rows)))


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def divergence(teacher: np.ndarray, logits: np.ndarray, temperature: float) -> np.ndarray:
    """T^2 KL, in float64, over the last axis."""
    p, q = softmax(teacher / temperature), softmax(logits / temperature)
    return temperature**2 * (p * np.log(p / q)).sum(-1)


@pytest.fixture
def draw() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    random = np.random.default_rng(3)
    return lambda *shape: (3 * random.standard_normal(shape), 3 * random.standard_normal(shape))


def model(**outputs: np.ndarray) -> Fixed:
    return Fixed(**{name: torch.tensor(value, dtype=torch.float32) for name, value in outputs.items()})


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_classification_loss_matches_numpy(draw: Callable[..., Any], temperature: float) -> None:
    z, t = draw(3, 4)
    y = np.array([0, 3, 1])
    cross = -np.log(softmax(z)[range(3), y]).mean()
    expected = 0.7 * divergence(t, z, temperature).mean() + 0.4 * cross
    config = settings(temperature=temperature, kd_weight=0.7, ce_weight=0.4)
    assert loss_of(config, model(logits=z), model(logits=t), labels=torch.tensor(y)) == pytest.approx(
        expected, rel=1e-5
    )


def test_regression_uses_squared_difference(draw: Callable[..., Any]) -> None:
    z, t = draw(3, 1)
    y = np.array([1.0, 2.0, 0.5])
    expected = 0.9 * ((z - t) ** 2).mean() + 0.1 * ((z[:, 0] - y) ** 2).mean()
    actual = loss_of(
        settings(), model(logits=z), model(logits=t), labels=torch.tensor(y, dtype=torch.float32)
    )
    assert actual == pytest.approx(expected, rel=1e-5)


def test_answer_loss_is_mean_of_start_and_end_without_padding(draw: Callable[..., Any]) -> None:
    (z, t), (v, u) = draw(2, 4), draw(2, 4)
    first, last = np.array([0, 2]), np.array([1, 2])
    # The fourth token is padding.
    kl = (divergence(t[:, :3], z[:, :3], 2.0).mean() + divergence(u[:, :3], v[:, :3], 2.0).mean()) / 2
    cross = -(np.log(softmax(z)[[0, 1], first]).mean() + np.log(softmax(v)[[0, 1], last]).mean()) / 2
    actual = loss_of(
        settings(), model(start_logits=z, end_logits=v), model(start_logits=t, end_logits=u),
        start_positions=torch.tensor(first), end_positions=torch.tensor(last),
    )  # fmt: skip
    assert actual == pytest.approx(0.9 * kl + 0.1 * cross, rel=1e-5)


def test_tokens_without_label_are_skipped(draw: Callable[..., Any]) -> None:
    z, t = draw(1, 4, 5)
    y = torch.tensor([[-100, 4, 2, -100]])
    kl = divergence(t, z, 2.0)[0, 1:3].mean()
    cross = -(np.log(softmax(z)[0, 1, 4]) + np.log(softmax(z)[0, 2, 2])) / 2
    actual = loss_of(settings(), model(logits=z), model(logits=t), labels=y)
    assert actual == pytest.approx(0.9 * kl + 0.1 * cross, rel=1e-5)


def test_hidden_states_are_compared_at_equal_relative_depth(draw: Callable[..., Any]) -> None:
    z, t = draw(1, 2)
    random = np.random.default_rng(4)
    student_states = [random.standard_normal((1, 4, 3)) for _ in range(3)]
    teacher_states = [random.standard_normal((1, 4, 3)) for _ in range(5)]
    # States after layers 1 and 2 of the student are compared with those after 2 and 4 of the teacher. The fourth token
    # is padding.
    mse = np.mean([((student_states[n] - teacher_states[2 * n]) ** 2)[:, :3].mean() for n in (1, 2)])
    as_tensors = lambda states: tuple(torch.tensor(state, dtype=torch.float32) for state in states)  # noqa: E731
    student = Fixed(logits=torch.tensor(z), hidden_states=as_tensors(student_states))
    teacher = Fixed(layers=4, logits=torch.tensor(t), hidden_states=as_tensors(teacher_states))
    config = settings(kd_weight=0.0, ce_weight=0.0, hidden_weight=0.3)
    actual = loss_of(config, student, teacher, labels=torch.tensor([1]))
    assert actual == pytest.approx(0.3 * mse, rel=1e-5)
    for other in (Fixed(layers=3), Fixed(layers=4, width=5)):
        with pytest.raises(
            UsageError, match=r"hidden_weight: \d layers of width \d of the teacher do not match"
        ):
            Distillation(other, student, config)


@pytest.fixture
def config(config: Callable[..., TrainConfig]) -> Callable[..., TrainConfig]:
    """Factory of configurations of dense runs."""

    def make(out: str = "out", **values: Any) -> TrainConfig:
        return config(out, **{"method": "dense", "density": 1.0, "epochs": 2} | values)

    return make


def test_student_approaches_teacher_and_records_its_hash(config: Callable[..., TrainConfig]) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    teacher = train(config("teacher", epochs=6)).path

    def outputs(path: Path) -> torch.Tensor:
        words = ["the film is good", "a bad film", "it was not in the film", "very very good and bad"]
        given = AutoTokenizer.from_pretrained(path)(words, padding=True, return_tensors="pt")
        with torch.inference_mode():
            return AutoModelForSequenceClassification.from_pretrained(path).eval()(**given).logits.softmax(-1)

    # The labels do not count: the student learns only from the teacher.
    values = {
        "epochs": 40,
        "lr": 3e-3,
        "teacher": str(teacher),
        "kd_weight": 1.0,
        "ce_weight": 0.0,
        "seed": 5,
    }
    student = train(config("student", **values))
    control = train(config("control", epochs=1, lr=1e-6, seed=5)).path
    expected = outputs(teacher)
    distances = [float((outputs(path) - expected).abs().max()) for path in (student.path, control)]
    assert distances[0] < distances[1] / 2
    assert student.record.data["teacher"]["model.safetensors"] == sha256(teacher / "model.safetensors")


def test_teacher_gets_segments_that_student_does_not_take(
    tmp_path: Path, tiny_checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A BERT teacher needs segments to tell the sentences of a pair apart; its DistilBERT student takes none."""
    folder = tmp_path / "rte"
    folder.mkdir()
    for name in ("train.tsv", "dev.tsv"):
        rows = "1\tthe film is good\tit was very good\tentailment\n2\ta bad film\tthe film is good\tnot_entailment\n"
        (folder / name).write_text("index\tsentence1\tsentence2\tlabel\n" + rows)
    names = {
        "id2label": {"0": "entailment", "1": "not_entailment"},
        "label2id": {"entailment": 0, "not_entailment": 1},
    }
    teacher = altered(tiny_checkpoint("bert", density=1.0), tmp_path / "teacher", **names)
    given: dict[str, list[Any]] = {"student": [], "teacher": []}
    original = Distillation.__init__

    def watched(self: Distillation, teacher: Any, student: Any, config: TrainConfig) -> None:
        for name, model in (("student", student), ("teacher", teacher)):
            model.register_forward_pre_hook(
                lambda _, __, inputs, name=name: given[name].append(inputs), with_kwargs=True
            )
        original(self, teacher, student, config)

    monkeypatch.setattr(Distillation, "__init__", watched)
    made = train(
        TrainConfig(
            task="rte", data=folder, model=str(tiny_checkpoint("distilbert", density=1.0)), teacher=str(teacher),
            out=tmp_path / "out", epochs=1, batch=2, max_length=24, threads=1, device="cpu",
        )
    )  # fmt: skip
    assert all("token_type_ids" not in inputs for inputs in given["student"])
    (seen,) = given["teacher"]
    # [CLS] first [SEP] second [SEP]: the longer row has 4 and 4 words.
    assert [0] * 6 + [1] * 5 in seen["token_type_ids"].tolist()
    assert "token_type_ids" not in json.loads((made.path / "tokenizer_config.json").read_text()).get(
        "model_input_names", []
    )


def altered(teacher: Path, path: Path, **values: Any) -> Path:
    shutil.copytree(teacher, path)
    document = json.loads((path / "config.json").read_text()) | values
    (path / "config.json").write_text(json.dumps(document))
    return path


def test_unsuitable_teacher_gives_one_line_error(
    config: Callable[..., TrainConfig], tmp_path: Path, tiny_checkpoint: Callable[..., Path]
) -> None:
    run = config()
    teacher = train(config("teacher", epochs=1)).path
    turned = altered(teacher, tmp_path / "turned", id2label={"0": "1", "1": "0"}, label2id={"1": 0, "0": 1})
    more = altered(tiny_checkpoint(density=1.0, num_labels=3), tmp_path / "more")
    words = Path(shutil.copytree(teacher, tmp_path / "words"))
    content = json.loads((words / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["good"], vocabulary["bad"] = vocabulary["bad"], vocabulary["good"]
    (words / "tokenizer.json").write_text(json.dumps(content))
    names = {"id2label": {"0": "0", "1": "1"}, "label2id": {"0": 0, "1": 1}}
    short = altered(tiny_checkpoint(density=1.0, max_position_embeddings=12), tmp_path / "short", **names)
    headless = altered(tiny_checkpoint("bert", "", density=1.0), tmp_path / "headless", **names)
    broken = Path(shutil.copytree(teacher, tmp_path / "broken"))
    weights = load_file(broken / "model.safetensors")
    weights["classifier.bias"][0] = torch.nan
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    for path, message in [
        (turned, r"teacher .*turned has the labels 1, 0, the task has 0, 1; .*id2label"),
        (more, r"teacher .*more has 3 labels, the task has 2"),
        (words, r"teacher .*words: its vocabulary differs from the model's"),
        (short, r"max_length 16: teacher .* accepts at most 12 tokens"),
        (headless, r"teacher .*: weight classifier.bias is missing; give a model that was fine-tuned"),
        (broken, r"teacher .*broken: classifier.bias contains NaN or Inf; give another model"),
        (Path("/nowhere/at/all"), r"cannot load teacher /nowhere/at/all"),
    ]:
        with pytest.raises(UsageError, match=message) as caught:
            train(config("refused", teacher=str(path)))
        assert "\n" not in str(caught.value)
    assert not run.state_path.exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": 3.0}, r"--temperature has no effect without --teacher"),
        ({"ce_weight": 0.5}, r"--ce-weight has no effect without --teacher"),
        ({"teacher": "t", "temperature": 0.0}, r"--temperature 0.0: must be a positive number"),
        ({"teacher": "t", "kd_weight": -1.0}, r"--kd-weight -1.0: must be 0 or more, and finite"),
        ({"teacher": "t", "kd_weight": 0.0, "ce_weight": 0.0}, r"are all 0; set one of them above 0"),
    ],
)
def test_invalid_settings_are_rejected(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TrainConfig(task="sst2", out=Path("out"), **values)
