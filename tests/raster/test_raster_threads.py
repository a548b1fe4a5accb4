"""Any number of threads, callers and processes gives the same answer."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from raster_meshes import blob

from flowhmr.raster import rasterise, visible_vertices

SIZE = 32


@pytest.fixture
def meshes():
    made = [blob(seed, 25, (16, 16, 0), rings=8) for seed in range(5)]
    return torch.stack([verts for verts, _ in made]), made[0][1]


@pytest.fixture
def set_threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def answer(verts, faces):
    fragments = rasterise(verts, faces, SIZE, SIZE)
    seen = visible_vertices(verts, faces, SIZE, SIZE)
    return seen, fragments.face_ids, fragments.barycentrics, fragments.depth


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other))


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_the_thread_count_changes_nothing(meshes, set_threads, threads):
    set_threads(1)
    alone = answer(*meshes)
    set_threads(threads)
    assert same(answer(*meshes), alone)


def test_callers_side_by_side_do_not_disturb_each_other(meshes, set_threads):
    verts, faces = meshes
    set_threads(2)
    batches = [verts.roll(shift, 0) for shift in range(5)] * 4
    with ThreadPoolExecutor(4) as callers:
        answers = list(callers.map(lambda batch: answer(batch, faces), batches))
    alone = answer(verts, faces)
    for i, found in enumerate(answers):
        assert same(found, [part.roll(i % 5, 0) for part in alone])


def _answer_in_child(connection, verts, faces):
    torch.set_num_threads(2)
    connection.send([part.numpy() for part in answer(verts, faces)])


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_its_parents_threads(meshes, set_threads):
    set_threads(2)
    expected = answer(*meshes)
    fork = multiprocessing.get_context("fork")
    receive, send = fork.Pipe(duplex=False)
    child = fork.Process(target=_answer_in_child, args=(send, *meshes))
    child.start()
    try:
        assert receive.poll(60), "the child hangs"
        assert same([torch.from_numpy(part) for part in receive.recv()], expected)
    finally:
        child.join(5)
        child.kill()
