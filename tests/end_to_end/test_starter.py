"""What a newcomer does first: init, validate, run, gate, list, doctor, schema."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from importlib import import_module

import pytest
from commands import environment, evalkit, only_run, scorecard

from evalkit.cli import main
from evalkit.cli.main import COMMANDS
from evalkit.cli.options import Option


@pytest.fixture(scope="module")
def starter(tmp_path_factory):
    folder = tmp_path_factory.mktemp("first") / "evals"
    done = evalkit("init", folder, cwd=folder.parent)
    assert done.code == 0, done.err
    return folder


@pytest.fixture(scope="module")
def ran(starter):
    done = evalkit("run", "suite.yaml", cwd=starter)
    assert done.code == 0, done.err + done.out
    return done


def test_init_writes_files_that_run_as_they_are(starter, ran):
    assert "PASS" in ran.out
    assert "sums/numeric" in ran.out
    written = {path.name for path in only_run(starter / "reports").iterdir()}
    assert {"scorecard.json", "verdict.json", "samples.jsonl"} <= written
    assert (starter / ".github/workflows/evalkit.yml").exists()


def test_the_examples_in_python_run_as_they_stand(starter, root, tmp_path):
    folder = shutil.copytree(starter, tmp_path / "evals")
    blocks = re.findall(r"```python\n(.*?)```", (root / "reports/PYTHON.md").read_text(), re.DOTALL)
    assert len(blocks) >= 5
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)],
        cwd=folder, env=environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("pass – every blocking outcome passed (2)")
    assert "evalkit.run has no option 'limits'; did you mean 'limit'?" in done.stdout
    assert "12 samples got worse" in done.stdout


def test_init_replaces_nothing_unasked(starter):
    done = evalkit("init", ".", cwd=starter)
    assert done.code == 2
    assert "--force" in done.err


def test_the_scorecard_holds_every_estimate_with_interval_and_counts(starter, ran):
    card = scorecard(starter / "reports")
    assert {e["slice"] for e in card["estimates"]} == {None, "kind=plus", "kind=times"}
    for estimate in card["estimates"]:
        assert estimate["interval"]["low"] <= estimate["value"] <= estimate["interval"]["high"]
        counts = estimate["counts"]
        assert counts["planned"] == counts["completed"] + counts["failed"]
        assert counts["completed"] == counts["scored"] + counts["unscored"]
    assert {c["status"] for c in card["comparisons"]} == {"compared"}


def test_the_samples_file_holds_every_sample_with_prompt_answer_and_scores(starter, ran):
    lines = (only_run(starter / "reports") / "samples.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [(r["model"], r["id"]) for r in rows] == [
        (model, f"sum-{n:04}") for model in ("candidate", "baseline") for n in range(400)
    ]
    assert all(row["messages"] and row["answers"] and row["scores"]["numeric"] for row in rows)


def test_written_files_satisfy_their_published_schemas(starter, ran):
    import jsonschema

    for name in ("scorecard", "verdict"):
        schema = json.loads(evalkit("schema", name, cwd=starter).out)
        jsonschema.Draft202012Validator.check_schema(schema)
        document = json.loads((only_run(starter / "reports") / f"{name}.json").read_text())
        jsonschema.Draft202012Validator(schema).validate(document)


def test_gate_decides_again_without_a_model(starter, ran):
    strict = starter / "strict.yaml"
    strict.write_text(
        "gate: strict\nrules:\n  - {id: r, estimate: sums/numeric, require: at_least, value: 0.99}\n"
    )
    unsure = starter / "unsure.yaml"
    unsure.write_text(
        "gate: unsure\nrules:\n  - {id: r, estimate: sums/numeric, require: at_least, value: 0.96}\n"
    )
    nothing = starter / "nothing.yaml"
    nothing.write_text(
        "gate: nothing\nrules:\n  - {id: r, estimate: sums/numerik, require: at_least, value: 0.5}\n"
    )
    run = only_run(starter / "reports")
    before = (run / "verdict.json").read_bytes()
    for gate, code, word in (
        (strict, 1, "FAIL"),
        (unsure, 4, "INCONCLUSIVE"),
        (nothing, 4, "missing"),
    ):
        done = evalkit("gate", run, gate, cwd=starter)
        assert done.code == code, done.out + done.err
        assert word in done.out
    assert (run / "verdict.json").read_bytes() == before
    assert "sums/numeric" in done.out, "the nearest name is told"


def test_a_changed_scorecard_is_not_believed(starter, ran, tmp_path):
    text = (only_run(starter / "reports") / "scorecard.json").read_text()
    changed = tmp_path / "scorecard.json"
    changed.write_text(re.sub(r'"value": 0\.\d+', '"value": 0.999', text, count=1))
    done = evalkit("gate", changed, starter / "gate.yaml", cwd=tmp_path)
    assert done.code in (2, 3)
    assert "digest" in done.err


def test_a_flag_may_come_from_the_environment(starter):
    done = evalkit("run", "suite.yaml", cwd=starter, EVALKIT_LIMIT="20", EVALKIT_OUT="limited")
    assert done.code == 4, done.err
    assert scorecard(starter / "limited")["estimates"][0]["counts"]["planned"] == 20


def test_a_flags_variable_has_the_flags_name():
    """As the help promises: whatever the code calls it."""
    for module, _ in COMMANDS.values():
        for parameter in import_module(module).command.params:
            if isinstance(parameter, Option):
                flags = [flag for flag in parameter.opts if flag.startswith("--")]
                names = {f"EVALKIT_{flag[2:].replace('-', '_').upper()}" for flag in flags}
                assert parameter.envvar in names, (module, flags)


def test_a_place_that_cannot_be_made_is_no_verdict(starter):
    """Whatever cannot be done ends with 3: with 1 it would read as a model that failed."""
    (starter / "file").write_text("")
    for name in ("run", "calibrate"):
        done = evalkit(name, "suite.yaml", "--out", "file/reports", cwd=starter)
        assert done.code == 3, done.err
        assert "cannot be written" in done.err and "Traceback" not in done.err


def test_a_defect_is_no_verdict_either(monkeypatch, capsys):
    monkeypatch.setattr(main, "run", lambda argv: 1 // 0)
    with pytest.raises(SystemExit) as ended:
        main.main([])
    assert ended.value.code == 3
    assert "nothing was decided" in capsys.readouterr().err


def test_an_empty_data_set_does_not_validate(starter, tmp_path):
    shutil.copytree(starter, tmp_path / "copy")
    (tmp_path / "copy" / "data" / "sums.jsonl").write_text("")
    done = evalkit("validate", "suite.yaml", cwd=tmp_path / "copy")
    assert done.code == 2
    assert "holds no sample" in done.err


def test_without_a_gate_nothing_is_decided(starter, tmp_path):
    text = (starter / "suite.yaml").read_text().replace("gates: [gate.yaml]\n", "")
    (starter / "ungated.yaml").write_text(text)
    done = evalkit("run", "ungated.yaml", "--out", tmp_path, cwd=starter)
    assert done.code == 4
    assert "no gate" in done.out


def test_recorded_answers_that_lack_samples_are_an_incomplete_run(starter, tmp_path):
    answers = (starter / "answers/candidate.jsonl").read_text().splitlines()[:300]
    (tmp_path / "some.jsonl").write_text("\n".join(answers))
    done = evalkit(
        "run", "suite.yaml", "--candidate", tmp_path / "some.jsonl", "--out", tmp_path, cwd=starter
    )
    assert done.code == 3, done.out
    assert "no_answer" in (only_run(tmp_path) / "scorecard.json").read_text()
    verdict = json.loads((only_run(tmp_path) / "verdict.json").read_text())
    assert (verdict["status"], verdict["exit_code"]) == ("incomplete", 3)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("rnu",), "Did you mean 'run'"),
        (("run", "nowhere.yaml"), "nowhere.yaml"),
        (("run", "suite.yaml", "--candidate", "nowhere"), "nowhere"),
        (("run", "suite.yaml", "--model-arg", "x"), "key=value"),
        (("run", "suite.yaml", "--backend", "vlm"), "vllm"),
        (("run", "gate.yaml"), "suite"),
    ],
)
def test_a_wrong_command_ends_with_code_2_and_says_what_is_right(starter, arguments, told):
    done = evalkit(*arguments, cwd=starter)
    assert done.code == 2, done.err
    assert told in done.err
    assert "Traceback" not in done.err


HEAVY = {"torch", "transformers", "vllm", "datasets", "pandas", "aiohttp", "lm_eval"}


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [(["--help"], HEAVY | {"asyncio"}), (["validate", "suite.yaml"], HEAVY)],
)
def test_help_and_validate_import_nothing_heavy(starter, arguments, heavy):
    program = (
        f"import sys; from evalkit.cli.main import run; code = run({arguments}); "
        f"heavy = {heavy} & set(sys.modules); sys.exit(str(heavy) if heavy or code else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        cwd=starter,
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_has_a_help_that_teaches(starter, command):
    done = evalkit(command, "--help", cwd=starter)
    assert done.code == 0
    assert len(done.out.splitlines()) > 5


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(starter, shell):
    assert "_EVALKIT_COMPLETE" in evalkit("completion", shell, cwd=starter).out


def test_list_names_every_part_with_an_example(starter):
    out = evalkit("list", "--options", cwd=starter).out
    for name in ("exact_match", "no_worse_than", "transformers", "schema (required)"):
        assert name in out


def test_doctor_finds_what_the_tests_run_on(starter):
    done = evalkit("doctor", cwd=starter)
    assert "Python" in done.out and "disk" in done.out


def test_no_gate_that_was_named_is_left_out_of_a_decision(starter, ran):
    broken = starter / "broken.yaml"
    broken.write_text(
        "gate: broken\nplugins: [no_such_plugin]\nrules:\n  - {id: r, estimate: a/b, require: at_least, value: 1}\n"
    )
    again = starter / "again.yaml"
    again.write_text((starter / "gate.yaml").read_text())
    run = only_run(starter / "reports")
    for other, told in ((broken, "no_such_plugin"), (again, "same name")):
        done = evalkit("gate", run, starter / "gate.yaml", other, cwd=starter)
        assert done.code == 2, done.out
        assert told in done.err
        assert "PASS" not in done.out
