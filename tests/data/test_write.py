from __future__ import annotations

import numpy as np
import pytest
from tests.support import assert_unchanged, snapshot

from ptg.data import StagedWrites


def test_nothing_is_written_when_the_block_fails(screen):
    before = snapshot(screen)
    with pytest.raises(KeyboardInterrupt), StagedWrites(screen) as staged:
        staged.put("obs", "score", np.zeros(screen.n_obs))
        raise KeyboardInterrupt
    assert_unchanged(screen, before)


def test_a_failing_write_takes_back_the_earlier_ones(screen):
    before = snapshot(screen)
    with pytest.raises(ValueError, match="shape|length"), StagedWrites(screen) as staged:
        staged.put("obs", "score", np.zeros(screen.n_obs))
        staged.put("obs", "replicate", np.zeros(screen.n_obs))
        staged.put("layers", "wrong", np.zeros((1, 1)))
    assert_unchanged(screen, before)


def test_all_is_written_at_the_end(screen):
    with StagedWrites(screen) as staged:
        staged.put("obs", "score", np.ones(screen.n_obs))
        staged.put("uns", "table", {"a": 1})
        assert "score" not in screen.obs
    assert screen.obs["score"].sum() == screen.n_obs
    assert screen.uns["table"] == {"a": 1}


def test_removals_happen_with_the_writes(screen):
    with StagedWrites(screen) as staged:
        staged.put("uns", "new", 1)
        staged.remove("layers", "counts")
        staged.remove("obsp", "was never there")
        assert "counts" in screen.layers
    assert "counts" not in screen.layers
    assert screen.uns["new"] == 1


def test_nothing_is_removed_when_a_write_fails(screen):
    before = snapshot(screen)
    with pytest.raises(ValueError, match="shape|length"), StagedWrites(screen) as staged:
        staged.remove("layers", "counts")
        staged.put("layers", "wrong", np.zeros((1, 1)))
    assert_unchanged(screen, before)
