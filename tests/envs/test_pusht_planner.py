"""The closed form against gym-pusht's physics, and the ways around the block against sampled points."""

import importlib.util

import numpy as np
import pytest

from anyorder.envs.pusht.env import BLOCK_KEYPOINTS, GOAL_POSE, PushtConfig
from anyorder.envs.pusht.planner import (
    AGENT_RADIUS,
    BOXES,
    CENTER_OF_MASS,
    INERTIA,
    OUTLINE,
    Contacts,
    Pose,
    PushPlanner,
    goal_pose,
)
from anyorder.envs.pusht.ways import Ways, ahead, blocked, near_block, nearest_free

needs_pusht = pytest.mark.skipif(importlib.util.find_spec("gym_pusht") is None, reason="needs the extra pusht")

CONTACTS = Contacts()


@pytest.fixture(scope="module")
def ways():
    return Ways(CONTACTS.before)


@pytest.fixture(scope="module")
def planner(ways):
    return PushPlanner(CONTACTS, ways.between)


def distance(points):
    """Distance to the block, 0 inside."""
    gaps = []
    for left, right, top, bottom in BOXES:
        x = np.maximum(np.maximum(left - points.real, points.real - right), 0)
        y = np.maximum(np.maximum(top - points.imag, points.imag - bottom), 0)
        gaps.append(np.hypot(x, y))
    return np.minimum(*gaps)


@needs_pusht
def test_the_block_is_gym_pushts():
    sim = PushtConfig().build()._sim
    sim.reset(seed=0)
    corners = [tuple(corner) for shape in sim._block_shapes for corner in shape.get_vertices()]
    assert tuple(corners) == BLOCK_KEYPOINTS
    assert sim.block.moment / sim.block.mass == INERTIA
    assert complex(*sim.block.center_of_gravity) == CENTER_OF_MASS
    np.testing.assert_array_equal(sim.goal_pose, GOAL_POSE)
    assert {shape.radius for shape in sim.agent.shapes} == {AGENT_RADIUS}


def test_contacts_lie_on_the_surface_and_push_inwards():
    np.testing.assert_allclose(distance(CONTACTS.touch), AGENT_RADIUS)
    assert (distance(CONTACTS.touch + 16 * CONTACTS.normals) == 0).all()
    assert (np.abs(CONTACTS.levers) > 1).all()


def test_a_pose_is_found_from_keypoints():
    pose = Pose(complex(200, 300), np.exp(2.5j))
    found = Pose.of_keypoints(pose.to_world(OUTLINE))
    assert found.place == pytest.approx(pose.place)
    assert found.turn == pytest.approx(pose.turn)
    assert pose.to_block(pose.to_world(3 + 4j)) == pytest.approx(3 + 4j)


@needs_pusht
@pytest.mark.parametrize("contact", range(0, len(CONTACTS.levers), 3))
def test_a_push_moves_the_block_as_the_closed_form_says(contact):
    env = PushtConfig().build()
    env.reset(seed=0)
    sim = env._sim
    sim.block.angle, sim.block.position = 0.3, (250.0, 230.0)
    keypoints = np.array(sim.get_keypoints(sim._block_shapes)) @ (1, 1j)
    start = Pose.of_keypoints(keypoints)
    agent = start.to_world(CONTACTS.touch[contact])
    sim.agent.position, sim.agent.velocity = (agent.real, agent.imag), (0.0, 0.0)
    length = 30.0
    for travelled in np.minimum(np.arange(2.0, length + 20.0, 2.0), length):
        place, turn = CONTACTS.moved(start.place, start.turn, contact, travelled)
        target = place + turn * CONTACTS.touch[contact]
        observation, *_ = env.step(np.array([target.real, target.imag], np.float32))
    end = Pose.of_keypoints(observation["environment_state"].astype(float).reshape(-1, 2) @ (1, 1j))
    moved = abs(end.place - start.place) + 50 * abs(np.angle(end.turn / start.turn))
    assert moved > 10
    assert abs(end.place - place) < 0.1 * moved
    assert 50 * abs(np.angle(end.turn / turn)) < 0.1 * moved


def test_solutions_reach_the_goal_exactly(planner):
    pose = Pose(complex(180, 330), np.exp(-1.9j))
    triples, lengths = planner._solve(pose)
    assert triples.shape[1] > 100
    place, turn = pose.place, pose.turn
    for contact, length in zip(triples, lengths, strict=True):
        place, turn = CONTACTS.moved(place, turn, contact, length)
    np.testing.assert_allclose(place, goal_pose().place, atol=1e-6)
    np.testing.assert_allclose(turn, goal_pose().turn, atol=1e-8)


def test_one_push_away_one_push_is_planned(planner):
    contact = 2
    place, turn = CONTACTS.moved(goal_pose().place, goal_pose().turn, contact, -40.0)
    push = planner.plan(Pose(place, turn), np.full(len(CONTACTS.levers), 10.0))
    assert (push.contact, push.last) == (contact, True)
    assert push.length == pytest.approx(40.0, abs=1.0)


def test_contacts_out_of_reach_are_not_planned_first(planner):
    pose = Pose(complex(180, 330), np.exp(-1.9j))
    walk = np.full(len(CONTACTS.levers), 10.0)
    for _ in range(4):
        push = planner.plan(pose, walk)
        assert np.isfinite(walk[push.contact])
        walk[push.contact] = np.inf
    assert planner.plan(pose, np.full(len(walk), np.inf)) is None


def test_a_block_at_the_wall_is_not_pushed_into_it(planner):
    # Bar's outer edge 12 px off the left wall: an agent has no room behind it.
    pose = Pose(complex(19 + 45, 256), np.exp(-0.5j * np.pi))
    assert np.abs(pose.to_world(OUTLINE).real.min() - 19) < 1e-9
    push = planner.plan(pose, np.zeros(len(CONTACTS.levers)))
    assert pose.to_world(CONTACTS.before[push.contact]).real > 0


def test_paths_keep_off_the_block_and_are_as_long_as_they_say(ways):
    rng = np.random.default_rng(0)
    centre = Pose(complex(256, 256), complex(1.0))
    checked = 0
    for start in rng.uniform(-150, 150, 60) + 1j * rng.uniform(-150, 150, 60):
        if blocked(start, start):
            continue
        routes = ways.routes(start, centre)
        for end in range(0, len(CONTACTS.levers), 5):
            path = np.array(routes.path(end))
            assert np.abs(np.diff(path)).sum() == pytest.approx(routes.lengths[end])
            dense = (path[:-1, None] + np.diff(path)[:, None] * np.linspace(0, 1, 40)).ravel()
            assert distance(dense).min() > AGENT_RADIUS + 3
            checked += 1
    assert checked > 100
    np.testing.assert_allclose(ways.between, ways.between.T)


def test_paths_do_not_leave_the_table(ways):
    # The block lies at the left wall: the way past its left end is closed.
    at_the_wall = Pose(complex(75, 256), complex(1.0))
    start = complex(0, -80)
    free = ways.routes(start, Pose(complex(256, 256), complex(1.0)))
    shut = ways.routes(start, at_the_wall)
    assert (shut.lengths >= free.lengths - 1e-9).all()
    assert shut.lengths.max() > free.lengths.max()
    for end in range(len(CONTACTS.levers)):
        corners = at_the_wall.to_world(np.array(shut.path(end)[1:-1]))
        assert all(corner.real > 0 for corner in np.atleast_1d(corners))


def test_an_agent_at_the_block_leaves_it_first():
    rng = np.random.default_rng(1)
    for point in rng.uniform(-90, 90, 300) + 1j * rng.uniform(-70, 100, 300):
        free = nearest_free(point)
        assert not blocked(free, free)
        assert not near_block(free)
        assert (free == point) == (not blocked(point, point))
    assert nearest_free(complex(0, -61)) == pytest.approx(complex(0, -66))


def test_the_place_ahead_lies_on_the_path():
    assert ahead([200 + 0j, 200 + 30j, 230 + 30j], 40.0) == pytest.approx(210 + 30j)
    assert ahead([200 + 0j, 200 + 30j], 40.0) == pytest.approx(200 + 30j)
    # Around the bar's corner: no farther than can be seen.
    around = [complex(-81, 0), complex(-81, -66), complex(0, -66)]
    place = ahead(around, 100.0)
    assert not blocked(around[0], place)
