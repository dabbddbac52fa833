"""Which check sees which broken fine-tune: real checkpoints, real training, real files; healthy ones are left alone.

The base is the quickstart's baseline. Healthy are a light fine-tune of it (some steps at a low rate), a LoRA fine-tune,
and the shipped candidate, which was trained heavily (600 steps; every matrix moved by a fifth of its norm). Each fault
is put into the light and into the heavy one, written as safetensors, and weighed from the files.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from spectral_source import Told

from evalkit.gates.evaluate import evaluate
from evalkit.loaders.gates import load_gate
from evalkit.loaders.weights import adapted, open_adapter, open_weights
from evalkit.records.scorecard import Circumstances, Provenance, Scorecard
from evalkit.records.suite import SpectralTask
from evalkit.records.verdict import Verdict
from evalkit.spectral.catalogue import CHECKS
from evalkit.spectral.spectrum import NumpyDecomposition
from evalkit.spectral.weigh import Weighed, weigh

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")
pytest.importorskip("transformers")

Tensors = dict[str, Any]
ADVISORY = {check.name for check in CHECKS if check.advisory}
TABLE, LAST = "model.embed_tokens.weight", "model.norm.weight"
Q2, K2 = (f"model.layers.2.self_attn.{name}_proj.weight" for name in "qk")
V0, UP1 = "model.layers.0.self_attn.v_proj.weight", "model.layers.1.mlp.up_proj.weight"


# --- checkpoints ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def models(root: Path) -> Path:
    return root / "suites" / "quickstart" / "models"


def texts(root: Path) -> list[str]:
    """Orders and tickets of the quickstart, as the models were taught them."""
    folder = root / "suites" / "quickstart" / "data"
    orders = map(json.loads, (folder / "orders.jsonl").read_text().splitlines())
    return [f"Order: {row['text']}\nJSON: {row['target']}\n" for row in orders]


def load(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(folder)


def train(model: Any, tokenizer: Any, lines: list[str], *, rate: float, steps: int = 20) -> None:
    """AdamW at a constant rate, eight texts a step."""
    torch.manual_seed(0)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=rate)
    for step in range(steps):
        batch = tokenizer(lines[8 * step : 8 * step + 8], return_tensors="pt", padding=True)
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        loss = model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels
        ).loss
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()


def save(model: Any, folder: Path, beside: Path) -> Path:
    """Write a model in bfloat16, with the tokenizer that lies beside another."""
    shutil.copytree(beside, folder)
    model.to(torch.bfloat16).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def trained(
    root: Path, models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[float], Path]:
    """Full fine-tunes of the baseline by their learning rate, each made once."""
    made: dict[float, Path] = {}

    def at(rate: float) -> Path:
        if rate not in made:
            model, tokenizer = load(models / "baseline")
            train(model, tokenizer, texts(root), rate=rate)
            folder = tmp_path_factory.mktemp("trained") / "model"
            made[rate] = save(model, folder, models / "baseline")
        return made[rate]

    return at


@pytest.fixture(scope="module", params=["light", "heavy"])
def healthy(request: pytest.FixtureRequest, models: Path, trained: Callable[[float], Path]) -> Path:
    return trained(1e-4) if request.param == "light" else models / "candidate"


@pytest.fixture(scope="module")
def lora(root: Path, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter of rank 8, trained by peft on every projection of the baseline."""
    peft = pytest.importorskip("peft")
    folder = tmp_path_factory.mktemp("lora")
    model, tokenizer = load(models / "baseline")
    torch.manual_seed(0)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    with warnings.catch_warnings():  # peft's own, of transformers' next version
        warnings.simplefilter("ignore")
        wrapped = peft.get_peft_model(
            model, peft.LoraConfig(r=8, lora_alpha=16, target_modules=targets)
        )
        train(wrapped, tokenizer, texts(root), rate=5e-4)
        wrapped.save_pretrained(folder)
    return folder


def merged(models: Path, lora: Path, folder: Path, times: float = 1.0) -> Path:
    """Write the baseline with the adapter merged by peft, ``times`` as strong as it declares."""
    import peft

    model, _ = load(models / "baseline")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = peft.PeftModel.from_pretrained(model, lora)
        for module in wrapped.modules():
            if isinstance(module, peft.tuners.lora.LoraLayer):
                module.scaling = {name: times * scale for name, scale in module.scaling.items()}
        plain = wrapped.merge_and_unload()
    return save(plain, folder, models / "baseline")


# --- weighing ---------------------------------------------------------------------------------------


def weighed(
    folder: Path,
    base: Path | None,
    adapter: Path | None = None,
    *,
    spectra: bool = False,
    **options: Any,
) -> Weighed:
    against = None if base is None else open_weights(base)
    updates = None if adapter is None else open_adapter(adapter)
    return weigh(
        SpectralTask(kind="spectral", name="weights", spectra=spectra, draws=20, **options),
        "candidate",
        open_weights(folder),
        against,
        updates,
        level=0.95,
        seed=0,
        decomposition=NumpyDecomposition(),
        progress=Told(),
        base_digest="" if base is None else "base",
        merged=None if against is None or updates is None else adapted(against, updates),
    )


def fired(found: Weighed) -> dict[str, set[str | None]]:
    """Check → the tensors it fired on; those that only advise are left out."""
    told: dict[str, set[str | None]] = {}
    for finding in found.findings:
        if finding.check not in ADVISORY:
            told.setdefault(finding.check, set()).add(finding.tensor)
    return told


def advised(found: Weighed, check: str) -> int:
    return sum(finding.check == check for finding in found.findings)


def value(found: Weighed, name: str) -> float:
    number = next(e.value for e in found.estimates if e.name == f"weights/{name}")
    assert number is not None
    return number


def verdict(found: Weighed, gate: Path) -> Verdict:
    """What a shipped gate says."""
    card = Scorecard(
        provenance=Provenance(
            suite="weights", suite_version=1, suite_digest="", models={}, datasets={}, seed=0, versions={}
        ),
        estimates=found.estimates,
        comparisons=(),
        tasks=(found.tally,),
        circumstances=Circumstances(
            started="", finished="", command=(), git_commit=None, hardware={}, host={}, asked=0, reused=0, seconds=0
        ),
    ).sealed()  # fmt: skip
    return evaluate([load_gate(gate)], card)


def failing(found: Weighed, gate: Path) -> set[str]:
    """Rules of a shipped gate that fail, whatever their severity."""
    return {o.rule for o in verdict(found, gate).outcomes if o.status == "fail"}


def passes(found: Weighed, gate: Path) -> bool:
    """Whether every rule of a shipped gate passes: none fails, is undecided or lacks its number."""
    told = verdict(found, gate)
    return told.status == "pass" and {outcome.status for outcome in told.outcomes} == {"pass"}


def broken(healthy: Path, folder: Path, fault: Callable[[Tensors], Tensors]) -> Path:
    """Write a copy of a checkpoint with a fault in its tensors."""
    shutil.copytree(healthy, folder)
    tensors = safetensors.load_file(folder / "model.safetensors")
    changed = {n: t.contiguous().clone() for n, t in fault(tensors).items()}
    safetensors.save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


# --- healthy ---------------------------------------------------------------------------------------


def test_a_healthy_fine_tune_fires_no_check_not_even_one_that_advises(
    healthy: Path, models: Path
) -> None:
    found = weighed(healthy, models / "baseline", spectra=True)
    assert found.findings == () and found.unread == ()
    assert all(e.counts.failed == 0 for e in found.estimates)


def test_a_light_fine_tune_passes_the_shipped_gate(
    root: Path, models: Path, trained: Callable[[float], Path]
) -> None:
    found = weighed(trained(1e-4), models / "baseline")
    assert passes(found, root / "gates" / "weights-full.yaml")


def test_a_copy_stored_twice_that_is_equal_is_no_broken_tie(
    healthy: Path, models: Path, tmp_path: Path
) -> None:
    twice = broken(healthy, tmp_path / "model", lambda t: t | {"lm_head.weight": t[TABLE]})
    found = weighed(twice, models / "baseline")
    assert fired(found) == {}


# --- faults in tensors -----------------------------------------------------------------------------


def noise(tensor: Any) -> Any:
    drawn = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(0))
    return (drawn * tensor.float().std()).to(tensor.dtype)


def with_nan(tensor: Any) -> Any:
    held = tensor.clone()
    held[3, 5] = float("nan")
    return held


def shuffled(tensor: Any) -> Any:
    return tensor[torch.randperm(len(tensor), generator=torch.Generator().manual_seed(0))]


def norms(t: Tensors) -> list[str]:
    return [name for name in t if "norm" in name]


def queries(t: Tensors) -> list[str]:
    return [name for name in t if "q_proj" in name]


def on(tensors: set[str], *checks: str) -> dict[str, set[str]]:
    return dict.fromkeys(checks, tensors)


UNLIKE = ("drift.unrelated", "drift.outlier")
FAULTS: dict[str, tuple[Callable[[Tensors], Tensors], dict[str, Any]]] = {
    "re-initialised": (
        lambda t: t | {UP1: noise(t[UP1])},
        on({UP1}, *UNLIKE, "scale.collapse"),
    ),
    "zeroed": (
        lambda t: t | {UP1: torch.zeros_like(t[UP1])},
        on({UP1}, *UNLIKE, "scale.collapse", "integrity.zero"),
    ),
    "q and k swapped": (
        lambda t: t | {Q2: t[K2], K2: t[Q2]},
        on({Q2, K2}, *UNLIKE),
    ),
    "rows shuffled": (
        lambda t: t | {UP1: shuffled(t[UP1])},
        on({UP1}, *UNLIKE),
    ),
    "q scaled by 3": (
        lambda t: t | {name: 3 * t[name] for name in queries(t)},
        {"scale.collapse": queries},
    ),
    "embedding rolled by one row": (
        lambda t: t | {TABLE: torch.roll(t[TABLE], 1, 0)},
        on({TABLE}, *UNLIKE),
    ),
    "LayerNorm gains scaled by 1.5": (
        lambda t: t | {name: 1.5 * t[name] for name in norms(t)},
        {"scale.collapse": norms},
    ),
    "NaN in one tensor": (lambda t: t | {V0: with_nan(t[V0])}, {"integrity.nonfinite": {V0}}),
    "one tensor in another format": (
        lambda t: t | {V0: t[V0].half()},
        {"integrity.dtype": {V0}},
    ),
    "all in a format that config.json does not name": (
        lambda t: {name: tensor.float() for name, tensor in t.items()},
        {"integrity.dtype": {None}},
    ),
    "tied weights broken": (
        lambda t: t | {"lm_head.weight": t[TABLE] + noise(t[TABLE]) / 100},
        {"integrity.tied": {"lm_head.weight"}},
    ),
    "a tensor lost": (
        lambda t: {name: tensor for name, tensor in t.items() if name != V0},
        {"integrity.missing": {V0}},
    ),
    "a tensor of no numbers": (
        lambda t: t | {V0: t[V0][:0]},
        {"integrity.unreadable": {V0}},
    ),
    "a tensor of something else": (
        lambda t: t | {"model.layers.0.extra.weight": t[V0]},
        {"integrity.extra": {"model.layers.0.extra.weight"}},
    ),
    "rows added to the embedding": (
        lambda t: t | {TABLE: torch.cat([t[TABLE], t[TABLE][:2]])},
        on({TABLE}, "integrity.shape", "integrity.vocabulary"),
    ),
    "a dead row": (
        lambda t: t | {UP1: t[UP1] * (torch.arange(len(t[UP1])) != 7)[:, None]},
        {"integrity.dead": {UP1}},
    ),
}
"""Fault → what it does to the tensors, and the checks that must fire, with the tensors: these and no others."""


@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_fault_in_tensors_fires_its_checks_and_no_others(
    fault: str, healthy: Path, models: Path, tmp_path: Path
) -> None:
    found = weighed(broken(healthy, tmp_path / "model", FAULTS[fault][0]), models / "baseline")
    assert fired(found) == wanted(fault, healthy)


def wanted(fault: str, healthy: Path) -> dict[str, set[str | None]]:
    """Check → the tensors that it must fire on."""
    tensors = safetensors.load_file(healthy / "model.safetensors")
    return {
        check: set(named(tensors)) if callable(named) else named
        for check, named in FAULTS[fault][1].items()
    }


FAST = ("zeroed", "NaN in one tensor", "rows added to the embedding", "a tensor of no numbers")
PROMISES = ("integrity.frozen", "integrity.untrained")


@pytest.mark.parametrize(
    "fault",
    [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in FAULTS],
)
def test_no_fault_is_a_crash_with_everything_asked_for(
    fault: str, models: Path, tmp_path: Path
) -> None:
    folder = broken(models / "candidate", tmp_path / "model", FAULTS[fault][0])
    found = weighed(
        folder,
        models / "baseline",
        spectra=True,
        importance=True,
        traps=True,
        frozen=["*"],
        trained=["*"],
    )
    told = fired(found)
    # Every tensor breaks a promise here: "*" is frozen and trained, and only a lost one is silent.
    assert "integrity.frozen" in told
    told = {check: on for check, on in told.items() if check not in PROMISES}
    assert told == wanted(fault, models / "candidate")


# --- faults in files -------------------------------------------------------------------------------


def in_shards(healthy: Path, folder: Path) -> Path:
    """Write a copy of a checkpoint in three shards with their index."""
    shutil.copytree(healthy, folder)
    tensors = safetensors.load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names, placed = sorted(tensors), {}
    for number in range(3):
        file = f"model-{number + 1:05}-of-00003.safetensors"
        held = {name: tensors[name] for name in names[number::3]}
        safetensors.save_file(held, folder / file, metadata={"format": "pt"})
        placed |= dict.fromkeys(held, file)
    index = {"metadata": {}, "weight_map": placed}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def test_whole_shards_are_the_same_model(models: Path, tmp_path: Path) -> None:
    folder = in_shards(models / "candidate", tmp_path / "model")
    found = weighed(folder, models / "baseline")
    plain = weighed(models / "candidate", models / "baseline")
    assert found.findings == ()
    assert value(found, "drift") == pytest.approx(value(plain, "drift"), rel=1e-12)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def emptied(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, emptied, Path.unlink], ids=["cut off", "empty", "missing"])
def test_a_damaged_shard_is_unreadable_and_the_rest_is_weighed(
    damage: Callable[[Path], None], models: Path, tmp_path: Path
) -> None:
    folder = in_shards(models / "candidate", tmp_path / "model")
    damage(folder / "model-00002-of-00003.safetensors")
    found = weighed(folder, models / "baseline")
    assert "integrity.unreadable" in fired(found)
    assert set(fired(found)) <= {"integrity.unreadable", "integrity.missing"}
    assert len(found.rows) >= 24
    untouched = {"integrity.nonfinite", "integrity.zero", "drift", "norm"}
    for estimate in found.estimates:
        if estimate.metric in untouched and estimate.slice is None:
            assert estimate.counts.failed > 0, "what is lost counts against every number"


@pytest.mark.parametrize("against", [True, False], ids=["with a base", "alone"])
def test_a_checkpoint_without_weights_is_no_sound_one(
    against: bool, models: Path, root: Path, tmp_path: Path
) -> None:
    empty = broken(models / "candidate", tmp_path / "model", lambda _: {})
    found = weighed(empty, models / "baseline" if against else None)
    assert None in fired(found)["integrity.unreadable"]
    assert "whole" in failing(found, root / "gates" / "weights-full.yaml")


@pytest.mark.parametrize("damage", [cut, emptied, Path.unlink], ids=["cut off", "empty", "missing"])
def test_what_a_damaged_base_has_lost_counts_against_what_is_held_against_it(
    damage: Callable[[Path], None], models: Path, root: Path, tmp_path: Path
) -> None:
    base = in_shards(models / "baseline", tmp_path / "base")
    damage(base / "model-00002-of-00003.safetensors")
    left = {tensor.name for tensor in open_weights(base).tensors}
    folder = broken(
        models / "candidate",
        tmp_path / "model",
        lambda t: {name: tensor for name, tensor in t.items() if name in left},
    )
    found = weighed(folder, base)
    assert "integrity.missing" not in fired(found), "nothing says what is gone"
    for check in ("missing", "extra", "shape", "dtype"):
        (told,) = (e for e in found.estimates if e.name == f"weights/integrity.{check}")
        assert told.counts.failed > 0, check
    assert verdict(found, root / "gates" / "weights-full.yaml").status != "pass"


def test_a_damaged_adapter_is_told_tensor_by_tensor(
    models: Path, lora: Path, root: Path, tmp_path: Path
) -> None:
    shutil.copytree(lora, tmp_path / "adapter")
    cut(tmp_path / "adapter" / "adapter_model.safetensors")
    lost = {fault.tensor for fault in open_adapter(tmp_path / "adapter").whole.faults}
    assert len(lost) > 20
    folder = merged(models, lora, tmp_path / "model")
    found = weighed(folder, models / "baseline", tmp_path / "adapter")
    assert lost <= fired(found)["integrity.adapter"]
    assert "adapter-trained" in failing(found, root / "gates" / "weights-lora.yaml")


# --- faults of training ------------------------------------------------------------------------------


def test_training_at_a_high_rate_brings_intruders_and_breaks_the_cap_on_drift(
    root: Path, models: Path, trained: Callable[[float], Path]
) -> None:
    """At 6e-3 the loss on held-out orders is 0.60 instead of the light one's 0.43, and every tensor still resembles its
    base's: only the amount and the directions of the movement tell. Mean alpha gets better, 3.09 instead of 3.58."""
    found = weighed(trained(6e-3), models / "baseline", spectra=True)
    assert fired(found) == {}
    assert advised(found, "drift.spectrum") >= 5 and value(found, "intruders") >= 5
    assert failing(found, root / "gates" / "weights-full.yaml") == {"moved-as-training-moves"}
    light = weighed(trained(1e-4), models / "baseline", spectra=True)
    assert value(found, "alpha") < value(light, "alpha")
    assert value(light, "drift.max") < 0.05 < 0.3 < value(found, "drift")


@pytest.mark.slow
def test_training_that_wrecks_the_model_leaves_nothing_of_the_base(
    root: Path, models: Path, trained: Callable[[float], Path]
) -> None:
    found = weighed(trained(2e-2), models / "baseline")
    assert {"drift.unrelated", "scale.collapse"} <= set(fired(found))
    assert len(fired(found)["drift.unrelated"]) >= 20
    assert "still-related" in failing(found, root / "gates" / "weights-full.yaml")


def test_training_that_never_arrived_is_seen(models: Path) -> None:
    found = weighed(models / "baseline", models / "baseline")
    assert fired(found) == {"drift.unchanged": {None}}


def test_a_merged_adapter_is_base_plus_adapter(
    models: Path, lora: Path, root: Path, tmp_path: Path
) -> None:
    found = weighed(merged(models, lora, tmp_path / "model"), models / "baseline", lora)
    assert fired(found) == {}
    assert value(found, "update_rank") == 8 and 4 < value(found, "update_effective_rank") <= 8
    assert value(found, "update_norm") == pytest.approx(value(found, "drift.max"), rel=0.05)
    assert passes(found, root / "gates" / "weights-lora.yaml")


@pytest.mark.parametrize(
    "times",
    [8.0, pytest.param(0.5, marks=pytest.mark.slow), pytest.param(-1.0, marks=pytest.mark.slow)],
)
def test_an_adapter_at_another_strength_is_not_base_plus_adapter(
    times: float, models: Path, lora: Path, root: Path, tmp_path: Path
) -> None:
    folder = merged(models, lora, tmp_path / "model", times)
    found = weighed(folder, models / "baseline", lora)
    assert len(fired(found)["integrity.merge"]) == 28, "every projection has an update"
    rules = failing(found, root / "gates" / "weights-lora.yaml")
    assert "whole" in rules
    assert ("drift" in rules) == (times == 8.0), "the cap alone tells, where no adapter is given"


def test_an_adapter_that_was_not_applied_is_seen(models: Path, lora: Path, tmp_path: Path) -> None:
    found = weighed(models / "baseline", models / "baseline", lora)
    assert set(fired(found)) == {"integrity.merge", "drift.unchanged"}


def test_an_adapter_whose_training_never_ran_is_seen(
    models: Path, lora: Path, tmp_path: Path
) -> None:
    fresh = tmp_path / "fresh"
    shutil.copytree(lora, fresh)
    factors = safetensors.load_file(fresh / "adapter_model.safetensors")
    zero = {n: torch.zeros_like(f) if "lora_B" in n else f for n, f in factors.items()}
    safetensors.save_file(zero, fresh / "adapter_model.safetensors", metadata={"format": "pt"})
    found = weighed(models / "baseline", models / "baseline", fresh)
    assert len(fired(found)["integrity.adapter"]) == 28
