"""A run logged to a real MLflow server, read back by MLflow's own client."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from exported_runs import command, make_run, scorecard
from hypothesis import given
from hypothesis import strategies as st

from evalkit.errors import RunError, UsageError
from evalkit.interchange.mlflow_entries import legal_name, mlflow_entries
from evalkit.interchange.mlflow_log import Destination, log_run, split_secrets
from evalkit.records.scorecard import Scorecard

pytest.importorskip("mlflow", reason="mlflow is not installed")
START_S = 120
"""It takes about 10 s here: MLflow makes its database first."""


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """MLflow's own server, in a process group of its own."""
    place, port = tmp_path_factory.mktemp("mlflow"), free_port()
    command_line = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--backend-store-uri", f"sqlite:///{place}/mlflow.db", "--workers", "1"),
        *("--artifacts-destination", str(place / "artifacts")),
    ]
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            command_line,
            stdout=log,
            stderr=log,
            cwd=place,
            start_new_session=True,
            env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1"},
        )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{address}/health", process, place / "log")
        yield address
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # it keeps nothing that is needed again
        process.wait()


def _wait_for(url, process, log):
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.2)
    raise AssertionError(f"the server did not start: {log.read_text()}")


@pytest.fixture(scope="module")
def client(server):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setenv("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        patch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        from mlflow import MlflowClient

        yield MlflowClient(tracking_uri=server, registry_uri=server)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("evals"))


def export(run, server, experiment, *arguments):
    to = ("--tracking-uri", server, "--experiment", experiment)
    return command("export", "mlflow", run, *to, *arguments, cwd=run.parent.parent)


def runs_of(client, experiment):
    found = client.get_experiment_by_name(experiment)
    return client.search_runs([found.experiment_id]) if found else []


@pytest.fixture(scope="module")
def logged(run, server, client):
    code, said, told = export(run, server, "shared")
    assert code == 0, told
    (found,) = runs_of(client, "shared")
    assert found.info.run_id in said
    return found


def artefact(client, run_id, name, place):
    return Path(client.download_artifacts(run_id, name, str(place)))


def test_every_estimate_and_difference_is_read_back_as_the_scorecard_has_it(
    run, logged, client, tmp_path
):
    names = json.loads(
        artefact(client, logged.info.run_id, "evalkit-names.json", tmp_path).read_text()
    )
    found = {names.get(key, key): value for key, value in logged.data.metrics.items()}
    expected = {}
    card = scorecard(run)
    for one in card["estimates"]:
        name = f"{one['task']}/{one['metric']}" + (f"@{one['slice']}" if one["slice"] else "")
        name = f"baseline/{name}" if one["model"] == "baseline" else name
        if one["value"] is None:
            continue
        expected[name] = one["value"]
        expected[f"{name}.n"] = one["counts"]["scored"] if one["n"] is None else one["n"]
        if one["interval"]:
            expected[f"{name}.low"] = one["interval"]["low"]
            expected[f"{name}.high"] = one["interval"]["high"]
    for one in card["comparisons"]:
        name = f"difference/{one['task']}/{one['metric']}" + (
            f"@{one['slice']}" if one["slice"] else ""
        )
        if one["difference"] is None:
            continue
        expected[name] = one["difference"]
        expected[f"{name}.n"] = one["pairs"]
        if one["interval"]:
            expected[f"{name}.low"] = one["interval"]["low"]
            expected[f"{name}.high"] = one["interval"]["high"]
        if one["p_value"] is not None:
            expected[f"{name}.p"] = one["p_value"]
    assert found == expected
    assert "extract/exact_match" in logged.data.metrics
    assert "extract/exact_match@region=north" in found


def test_verdict_digests_and_seed_are_tags_and_parameters(run, logged):
    card, verdict = scorecard(run), json.loads((run / "verdict.json").read_text())
    tags, params = logged.data.tags, logged.data.params
    assert tags["evalkit.verdict"] == verdict["status"] == "fail"
    assert tags["evalkit.exit_code"] == "1"
    assert tags["evalkit.reason"] == verdict["reason"]
    assert tags["evalkit.scorecard"] == card["digest"]
    assert tags["evalkit.state"] == "complete"
    assert tags["evalkit.version"] == card["provenance"]["versions"]["evalkit"]
    assert params["suite"] == "orders"
    assert params["suite.version"] == "3"
    assert params["seed"] == "7"
    assert params["model.candidate"] == card["provenance"]["models"]["candidate"]["digest"]
    assert params["data.read"] == card["provenance"]["datasets"]["read"]
    assert logged.info.status == "FINISHED"


def test_the_runs_files_are_there_byte_for_byte_without_its_samples(run, logged, client, tmp_path):
    names = {item.path for item in client.list_artifacts(logged.info.run_id)}
    told = (
        "scorecard.json",
        "verdict.json",
        "suite.json",
        "report.html",
        "junit.xml",
        "summary.md",
    )
    assert names == {"evalkit-names.json", *(name for name in told if (run / name).exists())}
    assert {"scorecard.json", "verdict.json", "suite.json"} < names
    for name in names - {"evalkit-names.json"}:
        assert (
            artefact(client, logged.info.run_id, name, tmp_path).read_bytes()
            == (run / name).read_bytes()
        )


def test_logging_twice_makes_one_run_and_says_so(run, server, client, logged):
    code, said, told = export(run, server, "shared")
    assert code == 0, told
    assert "was there already" in said
    (found,) = runs_of(client, "shared")
    assert found.info.run_id == logged.info.run_id
    assert found.data.metrics == logged.data.metrics
    assert len(client.get_metric_history(found.info.run_id, "decide/exact_match")) == 1


def test_a_new_verdict_on_the_same_scorecard_changes_the_tag_of_the_same_run(
    run, server, client, tmp_path
):
    copy = shutil.copytree(run, tmp_path / "run")
    assert export(copy, server, "decided again")[0] == 0
    gate = tmp_path / "gate.yaml"
    gate.write_text(
        "gate: mild\nrules:\n  - {id: a, estimate: extract/exact_match, require: at_least, value: 0.1}\n"
    )
    assert command("gate", copy, gate, "--write", cwd=tmp_path)[0] == 0
    assert export(copy, server, "decided again")[0] == 0
    (found,) = runs_of(client, "decided again")
    assert found.data.tags["evalkit.verdict"] == "pass"
    assert found.data.tags["evalkit.gates"].startswith("mild ")


def test_the_named_model_version_is_tagged_with_verdict_scorecard_and_run(run, server, client):
    client.create_registered_model("orders-model")
    client.create_model_version("orders-model", "s3://nowhere/model")
    code, said, told = export(
        *(run, server, "versions"), "--model-name", "orders-model", "--model-version", "1"
    )
    assert code == 0, told
    assert "version 1 is tagged" in said
    (found,) = runs_of(client, "versions")
    tags = client.get_model_version("orders-model", "1").tags
    assert tags == {
        "evalkit.verdict": "fail",
        "evalkit.scorecard": scorecard(run)["digest"],
        "evalkit.run": found.info.run_id,
    }


def test_a_model_version_that_is_not_there_is_told_before_anything_is_logged(run, server, client):
    code, _, told = export(
        *(run, server, "no version"), "--model-name", "absent", "--model-version", "4"
    )
    assert code == 3
    assert "no version '4' of a registered model 'absent'" in told
    assert "nothing was logged" in told
    assert client.get_experiment_by_name("no version") is None


def test_a_model_without_its_version_is_a_usage_error(run, server):
    code, _, told = export(run, server, "x", "--model-name", "m")
    assert code == 2
    assert "belong together" in told


def test_a_deleted_experiment_is_told_with_the_way_to_restore_it(run, server, client):
    number = client.create_experiment("gone")
    client.delete_experiment(number)
    code, _, told = export(run, server, "gone")
    assert code == 3
    assert "was deleted" in told
    assert f"restore --experiment-id {number}" in told


def test_a_server_that_is_away_is_told_with_what_to_do_and_without_the_password(run, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    code, said, told = export(run, f"http://me:s3cret%21@127.0.0.1:{free_port()}", "x")
    assert code == 3
    assert "does not answer" in told
    assert "check the address" in told
    assert "nothing was logged" in told
    assert "s3cret" not in said + told
    assert "MLFLOW_TRACKING_PASSWORD" not in os.environ


class Refusing(BaseHTTPRequestHandler):
    """Answers 401 to everything, with the request's own authorisation in the text, as a careless proxy might."""

    seen: list[str]

    def do_GET(self):
        self.seen.append(self.headers.get("Authorization", ""))
        body = f"no: s3cret! {self.headers.get('Authorization')}".encode()
        self.send_response(401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *args):
        pass


def test_a_server_that_refuses_the_user_is_told_with_what_to_set_and_without_secrets(run):
    import base64

    Refusing.seen = []
    with HTTPServer(("127.0.0.1", 0), Refusing) as refusing:
        thread = threading.Thread(target=refusing.serve_forever, daemon=True)
        thread.start()
        code, said, told = export(run, f"http://me:s3cret%21@127.0.0.1:{refusing.server_port}", "x")
        refusing.shutdown()
        thread.join()
    basic = base64.b64encode(b"me:s3cret!").decode()
    assert code == 3
    assert "refuses this user" in told
    assert "MLFLOW_TRACKING_USERNAME" in told
    assert f"Basic {basic}" in Refusing.seen  # the password did reach the server
    assert "s3cret" not in said + told
    assert basic not in said + told


def test_samples_go_along_where_asked_for_and_the_password_in_the_address_goes_nowhere(
    run, server, client, tmp_path
):
    host = server.removeprefix("http://")
    code, said, told = export(run, f"http://me:s3cret%21@{host}", "secret", "--samples")
    assert code == 0, told
    (found,) = runs_of(client, "secret")
    names = {item.path for item in client.list_artifacts(found.info.run_id)}
    assert "samples.jsonl" in names
    kept = json.dumps(found.to_dictionary()) + said + told
    for name in names:
        kept += artefact(client, found.info.run_id, name, tmp_path).read_text()
    assert "s3cret" not in kept


@pytest.mark.parametrize(
    "address", ["sqlite:///x.db", "localhost:5000", "file:./mlruns", "http://"]
)
def test_an_address_that_is_no_servers_is_a_usage_error(run, address):
    code, _, told = export(run, address, "x")
    assert code == 2
    assert "no address of a server" in told


def test_a_connection_lost_on_the_way_leaves_a_run_marked_incomplete_that_the_same_command_completes(
    run, server, client
):
    entries = mlflow_entries(Scorecard.model_validate(scorecard(run)), None)
    to = Destination(server, "broken off", None)
    missing = run / "no-such-file"  # MLflow's client fails on it after all metrics are there
    with pytest.raises(RunError) as failed:
        log_run(entries, [run / "scorecard.json", missing], to)
    assert "metrics, 1 of 3 files" in failed.value.advice
    (found,) = runs_of(client, "broken off")
    assert found.info.run_id in failed.value.advice
    assert found.info.status == "FAILED"
    assert found.data.tags["evalkit.state"] == "incomplete"
    done = log_run(entries, [run / "scorecard.json"], to)
    assert done.earlier
    (found,) = runs_of(client, "broken off")
    assert (found.info.status, found.data.tags["evalkit.state"]) == ("FINISHED", "complete")


def test_a_large_scorecard_is_logged_whole_in_batches(run, server, client):
    card = scorecard(run)
    one = next(e for e in card["estimates"] if e["metric"] == "bleu" and e["model"] == "candidate")
    card["estimates"] = [one | {"slice": f"part={n}"} for n in range(700)]
    card["provenance"]["datasets"] = {f"t{n}": "a" * 64 for n in range(230)}
    entries = mlflow_entries(Scorecard.model_validate(card), None)
    assert len(entries.metrics) > 2800
    logged = log_run(entries, [], Destination(server, "large", None))
    found = client.get_run(logged.run_id)
    assert found.data.metrics == dict(entries.metrics)
    assert found.data.params == dict(entries.params)
    assert len(found.data.params) > 230


def test_names_that_fall_together_stay_apart_and_are_told():
    from evalkit.interchange.mlflow_entries import _log

    metrics: dict[str, float] = {}
    names: dict[str, str] = {}
    taken: set[str] = set()
    for number, name in enumerate(["a@b=c", "a_b_c", "A@b_c", "a@b=d", "a@b=d.low"]):
        _log(metrics, names, taken, name, {"": number, ".low": number})
    assert len({key.lower() for key in metrics}) == len(metrics) == 10
    assert sorted(metrics.values()) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert {names.get(key, key): value for key, value in metrics.items() if not value % 5} == {
        "a@b=c": 0,
        "a@b=c.low": 0,
    }


@given(st.text(max_size=300))
def test_every_name_is_made_one_that_mlflow_takes(name):
    from mlflow.utils.validation import _validate_metric_name

    from evalkit.interchange.mlflow_entries import _log

    _validate_metric_name(legal_name(name))
    metrics: dict[str, float] = {}
    _log(metrics, {}, set(), name, {"": 1.0, ".high": 1.0})
    for key in metrics:
        _validate_metric_name(key)
        assert len(key) <= 250


def test_secrets_are_split_off_an_address():
    assert split_secrets("http://a:b@h:1/p?q") == ("http://h:1/p?q", "a", "b")
    assert split_secrets("http://h:1") == ("http://h:1", None, None)
    with pytest.raises(UsageError) as refused:
        log_run(None, [], Destination("ftp://a:b@h", "x", None))
    assert "a:b" not in str(refused.value)
