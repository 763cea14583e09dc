"""A chunk over LeRobot's asynchronous inference is the chunk the policy gives."""

import pickle
import socket
import subprocess
import sys
import threading
import time

import pytest
import torch

pytest.importorskip("grpc")
import grpc

from anyorder.errors import ConfigError
from anyorder.plugin import policy_server
from anyorder.policies import AnyOrderPolicy
from tests.plugin.saved import ACTIONS, HORIZON, policy, save

JOINTS = ["a.pos", "b.pos", "c.pos"]
RAW = {"a.pos": 1.5, "b.pos": -20.0, "c.pos": 7.25, "task": "reach"}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(port, folder, raw=RAW):
    """Do what LeRobot's robot client does: greet, name the policy, send an observation, fetch the actions."""
    from lerobot.async_inference.helpers import RemotePolicyConfig, TimedObservation
    from lerobot.transport import services_pb2, services_pb2_grpc
    from lerobot.transport.utils import grpc_channel_options, send_bytes_in_chunks
    from lerobot.utils.feature_utils import hw_to_dataset_features

    features = hw_to_dataset_features(dict.fromkeys(JOINTS, float), "observation", use_video=False)
    setup = RemotePolicyConfig("anyorder", str(folder), features, actions_per_chunk=HORIZON)
    observation = TimedObservation(timestamp=time.time(), timestep=0, observation=raw, must_go=True)
    with grpc.insecure_channel(f"127.0.0.1:{port}", grpc_channel_options()) as channel:
        stub = services_pb2_grpc.AsyncInferenceStub(channel)
        stub.Ready(services_pb2.Empty(), wait_for_ready=True, timeout=120)
        stub.SendPolicyInstructions(services_pb2.PolicySetup(data=pickle.dumps(setup)))
        stub.SendObservations(send_bytes_in_chunks(pickle.dumps(observation), services_pb2.Observation, silent=True))
        data = stub.GetActions(services_pb2.Empty()).data
        return pickle.loads(data) if data else []


def assert_chunk(actions, folder):
    state = torch.tensor([[RAW[name] for name in JOINTS]])
    wanted = AnyOrderPolicy.from_pretrained(folder).predict_action_chunk({"observation.state": state})
    assert wanted.shape == (1, HORIZON, ACTIONS)
    assert [action.get_timestep() for action in actions] == list(range(HORIZON))
    got = torch.stack([action.get_action() for action in actions])
    assert torch.equal(got, wanted[0])


def test_a_chunk_over_the_wire_is_the_policys_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # LeRobot's server logs into the current folder
    folder = save(policy(), tmp_path / "policy")
    servers = []
    make = grpc.server
    monkeypatch.setattr(grpc, "server", lambda *a, **k: servers.append(make(*a, **k)) or servers[0])
    port = free_port()
    words = ["--host=127.0.0.1", f"--port={port}", "--fps=30", "--inference_latency=0"]
    thread = threading.Thread(target=policy_server.main, args=(words,), daemon=True)
    thread.start()
    actions = ask(port, folder)
    assert ask(port, folder, {**RAW, "b.pos": float("nan")}) == []
    assert "observation.state: nan in row 0, dimension 1" in "".join(p.read_text() for p in tmp_path.rglob("*.log"))
    servers[0].stop(None)
    thread.join(timeout=30)
    assert not thread.is_alive()
    assert_chunk(actions, folder)


@pytest.mark.slow
def test_the_command_serves(tmp_path):
    folder = save(policy(), tmp_path / "policy")
    port = free_port()
    command = [sys.executable, "-m", "lerobot_policy_anyorder.policy_server", f"--port={port}", "--fps=30"]
    server = subprocess.Popen(command, cwd=tmp_path)
    try:
        assert_chunk(ask(port, folder), folder)
    finally:
        server.terminate()
        server.wait()


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "robot.local", "127.0.0.1.evil.com"])
def test_addresses_that_others_can_reach_are_refused(host, capsys):
    assert policy_server.main([f"--host={host}", "--port=8080"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"policy_server: host: {host!r} given, allowed: 127.0.0.1")


def test_bad_numbers_are_one_line(capsys):
    assert policy_server.main(["--port=99999"]) == 2
    assert "Port must be between 1 and 65535" in capsys.readouterr().err


def test_a_missing_library_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="async"):
        policy_server.require_grpc()
