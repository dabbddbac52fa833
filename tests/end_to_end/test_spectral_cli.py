"""What a user does with weights: evalkit spectral, and suites whose runs end with them."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest
from commands import command

from evalkit.cli.past_runs import open_run
from evalkit.gates.census import census_fields
from evalkit.identity import canonical_json
from evalkit.records.suite import SpectralTask

DAMAGED = "model.layers.1.mlp.down_proj.weight"
EMPTIED = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture(scope="module")
def models(root):
    return root / "suites" / "quickstart" / "models"


@pytest.fixture(scope="module")
def place(tmp_path_factory, models):
    """A folder with the quickstart's checkpoints, and damaged copies of the candidate."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("weights")
    for name in ("candidate", "baseline"):
        (folder / name).symlink_to(models / name)
    for name in ("cut", "broken"):
        shutil.copytree(models / "candidate", folder / name)
    cut = folder / "cut" / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:1_000_000])
    tensors = load_file(folder / "broken" / "model.safetensors")
    tensors[DAMAGED][3, 4] = float("nan")
    tensors[EMPTIED][:] = 0
    save_file(tensors, folder / "broken" / "model.safetensors", metadata={"format": "pt"})
    (folder / "typo.yaml").write_text(
        "gate: t\nrules: [{id: d, estimate: weights/drft.max, require: at_most, value: 1}]\n"
    )
    (folder / "rows.jsonl").write_text(
        "".join(json.dumps({"id": n, "text": f"{n} + 1 ="}) + "\n" for n in range(3))
    )
    return folder


def folder_of(out, place):
    return place / out.split("scorecard: ")[1].strip().removesuffix("/scorecard.json")


def read(folder, name="scorecard.json"):
    return json.loads((folder / name).read_text())


def ours(rows):
    return [row for row in rows if row["model"] == "candidate"]


def rows_of(folder):
    return [json.loads(line) for line in (folder / "weights.jsonl").read_text().splitlines()]


# --- evalkit spectral ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weighed(place):
    """The candidate, held against the baseline with everything there is."""
    code, out, err = command(
        "spectral", "candidate", "--base", "baseline", "--spectra", "--draws", "5", "--traps",
        "--importance", "--export", "layers.json", "--json", "told.json", "--plots", cwd=place,
    )  # fmt: skip
    assert code == 0, err + out
    return folder_of(out, place), out, err


def test_a_healthy_fine_tune_passes_and_says_how_far_it_moved(weighed):
    folder, out, err = weighed
    card, verdict = read(folder), read(folder, "verdict.json")
    numbers = {(e["metric"], e["slice"]): e["value"] for e in card["estimates"]}
    assert folder.name.startswith("weights-")
    assert 0.1 < numbers["drift", None] < 0.3 and numbers["cosine.min", None] > 0.9
    assert numbers["integrity.nonfinite", None] == 0
    assert (verdict["status"], verdict["exit_code"]) == ("pass", 0)
    assert {f["check"].partition(".")[0] for f in card["findings"]} <= {"shape"}, "advice alone"
    assert "PASS" in out and "weights" in err


def test_with_spectra_the_base_stands_beside_so_that_a_change_has_an_interval(weighed):
    card, out = read(weighed[0]), weighed[1]
    assert {e["model"] for e in card["estimates"]} == {"candidate", "baseline"}
    compared = {
        (c["metric"], c["slice"]): c for c in card["comparisons"] if c["status"] == "compared"
    }
    hill = compared["hill", None]
    alpha = compared["alpha", "tensor=model.layers.0.self_attn.k_proj.weight"]
    assert hill["interval"]["low"] == hill["interval"]["high"] == hill["difference"]
    assert alpha["interval"]["low"] < alpha["difference"] < alpha["interval"]["high"]
    assert "baseline" in out


def test_without_spectra_the_base_is_read_once_and_nothing_is_said_of_it_alone(place):
    _, out, _ = command("spectral", "candidate", "--base", "baseline", "--quiet", cwd=place)
    card = read(folder_of(out, place))
    assert {e["model"] for e in card["estimates"]} == {"candidate"} and not card["comparisons"]


def test_every_tensor_has_its_row_with_every_number(weighed, models):
    from safetensors import safe_open

    rows = ours(rows_of(weighed[0]))
    with safe_open(models / "candidate" / "model.safetensors", "np") as file:
        assert {row["stored"] for row in rows} == set(file.keys())
    for row in rows:
        for name, held in row["measured"].items():
            assert held["value"] is not None or held["status"] != "ok", (row["tensor"], name)
    (embedding,) = [row for row in rows if row["module"] == "embedding"]
    assert embedding["shape"] == [512, 128] and embedding["dtype"] == "BF16"
    (matrix,) = [row for row in rows if row["tensor"] == EMPTIED]
    assert {"norm", "drift", "alpha", "importance", "intruders"} <= matrix["measured"].keys()
    assert matrix["measured"]["alpha"]["low"] < matrix["measured"]["alpha"]["high"]


def test_a_tensors_norm_and_drift_are_those_that_torch_computes(weighed, models):
    from safetensors.torch import load_file

    held = [load_file(models / name / "model.safetensors") for name in ("candidate", "baseline")]
    for row in ours(rows_of(weighed[0])):
        tuned, base = (tensors[row["stored"]].double() for tensors in held)
        measured = row["measured"]
        assert measured["norm"]["value"] == pytest.approx(float(tuned.norm()), rel=1e-6)
        moved = float((tuned - base).norm() / base.norm())
        assert measured["drift"]["value"] == pytest.approx(moved, rel=1e-5)


def test_every_number_has_a_name_that_a_rule_may_be_written_on(weighed):
    """What is checked before a run and what a run gives are the same names."""
    task = SpectralTask(
        kind="spectral", name="weights", spectra=True, traps=True, importance=True
    )  # fmt: skip
    fields = census_fields(task)
    for estimate in read(weighed[0])["estimates"]:
        name = f"weights/{estimate['metric']}"
        assert name in fields
        assert estimate["slice"] is None or estimate["slice"].partition("=")[0] in fields[name]
        assert estimate["kind"] == "census"


def test_the_run_stands_by_itself_and_is_judged_again_by_another_gate(weighed, place):
    (place / "tight.yaml").write_text(
        "gate: tight\nrules:\n  - {id: d, estimate: weights/drift.max, require: at_most, value: 0.01}\n"
    )
    folder = weighed[0]
    code, out, err = command("gate", folder, "tight.yaml", cwd=place)
    assert code == 1, err
    assert "weights/drift.max is 0.2" in out
    run = open_run(folder, place / "reports")
    assert run.tables() == {} and list(run.weights_rows()) == rows_of(folder)
    assert read(folder)["digest"] == run.scorecard.computed_digest()


def test_read_again_the_weights_give_the_same_bytes(weighed, place):
    """What nobody asked for this time is gone: a run's folder never mixes two runs."""
    folder = place / "again" / weighed[0].name
    shutil.copytree(weighed[0], folder)
    arguments = ("--spectra", "--draws", "5", "--traps", "--importance", "--out", "again")
    code, out, _ = command(
        "spectral", "candidate", "--base", "baseline", *arguments, "--quiet", cwd=place
    )
    assert (code, folder_of(out, place)) == (0, folder)
    for name in ("weights.jsonl", "suite.json", "verdict.json"):
        assert (folder / name).read_bytes() == (weighed[0] / name).read_bytes()
    assert read(folder)["digest"] == read(weighed[0])["digest"]
    assert not (folder / "plots").exists()


def test_the_list_of_layers_spends_the_budget_to_the_last_weight(weighed, place):
    told = json.loads((place / "layers.json").read_text())
    assert told["chosen"] == round(0.1 * told["weights"])
    assert sum(layer["chosen"] for layer in told["layers"]) == told["chosen"]
    assert all(layer["chosen"] <= layer["weights"] for layer in told["layers"])
    assert "unvalidated" in told["heuristic"]


def test_plots_lie_in_the_runs_folder_as_specification_and_as_picture(weighed):
    import xml.etree.ElementTree as Xml

    folder, out, _ = weighed
    named = {path.name for path in (folder / "plots").iterdir()}
    assert named == {
        f"{name}.{ending}"
        for name in ("drift", "alpha", "spectrum", "importance")
        for ending in ("vl.json", "svg")
    }
    assert "drift.svg" in out
    for name in named:
        text = (folder / "plots" / name).read_text()
        if name.endswith(".svg"):
            assert Xml.fromstring(text).tag.endswith("svg")
        else:
            assert "vega-lite" in json.loads(text)["$schema"]
    drawn = (folder / "plots" / "alpha.vl.json").read_text()
    assert '"base"' in drawn and EMPTIED in drawn


def test_everything_is_written_as_json_too(weighed, place):
    told = json.loads((place / "told.json").read_text())
    assert told["scorecard"]["digest"] == told["verdict"]["scorecard"] == read(weighed[0])["digest"]


def test_masks_hold_the_share_that_was_asked_for_and_load_with_numpy(place, models):
    code, _, err = command(
        "spectral", "candidate", "--importance", "--export", "masks.npz", "--share", "0.03",
        "--quiet", cwd=place,
    )  # fmt: skip
    assert code == 0, err
    masks = np.load(place / "masks.npz")
    held = {name: masks[name] for name in masks.files}
    assert held[EMPTIED].shape == (128, 128) and held[EMPTIED].dtype == bool
    total = sum(mask.size for mask in held.values())
    assert sum(int(mask.sum()) for mask in held.values()) == round(0.03 * total)


def test_a_checkpoint_that_is_cut_off_fails_with_findings(place):
    """It is what the command is for: no refusal, no crash, and no pass."""
    code, out, err = command("spectral", "cut", "--base", "baseline", cwd=place)
    assert code == 1, err
    card = read(folder_of(out, place))
    damaged = [f for f in card["findings"] if f["check"] == "integrity.unreadable"]
    assert damaged and all("cut off" in finding["message"] for finding in damaged)
    assert "is cut off" in out and "FAIL" in out and "Traceback" not in err


def test_nan_and_an_emptied_matrix_fail_by_name(place):
    code, out, _ = command("spectral", "broken", "--base", "baseline", "--spectra", cwd=place)
    assert code == 1
    found = {(f["check"], f["tensor"]) for f in read(folder_of(out, place))["findings"]}
    assert {("integrity.nonfinite", DAMAGED), ("integrity.zero", EMPTIED)} <= found
    assert DAMAGED in out and EMPTIED in out


def test_without_a_base_nothing_is_said_to_have_stayed(place):
    code, out, _ = command("spectral", "candidate", cwd=place)
    assert code == 0
    metrics = {e["metric"] for e in read(folder_of(out, place))["estimates"]}
    assert "drift" not in metrics and "integrity.missing" not in metrics
    assert "No base model was at hand" in out


def test_frozen_tensors_that_moved_are_found(place):
    told = ("--base", "baseline", "--frozen", "*q_proj*", "--trained", "*k_proj*")
    code, out, _ = command("spectral", "candidate", *told, cwd=place)
    assert code == 1
    found = {f["check"] for f in read(folder_of(out, place))["findings"]}
    assert found == {"integrity.frozen"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nowhere",), "no checkpoint 'nowhere': there is no such folder"),
        (("candidat",), "did you mean 'candidate'?"),
        (("candidate", "--traps"), "--traps takes --spectra"),
        (("candidate", "--draws", "3"), "--draws takes --spectra"),
        (("candidate", "--adapter", "lora"), "--adapter takes --base"),
        (("candidate", "--export", "x.json"), "--export takes --importance"),
        (("candidate", "--importance", "--export", "x.bin"), "name a .json"),
        (("candidate", "--frozen", "*"), "--frozen and --trained take --base"),
        (("candidate", "--base", "nowhere"), "no checkpoint 'nowhere'"),
        (("candidate", "--base", "baseline", "--adapter", "baseline"), "is no adapter"),
        (("candidate", "--gate", "rows.jsonl"), "rows.jsonl"),
        (("candidate", "--gate", "typo.yaml"), "did you mean 'weights/drift.max'?"),
        (("candidate", "--json", "nowhere/x.json"), "--json nowhere/x.json: there is no folder"),
        (
            ("candidate", "--importance", "--export", "nowhere/x.json"),
            "--export nowhere/x.json: there is no folder",
        ),
        (("candidate", "--spectra", "--compatible", "--device", "cuda"), "leave out --device"),
        ((), "MODEL"),
    ],
)
def test_what_cannot_be_done_is_a_usage_error_that_says_how_to_mend_it(place, arguments, told):
    code, out, err = command("spectral", *arguments, "--out", "refused", cwd=place)
    assert code == 2
    assert told in err and "Traceback" not in err and out == ""


def test_what_the_extra_brings_is_asked_for_by_the_command_that_installs_it(place, monkeypatch):
    """Before anything is read: minutes later would be too late."""
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    code, out, err = command("spectral", "candidate", "--plots", cwd=place)
    assert (code, out) == (3, "")
    assert "vl_convert" in err and "pip install 'evalkit-gates[spectral]'" in err


def test_a_device_that_is_not_there_is_no_verdict(place, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setitem(sys.modules, "torch", None)
    code, _, err = command("spectral", "candidate", "--spectra", "--device", "cuda", cwd=place)
    assert code == 3 and "needs torch" in err and "leave --device out" in err


@pytest.mark.parametrize(
    ("more", "code"), [(("--device", "cuda"), 3), (("--json", "nowhere/x.json"), 2)]
)
def test_what_is_refused_leaves_a_finished_run_as_it_is(place, monkeypatch, more, code):
    _, out, _ = command("spectral", "candidate", cwd=place)
    before = read(folder_of(out, place))
    monkeypatch.setitem(sys.modules, "torch", None)
    assert command("spectral", "candidate", *more, cwd=place)[0] == code
    assert read(folder_of(out, place)) == before


def test_a_file_that_cannot_be_written_after_all_leaves_a_finished_run(place):
    (place / ".told-late.json.partial").mkdir()
    code, out, err = command("spectral", "candidate", "--json", "told-late.json", cwd=place)
    assert (code, out) == (3, "") and "told-late.json" in err
    _, out, _ = command("spectral", "candidate", "--quiet", cwd=place)
    assert (folder_of(out, place) / "verdict.json").is_file()


def test_an_interrupt_says_that_nothing_was_kept_and_leaves_a_finished_run(place, monkeypatch):
    from evalkit.cli import weights

    _, out, _ = command("spectral", "candidate", cwd=place)
    before = read(folder_of(out, place))

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(weights, "weigh_models", interrupted)
    code, _, err = command("spectral", "candidate", cwd=place)
    assert code == 130 and "nothing was kept; the same command starts over" in err
    assert read(folder_of(out, place)) == before


@pytest.mark.parametrize("lost", ["bytes", "shard"])
def test_a_base_that_is_damaged_never_lets_a_model_pass(place, models, lost):
    from safetensors.torch import load_file, save_file

    base = place / f"base-without-{lost}"
    shutil.copytree(models / "baseline", base)
    tensors = load_file(base / "model.safetensors")
    (base / "model.safetensors").unlink()
    if lost == "bytes":
        (base / "model.safetensors").write_bytes(b"")
    else:
        names = sorted(tensors)
        files = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
        save_file({name: tensors[name] for name in names[::2]}, base / files[0])
        index = {name: files[place % 2] for place, name in enumerate(names)}
        (base / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    code, out, _ = command("spectral", "candidate", "--base", base.name, cwd=place)
    assert code == 4, out


def test_without_configuration_and_tokenizer_the_report_says_what_was_not_checked(place):
    (place / "bare").mkdir()
    shutil.copy(place / "candidate" / "model.safetensors", place / "bare")
    code, out, _ = command("spectral", "bare", "--plots", cwd=place)
    assert code == 0
    assert "? no config.json: nothing was checked against a configuration." in out
    assert "? no tokenizer: " in out and "nothing to draw" in out
    assert "no config.json" not in command("spectral", "candidate", cwd=place)[1]


def test_pickled_weights_are_refused_with_advice(place):
    (place / "pickled").mkdir(exist_ok=True)
    (place / "pickled" / "pytorch_model.bin").write_bytes(b"\x80\x04N.")
    code, _, err = command("spectral", "pickled", cwd=place)
    assert code == 2 and "run code" in err and "safe_serialization=True" in err


# --- adapters -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def adapted(place, models):
    """LoRA adapters on the baseline, written by hand, and the baseline with one merged: rightly, and 8 times over."""
    import torch
    from safetensors.torch import load_file, save_file

    rank, alpha, generator = 4, 8, torch.Generator().manual_seed(0)
    base = load_file(models / "baseline" / "model.safetensors")
    factors, merged, times_8 = {}, dict(base), dict(base)
    for layer in range(4):
        name = f"model.layers.{layer}.self_attn.v_proj"
        weight = base[f"{name}.weight"]
        down = torch.randn(rank, weight.shape[1], generator=generator) * 0.05
        up = torch.randn(weight.shape[0], rank, generator=generator) * 0.05
        factors[f"base_model.model.{name}.lora_A.weight"] = down
        factors[f"base_model.model.{name}.lora_B.weight"] = up
        for held, gain in ((merged, 1), (times_8, 8)):
            update = gain * alpha / rank * (up @ down)
            held[f"{name}.weight"] = (weight.float() + update).to(weight.dtype)
    zeros = {k: v * (0 if "lora_B" in k else 1) for k, v in factors.items()}
    for folder, held in (("lora", factors), ("untrained", zeros)):
        (place / folder).mkdir()
        save_file(held, place / folder / "adapter_model.safetensors")
        config = {
            "peft_type": "LORA", "r": rank, "lora_alpha": alpha, "target_modules": ["v_proj"],
            "base_model_name_or_path": "../baseline",
        }  # fmt: skip
        (place / folder / "adapter_config.json").write_text(json.dumps(config))
    for folder, held in (("merged", merged), ("merged-8", times_8)):
        shutil.copytree(models / "baseline", place / folder)
        save_file(held, place / folder / "model.safetensors", metadata={"format": "pt"})
    return place


def numbers_of(folder):
    return {e["metric"]: e["value"] for e in read(folder)["estimates"] if e["slice"] is None}


def test_an_adapter_is_weighed_on_the_base_that_it_names(adapted):
    code, out, err = command("spectral", "lora", cwd=adapted)
    assert code == 0, err + out
    alone = numbers_of(folder_of(out, adapted))
    assert 0 < alone["drift"] < alone["drift.max"] and alone["integrity.adapter"] == 0
    code, out, _ = command("spectral", "merged", "--base", "baseline", cwd=adapted)
    assert code == 0
    merged = numbers_of(folder_of(out, adapted))
    assert merged["drift"] == pytest.approx(alone["drift"], rel=1e-2), "but for bf16's rounding"


def test_an_adapter_that_was_never_trained_fails(adapted):
    code, out, _ = command("spectral", "untrained", cwd=adapted)
    assert code == 1
    found = {f["check"] for f in read(folder_of(out, adapted))["findings"]}
    assert "integrity.adapter" in found


@pytest.mark.parametrize(("model", "code"), [("merged", 0), ("merged-8", 1)])
def test_a_merged_model_must_be_base_and_adapter(adapted, model, code):
    told = ("--base", "baseline", "--adapter", "lora")
    done, out, err = command("spectral", model, *told, cwd=adapted)
    assert done == code, err + out
    found = [
        f for f in read(folder_of(out, adapted))["findings"] if f["check"] == "integrity.merge"
    ]
    assert len(found) == (4 if code else 0)
    provenance = read(folder_of(out, adapted))["provenance"]["models"]
    assert {"weights/base", "weights/adapter"} <= provenance.keys()


def test_what_a_model_was_held_against_is_part_of_the_runs_name(adapted):
    """Another adapter, or another base, under the same name is another measurement."""
    names = set()
    for base in ("baseline", "candidate"):
        _, out, _ = command("spectral", "merged", "--base", base, "--quiet", cwd=adapted)
        names.add(folder_of(out, adapted))
    assert len(names) == 2


# --- a suite with a task that reads weights -----------------------------------------------------------------------

SUITE = """
suite: mixed
version: 1
gates: [gate.yaml]
tasks:
  - name: sums
    dataset: {path: rows.jsonl}
    prompt: "{{ text }}"
    target: "2"
    decoding: {max_tokens: 1}
    metrics: [exact_match]
  - name: weights
    kind: spectral
"""
GATE = """
gate: g
rules:
  - {id: whole, estimate: "weights/integrity.*", require: at_most, value: 0}
  - {id: small-steps, estimate: weights/drift.max, require: at_most, value: DRIFT}
  - {id: sums, estimate: sums/exact_match, require: at_most, value: 1, on_missing: fail}
"""
ALLOWED = ("--backend", "transformers", "--allow-undecidable")


@pytest.fixture
def suite(place):
    def suite(drift=0.5, task="", gate=GATE):
        (place / "suite.yaml").write_text(SUITE + task)
        (place / "gate.yaml").write_text(gate.replace("DRIFT", str(drift)))
        return "suite.yaml"

    return suite


def run(place, suite, *arguments, models=("candidate", "baseline"), out="reports"):
    named = ("--candidate", models[0], "--baseline", models[1])
    code, told, err = command("run", suite, *named, *ALLOWED, *arguments, "--out", out, cwd=place)
    assert code in (0, 1, 4), err + told
    return code, folder_of(told, place), told


def test_a_suite_that_reads_weights_validates_and_has_no_power_to_ask_for(place, suite):
    code, out, err = command("validate", suite(), cwd=place)
    assert (code, "2 tasks" in out, "3 rows rendered" in out) == (0, True, True), err
    code, out, err = command("power", "suite.yaml", "--assume", "accuracy=0.5", cwd=place)
    assert "weights/drift.max" in out and "read in full" in out, err
    wrong = suite(gate=GATE.replace("drift.max", "drft.max"))
    code, _, err = command("validate", wrong, cwd=place)
    assert code == 2 and "did you mean 'weights/drift.max'?" in err


def test_weights_that_fail_end_the_run_before_anything_is_asked(place, suite):
    """The rule on sums counts as failed where it is missing, but is none that the weights decide."""
    code, folder, out = run(place, suite(drift=0.001))
    card, verdict = read(folder), read(folder, "verdict.json")
    assert (code, verdict["status"]) == (1, "fail")
    assert (card["circumstances"]["asked"], (folder / "samples.jsonl").read_bytes()) == (0, b"")
    assert {tally["task"] for tally in card["tasks"]} == {"weights"}
    assert {e["model"] for e in card["estimates"]} == {"candidate", "baseline"}
    assert "Stopped before anything was asked" in out and "sums did not run" in out
    assert "--keep-going" in out
    (missing,) = [o for o in verdict["outcomes"] if o["rule"] == "sums"]
    assert missing["status"] == "missing"


def test_a_run_that_is_stopped_never_takes_the_place_of_a_complete_one(place, suite):
    """Whether it was completed by --keep-going or by a gate that let it pass."""
    complete = run(place, suite(drift=0.5))[1]
    stopped = run(place, suite(drift=0.001))[1]
    assert stopped != complete and read(complete)["circumstances"]["asked"] == 6
    assert read(complete, "verdict.json")["status"] == "pass"
    code, folder, out = run(place, "suite.yaml", "--keep-going")
    card = read(folder)
    assert (code, folder) == (1, complete)
    assert run(place, "suite.yaml")[1] == stopped and read(folder) == card
    assert card["circumstances"]["asked"] + card["circumstances"]["reused"] == 6
    assert {(t["model"], t["task"]) for t in card["tasks"]} == {
        (model, task) for model in ("candidate", "baseline") for task in ("sums", "weights")
    }
    assert "Stopped" not in out and "sums" in out
    statuses = {o["rule"]: o["status"] for o in read(folder, "verdict.json")["outcomes"]}
    assert (statuses["sums"], statuses["small-steps"]) == ("pass", "fail")


def test_weights_that_pass_stand_beside_the_answers_in_one_verdict(place, suite):
    code, folder, out = run(place, suite())
    assert code == 0, out
    card = read(folder)
    order = [(e["model"], e["task"]) for e in card["estimates"]]
    assert list(dict.fromkeys(order)) == [
        (model, task) for model in ("candidate", "baseline") for task in ("sums", "weights")
    ]
    tasks = {c["task"] for c in card["comparisons"] if c["status"] == "compared"}
    assert tasks == {"sums", "weights"}
    (norm,) = [c for c in card["comparisons"] if (c["metric"], c["slice"]) == ("norm", None)]
    assert norm["difference"] == pytest.approx(norm["candidate"] - norm["baseline"])
    assert {row["model"] for row in rows_of(folder)} == {"candidate", "baseline"}


def test_from_its_folder_the_runs_answers_are_computed_again_and_its_weights_left_alone(
    place, suite
):
    from evalkit.estimating import estimate_tables

    _, folder, _ = run(place, suite())
    past = open_run(folder, place / "reports")
    again = estimate_tables(past.tables(), past.suite.seed, past.suite.confidence)
    written = [e for e in read(folder)["estimates"] if e["kind"] != "census"]
    assert canonical_json([e.model_dump(mode="json") for e in again]) == canonical_json(written)
    assert past.scores("weights/drift") is None


def test_a_damaged_candidate_ends_a_run_as_a_finding(place, suite):
    code, folder, _ = run(place, suite(), models=("cut", "baseline"))
    assert code == 1 and read(folder)["circumstances"]["asked"] == 0
    assert any(f["check"] == "integrity.unreadable" for f in read(folder)["findings"])


def test_a_damaged_candidate_is_never_asked_even_where_no_rule_reads_its_weights(place, suite):
    only_sums = "\n".join(line for line in GATE.splitlines() if "weights/" not in line)
    named = ("--candidate", "cut", "--baseline", "baseline", *ALLOWED)
    for more in ((), ("--keep-going",)):
        code, _, err = command("run", suite(gate=only_sums), *named, *more, cwd=place)
        assert code == 2 and "is cut off" in err


def test_recorded_answers_have_no_weights_so_that_rules_on_them_never_pass(place, suite):
    answers = "".join(
        json.dumps({"sample_id": str(n), "text": "2"}) + "\n" for n in range(3)
    )  # fmt: skip
    (place / "answers.jsonl").write_text(answers)
    code, folder, out = run(place, suite(), models=("answers.jsonl", "baseline"))
    assert code == 4
    card = read(folder)
    assert "The candidate's weights were not read: recorded answers have no weights." in out
    assert [u["tensor"] for u in card["unread"] if u["model"] == "candidate"] == ["*"]
    statuses = {o["rule"]: o["status"] for o in read(folder, "verdict.json")["outcomes"]}
    assert statuses == {"whole": "missing", "small-steps": "missing", "sums": "pass"}


@pytest.fixture
def based(place, suite):
    """A suite that holds every model against one base."""
    return suite(task="    base: baseline\n")


def test_an_earlier_run_lends_its_weights_as_the_baselines(place, based):
    first = run(place, based, models=("candidate", "none"), out="based")[1]
    command("promote", first, "--as", "production", "--anyway", "--out", "based", cwd=place)
    code, folder, out = run(place, based, models=("candidate", "production"), out="based")
    assert code == 0, out
    card, before = read(folder), read(first)
    lent = [e for e in card["estimates"] if e["model"] == "baseline" and e["kind"] == "census"]
    assert [e | {"model": "candidate"} for e in lent] == [
        e for e in before["estimates"] if e["kind"] == "census"
    ]
    drift = next(c for c in card["comparisons"] if (c["metric"], c["slice"]) == ("drift", None))
    assert drift["status"] == "compared" and drift["difference"] == 0 < drift["candidate"]
    rows = [row for row in rows_of(folder) if row["model"] == "baseline"]
    assert [row | {"model": "candidate"} for row in rows] == rows_of(first)
    (first / "weights.jsonl").write_text("{}\n")
    named = ("--candidate", "candidate", "--baseline", "production", "--out", "based", *ALLOWED)
    code, _, err = command("run", based, *named, cwd=place)
    assert code == 2 and "the weights were changed after the run" in err


def test_weights_that_were_held_against_another_base_are_not_compared(place, suite):
    one = run(place, suite(task="    base: baseline\n"), models=("candidate", "none"))[1]
    other = suite(task="    base: candidate\n")
    folder = run(place, other, models=("candidate", one), out="reports")[1]
    held = {(c["metric"], c["slice"]): c["status"] for c in read(folder)["comparisons"]}
    assert (held["drift", None], held["norm", None]) == ("incomparable", "compared")


def test_runs_are_compared_by_their_weights_too(place, based):
    one = run(place, based, models=("candidate", "none"))[1]
    two = run(place, based, models=("baseline", "none"))[1]
    code, out, err = command("compare", one, two, "--json", "compared.json", cwd=place)
    assert code == 0, err
    told = json.loads((place / "compared.json").read_text())
    drift = next(c for c in told["comparisons"] if (c["metric"], c["slice"]) == ("drift", None))
    assert drift["difference"] == pytest.approx(-drift["baseline"])
    code, out, _ = command("compare", one, two, "--metric", "weights/drift", cwd=place)
    assert code == 0 and "drift" in out and "norm" not in out
    code, _, err = command("compare", one, two, "--metric", "weights/drft", cwd=place)
    assert code == 2 and "did you mean 'weights/drift'?" in err


def test_a_run_with_weights_is_compared_with_one_without(place, suite):
    one = run(place, suite(), models=("candidate", "none"))[1]
    (place / "sums.yaml").write_text(SUITE.split("  - name: weights", maxsplit=1)[0])
    two = run(place, "sums.yaml", models=("candidate", "none"), out="sums")[1]
    code, out, err = command("compare", two, one, cwd=place)
    assert code == 0, err
    assert "sums" in out and "Not compared" not in out


def test_every_number_of_weights_is_listed(place):
    from evalkit.spectral.catalogue import CHECKS, MEASURES

    code, out, _ = command("list", "weights", cwd=place)
    assert code == 0
    listed = {
        line.split()[0] for line in out.splitlines() if line.startswith("  ") and line.split()
    }
    assert {part.name for part in (*MEASURES, *CHECKS)} <= listed


def test_a_calibration_leaves_weights_out_and_says_so(place, suite):
    code, out, err = command(
        "calibrate", suite(), "--model", "baseline", "-k", "2", "--backend", "transformers", cwd=place
    )  # fmt: skip
    assert code == 0, err
    assert "left out: weights" in err and "weights/" not in out
    (place / "suite.yaml").write_text(
        "suite: w\nversion: 1\ntasks: [{name: weights, kind: spectral}]\n"
    )
    code, _, err = command("calibrate", "suite.yaml", "--model", "baseline", cwd=place)
    assert code == 2 and "nothing to calibrate" in err


def test_a_suite_of_weights_alone_runs_without_asking_anything(place):
    (place / "alone.yaml").write_text(
        "suite: alone\nversion: 1\ngates: [integrity.yaml]\n"
        "tasks: [{name: weights, kind: spectral, base: baseline}]\n"
    )
    (place / "integrity.yaml").write_text(
        "gate: i\nrules: [{id: i, estimate: 'weights/integrity.*', require: at_most, value: 0}]\n"
    )
    named = ("--candidate", "candidate", "--baseline", "none", "--backend", "transformers")
    code, out, err = command("run", "alone.yaml", *named, cwd=place)
    assert code == 0, err
    assert "weights read, nothing asked" in out
